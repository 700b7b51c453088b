package crdt

import "maps"

// Extreme is a register in which the highest value wins (the lowest, with a compare function that says so), until somebody overrides it.
//
// An override begins an epoch, which has its name. A write says which epoch it belongs to: that of the last override that its maker had
// seen. The latest override's epoch is the current one, and the value is the highest of the override's own and of the writes of its epoch.
// So a write that had not seen an override does not undo it, and later ones go on from it.
type Extreme struct {
	Override *Entry         // the latest
	Best     map[Dot]*Entry // the highest of each epoch that is current or whose override has not come; the zero Dot is the first
}

// Put tells the register of a write that belongs to an epoch.
func (r *Extreme) Put(e *Entry, epoch Dot, compare func(a, b any) int, known func(Dot) bool) {
	if epoch != r.Epoch() && known(epoch) {
		return // the epoch is over: its override came, and was not the latest
	}
	if r.Best == nil {
		r.Best = map[Dot]*Entry{}
	}
	best := r.Best[epoch]
	if best != nil {
		switch c := compare(e.Value, best.Value); {
		case c < 0, c == 0 && e.Compare(best) < 0:
			return
		}
	}
	r.Best[epoch] = e
}

// PutOverride tells the register of an override.
func (r *Extreme) PutOverride(e *Entry) {
	old := r.Epoch()
	if r.Override = later(r.Override, e); r.Override == e {
		if old != e.Dot { // an operation that overrides twice begins one epoch
			delete(r.Best, old)
		}
	} else if e.Dot != r.Epoch() {
		delete(r.Best, e.Dot)
	}
}

// Epoch returns the current epoch's name.
func (r *Extreme) Epoch() Dot {
	if r.Override == nil {
		return Dot{}
	}
	return r.Override.Dot
}

// Winner returns the write that made the value; nil if there is none.
func (r *Extreme) Winner(compare func(a, b any) int) *Entry {
	best := r.Best[r.Epoch()]
	if best == nil || r.Override != nil && r.Override.Value != nil && compare(r.Override.Value, best.Value) > 0 {
		return r.Override
	}
	return best
}

// Clone returns a copy.
func (r *Extreme) Clone() *Extreme { return &Extreme{r.Override, maps.Clone(r.Best)} }
