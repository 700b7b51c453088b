package router

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skep-dev/skep/internal/errkind"
)

// idleChecks is how often in IdleAfter the router looks for idle cells.
const idleChecks = 4

// Run closes idle cells and compacts busy ones, until ctx ends.
func (r *Router) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.closeIdle(ctx) })
	g.Go(func() error { return r.compact(ctx) })
	if err := g.Wait(); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func (r *Router) closeIdle(ctx context.Context) error {
	tick := time.NewTicker(max(r.opts.IdleAfter/idleChecks, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		for {
			r.mu.Lock()
			s := r.victim(time.Now().Add(-r.opts.IdleAfter))
			r.mu.Unlock()
			if s == nil {
				break
			}
			r.close(s)
		}
	}
}

// enqueue asks for a compaction, unless one is asked for already or too many are.
func (r *Router) enqueue(s *slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queued[s.repo] || s.detached {
		return
	}
	select {
	case r.queue <- s:
		r.queued[s.repo] = true
	default:
	}
}

// compact compacts one cell after the other: it is work for disk and CPU that requests should have.
func (r *Router) compact(ctx context.Context) error {
	for {
		var s *slot
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s = <-r.queue:
		}
		err := r.compactOne(ctx, s)
		r.mu.Lock()
		delete(r.queued, s.repo)
		r.mu.Unlock()
		switch {
		case err == nil, ctx.Err() != nil, errors.Is(err, errkind.NotFound): // deleted meanwhile
		case errors.Is(err, errkind.Conflict), errors.Is(err, errkind.Unavailable):
			r.opts.Log.Info("compaction put off", "repo", s.repo, "reason", err)
		default:
			r.opts.Log.Error("compaction did not succeed", "repo", s.repo, "error", err)
		}
	}
}

// compactOne uses take and give, not Repo: a cell that cannot be compacted is not queued again before it is used again.
func (r *Router) compactOne(ctx context.Context, s *slot) error {
	s, err := r.take(ctx, s.tenant, s.repo)
	if err != nil {
		return err
	}
	defer r.give(s)
	err = s.cell.Compact(ctx)
	r.measure(ctx, s)
	return err
}

// Close closes all cells and lets go of the data directory. Users that are left keep reading what they have; nothing is
// written any more. Run must have ended.
func (r *Router) Close() error {
	r.mu.Lock()
	r.closed = true
	var idle, busy, closing []*slot
	for _, s := range r.slots {
		switch {
		case s.closing:
			closing = append(closing, s)
		case s.users > 0:
			busy = append(busy, s)
		default:
			r.idle.Remove(s.el)
			s.el, s.closing = nil, true
			idle = append(idle, s)
		}
	}
	r.mu.Unlock()

	errs := []error{r.answers.Close()} // first: what makes answers holds cells
	for _, s := range idle {
		r.close(s)
	}
	for _, s := range closing {
		<-s.gone
	}
	for _, s := range busy {
		if <-s.ready; s.err == nil {
			errs = append(errs, s.cell.Close())
		}
	}
	return errors.Join(append(errs, r.unlock())...)
}
