package pack

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/bits"
	"os"
	"sync"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// maxDeltaHeld is the largest delta, compressed or not, that is applied in memory. Larger ones are streamed.
const maxDeltaHeld = 4 << 20

// content is what a base holds: in memory, or in a scratch file when it is larger than maxHeld.
type content struct {
	mem  []byte // from the resolver's buffers; not nil, even of an empty object
	file *os.File
	size int64
}

func (c *content) there() bool { return c.mem != nil || c.file != nil }

func (c *content) drop(bufs *bufferPool) {
	if c.mem != nil {
		bufs.put(c.mem)
	}
	if c.file != nil {
		_ = c.file.Close() // it has no name: closing removes it
	}
	*c = content{}
}

func (c *content) readerAt() io.ReaderAt {
	if c.file != nil {
		return c.file
	}
	return bytes.NewReader(c.mem)
}

// make applies delta num to its base's content. When the object is new it is judged; its kind is that of its base.
func (r *resolver) make(w *resolveWorker, base *content, num int32, kind git.Kind, isNew bool) (c content, o git.OID, err error) {
	off, n := r.t.extent(num)
	size := int64(r.t.size[num])
	if size > maxHeld && kind != git.Blob {
		return c, o, fmt.Errorf("%s has %d bytes, the limit is %d: %w", kind, size, maxHeld, errkind.TooLarge)
	}
	if base.file != nil || size > maxHeld || n > maxDeltaHeld {
		return r.makeStreaming(w, base, num, kind, isNew)
	}
	raw, err := r.rc.spill.view(&w.raw, off, n)
	if err != nil {
		return c, o, err
	}
	h, err := parseEntryHeader(raw)
	if err != nil {
		return c, o, err
	}
	if h.size > maxDeltaHeld {
		return r.makeStreaming(w, base, num, kind, isNew)
	}
	if int64(cap(w.delta)) < h.size {
		w.delta = make([]byte, h.size+h.size/4)
	}
	delta := w.delta[:h.size]
	if _, err := inflate(delta, raw[h.n:]); err != nil {
		return c, o, err
	}
	c = content{mem: r.bufs.get(int(size)), size: size}
	if _, err = applyDelta(c.mem, base.mem, delta, size); err == nil && isNew {
		o, err = w.judge.see(num, kind, c.mem, r.judged(num, base))
	}
	if err != nil {
		c.drop(&r.bufs)
	}
	return c, o, err
}

// judged returns the content of a delta's base, if it was judged as one of the pack's own. What an appended base names was
// noted elsewhere.
func (r *resolver) judged(num int32, base *content) []byte {
	if int(r.t.base[num]) >= r.own {
		return nil
	}
	return base.mem
}

// makeStreaming is make for what is too big for memory.
func (r *resolver) makeStreaming(w *resolveWorker, base *content, num int32, kind git.Kind, isNew bool) (c content, o git.OID, err error) {
	s, err := r.open(num)
	if err != nil {
		return c, o, err
	}
	defer putSection(s)
	z := getInflater(s.buf)
	defer putInflater(z)
	c, err = r.fill(int64(r.t.size[num]), func(out io.Writer) error {
		if isNew {
			w.judge.startHash(kind, int64(r.t.size[num]))
			out = io.MultiWriter(out, w.judge.hash)
		}
		_, err := streamDelta(out, base.readerAt(), base.size, bufio.NewReaderSize(z, ioBufferSize), int64(r.t.size[num]))
		return err
	})
	if err == nil && isNew {
		if c.file != nil {
			o, err = w.judge.endHash()
		} else {
			o, err = w.judge.see(num, kind, c.mem, r.judged(num, base))
		}
	}
	if err != nil {
		c.drop(&r.bufs)
	}
	return c, o, err
}

// whole inflates an object that is no delta.
func (r *resolver) whole(w *resolveWorker, num int32) (c content, err error) {
	size := int64(r.t.size[num])
	off, n := r.t.extent(num)
	if size <= maxHeld && n <= maxDeltaHeld {
		raw, err := r.rc.spill.view(&w.raw, off, n)
		if err != nil {
			return c, err
		}
		h, err := parseEntryHeader(raw)
		if err != nil {
			return c, err
		}
		c = content{mem: r.bufs.get(int(size)), size: size}
		if _, err := inflate(c.mem, raw[h.n:]); err != nil {
			c.drop(&r.bufs)
			return c, err
		}
		return c, nil
	}
	s, err := r.open(num)
	if err != nil {
		return c, err
	}
	defer putSection(s)
	z := getInflater(s.buf)
	defer putInflater(z)
	return r.fill(size, func(out io.Writer) error {
		_, err := io.Copy(out, z)
		return err
	})
}

