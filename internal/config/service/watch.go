package service

import (
	"context"
	"sync"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/wire"
)

// WatchQuery chooses what a watcher gets.
type WatchQuery struct {
	Cursor  uint64 // go on after this one
	Initial bool   // first the state as it is; the cursor is not looked at
	Entity  string // only this one, or this type
	Field   string
	Env     string // "" is all
	Valid   bool   // nothing as long as rules of the schema are broken; then what has changed meanwhile, as one event
	// Passed is called with the cursors of events that say nothing to this watcher. A watcher that goes on after such a one misses nothing.
	Passed func(cursor uint64)
}

// Watch calls fn for everything that changes, from a cursor on, until ctx ends or fn returns an error.
func (s *Service) Watch(ctx context.Context, actor config.Actor, q WatchQuery, fn func(*wire.Event) error) error {
	if q.Env != "" {
		if err := s.doc.View(func(state *config.State) (err error) { q.Env, err = state.Environment(q.Env); return err }); err != nil {
			return err
		}
	}
	if q.Initial {
		head := s.doc.Head()
		q.Cursor = head.Seq
		if err := fn(s.initial(s.reader(actor), q, head.Seq)); err != nil {
			return err
		}
	}
	held := holding{}
	return s.doc.Watch(ctx, q.Cursor, func(e engine.Event) error {
		out := s.tell(actor, &q, e)
		if q.Valid {
			if s.broken(q.Env) {
				held.add(out)
				return nil
			}
			out = held.release(out)
		}
		if out == nil {
			if q.Passed != nil {
				q.Passed(e.Seq)
			}
			return nil
		}
		return fn(out)
	})
}

// maxTold is how many events are remembered for other watchers: the latest few, for each that sees something else.
const maxTold = 1024

// told has what watchers got of the latest events: of a thousand that ask for the same, one has it worked out.
type told struct {
	mu     sync.Mutex
	events map[toldKey]*wire.Event // guarded by mu; nil: it says nothing to them
}

type toldKey struct {
	seq                uint64
	opts               *Options // in force
	actor              config.Actor
	entity, field, env string
}

// tell returns what a watcher gets of an event, which belongs to others too; nil if that is nothing.
func (s *Service) tell(actor config.Actor, q *WatchQuery, e engine.Event) *wire.Event {
	key := toldKey{e.Seq, s.opts.Load(), actor, q.Entity, q.Field, q.Env}
	s.told.mu.Lock()
	defer s.told.mu.Unlock()
	out, ok := s.told.events[key]
	if ok {
		return out
	}
	if s.told.events == nil || len(s.told.events) >= maxTold {
		s.told.events = map[toldKey]*wire.Event{}
	}
	out = s.event(s.reader(actor), q, e)
	s.told.events[key] = out
	return out
}

// event is what a watcher gets of an event; nil if that is nothing.
func (s *Service) event(r reader, q *WatchQuery, e engine.Event) *wire.Event {
	out := &wire.Event{Cursor: e.Seq, Changes: []wire.FieldChange{}}
	for _, c := range e.Changes {
		if q.wants(c.Entity, c.Field, c.Env) && r.may(c.Entity, c.Field, c.Env) {
			out.Changes = append(out.Changes, wire.FieldChange{
				EntityID: c.Entity, Field: c.Field, Environment: c.Env, Value: wireValue(c.Value), Removed: c.Gone, Conflict: c.Conflict,
			})
		}
	}
	if len(out.Changes) == 0 {
		return nil
	}
	if out.Operation = s.record(r, e.Op, e.Seq); out.Operation == nil {
		return nil
	}
	return out
}

// holding has what changed while rules were broken: of each field the last. There are no more of them than fields.
type holding struct {
	changes map[wire.FieldChange]int // by where it is: the index in event
	event   *wire.Event
}

func (h *holding) add(e *wire.Event) {
	if e == nil {
		return
	}
	if h.event == nil {
		h.event, h.changes = &wire.Event{}, map[wire.FieldChange]int{}
	}
	h.event.Cursor, h.event.Operation = e.Cursor, e.Operation
	for _, c := range e.Changes {
		where := wire.FieldChange{EntityID: c.EntityID, Field: c.Field, Environment: c.Environment}
		at, ok := h.changes[where]
		if !ok {
			at = len(h.event.Changes)
			h.changes[where] = at
			h.event.Changes = append(h.event.Changes, c)
		}
		h.event.Changes[at] = c
	}
}

// release returns what was held, with what came last.
func (h *holding) release(e *wire.Event) *wire.Event {
	if h.event == nil {
		return e
	}
	h.add(e)
	all := h.event
	*h = holding{}
	return all
}

func (q *WatchQuery) wants(entity, field, env string) bool {
	return (q.Entity == "" || q.Entity == entity || q.Entity == config.Type(entity)) &&
		(q.Field == "" || field == "" || q.Field == field) && (q.Env == "" || env == "" || q.Env == env)
}

func (s *Service) broken(env string) bool {
	broken := false
	_ = s.doc.View(func(state *config.State) error {
		for _, v := range state.Violations() {
			broken = broken || v.Severity == config.Error && (env == "" || v.Env == env)
		}
		return nil
	})
	return broken
}

// initial returns the state as an event.
func (s *Service) initial(r reader, q WatchQuery, cursor uint64) *wire.Event {
	out := &wire.Event{Cursor: cursor, Changes: []wire.FieldChange{}}
	_ = s.doc.View(func(state *config.State) error {
		for _, id := range state.Entities("") {
			if !q.wants(id, "", "") {
				continue
			}
			for _, env := range state.Schema().Environments {
				e := r.entity(state, id, env.Name)
				if e == nil || !q.wants(id, "", env.Name) {
					continue
				}
				for _, name := range sortedKeys(e.Fields) {
					if q.wants(id, name, env.Name) {
						v := e.Fields[name]
						out.Changes = append(out.Changes, wire.FieldChange{EntityID: id, Field: name, Environment: env.Name, Value: &v})
					}
				}
			}
		}
		return nil
	})
	return out
}
