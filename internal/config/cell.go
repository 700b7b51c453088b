package config

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
)

// place is where a cell is in its incarnation. Writes of different strategies never meet in one cell: gen says which field of which
// schema they meant, and the strategy is here besides, so that a node that got that wrong harms nobody.
type place struct {
	Field string
	Env   string
	Gen   crdt.Dot
	Merge schema.Merge
}

// cell has what was written to a field of an entity in one environment. Of its parts those are there that its strategy needs.
type cell struct {
	last *crdt.LWW        // lww; of set and map: whether the environment has a value of its own
	ext  *crdt.Extreme    // max, min
	set  *crdt.ORSet      // set
	cut  *crdt.LWW        // set: the latest removal, of which the set itself keeps nothing
	grow *crdt.Grow       // grow
	mvr  *crdt.MVR        // review, and other strategies with conflict = "review"
	keys map[string]*cell // map
}

// tell tells a cell of a write.
func (c *cell) tell(w *Write, e *crdt.Entry, known func(crdt.Dot) bool) {
	if w.Merge == schema.Review || w.Reviewed {
		if c.mvr == nil {
			c.mvr = new(crdt.MVR)
		}
		c.mvr.Put(e, w.Seen, known)
	}
	if w.Do == Note {
		return
	}
	switch w.Merge {
	case schema.LWW:
		c.register().Put(e)
	case schema.Max, schema.Min:
		if c.ext == nil {
			c.ext = new(crdt.Extreme)
		}
		if w.Do == Override {
			c.ext.PutOverride(e)
		} else {
			c.ext.Put(e, w.Epoch, order(w.Merge), known)
		}
	case schema.Set:
		c.tellSet(w, e, known)
	case schema.Grow:
		if c.grow == nil {
			c.grow = new(crdt.Grow)
		}
		if w.Do == Override {
			c.grow.PutOverride(e)
		} else {
			c.grow.Add(elementKey(w.Value), e, w.Epoch, known)
		}
	case schema.PerKey, mapOfMax, mapOfMin:
		c.tellMap(w, e, known)
	case schema.Review: // above
	}
}

func (c *cell) register() *crdt.LWW {
	if c.last == nil {
		c.last = new(crdt.LWW)
	}
	return c.last
}

func (c *cell) tellSet(w *Write, e *crdt.Entry, known func(crdt.Dot) bool) {
	if c.set == nil {
		c.set = new(crdt.ORSet)
	}
	switch w.Do {
	case Add:
		c.set.Add(elementKey(w.Value), e)
	case Remove:
		c.set.Remove(elementKey(w.Value), w.Seen, known)
		if c.cut == nil {
			c.cut = new(crdt.LWW)
		}
		c.cut.Put(e)
	default:
		c.register().Put(e)
	}
}

func (c *cell) tellMap(w *Write, e *crdt.Entry, known func(crdt.Dot) bool) {
	if w.Key == "" {
		c.register().Put(e)
		return
	}
	if c.keys == nil {
		c.keys = map[string]*cell{}
	}
	k := c.keys[w.Key]
	if k == nil {
		k = new(cell)
		c.keys[w.Key] = k
	}
	of := *w
	of.Merge, of.Reviewed = ofKeys(w.Merge), false
	k.tell(&of, e, known)
}

// present reports whether the environment has a value of its own, or else inherits.
func (c *cell) present(f *schema.Field) bool {
	switch {
	case c == nil:
		return false
	case c.mvr != nil && f.Merge == schema.Review:
		return c.scalar(f) != nil
	case c.set != nil && len(c.set.Elems) > 0, c.grow != nil && (len(c.grow.Current()) > 0 || c.grow.Override != nil && c.grow.Override.Value != nil):
		return true
	case c.ext != nil:
		return valued(c.ext.Winner(order(f.Merge)))
	}
	for _, k := range c.keys {
		if e := k.winner(ofKeys(strategy(f))); valued(e) || f.Overlay == schema.Union && c.hides(e) {
			return true
		}
	}
	return c.owned()
}

// owned reports whether somebody said of a set or map that the environment has its own, whatever is left in it.
func (c *cell) owned() bool { return c != nil && c.last != nil && valued(c.last.Best) }

// hides reports whether a key of a map was taken away by itself, which also holds against what is merged with the map. Where the whole map was
// unset or emptied later, it does not any more.
func (c *cell) hides(key *crdt.Entry) bool {
	return key != nil && key.Value == nil && (c.last == nil || c.last.Best == nil || key.Compare(c.last.Best) > 0)
}

func valued(e *crdt.Entry) bool { return e != nil && e.Value != nil }

// winner returns the write that made a cell's value, of those strategies where one did.
func (c *cell) winner(m schema.Merge) *crdt.Entry {
	switch {
	case c == nil:
		return nil
	case c.ext != nil:
		return c.ext.Winner(order(m))
	case c.last != nil:
		return c.last.Best
	default:
		return nil
	}
}

