package router

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/skep-dev/skep/internal/cell"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/trace"
)

// slot is the place of one cell that is open, opening or closing. A repository has one at a time, so that its database
// is never open twice:
//
//	opening ── ready ──→ open ──→ closing ── gone ──→
//	   └── failed: ready and gone
//
// Who finds it opening waits for ready; who finds it closing waits for gone, and starts anew.
type slot struct {
	tenant id.Tenant
	repo   id.Repo

	ready chan struct{} // closed when cell or err is there
	cell  *cell.Cell
	err   error
	gone  chan struct{} // closed when the cell is closed

	measured atomic.Int64 // the version of which it was told what it takes; -1: none

	// Guarded by Router.mu:
	users    int
	closing  bool
	failed   bool          // to open
	detached bool          // the repository was deleted: the last user closes the cell
	since    time.Time     // when the last user left
	el       *list.Element // in Router.idle; nil while it is used
}

// take finds or opens a cell and counts the caller among its users.
func (r *Router) take(ctx context.Context, t id.Tenant, repo id.Repo) (*slot, error) {
	for {
		s, victim, err := r.join(t, repo)
		if err != nil {
			return nil, err
		}
		if victim != nil {
			r.close(victim)
		}
		if s.users == 0 { // it is closing
			if err := wait(ctx, s.gone); err != nil {
				return nil, err
			}
			continue
		}
		return r.await(ctx, s.slot, s.mine)
	}
}

// joined is what join found.
type joined struct {
	*slot
	users int  // with the caller, at that moment; 0 when the slot is closing and takes none
	mine  bool // the caller is to open it
}

// join finds a repository's slot or makes one. For a new one, another may have to go: the caller closes it.
func (r *Router) join(t id.Tenant, repo id.Repo) (j joined, victim *slot, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return j, nil, fmt.Errorf("repositories are closed: %w", errkind.Unavailable)
	}
	s, ok := r.slots[repo]
	switch {
	case ok && s.closing:
		return joined{slot: s}, nil, nil
	case ok:
		r.use(s)
		return joined{slot: s, users: s.users}, nil, nil
	}
	if len(r.slots) >= r.opts.MaxOpenCells {
		if victim = r.victim(time.Now()); victim == nil {
			return j, nil, fmt.Errorf("%d repositories are in use already: %w", len(r.slots), errkind.Unavailable)
		}
	}
	s = &slot{tenant: t, repo: repo, ready: make(chan struct{}), gone: make(chan struct{}), users: 1}
	s.measured.Store(-1)
	r.slots[repo] = s
	return joined{slot: s, users: 1, mine: true}, victim, nil
}

// use counts one more user. r.mu is held.
func (r *Router) use(s *slot) {
	s.users++
	if s.el != nil {
		r.idle.Remove(s.el)
		s.el = nil
	}
}

// victim picks the cell that was idle longest, if it was since before a time, and marks it as closing. A cell that makes
// an answer for somebody who left is not idle. r.mu is held.
func (r *Router) victim(before time.Time) *slot {
	for el := r.idle.Back(); el != nil; el = el.Prev() {
		s, ok := el.Value.(*slot)
		if !ok {
			panic("bug: a foreign element in the list")
		}
		if s.since.After(before) {
			return nil
		}
		if s.cell.Held() {
			continue
		}
		r.idle.Remove(el)
		s.el, s.closing = nil, true
		return s
	}
	return nil
}

// await opens the cell, or waits until another caller has.
func (r *Router) await(ctx context.Context, s *slot, mine bool) (_ *slot, err error) {
	select {
	case <-s.ready: // mostly: there is nothing to trace
	default:
		var span trace.Span
		ctx, span = trace.Start(ctx, trace.CellOpen)
		defer func() { span.End(err) }()
	}
	if mine {
		r.open(ctx, s)
	}
	if err := wait(ctx, s.ready); err != nil {
		r.give(s)
		return nil, err
	}
	if s.err != nil {
		return nil, s.err
	}
	return s, nil
}

func wait(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// open opens the cell of a new slot.
func (r *Router) open(ctx context.Context, s *slot) {
	done := false
	defer func() { // also when Open panics: others wait
		if !done {
			s.err = errors.New("bug: opening the cell panicked")
		}
		if s.err != nil {
			r.mu.Lock()
			s.failed = true
			delete(r.slots, s.repo)
			r.mu.Unlock()
			close(s.gone)
		}
		close(s.ready)
	}()
	// Others wait for the same cell: that the first one leaves is no reason to stop.
	s.cell, s.err = cell.Open(context.WithoutCancel(ctx), r.path(s.repo), r.files, folder(s.tenant, s.repo), cell.Options{
		Objects:      r.objects,
		Answers:      r.answers,
		Room:         r.room,
		TempDir:      r.tempDir(),
		MaxPackBytes: r.opts.MaxPackBytes,
		SettleAfter:  r.opts.SettleAfter,
		Grace:        r.opts.Grace,
		Log:          r.opts.Log.With("repo", string(s.repo)),
	})
	done = true
}

// give counts a user out. The cell stays open for those who come.
func (r *Router) give(s *slot) {
	r.mu.Lock()
	s.users--
	last := s.users == 0 && !s.closing && !s.failed
	if last && (s.detached || r.closed) {
		s.closing = true
	} else if last {
		s.since = time.Now()
		s.el = r.idle.PushFront(s)
	}
	closing := last && s.closing
	r.mu.Unlock()
	if closing {
		r.close(s)
	}
}

// detach takes the slot of a deleted repository out of sight. The caller is one of its users.
func (r *Router) detach(s *slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.detached = true
	delete(r.slots, s.repo)
}

// close closes a cell that is marked as closing.
func (r *Router) close(s *slot) {
	if err := s.cell.Close(); err != nil {
		r.opts.Log.Warn("cell closed with an error", "repo", s.repo, "error", err)
	}
	r.mu.Lock()
	if r.slots[s.repo] == s {
		delete(r.slots, s.repo)
	}
	detached := s.detached
	r.mu.Unlock()
	if detached { // what was made for those who were at it when it was deleted
		r.answers.Disown(folder(s.tenant, s.repo))
	}
	close(s.gone)
}
