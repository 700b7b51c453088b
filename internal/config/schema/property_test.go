package schema_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/schema/schematest"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/config/value/valuetest"
)

// What Format writes, Parse reads as the same schema, and writes again as the same text.
func TestFormatRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := schematest.Source().Draw(t, "schema")
		text := schema.Format(want)
		got, err := schema.Parse("schema.toml", text)
		if err != nil {
			t.Fatalf("%v, of\n%s", err, text)
		}
		if d := schematest.Diff(want, got); d != "" {
			t.Fatalf("%s\nof\n%s", d, text)
		}
		if !got.Equal(want) || !schema.Diff(got, got).None() {
			t.Fatalf("a schema is not itself:\n%s", text)
		}
	})
}

// A value in the form of its type stays as it is, and is fine with the field it was drawn for.
func TestNormalizeTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, e := range schematest.Schema().Draw(t, "schema").Entities {
			for _, f := range e.Fields {
				v := schematest.Value(&f).Draw(t, "value")
				n, err := f.Type.Normalize(v)
				if err != nil || !value.Equal(n, v) {
					t.Fatalf("%s: Normalize(%v) = %v, %v", f.Type, v, n, err)
				}
				if err := f.Check(v); err != nil {
					t.Fatal(err)
				}
				other := valuetest.Any().Draw(t, "other")
				once, err := f.Type.Normalize(other)
				if err != nil {
					continue
				}
				if twice, err := f.Type.Normalize(once); err != nil || !value.Equal(once, twice) {
					t.Fatalf("%s: Normalize(%v) = %v, and of that %v, %v", f.Type, other, once, twice, err)
				}
			}
		}
	})
}

func TestDiff(t *testing.T) {
	const before = `
name = "x"
[environments]
overlays = [{ name = "staging" }, { name = "qa" }, { name = "old" }]
[entity.gone]
fields = [{ name = "a", type = "int" }]
[entity.route]
children = ["gone"]
fields = [
    { name = "weight", type = "int" },
    { name = "path", type = "string" },
    { name = "timeout", type = "duration", merge = "min" },
    { name = "limits", type = "map<int>" },
    { name = "lost", type = "int" },
    { name = "same", type = "list<ref<route>>" },
]`
	const after = `
name = "y"
version = "2"
[environments]
overlays = [{ name = "staging" }, { name = "qa", inherits = "staging" }, { name = "new" }]
[entity.route]
fields = [
    { name = "same", type = "list<ref<route>>", description = "of the same" },
    { name = "path", type = "string", pattern = "/.*" },
    { name = "weight", type = "float" },
    { name = "timeout", type = "duration", merge = "max" },
    { name = "limits", type = "map<int>", values_merge = "max" },
    { name = "found", type = "int" },
]
[entity.come]
fields = [{ name = "a", type = "int" }]`
	got := schema.Diff(schematest.Parse(t, before), schematest.Parse(t, after))
	want := &schema.Changes{
		Entities: []schema.Change{{"come", schema.Added}, {"gone", schema.Removed}, {"route", schema.Adjusted}},
		Fields: []schema.FieldChange{
			{"come", "a", schema.Added},
			{"gone", "a", schema.Removed},
			{"route", "found", schema.Added},
			{"route", "limits", schema.Remade},
			{"route", "lost", schema.Removed},
			{"route", "path", schema.Adjusted},
			{"route", "timeout", schema.Remade},
			{"route", "weight", schema.Remade},
		},
		Environments: []schema.Change{{"new", schema.Added}, {"old", schema.Removed}, {"qa", schema.Adjusted}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if other := schematest.Parse(t, "name = \"x\"\n[environments]\nbase = \"main\""); !schema.Diff(schematest.Parse(t, `name = "x"`), other).Base {
		t.Error("another base is no change")
	}
}
