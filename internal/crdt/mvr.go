package crdt

import (
	"maps"
	"slices"
)

// MVR is a register that keeps all writes of which nobody, in writing, had seen the others: the siblings. A write names the siblings
// that its maker had seen, and takes their place.
type MVR struct {
	Siblings map[Tag]*Entry
	Gone     map[Tag]struct{} // seen by somebody, and not come yet
	Agreed   *Entry           // the latest of the writes that were seen and replaced: the value before a conflict
}

// Put tells the register of a write.
func (r *MVR) Put(e *Entry, seen []Tag, known func(Dot) bool) {
	for _, t := range seen {
		if old := r.Siblings[t]; old != nil {
			r.Agreed = later(r.Agreed, old)
			delete(r.Siblings, t)
		} else if !known(t.Dot) {
			if r.Gone == nil {
				r.Gone = map[Tag]struct{}{}
			}
			r.Gone[t] = struct{}{}
		}
	}
	t := e.Tag()
	if _, gone := r.Gone[t]; gone {
		delete(r.Gone, t)
		r.Agreed = later(r.Agreed, e)
		return
	}
	if r.Siblings == nil {
		r.Siblings = map[Tag]*Entry{}
	}
	r.Siblings[t] = e
}

// Sorted returns the siblings in the order of their writing.
func (r *MVR) Sorted() []*Entry {
	return slices.SortedFunc(maps.Values(r.Siblings), (*Entry).Compare)
}

// Last returns the latest sibling; nil if there is none.
func (r *MVR) Last() *Entry {
	var last *Entry
	for _, e := range r.Siblings {
		last = later(last, e)
	}
	return last
}

// Clone returns a copy.
func (r *MVR) Clone() *MVR { return &MVR{maps.Clone(r.Siblings), maps.Clone(r.Gone), r.Agreed} }
