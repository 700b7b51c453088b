package pack

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// maxStreamMemory is the largest object that OpenObject holds in memory on the way to its result. It holds up to three of
// them (base, delta, result), so that a stream stays within the 32 MiB that serving one may take.
const maxStreamMemory = 8 << 20

// OpenObject streams an object of any size with bounded memory: big deltas are applied through files in the pack's room,
// which are gone when the reader is closed; errkind.Unavailable when the room is full for too long. The reader's last Read
// fails if the object is damaged.
func (p *Pack) OpenObject(ctx context.Context, at Pos, bases BaseCache) (io.ReadCloser, error) {
	r, err := p.openObject(ctx, at, bases)
	if err != nil {
		return nil, fmt.Errorf("open object %s: %w", p.OID(at), err)
	}
	return r, nil
}

func (p *Pack) openObject(ctx context.Context, at Pos, bases BaseCache) (io.ReadCloser, error) {
	s := scratches.Get().(*scratch) //nolint:errcheck,forcetypeassert // the pool has nothing else
	defer putScratch(s)
	base, fits, err := p.findBase(s, at, bases, maxStreamMemory)
	if err != nil {
		return nil, err
	}
	if fits {
		o, err := p.applyChain(s, base, bases)
		if err == nil {
			return io.NopCloser(bytes.NewReader(o.Data)), nil
		}
		if !errors.Is(err, errkind.TooLarge) {
			return nil, err
		}
	}
	if _, delta := p.Base(at); !delta {
		return p.openEntry(at, p.ObjectSize(at))
	}
	return p.spill(ctx, s, at, bases)
}

// spill resolves a chain of deltas of any size. Each object on the way is in memory if it is small, else in a file; never
// more than two are there at a time.
func (p *Pack) spill(ctx context.Context, s *scratch, at Pos, bases BaseCache) (_ io.ReadCloser, err error) {
	cached, _, err := p.findBase(s, at, bases, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	held, err := p.room.take(ctx, p.fileBytes(s.chain))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			held.shrink(0)
		}
	}()
	base := &stage{mem: *bytes.NewBuffer(cached.Data)}
	for _, at := range slices.Backward(s.chain) {
		next, err := p.stage(ctx, at, base)
		if err = errors.Join(err, base.Close()); err != nil {
			return nil, errors.Join(err, next.Close())
		}
		base = next
	}
	return base.open(held)
}

// fileBytes is the most that the files of two neighbours in a chain of deltas take.
func (p *Pack) fileBytes(chain []Pos) (most int64) {
	var before int64
	for _, at := range chain {
		n := p.ObjectSize(at)
		if n <= maxStreamMemory {
			n = 0
		}
		most = max(most, before+n)
		before = n
	}
	return most
}

// stage makes the object at, from base if it is a delta. After an error, too, what it returns can be closed.
func (p *Pack) stage(ctx context.Context, at Pos, base *stage) (*stage, error) {
	if err := ctx.Err(); err != nil {
		return &stage{}, err
	}
	size := p.ObjectSize(at)
	_, delta := p.Base(at)
	limit := size
	if delta {
		limit = maxDeltaSize(size)
	}
	e, err := p.openEntry(at, limit)
	if err != nil {
		return &stage{}, err
	}
	defer e.close()
	st, err := newStage(size, p.room.folder())
	if err != nil {
		return st, err
	}
	var made int64
	if delta {
		in := getReader(e)
		made, err = streamDelta(st, base, base.size(), in, size)
		putReader(in)
	} else {
		made, err = copyPooled(st, e)
	}
	if err == nil {
		err = st.finish()
	}
	if err == nil && made != size {
		err = errTableSize
	}
	return st, err
}

// stage is one object on the way to another: in memory or in a file.
type stage struct {
	mem     bytes.Buffer
	file    *os.File // nil: in memory
	out     *bufio.Writer
	written int64  // to the file
	held    *share // of the room, once it is a reader
}

func newStage(size int64, dir string) (*stage, error) {
	if size <= maxStreamMemory {
		return &stage{}, nil
	}
	f, err := os.CreateTemp(dir, "skep-object-*")
	if err != nil {
		return &stage{}, fmt.Errorf("make a file to apply deltas in: %w", err)
	}
	return &stage{file: f, out: bufio.NewWriterSize(f, ioBufferSize)}, nil
}

func (st *stage) Write(b []byte) (int, error) {
	if st.file == nil {
		return st.mem.Write(b)
	}
	st.written += int64(len(b))
	return st.out.Write(b)
}

func (st *stage) finish() error {
	if st.file == nil {
		return nil
	}
	return st.out.Flush()
}

