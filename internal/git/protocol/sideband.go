package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// The bands of a side-band packet: its payload's first byte.
const (
	bandPack     = 1
	bandProgress = 2
	bandError    = 3
)

// What one packet carries besides its header and band byte.
const (
	noSideBand    = 0
	sideBandData  = 1000 - pktHeader - 1
	sideBand64k   = maxPktLine - pktHeader - 1
	framesAtATime = 4 // packets of 64k that are collected before they are written: fewer, larger writes
)

// muxer frames what goes to a client over several bands. Write takes the pack (band 1); it copies each byte once, into
// packets as large as the client can take, and writes several packets at a time. Progress and Fail may be called by
// other goroutines, also after Close, and a packet without payload is sent when nothing was for a while.
//
// Without side-band (the capability was not asked for) Write passes on what it gets, and there are no other bands.
type muxer struct {
	out  io.Writer
	most int // of payload in one packet; 0: no side-band

	// mu is held across writes to out: to keep packets whole and apart is what the muxer is for.
	mu      sync.Mutex
	buf     []byte // framed packets; the last one may be open
	open    int    // where the open packet starts, or -1
	header  []byte // goes out before the first byte
	all     bool   // an error is on band 3 before the first byte too: the client asked for sideband-all
	hold    bool   // the header is not known yet: nothing may go out
	started bool   // something was put into buf
	closed  bool
	err     error
	last    time.Time // of the last write to out
	every   time.Duration
	timer   *time.Timer
}

// errClosed is what a muxer says to who writes after its end.
var errClosed = errors.New("write an answer that is over")

var muxBuffers = sync.Pool{New: func() any { b := make([]byte, 0, framesAtATime*maxPktLine); return &b }}

// newMuxer starts an answer to out. most is a packet's payload: sideBand64k, sideBandData or noSideBand; every is after
// which silence a packet is sent: 0 is keepAliveAfter, and less is never.
func newMuxer(out io.Writer, most int, every time.Duration) *muxer {
	b, _ := muxBuffers.Get().(*[]byte)
	m := &muxer{out: out, most: most, buf: (*b)[:0], open: -1, last: time.Now(), every: every}
	if every == 0 {
		m.every = keepAliveAfter
	}
	if most > 0 && every >= 0 {
		m.mu.Lock() // tick uses the timer
		defer m.mu.Unlock()
		m.timer = time.AfterFunc(m.every, m.tick)
	}
	return m
}

// wait holds everything back until begin: what must precede the first packet is not known yet.
func (m *muxer) wait() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hold = true
}

// begin says what must precede the first packet, and that packets may go out.
func (m *muxer) begin(header []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.header, m.hold = header, false
}

// beginBands is begin without a header, for an answer in which an ERR line has no place.
func (m *muxer) beginBands() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hold, m.started = false, m.most > 0
}

// Write takes a part of the pack.
func (m *muxer) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed && m.err == nil {
		return 0, errClosed
	}
	m.start()
	n := len(p)
	for len(p) > 0 && m.err == nil {
		k := min(len(p), m.room())
		m.buf = append(m.buf, p[:k]...)
		p = p[k:]
	}
	if m.err != nil {
		return n - len(p), m.err
	}
	return n, nil
}

// room returns how many bytes may be appended to the open packet, at least one; it opens and closes packets and writes
// the buffer to see to that.
func (m *muxer) room() int {
	if m.most == noSideBand {
		if len(m.buf) == cap(m.buf) {
			m.send()
		}
		return cap(m.buf) - len(m.buf)
	}
	if m.open >= 0 && len(m.buf)-m.open == m.most+pktHeader+1 {
		m.seal()
	}
	if m.open < 0 {
		if cap(m.buf)-len(m.buf) < pktHeader+2 {
			m.send()
		}
		m.open = len(m.buf)
		m.buf = append(m.buf, 0, 0, 0, 0, bandPack)
	}
	left := min(m.most+pktHeader+1-(len(m.buf)-m.open), cap(m.buf)-len(m.buf))
	if left == 0 { // the buffer is full before the packet is
		m.seal()
		m.send()
		return m.room()
	}
	return left
}

// Progress shows text to the person at the client, if there is a way.
func (m *muxer) Progress(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.hold || m.most == noSideBand {
		return
	}
	m.band(bandProgress, text)
	m.send()
	m.flush()
}

