package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

// heartbeat is how often a stream says that it is there. Proxies end connections that are silent for a minute.
const heartbeat = 15 * time.Second

// Caller is a document as one caller of an edge has it.
type Caller struct {
	Service *Service
	Actor   config.Actor
	// Again asks anew whether it is they, which streams do now and then; nil: there is no need to. Changed returns a channel that is closed
	// when the answer may be another; nil: it is asked at each heartbeat only.
	Again   func() error
	Changed func() <-chan struct{}
}

// CheckCursor refuses a cursor that the document has not given.
func (s *Service) CheckCursor(cursor uint64) error {
	if cursor <= s.doc.Head().Seq {
		return nil
	}
	return fmt.Errorf("cursor %d is after the last operation: it is of another document, or of one that was put back to an earlier state: "+
		"begin again from the state: %w", cursor, errkind.Conflict)
}

// Follow is Watch for a stream: it calls beat at once, and again whenever nothing else happened for a while, with the cursor to go on after,
// and ends when the caller is not let in any more. One function is called at a time.
func (c *Caller) Follow(ctx context.Context, q WatchQuery, event func(*wire.Event) error, beat func(cursor uint64) error) error {
	passed := q.Cursor                   // guarded by mu
	if err := beat(passed); err != nil { // so that the client knows at once from where on it sees everything
		return err
	}
	var mu sync.Mutex
	q.Passed = func(cursor uint64) {
		mu.Lock()
		defer mu.Unlock()
		passed = cursor
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var attending sync.WaitGroup
	attending.Go(func() {
		cancel(c.attend(ctx, func() error {
			mu.Lock()
			defer mu.Unlock()
			return beat(passed)
		}))
	})
	err := c.Service.Watch(ctx, c.Actor, q, func(e *wire.Event) error {
		mu.Lock()
		defer mu.Unlock()
		passed = e.Cursor
		return event(e)
	})
	cancel(err)
	attending.Wait()
	if cause := context.Cause(ctx); errors.Is(err, context.Canceled) && cause != nil {
		return cause
	}
	return err
}

// attend calls beat now and then, and asks whether the caller may still be here, until ctx ends.
func (c *Caller) attend(ctx context.Context, beat func() error) error {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	due := false
	for {
		var changed <-chan struct{}
		if c.Changed != nil {
			changed = c.Changed() // before asking: what changes from here on is asked about again
		}
		if c.Again != nil {
			if err := c.Again(); err != nil {
				return err
			}
		}
		if due {
			if err := beat(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
			due = false
		case <-tick.C:
			due = true
		}
	}
}
