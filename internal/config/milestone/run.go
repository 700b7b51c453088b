package milestone

import (
	"fmt"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/crdt"
)

// run is the writes of one actor to one field of strategy max or min, since it was last overridden, for one reason. An autoscaler makes
// thousands of them between two milestones, of which one counts: they are told in one line, in the place of the first one, so that what
// others did is told too.
type run struct {
	first, last *config.Op // in the total order
	count       int
	best        two // by their values
	high, low   two // by what was there before them
}

// two are the first two of some operations, by an order.
type two struct{ a, b *config.Op }

func (t *two) add(op *config.Op, before func(x, y *config.Op) bool) {
	switch {
	case t.a == nil || before(op, t.a):
		t.a, t.b = op, t.a
	case t.b == nil || before(op, t.b):
		t.b = op
	}
}

// without returns the first of those that are not op.
func (t *two) without(op *config.Op) *config.Op {
	if t.a == op {
		return t.b
	}
	return t.a
}

// runKey is what the writes of a run have in common.
type runKey struct {
	actor config.Actor
	address
	why   string
	epoch crdt.Dot
}

// maxRuns is how many runs are kept. If there are more, operations are told one by one.
const maxRuns = 10_000

// runOf returns the run that an operation belongs to, if it is one that can be told with others.
func runOf(op *config.Op) (runKey, bool) {
	if op.Kind != config.SetField && op.Kind != config.SetOverride || len(op.Writes) != 1 {
		return runKey{}, false
	}
	w := &op.Writes[0]
	if w.Do != config.Put || w.Merge != schema.Max && w.Merge != schema.Min || w.Value == nil || w.Reviewed {
		return runKey{}, false
	}
	why := op.Intent
	if why == "" {
		why = op.Via
	}
	return runKey{op.Actor, address{Entity: w.Entity, Field: w.Field, Env: w.Env}, why, w.Epoch}, true
}

// add takes one more operation, in any order.
func (r *run) add(op *config.Op) {
	r.count++
	if r.first == nil || compareOps(op, r.first) < 0 {
		r.first = op
	}
	if r.last == nil || compareOps(op, r.last) > 0 {
		r.last = op
	}
	by := func(sign int, v func(w *config.Write) any) func(x, y *config.Op) bool {
		return func(x, y *config.Op) bool {
			c := sign * extreme(&x.Writes[0], v(&x.Writes[0]), v(&y.Writes[0]))
			return c > 0 || c == 0 && compareOps(x, y) < 0
		}
	}
	value := func(w *config.Write) any { return w.Value }
	old := func(w *config.Write) any { return w.Old }
	r.best.add(op, by(1, value))
	r.high.add(op, by(1, old))
	r.low.add(op, by(-1, old))
}

// extreme compares two values by a write's strategy: what is greater counts.
func extreme(w *config.Write, a, b any) int {
	if w.Merge == schema.Min {
		return config.Magnitude(b, a)
	}
	return config.Magnitude(a, b)
}

// lines tells the run. after returns what a field had after an operation, if that is known.
func (r *run) lines(after func(op *config.Op) (any, bool)) []Line {
	if r.count == 1 {
		lines := linesOf(r.first)
		if w, ok := beaten(r.first); ok && len(lines) == 1 {
			// An environment's first value takes the place of what it inherited, also if that was greater.
			if now, known := after(r.first); known && extreme(w, now, w.Old) >= 0 {
				lines[0].Change = fmt.Sprintf("stays %s, %s written", valueText(w.Old), valueText(w.Value))
			}
		}
		return lines
	}
	c := changesOf(r.first)[0]
	change := fmt.Sprintf("stays %s, %d writes", valueText(r.last.Writes[0].Old), r.count)
	if r.took() {
		change = fmt.Sprintf("%s → %s by %d writes", valueText(c.old), valueText(r.best.a.Writes[0].Value), r.count)
	}
	return []Line{{label(r.first.Actor), c.path(), change, why(r.first, false)}}
}

// beaten returns the one write of an operation to a field of strategy max or min that had a better value.
func beaten(op *config.Op) (*config.Write, bool) {
	if _, ok := runOf(op); !ok {
		return nil, false
	}
	w := &op.Writes[0]
	return w, w.Old != nil && extreme(w, w.Old, w.Value) > 0
}

// nexts finds, for the operations of runs that have one, what their fields had after them: before the next operation that is known, or at the end.
func nexts(told []*run, final func(a address) (any, bool)) func(op *config.Op) (any, bool) {
	at := map[address][]*config.Op{}
	for _, r := range told {
		if _, ok := beaten(r.first); ok && r.count == 1 {
			at[addressOf(&r.first.Writes[0])] = nil
		}
	}
	for _, r := range told {
		for _, op := range []*config.Op{r.first, r.last} {
			for i := 0; op != nil && i < len(op.Writes); i++ {
				if a := addressOf(&op.Writes[i]); op.Writes[i].Do != config.Note {
					if list, wanted := at[a]; wanted {
						at[a] = append(list, op)
					}
				}
			}
		}
	}
	return func(op *config.Op) (any, bool) {
		a := addressOf(&op.Writes[0])
		var next *config.Op
		for _, other := range at[a] {
			if compareOps(other, op) > 0 && (next == nil || compareOps(other, next) < 0) {
				next = other
			}
		}
		if next == nil {
			return final(a)
		}
		for i := range next.Writes {
			if w := &next.Writes[i]; addressOf(w) == a {
				return w.Old, w.Old != nil
			}
		}
		return nil, false
	}
}

func addressOf(w *config.Write) address { return address{w.Entity, w.Field, w.Key, w.Env} }

// took reports whether the run's best value became the field's. A write has only what was there before it. But writes that count have made
// what was there before a later one as good as they are; those that had not seen an override have not.
func (r *run) took() bool {
	w := &r.last.Writes[0]
	best, old := r.best.a.Writes[0].Value, r.first.Writes[0].Old
	high, low := r.high.without(r.first).Writes[0].Old, r.low.without(r.first).Writes[0].Old
	switch {
	case extreme(w, high, r.best.without(r.last).Writes[0].Value) < 0:
		return false
	case old == nil || extreme(w, best, old) > 0:
		return true
	case extreme(w, best, old) == 0:
		return false
	default:
		return extreme(w, low, best) <= 0 // the first value of an environment, in the place of what it had inherited
	}
}
