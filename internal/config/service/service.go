// Package service offers what can be done with a document, in the same way to the command line, to REST and to gRPC.
//
//	s := service.New(doc, service.Options{Access: rules})
//	results, err := s.Submit(ctx, actor, []wire.Operation{{Type: "set_field", EntityID: "service.api", Field: "replicas", …}}, service.Submission{})
//	state, err := s.State(ctx, actor, service.Query{Env: "staging"})
//
// It asks for permission, for every entity, field and environment that is read or written: what an actor may not read is not there for them.
package service

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// Access says who may do what. entity, field and env "" stand for any.
type Access interface {
	Allow(a config.Actor, action policy.Action, entity, field, env string) bool
}

// Subjects is an Access that looks an actor up once, for many questions.
type Subjects interface {
	Subject(a config.Actor) func(action policy.Action, entity, field, env string) bool
}

// Options of a service. The zero Options permits everything: that is for whoever has the document's files anyway.
type Options struct {
	Access   Access // nil: all is permitted
	Revision string // of Access: what somebody may see is the same while it is
	// Check is asked about each operation that has a signature, or should have one; nil: signatures are kept and not looked at.
	Check func(op *config.Op, request *wire.Operation) error
	Now   func() time.Time // nil: time.Now
}

// Service is a document as its users see it. It is safe for concurrent use.
type Service struct {
	doc  *engine.Document
	opts atomic.Pointer[Options]
	told told
}

// New returns a service for a document.
func New(doc *engine.Document, opts Options) *Service {
	s := &Service{doc: doc}
	s.Configure(opts)
	return s
}

// Configure puts other options in force, from the next request on.
func (s *Service) Configure(opts Options) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s.opts.Store(&opts)
}

// Document returns the document.
func (s *Service) Document() *engine.Document { return s.doc }

// reader says what of a document an actor may read.
type reader struct {
	allow func(action policy.Action, entity, field, env string) bool // nil: all
}

func (s *Service) reader(a config.Actor) reader {
	switch access := s.opts.Load().Access.(type) {
	case nil:
		return reader{}
	case Subjects:
		return reader{access.Subject(a)}
	default:
		return reader{func(action policy.Action, entity, field, env string) bool {
			return access.Allow(a, action, entity, field, env)
		}}
	}
}

func (r reader) may(entity, field, env string) bool {
	return r.allow == nil || r.allow(policy.ConfigRead, entity, field, env)
}

// Revision tells the present rules of access from others.
func (s *Service) Revision() string { return s.opts.Load().Revision }

// Permit refuses what an actor may not do. Who may not even read a thing is told that there is none.
func (s *Service) Permit(a config.Actor, action policy.Action, entity, field, env string) error {
	access := s.opts.Load().Access
	if access == nil || access.Allow(a, action, entity, field, env) {
		return nil
	}
	what := entity
	if field != "" {
		what += "." + field
	}
	if env != "" {
		what += "@" + env
	}
	if what != "" && !access.Allow(a, policy.ConfigRead, entity, field, env) {
		return hidden(entity) // in the words that an entity gets which is not there
	}
	if what == "" {
		what = "the document"
	}
	return fmt.Errorf("%s: %s may not %s it: %w", what, a.ID, verb(action), errkind.Forbidden)
}

// ReadsAll reports whether an actor may read every field in every environment: for what tells of all, as milestones do.
func (s *Service) ReadsAll(a config.Actor) bool {
	if s.Permit(a, policy.ConfigRead, "", "", "") != nil { // also in environments that are not there any more
		return false
	}
	for _, e := range s.Environments() {
		if s.Permit(a, policy.ConfigRead, "", "", e.Name) != nil {
			return false
		}
	}
	return true
}

func hidden(entity string) error {
	return fmt.Errorf("entity %q: there is none: %w", entity, errkind.NotFound)
}

func verb(a policy.Action) string { return string(a)[len("config."):] }

