package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/trace"
	"github.com/skep-dev/skep/internal/usage"
)

// call is one request on its way through the server. It is owned by the request's goroutine.
type call struct {
	id        string
	base      string // the server's public address, for the API's answers
	route     route
	started   time.Time
	peer      netip.Addr // who asks, as far as the network knows; invalid: unknown
	remote    string     // who the log says that is
	https     bool       // the request was encrypted, here or by a trusted proxy
	exempt    bool       // from limits on how often
	intent    string     // why, as the caller says
	principal policy.Principal
	certEnds  time.Time // of the client's certificate; zero: it has none

	rate    rate // the limit that the answer tells of
	verdict limit.Verdict
	counted bool // there is one

	used usage.Key  // whose use this is; empty until somebody was found to have access
	op   usage.Kind // which operation it counts as
	next usage.Kind // of which operation it is the beginning, if it is none itself
	owes []*budget  // whose quotas of bytes its answer counts against

	span trace.Span

	place place
	w     answer
	body  body
}

type callKey struct{}

// callOf finds the call of a request's context. Handlers behind the API's mux, and what they share with others, need it: the
// rest are given it.
func callOf(ctx context.Context) *call {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		panic("bug: a context without a call")
	}
	return c
}

// ServeHTTP serves one request: it identifies, counts and logs it, and turns a panic into an answer.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.running.Add(1)
	defer s.running.Add(-1)
	c := &call{started: time.Now(), id: requestID(r)}
	s.identify(c, r)
	c.intent = r.Header.Get("X-Intent")
	c.exempt = s.rates.exempts(c.peer)
	c.w = answer{ResponseWriter: w, idle: s.opts.IdleTimeout, extended: c.started}
	w.Header()["X-Request-Id"] = []string{c.id}
	secure(w.Header(), r)
	if len(r.TransferEncoding) > 0 {
		// A request in chunks may have had a Content-Length too, by which a proxy found another end; net/http hides it. What a
		// client put behind such an end must not be taken for somebody's next request (RFC 9112 section 6.1).
		w.Header()["Connection"] = closeAfter
	}
	if r.Body != nil && r.Body != http.NoBody {
		c.body = body{rc: r.Body, w: w, idle: s.opts.IdleTimeout}
		// A copy: in its own request net/http must find its own body, or it would take what a handler has not read of it for
		// the next request.
		r = r.WithContext(r.Context())
		r.Body = &c.body
	}
	defer s.finish(c, r)
	s.dispatch(c, r)
}

// origin is who makes this request, for the audit log.
func (c *call) origin() audit.Origin {
	p := &c.principal
	o := audit.Origin{Principal: string(p.ID), Name: p.Name, Class: string(p.Class), Token: string(p.Token), Intent: c.intent, Request: c.id, Address: c.remote}
	if p.Session != "" {
		o.Token = string(p.Session)
	}
	if c.peer.IsValid() {
		o.Address = c.peer.String()
	}
	return o
}

var closeAfter = []string{"close"}

// identify finds out from where a request comes.
func (s *Server) identify(c *call, r *http.Request) {
	c.https, c.remote = r.TLS != nil, r.RemoteAddr
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return // a test's connection has no address: all of them are one caller
	}
	remote := a.Addr().Unmap()
	var https bool
	c.peer, https = s.opts.Proxies.Client(remote, r.Header)
	c.https = c.https || https
	switch {
	case !c.peer.IsValid():
		c.remote = "unknown, from " + c.remote
	case c.peer != remote:
		c.remote = c.peer.String()
	}
	if c.peer == remote && len(r.Header["X-Forwarded-For"])+len(r.Header["Forwarded"]) > 0 && !s.opts.Proxies.Trusts(remote) &&
		s.untrusted.CompareAndSwap(false, true) {
		s.log.WarnContext(r.Context(), "a proxy that is not trusted forwards requests: all of its clients count as one", "proxy", remote.String())
	}
}

