package limit

import "time"

// Bucket is a leaky bucket for each key, as the generic cell rate algorithm keeps it: one number, the time at which the
// bucket will be empty. An event moves that time on by one event's share of Per, and may not move it further than Per
// away.
type Bucket struct {
	table[emptyAt, drip]
}

// NewBucket makes a limit of q, which must have been parsed or be as valid as if it had.
func NewBucket(q Quota, opts Options) *Bucket {
	if err := q.check(); err != nil {
		panic("bug: " + err.Error())
	}
	// Rounded up, so that rounding never admits more.
	each := (q.Per + time.Duration(q.Events) - 1) / time.Duration(q.Events)
	return &Bucket{newTable[emptyAt](drip{each: each, depth: each * time.Duration(q.Events)}, opts)}
}

// emptyAt is when a bucket will have run empty.
type emptyAt time.Duration

// drip is the rule of buckets.
type drip struct {
	each  time.Duration // in which the bucket leaks one event
	depth time.Duration // in which a full bucket leaks all of them
}

func (d drip) take(s *emptyAt, now time.Duration) Verdict {
	empty := max(time.Duration(*s), now)
	v := Verdict{Allowed: empty-now+d.each <= d.depth}
	if v.Allowed {
		empty += d.each
		*s = emptyAt(empty)
	} else {
		v.Retry = empty - now + d.each - d.depth
	}
	v.Reset = empty - now
	v.Remaining = int((d.depth - v.Reset) / d.each)
	return v
}

func (d drip) used(s *emptyAt, now time.Duration) int64 {
	return int64(max(time.Duration(*s)-now, 0))
}

func (d drip) join(s, other *emptyAt, _ time.Duration) { *s = max(*s, *other) }
