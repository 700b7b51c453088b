package config_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// What other engines of this kind get wrong, one by one.
func TestFaultsThatOthersHave(t *testing.T) {
	t.Run("a set has removals, and elements of every scalar type", func(t *testing.T) {
		a := newDoc(t, everyStrategy)
		a.set("ports", "", []any{int64(80), int64(443)})
		a.change("ports", "", []any{int64(8080)}, []any{int64(80)})
		a.want("ports", "", []any{int64(443), int64(8080)})
	})
	t.Run("a replay of the log makes the same state, to the byte", func(t *testing.T) {
		a := newDoc(t, everyStrategy)
		a.set("tags", "", list("x", "y"))
		a.change("tags", "", list("z"), list("x"))
		a.set("plan", "staging", "one")
		again := newReplica("again", 0)
		for _, op := range a.has {
			again.take(op)
		}
		same(t, again.snapshot(), a.snapshot())
	})
	t.Run("a human lowers a max", func(t *testing.T) {
		a := newDoc(t, everyStrategy)
		a.set("weight", "", int64(90))
		op := a.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "weight", Value: int64(80), Override: true})
		a.want("weight", "", int64(80))
		same(t, []any{op.Kind, op.Writes[0].Old, op.Writes[0].Value}, []any{config.SetOverride, 90, 80})
	})
	t.Run("an edit of another human, who saw the first, is no conflict", func(t *testing.T) {
		a := newDoc(t, everyStrategy)
		a.set("plan", "", "one")
		a.set("plan", "", "two") // the state alone knows what was seen, not the names of actors
		a.open(0)
		seen := a.state.Version()
		a.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "plan", Value: "three", Seen: &seen})
		a.open(0)
	})
	t.Run("conflicts merge to the same in any order and grouping", func(t *testing.T) {
		root := newDoc(t, everyStrategy)
		root.do(insertA)
		nodes := []*doc{root.fork("b"), root.fork("c"), root.fork("d")}
		var ops []*config.Op
		for i, n := range nodes {
			n.now += crdt.HLC(3 - i) //nolint:gosec // small
			ops = append(ops, n.set("plan", "", fmt.Sprint(i)))
		}
		states := map[string]bool{}
		for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			n := root.fork("n")
			for _, i := range order {
				n.take(ops[i])
			}
			n.open(1)
			states[n.snapshot()] = true
		}
		if len(states) != 1 {
			t.Errorf("there are %d states", len(states))
		}
	})
	t.Run("a choice and a move do not depend on the order of coming", func(t *testing.T) {
		a := newDoc(t, everyStrategy)
		a.do(&config.Request{Kind: config.InsertEntity, Entity: "pool.x"})
		a.do(&config.Request{Kind: config.InsertEntity, Entity: "pool.y"})
		a.set("plan", "", "zero")
		b, c := a.fork("b"), a.fork("c")
		a.set("plan", "", "one")
		b.set("plan", "", "two")
		a.meet(b)
		a.do(&config.Request{Kind: config.Resolve, Entity: "route.a", Field: "plan", Value: "two"})
		a.do(&config.Request{Kind: config.MoveEntity, Entity: "route.a", Parent: "pool.x"})
		b.do(&config.Request{Kind: config.MoveEntity, Entity: "route.a", Parent: "pool.y"})
		a.meet(b)
		for _, op := range slices.Backward(a.has) {
			c.take(op)
		}
		same(t, c.snapshot(), a.snapshot())
		c.open(0)
	})
	t.Run("a field may come before its entity", func(t *testing.T) {
		a := newDoc(t, everyStrategy)
		b := a.fork("b")
		insert := a.do(insertA)
		set := a.set("path", "", "one")
		b.take(set)
		b.take(insert)
		same(t, b.snapshot(), a.snapshot())
		b.want("path", "", "one")
	})
	t.Run("a strategy may change", func(t *testing.T) {
		a := newDoc(t, everyStrategy)
		a.set("weight", "", int64(90))
		a.do(&config.Request{Kind: config.ChangeSchema, Text: otherStrategies})
		a.set("weight", "", int64(10))
		a.want("weight", "", int64(10))
	})
	t.Run("a clock that is ahead is refused", func(t *testing.T) {
		clock := &crdt.Clock{}
		before := clock.Next()
		if err := clock.Observe(before+crdt.HLC(time.Hour.Microseconds()), 500*time.Millisecond); !errors.Is(err, errkind.Invalid) { //nolint:gosec // small
			t.Errorf("Observe: %v", err)
		}
		if after := clock.Next(); after.Time().Sub(before.Time()) > time.Minute {
			t.Errorf("the clock went from %s to %s", before, after)
		}
	})
	t.Run("an override in the base is a write to the base", func(t *testing.T) {
		a := newDoc(t, everyStrategy)
		a.set("path", "development", "one")
		a.do(&config.Request{Kind: config.Promote, From: "development", To: "production"})
		a.set("path", "", "two")
		a.want("path", "production", "two")
		a.set("path", "production", "three")
		a.want("path", "", "three")
	})
	t.Run("a promotion is one operation, and of all that there is", func(t *testing.T) {
		a := newDoc(t, everyStrategy)
		const many = 12_000
		op := &config.Op{ID: crdt.Dot{Node: "bulk", Seq: 1}, Time: 5000, Kind: config.SetField}
		gen := a.has[0].ID
		for i := range many {
			name := fmt.Sprintf("route.r%d", i)
			op.Writes = append(op.Writes, config.Write{Do: config.Life, Entity: name, Inc: 1})
			if i%2 == 0 {
				op.Writes[len(op.Writes)-1] = config.Write{Do: config.Put, Entity: "route.a", Inc: 1, Field: "labels", Key: fmt.Sprint(i), Env: "staging", Gen: gen, Merge: "map", Value: "v"}
			}
		}
		a.do(insertA)
		a.take(op)
		promoted := a.do(&config.Request{Kind: config.Promote, From: "staging", To: "production", Intent: "all of it"})
		if len(promoted.Writes) < many/2 {
			t.Errorf("it has %d writes", len(promoted.Writes))
		}
		same(t, len(a.state.Diff("staging", "production", config.Filter{})), 0)
	})
}