// open returns a reader that stands at an entry's compressed bytes.
func (r *resolver) open(num int32) (*section, error) {
	off, n := r.t.extent(num)
	s := getSection(r.rc.spill, off, int64(n))
	b, err := s.buf.Peek(min(n, maxEntryHeader))
	if err != nil {
		putSection(s)
		return nil, fmt.Errorf("read the pack back: %w", err)
	}
	h, err := parseEntryHeader(b)
	if err == nil {
		_, err = s.buf.Discard(h.n)
	}
	if err != nil {
		putSection(s)
		return nil, err
	}
	return s, nil
}

// fill makes content of size bytes of what f writes.
func (r *resolver) fill(size int64, f func(io.Writer) error) (c content, err error) {
	if size <= maxHeld {
		c = content{mem: r.bufs.get(int(size)), size: size}
		m := memWriter{b: c.mem}
		if err = f(&m); err == nil && len(m.b) != 0 {
			err = errInflateShort
		}
		if err != nil {
			c.drop(&r.bufs)
		}
		return c, err
	}
	file, err := unnamedFile(r.rc.opts.Dir)
	if err != nil {
		return c, err
	}
	c = content{file: file, size: size}
	out := bufio.NewWriterSize(file, spillChunk)
	if err = f(out); err == nil {
		err = out.Flush()
	}
	if err != nil {
		c.drop(&r.bufs)
	}
	return c, err
}

// memWriter fills a slice.
type memWriter struct{ b []byte }

func (m *memWriter) Write(p []byte) (int, error) {
	if len(p) > len(m.b) {
		return 0, errInflateLong
	}
	m.b = m.b[copy(m.b, p):]
	return len(p), nil
}

const (
	// pooledBytes is what a bufferPool keeps at most, with what is in use: a little more than bases may take.
	pooledBytes = baseCacheBytes + 16<<20
	// Buffers come in classes, four to a power of two, so that one fits many objects and at most a fifth is not used.
	minClass     = 10 // as a power of two: buffers of 1 KiB
	maxClass     = 25
	classesOfTwo = 4
	// largerClasses is how much too large a buffer may be when there are enough already: four times.
	largerClasses = 2 * classesOfTwo
)

// bufferPool keeps buffers for content: bases come and go by the hundred thousand, and as garbage they would double the
// memory of a receive. Safe for concurrent use.
type bufferPool struct {
	mu   sync.Mutex
	free [(maxClass - minClass + 1) * classesOfTwo][][]byte // guarded by mu
	size int                                                // of all buffers, used or free; guarded by mu
}

// classOf returns the smallest class that holds n bytes, and the class's size.
func classOf(n int) (class, size int) {
	n = max(n, 1<<minClass+1)
	e := bits.Len(uint(n - 1)) // 1<<(e-1) < n <= 1<<e
	step := 1 << (e - 3)
	size = (n + step - 1) &^ (step - 1)
	return (e-1-minClass)*classesOfTwo + (size-1<<(e-1))/step - 1, size
}

// get returns a buffer of n bytes, whose content is arbitrary.
func (p *bufferPool) get(n int) []byte {
	class, size := classOf(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	last := class
	if p.size+size > pooledBytes { // rather one that is too large than one more
		last = min(class+largerClasses, len(p.free)-1)
	}
	for c := class; c <= last; c++ {
		if list := p.free[c]; len(list) > 0 {
			b := list[len(list)-1]
			p.free[c] = list[:len(list)-1]
			return b[:n]
		}
	}
	p.size += size
	return make([]byte, n, size)
}

// put takes a buffer of get back.
func (p *bufferPool) put(b []byte) {
	class, size := classOf(cap(b))
	p.mu.Lock()
	defer p.mu.Unlock()
	if size != cap(b) {
		panic("bug: a buffer from elsewhere")
	}
	if p.size > pooledBytes {
		p.size -= size
		return
	}
	p.free[class] = append(p.free[class], b)
}
