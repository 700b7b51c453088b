package limit

import (
	"math/bits"
	"sync"
	"time"
)

const (
	defaultKeys = 1 << 14
	maxKeys     = 1 << 24
	// ways is how many keys share a lock and compete for places. With 16, a table is nearly full before any key is
	// forgotten; looking through them reads two cache lines.
	ways = 16
)

// rule is what Window and Bucket do with the state S of a key. The zero S is that of a key that was never seen.
type rule[S any] interface {
	// take answers for a key, and counts the event if it is allowed.
	take(s *S, now time.Duration) Verdict
	// used says how much of its quota a key has used up: 0 if it is as if it had never been seen.
	used(s *S, now time.Duration) int64
	// join makes s no better off than other is.
	join(s, other *S, now time.Duration)
}

// table keeps the states of a bounded number of keys.
//
// The invariant: a key that is not in the table is owed nothing more than its set's floor says. So a key that was
// forgotten comes back with at least what it had used up.
type table[S any, R rule[S]] struct {
	rule R
	now  func() time.Duration
	sets []set[S]
}

// set is the keys that share some bits of their hashes.
type set[S any] struct {
	mu     sync.Mutex
	keys   [ways]Key // guarded by mu, as all below; 0: free
	states [ways]S
	floor  S // no better off than any key that was forgotten while it had used something up
}

func newTable[S any, R rule[S]](r R, opts Options) table[S, R] {
	keys := opts.Keys
	if keys <= 0 {
		keys = defaultKeys
	}
	n := (min(keys, maxKeys) + ways - 1) / ways
	return table[S, R]{rule: r, now: clock(), sets: make([]set[S], 1<<bits.Len(uint(n-1)))}
}

// Take counts an event of k if it is allowed, and says whether it is.
func (t *table[S, R]) Take(k Key) Verdict {
	s := t.set(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := t.now()
	if i := s.find(k); i >= 0 {
		return t.rule.take(&s.states[i], now)
	}
	state := s.floor
	v := t.rule.take(&state, now)
	if v.Allowed { // else the floor keeps it out, and needs no place for that
		i := t.vacate(s, now)
		s.keys[i], s.states[i] = k, state
	}
	return v
}

// Peek says what Take would, and counts nothing.
func (t *table[S, R]) Peek(k Key) Verdict {
	s := t.set(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.floor
	if i := s.find(k); i >= 0 {
		state = s.states[i]
	}
	return t.rule.take(&state, t.now())
}

func (t *table[S, R]) set(k Key) *set[S] {
	// The high bits: what is mixed last is mixed best.
	return &t.sets[uint64(k)>>32&uint64(len(t.sets)-1)]
}

func (s *set[S]) find(k Key) int {
	for i := range s.keys {
		if s.keys[i] == k {
			return i
		}
	}
	return -1
}

// vacate finds a free place, or frees that of the key that has used up least.
func (t *table[S, R]) vacate(s *set[S], now time.Duration) int {
	least, at := int64(-1), 0
	for i := range s.keys {
		if s.keys[i] == 0 {
			return i
		}
		if u := t.rule.used(&s.states[i], now); least < 0 || u < least {
			least, at = u, i
		}
	}
	if least > 0 {
		t.rule.join(&s.floor, &s.states[at], now)
	}
	return at
}
