package bulk_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config/bulk"
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/wire"
)

const shop = `
name = "shop"
[environments]
base = "production"
overlays = [{ name = "staging" }]
[entity.service]
fields = [
  { name = "image", type = "string" },
  { name = "replicas", type = "int", merge = "max" },
  { name = "ports", type = "list<int>", merge = "set" },
  { name = "env_vars", type = "map<string>" },
]
[entity.route]
fields = [{ name = "service", type = "ref<service>" }]
children = ["filter"]
[entity.filter]
fields = [{ name = "rank", type = "int" }]
`

func parsed(tb testing.TB) *schema.Schema {
	tb.Helper()
	s, err := schema.Parse("schema.toml", []byte(shop))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func text(s string) *wire.Value { return &wire.Value{Any: s} }

func TestReadLines(t *testing.T) {
	t.Parallel()
	const lines = "\ufeff# what the canary needs\n\n" +
		"service.api.replicas 3\n" +
		"service.api.v1.image@staging\tapp: 2\r\n" +
		"service.api.env_vars[a@b.c]  x=1 \n" +
		"service.api.ports 80, 443\n" +
		`{"path": "service.api.image@staging", "value": null, "intent": "undo"}` + "\n" +
		`{"type": "remove_entity", "entity_id": "route.old"}`
	got, err := bulk.ReadLines("changes.txt", strings.NewReader(lines), parsed(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []wire.Operation{
		{Type: "set_field", EntityID: "service.api", Field: "replicas", Value: &wire.Value{Any: int64(3)}},
		{Type: "set_field", EntityID: "service.api.v1", Field: "image", Environment: "staging", Value: text("app: 2")},
		{Type: "set_field", EntityID: "service.api", Field: "env_vars", Key: "a@b.c", Value: text("x=1")},
		{Type: "set_field", EntityID: "service.api", Field: "ports", Value: &wire.Value{Any: []any{int64(80), int64(443)}}},
		{Type: "set_field", EntityID: "service.api", Field: "image", Environment: "staging", Value: &wire.Value{}, Intent: "undo"},
		{Type: "remove_entity", EntityID: "route.old"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadLinesTellsWhereItIsWrong(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"no value", "\nservice.api.image", `f:2: "service.api.image" has no value`},
		{"no path", "service x", `f:1: "service" is not of the form TYPE.ID.FIELD`},
		{"type", "service.api.replicas three", `f:1: service.api.replicas: "three" is no int`},
		{"unknown word", `{"path": "service.api.image", "valeu": 1}`, `f:1: json: unknown field "valeu"`},
		{"two objects", `{"path": "service.api.image"} {}`, `f:1: more follows after the object`},
		{"said twice", `{"path": "service.api.image", "field": "image"}`, `f:1: it has a path, and`},
		{"key", "service.api.env_vars[a x", `f:1: field "env_vars[a": a key is written FIELD[KEY]`},
		{"bytes", "service.api.image \xff", `f:1: it is not UTF-8`},
		{"too many", strings.Repeat("service.api.image x\n", bulk.MaxLines+1), `f:1001: there are more than 1000 operations`},
		{"too long", "service.api.image " + strings.Repeat("x", 300<<10), `f:1: the line has more than`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := bulk.ReadLines("f", strings.NewReader(tt.in), parsed(t)); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s…", err, tt.want)
			}
		})
	}
}

func FuzzReadLines(f *testing.F) {
	f.Add("service.api.env_vars[a] b\n{\"path\":\"service.api.ports@staging\",\"add\":[1]}")
	f.Add("#\n{\"value\":null}")
	s := parsed(f)
	f.Fuzz(func(t *testing.T, in string) {
		ops, err := bulk.ReadLines("f", strings.NewReader(in), s)
		if err == nil && len(ops) > bulk.MaxLines {
			t.Errorf("%d operations", len(ops))
		}
	})
}