// guard refuses operations with an effect that their actor may not have.
func (s *Service) guard(state *config.State, op *config.Op) error {
	if s.opts.Load().Access == nil {
		return nil
	}
	if op.Schema != nil {
		if err := s.Permit(op.Actor, policy.ConfigAdmin, "", "", ""); err != nil {
			return err
		}
	}
	for i := range op.Writes {
		w := &op.Writes[i]
		env, err := state.Environment(w.Env)
		if err != nil {
			continue
		}
		err = s.permitWrite(op, w, env)
		if errkind.Of(err) == errkind.NotFound && (op.Kind == config.RemoveEntity || op.Kind == config.Promote) {
			// The request may not name it, so the refusal must not.
			return fmt.Errorf("%s: it would change what you may not see: %w", op.Kind, errkind.Forbidden)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) permitWrite(op *config.Op, w *config.Write, env string) error {
	switch {
	case w.Do == config.Life && w.Inc%2 == 1:
		return s.Permit(op.Actor, policy.ConfigCreate, w.Entity, "", "")
	case w.Do == config.Life:
		return s.Permit(op.Actor, policy.ConfigDelete, w.Entity, "", "")
	case w.Do == config.Move:
		return s.Permit(op.Actor, policy.ConfigMove, w.Entity, "", "")
	case op.Kind == config.Promote:
		if err := s.Permit(op.Actor, policy.ConfigRead, w.Entity, w.Field, op.From); err != nil {
			return err // or a promotion would bring to light what its maker may not see
		}
		return s.Permit(op.Actor, policy.ConfigPromote, w.Entity, w.Field, env)
	case op.Kind == config.Resolve:
		return s.Permit(op.Actor, policy.ConfigResolve, w.Entity, w.Field, env)
	case op.Schema != nil:
		return nil // what a field had before it changed its strategy
	case w.Do == config.Override:
		return s.Permit(op.Actor, policy.ConfigOverride, w.Entity, w.Field, env)
	case w.Env != "" && s.opts.Load().Access.Allow(op.Actor, policy.ConfigOverride, w.Entity, w.Field, env):
		return nil // Conflux calls any value that an environment has of its own an override
	default:
		return s.Permit(op.Actor, policy.ConfigWrite, w.Entity, w.Field, env)
	}
}

func wireValue(v any) *wire.Value {
	if v == nil {
		return nil
	}
	return &wire.Value{Any: v}
}

// stamp returns a time as people read it.
func stamp(h crdt.HLC) string { return h.Time().Format("2006-01-02T15:04:05.000000Z") }

func source(e *crdt.Entry) wire.Source {
	return wire.Source{
		Operation: e.Dot.String(), HLC: e.Time.String(), Time: stamp(e.Time), Intent: e.Intent,
		Actor: wire.Actor{ID: e.Actor, Class: e.Class, Name: e.Name},
	}
}

// sources returns where a value comes from: with the elements or keys if it is of several writes.
func sources(r config.Resolved) []wire.Source {
	list := []wire.Source{}
	m, isMap := r.Value.(map[string]any)
	_, isList := r.Value.([]any)
	for i, e := range r.By {
		src := source(e)
		if isMap && len(m) == len(r.By) {
			src.Key = sortedKeys(m)[i]
			src.Value = wireValue(e.Value)
		} else if isList && !value.Equal(e.Value, r.Value) {
			src.Value = wireValue(e.Value)
		}
		list = append(list, src)
	}
	return list
}

func writes(s *config.State, op *config.Op, most int) (list []wire.Write, more int) {
	list = []wire.Write{}
	for i := range op.Writes {
		w := &op.Writes[i]
		if w.Marks() {
			continue
		}
		if len(list) == most {
			return list, len(op.Writes) - i
		}
		out := wire.Write{EntityID: w.Entity, Field: w.Field, Key: w.Key, Do: string(w.Do), Old: wireValue(w.Old), Value: wireValue(w.Value)}
		switch {
		case w.Do == config.Life && w.Inc%2 == 1:
			out.Do = "insert"
		case w.Do == config.Life:
			out.Do = "delete"
		case w.Do == config.Move:
			out.Value = wireValue(w.Parent)
		default:
			if env, err := s.Environment(w.Env); err == nil {
				out.Environment = env
			}
		}
		list = append(list, out)
	}
	return list, 0
}
