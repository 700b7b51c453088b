// Package value has the values of configuration fields: what they may be, their canonical text, their order.
//
// A value is a plain any that is one of
//
//	nil  bool  int64  float64 (finite)  string (UTF-8)  []any  map[string]any
//
// and so deep and large as the limits below allow. nil is "unset". Decode and Normalize make nothing else, so that what has gone
// through one of them needs no checks again. Integers and floats are different values, and stay so through Encode and Decode:
// the text of a float has a point or an exponent.
package value

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/errkind"
)

// Limits of a value: what people write by hand is far below, and what passes them would be stored with every copy of the log.
const (
	MaxDepth = 32        // lists and maps within each other
	MaxBytes = 256 << 10 // of the canonical text
)

// Limits are what DecodeWithin and NormalizeWithin allow: whole documents have other ones than a field's value.
type Limits struct {
	Depth int // lists and maps within each other
	Bytes int // of the text; NormalizeWithin has none to measure
}

// Decode reads one value from JSON. Numbers without a point and an exponent are int64, and those that do not fit are refused:
// to make a float of them would change them.
func Decode(data []byte) (any, error) {
	return DecodeWithin(data, Limits{Depth: MaxDepth, Bytes: MaxBytes})
}

// DecodeWithin is Decode with other limits.
func DecodeWithin(data []byte, limits Limits) (any, error) {
	if len(data) > limits.Bytes {
		return nil, fmt.Errorf("read value: it has %d bytes, and %d are allowed: %w", len(data), limits.Bytes, errkind.Invalid)
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("read value: it is not UTF-8: %w", errkind.Invalid)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := decode(d, limits, 0)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more follows after the value")
		}
	}
	if err != nil {
		line, column := place(data[:d.InputOffset()])
		return nil, fmt.Errorf("read value: line %d column %d: %w: %w", line, column, err, errkind.Invalid)
	}
	return v, nil
}

// place gives the line and the column, both from 1, of what follows after a text.
func place(text []byte) (line, column int) {
	start := bytes.LastIndexByte(text, '\n') + 1
	return bytes.Count(text, []byte("\n")) + 1, utf8.RuneCount(text[start:]) + 1
}

func decode(d *json.Decoder, limits Limits, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		return number(t.String())
	case json.Delim:
		if depth >= limits.Depth {
			return nil, fmt.Errorf("it is deeper than %d levels", limits.Depth)
		}
		if t == '[' {
			return decodeList(d, limits, depth+1)
		}
		return decodeMap(d, limits, depth+1)
	default:
		return t, nil
	}
}

func decodeList(d *json.Decoder, limits Limits, depth int) (any, error) {
	list := []any{}
	for d.More() {
		v, err := decode(d, limits, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.Token()
	return list, err
}

func decodeMap(d *json.Decoder, limits Limits, depth int) (any, error) {
	m := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		if _, twice := m[key]; twice {
			return nil, fmt.Errorf("the key %q is there twice", key)
		}
		if m[key], err = decode(d, limits, depth); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return m, err
}

func number(s string) (any, error) {
	if !strings.ContainsAny(s, ".eE") {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s does not fit into 64 bits: write it as a string", s)
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, fmt.Errorf("%s is too large for a float: write it as a string", s)
	}
	return positiveZero(f), nil
}

// positiveZero takes the sign from a zero: two values that compare as equal must not have two texts.
func positiveZero(f float64) float64 {
	if f == 0 {
		return 0
	}
	return f
}

// Encode returns a value's canonical text: JSON without blanks, keys sorted by bytes, floats with a point or an exponent. Equal values
// have equal texts. It panics on what is no value.
func Encode(v any) []byte { return Append(nil, v) }

// Append appends what Encode returns.
func Append(to []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(to, "null"...)
	case bool:
		return strconv.AppendBool(to, v)
	case int64:
		return strconv.AppendInt(to, v, 10)
	case float64:
		return appendFloat(to, v)
	case string:
		return appendString(to, v)
	case []any:
		to = append(to, '[')
		for i, e := range v {
			if i > 0 {
				to = append(to, ',')
			}
			to = Append(to, e)
		}
		return append(to, ']')
	case map[string]any:
		to = append(to, '{')
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				to = append(to, ',')
			}
			to = append(appendString(to, key), ':')
			to = Append(to, v[key])
		}
		return append(to, '}')
	default:
		panic(fmt.Sprintf("bug: %T is no value", v))
	}
}

