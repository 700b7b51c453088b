// Package schematest draws schemas, and values for their fields, for property tests.
package schematest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
)

// Parse reads a schema that is fine.
func Parse(tb testing.TB, text string) *schema.Schema {
	tb.Helper()
	s, err := schema.Parse("schema.toml", []byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// Diff returns how two schemas differ, for people.
func Diff(want, got *schema.Schema) string {
	exported := cmpopts.IgnoreUnexported(schema.Schema{}, schema.Entity{}, schema.Field{}, schema.Rule{})
	// Schema.Equal would hide what differs.
	return cmp.Diff(*want, *got, exported, cmpopts.EquateEmpty(), cmp.Comparer(schema.Type.Equal))
}

// Schema draws schemas, as Parse returns them.
func Schema() *rapid.Generator[*schema.Schema] {
	return rapid.Map(Source(), func(s *schema.Schema) *schema.Schema {
		parsed, err := schema.Parse("drawn.toml", schema.Format(s))
		if err != nil {
			panic(fmt.Sprintf("bug: a drawn schema is bad: %v\n%s", err, schema.Format(s)))
		}
		return parsed
	})
}

// Source draws schemas that only Format takes: the look-ups and checks need what Parse adds.
func Source() *rapid.Generator[*schema.Schema] {
	return rapid.Custom(func(t *rapid.T) *schema.Schema {
		s := &schema.Schema{Name: text().Filter(func(s string) bool { return s != "" }).Draw(t, "name"), Version: text().Draw(t, "version")}
		environments := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9_-]{0,6}`), 1, 5, rapid.ID).Draw(t, "environments")
		for i, name := range environments {
			e := schema.Environment{Name: name}
			if i > 0 {
				e.Inherits = rapid.SampledFrom(environments[:i]).Draw(t, "inherits")
			}
			s.Environments = append(s.Environments, e)
		}
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_-]{0,6}`), 0, 4, rapid.ID).Draw(t, "entities")
		slices.Sort(names)
		for _, name := range names {
			s.Entities = append(s.Entities, entity(t, name, names))
		}
		for i := range s.Entities {
			for _, e := range s.Entities {
				if slices.Contains(e.Children, s.Entities[i].Name) {
					s.Entities[i].Parents = append(s.Entities[i].Parents, e.Name)
				}
			}
		}
		return s
	})
}

func text() *rapid.Generator[string] {
	return rapid.OneOf(rapid.StringN(0, 8, -1), rapid.SampledFrom([]string{"", "a b", `\d"'`, "\n\t\r", "\x7f\x00", "’"}))
}

func entity(t *rapid.T, name string, names []string) schema.Entity {
	e := schema.Entity{Name: name, Description: text().Draw(t, "description")}
	for _, f := range rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_-]{0,6}`), 0, 6, rapid.ID).Draw(t, "fields") {
		e.Fields = append(e.Fields, field(t, f, names))
	}
	e.Children = rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Draw(t, "children")
	slices.Sort(e.Children)
	for _, rule := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,4}`), 0, 2, rapid.ID).Draw(t, "rules") {
		check := rapid.SampledFrom([]string{"true", "1 < 2 && 'a' != \"b\"", "1 <\n2"}).Draw(t, "check")
		e.Rules = append(e.Rules, schema.Rule{Name: rule, Check: check, Message: text().Draw(t, "message")})
	}
	return e
}

