package service

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/config"
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

// maxLooked is how many operations are looked at for a page. One that was chosen from more may have fewer than it could, or none, and says
// where to go on.
const maxLooked = 50_000

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
	looked := 0
	err := s.doc.Backward(ctx, q.Entity, q.Before, func(op *config.Op, seq uint64) (bool, error) {
		if len(out.Operations) == q.Limit || looked == maxLooked {
			out.Next = seq + 1
			return false, ctx.Err()
		}
		looked++
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
		for i := range all {
			if parent, ok := parentOf(&all[i]); ok && !r.sees(state, parent, state.Schema().Base()) {
				all[i].Value = nil
			}
		}
		return nil
	})
	out.Writes = []wire.Write{}
	for _, w := range all {
		if r.may(w.EntityID, w.Field, w.Environment) {
			out.Writes = append(out.Writes, w)
		}
	}
	if r.allow != nil && !r.whole(op, s) {
		out.Signature, out.More = nil, 0 // they would tell what the reader may not see
		if len(out.Writes) == 0 {
			return nil
		}
	}
	return out
}

// parentOf returns where a write put an entity.
func parentOf(w *wire.Write) (parent string, ok bool) {
	if w.Do != string(config.Move) || w.Value == nil {
		return "", false
	}
	parent, ok = w.Value.Any.(string)
	return parent, ok
}

// whole reports whether the reader may see all effects of an operation, also those that no record shows.
func (r reader) whole(op *config.Op, s *Service) bool {
	return s.doc.View(func(state *config.State) error {
		for i := range op.Writes {
			w := &op.Writes[i]
			env, err := state.Environment(w.Env)
			if err != nil {
				env = w.Env
			}
			if !r.may(w.Entity, w.Field, env) || !r.sees(state, w.Parent, state.Schema().Base()) {
				return errkind.Forbidden
			}
		}
		return nil
	}) == nil
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
