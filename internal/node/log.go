package node

import (
	"io"
	"sync"
	"time"
)

const (
	// logDelay is how long a line may wait to be written: nobody who watches notices.
	logDelay = 200 * time.Millisecond
	// maxLogBuffer is what is collected at most before it is written at once.
	maxLogBuffer = 64 << 10
)

// LogWriter collects lines of a log and writes them a few times a second: a server that answers thousands of requests a
// second should not make a system call for each line about them. Close writes what is left.
type LogWriter struct {
	w io.Writer

	mu    sync.Mutex // held across writes: lines stay whole and in order
	buf   []byte
	timer *time.Timer
	armed bool
	err   error // of the last write; a log that cannot be written stops nothing
}

// NewLogWriter makes a writer in front of w.
func NewLogWriter(w io.Writer) *LogWriter { return &LogWriter{w: w} }

// Write takes a line.
func (l *LogWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	switch {
	case len(l.buf) >= maxLogBuffer:
		l.flush()
	case l.armed:
	case l.timer == nil:
		l.armed = true
		l.timer = time.AfterFunc(logDelay, l.late)
	default:
		l.armed = true
		l.timer.Reset(logDelay)
	}
	return len(p), l.err
}

// Close writes what has been collected. Lines that come later are written as well, after their delay.
func (l *LogWriter) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	return l.err
}

func (l *LogWriter) late() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	l.flush()
}

func (l *LogWriter) flush() {
	if len(l.buf) > 0 {
		_, l.err = l.w.Write(l.buf)
		l.buf = l.buf[:0]
	}
}
