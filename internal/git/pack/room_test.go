package pack_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// Given a room that is as large as what it takes to put one object together. Once that is done, it takes the object's size,
// until its reader is closed; and so there is no room for a second one meanwhile.
func TestRoomIsShared(t *testing.T) {
	t.Parallel()
	const size = 9 << 20 // too big for memory
	const wait = 15 * time.Second
	g := bigDelta(t, size)
	dir := t.TempDir()
	files := func(want int, when string) {
		t.Helper()
		if got, err := os.ReadDir(dir); err != nil || len(got) != want {
			t.Errorf("%s there are %d files in the room, %v, want %d", when, len(got), err, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		p := g.openIn(t, pack.NewRoom(dir, 2*size+1, wait))
		first, err := p.OpenObject(t.Context(), 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		files(1, "while it is read")

		start := time.Now()
		if _, err := p.OpenObject(t.Context(), 1, nil); errkind.Of(err) != errkind.Unavailable || time.Since(start) != wait {
			t.Errorf("OpenObject() in a full room = %v after %v, want errkind.Unavailable after %v", err, time.Since(start), wait)
		}
		ctx, leave := context.WithTimeout(t.Context(), wait/2)
		defer leave()
		if _, err := p.OpenObject(ctx, 1, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("OpenObject() for somebody who leaves earlier = %v, want that", err)
		}
		if r, err := p.OpenObject(t.Context(), 0, nil); err != nil || r.Close() != nil {
			t.Errorf("OpenObject() of what is no delta, and needs no room = %v", err)
		}
		files(1, "after others had to go")

		opened := make(chan error, 1)
		go func() {
			second, err := p.OpenObject(t.Context(), 1, nil)
			if err == nil {
				err = second.Close()
			}
			opened <- err
		}()
		synctest.Wait() // until it waits
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-opened; err != nil {
			t.Errorf("OpenObject() when the room is free again = %v", err)
		}
		files(0, "at the end")
	})
}

// Given a room that is smaller than an object needs, the object gets all of it.
func TestRoomThatIsTooSmall(t *testing.T) {
	t.Parallel()
	p := bigDelta(t, 9<<20).openIn(t, pack.NewRoom(t.TempDir(), 1, time.Minute))
	for range 2 {
		if got := readAll(t, p, 1); len(got) != 9<<20+1 {
			t.Errorf("object has %d bytes", len(got))
		}
	}
}

// bigDelta makes a pack of an object of size bytes and another one that is a delta of it, with one byte more.
func bigDelta(t *testing.T, size int) *gitPack {
	t.Helper()
	big := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	whole, err := pack.AppendEntry(nil, git.Object{Kind: git.Blob, Data: big})
	if err != nil {
		t.Fatal(err)
	}
	delta := pack.AppendDeltaSize(pack.AppendDeltaSize(nil, int64(size)), int64(size)+1)
	delta = appendCopy(append(delta, 1, '+'), 0, size)
	return index(t, byHand(t, whole, pack.RawDelta(delta, int64(len(whole)), git.OID{})))
}
