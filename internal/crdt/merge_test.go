package crdt_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/crdt"
)

// event is a write of one operation, and how a copy of a type is told of it.
type event struct {
	entry *crdt.Entry
	tell  func(to any, known func(crdt.Dot) bool)
}

// history makes events by some nodes whose clocks differ. Each node has seen some of what there is, and writes what make makes of that.
func history(t *rapid.T, write func(t *rapid.T, e *crdt.Entry, seen []event) event) []event {
	var all []event
	seen := map[string][]event{}
	seq := map[string]uint64{}
	nodes := []string{"a", "b", "c"}
	skew := map[string]int{"a": 0, "b": rapid.IntRange(-5, 5).Draw(t, "skew"), "c": 3}
	for i := range rapid.IntRange(1, 25).Draw(t, "events") {
		n := rapid.SampledFrom(nodes).Draw(t, "node")
		for _, e := range all {
			if !slices.ContainsFunc(seen[n], func(s event) bool { return s.entry == e.entry }) && rapid.Bool().Draw(t, "sees") {
				seen[n] = append(seen[n], e)
			}
		}
		seq[n]++
		by := &crdt.Origin{Dot: crdt.Dot{Node: n, Seq: seq[n]}, Time: crdt.HLC(10 + i + skew[n]), Actor: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "actor")} //nolint:gosec // small
		e := write(t, &crdt.Entry{Origin: by, Value: int64(rapid.IntRange(0, 4).Draw(t, "value"))}, seen[n])
		all = append(all, e)
		seen[n] = append(seen[n], e)
	}
	return all
}

// told returns what a copy shows that was told these events, in their order.
func told(events []event, blank func() any, show func(any) string) string {
	c := blank()
	var come crdt.Dots
	for _, e := range events {
		come.Add(e.entry.Dot)
		e.tell(c, come.Has)
	}
	return show(c)
}

// anyOrder is the law of every type here: copies that were told the same show the same.
func anyOrder(t *rapid.T, all []event, blank func() any, show func(any) string) {
	want := told(all, blank, show)
	for range 3 {
		shuffled := rapid.Permutation(all).Draw(t, "order")
		if got := told(shuffled, blank, show); got != want {
			t.Fatalf("in one order: %s\nin another: %s", want, got)
		}
	}
}

func name(e *crdt.Entry) string {
	if e == nil {
		return "none"
	}
	return fmt.Sprintf("%s=%v", e.Tag(), e.Value)
}

func names(m map[crdt.Tag]*crdt.Entry) string {
	var list []string
	for _, t := range slices.SortedFunc(maps.Keys(m), crdt.Tag.Compare) {
		list = append(list, name(m[t]))
	}
	return strings.Join(list, " ")
}

func compare(a, b any) int {
	x, _ := a.(int64)
	y, _ := b.(int64)
	return cmp.Compare(x, y)
}

// A register in which the last write wins may also be told a write twice.
func TestLWWHasTheLastWrite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := history(t, func(_ *rapid.T, e *crdt.Entry, _ []event) event {
			return event{e, func(c any, _ func(crdt.Dot) bool) { c.(*crdt.LWW).Put(e) }}
		})
		blank, show := func() any { return new(crdt.LWW) }, func(c any) string { return name(c.(*crdt.LWW).Best) }
		anyOrder(t, append(slices.Clone(all), all...), blank, show)
		last := slices.MaxFunc(all, func(a, b event) int { return a.entry.Compare(b.entry) })
		if got := told(all, blank, show); got != name(last.entry) {
			t.Fatalf("%s, want %s", got, name(last.entry))
		}
	})
}

type override struct{ *crdt.Entry }

// extremes makes writes and overrides, each naming the epoch that its node had seen.
func extremes(overrides map[crdt.Dot]override, epochs map[crdt.Dot]crdt.Dot) func(*rapid.T, *crdt.Entry, []event) event {
	return func(t *rapid.T, e *crdt.Entry, seen []event) event {
		if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
			if rapid.IntRange(0, 3).Draw(t, "unset") == 0 {
				e.Value = nil
			}
			overrides[e.Dot] = override{e}
			return event{e, func(c any, _ func(crdt.Dot) bool) { c.(*crdt.Extreme).PutOverride(e) }}
		}
		var last *crdt.Entry
		for _, s := range seen {
			if o, ok := overrides[s.entry.Dot]; ok && (last == nil || last.Compare(o.Entry) < 0) {
				last = o.Entry
			}
		}
		if last != nil {
			epochs[e.Dot] = last.Dot
		}
		return event{e, func(c any, known func(crdt.Dot) bool) { c.(*crdt.Extreme).Put(e, epochs[e.Dot], compare, known) }}
	}
}

