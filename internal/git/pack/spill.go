package pack

import (
	"crypto/sha1" //nolint:gosec // the trailer of a pack is a plain SHA-1 by format
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/skep-dev/skep/internal/git"
)

const (
	// spillChunk is how much of a pack goes to its file in one write.
	spillChunk = 256 << 10
	// spillChunks bounds what waits to be written: when the disk is slower than the client, the client waits.
	spillChunks = 4
)

// spill holds the bytes of a pack as they come in: in memory while they are few, else in a file. A goroutine of its own
// hashes and writes while the next entries are inflated. Owned by one goroutine, save that ReadAt is safe for all once
// drain has returned.
type spill struct {
	dir    string
	limit  int64 // of what stays in memory
	mem    []byte
	file   *os.File
	size   int64
	sum    hash.Hash // of all that was written; owned by the writer goroutine while it runs
	chunk  []byte
	full   chan []byte   // nil while no writer runs
	free   chan []byte   // chunks to fill
	done   chan struct{} // closed when the writer has ended
	broken error         // the writer's, to be read after done
}

func newSpill(dir string, limit int64) *spill {
	return &spill{dir: dir, limit: limit, sum: sha1.New()} //nolint:gosec // see the import
}

// Write adds the next bytes of the pack.
func (s *spill) Write(p []byte) (int, error) {
	if s.file == nil {
		if s.size+int64(len(p)) <= s.limit {
			s.mem = append(s.mem, p...)
			s.size += int64(len(p))
			return len(p), nil
		}
		if err := s.toFile(); err != nil {
			return 0, err
		}
	}
	s.size += int64(len(p))
	n := len(p)
	for len(p) > 0 {
		k := copy(s.chunk[len(s.chunk):cap(s.chunk)], p)
		s.chunk, p = s.chunk[:len(s.chunk)+k], p[k:]
		if len(s.chunk) == cap(s.chunk) {
			select {
			case s.full <- s.chunk:
			case <-s.done:
				return 0, s.broken
			}
			select {
			case s.chunk = <-s.free:
			case <-s.done:
				return 0, s.broken
			}
		}
	}
	return n, nil
}

// toFile makes the file and starts its writer with what is in memory so far.
func (s *spill) toFile() error {
	f, err := os.CreateTemp(s.dir, "receive-*.pack")
	if err != nil {
		return fmt.Errorf("make a file for the pack: %w", err)
	}
	s.file = f
	s.full, s.free, s.done = make(chan []byte, spillChunks), make(chan []byte, spillChunks+2), make(chan struct{})
	for range spillChunks + 1 {
		s.free <- make([]byte, 0, spillChunk)
	}
	s.chunk = make([]byte, 0, spillChunk)
	first := s.mem
	s.mem = nil
	go func() {
		defer close(s.done)
		if s.broken = s.put(first); s.broken != nil {
			return
		}
		for c := range s.full {
			if s.broken = s.put(c); s.broken != nil {
				return
			}
			s.free <- c[:0]
		}
	}()
	return nil
}

func (s *spill) put(p []byte) error {
	s.sum.Write(p)
	if _, err := s.file.Write(p); err != nil {
		return fmt.Errorf("write the pack: %w", err)
	}
	return nil
}

// drain waits until everything is written.
func (s *spill) drain() error {
	if s.full == nil {
		return nil
	}
	if len(s.chunk) > 0 {
		select {
		case s.full <- s.chunk:
		case <-s.done:
		}
	}
	close(s.full)
	<-s.done
	s.full, s.free, s.chunk = nil, nil, nil
	return s.broken
}

// checksum is the SHA-1 of everything so far. It needs a drained spill.
func (s *spill) checksum() git.OID {
	var o git.OID
	if s.file == nil {
		return sha1.Sum(s.mem) //nolint:gosec // see the import
	}
	s.sum.Sum(o[:0])
	return o
}

// append adds bytes after drain, without a goroutine. They do not enter the checksum: see rehash.
func (s *spill) append(p []byte) error {
	if s.file == nil {
		s.mem = append(s.mem, p...)
		s.size += int64(len(p))
		return nil
	}
	if _, err := s.file.WriteAt(p, s.size); err != nil {
		return fmt.Errorf("write the pack: %w", err)
	}
	s.size += int64(len(p))
	return nil
}

// overwrite changes bytes that were written before.
func (s *spill) overwrite(p []byte, at int64) error {
	if s.file == nil {
		copy(s.mem[at:], p)
		return nil
	}
	if _, err := s.file.WriteAt(p, at); err != nil {
		return fmt.Errorf("write the pack: %w", err)
	}
	return nil
}

// rehash computes the checksum anew, after bytes were appended or changed.
func (s *spill) rehash() (git.OID, error) {
	if s.file == nil {
		return s.checksum(), nil
	}
	s.sum.Reset()
	if _, err := io.CopyBuffer(s.sum, io.NewSectionReader(s.file, 0, s.size), make([]byte, spillChunk)); err != nil {
		return git.OID{}, fmt.Errorf("read the pack back: %w", err)
	}
	return s.checksum(), nil
}

// ReadAt reads what was written. It needs a drained spill.
func (s *spill) ReadAt(p []byte, off int64) (int, error) {
	if s.file != nil {
		return s.file.ReadAt(p, off)
	}
	if off < 0 || off >= int64(len(s.mem)) {
		return 0, io.EOF
	}
	n := copy(p, s.mem[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// view returns n bytes at off: of the memory itself, or read into buf, which grows as needed.
func (s *spill) view(buf *[]byte, off int64, n int) ([]byte, error) {
	if s.file == nil {
		return s.mem[off : off+int64(n)], nil
	}
	if cap(*buf) < n {
		*buf = make([]byte, n+n/4)
	}
	b := (*buf)[:n]
	if _, err := s.file.ReadAt(b, off); err != nil {
		return nil, fmt.Errorf("read the pack back: %w", err)
	}
	return b, nil
}

// sync makes the file durable.
func (s *spill) sync() error {
	if s.file == nil {
		return nil
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync the pack: %w", err)
	}
	return nil
}

// discard ends the writer and removes the file.
func (s *spill) discard() error {
	if s.full != nil {
		close(s.full)
		<-s.done
		s.full = nil
	}
	s.mem = nil
	if s.file == nil {
		return nil
	}
	name := s.file.Name()
	err := s.file.Close()
	if rm := os.Remove(name); rm != nil && !errors.Is(rm, os.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	s.file = nil
	return err
}
