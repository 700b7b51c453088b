package crdt

import "maps"

// Extreme is a register in which the highest value wins (the lowest, with a compare function that says so), until somebody overrides it: then
// the value is the highest of the override's own and of the writes of its epoch.
type Extreme struct {
	Epochs[*Entry] // the highest write of each
}

// Put tells the register of a write that belongs to an epoch.
func (r *Extreme) Put(e *Entry, epoch Dot, compare func(a, b any) int, known func(Dot) bool) {
	if r.over(epoch, known) {
		return
	}
	if best := r.Writes[epoch]; best != nil {
		switch c := compare(e.Value, best.Value); {
		case c < 0, c == 0 && e.Compare(best) < 0:
			return
		}
	}
	r.keep(epoch, e)
}

// Winner returns the write that made the value; nil if there is none.
func (r *Extreme) Winner(compare func(a, b any) int) *Entry {
	best := r.Current()
	if best == nil || r.Override != nil && r.Override.Value != nil && compare(r.Override.Value, best.Value) > 0 {
		return r.Override
	}
	return best
}

// Clone returns a copy.
func (r *Extreme) Clone() *Extreme { return &Extreme{Epochs[*Entry]{r.Override, maps.Clone(r.Writes)}} }
