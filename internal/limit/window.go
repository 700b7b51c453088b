package limit

import "time"

// slices is into how many parts a Window's span is cut. An event counts until the whole part in which it came is older
// than the span: up to an eighth longer than it must. That is the price for nine numbers a key instead of one an event,
// and for never admitting more than was said, as the common estimate from two counters does.
const slices = 8

// Window is a sliding window for each key.
type Window struct {
	table[counts, span]
}

// NewWindow makes a limit of q, which must have been parsed or be as valid as if it had.
func NewWindow(q Quota, opts Options) *Window {
	if err := q.check(); err != nil {
		panic("bug: " + err.Error())
	}
	return &Window{newTable[counts](span{slice: (q.Per + slices - 1) / slices, most: q.Events}, opts)}
}

// counts are the events of the newest slice in which there was one, and of those before it.
type counts struct {
	newest int64 // which slice, counted from the start of time; its count is in [newest % len(in)]
	in     [slices + 1]uint32
}

// span is the rule of windows.
type span struct {
	slice time.Duration
	most  int
}

// at moves the counts on to now: slices that have left the window are emptied.
func (w span) at(s *counts, now time.Duration) {
	current := int64(now / w.slice)
	if current-s.newest >= int64(len(s.in)) {
		*s = counts{newest: current}
		return
	}
	for s.newest < current {
		s.newest++
		s.in[s.newest%int64(len(s.in))] = 0
	}
}

func (s *counts) sum() int {
	n := 0
	for _, c := range s.in {
		n += int(c)
	}
	return n
}

func (w span) take(s *counts, now time.Duration) Verdict {
	w.at(s, now)
	n := s.sum()
	v := Verdict{Allowed: n < w.most}
	if v.Allowed {
		n++
		s.in[s.newest%int64(len(s.in))]++
	} else {
		v.Retry = w.leaves(s, now, n-w.most+1)
	}
	v.Remaining = max(w.most-n, 0)
	v.Reset = w.leaves(s, now, n)
	return v
}

// leaves says when the oldest n events will have left the window.
func (w span) leaves(s *counts, now time.Duration, n int) time.Duration {
	for i := s.newest - slices; i <= s.newest; i++ {
		if i < 0 {
			continue // before the start of time
		}
		if n -= int(s.in[i%int64(len(s.in))]); n <= 0 {
			return time.Duration(i+slices+1)*w.slice - now
		}
	}
	return 0
}

func (w span) used(s *counts, now time.Duration) int64 {
	w.at(s, now)
	return int64(s.sum())
}

func (w span) join(s, other *counts, now time.Duration) {
	w.at(s, now)
	w.at(other, now)
	for i := range s.in {
		s.in[i] = max(s.in[i], other.in[i])
	}
}