// scalar returns the write that made the value of a field whose strategy takes one; nil if the cell has none.
func (c *cell) scalar(f *schema.Field) *crdt.Entry {
	if f.Merge != schema.Review {
		return c.winner(f.Merge)
	}
	if c == nil || c.mvr == nil {
		return nil
	}
	e := c.mvr.Last()
	if f.OnConflict == schema.Hold && c.conflicted() {
		e = c.mvr.Agreed
	}
	if !valued(e) {
		return nil
	}
	return e
}

// conflicted reports whether writes that had not seen each other want different values.
func (c *cell) conflicted() bool {
	if c == nil || c.mvr == nil || len(c.mvr.Siblings) < 2 {
		return false
	}
	var first *crdt.Entry
	for _, e := range c.mvr.Siblings {
		if first == nil {
			first = e
		} else if !value.Equal(first.Value, e.Value) {
			return true
		}
	}
	return false
}

// elements returns the writes that put a set's or grow's elements there, by the elements' keys.
func (c *cell) elements() map[string]*crdt.Entry {
	m := map[string]*crdt.Entry{}
	switch {
	case c == nil:
	case c.set != nil:
		for key := range c.set.Elems {
			m[key] = c.set.First(key)
		}
	case c.grow != nil:
		if o := c.grow.Override; o != nil {
			list, _ := o.Value.([]any)
			for _, v := range list {
				m[elementKey(v)] = &crdt.Entry{Origin: o.Origin, N: o.N, Value: v}
			}
		}
		for key, e := range c.grow.Current() {
			if m[key] == nil {
				m[key] = e
			}
		}
	}
	return m
}

// elementKey is what an element is known by: equal elements have equal keys.
func elementKey(v any) string { return string(value.Encode(v)) }

// order returns the comparison of a strategy: what is greater wins.
func order(m schema.Merge) func(a, b any) int {
	if m == schema.Min || m == mapOfMin {
		return func(a, b any) int { return Magnitude(b, a) }
	}
	return Magnitude
}

// Magnitude compares numbers and durations by their size, in a total order over whatever other nodes may have written: what is
// neither is below all that is, and ordered by its text.
func Magnitude(a, b any) int {
	x, y := sizeOf(a), sizeOf(b)
	if x.known != y.known {
		return cmp.Compare(x.known, y.known)
	}
	if x.known == 0 {
		return bytes.Compare(value.Encode(a), value.Encode(b))
	}
	if c := cmp.Compare(x.float, y.float); c != 0 {
		return c
	}
	return cmp.Compare(x.rest, y.rest)
}

// size is a number as the nearest float and what that lacks: together they compare 64-bit integers and floats exactly.
type size struct {
	known int // 0: no number, 1: one
	float float64
	rest  int64
}

func sizeOf(v any) size {
	switch v := v.(type) {
	case int64:
		f := float64(v)
		if f >= math.MaxInt64 {
			return size{1, f, v - math.MaxInt64 - 1}
		}
		return size{1, f, v - int64(f)}
	case float64:
		return size{1, v, 0}
	case string:
		if d, err := schema.ParseDuration(v); err == nil {
			return sizeOf(int64(d / time.Nanosecond))
		}
	}
	return size{}
}

// sorted returns elements as a set shows them: numbers by size, then texts; or in the order of their writing.
func sorted(m map[string]*crdt.Entry, byInsertion bool) []*crdt.Entry {
	list := make([]*crdt.Entry, 0, len(m))
	for _, e := range m {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *crdt.Entry) int {
		if byInsertion {
			if c := a.Compare(b); c != 0 {
				return c
			}
		}
		_, x := a.Value.(string)
		_, y := b.Value.(string)
		if !x && !y {
			if c := Magnitude(a.Value, b.Value); c != 0 {
				return c
			}
		}
		return bytes.Compare(value.Encode(a.Value), value.Encode(b.Value))
	})
	return list
}

// value returns what a cell alone makes of its field; nil if it has no value.
func (c *cell) value(f *schema.Field) any {
	if !c.present(f) {
		return nil
	}
	r := Resolved{}
	switch f.Merge {
	case schema.Set, schema.Grow:
		r.elements([]layer{{cell: c}}, f)
	case schema.PerKey:
		r.keys([]layer{{cell: c}}, f)
	default:
		r.Value = c.scalar(f).Value
	}
	return r.Value
}

// entries returns the writes that a cell shows something of.
func (c *cell) entries() []*crdt.Entry {
	if c == nil {
		return nil
	}
	var all []*crdt.Entry
	if c.last != nil && c.last.Best != nil {
		all = append(all, c.last.Best)
	}
	if c.cut != nil {
		all = append(all, c.cut.Best)
	}
	if c.ext != nil {
		for _, e := range []*crdt.Entry{c.ext.Override, c.ext.Current()} {
			if e != nil {
				all = append(all, e)
			}
		}
	}
	if c.mvr != nil {
		all = append(all, c.mvr.Sorted()...)
	}
	for _, e := range c.elements() {
		all = append(all, e)
	}
	for _, key := range keysOf(c.keys) {
		all = append(all, c.keys[key].entries()...)
	}
	slices.SortFunc(all, (*crdt.Entry).Compare)
	return slices.CompactFunc(all, func(a, b *crdt.Entry) bool { return a.Tag() == b.Tag() })
}
