package schema

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// maxRefBytes bounds an entity's ID.
const maxRefBytes = 256

// Normalize returns a value in the one form that the type has for it: an int as a float64 where the type is float, "90s" as "1m30s",
// `service/api` as `service.api`. v is one of package value's; nil stays nil. The error says what to write.
func (t Type) Normalize(v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	n, err := t.normalize(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errkind.Invalid)
	}
	return n, nil
}

func (t Type) normalize(v any) (any, error) {
	switch t.Kind {
	case List:
		return t.normalizeList(v)
	case Map:
		return t.normalizeMap(v)
	case Int:
		return normalizeInt(v)
	case Float:
		return normalizeFloat(v)
	case Bool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, fmt.Errorf("%s is no bool: write true or false", show(v))
	case "":
		switch v.(type) {
		case bool, int64, float64, string:
			return v, nil
		}
		return nil, fmt.Errorf("%s is no scalar: write a string, a number, true or false", show(v))
	default:
		return t.normalizeText(v)
	}
}

// normalizeText is normalize of what is written as a string.
func (t Type) normalizeText(v any) (any, error) {
	s, ok := v.(string)
	switch {
	case !ok && t.Kind == Duration:
		return nil, fmt.Errorf("%s is no duration: write the unit too, as in \"30s\" or \"1.5h\"", show(v))
	case !ok && t.Kind == Ref:
		return nil, fmt.Errorf("%s refers to no entity: write its ID, as in %q", show(v), t.example())
	case !ok:
		return nil, fmt.Errorf("%s is no string: put it in quotes", show(v))
	case t.Kind == Duration:
		d, err := ParseDuration(s)
		if err != nil {
			return nil, errors.New(plain(err))
		}
		return FormatDuration(d), nil
	case t.Kind == Ref:
		return t.normalizeRef(s)
	default:
		return s, nil
	}
}

func normalizeInt(v any) (any, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case float64:
		// JSON of other languages has 5.0 for 5. Above 2^53 a float may be the neighbour of what was meant.
		if v == math.Trunc(v) && math.Abs(v) <= 1<<53 {
			return int64(v), nil
		}
		return nil, fmt.Errorf("%s is no int: write a whole number", show(v))
	default:
		return nil, fmt.Errorf("%s is no int: write a whole number, without quotes", show(v))
	}
}

func normalizeFloat(v any) (any, error) {
	switch v := v.(type) {
	case float64:
		return v, nil
	case int64:
		if f := float64(v); f < 1<<63 && int64(f) == v {
			return f, nil
		}
		return nil, fmt.Errorf("%d is no float: the nearest one is %s", v, value.Text(float64(v)))
	default:
		return nil, fmt.Errorf("%s is no float: write a number, without quotes", show(v))
	}
}

// normalizeRef takes `type.id` and `type/id`, and the id alone where the type is known.
func (t Type) normalizeRef(s string) (any, error) {
	kind, id := t.Target, s
	if i := strings.IndexAny(s, "./"); i >= 0 {
		kind, id = s[:i], s[i+1:]
	}
	switch {
	case len(s) > maxRefBytes:
		return nil, fmt.Errorf("%s is no entity's ID: it has %d bytes, and %d are allowed", quote(s), len(s), maxRefBytes)
	case !isName(kind) || id == "" || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return nil, fmt.Errorf("%s is no entity's ID: write its type and name, as in %q", quote(s), t.example())
	case t.Target != "" && kind != t.Target:
		return nil, fmt.Errorf("%s is of the type %s: name a %s, as in %q", quote(s), kind, t.Target, t.example())
	}
	return kind + "." + id, nil
}

func (t Type) example() string {
	if t.Target == "" {
		return "service.api"
	}
	return t.Target + ".api"
}

func (t Type) normalizeList(v any) (any, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is no list: write [%s]", show(v), show(v))
	}
	elem := t.Element()
	out := make([]any, len(list))
	for i, e := range list {
		if e == nil {
			return nil, fmt.Errorf("[%d]: a list has no null: leave the element out", i)
		}
		n, err := elem.normalize(e)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		out[i] = n
	}
	return out, nil
}

func (t Type) normalizeMap(v any) (any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is no map: write {\"key\": value}", show(v))
	}
	elem := t.Element()
	out := make(map[string]any, len(m))
	for key, e := range m {
		if e == nil {
			return nil, fmt.Errorf("[%s]: a map has no null: leave the key out", quote(key))
		}
		n, err := elem.normalize(e)
		if err != nil {
			return nil, fmt.Errorf("[%s]: %w", quote(key), err)
		}
		out[key] = n
	}
	return out, nil
}

