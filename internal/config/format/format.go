// Package format writes configuration in the formats that other tools read, and reads it from them.
//
//	formats := format.NewRegistry()
//	yaml, err := formats.Serializer("yaml")
//	data, err := yaml.Marshal(ctx, map[string]any{"weight": int64(80)})
//
// Values are those of package value. A format writes the same bytes for equal values: keys sorted, floats with a point or an
// exponent. What a format has written it reads back as the same value, with the exceptions that docs/reference/formats.md lists.
package format

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/errkind"
)

// Limits of a document in any format. A document has entities by type and ID with fields, so it may be a little deeper than
// the value of a field.
const (
	MaxBytes = 16 << 20
	MaxDepth = value.MaxDepth + 8 // lists and maps within each other
	MaxItems = 1 << 20            // values in a document, with those that a YAML alias repeats
	maxMarks = 2 * MaxItems       // what divides values from each other, where a library keeps some 200 bytes for each
)

// Format is a way to write configuration as text. Every format is a Serializer, a Parser, or both.
type Format interface {
	ID() string                    // short and in small letters: "yaml"
	Extension() string             // of files, without a point: "yaml"
	DisplayName() string           // for people: "YAML"
	AlternateExtensions() []string // others by which it is found, without a point: "yml"
}

// Serializer is a format that can be written.
type Serializer interface {
	Format
	// Marshal writes a value. An error wraps errkind.Invalid if the format cannot represent the value.
	Marshal(ctx context.Context, v any) ([]byte, error)
}

// Parser is a format that can be read.
type Parser interface {
	Format
	// Unmarshal reads a value. The name of the file is for messages. An error wraps errkind.Invalid if the text is malformed,
	// and errkind.TooLarge if it passes a limit; its text has line and column where the format's library knows them.
	Unmarshal(ctx context.Context, name string, data []byte) (any, error)
}

// Rewriter is a Serializer that can change a text that people have written, and keep what the value does not determine.
type Rewriter interface {
	Serializer
	// Rewrite writes a value into an old text: comments and the order of keys stay where the value did.
	Rewrite(ctx context.Context, old []byte, v any) ([]byte, error)
}

// about is what each format says of itself.
type about struct {
	id, extension, name string
	alternate           []string
}

// ID returns the ID.
func (a about) ID() string { return a.id }

// Extension returns the extension of files.
func (a about) Extension() string { return a.extension }

// DisplayName returns the name for people.
func (a about) DisplayName() string { return a.name }

// AlternateExtensions returns the other extensions.
func (a about) AlternateExtensions() []string { return a.alternate }

// twoWay is a built-in format.
type twoWay struct {
	about
	write func(v any) ([]byte, error)
	read  func(name string, data []byte) (any, error)
}

// Marshal writes a value.
func (f twoWay) Marshal(_ context.Context, v any) ([]byte, error) { return f.write(v) }

// Unmarshal reads a value of a text that is UTF-8 and not too large.
func (f twoWay) Unmarshal(_ context.Context, name string, data []byte) (any, error) {
	if err := checkSize(name, data); err != nil {
		return nil, err
	}
	return f.read(name, data)
}

// malformed is the error for a mistake at a place in a file.
func malformed(name string, line, column int, message string, args ...any) error {
	return fmt.Errorf("%s: line %d column %d: %s: %w", name, line, column, fmt.Sprintf(message, args...), errkind.Invalid)
}

// reason is the text of an error without the kind that it ends with, to be put into another error of that kind.
func reason(err error) string { return strings.TrimSuffix(err.Error(), ": "+errkind.Invalid.Error()) }

// checkSize refuses what no parser is to see.
func checkSize(name string, data []byte) error {
	if len(data) > MaxBytes {
		return fmt.Errorf("%s: it has %d bytes, and %d are allowed: %w", name, len(data), MaxBytes, errkind.TooLarge)
	}
	if !utf8.Valid(data) {
		return fmt.Errorf("%s: it is not UTF-8: save it as UTF-8: %w", name, errkind.Invalid)
	}
	return nil
}

// checkMarks refuses what a library would make too large a tree of. No value comes without one of these characters.
func checkMarks(name string, data []byte) error {
	marks := 0
	for _, c := range data {
		switch c {
		case '\n', ',', ':', '=', '[', '{', '-', '?':
			marks++
		}
	}
	if marks > maxMarks {
		return fmt.Errorf("%s: it has too many values: %w", name, errkind.TooLarge)
	}
	return nil
}

// topMap refuses what a format without values at its top cannot write.
func topMap(format string, v any) (map[string]any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("write %s: the top of a file is a map of keys to values, and this is a %s: %w", format, kind(v), errkind.Invalid)
	}
	return m, nil
}

// kind names a value's type for people.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case int64, float64:
		return "number"
	case string:
		return "string"
	case []any:
		return "list"
	default:
		return "map"
	}
}

// floatText is a float with a point, as every format reads it: PyYAML takes 1e+21 for a string, and 1.0e+21 for a float.
func floatText(f float64) string {
	s := string(value.Encode(f))
	if mantissa, exponent, found := strings.Cut(s, "e"); found && !strings.Contains(mantissa, ".") {
		s = mantissa + ".0e" + exponent
	}
	return s
}

// newJSON makes the format that writes JSON with two spaces a level.
func newJSON() Format {
	return twoWay{about{id: "json", extension: "json", name: "JSON"}, writeJSON, readJSON}
}

func writeJSON(v any) ([]byte, error) {
	var out bytes.Buffer
	if err := json.Indent(&out, value.Encode(v), "", "  "); err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func readJSON(name string, data []byte) (any, error) {
	v, err := value.DecodeWithin(data, value.Limits{Depth: MaxDepth, Bytes: MaxBytes})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}
