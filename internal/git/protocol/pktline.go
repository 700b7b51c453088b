package protocol

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/skep-dev/skep/internal/errkind"
)

// A pkt-line is four hexadecimal digits, the length of the whole, and its payload
// (https://git-scm.com/docs/gitprotocol-common).
const (
	pktHeader = 4
	// maxPktLine is the longest pkt-line: git's LARGE_PACKET_MAX.
	maxPktLine = 65520
)

// Pkt is a kind of pkt-line.
type Pkt int

// The kinds: lines with a payload, and the three special packets.
const (
	PktData        Pkt = iota
	PktFlush           // 0000: the end of a message
	PktDelim           // 0001: the end of a section
	PktResponseEnd     // 0002: the end of a stateless answer, between git and its remote helper
)

// ErrRemote is what an ERR line of the other side becomes. Its text is the line.
type ErrRemote struct{ Text string }

func (e *ErrRemote) Error() string { return "remote error: " + e.Text }

// Unwrap says that the other side refused what this side asked for.
func (e *ErrRemote) Unwrap() error { return errkind.Invalid }

// PktReader reads pkt-lines. It buffers: what follows the lines is read through Rest.
type PktReader struct {
	r     *bufio.Reader
	left  int64 // how many bytes may still come
	limit int64
}

var pktReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, maxPktLine) }}

// NewPktReader returns a reader that refuses, with errkind.TooLarge, to read more than limit bytes of lines.
func NewPktReader(r io.Reader, limit int64) *PktReader {
	br, _ := pktReaders.Get().(*bufio.Reader)
	br.Reset(r)
	return &PktReader{r: br, left: limit, limit: limit}
}

// Close gives the buffer back. What Rest returned is dead after it.
func (p *PktReader) Close() {
	if p.r != nil {
		p.r.Reset(nil)
		pktReaders.Put(p.r)
		p.r = nil
	}
}

// Allow grants a new limit: one request is over and the next begins.
func (p *PktReader) Allow(limit int64) { p.left, p.limit = limit, limit }

// Rest returns what comes after the lines that were read.
func (p *PktReader) Rest() io.Reader { return p.r }

// Next reads one pkt-line. The payload is valid until the next call. At the end of input, between two lines, the error
// is io.EOF.
func (p *PktReader) Next() (Pkt, []byte, error) {
	head, err := p.r.Peek(pktHeader)
	if err != nil {
		if errors.Is(err, io.EOF) && len(head) == 0 {
			return 0, nil, io.EOF
		}
		return 0, nil, cutShort(err)
	}
	n, ok := pktLength(head)
	if !ok {
		return 0, nil, fmt.Errorf("pkt-line starts with %q, not its length: %w", head, errkind.Invalid)
	}
	size := max(n, pktHeader)
	if p.left -= int64(size); p.left < 0 {
		return 0, nil, fmt.Errorf("request has more than %d bytes: %w", p.limit, errkind.TooLarge)
	}
	line, err := p.r.Peek(size)
	if err != nil {
		return 0, nil, cutShort(err)
	}
	if _, err := p.r.Discard(size); err != nil {
		return 0, nil, err
	}
	switch n {
	case 0:
		return PktFlush, nil, nil
	case 1:
		return PktDelim, nil, nil
	case 2:
		return PktResponseEnd, nil, nil
	}
	return PktData, line[pktHeader:size:size], nil
}

// Line is Next without the payload's line feed. An ERR line comes as an *ErrRemote.
func (p *PktReader) Line() (Pkt, []byte, error) {
	k, b, err := p.Next()
	b = bytes.TrimSuffix(b, []byte("\n"))
	if text, ok := bytes.CutPrefix(b, []byte("ERR ")); ok && err == nil {
		return k, nil, &ErrRemote{Text: clip(text, maxReasonBytes)}
	}
	return k, b, err
}

// AtEnd reports whether the input is at its end. It waits for a byte to come.
func (p *PktReader) AtEnd() bool {
	_, err := p.r.Peek(1)
	return errors.Is(err, io.EOF)
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &refusal{text: "the other side hung up in the middle of a message", kind: errkind.Invalid, cause: io.ErrUnexpectedEOF}
	}
	return err
}

