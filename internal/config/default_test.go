package config_test

import (
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/crdt"
)

// What a field is by default is where changes begin, and does not come back when the last element goes.
func TestChangesBeginWithTheDefault(t *testing.T) {
	r := newReplica("n1", 0)
	schema := &config.Request{Kind: config.ChangeSchema, Text: `name = "defaults"
[environments]
base = "production"
[entity.route]
fields = [
    { name = "tags", type = "list<string>", merge = "set", default = ["a"] },
    { name = "owners", type = "list<string>", merge = "grow", default = ["a"] },
    { name = "labels", type = "map<string>", default = { a = "1" } },
]`}
	if r.do(schema, "root", 1) == nil {
		_, err := r.state.Plan(schema, crdt.Dot{Node: "x", Seq: 1})
		t.Fatal(err)
	}
	steps := []struct {
		does config.Request
		want string
	}{
		{config.Request{Field: "tags", Add: []any{"b"}}, "{a, b}"},
		{config.Request{Field: "tags", Remove: []any{"a", "b"}}, "{}"},
		{config.Request{Field: "tags", Override: true}, "{a}"},
		{config.Request{Field: "tags", Remove: []any{"a"}}, "{}"},
		{config.Request{Field: "owners", Add: []any{"b"}}, "{a, b}"},
		{config.Request{Field: "labels", Key: "b", Value: "2"}, `{"a":"1","b":"2"}`},
		{config.Request{Field: "labels", Value: map[string]any{}}, `{}`},
	}
	for i, step := range steps {
		q := step.does
		q.Kind, q.Entity = config.SetField, "route.api"
		if r.do(&q, "zara", 10) == nil {
			t.Fatalf("step %d is refused", i)
		}
		if got := shownAs(r.state, q.Field, "production"); got != step.want {
			t.Errorf("step %d: %s is %s, want %s", i, q.Field, got, step.want)
		}
	}
}
