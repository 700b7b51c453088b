package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// courier brings a writer's decisions to the daemon, in their order. While the two are parted they wait in its queue.
//
// A write is done once, whatever is cut off when: all attempts have the same Idempotency-Key, by which a daemon knows a request again that
// was under way when its client gave up, and before each new attempt the courier looks whether the log has the write, since a daemon that was
// started anew knows no keys.
type courier struct {
	ledger *ledger
	batch  int // how many it takes along at once
	submit func(ctx context.Context, key string, list []*write) ([]result, error)
	find   func(ctx context.Context, list []*write) (map[string]result, error)

	mu     sync.Mutex
	queue  []*write // guarded by mu, as all below
	moving int      // taken from the queue, and not done
	seen   string   // the latest version that an answer had
	closed bool
	more   chan struct{} // has a value when there is something to do
}

func newCourier(l *ledger, batch int) *courier {
	return &courier{ledger: l, batch: batch, more: make(chan struct{}, 1)}
}

// How long an answer may take, and how long to wait before another attempt.
const (
	answerPatience = 1500 * time.Millisecond
	retryAfter     = 150 * time.Millisecond
)

// send takes a decision. It has seen what the writer has.
func (c *courier) send(op operation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if op.Base == "" {
		op.Base = c.seen
	}
	c.queue = append(c.queue, c.ledger.decide(op))
	c.nudge()
}

func (c *courier) nudge() {
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// close has run return once all is done.
func (c *courier) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.nudge()
}

// waiting is how many writes nobody has answered.
func (c *courier) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) + c.moving
}

// saw notes what an answer has shown.
func (c *courier) saw(version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if versionNumber(version) > versionNumber(c.seen) {
		c.seen = version
	}
}

// take returns what is to be sent next; nothing once there is no more to come.
func (c *courier) take(ctx context.Context) []*write {
	for {
		c.mu.Lock()
		n := min(len(c.queue), c.batch)
		list, closed := c.queue[:n:n], c.closed
		c.queue, c.moving = c.queue[n:], n
		c.mu.Unlock()
		if n > 0 || closed {
			return list
		}
		select {
		case <-c.more:
		case <-ctx.Done():
			return nil
		}
	}
}

// run brings what is decided until close is called and all is done.
func (c *courier) run(ctx context.Context) error {
	for {
		list := c.take(ctx)
		if len(list) == 0 {
			return ctx.Err()
		}
		if err := c.deliver(ctx, list); err != nil {
			return err
		}
	}
}

// deliver tries until somebody has said what became of the writes.
func (c *courier) deliver(ctx context.Context, list []*write) error {
	for try := 0; ; try++ {
		if try > 0 {
			if !wait(ctx, retryAfter) {
				return fmt.Errorf("%s: %d writes are still under way: %w", c.ledger.actor, c.waiting(), ctx.Err())
			}
			found, sent := map[string]result(nil), time.Now()
			err := c.attempt(ctx, func(ctx context.Context) (err error) { found, err = c.find(ctx, list); return err })
			if err != nil {
				continue
			}
			if _, ok := found[list[0].tag()]; ok {
				return c.arrived(list, found, sent)
			}
		}
		c.ledger.tried(list)
		var results []result
		sent := time.Now()
		err := c.attempt(ctx, func(ctx context.Context) (err error) { results, err = c.submit(ctx, list[0].tag(), list); return err })
		no, refused := errors.AsType[*refusal](err)
		switch {
		case err == nil:
			for i, w := range list {
				c.ledger.acknowledged(w, sent, results[i])
				c.saw(results[i].Version)
			}
			return nil
		case refused && (try == 0 || no.status != http.StatusConflict):
			// On a second attempt a conflict may be that the first one is still being done.
			for _, w := range list {
				c.ledger.refuse(w, err)
			}
			return nil
		}
	}
}

// arrived notes what the log has of writes, of which no answer came through.
func (c *courier) arrived(list []*write, found map[string]result, sent time.Time) error {
	for _, w := range list {
		r, ok := found[w.tag()]
		if !ok {
			return fmt.Errorf("%s: the log has a part of a batch: not %s", c.ledger.actor, w.tag())
		}
		c.ledger.acknowledged(w, sent, r)
	}
	return nil
}

func (c *courier) attempt(ctx context.Context, fn func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	return fn(ctx)
}

// wait waits a while, and reports whether ctx has not ended meanwhile.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
