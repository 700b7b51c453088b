package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

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

// The limits of what is kept for those who watch. Who is further behind reads the log.
const (
	maxRecent      = 8192
	maxRecentBytes = 64 << 20 // of the operations' texts
	// maxHanded and maxHandedBytes are what one who watches gets at a time, and holds while being slow.
	maxHanded      = 256
	maxHandedBytes = 1 << 20
)

// events are consecutive ones.
type events struct {
	list  []Event
	sizes []int // of each one's text
	bytes int   // the sum
}

// add puts an event at the end, and drops the older half where there are too many.
func (r *events) add(e Event, size int) {
	r.list, r.sizes, r.bytes = append(r.list, e), append(r.sizes, size), r.bytes+size
	if len(r.list) <= maxRecent && r.bytes <= maxRecentBytes {
		return
	}
	n := 0
	for n < len(r.list)-1 && (len(r.list)-n > maxRecent/2 || r.bytes > maxRecentBytes/2) {
		r.bytes -= r.sizes[n]
		n++
	}
	r.list, r.sizes = slices.Clone(r.list[n:]), slices.Clone(r.sizes[n:])
}

// after returns the next events after a cursor, as many as one may have at a time; false if they are not here.
func (r *events) after(cursor uint64) ([]Event, bool) {
	if len(r.list) == 0 || r.list[0].Seq > cursor+1 {
		return nil, false
	}
	from := int(cursor + 1 - r.list[0].Seq) //nolint:gosec // below len
	to := from
	for size := 0; to < len(r.list) && to-from < maxHanded && size < maxHandedBytes; to++ {
		size += r.sizes[to]
	}
	return slices.Clone(r.list[from:to]), true // a copy: the list that somebody slow has a part of would be kept as a whole
}

// remember keeps the events of operations that were just applied. The caller holds mu.
func (d *Document) remember(batch []decoded) {
	watched := d.watchers.Load() > 0
	for _, r := range batch {
		e := Event{Seq: r.head.Seq, Op: r.op}
		if watched {
			e.Changes = changes(d.state, r.op)
		}
		d.recent.add(e, r.size)
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
	if cursor > d.Head().Seq { // another process may have told of what this one has not read yet
		if err := d.Refresh(ctx); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
	}
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
			if events, err = d.old(ctx, cursor, head); err != nil {
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
	return d.recent.after(cursor)
}

var errEnough = errors.New("enough")

// old returns the next events after a cursor from the log, of those that the state has.
func (d *Document) old(ctx context.Context, cursor, head uint64) ([]Event, error) {
	var list []Event
	size := 0
	err := d.log.Read(ctx, cursor+1, maxHanded, func(r oplog.Record) error {
		if r.Seq > head || size > maxHandedBytes {
			return errEnough
		}
		size += len(r.Data)
		op, err := config.DecodeOp(r.Data)
		if err != nil {
			return err
		}
		list = append(list, Event{Seq: r.Seq, Op: op})
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("watch: %w", err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("watch: the log has no record %d, and had one: it was put back to an earlier state: %w", cursor+1, errkind.Unavailable)
	}
	return list, nil
}
