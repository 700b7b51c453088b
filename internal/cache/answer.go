package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// answer is one answer, in the making or complete. Its bytes are, in order: size bytes in memory or in the file; passed
// bytes that are gone; tail. When both are needed, Answers.mu is locked before answer.mu.
type answer struct {
	key    Key
	all    *Answers
	cancel context.CancelFunc // ends its making

	mu        sync.Mutex
	memory    []byte
	path      string   // of the file, once there is one
	file      *os.File // open while it is written or followed
	size      int64    // bytes in memory or in the file
	direct    bool     // more came than may be kept
	passed    int64    // bytes after size that all followers have had
	tail      []byte   // bytes after those, which all followers must take before more is made
	done      bool
	err       error
	followers map[*follower]struct{}
	changed   chan struct{} // closed, and replaced, whenever something above has changed; nil when nobody waits
}

// follower is how far one caller has got.
type follower struct {
	pos int64 // guarded by answer.mu
}

func newAnswer(all *Answers, key Key, cancel context.CancelFunc) *answer {
	return &answer{key: key, all: all, cancel: cancel, followers: map[*follower]struct{}{}}
}

func (an *answer) enter() *follower {
	an.mu.Lock()
	defer an.mu.Unlock()
	at := &follower{}
	an.followers[at] = struct{}{}
	return at
}

// exit returns how many followers are left.
func (an *answer) exit(at *follower) int {
	an.mu.Lock()
	defer an.mu.Unlock()
	delete(an.followers, at)
	an.closeUnused()
	an.signal()
	return len(an.followers)
}

// closeUnused keeps idle answers from holding file descriptors.
func (an *answer) closeUnused() {
	if an.done && len(an.followers) == 0 && an.file != nil {
		_ = an.file.Close() // everything was read from it or is of no use
		an.file = nil
	}
}

func (an *answer) reopen() (err error) {
	an.mu.Lock()
	defer an.mu.Unlock()
	if an.file == nil {
		an.file, err = os.Open(an.path)
	}
	return err
}

// signal wakes all who wait. an.mu is held.
func (an *answer) signal() {
	if an.changed != nil {
		close(an.changed)
		an.changed = nil
	}
}

// wait lets go of an.mu until something has changed.
func (an *answer) wait(ctx context.Context) error {
	if an.changed == nil {
		an.changed = make(chan struct{})
	}
	ch := an.changed
	an.mu.Unlock()
	defer an.mu.Lock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// maker is what a producer writes to.
type maker struct {
	ctx context.Context //nolint:containedctx // it is the producer's own, for as long as it runs
	an  *answer
}

func (m maker) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	if err := m.an.write(m.ctx, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// write appends p. Only the producer's goroutine writes, so file, size and direct change under nobody else's hands.
func (an *answer) write(ctx context.Context, p []byte) error {
	if an.direct {
		return an.pass(ctx, p)
	}
	if an.file == nil && an.size+int64(len(p)) <= an.all.small {
		an.mu.Lock()
		defer an.mu.Unlock()
		an.memory = append(an.memory, p...)
		an.size += int64(len(p))
		an.signal()
		return nil
	}
	n := int64(len(p))
	if an.file == nil {
		n += an.size
	}
	if !an.all.reserve(an.size, n) {
		an.mu.Lock()
		an.direct = true
		an.mu.Unlock()
		an.all.forget(an)
		return an.pass(ctx, p)
	}
	if err := an.spill(p); err != nil {
		an.all.unreserve(n)
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

// spill appends p to the file, and makes the file first with what was in memory.
func (an *answer) spill(p []byte) error {
	if an.file == nil {
		f, err := an.all.create()
		if err != nil {
			return err
		}
		if _, err := f.Write(an.memory); err != nil {
			return errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
		an.mu.Lock()
		an.file, an.path, an.memory = f, f.Name(), nil
		an.mu.Unlock()
	}
	if _, err := an.file.WriteAt(p, an.size); err != nil {
		return err
	}
	an.mu.Lock()
	defer an.mu.Unlock()
	an.size += int64(len(p))
	an.signal()
	return nil
}

// pass hands p to all followers and waits until each has taken it.
func (an *answer) pass(ctx context.Context, p []byte) error {
	an.mu.Lock()
	defer an.mu.Unlock()
	an.tail = p
	defer func() { an.tail = nil }()
	an.signal()
	end := an.end()
	for !an.allAt(end) {
		if err := an.wait(ctx); err != nil {
			return err
		}
	}
	an.passed += int64(len(p))
	return nil
}

// end is the position after the last byte there is. an.mu is held.
func (an *answer) end() int64 { return an.size + an.passed + int64(len(an.tail)) }

func (an *answer) allAt(pos int64) bool {
	for at := range an.followers {
		if at.pos < pos {
			return false
		}
	}
	return true
}

// complete ends the making, and returns how many bytes lie in a file.
func (an *answer) complete(err error) int64 {
	an.mu.Lock()
	defer an.mu.Unlock()
	an.done, an.err = true, err
	an.signal()
	inFile := int64(0)
	if an.file != nil {
		inFile = an.size
	}
	an.closeUnused()
	return inFile
}

// discard removes the file of an answer that nobody can find any more.
func (an *answer) discard() {
	an.mu.Lock()
	defer an.mu.Unlock()
	if an.path != "" {
		_ = os.Remove(an.path) // what stays is removed by the next OpenAnswers
	}
}

// follow copies the answer to w, from its start to its end, as it comes.
func (an *answer) follow(ctx context.Context, w io.Writer, at *follower) error {
	var buf []byte // taken from the pool only by those who need it: small answers go out of memory as they lie
	defer func() {
		if buf != nil {
			buffers.Put(&buf)
		}
	}()
	for {
		piece, file, err := an.next(ctx, at, &buf)
		if err != nil || piece == nil {
			return err
		}
		if file != nil {
			if _, err := file.ReadAt(piece, at.pos); err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		an.advance(at, len(piece))
	}
}

// next waits for bytes after at and returns them or, if they are in the file, the buffer to read them into; nil at the
// end.
func (an *answer) next(ctx context.Context, at *follower, buf *[]byte) ([]byte, *os.File, error) {
	an.mu.Lock()
	defer an.mu.Unlock()
	for at.pos == an.end() && !an.done {
		if err := an.wait(ctx); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case an.err != nil:
		return nil, nil, an.err
	case at.pos == an.end():
		return nil, nil, nil
	case at.pos < an.size && an.file == nil:
		return an.memory[at.pos:an.size], nil, nil // never written again, even if memory grows and moves
	}
	if *buf == nil {
		*buf = *buffers.Get().(*[]byte) //nolint:errcheck // nothing else is in the pool
	}
	if at.pos < an.size {
		return (*buf)[:min(int64(len(*buf)), an.size-at.pos)], an.file, nil
	}
	// A copy, because the producer may use its memory for something else once its context has ended.
	n := copy(*buf, an.tail[at.pos-an.size-an.passed:])
	return (*buf)[:n], nil, nil
}

func (an *answer) advance(at *follower, n int) {
	an.mu.Lock()
	defer an.mu.Unlock()
	at.pos += int64(n)
	if an.tail != nil {
		an.signal()
	}
}

var buffers = sync.Pool{New: func() any {
	b := make([]byte, followBuffer)
	return &b
}}
