package access

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/skep-dev/skep/internal/errkind"
)

// maxFileBytes bounds each of the files: people write them.
const maxFileBytes = 256 << 10

// file is a TOML file that has been read, with where its parts are.
type file struct {
	name    string
	text    []byte
	offsets map[string]int // by the way to it: role.viewer.permissions[0].resource
}

// decode reads a file into a struct. Keys that the struct does not know are refused; if table is not empty, only those in that table.
func decode(name string, text []byte, table string, into any) (*file, error) {
	f := &file{name: name, text: text, offsets: map[string]int{}}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("%s: it has %d bytes, and %d are allowed: %w", name, len(text), maxFileBytes, errkind.TooLarge)
	}
	err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(into)
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		err = nil
		for _, e := range strict.Errors {
			if key := e.Key(); table == "" || len(key) > 0 && key[0] == table {
				line, column := e.Position()
				return nil, fmt.Errorf("%s: line %d, column %d: %s is not a setting here: %w", name, line, column, clip(strings.Join(key, ".")), errkind.Invalid)
			}
		}
	}
	if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := bad.Position()
		return nil, fmt.Errorf("%s: line %d, column %d: %s: %w", name, line, column, strings.TrimPrefix(bad.Error(), "toml: "), errkind.Invalid)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", name, err.Error(), errkind.Invalid)
	}
	f.locate()
	return f, nil
}

// locate notes where each key and each element of a list is. The text has been decoded, so it is TOML.
func (f *file) locate() {
	p := unstable.Parser{}
	p.Reset(f.text)
	at, tables := "", map[string]int{}
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table:
			at = f.key("", e.Key())
		case unstable.ArrayTable:
			at = f.key("", e.Key())
			tables[at]++
			offset := f.offsets[at]
			at = fmt.Sprintf("%s[%d]", at, tables[at]-1)
			f.offsets[at] = offset
		case unstable.KeyValue:
			f.value(f.key(at, e.Key()), e.Value())
		default: // comments
		}
	}
}

// key notes where a key is, and returns the way to it.
func (f *file) key(at string, parts unstable.Iterator) string {
	for parts.Next() {
		n := parts.Node()
		if at != "" {
			at += "."
		}
		at += string(n.Data)
		f.offsets[at] = int(n.Raw.Offset)
	}
	return at
}

func (f *file) value(at string, v *unstable.Node) {
	it := v.Children()
	switch v.Kind {
	case unstable.Array:
		for i := 0; it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			element := fmt.Sprintf("%s[%d]", at, i)
			if f.offsets[element] = int(it.Node().Raw.Offset); it.Node().Raw.Length == 0 {
				f.offsets[element] = f.offsets[at]
			}
			f.value(element, it.Node())
			i++
		}
	case unstable.InlineTable:
		for it.Next() {
			if n := it.Node(); n.Kind == unstable.KeyValue {
				f.value(f.key(at, n.Key()), n.Value())
			}
		}
	default: // has no parts
	}
}

// line is in which line something is; 0: it is not there.
func (f *file) line(way string) int {
	offset, ok := f.offsets[way]
	if !ok {
		return 0
	}
	return bytes.Count(f.text[:offset], []byte("\n")) + 1
}

// wrong is an error about what lies at the end of a way, or about the nearest thing that the file has.
func (f *file) wrong(way, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	for way != "" {
		if offset, ok := f.offsets[way]; ok {
			before := f.text[:offset]
			return fmt.Errorf("%s: line %d, column %d: %s: %w", f.name, f.line(way), offset-bytes.LastIndexByte(before, '\n'), text, errkind.Invalid)
		}
		way = way[:max(0, strings.LastIndexAny(way, ".["))]
	}
	return fmt.Errorf("%s: %s: %w", f.name, text, errkind.Invalid)
}
