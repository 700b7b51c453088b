package service

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/crdt"
)

// Query chooses what is read.
type Query struct {
	Env   string
	Type  string // only entities of this type
	After string // only those after this ID
	Limit int    // 0: MaxPage
}

// MaxPage is how many entities one answer has.
const MaxPage = 10_000

// State returns the entities in an environment, with their values.
func (s *Service) State(_ context.Context, actor config.Actor, q Query) (*wire.State, error) {
	if q.Limit <= 0 || q.Limit > MaxPage {
		q.Limit = MaxPage
	}
	out := &wire.State{Document: s.doc.Name(), Entities: []wire.Entity{}}
	r := s.reader(actor)
	head := s.doc.Head() // before the state is looked at: an event that the state has already may come again, and none is missed
	err := s.doc.View(func(state *config.State) error {
		env, err := state.Environment(q.Env)
		if err != nil {
			return err
		}
		out.Environment, out.Version, out.Seq = env, state.VersionText(), head.Seq
		all := state.Entities(q.Type)
		at, _ := slices.BinarySearch(all, q.After+"\x00")
		for _, id := range all[at:] {
			if len(out.Entities) == q.Limit {
				out.Next = out.Entities[q.Limit-1].ID
				break
			}
			if e := r.entity(state, id, env); e != nil {
				out.Entities = append(out.Entities, *e)
			}
		}
		return nil
	})
	return out, err
}

// entity returns what the reader may see of an entity; nil if that is nothing.
func (r reader) entity(state *config.State, id, env string) *wire.Entity {
	e := &wire.Entity{ID: id, Type: config.Type(id), Environment: env, Fields: map[string]wire.Value{}}
	fields, hidden := 0, 0
	err := state.EachField(id, env, func(name string, f *config.Resolved) {
		fields++
		if !r.may(id, name, env) {
			hidden++
			return
		}
		if f.Value != nil {
			e.Fields[name] = wire.Value{Any: f.Value}
		}
		if f.Conflict {
			e.Conflicts = append(e.Conflicts, name)
		}
	})
	if err != nil || fields == hidden && !r.may(id, "", env) {
		return nil
	}
	if parent, position := state.Place(id); r.sees(state, parent, env) {
		e.Parent, e.Position = parent, position // where it is among others that may not be seen says that there are some
	}
	slices.Sort(e.Conflicts)
	return e
}

// sees reports whether the reader may know of an entity; "" is the top, of which everybody knows.
func (r reader) sees(state *config.State, id, env string) bool {
	if id == "" || r.may(id, "", env) {
		return true
	}
	seen := false
	_ = state.EachField(id, env, func(name string, _ *config.Resolved) { seen = seen || r.may(id, name, env) })
	return seen
}

// Entity returns one entity in an environment.
func (s *Service) Entity(_ context.Context, actor config.Actor, entity, env string) (out *wire.Entity, err error) {
	id, err := config.ParseEntity(entity)
	if err != nil {
		return nil, err
	}
	err = s.doc.View(func(state *config.State) error {
		if env, err = state.Environment(env); err != nil {
			return err
		}
		if out = s.reader(actor).entity(state, id, env); out == nil {
			return hidden(id)
		}
		out.Version = state.VersionText()
		return nil
	})
	return out, err
}

// Version returns the version of the document, and an environment's name.
func (s *Service) Version(env string) (version, name string, err error) {
	err = s.doc.View(func(state *config.State) error {
		name, err = state.Environment(env)
		version = state.VersionText()
		return err
	})
	return version, name, err
}

// Schema returns the schema in force: its name, version and text.
func (s *Service) Schema() (name, version, text string) {
	_ = s.doc.View(func(state *config.State) error {
		name, version, text = state.Schema().Name, state.Schema().Version, state.SchemaText()
		return nil
	})
	return name, version, text
}

// Environments returns the schema's environments, the base first.
func (s *Service) Environments() (list []wire.Environment) {
	_ = s.doc.View(func(state *config.State) error {
		for _, e := range state.Schema().Environments {
			list = append(list, wire.Environment{Name: e.Name, Inherits: e.Inherits, Base: e.Inherits == ""})
		}
		return nil
	})
	return list
}

// Diff returns what would change if environment a became as b.
func (s *Service) Diff(_ context.Context, actor config.Actor, a, b string, filter config.Filter) (list []wire.Change, err error) {
	list = []wire.Change{}
	r := s.reader(actor)
	err = s.doc.View(func(state *config.State) error {
		if a, err = state.Environment(a); err == nil {
			b, err = state.Environment(b)
		}
		if err != nil {
			return err
		}
		for _, c := range state.Diff(a, b, filter) {
			if r.may(c.Entity, c.Field, a) && r.may(c.Entity, c.Field, b) {
				list = append(list, wire.Change{EntityID: c.Entity, Field: c.Field, Old: wireValue(c.Old), New: wireValue(c.New), By: entrySources(c.By)})
			}
		}
		return nil
	})
	return list, err
}

