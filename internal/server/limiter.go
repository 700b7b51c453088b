package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/limit"
)

// retryAfter is what a refused client is asked to wait, in seconds: long enough for a burst to pass.
const retryAfter = "2"

// queue bounds how many requests wait.
type queue struct {
	waiting atomic.Int64
	most    int64
	within  *queue // whoever waits here waits there as well; may be nil
}

func (q *queue) enter() bool {
	if q.waiting.Add(1) <= q.most && (q.within == nil || q.within.enter()) {
		return true
	}
	q.waiting.Add(-1)
	return false
}

func (q *queue) leave() {
	q.waiting.Add(-1)
	if q.within != nil {
		q.within.leave()
	}
}

// limiter bounds how many requests run and how many wait to. The rest is refused at once, so that a flood costs
// nothing but its refusals.
type limiter struct {
	slots chan struct{}
	queue queue
}

// try takes a place if one is free.
func (l *limiter) try() bool {
	select {
	case l.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// acquire takes a place, waiting for one until late. Whoever got one gives it back with release.
func (l *limiter) acquire(ctx context.Context, late time.Time) error {
	if l.try() {
		return nil
	}
	if !l.queue.enter() {
		return errkind.Unavailable
	}
	defer l.queue.leave()
	timer := time.NewTimer(time.Until(late))
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

// shares bounds how many places each key may have: a limiter for each key that has, or waits for, any. There are no more
// of them than requests.
type shares struct {
	most   int
	within *queue

	mu    sync.Mutex
	inUse map[limit.Key]*share // guarded by mu
}

// share is one key's limiter.
type share struct {
	limiter
	users int // who have a place or wait for one; guarded by shares.mu
}

func (s *shares) use(k limit.Key) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.inUse[k]
	if h == nil {
		h = &share{}
		h.slots = make(chan struct{}, s.most)
		// Half of the queue: the other half is for everybody else.
		h.queue.most, h.queue.within = (s.within.most+1)/2, s.within
		s.inUse[k] = h
	}
	h.users++
	return h
}

func (s *shares) unuse(k limit.Key, h *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.users--; h.users == 0 {
		delete(s.inUse, k)
	}
}

// pool is the places for one kind of requests, and what one caller and one repository may have of them at most.
type pool struct {
	limiter
	callers, repos *shares // nil: all
	patience       time.Duration
}

// newPool makes a pool. callers and repos are how many places one of them may have; 0: all. waiting is how many requests may
// wait; 0: 8 times the places, < 0: none.
func newPool(places, callers, repos, waiting int, patience time.Duration) *pool {
	if waiting == 0 {
		waiting = 8 * places
	}
	p := &pool{patience: patience}
	p.slots = make(chan struct{}, places)
	p.queue.most = int64(max(0, waiting))
	if callers > 0 {
		p.callers = &shares{most: callers, within: &p.queue, inUse: map[limit.Key]*share{}}
	}
	if repos > 0 {
		p.repos = &shares{most: repos, within: &p.queue, inUse: map[limit.Key]*share{}}
	}
	return p
}

// half is what one caller or repository may have of a pool's places, if nobody says otherwise: however slowly one sends and
// reads, there is as much left for the others.
func half(places int) int { return max(1, places/2) }

// place is what a request holds of its pool while it runs.
//
// A request waits for its caller's share first, then for its repository's, then for a place of all: never while it has what
// comes later in that order. So nobody waits for each other in a circle, and what waits for a share keeps nobody out
// of the places. Which repository it is, only somebody who has a place has looked up; if its share is not free, the place is
// given back for the time of waiting.
type place struct {
	pool   *pool
	late   time.Time // when waiting ends
	caller *share
	repo   *share
	keys   struct{ caller, repo limit.Key }
	held   bool // a place of all
}

// take waits for the caller's share and a place. Whoever succeeds gives it back with leave.
func (p *place) take(ctx context.Context, from *pool, caller limit.Key) error {
	p.pool, p.late = from, time.Now().Add(from.patience)
	if from.callers != nil {
		h := from.callers.use(caller)
		if err := h.acquire(ctx, p.late); err != nil {
			from.callers.unuse(caller, h)
			return err
		}
		p.caller, p.keys.caller = h, caller
	}
	if err := p.enter(ctx); err != nil {
		p.leave()
		return err
	}
	return nil
}

func (p *place) enter(ctx context.Context) error {
	if err := p.pool.acquire(ctx, p.late); err != nil {
		return err
	}
	p.held = true
	return nil
}

// narrow takes the share of the repository that the request turned out to be about, unless it has one. The place may be
// gone when that fails; leave knows.
func (p *place) narrow(ctx context.Context, repo id.Repo) error {
	if p.pool == nil || p.pool.repos == nil || p.repo != nil {
		return nil
	}
	k := limit.KeyOf(repo)
	h := p.pool.repos.use(k)
	if h.try() {
		p.repo, p.keys.repo = h, k
		return nil
	}
	p.exit()
	if err := h.acquire(ctx, p.late); err != nil {
		p.pool.repos.unuse(k, h)
		return err
	}
	p.repo, p.keys.repo = h, k
	return p.enter(ctx)
}

func (p *place) exit() {
	if p.held {
		p.pool.release()
		p.held = false
	}
}

// leave gives back all that the request holds.
func (p *place) leave() {
	p.exit()
	if p.repo != nil {
		p.repo.release()
		p.pool.repos.unuse(p.keys.repo, p.repo)
		p.repo = nil
	}
	if p.caller != nil {
		p.caller.release()
		p.pool.callers.unuse(p.keys.caller, p.caller)
		p.caller = nil
	}
}