// ParseText reads what somebody typed: strings as they are, lists and maps as JSON, and lists also as `a,b,c`. What it returns is
// normalized.
func ParseText(t Type, text string) (any, error) {
	switch {
	case len(text) > value.MaxBytes:
		return nil, fmt.Errorf("the text has %d bytes, and a value may have %d: %w", len(text), value.MaxBytes, errkind.TooLarge)
	case !utf8.ValidString(text):
		return nil, fmt.Errorf("%s is not UTF-8: %w", quote(text), errkind.Invalid)
	}
	v, err := parseText(t, text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errkind.Invalid)
	}
	return t.Normalize(v)
}

func parseText(t Type, text string) (any, error) {
	switch t.Kind {
	case Int:
		n, err := strconv.ParseInt(text, 10, 64)
		if errors.Is(err, strconv.ErrRange) {
			return nil, fmt.Errorf("%s does not fit into 64 bits", quote(text))
		} else if err != nil {
			return nil, fmt.Errorf("%s is no int: write a whole number", quote(text))
		}
		return n, nil
	case Float:
		// Names of what is not finite and hexadecimal floats are Go's, and nobody's configuration.
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(f, 0) || strings.ContainsAny(text, "nNxX_") {
			return nil, fmt.Errorf("%s is no float: write a number, as in 0.5", quote(text))
		}
		return value.Normalize(f)
	case Bool:
		if text != "true" && text != "false" {
			return nil, fmt.Errorf("%s is no bool: write true or false", quote(text))
		}
		return text == "true", nil
	case List:
		return parseListText(t, text)
	case Map:
		if !strings.HasPrefix(strings.TrimSpace(text), "{") {
			return nil, fmt.Errorf("%s is no map: write JSON, as in {\"key\": value}", quote(text))
		}
		return decodeJSON(text)
	case "":
		// A word is what it looks like, as in YAML's core schema, but no more than that.
		if v, err := value.Decode([]byte(text)); err == nil && v != nil {
			return v, nil
		}
		return text, nil
	default:
		return text, nil
	}
}

func decodeJSON(text string) (any, error) {
	v, err := value.Decode([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read as JSON: %s", quote(text), strings.TrimPrefix(plain(err), "read value: "))
	}
	return v, nil
}

func parseListText(t Type, text string) (any, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "[") {
		return decodeJSON(text)
	}
	elem, list := t.Element(), []any{}
	if !elem.scalar() {
		return nil, fmt.Errorf("%s is no %s: write JSON, as in [...]", quote(text), t)
	}
	if text == "" {
		return list, nil
	}
	for i, part := range strings.Split(text, ",") {
		v, err := parseText(elem, strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		list = append(list, v)
	}
	return list, nil
}

// Compare returns -1, 0 or 1 as a is less than, as much as or more than b: numbers by what they are, durations by their length, strings
// and bools by their order. Both are normalized values of the type, which is a scalar one; nil is before everything.
func Compare(t Type, a, b any) int {
	switch {
	case a == nil || b == nil:
		return cmp.Compare(present(a), present(b))
	case t.Kind == Duration:
		x, _ := a.(string)
		y, _ := b.(string)
		p, _ := ParseDuration(x)
		q, _ := ParseDuration(y)
		return cmp.Compare(p, q)
	}
	switch x := a.(type) {
	case int64:
		if y, ok := b.(int64); ok {
			return cmp.Compare(x, y)
		}
	case float64:
		if y, ok := b.(float64); ok {
			return cmp.Compare(x, y)
		}
	case string:
		if y, ok := b.(string); ok {
			return cmp.Compare(x, y)
		}
	}
	return bytes.Compare(value.Encode(a), value.Encode(b))
}

func present(v any) int {
	if v == nil {
		return 0
	}
	return 1
}

// plain returns an error's text without its kind, for an error that has one already.
func plain(err error) string {
	return strings.TrimSuffix(err.Error(), ": "+errkind.Invalid.Error())
}

// show returns a value for an error, as JSON and not too long.
func show(v any) string {
	text := string(value.Encode(v))
	if len(text) > maxQuoted {
		return strings.ToValidUTF8(text[:maxQuoted], "") + "…"
	}
	return text
}