func entrySources(by []*crdt.Entry) []wire.Source {
	list := make([]wire.Source, len(by))
	for i, e := range by {
		list[i] = source(e)
		list[i].Value = wireValue(e.Value)
	}
	return list
}

// Blame returns where an entity's values come from; of one field, or of all if that is "".
func (s *Service) Blame(_ context.Context, actor config.Actor, entity, field, env string) (list []wire.Blame, err error) {
	list = []wire.Blame{}
	id, err := config.ParseEntity(entity)
	if err != nil {
		return nil, err
	}
	r := s.reader(actor)
	err = s.doc.View(func(state *config.State) error {
		if env, err = state.Environment(env); err != nil {
			return err
		}
		fields, err := state.Entity(id, env)
		if err == nil && field != "" {
			var one config.Resolved
			one, err = state.Get(id, field, env)
			fields = map[string]config.Resolved{field: one}
		}
		if err != nil {
			return err
		}
		for _, name := range sortedKeys(fields) {
			if f := fields[name]; r.may(id, name, env) {
				list = append(list, wire.Blame{
					EntityID: id, Field: name, Environment: env, Value: wire.Value{Any: f.Value}, From: f.From, Conflict: f.Conflict, By: sources(f),
				})
			}
		}
		if len(list) == 0 && r.entity(state, id, env) == nil {
			return hidden(id)
		}
		return nil
	})
	return list, err
}

// Conflicts returns the fields for which somebody has to choose.
func (s *Service) Conflicts(_ context.Context, actor config.Actor) []wire.Conflict {
	list := []wire.Conflict{}
	r := s.reader(actor)
	_ = s.doc.View(func(state *config.State) error {
		for _, c := range state.Conflicts() {
			if r.may(c.Entity, c.Field, c.Env) {
				list = append(list, wire.Conflict{
					EntityID: c.Entity, Field: c.Field, Environment: c.Env, Value: wireValue(c.Value), Candidates: entrySources(c.Writes),
				})
			}
		}
		return nil
	})
	return list
}

// Violations returns the rules of the schema that the state breaks, in one environment or, if that is "", in all.
func (s *Service) Violations(_ context.Context, actor config.Actor, env string) []wire.Violation {
	list := []wire.Violation{}
	r := s.reader(actor)
	_ = s.doc.View(func(state *config.State) error {
		for _, v := range state.Violations() {
			if (env == "" || env == v.Env) && r.may(v.Entity, v.Field, v.Env) {
				r.soften(state, &v)
				list = append(list, wire.Violation{
					ID: v.ID, EntityID: v.Entity, Field: v.Field, Environment: v.Env, Rule: v.Rule, Severity: string(v.Severity),
					Message: v.Message, By: entrySources(v.By),
				})
			}
		}
		return nil
	})
	return list
}

// soften takes out of a violation what the reader may not know: which other entity it is about, and the values of fields.
func (r reader) soften(state *config.State, v *config.Violation) {
	if r.allow == nil || r.may("", "", v.Env) {
		return
	}
	if v.Rule == "unique" && v.Field != "" {
		v.Message = v.Field + " is the same as that of another " + config.Type(v.Entity)
		return
	}
	if v.Field != "" {
		return
	}
	all := true
	for _, f := range state.Schema().Entity(config.Type(v.Entity)).Fields {
		all = all && r.may(v.Entity, f.Name, v.Env)
	}
	if !all { // a rule between fields, whose values it was made of
		v.By, v.Message = nil, "a rule that also concerns fields that you may not read"
	}
}

// Status returns the document at a glance.
func (s *Service) Status(ctx context.Context, actor config.Actor) *wire.Status {
	out := &wire.Status{Document: s.doc.Name(), Node: s.doc.Node(), Entities: map[string]int{}, Environments: s.Environments()}
	head := s.doc.Head()
	if out.Operations = head.Seq; head.Seq > 0 {
		out.Head = "sha256:" + hex.EncodeToString(head.Hash[:])
	}
	r := s.reader(actor)
	_ = s.doc.View(func(state *config.State) error {
		sch := state.Schema()
		if state.SchemaText() != "" {
			out.Schema = strings.TrimSpace(sch.Name + " " + sch.Version)
		}
		out.Version = state.VersionText()
		if state.Latest() > 0 {
			out.Latest = stamp(state.Latest())
		}
		for _, id := range state.Entities("") {
			if r.may(id, "", "") {
				out.Entities[config.Type(id)]++
			}
		}
		return nil
	})
	out.Conflicts = len(s.Conflicts(ctx, actor))
	out.Violations = len(s.Violations(ctx, actor, ""))
	return out
}
