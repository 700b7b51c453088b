package engine

import (
	"context"
	"fmt"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/errkind"
)

// Event is an operation that counts, and what became of the fields that it wrote to. Seq is the cursor to go on from.
type Event struct {
	Seq     uint64
	Op      *config.Op
	Changes []Change
}

// Change is a field in an environment after an operation, or later.
type Change struct {
	Entity   string `json:"entity"`
	Field    string `json:"field,omitempty"` // "" when an entity began or ended
	Env      string `json:"env,omitempty"`
	Value    any    `json:"value"`
	Gone     bool   `json:"gone,omitempty"`     // the entity is not there any more
	Conflict bool   `json:"conflict,omitempty"` // writes wait for somebody to choose
}

// maxRecent is how many events are kept for those who watch. Who is further behind reads the log.
const maxRecent = 4096

// remember keeps the events of operations that were just applied. The caller holds mu.
func (d *Document) remember(batch []decoded) {
	if len(d.recent) > 2*maxRecent {
		// A new slice: those who watch read from the old one.
		d.recent = append([]Event(nil), d.recent[len(d.recent)-maxRecent:]...)
	}
	watched := d.watchers.Load() > 0
	for _, r := range batch {
		e := Event{Seq: r.head.Seq, Op: r.op}
		if watched {
			e.Changes = changes(d.state, r.op)
		}
		d.recent = append(d.recent, e)
	}
}

// changes returns what the fields that an operation wrote to are now.
func changes(s *config.State, op *config.Op) []Change {
	list := []Change{}
	type at struct{ entity, field, env string }
	told := map[at]bool{}
	for i := range op.Writes {
		w := &op.Writes[i]
		if w.Do == config.Life || w.Do == config.Move {
			if k := (at{w.Entity, "", ""}); !told[k] {
				told[k] = true
				list = append(list, Change{Entity: w.Entity, Gone: !s.Alive(w.Entity)})
			}
			continue
		}
		env, err := s.Environment(w.Env)
		if err != nil {
			continue
		}
		for _, e := range append([]string{env}, s.Schema().Descendants(env)...) {
			k := at{w.Entity, w.Field, e}
			if told[k] {
				continue
			}
			told[k] = true
			if r, err := s.Get(w.Entity, w.Field, e); err == nil {
				list = append(list, Change{Entity: w.Entity, Field: w.Field, Env: e, Value: r.Value, Conflict: r.Conflict})
			}
		}
	}
	return list
}

// Watch calls fn with the event of each operation after a cursor, in order and without gaps, and goes on until ctx ends or fn returns
// an error, which it returns. A cursor of the future is refused: it is of another document, or of one that was put back to an earlier state.
func (d *Document) Watch(ctx context.Context, cursor uint64, fn func(Event) error) error {
	d.watchers.Add(1)
	defer d.watchers.Add(-1)
	for {
		d.mu.RLock()
		head, changed := d.head.Seq, d.changed
		events, ok := d.after(cursor)
		d.mu.RUnlock()
		switch {
		case cursor > head:
			return fmt.Errorf("watch: cursor %d is after the last operation, %d: begin again from the state: %w", cursor, head, errkind.Invalid)
		case !ok:
			var err error
			if events, err = d.old(ctx, cursor); err != nil {
				return err
			}
		case len(events) == 0:
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		for _, e := range events {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if e.Changes == nil {
				d.mu.RLock()
				e.Changes = changes(d.state, e.Op)
				d.mu.RUnlock()
			}
			if err := fn(e); err != nil {
				return err
			}
			cursor = e.Seq
		}
	}
}

// after returns the recent events after a cursor; false if some are not recent. The caller holds mu.
func (d *Document) after(cursor uint64) ([]Event, bool) {
	if cursor >= d.head.Seq {
		return nil, true
	}
	if len(d.recent) == 0 || d.recent[0].Seq > cursor+1 {
		return nil, false
	}
	return d.recent[cursor+1-d.recent[0].Seq:], true
}

// old returns the next events after a cursor from the log.
func (d *Document) old(ctx context.Context, cursor uint64) ([]Event, error) {
	var events []Event
	err := d.log.Read(ctx, cursor+1, replayBatch, func(r oplog.Record) error {
		op, err := config.DecodeOp(r.Data)
		if err != nil {
			return err
		}
		events = append(events, Event{Seq: r.Seq, Op: op})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	return events, nil
}
