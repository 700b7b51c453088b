package crdt

import (
	"maps"
	"slices"
)

// Move puts a child under a parent, at a position among its siblings. The parent "" is the root.
type Move struct {
	*Origin
	N        uint32
	Child    string
	Inc      uint32 // the child's incarnation
	Parent   string
	Position string
}

// Compare is the total order of moves.
func (m *Move) Compare(o *Move) int {
	if c := m.Origin.Compare(o.Origin); c != 0 {
		return c
	}
	return cmpUint(uint64(m.N), uint64(o.N))
}

// Forest is trees in which children are moved. The moves count in their total order, each taking its child from where it was, and one that
// would put something under itself is left out (Kleppmann and others, 2022): so no two concurrent moves can make a cycle.
type Forest struct {
	Moves []*Move // in their total order
	at    map[string]*Move
	below map[string]map[string]struct{} // the children of each parent, as at has them
	moved map[string]struct{}            // the children of all moves, whether these count or not
	dirty bool
}

// Put tells the forest of a move. Nothing may be told twice. Moves for which counts says no are left out.
func (f *Forest) Put(m *Move, counts func(*Move) bool) {
	i, _ := slices.BinarySearchFunc(f.Moves, m, (*Move).Compare)
	f.Moves = slices.Insert(f.Moves, i, m)
	if f.moved == nil {
		f.moved = map[string]struct{}{}
	}
	f.moved[m.Child] = struct{}{}
	if i < len(f.Moves)-1 {
		f.dirty = true
	} else if !f.dirty && counts(m) {
		f.apply(m)
	}
}

// Recount says that counts may answer otherwise than before about moves of a child.
func (f *Forest) Recount(child string) {
	f.dirty = f.dirty || f.Moved(child)
}

// Moved reports whether there are moves of a child, whether they count or not.
func (f *Forest) Moved(child string) bool {
	_, ok := f.moved[child]
	return ok
}

// Replanted returns a forest with these moves, which are in their total order.
func Replanted(moves []*Move) Forest {
	f := Forest{Moves: moves, moved: make(map[string]struct{}, len(moves)), dirty: len(moves) > 0}
	for _, m := range moves {
		f.moved[m.Child] = struct{}{}
	}
	return f
}

// Clone returns a copy.
func (f *Forest) Clone() Forest {
	return Forest{slices.Clone(f.Moves), maps.Clone(f.at), cloneNested(f.below), maps.Clone(f.moved), f.dirty}
}

// Settle does what the next Place would have to do first, so that Place only reads.
func (f *Forest) Settle(counts func(*Move) bool) {
	if !f.dirty {
		return
	}
	clear(f.at)
	clear(f.below)
	for _, m := range f.Moves {
		if counts(m) {
			f.apply(m)
		}
	}
	f.dirty = false
}

func (f *Forest) apply(m *Move) {
	for up := m.Parent; up != ""; {
		if up == m.Child {
			return
		}
		next := f.at[up]
		if next == nil {
			break
		}
		up = next.Parent
	}
	if f.at == nil {
		f.at = map[string]*Move{}
	}
	if old := f.at[m.Child]; old != nil {
		delete(f.below[old.Parent], m.Child)
	}
	f.at[m.Child] = m
	if f.below == nil {
		f.below = map[string]map[string]struct{}{}
	}
	if f.below[m.Parent] == nil {
		f.below[m.Parent] = map[string]struct{}{}
	}
	f.below[m.Parent][m.Child] = struct{}{}
}

// Place returns the move that put a child where it is; nil if none did.
func (f *Forest) Place(child string, counts func(*Move) bool) *Move {
	f.Settle(counts)
	return f.at[child]
}

// Below returns the children that moves put right below a parent, in no order.
func (f *Forest) Below(parent string, counts func(*Move) bool) []string {
	f.Settle(counts)
	return slices.Collect(maps.Keys(f.below[parent]))
}