// finish logs and counts a request, and answers for a handler that panicked.
func (s *Server) finish(c *call, r *http.Request) {
	p := recover()
	if p != nil && !aborted(p) && r.Context().Err() == nil {
		s.metrics.panics.Inc()
		s.log.ErrorContext(r.Context(), "handler panicked", "request_id", c.id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		if c.w.status == 0 {
			p = nil
			s.refuse(c, r, errors.New("handler panicked"))
		}
	}
	if c.body.rc != nil && !c.body.ended && !c.body.broken { // its time is not over already
		// net/http now reads a part of what is left, to use the connection again, and has no limit for how long.
		c.body.deadline(time.Now().Add(s.opts.HeaderTimeout))
	}
	s.record(r.Context(), c, r.Method, r.URL.Path, p)
	if p != nil {
		panic(http.ErrAbortHandler) // the client must not take what it got for the whole answer
	}
}

// record counts and logs what a call has come to.
func (s *Server) record(ctx context.Context, c *call, method, path string, panicked any) {
	took := time.Since(c.started)
	s.metrics.done(c, took)
	s.count(c, took)
	c.endSpan(panicked)
	s.logAccess(ctx, c, method, path, took)
}

// aborted reports whether a handler gave up on its answer on purpose.
func aborted(p any) bool {
	err, ok := p.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

func (s *Server) logAccess(ctx context.Context, c *call, method, path string, took time.Duration) {
	level := slog.LevelInfo
	if c.route == routeSystem {
		level = slog.LevelDebug
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	// The query and the headers may hold secrets; the path holds none.
	s.log.LogAttrs(ctx, level, "request served",
		slog.String("request_id", c.id),
		slog.String("method", method),
		slog.String("path", clip(path)),
		slog.String("route", c.route.String()),
		slog.Int("status", c.w.status),
		slog.Int64("bytes_in", c.body.bytes),
		slog.Int64("bytes_out", c.w.bytes),
		slog.Int64("micros", took.Microseconds()),
		slog.String("principal", string(c.principal.ID)),
		slog.String("remote", c.remote),
	)
}

// clip keeps a log line short, whatever a client sent.
func clip(s string) string {
	const most = 300
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

const maxRequestID = 64

// requestID takes over the client's identifier of the request if it is one, else makes one up.
func requestID(r *http.Request) string {
	if v := r.Header["X-Request-Id"]; len(v) == 1 && validRequestID(v[0]) {
		return v[0]
	}
	return newRequestID()
}

func newRequestID() string {
	const hexDigits = "0123456789abcdef"
	var b [16]byte
	n := rand.Uint64() //nolint:gosec // it correlates log lines and is no secret
	for i := range b {
		b[i] = hexDigits[n&15]
		n >>= 4
	}
	return string(b[:])
}

func validRequestID(s string) bool {
	if s == "" || len(s) > maxRequestID {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// answer is the client's end of a request: it counts, remembers the status, and lets a slow client take its time as
// long as it takes something.
type answer struct {
	http.ResponseWriter
	idle     time.Duration
	extended time.Time // when the write deadline was last moved
	status   int
	bytes    int64

	recording *recording // of what is sent; nil: none is wanted
}

// Unwrap lets http.ResponseController find the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader remembers the status.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.extend()
	a.ResponseWriter.WriteHeader(status)
}

// Write sends what fits into the client's window, and waits at most the idle time for it.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	a.extend()
	if a.recording != nil {
		a.recording.write(p)
	}
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	return n, err
}

// Flush sends what the layers below have buffered.
func (a *answer) Flush() {
	if f, ok := a.ResponseWriter.(http.Flusher); ok {
		a.extend()
		f.Flush()
	}
}

// extend moves the write deadline, unless that was done a moment ago. The server set the first one when the request
// came, so that quick requests never get here.
func (a *answer) extend() {
	now := time.Now()
	if now.Sub(a.extended) < a.idle/4 {
		return
	}
	a.extended = now
	if d, ok := a.ResponseWriter.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = d.SetWriteDeadline(now.Add(a.idle)) // a connection without deadlines is a test's
	}
}

// minProgress is what a client must send to get more time. It makes a dripping client pay, and no real one sends less.
const minProgress = 1 << 10

// body is what a client sends. It ends in an error when nothing comes for the idle time.
type body struct {
	rc       io.ReadCloser
	w        http.ResponseWriter // for its deadlines
	idle     time.Duration
	hash     hash.Hash // of what handlers read; nil: none is wanted
	bytes    int64
	progress int64 // bytes at the last extension
	extended time.Time
	ended    bool
	broken   bool      // reading failed
	limit    int64     // 0: none
	early    []byte    // read ahead and not yet given
	paced    time.Time // since when the rest must come at minPace; zero: it need not
}

const (
	// readAhead is how much of a request is read before it takes a place: all of nearly every one that is no push.
	readAhead = 16 << 10
	// paceGrace and minPace bound how long a place may be held by a request that has not come yet.
	paceGrace = 30 * time.Second
	minPace   = 64 << 10 // bytes a second
)

// ahead reads the beginning of what the client sends, before the request takes a place: waiting for a client that says
// nothing must not keep others out. The rest must then come at a pace.
func (b *body) ahead() {
	if b.rc == nil {
		return
	}
	var buf bytes.Buffer
	_, _ = io.CopyN(&buf, readerFunc(b.receive), readAhead) // what failed fails again, when a handler reads
	b.early = buf.Bytes()
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Read waits at most the idle time for more.
func (b *body) Read(p []byte) (int, error) {
	n, err := len(b.early), error(nil)
	if n > 0 {
		n = copy(p, b.early)
		b.early = b.early[n:]
	} else {
		n, err = b.receive(p)
	}
	if b.hash != nil {
		_, _ = b.hash.Write(p[:n]) // never fails
	}
	return n, err
}

// finish reads what a handler has left, if that is little, and reports whether all was read.
func (b *body) finish() bool {
	if b.rc == nil {
		return true
	}
	const little = 64 << 10
	n, err := io.CopyN(io.Discard, b, little)
	return n < little && errors.Is(err, io.EOF)
}

func (b *body) receive(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	now := time.Now()
	switch {
	case !b.paced.IsZero():
		b.deadline(b.paced.Add(min(paceGrace, b.idle) + time.Duration(b.bytes/minPace)*time.Second))
	case b.extended.IsZero() || (b.bytes-b.progress >= minProgress && now.Sub(b.extended) >= b.idle/4):
		b.extended, b.progress = now, b.bytes
		b.deadline(now.Add(b.idle))
	}
	n, err := b.rc.Read(p)
	b.bytes += int64(n)
	if b.limit > 0 && b.bytes > b.limit {
		return 0, fmt.Errorf("request body over %d bytes: %w", b.limit, errkind.TooLarge)
	}
	if err == io.EOF {
		// From here on net/http watches the connection for the client's going away; a deadline would look like that.
		b.ended = true
		b.deadline(time.Time{})
	}
	b.broken = b.broken || err != nil && err != io.EOF
	return n, err //nolint:wrapcheck // io.EOF and net errors, as a reader gives them
}

// Close is net/http's; what is unread then is its business.
func (b *body) Close() error { return b.rc.Close() }

func (b *body) deadline(t time.Time) {
	if d, ok := b.w.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = d.SetReadDeadline(t) // a connection without deadlines is a test's
	}
}
