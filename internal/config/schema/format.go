package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/config/value"
)

// Format returns a schema's text in the canonical dialect: what Parse makes of it is the same schema, and equal schemas have equal
// texts. What a schema leaves at its default is not written.
func Format(s *Schema) []byte {
	var b strings.Builder
	b.WriteString("[schema]\n")
	writeString(&b, "name", s.Name)
	writeString(&b, "version", s.Version)

	b.WriteString("\n[environments]\n")
	writeString(&b, "base", s.Base())
	if len(s.Environments) > 1 {
		b.WriteString("overlays = [\n")
		for _, e := range s.Environments[1:] {
			fmt.Fprintf(&b, "    { name = %s, inherits = %s },\n", tomlString(e.Name), tomlString(e.Inherits))
		}
		b.WriteString("]\n")
	}
	for i := range s.Entities {
		writeEntity(&b, &s.Entities[i])
	}
	return []byte(b.String())
}

// writeString writes a line for a string that is not empty.
func writeString(b *strings.Builder, name, text string) {
	if text != "" {
		fmt.Fprintf(b, "%s = %s\n", name, tomlString(text))
	}
}

func writeEntity(b *strings.Builder, e *Entity) {
	fmt.Fprintf(b, "\n[entity.%s]\n", e.Name)
	writeString(b, "description", e.Description)
	if len(e.Fields) > 0 {
		b.WriteString("fields = [\n")
		for i := range e.Fields {
			fmt.Fprintf(b, "    { %s },\n", strings.Join(fieldPairs(&e.Fields[i]), ", "))
		}
		b.WriteString("]\n")
	}
	if len(e.Children) > 0 {
		var children []any
		for _, c := range e.Children {
			children = append(children, c)
		}
		fmt.Fprintf(b, "children = %s\n", tomlValue(children))
	}
	for _, r := range e.Rules {
		fmt.Fprintf(b, "\n[[entity.%s.rules]]\n", e.Name)
		writeString(b, "name", r.Name)
		writeString(b, "check", r.Check)
		writeString(b, "message", r.Message)
	}
}

// fieldPairs returns a field's keys and values, in the order of the reference.
func fieldPairs(f *Field) []string {
	var pairs []string
	add := func(name, text string) { pairs = append(pairs, name+" = "+text) }
	addIf := func(yes bool, name, text string) {
		if yes {
			add(name, text)
		}
	}
	add("name", tomlString(f.Name))
	add("type", tomlString(f.Type.String()))
	addIf(f.Merge != PerKey, "merge", tomlString(string(f.Merge)))
	addIf(f.Merge == PerKey && f.MapValues != LWW, "values_merge", tomlString(string(f.MapValues)))
	addIf(f.Review, "conflict", `"review"`)
	addIf(f.OnConflict != TakeLast, "on_conflict", tomlString(string(f.OnConflict)))
	addIf(f.Overlay != Replace, "overlay", tomlString(string(f.Overlay)))
	addIf(f.ByInsertion, "order", `"insertion"`)
	addIf(f.Blind, "blind", `"conflict"`)
	if f.Default != nil {
		add("default", tomlValue(f.Default))
	}
	addIf(f.Required, "required", "true")
	addIf(f.Unique, "unique", "true")
	switch {
	case f.Low != nil && f.High != nil:
		add("range", tomlValue([]any{f.Low, f.High}))
	case f.Low != nil:
		add("range", fmt.Sprintf("{ min = %s }", tomlValue(f.Low)))
	case f.High != nil:
		add("range", fmt.Sprintf("{ max = %s }", tomlValue(f.High)))
	}
	if f.Allowed != nil {
		add("values", tomlValue(f.Allowed))
	}
	addIf(f.Pattern != "", "pattern", tomlString(f.Pattern))
	addIf(f.Description != "", "description", tomlString(f.Description))
	return pairs
}

// tomlValue returns a value in TOML, on one line.
func tomlValue(v any) string {
	var parts []string
	switch v := v.(type) {
	case string:
		return tomlString(v)
	case []any:
		for _, e := range v {
			parts = append(parts, tomlValue(e))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		if len(v) == 0 {
			return "{}"
		}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, tomlString(k)+" = "+tomlValue(v[k]))
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	default:
		return string(value.Encode(v)) // numbers and bools are as in JSON
	}
}

// tomlString returns a string in TOML. One with backslashes, as patterns have, is literal if it can be.
func tomlString(s string) string {
	plain := !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
	if plain && strings.Contains(s, `\`) && !strings.Contains(s, "'") {
		return "'" + s + "'"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
