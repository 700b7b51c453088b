// Package limit says how often something may happen, for each of very many keys.
//
//	failures := limit.NewWindow(limit.Quota{Events: 30, Per: 3 * time.Minute}, limit.Options{})
//	if v := failures.Take(limit.KeyOf(address)); !v.Allowed { … wait v.Retry … }
//
// A Window admits at most Events in any span of Per. A Bucket lets Events through at once and refills evenly, Events in
// Per: it admits at most Events + t×Events/Per in any span of t. Both hold exactly, for every key, whatever happens:
//
//   - Time is the monotonic clock's, so that a step of the wall clock is not seen.
//   - Keys are remembered in a table of fixed size. When it is full, the key that has used up least is forgotten, and
//     what it had used up is held against the keys that come after it. A flood of keys can therefore never let a busy key
//     start anew; the most that it does is to make the quota of keys that come during the flood smaller.
//   - A key is hashed to 64 bits with a seed of the process. Two keys that share all bits share a quota: with a million
//     keys the chance of any such pair is below one in ten million, and without the seed nobody can make one.
//
// A call takes a lock that it shares with one key in a thousand or so, for some tens of nanoseconds, and allocates nothing.
//
// golang.org/x/time/rate has a bucket for one key. It counts in floating point, knows neither what remains nor when to come
// back without taking a reservation, and would need a map with a lock, and a rule for forgetting, around it: what is
// hard here is the table, and with it a bucket is one number a key.
package limit

import (
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// Quota is how often: Events in Per. The zero Quota is no limit, and makes neither a Window nor a Bucket.
type Quota struct {
	Events int
	Per    time.Duration
}

// The bounds of a Quota: what the counters hold, and what fits into a nanosecond clock many times over.
const (
	maxEvents = 1 << 30
	minPer    = time.Millisecond
	maxPer    = 30 * 24 * time.Hour
)

// Off is how people write the zero Quota.
const Off = "off"

// ParseQuota reads "30/3m": 30 events in 3 minutes. "30/m" is 30 a minute, and "off" no limit.
func ParseQuota(s string) (Quota, error) {
	if s == Off {
		return Quota{}, nil
	}
	events, per, ok := strings.Cut(s, "/")
	n, err := strconv.Atoi(events)
	if !ok || err != nil {
		return Quota{}, fmt.Errorf("quota %q is not like 100/1m, nor %s: %w", s, Off, errkind.Invalid)
	}
	if per != "" && (per[0] < '0' || per[0] > '9') {
		per = "1" + per
	}
	d, err := time.ParseDuration(per)
	if err != nil {
		return Quota{}, fmt.Errorf("quota %q is not like 100/1m, nor %s: %w", s, Off, errkind.Invalid)
	}
	q := Quota{n, d}
	return q, q.check()
}

func (q Quota) check() error {
	switch {
	case q.Events < 1 || q.Events > maxEvents:
		return fmt.Errorf("quota %s: the number is not between 1 and %d: %w", q, maxEvents, errkind.Invalid)
	case q.Per < minPer || q.Per > maxPer:
		return fmt.Errorf("quota %s: the time is not between %s and %s: %w", q, minPer, maxPer, errkind.Invalid)
	case q.Per < time.Duration(q.Events):
		return fmt.Errorf("quota %s: more than one event a nanosecond: %w", q, errkind.Invalid)
	}
	return nil
}

// String writes what ParseQuota reads.
func (q Quota) String() string {
	if q == (Quota{}) {
		return Off
	}
	per := q.Per.String() // 1h0m0s
	for _, zero := range [...]string{"m0s", "h0m"} {
		if strings.HasSuffix(per, zero) {
			per = per[:len(per)-2]
		}
	}
	return strconv.Itoa(q.Events) + "/" + per
}

// Key stands for whom or what a limit counts.
type Key uint64

var seed = maphash.MakeSeed()

// KeyOf makes a Key of anything comparable.
func KeyOf[K comparable](k K) Key {
	h := Key(maphash.Comparable(seed, k))
	return max(h, 1) // 0 marks a free place
}

// Verdict is a limit's answer.
type Verdict struct {
	Allowed   bool
	Remaining int           // how many more would be allowed now
	Reset     time.Duration // until all of the quota is there again
	Retry     time.Duration // when not allowed: until one will be; else 0
}

// Options are settings of a Window or Bucket. The zero Options works.
type Options struct {
	Keys int // how many are remembered; rounded up to 16 times a power of two; 0: 16,384, which take 0.3 MiB (Bucket) or 1 MiB (Window)
}

// clock reads the time since something in the past. time.Since looks at the monotonic clock alone.
func clock() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}
