package pack

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/skep-dev/skep/internal/errkind"
)

// Room is where deltas are applied whose results are too big for memory: a folder, and how many bytes of files all packs
// with this room may have in it at a time. Whoever comes when it is full waits, first come, first served. A nil Room is
// os.TempDir, without a bound. It is safe for concurrent use.
type Room struct {
	dir   string
	size  int64
	wait  time.Duration
	bytes *semaphore.Weighted
}

// NewRoom makes a room of size bytes in dir ("" is os.TempDir), for which callers wait at most so long. An object that
// needs more than the whole room gets it all, for itself.
func NewRoom(dir string, size int64, wait time.Duration) *Room {
	return &Room{dir: dir, size: size, wait: wait, bytes: semaphore.NewWeighted(size)}
}

func (r *Room) folder() string {
	if r == nil {
		return ""
	}
	return r.dir
}

// take waits for room for n bytes of files: errkind.Unavailable when there is none in time.
func (r *Room) take(ctx context.Context, n int64) (*share, error) {
	if r == nil || n == 0 {
		return nil, nil //nolint:nilnil // nothing is held
	}
	n = min(n, r.size)
	limited, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	if err := r.bytes.Acquire(limited, n); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("no room for %d bytes of temporary files: %w", n, errkind.Unavailable)
	}
	return &share{room: r, bytes: n}, nil
}

// share is the part of a room that one object has; nil is none. It is owned by whoever puts the object together, then by
// the reader of what was made.
type share struct {
	room  *Room
	bytes int64
}

// shrink gives back all but n bytes.
func (s *share) shrink(n int64) {
	if s != nil && s.bytes > n {
		s.room.bytes.Release(s.bytes - n)
		s.bytes = n
	}
}
