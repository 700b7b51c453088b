package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// retryAfter is what a refused client is asked to wait, in seconds: long enough for a burst to pass.
const retryAfter = "2"

// limiter bounds how many requests run and how many wait to. The rest is refused at once, so that a flood costs
// nothing but its refusals.
type limiter struct {
	slots      chan struct{}
	waiting    atomic.Int64
	maxWaiting int64
	patience   time.Duration
}

func newLimiter(running, waiting int, patience time.Duration) *limiter {
	if waiting == 0 {
		waiting = 8 * running
	}
	return &limiter{slots: make(chan struct{}, running), maxWaiting: int64(max(0, waiting)), patience: patience}
}

// acquire takes a place, waiting for one within bounds. Whoever got one gives it back with release.
func (l *limiter) acquire(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > l.maxWaiting {
		return errkind.Unavailable
	}
	timer := time.NewTimer(l.patience)
	defer timer.Stop()
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return errkind.Unavailable
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *limiter) release() { <-l.slots }

// running is how many places are taken.
func (l *limiter) running() int { return len(l.slots) }