// typeOf draws a type, with as many levels within as said.
func typeOf(t *rapid.T, names []string, levels int) schema.Type {
	kinds := []schema.Kind{schema.String, schema.Int, schema.Float, schema.Bool, schema.Duration, schema.Ref}
	if levels > 0 {
		kinds = append(kinds, schema.List, schema.Map, schema.List, schema.Map)
	}
	typ := schema.Type{Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
	switch {
	case typ.Kind == schema.Ref:
		typ.Target = rapid.SampledFrom(append([]string{""}, names...)).Draw(t, "target")
	case (typ.Kind == schema.List || typ.Kind == schema.Map) && rapid.Bool().Draw(t, "has elements of a type"):
		elem := typeOf(t, names, levels-1)
		typ.Elem = &elem
	}
	return typ
}

func field(t *rapid.T, name string, names []string) schema.Field {
	f := schema.Field{
		Name: name, Description: text().Draw(t, "description"), Type: typeOf(t, names, 2),
		OnConflict: schema.TakeLast, Overlay: schema.Replace, Required: rapid.Bool().Draw(t, "required"),
	}
	elem := f.Type.Element()
	number := func(k schema.Kind) bool { return k == schema.Int || k == schema.Float || k == schema.Duration }
	merges := []schema.Merge{schema.LWW, schema.Review}
	switch {
	case f.Type.Kind == schema.Map:
		merges = []schema.Merge{schema.PerKey}
		f.MapValues = schema.LWW
		if number(elem.Kind) {
			f.MapValues = rapid.SampledFrom([]schema.Merge{schema.LWW, schema.Max, schema.Min}).Draw(t, "values_merge")
		}
	case f.Type.Kind == schema.List && elem.Kind != schema.List && elem.Kind != schema.Map:
		merges = append(merges, schema.Set, schema.Grow)
	case number(f.Type.Kind):
		merges = append(merges, schema.Max, schema.Min)
	}
	f.Merge = rapid.SampledFrom(merges).Draw(t, "merge")
	isSet := f.Merge == schema.Set || f.Merge == schema.Grow
	f.Review = f.Merge != schema.Review && rapid.Bool().Draw(t, "conflict")
	if f.Merge == schema.Review && rapid.Bool().Draw(t, "hold") {
		f.OnConflict = schema.Hold
	}
	if (isSet || f.Merge == schema.PerKey) && rapid.Bool().Draw(t, "overlay") {
		f.Overlay = schema.Union
	}
	f.ByInsertion = isSet && rapid.Bool().Draw(t, "order")
	f.Blind = (f.Review || f.Merge == schema.Review) && rapid.Bool().Draw(t, "blind")
	f.Unique = f.Type.Kind != schema.List && f.Type.Kind != schema.Map && rapid.Bool().Draw(t, "unique")
	bounds(t, &f)
	return f
}

// bounds draws a field's range, allowed values, pattern and default, of which a value always exists.
func bounds(t *rapid.T, f *schema.Field) {
	scalar := f.Type
	for scalar.Kind == schema.List || scalar.Kind == schema.Map {
		scalar = scalar.Element()
	}
	choose := func(what string) bool { return rapid.IntRange(0, 3).Draw(t, what) == 0 }
	switch {
	case scalar.Kind == schema.String && choose("pattern"):
		f.Pattern = rapid.SampledFrom([]string{`[a-z]{1,3}`, `/[\d"']*|x`}).Draw(t, "pattern")
	case scalar.Kind != "" && scalar.Kind != schema.Bool && choose("values"):
		f.Allowed = rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) any { return scalarOf(t, scalar) }), 1, 3, func(v any) string {
			return string(value.Encode(v))
		}).Draw(t, "values")
	case scalar.Kind == schema.Int || scalar.Kind == schema.Float || scalar.Kind == schema.Duration:
		low, high := scalarOf(t, scalar), scalarOf(t, scalar)
		if schema.Compare(scalar, low, high) > 0 {
			low, high = high, low
		}
		if choose("low") {
			f.Low = low
		}
		if choose("high") {
			f.High = high
		}
	}
	if choose("default") {
		f.Default = Value(f).Draw(t, "default")
	}
}

// Value draws a normalized value that a field's Check takes. Sets have no element twice.
func Value(f *schema.Field) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		v := of(t, f, f.Type)
		if list, ok := v.([]any); ok && (f.Merge == schema.Set || f.Merge == schema.Grow) {
			slices.SortFunc(list, func(a, b any) int { return bytes.Compare(value.Encode(a), value.Encode(b)) })
			v = slices.CompactFunc(list, value.Equal)
		}
		return v
	})
}

func of(t *rapid.T, f *schema.Field, typ schema.Type) any {
	switch {
	case typ.Kind == schema.List:
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) any { return of(t, f, typ.Element()) }), 0, 3).Draw(t, "list")
	case typ.Kind == schema.Map:
		return rapid.MapOfN(text(), rapid.Custom(func(t *rapid.T) any { return of(t, f, typ.Element()) }), 0, 3).Draw(t, "map")
	case f.Allowed != nil:
		return rapid.SampledFrom(f.Allowed).Draw(t, "allowed")
	case f.Pattern != "":
		return rapid.StringMatching(f.Pattern).Draw(t, "matching")
	}
	v := scalarOf(t, typ)
	if f.Low != nil && schema.Compare(typ, v, f.Low) < 0 {
		return f.Low
	}
	if f.High != nil && schema.Compare(typ, v, f.High) > 0 {
		return f.High
	}
	return v
}

func scalarOf(t *rapid.T, typ schema.Type) any {
	switch typ.Kind {
	case schema.String:
		return text().Draw(t, "string")
	case schema.Int:
		return rapid.Int64().Draw(t, "int")
	case schema.Float:
		v, err := value.Normalize(rapid.Float64Range(-1e300, 1e300).Draw(t, "float"))
		if err != nil {
			panic("bug: " + err.Error())
		}
		return v
	case schema.Bool:
		return rapid.Bool().Draw(t, "bool")
	case schema.Duration:
		v, err := typ.Normalize(fmt.Sprintf("%dms", rapid.IntRange(-1e9, 1e9).Draw(t, "duration")))
		if err != nil {
			panic("bug: " + err.Error())
		}
		return v
	case schema.Ref:
		target := typ.Target
		if target == "" {
			target = "service"
		}
		return target + "." + rapid.StringMatching(`[a-z0-9./-]{1,6}`).Draw(t, "id")
	default:
		return rapid.OneOf(rapid.Int64().AsAny(), rapid.Bool().AsAny(), text().AsAny()).Draw(t, "scalar")
	}
}
