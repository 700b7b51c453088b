package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
)

// Severity is how bad a violation is.
type Severity string

// The severities. Errors are in the way of milestones and promotions.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Violation is a rule of the schema that the merged state breaks. The state is kept: each write was right by itself, and to take one
// back on one copy would part it from the others.
type Violation struct {
	ID       string // the same for the same rule, field and environment
	Entity   string
	Field    string // "" if it is about the whole entity
	Env      string
	Rule     string // required, ref, range, unique, parent, type, or a rule's name
	Message  string
	Severity Severity
	By       []*crdt.Entry // the writes that led to it, in their order
}

// checked has what of the check can be kept while its entities are not written to.
type checked struct {
	mu    sync.Mutex          // guards the rest among those who ask
	stale map[string]struct{} // entities to look at again; nil: all
	found map[string]*finding
	valid bool // nothing changed since the last look
	last  []Violation
}

// finding is what one entity alone has to say.
type finding struct {
	bad    []Violation
	refs   []refTo
	unique []claim
}

// refTo is a reference that an entity makes.
type refTo struct {
	field, env, target string
	by                 []*crdt.Entry
}

// claim is a value that no other entity of the type may have.
type claim struct {
	field, env, key string
	by              []*crdt.Entry
}

func (c *checked) all() { c.stale, c.valid = nil, false }

func (c *checked) touch(o *Op) {
	c.valid = false
	if c.stale == nil {
		return
	}
	for i := range o.Writes {
		c.stale[o.Writes[i].Entity] = struct{}{}
	}
}

// Violations returns the rules that the state breaks, in every environment, sorted by entity, environment, field and rule.
func (s *State) Violations() []Violation {
	s.check.mu.Lock()
	defer s.check.mu.Unlock()
	if s.check.valid {
		return s.check.last
	}
	if s.under != nil && len(s.entities) == 0 && s.schema.by == s.under.schema.by {
		return s.under.Violations()
	}
	if s.check.stale == nil {
		s.check.found = map[string]*finding{}
		s.each(func(name string, _ *entity) { s.inspect(name) })
	} else {
		for name := range s.check.stale {
			s.inspect(name)
		}
	}
	s.check.stale = map[string]struct{}{}
	s.check.valid, s.check.last = true, s.gather()
	return s.check.last
}

// inspect looks at one entity.
func (s *State) inspect(name string) {
	delete(s.check.found, name)
	t := s.schema.Entity(Type(name))
	if !s.Alive(name) || t == nil {
		return
	}
	found := &finding{}
	for _, env := range s.schema.Environments {
		fields := s.fields(name, env.Name)
		for i := range t.Fields {
			s.inspectField(name, &t.Fields[i], env.Name, fields, found)
		}
		values := Values(fields)
		for i := range t.Rules {
			rule := &t.Rules[i]
			if ok, err := rule.Eval(values); err != nil || !ok {
				message := rule.Message
				if err != nil {
					message = err.Error()
				}
				found.bad = append(found.bad, violation(name, "", env.Name, rule.Name, message, allOf(fields)))
			}
		}
	}
	s.check.found[name] = found
}

func (s *State) inspectField(name string, f *schema.Field, env string, fields map[string]Resolved, found *finding) {
	r := fields[f.Name]
	if r.Value == nil {
		if f.Required {
			found.bad = append(found.bad, violation(name, f.Name, env, "required", fmt.Sprintf("%s has no value, and must have one", f.Name), r.By))
		}
		return
	}
	if r.From == "" {
		return // a default: the schema was checked when it was read
	}
	v, err := f.Type.Normalize(r.Value)
	if err == nil && !value.Equal(v, r.Value) {
		err = fmt.Errorf("%s is no %s", value.Text(r.Value), f.Type)
	}
	if err == nil {
		err = f.Check(v)
	}
	if err != nil {
		found.bad = append(found.bad, violation(name, f.Name, env, "bounds", err.Error(), r.By))
		return
	}
	for _, target := range targets(f.Type, r.Value) {
		found.refs = append(found.refs, refTo{f.Name, env, target, r.By})
	}
	if f.Unique {
		found.unique = append(found.unique, claim{f.Name, env, elementKey(r.Value), r.By})
	}
}

// targets returns the entities that a value names.
func targets(t schema.Type, v any) []string {
	switch v := v.(type) {
	case string:
		if t.Kind == schema.Ref {
			return []string{v}
		}
	case []any:
		var all []string
		for _, e := range v {
			all = append(all, targets(t.Element(), e)...)
		}
		return all
	case map[string]any:
		var all []string
		for _, key := range keysOf(v) {
			all = append(all, targets(t.Element(), v[key])...)
		}
		return all
	}
	return nil
}

// gather joins what the entities have to say, and looks at what is between them.
func (s *State) gather() []Violation {
	var all []Violation
	claims := map[string][]string{}
	for name, found := range s.check.found {
		all = append(all, found.bad...)
		for _, r := range found.refs {
			if !s.Alive(r.target) {
				all = append(all, violation(name, r.field, r.env, "ref", fmt.Sprintf("%s names %s, which is not there", r.field, r.target), r.by))
			}
		}
		for _, c := range found.unique {
			key := Type(name) + "\x00" + c.field + "\x00" + c.env + "\x00" + c.key
			claims[key] = append(claims[key], name)
		}
		if m := s.placed(name); m != nil && m.Parent != "" && !s.Alive(m.Parent) {
			message := fmt.Sprintf("its parent %s is not there any more: move it, or remove it", m.Parent)
			all = append(all, violation(name, "", s.schema.Base(), "parent", message, []*crdt.Entry{{Origin: m.Origin, N: m.N}}))
		}
	}
	for name, found := range s.check.found {
		for _, c := range found.unique {
			others := claims[Type(name)+"\x00"+c.field+"\x00"+c.env+"\x00"+c.key]
			if len(others) > 1 {
				others = slices.DeleteFunc(slices.Sorted(slices.Values(others)), func(o string) bool { return o == name })
				all = append(all, violation(name, c.field, c.env, "unique", fmt.Sprintf("%s is the same as that of %s", c.field, list(others)), c.by))
			}
		}
	}
	slices.SortFunc(all, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Env, b.Env), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
	})
	return all
}

func violation(entity, field, env, rule, message string, by []*crdt.Entry) Violation {
	sum := sha256.Sum256([]byte(rule + "\x00" + entity + "\x00" + field + "\x00" + env))
	return Violation{
		ID: hex.EncodeToString(sum[:8]), Entity: entity, Field: field, Env: env, Rule: rule, Message: message, Severity: Error, By: by,
	}
}

// allOf returns the writes behind all of an entity's fields, in their order.
func allOf(fields map[string]Resolved) []*crdt.Entry {
	var all []*crdt.Entry
	for _, r := range fields {
		all = append(all, r.By...)
	}
	slices.SortFunc(all, (*crdt.Entry).Compare)
	return all
}
