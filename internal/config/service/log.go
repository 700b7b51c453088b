package service

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// LogQuery chooses operations of the log.
type LogQuery struct {
	Entity string
	Actor  string
	Type   string
	Since  time.Time
	Until  time.Time
	Before uint64 // only those with a smaller seq; 0: all
	Limit  int    // 0: 100
}

// MaxLog is how many operations a page of the log has.
const MaxLog = 1000

const defaultLog = 100

// Log returns operations, the newest first.
func (s *Service) Log(ctx context.Context, actor config.Actor, q LogQuery) (*wire.Log, error) {
	if q.Limit <= 0 {
		q.Limit = defaultLog
	}
	q.Limit = min(q.Limit, MaxLog)
	if q.Entity != "" {
		id, err := config.ParseEntity(q.Entity)
		if err != nil {
			return nil, err
		}
		q.Entity = id
	}
	r := s.reader(actor)
	out := &wire.Log{Operations: []wire.Record{}}
	err := s.doc.Backward(ctx, q.Entity, q.Before, func(op *config.Op, seq uint64) (bool, error) {
		if len(out.Operations) == q.Limit {
			out.Next = seq + 1
			return false, nil
		}
		if !q.chooses(op) {
			return true, nil
		}
		if rec := s.record(r, op, seq); rec != nil {
			out.Operations = append(out.Operations, *rec)
		}
		return true, nil
	})
	return out, err
}

func (q *LogQuery) chooses(op *config.Op) bool {
	return (q.Actor == "" || q.Actor == op.Actor.ID) && (q.Type == "" || q.Type == string(op.Kind)) &&
		(q.Since.IsZero() || op.Time >= crdt.TimeOf(q.Since)) && (q.Until.IsZero() || op.Time < crdt.TimeOf(q.Until))
}

// record returns an operation as far as the reader may see its effects; nil if they may see none.
func (s *Service) record(r reader, op *config.Op, seq uint64) *wire.Record {
	out := &wire.Record{
		Seq: seq, ID: op.ID.String(), HLC: op.Time.String(), Time: stamp(op.Time), Type: string(op.Kind), Intent: op.Intent, From: op.From,
		To: op.To, Via: op.Via, Actor: wire.Actor{ID: op.Actor.ID, Class: string(op.Actor.Class), Name: op.Actor.Name},
	}
	if op.Signature != nil {
		out.Signature = &wire.Signature{Key: op.Signature.Key, Body: op.Signature.Body, Sig: op.Signature.Sig}
	}
	var all []wire.Write
	_ = s.doc.View(func(state *config.State) error {
		all, out.More = writes(state, op, maxWritesShown)
		return nil
	})
	out.Writes = []wire.Write{}
	for _, w := range all {
		if r.may(w.EntityID, w.Field, w.Environment) {
			out.Writes = append(out.Writes, w)
		}
	}
	if len(out.Writes) < len(all) {
		out.Signature, out.More = nil, 0 // they would tell what the reader may not see
		if len(out.Writes) == 0 {
			return nil
		}
	}
	return out
}

// WatchQuery chooses what a watcher gets.
type WatchQuery struct {
	Cursor  uint64 // go on after this one
	Initial bool   // first the state as it is; the cursor is not looked at
	Entity  string // only this one, or this type
	Field   string
	Env     string // "" is all
	Valid   bool   // nothing as long as rules of the schema are broken
}

// Watch calls fn for everything that changes, from a cursor on, until ctx ends or fn returns an error.
func (s *Service) Watch(ctx context.Context, actor config.Actor, q WatchQuery, fn func(*wire.Event) error) error {
	r := s.reader(actor)
	if q.Env != "" {
		if err := s.doc.View(func(state *config.State) (err error) { q.Env, err = state.Environment(q.Env); return err }); err != nil {
			return err
		}
	}
	if q.Initial {
		head := s.doc.Head()
		q.Cursor = head.Seq
		if err := fn(s.initial(r, q, head.Seq)); err != nil {
			return err
		}
	}
	return s.doc.Watch(ctx, q.Cursor, func(e engine.Event) error {
		if q.Valid && s.broken(q.Env) {
			return nil
		}
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
		return fn(out)
	})
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

// ParseTime reads a moment: RFC 3339, or a day, which is its beginning in UTC.
func ParseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	if h, err := crdt.ParseHLC(s); err == nil {
		return h.Time(), nil
	}
	return time.Time{}, fmt.Errorf("time %q: write 2024-01-31 or 2024-01-31T15:04:05Z: %w", s, errkind.Invalid)
}