// The value is the highest of the last override and of the writes that had seen it; nothing else counts.
func TestExtremeIsMonotoneWithinAnEpochAndOverridesOrderThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		overrides, epochs := map[crdt.Dot]override{}, map[crdt.Dot]crdt.Dot{}
		all := history(t, extremes(overrides, epochs))
		blank := func() any { return new(crdt.Extreme) }
		show := func(c any) string { return name(c.(*crdt.Extreme).Winner(compare)) }
		anyOrder(t, all, blank, show)
		anyOrder(t, append(slices.Clone(all), all...), blank, show)

		var current *crdt.Entry
		for _, o := range overrides {
			if current == nil || current.Compare(o.Entry) < 0 {
				current = o.Entry
			}
		}
		var want any
		if current != nil {
			want = current.Value
		}
		for _, e := range all {
			_, isOverride := overrides[e.entry.Dot]
			epoch := epochs[e.entry.Dot]
			if !isOverride && (current == nil && epoch.IsZero() || current != nil && epoch == current.Dot) && (want == nil || compare(e.entry.Value, want) > 0) {
				want = e.entry.Value
			}
		}
		x := blank().(*crdt.Extreme)
		var come crdt.Dots
		for _, e := range all {
			come.Add(e.entry.Dot)
			e.tell(x, come.Has)
		}
		var got any
		if w := x.Winner(compare); w != nil {
			got = w.Value
		}
		if got != want {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

// One operation may override twice, as one that a broken node made: that is one epoch, in whatever order its writes and others come.
func TestAnOperationBeginsOneEpoch(t *testing.T) {
	by := &crdt.Origin{Dot: crdt.Dot{Node: "a", Seq: 1}, Time: 5}
	after := &crdt.Entry{Origin: &crdt.Origin{Dot: crdt.Dot{Node: "b", Seq: 1}, Time: 6}, Value: int64(9)}
	for _, late := range []bool{true, false} {
		var x crdt.Extreme
		var g crdt.Grow
		if !late {
			x.Put(after, by.Dot, compare, func(crdt.Dot) bool { return false })
			g.Add("9", after, by.Dot, func(crdt.Dot) bool { return false })
		}
		for n := range uint32(2) {
			x.PutOverride(&crdt.Entry{Origin: by, N: n, Value: int64(n)})
			g.PutOverride(&crdt.Entry{Origin: by, N: n, Value: []any{int64(n)}})
		}
		if late {
			x.Put(after, by.Dot, compare, func(crdt.Dot) bool { return true })
			g.Add("9", after, by.Dot, func(crdt.Dot) bool { return true })
		}
		if x.Winner(compare) != after || len(g.Current()) != 1 {
			t.Errorf("late %v: %s, %d elements", late, name(x.Winner(compare)), len(g.Current()))
		}
	}
}

// The siblings are just the writes that no other one names: sequential writes leave one, concurrent ones stay, and a write takes the place of
// what it names and of nothing else.
func TestMVRKeepsWhatNobodySaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		named := map[crdt.Tag]bool{}
		all := history(t, func(t *rapid.T, e *crdt.Entry, seen []event) event {
			var tags []crdt.Tag
			for _, s := range seen {
				if rapid.IntRange(0, 4).Draw(t, "names") > 0 {
					tags = append(tags, s.entry.Tag())
					named[s.entry.Tag()] = true
				}
			}
			return event{e, func(c any, known func(crdt.Dot) bool) { c.(*crdt.MVR).Put(e, tags, known) }}
		})
		blank := func() any { return new(crdt.MVR) }
		show := func(c any) string {
			r := c.(*crdt.MVR)
			return fmt.Sprintf("%s | %d wait | agreed %s | last %s", names(r.Siblings), len(r.Gone), name(r.Agreed), name(r.Last()))
		}
		anyOrder(t, all, blank, show)
		want := map[crdt.Tag]*crdt.Entry{}
		for _, e := range all {
			if !named[e.entry.Tag()] {
				want[e.entry.Tag()] = e.entry
			}
		}
		if got := told(all, blank, show); !strings.HasPrefix(got, names(want)+" | 0 wait") {
			t.Fatalf("%s, want %s", got, names(want))
		}
	})
}

// An element is there just if one of its additions is that no removal names: an addition that a removal had not seen wins over it, and one that it
// had seen does not come back.
func TestORSetAddsWinAndRemovalsOfWhatWasSeenStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		adds, removed := map[crdt.Tag]string{}, map[crdt.Tag]bool{}
		all := history(t, func(t *rapid.T, e *crdt.Entry, seen []event) event {
			key := fmt.Sprint(e.Value)
			if rapid.Bool().Draw(t, "add") {
				adds[e.Tag()] = key
				return event{e, func(c any, _ func(crdt.Dot) bool) { c.(*crdt.ORSet).Add(key, e) }}
			}
			var tags []crdt.Tag
			for _, s := range seen {
				if adds[s.entry.Tag()] == key {
					tags = append(tags, s.entry.Tag())
					removed[s.entry.Tag()] = true
				}
			}
			return event{e, func(c any, known func(crdt.Dot) bool) { c.(*crdt.ORSet).Remove(key, tags, known) }}
		})
		blank := func() any { return new(crdt.ORSet) }
		show := func(c any) string {
			s := c.(*crdt.ORSet)
			var list []string
			for _, key := range slices.Sorted(maps.Keys(s.Elems)) {
				list = append(list, key+":"+names(s.Elems[key]))
			}
			return fmt.Sprintf("%s | %d wait", list, len(s.Removed))
		}
		anyOrder(t, all, blank, show)
		want := map[string]map[crdt.Tag]*crdt.Entry{}
		for _, e := range all {
			key, isAdd := adds[e.entry.Tag()]
			if !isAdd || removed[e.entry.Tag()] {
				continue
			}
			if want[key] == nil {
				want[key] = map[crdt.Tag]*crdt.Entry{}
			}
			want[key][e.entry.Tag()] = e.entry
		}
		if got := told(all, blank, show); got != show(&crdt.ORSet{Elems: want}) {
			t.Fatalf("%s, want %s", got, show(&crdt.ORSet{Elems: want}))
		}
	})
}

