package config

import (
	"maps"

	"github.com/skep-dev/skep/internal/crdt"
)

// Draft returns a copy in which operations can be tried. It shares with s all that no operation has touched, so s must not be changed while the
// draft is in use, and must be settled.
func (s *State) Draft() *State {
	d := &State{under: s, seen: s.seen.Clone(), entities: map[string]*entity{}, schema: s.schema, latest: s.latest, open: maps.Clone(s.open), asked: map[requestID]struct{}{}}
	d.known = d.seen.Has
	return d
}

// Settle does the work that a later question would have to do first, so that until the next Apply all questions may come from
// several goroutines.
func (s *State) Settle() { s.trees().Settle(s.counts) }

// trees returns the forest, to be changed.
func (s *State) trees() *crdt.Forest {
	if s.under != nil && s.forest == nil {
		f := s.under.trees().Clone()
		s.forest = &f
	}
	return s.forest
}

// placed returns the move that put an entity where it is.
func (s *State) placed(name string) *crdt.Move {
	if s.forest == nil {
		return s.under.placed(name)
	}
	return s.forest.Place(name, s.counts)
}

// placedBelow returns the entities that moves put right below another one.
func (s *State) placedBelow(parent string) []string {
	if s.forest == nil {
		return s.under.placedBelow(parent)
	}
	return s.forest.Below(parent, s.counts)
}

// moved reports whether there are moves of an entity.
func (s *State) moved(name string) bool {
	if s.forest == nil {
		return s.under.moved(name)
	}
	return s.forest.Moved(name)
}

func (x *entity) clone() *entity {
	if x == nil {
		return nil
	}
	c := &entity{life: x.life, by: x.by, cells: make(map[uint32]map[place]*cell, len(x.cells))}
	for inc, cells := range x.cells {
		c.cells[inc] = make(map[place]*cell, len(cells))
		for p, old := range cells {
			c.cells[inc][p] = old.clone()
		}
	}
	return c
}

func (c *cell) clone() *cell {
	d := *c
	if c.last != nil {
		d.last = &crdt.LWW{Best: c.last.Best}
	}
	if c.cut != nil {
		d.cut = &crdt.LWW{Best: c.cut.Best}
	}
	if c.ext != nil {
		d.ext = c.ext.Clone()
	}
	if c.set != nil {
		d.set = c.set.Clone()
	}
	if c.grow != nil {
		d.grow = c.grow.Clone()
	}
	if c.mvr != nil {
		d.mvr = c.mvr.Clone()
	}
	if c.keys != nil {
		d.keys = make(map[string]*cell, len(c.keys))
		for key, k := range c.keys {
			d.keys[key] = k.clone()
		}
	}
	return &d
}
