package crdt

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// HLC is a hybrid logical time (Kulkarni and others, 2014): seconds since 1970 and ticks of a millionth within them. As long as time
// goes on a tick is a microsecond; where it does not, ticks are counted up.
type HLC uint64

const ticks = 1_000_000 // in a second

// maxSeconds keeps HLC from overflowing, with centuries to spare for every clock that is set.
const maxSeconds = math.MaxInt64/ticks - 1

// TimeOf returns the HLC of a moment.
func TimeOf(t time.Time) HLC {
	return HLC(max(t.UnixMicro(), 0)) //nolint:gosec // it is not negative
}

// Time returns the moment that an HLC stands for, at best to the microsecond.
func (h HLC) Time() time.Time { return time.UnixMicro(int64(h)).UTC() } //nolint:gosec // below maxSeconds

// String returns the form hlc:SECONDS.TICKS, ticks with four digits or more. It has all of the value.
func (h HLC) String() string { return fmt.Sprintf("hlc:%d.%04d", h/ticks, h%ticks) }

// MarshalText makes HLC a string in JSON.
func (h HLC) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *HLC) UnmarshalText(text []byte) (err error) {
	*h, err = ParseHLC(string(text))
	return err
}

// ParseHLC reads hlc:SECONDS.TICKS, with or without the prefix, and the form of uhlc, TIME/ID, where TIME is an NTP timestamp of 64
// bits in decimal (RFC 5905, section 6, with the seconds since 1970) and the ID is not looked at.
func ParseHLC(text string) (HLC, error) {
	s := strings.TrimPrefix(text, "hlc:")
	if ntp, _, ok := strings.Cut(s, "/"); ok {
		n, err := strconv.ParseUint(ntp, 10, 64)
		if err != nil {
			return 0, badHLC(text)
		}
		return HLC(n>>32*ticks + n&math.MaxUint32*ticks>>32), nil
	}
	sec, tick, ok := strings.Cut(s, ".")
	a, errA := strconv.ParseUint(sec, 10, 64)
	b, errB := strconv.ParseUint(tick, 10, 64)
	if !ok || errA != nil || errB != nil || a > maxSeconds || b >= ticks {
		return 0, badHLC(text)
	}
	return HLC(a*ticks + b), nil
}

func badHLC(text string) error {
	return fmt.Errorf("time %q is not of the form hlc:SECONDS.TICKS with ticks below %d: %w", clip(text), ticks, errkind.Invalid)
}

// clip keeps an error's text short, whatever somebody sent.
func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "…"
	}
	return s
}

// Clock gives out times that only grow. Its zero value goes by the system's clock.
type Clock struct {
	Now func() time.Time // nil: time.Now

	mu   sync.Mutex
	last HLC // guarded by mu
}

// Next returns a time after every one that the clock gave out or observed.
func (c *Clock) Next() HLC {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(now, c.last+1)
	return c.last
}

// Observe takes notice of a time that somebody else made, so that Next is after it. One that is further ahead than drift is refused and
// not noticed: a single clock that is wrong must not carry everybody's along.
func (c *Clock) Observe(h HLC, drift time.Duration) error {
	now := c.now()
	if ahead := uint64(h - min(h, now)); ahead > uint64(max(drift.Microseconds(), 0)) { //nolint:gosec // it is not negative
		return fmt.Errorf("clock_drift: %s is %s ahead of this clock, and %s is allowed: set the clock of whoever sent it: %w",
			h, h.Time().Sub(now.Time()), drift, errkind.Invalid)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, h)
	return nil
}

// Resume takes notice of a time from the own log, whatever the clock says by now.
func (c *Clock) Resume(h HLC) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, h)
}

func (c *Clock) now() HLC {
	if c.Now != nil {
		return TimeOf(c.Now())
	}
	return TimeOf(time.Now())
}