func appendFloat(to []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		panic("bug: a float that is not finite is no value")
	}
	n := len(to)
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	to = strconv.AppendFloat(to, f, format, -1, 64)
	if !bytes.ContainsAny(to[n:], ".e") {
		to = append(to, ".0"...)
	}
	return to
}

func appendString(to []byte, s string) []byte {
	const hex = "0123456789abcdef"
	to = append(to, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			to = append(to, '\\', c)
		case c == '\n':
			to = append(to, '\\', 'n')
		case c == '\t':
			to = append(to, '\\', 't')
		case c == '\r':
			to = append(to, '\\', 'r')
		case c < 0x20:
			to = append(to, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			to = append(to, c)
		}
	}
	return append(to, '"')
}

// Normalize makes a value of what a parser of another format left: integers and floats of every size, maps and lists of every type.
// What cannot be a value is refused, with the way to it: `ports[2]: NaN is no number`.
func Normalize(v any) (any, error) {
	return NormalizeWithin(v, Limits{Depth: MaxDepth})
}

// NormalizeWithin is Normalize with other limits.
func NormalizeWithin(v any, limits Limits) (any, error) {
	n, err := normalize(v, limits.Depth)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errkind.Invalid)
	}
	return n, nil
}

func normalize(v any, left int) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case json.Number:
		return number(v.String())
	case string:
		if !utf8.ValidString(v) {
			return nil, errors.New("a string is not UTF-8")
		}
		return v, nil
	}
	r := reflect.ValueOf(v)
	switch {
	case r.Kind() == reflect.Bool:
		return r.Bool(), nil
	case r.CanInt():
		return r.Int(), nil
	case r.CanUint():
		if r.Uint() > math.MaxInt64 {
			return nil, fmt.Errorf("%d does not fit into 64 bits with a sign: write it as a string", r.Uint())
		}
		return int64(r.Uint()), nil
	case r.CanFloat():
		f := r.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("%v is no number that a field can have", f)
		}
		return positiveZero(f), nil
	case r.Kind() == reflect.String:
		return normalize(r.String(), left)
	case left == 0:
		return nil, errors.New("more lists and maps stand in each other than are allowed")
	case r.Kind() == reflect.Slice || r.Kind() == reflect.Array:
		return normalizeList(r, left-1)
	case r.Kind() == reflect.Map:
		return normalizeMap(r, left-1)
	default:
		return nil, fmt.Errorf("a %T is no value", v)
	}
}

func normalizeList(r reflect.Value, left int) (any, error) {
	list := make([]any, r.Len())
	for i := range list {
		var err error
		if list[i], err = normalize(r.Index(i).Interface(), left); err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return list, nil
}

func normalizeMap(r reflect.Value, left int) (any, error) {
	m := make(map[string]any, r.Len())
	for it := r.MapRange(); it.Next(); {
		key := it.Key()
		if key.Kind() == reflect.Interface {
			key = key.Elem()
		}
		if key.Kind() != reflect.String || !utf8.ValidString(key.String()) {
			return nil, fmt.Errorf("the key %v of a map is no string: quote it", key)
		}
		var err error
		if m[key.String()], err = normalize(it.Value().Interface(), left); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return m, nil
}

// Equal reports whether two values are the same.
func Equal(a, b any) bool {
	switch a := a.(type) {
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, Equal)
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, Equal)
	default:
		switch b.(type) {
		case []any, map[string]any:
			return false
		}
		return a == b
	}
}

// Text returns a value as people write and read it: a string as it is, everything else as Encode has it; nil is "null".
func Text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return string(Encode(v))
}
