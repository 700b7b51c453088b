package config_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/errkind"
)

// randomly returns a document after some random requests by a few nodes that met.
func randomly(t *testing.T, rt *rapid.T, steps int) *doc {
	t.Helper()
	d := draw(func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") })
	replicas, all := history(d, steps)
	own := &doc{newReplica("own", 0), t, 10_000}
	for _, op := range all {
		own.take(op)
	}
	if own.snapshot() != replicas[0].snapshot() {
		rt.Fatalf("the copy differs")
	}
	return own
}

func values(d *doc, env string) string {
	text := ""
	for _, name := range d.state.Entities("") {
		fields, err := d.state.Entity(name, env)
		text += fmt.Sprintln(name, config.Values(fields), err)
	}
	return text
}

// A write in an environment changes what that one shows and those that inherit from it, and no other.
func TestWritesStayInTheirEnvironment(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := randomly(t, rt, 30)
		a.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "path", Value: "here"})
		env := rapid.SampledFrom([]string{"production", "staging", "development"}).Draw(rt, "env")
		if a.state.Schema().Environment(env) == nil {
			return
		}
		before := map[string]string{}
		for _, e := range a.state.Schema().Environments {
			before[e.Name] = values(a, e.Name)
		}
		d := draw(func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") })
		q := &config.Request{Kind: config.SetField, Entity: "route.a", Env: env, Override: true}
		d.field(q)
		if _, err := a.state.Plan(q, a.has[len(a.has)-1].ID); err != nil {
			return // not of this schema, or takes away what is inherited
		}
		a.do(q)
		below := append(a.state.Schema().Descendants(env), env)
		for _, e := range a.state.Schema().Environments {
			if after := values(a, e.Name); after != before[e.Name] && !slices.Contains(below, e.Name) {
				rt.Fatalf("%+v in %s changed %s from\n%s to\n%s", q, env, e.Name, before[e.Name], after)
			}
		}
	})
}

// What is unset is inherited again; and an environment with a value of its own does not follow those that it inherits from.
func TestUnsetFallsBack(t *testing.T) {
	a := newDoc(t, everyStrategy)
	for field, v := range map[string][3]any{
		"path": {"one", "two", "three"}, "weight": {int64(1), int64(2), int64(3)}, "plan": {"one", "two", "three"}, "tags": {list("x"), list("y"), list("z")},
		"owners": {list("x"), list("y"), list("z")}, "labels": {dict{"k": "1"}, dict{"l": "1"}, dict{"m": "1"}}, "hosts": {list("x"), list("y", "y"), list()},
	} {
		override := func(env string, v any) {
			a.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: field, Env: env, Value: v, Override: true})
		}
		override("", v[0])
		a.want(field, "development", v[0])
		override("staging", v[1])
		a.want(field, "", v[0])
		a.want(field, "development", v[1])
		override("production", v[2]) // the base by its name
		a.want(field, "", v[2])
		a.want(field, "development", v[1])
		override("staging", nil)
		a.want(field, "development", v[2])
		a.want(field, "staging", v[2])
	}
}

// After a promotion the two environments do not differ on what it chose, and the same promotion again writes nothing.
func TestPromotingTwiceIsPromotingOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := randomly(t, rt, 60)
		from := rapid.SampledFrom([]string{"staging", "development"}).Draw(rt, "from")
		to := rapid.SampledFrom([]string{"production", "staging"}).Draw(rt, "to")
		filter := config.Filter{Fields: rapid.SampledFrom([][]string{nil, {"p*", "tags"}}).Draw(rt, "fields")}
		q := &config.Request{Kind: config.Promote, From: from, To: to, Filter: filter, Prune: rapid.Bool().Draw(rt, "prune")}
		before := ""
		if a.state.Schema().Environment(from) != nil {
			before = values(a, from)
		}
		if _, err := a.state.Plan(q, a.has[len(a.has)-1].ID); err != nil {
			return // the source is in doubt
		}
		a.do(q)
		if diff := a.state.Diff(from, to, filter); len(diff) > 0 {
			rt.Fatalf("after the promotion they differ: %+v", diff)
		}
		if after := values(a, from); after != before && filter.Fields == nil && !q.Prune {
			rt.Fatalf("the source was\n%s and is\n%s", before, after)
		}
		if again := a.do(q); len(again.Writes) > 0 {
			rt.Fatalf("the second time writes %+v", again.Writes)
		}
	})
}

func TestPromotionIsRefusedWhileTheSourceIsInDoubt(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.do(&config.Request{Kind: config.InsertEntity, Entity: "route.a"})
	b := a.fork("b")
	a.set("plan", "staging", "one")
	b.set("plan", "staging", "two")
	a.meet(b)
	promote := &config.Request{Kind: config.Promote, From: "staging", To: "production"}
	a.refuse(promote, errkind.Conflict)
	a.do(&config.Request{Kind: config.Promote, From: "staging", To: "production", Filter: config.Filter{Fields: []string{"path"}}}) // not that one
	a.do(&config.Request{Kind: config.Resolve, Entity: "route.a", Field: "plan", Env: "staging", Value: "two"})
	a.set("pool", "staging", "pool.x")
	a.refuse(promote, errkind.Conflict) // there is no pool.x
	a.do(&config.Request{Kind: config.InsertEntity, Entity: "pool.x"})
	seen := a.state.Version()
	a.set("plan", "", "other")
	strict := *promote
	strict.Seen, strict.Strict = &seen, true
	a.refuse(&strict, errkind.Conflict)
	a.do(promote)
	a.want("plan", "", "two")
	a.refuse(&config.Request{Kind: config.Promote, From: "production", To: "staging"}, errkind.Invalid)
	a.do(&config.Request{Kind: config.Promote, From: "production", To: "staging", AnyPath: true})
}

// A promotion of what the target inherits anyway leaves nothing of its own in the target; pruning does the same to the source.
func TestPromotionLeavesNothingRedundant(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("path", "", "one")
	a.set("path", "staging", "two")
	a.set("path", "development", "one")
	a.do(&config.Request{Kind: config.Promote, From: "development", To: "staging", Prune: true})
	a.want("path", "staging", "one")
	a.set("path", "", "three")
	a.want("path", "staging", "three")
	a.want("path", "development", "three")
}

// Sets in the order of their coming are the same sets in another order.
func TestPromotedSetsAreComparedByTheirElements(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("ports", "", []any{int64(2)})
	a.set("ports", "staging", []any{int64(1), int64(2)})
	promote := &config.Request{Kind: config.Promote, From: "staging", To: "production"}
	a.do(promote)
	a.want("ports", "", []any{int64(2), int64(1)})
	if diff := a.state.Diff("staging", "production", config.Filter{}); len(diff) > 0 {
		t.Errorf("they differ: %+v", diff)
	}
}