// pktLength reads the four digits. Lengths 0 to 2 are the special packets, 3 is none.
func pktLength(h []byte) (int, bool) {
	n := 0
	for _, c := range h[:pktHeader] {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | int(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | int(c-'a'+10)
		case 'A' <= c && c <= 'F':
			n = n<<4 | int(c-'A'+10)
		default:
			return 0, false
		}
	}
	return n, n != 3 && n <= maxPktLine
}

const hexDigits = "0123456789abcdef"

// putPktLength writes a packet's length, header included, into its first four bytes.
func putPktLength(p []byte, n int) {
	_ = p[3]
	p[0], p[1], p[2], p[3] = hexDigits[n>>12&15], hexDigits[n>>8&15], hexDigits[n>>4&15], hexDigits[n&15]
}

// PktWriter writes pkt-lines through a buffer: nothing goes out before Send or before the buffer is full. The first
// error stays, and Send returns it.
type PktWriter struct {
	w    io.Writer
	buf  []byte
	hold bool // the buffer grows instead of being written: the request is not read to its end yet
	band bool // each line is on band 1 of a side-band: the client asked for sideband-all
	err  error
}

// pktWriterBuffer is how much is collected before it is written.
const pktWriterBuffer = 64 << 10

var pktWriters = sync.Pool{New: func() any { b := make([]byte, 0, pktWriterBuffer+maxPktLine); return &b }}

// NewPktWriter returns a writer of pkt-lines to w.
func NewPktWriter(w io.Writer) *PktWriter {
	b, _ := pktWriters.Get().(*[]byte)
	return &PktWriter{w: w, buf: (*b)[:0]}
}

// Close gives the buffer back. It sends nothing.
func (p *PktWriter) Close() {
	if cap(p.buf) > 0 && cap(p.buf) <= 2*(pktWriterBuffer+maxPktLine) {
		b := p.buf[:0]
		pktWriters.Put(&b)
	}
	p.buf = nil
}

// Line writes the parts as one line and a line feed. What is over 65516 bytes is an error.
func (p *PktWriter) Line(parts ...string) {
	at := p.open()
	for _, s := range parts {
		p.buf = append(p.buf, s...)
	}
	p.buf = append(p.buf, '\n')
	p.seal(at)
}

// text is Line without the line feed.
func (p *PktWriter) text(parts ...string) {
	at := p.open()
	for _, s := range parts {
		p.buf = append(p.buf, s...)
	}
	p.seal(at)
}

// Flush writes a flush packet.
func (p *PktWriter) Flush() { p.special("0000") }

// Delim writes a delimiter packet.
func (p *PktWriter) Delim() { p.special("0001") }

// Send writes what is buffered.
func (p *PktWriter) Send() error {
	if p.err == nil && len(p.buf) > 0 {
		_, p.err = p.w.Write(p.buf)
	}
	p.buf = p.buf[:0]
	return p.err
}

// raw writes pkt-lines that are there already, without another copy when they are many.
func (p *PktWriter) raw(b []byte) {
	if p.hold || len(b) < pktWriterBuffer {
		p.buf = append(p.buf, b...)
		p.spill()
		return
	}
	if p.Send() == nil {
		_, p.err = p.w.Write(b)
	}
}

// open starts a line: the caller appends its payload to p.buf, then calls seal with what open returned.
func (p *PktWriter) open() int {
	at := len(p.buf)
	p.buf = append(p.buf, "0000"...)
	if p.band {
		p.buf = append(p.buf, bandPack)
	}
	return at
}

// fail writes why there is no answer, or no more of it.
func (p *PktWriter) fail(text string) {
	if !p.band {
		p.Line("ERR ", text)
		return
	}
	at := p.open()
	p.buf[len(p.buf)-1] = bandError
	p.buf = append(append(p.buf, text...), '\n')
	p.seal(at)
}

func (p *PktWriter) seal(at int) {
	n := len(p.buf) - at
	if n > maxPktLine {
		p.buf = p.buf[:at]
		if p.err == nil {
			p.err = fmt.Errorf("pkt-line of %d bytes: %w", n, errkind.TooLarge)
		}
		return
	}
	putPktLength(p.buf[at:], n)
	p.spill()
}

func (p *PktWriter) special(s string) {
	p.buf = append(p.buf, s...)
	p.spill()
}

func (p *PktWriter) spill() {
	if len(p.buf) >= pktWriterBuffer && !p.hold {
		_ = p.Send() // kept in p.err
	}
}
