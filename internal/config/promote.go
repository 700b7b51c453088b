package config

import (
	"fmt"
	"path"
	"slices"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// Filter chooses fields. Each list is of patterns in which * is any text; an empty one is all.
type Filter struct {
	Entities []string // TYPE or TYPE.ID
	Fields   []string
	Only     func(entity, field string) bool // nil: all; it leaves out those of which it says no
}

// maxPatterns bounds a filter: each field of the document is held against each.
const maxPatterns = 100

func (f *Filter) check() error {
	for _, pattern := range slices.Concat(f.Entities, f.Fields) {
		if _, err := path.Match(pattern, ""); err != nil || len(f.Entities)+len(f.Fields) > maxPatterns {
			return fmt.Errorf("filter: pattern %q is malformed, or there are more than %d: %w", clip(pattern), maxPatterns, errkind.Invalid)
		}
	}
	return nil
}

// Matches reports whether a field is chosen; field "" asks for the entity alone.
func (f *Filter) Matches(entity, field string) bool {
	match := func(patterns []string, names ...string) bool {
		return len(patterns) == 0 || slices.ContainsFunc(patterns, func(pattern string) bool {
			return slices.ContainsFunc(names, func(n string) bool { ok, err := path.Match(pattern, n); return ok && err == nil })
		})
	}
	return match(f.Entities, entity, Type(entity)) && (field == "" || match(f.Fields, field) && (f.Only == nil || f.Only(entity, field)))
}

// promote makes an environment equal to another one on what the filter chooses, by one operation.
func (p *plan) promote() error {
	from, to, err := p.s.promotion(p.r.From, p.r.To, p.r.AnyPath)
	if err == nil {
		err = p.r.Filter.check()
	}
	if err != nil {
		return err
	}
	p.op.From, p.op.To = from, to
	p.override = true // what is promoted was decided elsewhere: it takes the place of what is there
	if err := p.s.clean(from, &p.r.Filter); err != nil {
		return err
	}
	for _, c := range p.s.Diff(to, from, p.r.Filter) {
		f, err := p.s.field(c.Entity, c.Field)
		if err != nil {
			return err
		}
		t := p.target(c.Entity, f, to)
		t.none = false // it is worked out from what is there
		if p.r.Strict && p.r.Seen != nil {
			if err := t.unchanged(p.r.Seen); err != nil {
				return err
			}
		}
		if err := p.promoteField(t, c.New); err != nil {
			return err
		}
	}
	if p.r.Prune {
		p.prune(from, to)
	}
	return nil
}

// promoteField writes to the target what the source has: nothing of its own, if that is what it inherits anyway.
func (p *plan) promoteField(t *target, v any) error {
	if same(t.f, p.s.inherited(t), v) {
		t.unset(p)
		t.note(p)
		return nil
	}
	err := p.whole(t, v)
	t.note(p)
	return err
}

// inherited returns what a target would be if its environment had nothing of its own.
func (s *State) inherited(t *target) any {
	chain := s.schema.Chain(s.env(t.w.Env))
	if len(chain) < 2 || !s.Alive(t.w.Entity) {
		return t.f.Default
	}
	return s.resolve(t.w.Entity, t.f, chain[1]).Value
}

// prune unsets in the source what it inherits now. The target's new values are not in the state yet, so it looks only at what is
// inherited right from the target.
func (p *plan) prune(from, to string) {
	if chain := p.s.schema.Chain(from); len(chain) < 2 || chain[1] != to {
		return
	}
	for _, name := range p.s.Entities("") {
		p.s.eachCell(name, p.s.get(name).life, func(f *schema.Field, env string, c *cell) {
			if env == from && p.r.Filter.Matches(name, f.Name) {
				t := p.target(name, f, from)
				t.none = false
				t.unset(p)
				t.note(p)
			}
		})
	}
}

// promotion checks the two environments of a promotion: values go up, to what the source inherits from.
func (s *State) promotion(from, to string, anyPath bool) (string, string, error) {
	from, err := s.Environment(from)
	if err == nil {
		to, err = s.Environment(to)
	}
	if err != nil {
		return "", "", err
	}
	if from == to {
		return "", "", fmt.Errorf("promote: source and target are both %q: %w", from, errkind.Invalid)
	}
	if !anyPath && !slices.Contains(s.schema.Chain(from), to) {
		return "", "", fmt.Errorf("promote: %q does not inherit from %q, and values go to where they are inherited from (any path allows others): %w", from, to, errkind.Invalid)
	}
	return from, to, nil
}

// clean refuses to hand on what is in doubt.
func (s *State) clean(env string, filter *Filter) error {
	for _, c := range s.Conflicts() {
		if slices.Contains(s.schema.Chain(env), c.Env) && filter.Matches(c.Entity, c.Field) {
			return fmt.Errorf("%s.%s@%s: writes wait for somebody to choose: resolve them first: %w", c.Entity, c.Field, c.Env, errkind.Conflict)
		}
	}
	for _, v := range s.Violations() {
		if v.Env == env && v.Severity == Error && filter.Matches(v.Entity, v.Field) {
			return fmt.Errorf("%s@%s: %s: mend it first: %w", v.Entity, v.Env, v.Message, errkind.Conflict)
		}
	}
	return nil
}

// Change is a field that differs between two states or environments.
type Change struct {
	Entity string
	Field  string // "" where an entity began, New is true then, or ended, Old is
	Old    any
	New    any
	By     []*crdt.Entry // of the new value
}

// Diff returns what would change if environment a became as b, sorted by entity and field.
func (s *State) Diff(a, b string, filter Filter) []Change {
	var list []Change
	for _, name := range s.Entities("") {
		t := s.schema.Entity(Type(name))
		if t == nil || !filter.Matches(name, "") {
			continue
		}
		for i := range t.Fields {
			f := &t.Fields[i]
			if !filter.Matches(name, f.Name) {
				continue
			}
			old, now := s.resolve(name, f, a), s.resolve(name, f, b)
			if !same(f, old.Value, now.Value) {
				list = append(list, Change{name, f.Name, old.Value, now.Value, now.By})
			}
		}
	}
	return list
}

// same reports whether two values of a field are. A set has the same elements in whatever order they came.
func same(f *schema.Field, a, b any) bool {
	x, ok := a.([]any)
	y, both := b.([]any)
	if !ok || !both || f.Merge != schema.Set && f.Merge != schema.Grow {
		return value.Equal(a, b)
	}
	in := make(map[string]bool, len(x))
	for _, v := range x {
		in[elementKey(v)] = true
	}
	return len(x) == len(y) && !slices.ContainsFunc(y, func(v any) bool { return !in[elementKey(v)] })
}