// A removal of one element that names an addition of another one, as a broken node may send it, has no effect in either order.
func TestORSetRemovesOnlyTheElementThatItNames(t *testing.T) {
	e := &crdt.Entry{Origin: &crdt.Origin{Dot: crdt.Dot{Node: "a", Seq: 1}}, Value: "x"}
	for _, first := range []bool{true, false} {
		var s crdt.ORSet
		remove := func(come bool) { s.Remove("y", []crdt.Tag{e.Tag()}, func(crdt.Dot) bool { return come }) }
		if first {
			remove(false)
		}
		s.Add("x", e)
		if !first {
			remove(true)
		}
		if s.First("x") != e {
			t.Errorf("removal first %v: x is gone", first)
		}
	}
}

// A set that only grows has all elements of the current epoch, each by its first addition, until an override takes their place.
func TestGrowHasAllOfItsEpoch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		overrides, epochs := map[crdt.Dot]override{}, map[crdt.Dot]crdt.Dot{}
		all := history(t, func(t *rapid.T, e *crdt.Entry, seen []event) event {
			extremes(overrides, epochs)(t, e, seen) // the same epochs
			if _, ok := overrides[e.Dot]; ok {
				return event{e, func(c any, _ func(crdt.Dot) bool) { c.(*crdt.Grow).PutOverride(e) }}
			}
			return event{e, func(c any, known func(crdt.Dot) bool) {
				c.(*crdt.Grow).Add(fmt.Sprint(e.Value), e, epochs[e.Dot], known)
			}}
		})
		blank := func() any { return new(crdt.Grow) }
		show := func(c any) string {
			g := c.(*crdt.Grow)
			var list []string
			for _, key := range slices.Sorted(maps.Keys(g.Current())) {
				list = append(list, name(g.Current()[key]))
			}
			return fmt.Sprint(name(g.Override), list)
		}
		anyOrder(t, all, blank, show)
		anyOrder(t, append(slices.Clone(all), all...), blank, show)
	})
}

// Moves make the same trees everywhere, and never a cycle; and looking in between changes nothing.
func TestForestHasNoCyclesAndIsTheSameEverywhere(t *testing.T) {
	children := []string{"p", "q", "r", "s"}
	rapid.Check(t, func(t *rapid.T) {
		gone := rapid.SampledFrom(append(children, "none")).Draw(t, "gone")
		counts := func(m *crdt.Move) bool { return m.Child != gone }
		all := history(t, func(t *rapid.T, e *crdt.Entry, _ []event) event {
			m := &crdt.Move{Origin: e.Origin, Child: rapid.SampledFrom(children).Draw(t, "child"), Parent: rapid.SampledFrom(append(children, "")).Draw(t, "parent")}
			return event{e, func(c any, _ func(crdt.Dot) bool) { c.(*crdt.Forest).Put(m, counts) }}
		})
		show := func(c any) string {
			f := c.(*crdt.Forest)
			var text strings.Builder
			for _, child := range children {
				m := f.Place(child, counts)
				if m == nil {
					continue
				}
				fmt.Fprintln(&text, child, m.Parent, m.Dot)
				if !slices.Contains(f.Below(m.Parent, counts), child) {
					t.Fatalf("%s is not below %q", child, m.Parent)
				}
				up := child
				for range children {
					if m := f.Place(up, counts); m != nil {
						up = m.Parent
					}
				}
				if m := f.Place(up, counts); up != "" && m != nil && m.Parent != "" {
					t.Fatalf("a cycle above %s", child)
				}
			}
			for _, parent := range append(children, "") {
				for _, child := range f.Below(parent, counts) {
					if m := f.Place(child, counts); m == nil || m.Parent != parent {
						t.Fatalf("%s is below %q, and its place is %v", child, parent, m)
					}
				}
			}
			return text.String()
		}
		anyOrder(t, all, func() any { return new(crdt.Forest) }, show)
		looking := new(crdt.Forest)
		for _, e := range all {
			e.tell(looking, nil)
			show(looking)
		}
		if got, want := show(looking), told(all, func() any { return new(crdt.Forest) }, show); got != want {
			t.Fatalf("having looked: %s\nwant %s", got, want)
		}
		again := crdt.Replanted(looking.Moves)
		if got, want := show(&again), show(looking); got != want {
			t.Fatalf("replanted: %s\nwant %s", got, want)
		}
	})
}
