package bare

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tracer writes down the pkt-lines of a conversation where GIT_TRACE_PACKET says, as git does (git(1)): to standard error (1, true), to a
// file descriptor (2 to 9), or to a file.
type tracer struct {
	to   io.Writer
	name string
	bare bool
}

// maxTraceHeld is the longest pkt-line.
const maxTraceHeld = 65520

// newTracer returns nil when nobody wants a trace.
func newTracer(name string) *tracer {
	where := os.Getenv("GIT_TRACE_PACKET")
	t := &tracer{name: name}
	t.bare, _ = parseBool(os.Getenv("GIT_TRACE_BARE"))
	switch {
	case where == "", where == "0", strings.EqualFold(where, "false"):
		return nil
	case where == "1", strings.EqualFold(where, "true"):
		t.to = os.Stderr
	case len(where) == 1 && where >= "2" && where <= "9":
		n, err := strconv.Atoi(where)
		if err != nil {
			return nil
		}
		t.to = os.NewFile(uintptr(n), "trace")
	case filepath.IsAbs(where):
		f, err := os.OpenFile(where, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666) //nolint:gosec // the user names it
		if err != nil {
			return nil
		}
		t.to = f // until the process ends
	default:
		return nil
	}
	return t
}

// reader traces what is read, writer what is written. Both pass on what a nil tracer is given.
func (t *tracer) reader(r io.Reader) io.Reader {
	if t == nil {
		return r
	}
	return io.TeeReader(r, &packetLog{t: t, sign: '<'})
}

func (t *tracer) writer(w io.Writer) io.Writer {
	if t == nil {
		return w
	}
	return tracedWriter{w, &packetLog{t: t, sign: '>'}}
}

// tracedWriter keeps a writer's Flush.
type tracedWriter struct {
	w   io.Writer
	log *packetLog
}

// Write implements io.Writer.
func (t tracedWriter) Write(p []byte) (int, error) {
	_, _ = t.log.Write(p) // never fails
	return t.w.Write(p)
}

// Flush passes a flush on.
func (t tracedWriter) Flush() {
	if f, ok := t.w.(interface{ Flush() }); ok {
		f.Flush()
	}
}

// packetLog splits a stream into pkt-lines, up to where a bare pack begins.
type packetLog struct {
	t    *tracer
	sign byte
	held []byte
	over bool
}

// Write implements io.Writer.
func (l *packetLog) Write(p []byte) (int, error) {
	if l.over {
		return len(p), nil
	}
	l.held = append(l.held, p...)
	for len(l.held) >= 4 {
		n, err := strconv.ParseUint(string(l.held[:4]), 16, 16)
		switch {
		case err != nil || n > maxTraceHeld:
			l.over, l.held = true, nil
			return len(p), nil //nolint:nilerr // a pack follows
		case n < 4:
			l.line(l.held[:4])
			l.held = l.held[4:]
			continue
		}
		if len(l.held) < int(n) {
			break
		}
		l.line(l.held[4:n])
		l.held = l.held[n:]
	}
	return len(p), nil
}

func (l *packetLog) line(b []byte) {
	if rest, ok := bytes.CutPrefix(b, []byte{1}); ok && bytes.HasPrefix(rest, []byte("PACK")) || bytes.HasPrefix(b, []byte("PACK")) {
		b = []byte("PACK ...")
	}
	var text strings.Builder
	for _, c := range bytes.TrimSuffix(b, []byte("\n")) {
		if c < 0x20 || c > 0x7e {
			fmt.Fprintf(&text, "\\%o", c)
		} else {
			text.WriteByte(c)
		}
	}
	stamp := ""
	if !l.t.bare {
		stamp = time.Now().Format("15:04:05.000000") + " pkt-line.go:1           "
	}
	_, _ = fmt.Fprintf(l.t.to, "%spacket: %12s%c %s\n", stamp, l.t.name, l.sign, text.String()) // a trace that fails is no failure
}
