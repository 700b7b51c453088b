package crdt_test

import (
	"errors"
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

func hlcs() *rapid.Generator[crdt.HLC] {
	return rapid.Custom(func(t *rapid.T) crdt.HLC {
		return crdt.HLC(rapid.Uint64Range(0, (math.MaxInt64/1_000_000-1)*1_000_000+999_999).Draw(t, "hlc"))
	})
}

func TestTimeSurvivesItsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := hlcs().Draw(t, "h")
		for _, text := range []string{h.String(), strings.TrimPrefix(h.String(), "hlc:")} {
			if got, err := crdt.ParseHLC(text); err != nil || got != h {
				t.Fatalf("ParseHLC(%q) = %v, %v, want %v", text, uint64(got), err, uint64(h))
			}
		}
		if got := crdt.TimeOf(h.Time()); got != h {
			t.Fatalf("TimeOf(%v) = %v, want %v", h.Time(), got, h)
		}
	})
}

// The documented form is of four digits, and orders as the time does.
func TestTimeHasTheDocumentedForm(t *testing.T) {
	h, err := crdt.ParseHLC("hlc:1706012400.0042")
	if err != nil || h != 1706012400*1_000_000+42 || h.String() != "hlc:1706012400.0042" {
		t.Errorf("ParseHLC = %d, %v, %s", h, err, h)
	}
}

// uhlc's form has a fraction of 32 bits. Of these the microseconds are kept, so the order of two times stays, and equal ones stay equal.
func TestTimeOfUHLC(t *testing.T) {
	exact := func(ntp uint64) crdt.HLC {
		n := new(big.Int).Mul(new(big.Int).SetUint64(ntp), big.NewInt(1_000_000))
		return crdt.HLC(n.Rsh(n, 32).Uint64())
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		x, errX := crdt.ParseHLC(strconv.FormatUint(a, 10) + "/33a7c1")
		y, errY := crdt.ParseHLC("hlc:" + strconv.FormatUint(b, 10) + "/1")
		if errX != nil || errY != nil || x != exact(a) || y != exact(b) {
			t.Fatalf("%d is %d, %v; %d is %d, %v", a, x, errX, b, y, errY)
		}
		if a < b && x > y {
			t.Fatalf("%d < %d, but %s > %s", a, b, x, y)
		}
	})
}

func TestBadTimesAreRefused(t *testing.T) {
	for _, text := range []string{"", "hlc:", "1", "1.", ".1", "1.1000000", "-1.0", "1.-1", "+1.0", "1_0.0", "99999999999999999999.0", "9223372036854.0", "x/1", "/", "1.0 "} {
		if h, err := crdt.ParseHLC(text); !errors.Is(err, errkind.Invalid) {
			t.Errorf("ParseHLC(%q) = %v, %v, want invalid", text, h, err)
		}
	}
}

// A clock gives out times that only grow, whatever the system's clock does, and each after all that it observed: so a write that was made
// after another one was seen has the later time.
func TestClockOnlyGrowsAndFollowsWhatItSaw(t *testing.T) {
	const drift = 500 * time.Millisecond
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_700_000_000, 0)
		clock := &crdt.Clock{Now: func() time.Time { return now }}
		var last, seen crdt.HLC
		t.Repeat(map[string]func(*rapid.T){
			"the system's clock is set": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(-5_000_000, 5_000_000).Draw(t, "us")) * time.Microsecond)
			},
			"observe": func(t *rapid.T) {
				ahead := rapid.Int64Range(-2_000_000, 2_000_000).Draw(t, "ahead")
				h := crdt.TimeOf(now.Add(time.Duration(ahead) * time.Microsecond))
				err := clock.Observe(h, drift)
				if refused := errors.Is(err, errkind.Invalid); refused != (ahead > drift.Microseconds()) {
					t.Fatalf("%d µs ahead: %v", ahead, err)
				}
				if err == nil {
					seen = max(seen, h)
				}
			},
			"next": func(t *rapid.T) {
				h := clock.Next()
				if h <= last || h <= seen || h < crdt.TimeOf(now) {
					t.Fatalf("Next() = %s after %s, having seen %s, at %s", h, last, seen, crdt.TimeOf(now))
				}
				last = h
			},
		})
	})
}

func TestClockRefusesWhatIsTooFarAhead(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	clock := &crdt.Clock{Now: func() time.Time { return now }}
	for _, h := range []crdt.HLC{crdt.TimeOf(now.Add(time.Second)), math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		err := clock.Observe(h, 500*time.Millisecond)
		if !errors.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), "clock_drift") {
			t.Errorf("Observe(%d) = %v, want clock_drift", uint64(h), err)
		}
	}
	if h := clock.Next(); h != crdt.TimeOf(now) {
		t.Errorf("Next() = %s, carried along by a time that was refused", h)
	}
	clock.Resume(crdt.TimeOf(now.Add(time.Hour)))
	if h := clock.Next(); h != crdt.TimeOf(now.Add(time.Hour))+1 {
		t.Errorf("Next() = %s, not after the own log", h)
	}
}
