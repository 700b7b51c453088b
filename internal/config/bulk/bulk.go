// Package bulk reads many changes of a document at once: lines of assignments, and files that have entities.
//
//	ops, err := bulk.ReadLines("changes.txt", file, schema)
//	entities, err := bulk.Entities(value, bulk.Defaults{Type: "service", ID: "api"}, schema)
//	plan, err := bulk.NewPlan(ctx, bulk.Local{state}, entities, "staging")
//
// What it returns are operations that package service takes.
package bulk

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

// Limits of a text of lines: what it has is done at once.
const (
	MaxLines     = 1000                   // operations
	maxLineBytes = value.MaxBytes + 4<<10 // the largest value, with what is around it
	maxTextLines = 100_000                // with comments and empty ones
)

// line is a line of JSON: an operation, or a path and a value.
type line struct {
	wire.Operation
	Path string `json:"path"`
}

// ReadLines reads operations, one from each line:
//
//	route.api.weight 80
//	route.api.weight@staging 20
//	{"path": "service.api.ports", "add": [8080], "intent": "metrics"}
//	{"type": "remove_entity", "entity_id": "route.old"}
//
// Values after a path are read as the field's type has it. Empty lines and those that begin with # are left out. Errors begin with the
// text's name and the line.
func ReadLines(name string, r io.Reader, s *schema.Schema) ([]wire.Operation, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxLineBytes)
	var ops []wire.Operation
	n := 0
	for lines.Scan() {
		if n++; n > maxTextLines {
			return nil, fmt.Errorf("%s: it has more than %d lines: %w", name, maxTextLines, errkind.TooLarge)
		}
		text := bytes.TrimSpace(lines.Bytes())
		if n == 1 {
			text = bytes.TrimPrefix(text, []byte("\ufeff"))
		}
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		op, err := readLine(text, s)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if ops = append(ops, *op); len(ops) > MaxLines {
			return nil, fmt.Errorf("%s:%d: there are more than %d operations, which cannot be done at once: give them in parts: %w", name, n, MaxLines, errkind.TooLarge)
		}
	}
	if err := lines.Err(); err != nil {
		kind := errkind.Internal
		if errors.Is(err, bufio.ErrTooLong) {
			err, kind = fmt.Errorf("the line has more than %d bytes", maxLineBytes), errkind.TooLarge
		}
		return nil, fmt.Errorf("%s:%d: %w: %w", name, n+1, err, kind)
	}
	return ops, nil
}

func readLine(text []byte, s *schema.Schema) (*wire.Operation, error) {
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("it is not UTF-8: %w", errkind.Invalid)
	}
	if text[0] != '{' {
		return readAssignment(string(text), s)
	}
	l := line{Operation: wire.Operation{Type: string(config.SetField)}}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errkind.Invalid)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("more follows after the object: write one in each line: %w", errkind.Invalid)
	}
	if l.Path != "" {
		if l.EntityID != "" || l.Field != "" || l.Key != "" {
			return nil, fmt.Errorf("it has a path, and an entity_id, field or key too: say it once: %w", errkind.Invalid)
		}
		if err := address(&l.Operation, l.Path); err != nil {
			return nil, err
		}
	}
	// A null is no value to the JSON library.
	var null struct{ Value json.RawMessage }
	if err := json.Unmarshal(text, &null); err == nil && string(null.Value) == "null" {
		l.Value = &wire.Value{}
	}
	return &l.Operation, nil
}

// readAssignment reads a path and a value.
func readAssignment(text string, s *schema.Schema) (*wire.Operation, error) {
	end := strings.IndexAny(text, " \t")
	if end < 0 {
		return nil, fmt.Errorf("%q has no value: write TYPE.ID.FIELD VALUE: %w", clip(text), errkind.Invalid)
	}
	path := text[:end]
	op := &wire.Operation{Type: string(config.SetField)}
	if err := address(op, path); err != nil {
		return nil, err
	}
	v, err := parse(op, strings.TrimSpace(text[end:]), s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", clip(path), err)
	}
	op.Value = v
	return op, nil
}

// address reads TYPE.ID.FIELD[KEY]@ENV.
func address(op *wire.Operation, path string) (err error) {
	if at := strings.LastIndexByte(path, '@'); at > strings.LastIndexByte(path, ']') && op.Environment == "" {
		path, op.Environment = path[:at], path[at+1:]
	}
	op.EntityID, op.Field, op.Key, err = wire.ParsePath(path, "")
	return err
}

// parse reads a value as the field's type has it; a field that the schema does not have is refused later, with what it has.
func parse(op *wire.Operation, text string, s *schema.Schema) (*wire.Value, error) {
	var f *schema.Field
	if id, err := config.ParseEntity(op.EntityID); err == nil {
		if t := s.Entity(config.Type(id)); t != nil {
			f = t.Field(op.Field)
		}
	}
	if f == nil {
		return &wire.Value{Any: text}, nil
	}
	t := f.Type
	if op.Key != "" {
		t = t.Element()
	}
	v, err := schema.ParseText(t, text)
	if err != nil {
		return nil, err
	}
	return &wire.Value{Any: v}, nil
}

// clip keeps an error's text short.
func clip(s string) string {
	if r := []rune(s); len(r) > 80 {
		return string(r[:77]) + "…"
	}
	return s
}
