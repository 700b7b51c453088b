package config_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/crdt"
)

// What the check finds is a function of the state alone: a state that is asked after each operation says the same as one that is asked once.
func TestViolationsAreAFunctionOfTheState(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := draw(func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") })
		_, all := history(d, 30)
		asked := config.NewState()
		for i, op := range all {
			asked.Apply(op)
			once := config.NewState()
			for _, op := range all[:i+1] {
				once.Apply(op)
			}
			if got, want := shown(asked), shown(once); got != want {
				rt.Fatalf("asked after each operation:\n%s\nasked once:\n%s", got, want)
			}
		}
	})
}

func TestViolations(t *testing.T) {
	a := newDoc(t, `
name = "rules"
[environments]
base = "production"
overlays = [ { name = "staging", inherits = "production" } ]
[entity.pool]
fields = [ { name = "size", type = "int" } ]
[entity.route]
fields = [
    { name = "path",  type = "string", required = true, unique = true },
    { name = "pools", type = "list<ref<pool>>", merge = "set" },
]
`)
	rules := func(want ...string) {
		t.Helper()
		got := []string{}
		for _, v := range a.state.Violations() {
			got = append(got, v.Rule+" "+v.Entity+"@"+v.Env)
		}
		same(t, got, want)
	}
	route := func(id, field, env string, v any) {
		a.do(&config.Request{Kind: config.SetField, Entity: "route." + id, Field: field, Env: env, Value: v})
	}
	rules()
	a.do(&config.Request{Kind: config.InsertEntity, Entity: "route.a"})
	rules("required route.a@production", "required route.a@staging")
	route("a", "path", "staging", "/a")
	rules("required route.a@production")
	route("a", "path", "", "/a")
	rules()
	route("b", "path", "", "/b")
	route("b", "path", "staging", "/a")
	rules("unique route.a@staging", "unique route.b@staging")
	route("b", "path", "staging", nil)
	a.do(&config.Request{Kind: config.InsertEntity, Entity: "pool.x"})
	route("a", "pools", "", list("pool.x"))
	rules()
	a.do(&config.Request{Kind: config.RemoveEntity, Entity: "pool.x"})
	rules("ref route.a@production", "ref route.a@staging")
	if by := a.state.Violations()[0].By; len(by) != 1 || by[0].Dot != (crdt.Dot{Node: "a", Seq: 9}) {
		t.Errorf("it names %+v", by)
	}
	a.do(&config.Request{Kind: config.InsertEntity, Entity: "pool.x"})
	rules()
}
