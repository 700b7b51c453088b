package config

import (
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/crdt"
)

// Resolved is what a field is in an environment, and why.
type Resolved struct {
	Value    any           // nil: unset
	From     string        // the environment that it comes from; "" of a default, and of what is unset
	By       []*crdt.Entry // the writes that made it: one, or one for each element or key, sorted as these
	Conflict bool          // writes wait for somebody to choose
}

// resolve returns a field of a living entity in an environment: the value of the first environment, from it up to the base, that has one.
func (s *State) resolve(name string, f *schema.Field, env string) Resolved {
	union := f.Overlay == schema.Union && (f.Merge == schema.Set || f.Merge == schema.Grow || f.Merge == schema.PerKey)
	conflict := false
	var layers []layer
	for _, e := range s.schema.Chain(env) {
		c := s.cell(name, f, e)
		conflict = conflict || len(layers) == 0 && c.conflicted()
		if c.present(f) {
			layers = append(layers, layer{e, c})
			if !union {
				break
			}
		}
	}
	r := Resolved{Conflict: conflict}
	switch {
	case len(layers) == 0:
		r.Value = f.Default
	case f.Merge == schema.Set || f.Merge == schema.Grow:
		r.elements(layers, f)
	case f.Merge == schema.PerKey:
		r.keys(layers, f)
	default:
		e := layers[0].cell.scalar(f)
		r.Value, r.By = e.Value, []*crdt.Entry{e}
	}
	if len(layers) > 0 {
		r.From = layers[0].env
	}
	return r
}

// layer is an environment's own part of a value.
type layer struct {
	env  string
	cell *cell
}

func (r *Resolved) elements(layers []layer, f *schema.Field) {
	all := layers[len(layers)-1].cell.elements()
	for _, l := range layers[:len(layers)-1] {
		for key, e := range l.cell.elements() {
			if old := all[key]; old == nil || e.Compare(old) < 0 {
				all[key] = e
			}
		}
	}
	r.By = sorted(all, f.ByInsertion)
	values := make([]any, len(r.By))
	for i, e := range r.By {
		values[i] = e.Value
	}
	r.Value = values
}

// keys makes a map of its keys' nearest values. A key that a nearer environment took away stays away.
func (r *Resolved) keys(layers []layer, f *schema.Field) {
	near := map[string]*crdt.Entry{}
	for _, l := range layers {
		for key, k := range l.cell.keys {
			if e := k.winner(ofKeys(strategy(f))); near[key] == nil && (valued(e) || l.cell.hides(e)) {
				near[key] = e
			}
		}
	}
	values := make(map[string]any, len(near))
	for _, key := range keysOf(near) {
		if near[key].Value != nil {
			values[key] = near[key].Value
			r.By = append(r.By, near[key])
		}
	}
	r.Value = values
}

// Get returns a field of an entity in an environment.
func (s *State) Get(name, field, env string) (Resolved, error) {
	f, err := s.field(name, field)
	if err != nil {
		return Resolved{}, err
	}
	if !s.Alive(name) {
		return Resolved{}, noEntity(name)
	}
	if env, err = s.Environment(env); err != nil {
		return Resolved{}, err
	}
	return s.resolve(name, f, env), nil
}

// Entity returns the fields of an entity in an environment that have a value.
func (s *State) Entity(name, env string) (map[string]Resolved, error) {
	if !s.Alive(name) || s.schema.Entity(Type(name)) == nil {
		return nil, noEntity(name)
	}
	env, err := s.Environment(env)
	if err != nil {
		return nil, err
	}
	return s.fields(name, env), nil
}

func (s *State) fields(name, env string) map[string]Resolved {
	m := make(map[string]Resolved, len(s.schema.Entity(Type(name)).Fields))
	s.eachField(name, env, func(field string, r *Resolved) { m[field] = *r })
	return m
}

// EachField calls fn for each field of an entity that has something in an environment, in the schema's order. fn must not keep the value
// it gets. It is Entity for who wants no map of it.
func (s *State) EachField(name, env string, fn func(field string, r *Resolved)) error {
	if !s.Alive(name) || s.schema.Entity(Type(name)) == nil {
		return noEntity(name)
	}
	env, err := s.Environment(env)
	if err == nil {
		s.eachField(name, env, fn)
	}
	return err
}

func (s *State) eachField(name, env string, fn func(field string, r *Resolved)) {
	t := s.schema.Entity(Type(name))
	for i := range t.Fields {
		if r := s.resolve(name, &t.Fields[i], env); r.Value != nil || r.Conflict {
			fn(t.Fields[i].Name, &r)
		}
	}
}

// Values returns the values of an entity's fields.
func Values(fields map[string]Resolved) map[string]any {
	m := make(map[string]any, len(fields))
	for name, r := range fields {
		if r.Value != nil {
			m[name] = r.Value
		}
	}
	return m
}