func (st *stage) size() int64 {
	if st.file == nil {
		return int64(st.mem.Len())
	}
	return st.written
}

// ReadAt reads what was written before finish.
func (st *stage) ReadAt(b []byte, offset int64) (int, error) {
	if st.file != nil {
		return st.file.ReadAt(b, offset)
	}
	return bytes.NewReader(st.mem.Bytes()).ReadAt(b, offset)
}

// open turns a finished stage into a reader, which owns it and what is held for it.
func (st *stage) open(held *share) (io.ReadCloser, error) {
	held.shrink(st.written)
	st.held = held
	if st.file == nil {
		return io.NopCloser(bytes.NewReader(st.mem.Bytes())), nil
	}
	if _, err := st.file.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(fmt.Errorf("read file of applied deltas: %w", err), st.Close())
	}
	return st, nil
}

// Read makes a stage with a file an io.ReadCloser.
func (st *stage) Read(b []byte) (int, error) { return st.file.Read(b) }

// Close removes the file.
func (st *stage) Close() error {
	if st.file == nil {
		return nil
	}
	err := errors.Join(st.file.Close(), os.Remove(st.file.Name()))
	st.held.shrink(0)
	return err
}

// copyPooled is io.Copy with a pooled buffer.
func copyPooled(w io.Writer, r io.Reader) (int64, error) {
	buf := getBuffer()
	defer putBuffer(buf)
	// Neither side's shortcuts: they would bring buffers of their own.
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, buf[:])
}

// entryStream inflates one entry piece by piece: io.EOF comes after everything was found right.
type entryStream struct {
	header   entryHeader
	left     int64 // of header.size
	length   int64 // of the extent
	section  *section
	inflater *inflater
}

func (p *Pack) openEntry(at Pos, limit int64) (*entryStream, error) {
	offset, length := p.Extent(at)
	s := getSection(p.data, offset, length)
	head, err := s.buf.Peek(int(min(length, maxEntryHeader)))
	if err != nil {
		putSection(s)
		return nil, fmt.Errorf("read pack at offset %d: %w", offset, err)
	}
	h, err := p.entryHeader(at, head, limit, length)
	if err == nil {
		_, err = s.buf.Discard(h.n)
	}
	if err != nil {
		putSection(s)
		return nil, err
	}
	return &entryStream{header: h, left: h.size, length: length, section: s, inflater: getInflater(s.buf)}, nil
}

func (e *entryStream) Read(b []byte) (int, error) {
	n, err := e.inflater.Read(b)
	e.left -= int64(n)
	switch {
	case e.left < 0:
		return 0, errInflateLong
	case err == io.EOF && e.left > 0: //nolint:errorlint // the inflater returns it bare
		return n, errInflateShort
	case err == io.EOF: //nolint:errorlint // as above
		return n, e.checkEnd()
	}
	return n, err
}

// fill reads the whole stream into b, which has header.size bytes.
func (e *entryStream) fill(b []byte) error {
	if err := e.inflater.fill(b); err != nil {
		return err
	}
	if err := e.checkEnd(); err != io.EOF { //nolint:errorlint // returned bare
		return err
	}
	return nil
}

// checkEnd returns io.EOF if the stream, read to its end, ends where the extent ends.
func (e *entryStream) checkEnd() error {
	if e.section.consumed() != e.length {
		return errEntryLength
	}
	return io.EOF
}

// close gives the buffers back; after it nothing can be read.
func (e *entryStream) close() {
	if e.inflater == nil {
		return
	}
	putInflater(e.inflater)
	putSection(e.section)
	e.inflater, e.section = nil, nil
}

// Close is close, for an io.ReadCloser.
func (e *entryStream) Close() error {
	e.close()
	return nil
}

// readStreamed reads an object that is small enough itself, but has a base or a delta that is not: through files. Read has no
// context; how long this takes is bounded by the limits of objects, and by how long the room lets one wait.
//
//nolint:contextcheck,nolintlint // as above; it would be said of every caller of Read, and only here it is "unused"
func (p *Pack) readStreamed(at Pos, bases BaseCache) (git.Object, error) {
	r, err := p.openObject(context.Background(), at, bases) //nolint:forbidigo // as above
	if err != nil {
		return git.Object{}, err
	}
	data, err := io.ReadAll(io.LimitReader(r, MaxReadBytes))
	if err = errors.Join(err, r.Close()); err != nil {
		return git.Object{}, err
	}
	if int64(len(data)) != p.ObjectSize(at) {
		return git.Object{}, errTableSize
	}
	return git.Object{Kind: p.Kind(at), Data: data}, nil
}
