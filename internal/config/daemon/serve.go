package daemon

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/peers"
	"github.com/skep-dev/skep/internal/config/rest"
	"github.com/skep-dev/skep/internal/config/rpc"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/problem"
)

const (
	maxPathBytes = 2 << 10
	openAPIPath  = "/v1/openapi.json"
	healthPath   = "/health"
)

// call is a request on its way. It is owned by the request's goroutine.
type call struct {
	actor  config.Actor
	again  func() error
	status int
	failed error
}

type callKey struct{}

// newAPI declares what the daemon serves.
func (d *Daemon) newAPI() http.Handler {
	mux := http.NewServeMux()
	api := humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI:    "3.1.0",
			Info:       &huma.Info{Title: "Skep configuration", Version: d.opts.Version},
			Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", rest.Name)},
		},
		Formats:       huma.DefaultFormats,
		Transformers:  []huma.Transformer{problem.Plain},
		DefaultFormat: "application/json",
		OpenAPIPath:   strings.TrimSuffix(openAPIPath, ".json"),
	})
	find := func(ctx context.Context) (*service.Caller, error) { //nolint:unparam // as rpc.Find is
		c := callOf(ctx)
		return &service.Caller{Service: d.work.Service, Actor: c.actor, Again: c.again, Changed: d.files.change}, nil
	}
	registry := func() *sign.Registry { return d.files.current().registry }
	mount := rest.Mount{
		Prefix: "/v1",
		Find: func(ctx huma.Context) (*rest.Caller, error) {
			c, err := find(ctx.Context())
			return &rest.Caller{Caller: c, Milestones: d.milestones, Webhooks: d.webhooks, Keys: registry}, err
		},
		Declare: func(o *huma.Operation) { o.BodyReadTimeout = bodyPatience },
		Failed:  func(ctx context.Context, err error) { callOf(ctx).failed = err },
	}
	rest.Register(api, mount)
	rest.RegisterEntities(api, mount)
	mux.Handle(rpc.Handler(find))
	replication := peers.Handler(d.copies.Replica, d.copies.status, d.permitCopy)
	mux.Handle("GET "+peers.Path, replication)
	mux.Handle("POST "+peers.Path, replication)
	mux.HandleFunc("GET "+healthPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"status":"ok"}` + "\n")) // the client may be gone
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, http.StatusNotFound, failure{errkind.NotFound, "there is no such path, or it has no such method: see " + openAPIPath})
	})
	return mux
}

// writePatience is how long a watcher may take nothing of what it is sent. Heartbeats come more often. Nothing is kept for it meanwhile: it
// goes on by its cursor.
const writePatience = 30 * time.Second

// bodyPatience is how long a client may take to send a body.
const bodyPatience = 30 * time.Second

func callOf(ctx context.Context) *call {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		panic("bug: a context without a call")
	}
	return c
}

// The headers that all answers have. Nobody writes to the slices.
var (
	noSniff   = []string{"nosniff"}
	noContent = []string{"default-src 'none'; frame-ancestors 'none'; sandbox"}
)

// ServeHTTP serves one request: it finds out who makes it, bounds how many there are, logs it, and turns a panic into an answer.
func (d *Daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, started := &call{}, time.Now()
	id := requestID()
	a := &answer{ResponseWriter: w, call: c}
	h := w.Header()
	h["X-Request-Id"] = []string{id}
	h["X-Content-Type-Options"] = noSniff
	h["Content-Security-Policy"] = noContent
	defer func() { //nolint:contextcheck // it is the request's
		switch p := recover(); {
		case p == http.ErrAbortHandler: //nolint:errorlint // it is thrown as it is
			d.logCall(r, c, id, time.Since(started))
			panic(p)
		case p != nil:
			d.log.ErrorContext(r.Context(), "handler panicked", "request_id", id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			if c.status != 0 {
				panic(http.ErrAbortHandler) // the client must not take what it got for the whole answer
			}
			d.refuse(a, r, errors.New("handler panicked"))
		}
		d.logCall(r, c, id, time.Since(started))
	}()
	d.dispatch(a, r, c)
}

// dispatch lets a request through to the API, or refuses it.
func (d *Daemon) dispatch(w *answer, r *http.Request, c *call) {
	if err := d.admit(r); err != nil {
		d.refuse(w, r, err)
		return
	}
	if r.URL.Path != healthPath {
		var err error
		if c.actor, err = d.caller(r); err != nil {
			d.refuse(w, r, err)
			return
		}
		c.again = func() error {
			a, err := d.caller(r)
			if err == nil && a != c.actor {
				err = errNoCredential
			}
			return err
		}
	}
	places := d.calls
	ctx := context.WithValue(r.Context(), callKey{}, c)
	if streams(r.URL.Path) {
		places = d.watches
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-d.stopping:
				cancel()
			case <-ctx.Done():
			}
		}()
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // there is nothing to read that could be late
		w.stream = true
	}
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	default:
		d.refuse(w, r, failure{errkind.Unavailable, "too many requests at once"})
		return
	}
	d.once(w, r.WithContext(ctx), d.api)
}

// streams reports whether a request's answer goes on until somebody ends it.
func streams(path string) bool {
	return strings.HasSuffix(path, "/watch") || strings.HasSuffix(path, "/audit/export") || path == rpc.WatchPath
}

var (
	errCrossOrigin = failure{errkind.Forbidden, "this request was made by a page of another site"}
	errHost        = failure{errkind.Forbidden, "this daemon is reached as localhost or by its address only: a name of another kind may be a web site's"}
	errLongPath    = failure{errkind.TooLarge, "the path is too long"}
)

// protection keeps the pages of web sites from making browsers write.
var protection = http.NewCrossOriginProtection()

// admit refuses what is no request of a program that its user has started. A browser on this machine reaches the daemon too, and with it the
// sites that it shows: as another site's page, or by a name that was made to lead here.
func (d *Daemon) admit(r *http.Request) error {
	if len(r.URL.Path) > maxPathBytes {
		return errLongPath
	}
	if protection.Check(r) != nil {
		return errCrossOrigin
	}
	if !d.local.Load() {
		return nil
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" && !strings.HasSuffix(host, ".localhost") {
		return errHost
	}
	return nil
}

// refuse answers a request that no handler is asked about.
func (d *Daemon) refuse(w *answer, r *http.Request, err error) {
	w.call.failed = err
	if strings.HasPrefix(r.URL.Path, rpc.Path) && rpc.Refuse(w, r, err) {
		return
	}
	status := problem.Status(err)
	switch status {
	case http.StatusUnauthorized:
		w.Header()["Www-Authenticate"] = []string{`Bearer realm="skep config"`}
	case http.StatusServiceUnavailable:
		w.Header()["Retry-After"] = []string{"2"}
	case http.StatusTooManyRequests:
		if g, ok := errors.AsType[tooManyGuesses](err); ok {
			w.Header()["Retry-After"] = []string{strconv.Itoa(int(g.retry/time.Second) + 1)}
		}
	}
	problem.Write(w, status, err)
}

// logCall writes the log's line of a request. Neither the query nor the headers are in it: they may hold secrets.
func (d *Daemon) logCall(r *http.Request, c *call, id string, took time.Duration) {
	level := slog.LevelInfo
	if r.URL.Path == healthPath {
		level = slog.LevelDebug
	}
	if !d.log.Enabled(r.Context(), level) {
		return
	}
	path := r.URL.Path
	if len(path) > 300 {
		path = path[:300] + "…"
	}
	d.log.LogAttrs(r.Context(), level, "request served", slog.String("request_id", id), slog.String("method", r.Method), slog.String("path", path),
		slog.Int("status", c.status), slog.Int64("micros", took.Microseconds()), slog.String("actor", c.actor.ID), slog.String("remote", address(r).String()))
	if c.failed != nil && c.status >= http.StatusInternalServerError {
		d.log.LogAttrs(r.Context(), slog.LevelError, "request failed", slog.String("request_id", id), slog.Any("error", c.failed))
	}
}

func requestID() string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8), rand.Uint64()) //nolint:gosec // it correlates log lines and is no secret
	return hex.EncodeToString(b)
}

// answer remembers the status.
type answer struct {
	http.ResponseWriter
	call   *call
	stream bool
	kept   *kept // what is sent, to be sent again; nil: that is not wanted
}

// Unwrap lets http.ResponseController find the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush sends what the layers below have buffered.
func (a *answer) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// WriteHeader remembers the status.
func (a *answer) WriteHeader(status int) {
	if a.call.status == 0 && status >= http.StatusOK {
		a.call.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write sends p.
func (a *answer) Write(p []byte) (int, error) {
	if a.call.status == 0 {
		a.call.status = http.StatusOK
	}
	if a.kept != nil {
		a.kept.write(p)
	}
	if a.stream {
		_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(time.Now().Add(writePatience)) // a connection without deadlines is a test's
	}
	return a.ResponseWriter.Write(p) //nolint:wrapcheck // net/http's own
}
