package config

import (
	"cmp"
	"slices"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/crdt"
)

// Conflict is a field for which several actors wrote different values without having seen each other's.
type Conflict struct {
	Entity string
	Field  string
	Env    string
	Value  any           // what it is meanwhile
	Writes []*crdt.Entry // in the order of their writing
}

// Conflicts returns all that wait for somebody to choose, sorted by entity, field and environment.
func (s *State) Conflicts() []Conflict {
	var list []Conflict
	for ref := range s.open {
		f, env := s.inForce(ref)
		if f == nil || f.Merge != schema.Review && !f.Review {
			continue
		}
		if c := s.at(ref); c.conflicted() {
			list = append(list, Conflict{ref.Entity, ref.Field, env, s.resolve(ref.Entity, f, env).Value, c.mvr.Sorted()})
		}
	}
	slices.SortFunc(list, func(a, b Conflict) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Env, b.Env))
	})
	return list
}

// inForce returns the field and environment of a cell, if its entity is there and the schema in force means this cell.
func (s *State) inForce(ref cellRef) (*schema.Field, string) {
	x, t, env := s.get(ref.Entity), s.schema.Entity(Type(ref.Entity)), s.env(ref.Env)
	if x == nil || x.life != ref.Inc || ref.Inc%2 == 0 || t == nil || s.schema.Environment(env) == nil {
		return nil, ""
	}
	f := t.Field(ref.Field)
	if f == nil || s.place(ref.Entity, f, env) != ref.place {
		return nil, ""
	}
	return f, env
}
