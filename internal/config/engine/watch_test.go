package engine_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/engine"
)

// A cursor from another process, which has read further in the log, is good here as well.
func TestWatchFromAnotherProcess(t *testing.T) {
	d, log := memory(t)
	behind := open(t, log)
	submit(t, d, set("service.a", "weight", int64(1)))
	cursor := d.Head().Seq
	submit(t, d, set("service.a", "weight", int64(2)))
	err := behind.Watch(t.Context(), cursor, func(e engine.Event) error {
		if e.Seq != cursor+1 {
			t.Errorf("event %d after %d", e.Seq, cursor)
		}
		return errDone
	})
	if !errors.Is(err, errDone) {
		t.Error(err)
	}
}

// Who begins with old events gets none that the state does not have yet, though they are in the log.
func TestWatchIsNotAheadOfTheState(t *testing.T) {
	d, log := memory(t)
	submit(t, d, set("service.a", "weight", int64(1)))
	other := open(t, log)
	submit(t, d, set("service.a", "weight", int64(2)), set("service.a", "weight", int64(3)))
	last := uint64(0)
	err := other.Watch(t.Context(), 0, func(e engine.Event) error {
		if e.Seq != last+1 || e.Seq > other.Head().Seq {
			t.Errorf("event %d after %d, and the state has %d", e.Seq, last, other.Head().Seq)
		}
		if last = e.Seq; last == 2 {
			if err := other.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if last == d.Head().Seq {
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Error(err)
	}
}

// What is kept for those who watch has a bound, in number and in bytes; who is slower reads the log, and misses nothing.
func TestRecentIsBounded(t *testing.T) {
	d, _ := memory(t)
	large := strings.Repeat("x", 200_000)
	write := func(n int) {
		for i := range n {
			text := large
			if i%2 == 0 {
				text = large[1:]
			}
			submit(t, d, set("service.a", "image", text))
		}
	}
	write(400)
	if n, bytes := engine.Recent(d); n > engine.MaxRecent || bytes > engine.MaxRecentBytes {
		t.Errorf("%d events of %d bytes are kept", n, bytes)
	}
	last := uint64(0)
	err := d.Watch(t.Context(), 0, func(e engine.Event) error {
		if e.Seq != last+1 {
			t.Errorf("event %d after %d", e.Seq, last)
		}
		if last = e.Seq; last == 10 {
			write(20)
		}
		if last == 421 {
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Error(err)
	}
}
