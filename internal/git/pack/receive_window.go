package pack

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/skep-dev/skep/internal/errkind"
)

// windowSize is how much of the stream is in view at once: enough that few entries lie across its end.
const windowSize = 128 << 10

// peeker is what bufio.Reader can: show bytes without taking them. With it a window takes nothing that is not the
// pack's and still reads in large steps.
type peeker interface {
	Peek(n int) ([]byte, error)
	Discard(n int) (int, error)
	Buffered() int
}

// window shows a stream as a slice that slides along it, and sees to it that exactly the consumed bytes are taken from
// the stream. It hands each consumed byte to sink, once, in order, and sums them up per entry.
//
// How it takes no byte too many: from a peeker it borrows. What it borrowed becomes its own only when the parser asks
// for more, since then all that was there must be part of the pack. Without a peeker it reads no more than is certain to
// come: what the parser asks for, and what the entries after that need at the least.
type window struct {
	src   io.Reader
	peek  peeker // nil when src is none
	sink  io.Writer
	most  int64 // MaxPackBytes
	buf   []byte
	pos   int   // the next byte to consume
	end   int   // buf[pos:end] is in view
	lent  int   // the last bytes in view that are borrowed
	start int64 // the stream's offset at buf[0]
	sunk  int   // buf[:sunk] is in the sink
	after int64 // bytes that certainly follow what the parser asks for now

	crc   uint32 // of the entry's bytes before crcAt
	crcAt int
}

func newWindow(src io.Reader, sink io.Writer, most int64, buf []byte) *window {
	w := &window{src: src, sink: sink, most: most, buf: buf}
	w.peek, _ = src.(peeker)
	return w
}

// offset is the next byte's place in the pack.
func (w *window) offset() int64 { return w.start + int64(w.pos) }

// view is what can be seen of the stream.
func (w *window) view() []byte { return w.buf[w.pos:w.end] }

// startEntry starts the sum that endEntry returns.
func (w *window) startEntry() { w.crc, w.crcAt = 0, w.pos }

func (w *window) endEntry() uint32 {
	w.sum()
	return w.crc
}

func (w *window) sum() {
	w.crc = crc32.Update(w.crc, crc32.IEEETable, w.buf[w.crcAt:w.pos])
	w.crcAt = w.pos
}

// fill brings at least one more byte into view. The parser must need it: it may call fill only when everything in view
// is surely part of the pack and does not suffice.
func (w *window) fill() error {
	if err := w.flush(); err != nil {
		return err
	}
	if w.start+int64(w.end) > w.most {
		return fmt.Errorf("pack has more than %d bytes: %w", w.most, errkind.TooLarge)
	}
	if w.end-w.pos == len(w.buf) {
		panic("bug: the window is full; large entries are streamed")
	}
	w.end = copy(w.buf, w.buf[w.pos:w.end])
	w.start += int64(w.pos)
	w.sunk, w.crcAt, w.pos = 0, 0, 0
	if w.peek == nil {
		n, err := io.ReadAtLeast(w.src, w.buf[w.end:min(int64(len(w.buf)), int64(w.end)+1+w.after)], 1)
		w.end += n
		return w.cut(err)
	}
	if _, err := w.peek.Discard(w.lent); err != nil {
		return fmt.Errorf("read the pack: %w", err)
	}
	w.lent = 0
	if _, err := w.peek.Peek(1); err != nil {
		return w.cut(err)
	}
	b, err := w.peek.Peek(min(w.peek.Buffered(), len(w.buf)-w.end))
	if err != nil {
		return w.cut(err)
	}
	w.lent = copy(w.buf[w.end:], b)
	w.end += w.lent
	return nil
}

// cut tells an end of the stream in mid-pack from a broken stream.
func (w *window) cut(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("pack is cut short after %d bytes: %w", w.start+int64(w.end), errkind.Invalid)
	}
	return fmt.Errorf("read the pack: %w", err)
}

// flush hands the consumed bytes to the sink.
func (w *window) flush() error {
	w.sum()
	_, err := w.sink.Write(w.buf[w.sunk:w.pos])
	w.sunk = w.pos
	return err
}

// need brings n bytes into view that are certain to come.
func (w *window) need(n int) error {
	after := w.after
	defer func() { w.after = after }()
	for w.end-w.pos < n {
		w.after = after + int64(n-(w.end-w.pos)) - 1
		if err := w.fill(); err != nil {
			return err
		}
	}
	return nil
}

// Read consumes what a streaming inflater asks for: with an io.ByteReader it asks for no byte that it does not need.
func (w *window) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if w.pos == w.end {
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, w.view())
	w.pos += n
	return n, nil
}

// ReadByte is Read for one byte.
func (w *window) ReadByte() (byte, error) {
	if w.pos == w.end {
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
	b := w.buf[w.pos]
	w.pos++
	return b, nil
}

// close gives back what was borrowed and not consumed. The sink gets the rest of what was.
func (w *window) close() error {
	if w.peek != nil {
		if _, err := w.peek.Discard(w.lent - (w.end - w.pos)); err != nil {
			return fmt.Errorf("read the pack: %w", err)
		}
		w.lent = 0
	} else if w.pos != w.end {
		panic("bug: the window read past the pack's end")
	}
	return w.flush()
}
