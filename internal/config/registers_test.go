package config_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/errkind"
)

// Within an epoch a max only rises and a min only falls, whoever writes what and sees it when.
func TestMaxRisesAndMinFalls(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := newDoc(t, everyStrategy)
		nodes := []*doc{a, a.fork("b"), a.fork("c")}
		highest := int64(0)
		for range rapid.IntRange(1, 15).Draw(rt, "writes") {
			n := nodes[rapid.IntRange(0, 2).Draw(rt, "node")]
			v := rapid.Int64Range(1, 100).Draw(rt, "v")
			before, _ := n.state.Get("route.a", "weight", "")
			n.set("weight", "", v)
			after := n.get("weight", "").Value.(int64)
			if old, ok := before.Value.(int64); ok && after < old {
				rt.Fatalf("%d after %d", after, old)
			}
			highest = max(highest, v)
			if rapid.IntRange(0, 3).Draw(rt, "meet") == 0 {
				n.meet(nodes[rapid.IntRange(0, 2).Draw(rt, "other")])
			}
		}
		a.meet(nodes[1])
		a.meet(nodes[2])
		a.want("weight", "", highest)
	})
}

// What somebody lowered stays lowered against writes that were under way, and rises again by those that follow.
func TestOverrideIsNotUndoneByWritesThatHadNotSeenIt(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("weight", "", int64(90))
	scaler := a.fork("scaler")
	stale := a.state.Version()
	lower := a.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "weight", Value: int64(80), Override: true})
	scaler.set("weight", "", int64(95)) // under way on another node
	a.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "weight", Value: int64(97), Seen: &stale})
	a.want("weight", "", int64(80))
	a.meet(scaler)
	a.want("weight", "", int64(80))
	same(t, a.by("weight", ""), []string{lower.ID.String()})
	scaler.set("weight", "", int64(85))
	a.meet(scaler)
	a.want("weight", "", int64(85))
	a.refuse(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "weight"}, errkind.Invalid)
	a.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "weight", Override: true})
	a.want("weight", "", nil)
	a.set("weight", "", int64(3))
	a.want("weight", "", int64(3))
}

// To take away what is not there is no override, and begins no epoch.
func TestUnsettingNothingOverridesNothing(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("path", "", "one")
	b := a.fork("b")
	for _, field := range []string{"weight", "timeout", "owners"} {
		if op := a.set(field, "", nil); len(op.Writes) != 0 {
			t.Errorf("%s: %+v", field, op.Writes)
		}
	}
	b.set("weight", "", int64(5))
	a.meet(b)
	a.want("weight", "", int64(5))
}

func TestExtremesOfDurationsAndWideNumbers(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("timeout", "", "90s")
	a.set("timeout", "", "1h")
	a.set("timeout", "", "2m")
	a.want("timeout", "", "1m30s")
	a.set("weight", "", int64(-1<<63))
	a.set("weight", "", int64(1<<63-2))
	a.set("weight", "", int64(1<<63-1)) // the nearest float is the same
	a.want("weight", "", int64(1<<63-1))
}

// Two overrides at once: the later one's epoch counts, with what followed on it alone.
func TestConcurrentOverridesBecomeOneAfterTheOther(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("weight", "", int64(90))
	b := a.fork("b")
	override := func(d *doc, v int64) {
		d.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "weight", Value: v, Override: true})
	}
	override(a, 50)
	a.set("weight", "", int64(60))
	b.now += 10
	override(b, 40)
	b.set("weight", "", int64(45))
	a.meet(b)
	a.want("weight", "", int64(45))
}

// Sequential edits never wait for a choice, whoever makes them; and a chain of them leaves one value.
func TestReviewOfSeenEditsHasNoConflict(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := newDoc(t, everyStrategy)
		nodes := []*doc{a, a.fork("b")}
		for range rapid.IntRange(1, 10).Draw(rt, "edits") {
			n := nodes[rapid.IntRange(0, 1).Draw(rt, "node")]
			v := rapid.SampledFrom([]string{"one", "two", "three"}).Draw(rt, "v")
			n.set("plan", "", v)
			n.set("note", "", v)
			n.set("watched", "", list(v))
			n.key("checked", "", "k", v)
			a.meet(nodes[1])
			a.want("plan", "", v)
			// watched is blind: a write that does not say what it saw has seen nothing.
			for _, c := range a.state.Conflicts() {
				if c.Field != "watched" {
					rt.Fatalf("%+v", c)
				}
			}
		}
	})
}

// Edits that had not seen each other wait for a choice just if they differ: of every field that is reviewed, whatever its strategy.
func TestReviewOfUnseenEditsWaitsJustIfTheyDiffer(t *testing.T) {
	fields := map[string][2]any{
		"plan": {"one", "two"}, "quota": {int64(1), int64(2)}, "note": {"one", "two"}, "share": {0.5, 0.25},
		"watched": {list("x", "y"), list("z")}, "checked": {dict{"k": "1"}, dict{"k": "2", "l": "1"}},
	}
	for field, values := range fields {
		t.Run(field, func(t *testing.T) {
			for i, want := range []int{0, 1} {
				a := newDoc(t, everyStrategy)
				a.do(&config.Request{Kind: config.InsertEntity, Entity: "route.a"})
				b := a.fork("b")
				a.set(field, "", values[0])
				b.set(field, "", values[i])
				a.meet(b)
				a.open(want)
				if got := a.get(field, "").Conflict; got != (want == 1) {
					t.Errorf("conflict %v", got)
				}
			}
		})
	}
}