// Fail tells the client why there is no answer, or no more of it: on band 3 once the answer has begun, else by an ERR
// line. It ends the answer.
func (m *muxer) Fail(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	switch {
	case !m.started && !m.all:
		m.buf = append(m.buf[:0], 0, 0, 0, 0)
		m.buf = append(append(append(m.buf, "ERR "...), text...), '\n')
		putPktLength(m.buf, len(m.buf))
	case m.most > 0:
		m.header, m.started = nil, true
		m.band(bandError, text+"\n")
	}
	m.send()
	m.end()
}

// Close ends the answer: what is buffered goes out and, with side-band, a flush packet.
func (m *muxer) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return m.err
	}
	m.start()
	m.seal()
	if m.most > 0 {
		m.append("0000")
	}
	m.send()
	m.end()
	return m.err
}

// Abort ends the answer without a word.
func (m *muxer) Abort() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.end()
	}
}

func (m *muxer) end() {
	m.closed = true
	if m.timer != nil {
		m.timer.Stop()
	}
	b := m.buf[:0]
	muxBuffers.Put(&b)
	m.buf = nil
}

// start puts the header before the first byte.
func (m *muxer) start() {
	if !m.started {
		m.started = true
		m.append(string(m.header))
		m.header = nil
	}
}

// band appends whole packets of one band.
func (m *muxer) band(b byte, text string) {
	m.start()
	m.seal()
	for len(text) > 0 {
		n := min(len(text), m.most)
		if cap(m.buf)-len(m.buf) < n+pktHeader+1 {
			m.send()
		}
		at := len(m.buf)
		m.buf = append(m.buf, 0, 0, 0, 0, b)
		m.buf = append(m.buf, text[:n]...)
		putPktLength(m.buf[at:], n+pktHeader+1)
		text = text[n:]
	}
}

// append adds bytes that are framed already, however many.
func (m *muxer) append(s string) {
	for len(s) > 0 {
		if len(m.buf) == cap(m.buf) {
			m.send()
		}
		n := min(len(s), cap(m.buf)-len(m.buf))
		m.buf = append(m.buf, s[:n]...)
		s = s[n:]
	}
}

func (m *muxer) seal() {
	if m.open < 0 {
		return
	}
	if n := len(m.buf) - m.open; n > pktHeader+1 {
		putPktLength(m.buf[m.open:], n)
	} else {
		m.buf = m.buf[:m.open]
	}
	m.open = -1
}

// send writes the packets that are closed.
func (m *muxer) send() {
	if len(m.buf) > 0 && m.err == nil {
		_, m.err = m.out.Write(m.buf)
		m.last = time.Now()
	}
	m.buf = m.buf[:0]
}

func (m *muxer) flush() {
	if f, ok := m.out.(interface{ Flush() }); ok && m.err == nil {
		f.Flush()
	}
}

// tick runs on the timer: it ends a silence.
func (m *muxer) tick() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.err != nil {
		return
	}
	wait := m.every - time.Since(m.last)
	if wait <= 0 && !m.hold {
		m.start()
		m.seal()
		if len(m.buf) == 0 {
			m.append("0005\x01")
		}
		m.send()
		m.flush()
		wait = m.every
	}
	if wait <= 0 {
		wait = m.every
	}
	m.timer.Reset(wait)
}

// sideBandReader reads the pack out of side-band packets: what muxer wrote.
type sideBandReader struct {
	pkts     *PktReader
	progress io.Writer // may be nil
	rest     []byte
	err      error
}

// Read returns bytes of band 1. Band 2 goes to progress; band 3 ends the stream as an *ErrRemote; a flush packet is its
// proper end.
func (s *sideBandReader) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.err == nil {
			s.err = s.next()
		}
		if s.err != nil {
			return 0, s.err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *sideBandReader) next() error {
	k, b, err := s.pkts.Next()
	switch {
	case errors.Is(err, io.EOF):
		return cutShort(io.ErrUnexpectedEOF)
	case err != nil:
		return err
	case k != PktData:
		return io.EOF
	case len(b) == 0:
		return nil
	}
	switch b[0] {
	case bandPack:
		s.rest = b[1:]
	case bandProgress:
		if s.progress != nil {
			if _, err := s.progress.Write(b[1:]); err != nil {
				return err
			}
		}
	case bandError:
		return &ErrRemote{Text: clip(bytes.TrimSpace(b[1:]), maxReasonBytes)}
	default:
		if text, ok := bytes.CutPrefix(b, []byte("ERR ")); ok {
			return &ErrRemote{Text: clip(bytes.TrimSpace(text), maxReasonBytes)}
		}
		return fmt.Errorf("side-band packet of band %d: %w", b[0], errkind.Invalid)
	}
	return nil
}