// On one node the same is so by what the actor says to have seen.
func TestReviewGoesByWhatTheActorSaw(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("plan", "", "one")
	seen := a.state.Version()
	a.set("plan", "", "two")
	edit := &config.Request{Kind: config.SetField, Entity: "route.a", Field: "plan", Value: "three", Seen: &seen}
	strict := *edit
	strict.Strict = true
	a.refuse(&strict, errkind.Conflict)
	a.do(edit)
	a.open(1)
	a.want("plan", "", "three")
}

// A choice clears what its maker saw. A write that he had not seen opens it again, and so does another one's other choice.
func TestResolveClearsJustWhatItsMakerSaw(t *testing.T) {
	for field, values := range map[string][]any{
		"plan": {"one", "two", "three", "four"}, "note": {"one", "two", "three", "four"}, "share": {0.5, 0.75, 0.25, 1.5},
		"watched": {list("x"), list("y"), list("x", "z"), list("w")},
		"checked": {dict{"k": "1"}, dict{"k": "2"}, dict{"k": "3", "l": "1"}, dict{"m": "1"}},
	} {
		t.Run(field, func(t *testing.T) {
			resolve := func(v any) *config.Request {
				return &config.Request{Kind: config.Resolve, Entity: "route.a", Field: field, Value: v}
			}
			a := newDoc(t, everyStrategy)
			a.do(&config.Request{Kind: config.InsertEntity, Entity: "route.a"})
			a.refuse(resolve(values[0]), errkind.NotFound)
			b, late := a.fork("b"), a.fork("late")
			a.set(field, "", values[0])
			b.set(field, "", values[1])
			late.set(field, "", values[3])
			a.meet(b)
			a.open(1)
			a.do(resolve(values[2]))
			a.open(0)
			a.want(field, "", values[2])
			a.meet(late)
			a.open(1)
			a.meet(b)
			a.do(resolve(values[0]))
			b.do(resolve(values[1]))
			b.open(0)
			a.meet(b)
			a.open(1)
			a.do(resolve(values[1]))
			a.open(0)
			a.want(field, "", values[1])
		})
	}
}

// That a write says nothing of what it saw makes a conflict of it, where the schema wants that, and no other write.
func TestBlindWritesConflictAndDoTheirWork(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("watched", "", list("x", "y"))
	a.change("watched", "", nil, list("x"))
	a.want("watched", "", list("y"))
	a.open(1)
	a.do(&config.Request{Kind: config.Resolve, Entity: "route.a", Field: "watched", Value: list("y")})
	a.open(0)
	seen := a.state.Version()
	a.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: "watched", Value: list("z"), Seen: &seen})
	a.open(0)
	a.set("watched", "staging", list("w"))
	a.do(&config.Request{Kind: config.Promote, From: "staging", To: "production", Prune: true})
	a.want("watched", "", list("w"))
	a.open(0)
}

// Programs that write without looking do not fill a field with siblings: the same value is there once, and at some number of others it is enough.
func TestBlindWritesDoNotPileUp(t *testing.T) {
	a := newDoc(t, everyStrategy)
	for range 3 {
		a.set("watched", "", list("same"))
		a.open(0)
	}
	write := func(i int) *config.Request {
		return &config.Request{Kind: config.SetField, Entity: "route.a", Field: "watched", Value: list(fmt.Sprint(i))}
	}
	for i := range config.MaxSiblings - 1 {
		a.do(write(i))
	}
	same(t, len(a.state.Conflicts()[0].Writes), config.MaxSiblings)
	a.refuse(write(1000), errkind.Conflict)
	a.do(&config.Request{Kind: config.Resolve, Entity: "route.a", Field: "watched", Value: list("x")})
	a.open(0)
}

// While a choice waits, the value is the last write's, or with hold that from before.
func TestHoldKeepsTheValueFromBefore(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("plan", "", "before")
	a.set("quota", "", int64(1))
	b := a.fork("b")
	for _, d := range []*doc{a, b} {
		d.set("plan", "", "by "+d.name)
		d.set("quota", "", int64(len(d.name))+map[string]int64{"a": 1, "b": 2}[d.name])
	}
	a.meet(b)
	a.open(2)
	a.want("plan", "", "by b")
	a.want("quota", "", int64(1))
	a.do(&config.Request{Kind: config.Resolve, Entity: "route.a", Field: "quota", Value: int64(3)})
	a.want("quota", "", int64(3))
}

// A strict write is refused when anything was written to its cell since, a removal from a set too.
func TestStrictSeesEveryChange(t *testing.T) {
	a := newDoc(t, everyStrategy)
	a.set("tags", "", list("x", "y"))
	a.set("labels", "", dict{"k": "1"})
	seen := a.state.Version()
	strict := func(field string, v any) *config.Request {
		return &config.Request{Kind: config.SetField, Entity: "route.a", Field: field, Value: v, Seen: &seen, Strict: true}
	}
	a.change("tags", "", nil, list("x"))
	a.key("labels", "", "k", nil)
	a.refuse(strict("tags", list("y", "z")), errkind.Conflict)
	a.refuse(strict("labels", dict{"l": "1"}), errkind.Conflict)
	seen = a.state.Version()
	a.do(strict("tags", list("y", "z")))
}
