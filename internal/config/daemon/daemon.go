// Package daemon serves one workspace by HTTP: it is skep config daemon.
//
//	d, err := daemon.New(workspace, daemon.Options{})
//	ln, err := d.Listen(ctx, "127.0.0.1:9400")
//	err = d.Run(ctx, ln)
//
// Its callers are known by the table [auth] of the workspace's config.toml (callers.go), and what they may do by rbac.toml. The files that say
// so are read again when they change (files.go): what was taken away is refused a second later, also to those who watch.
package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skep-dev/skep/internal/certs"
	"github.com/skep-dev/skep/internal/config/access"
	"github.com/skep-dev/skep/internal/config/publish"
	"github.com/skep-dev/skep/internal/config/workspace"
	"github.com/skep-dev/skep/internal/conns"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/webhook"
)

// The limits of the daemon. Nobody has had a reason to change them.
const (
	headerPatience = 10 * time.Second // for a TLS handshake, and for a request's headers: who takes longer is a slowloris
	answerPatience = 2 * time.Minute  // for the whole of a request that is no stream
	keepAlive      = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	maxConns       = 8192
	maxStreams     = 1000 // of an HTTP/2 connection
	maxCalls       = 1024 // at once, those that watch not counted
	maxWatchers    = 5000
	drainPatience  = 10 * time.Second // for running requests, when the daemon stops
)

// heapFloor keeps the garbage collector of a small document from running for every few hundred requests: it runs when the heap has doubled,
// and so each 32 MiB at the earliest. The memory is never touched, so that the system gives none for it.
const heapFloor = 32 << 20

// Options of a daemon. The zero Options works.
type Options struct {
	Log     *slog.Logger // nil: none
	Version string       // "": dev
}

// Daemon serves a workspace. It does not close it.
type Daemon struct {
	work    *workspace.Workspace
	opts    Options
	log     *slog.Logger
	auth    access.Auth
	tls     *tls.Config // nil: plain HTTP
	files   *files
	api     http.Handler
	replies replies
	copies  *copies
	guesses *limit.Window // wrong credentials, by address
	calls   chan struct{}
	watches chan struct{}
	local   atomic.Bool // only this machine reaches any of its listeners

	milestones *publish.Publisher
	webhooks   *webhook.Hooks

	stopping chan struct{} // closed when the daemon stops, for streams that else would go on
	stop     func()
}

// New makes a daemon of a workspace.
func New(w *workspace.Workspace, opts Options) (*Daemon, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Version == "" {
		opts.Version = "dev"
	}
	d := &Daemon{
		work: w, opts: opts, log: opts.Log, guesses: limit.NewWindow(wrongCredentials, limit.Options{}),
		calls: make(chan struct{}, maxCalls), watches: make(chan struct{}, maxWatchers),
	}
	d.local.Store(true)
	d.stopping = make(chan struct{})
	d.stop = sync.OnceFunc(func() { close(d.stopping) })
	var err error
	if d.auth, err = w.Auth(); err != nil {
		return nil, fmt.Errorf("start daemon: %w", err)
	}
	if d.files, err = openFiles(w, d.auth, d.log); err != nil {
		return nil, fmt.Errorf("start daemon: %w", err)
	}
	if d.auth.Mode.Certificates() {
		if err := d.openTLS(); err != nil {
			return nil, fmt.Errorf("start daemon: %w", err)
		}
	}
	if err := d.openCopies(); err != nil {
		return nil, fmt.Errorf("start daemon: %w", err)
	}
	d.webhooks = w.Webhooks(d.log)
	d.milestones = w.Milestones(nil, d.webhooks, d.log)
	d.api = d.newAPI()
	return d, nil
}

// openTLS reads the certificates that [auth.mtls] names.
func (d *Daemon) openTLS() error {
	at := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(d.work.Dir, name)
	}
	m := &d.auth.MTLS
	own, err := certs.Open(at(m.ServerCert), at(m.ServerKey), d.log)
	if err != nil {
		return err //nolint:wrapcheck // it names the file
	}
	clients, err := certs.OpenClientCAs(at(m.CACert), d.log)
	if err != nil {
		return err //nolint:wrapcheck // it names the file
	}
	d.tls = clients.Ask(own.Config())
	return nil
}

// Scheme is what the daemon's address begins with.
func (d *Daemon) Scheme() string {
	if d.tls != nil {
		return "https"
	}
	return "http"
}

// Listen opens an address. Where callers name themselves, it must be one that only this machine reaches.
func (d *Daemon) Listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	tcp, ok := ln.Addr().(*net.TCPAddr)
	local := ok && tcp.IP.IsLoopback()
	if !local && d.auth.Mode == access.ModeNone && !d.auth.AllowUnauthenticated {
		return nil, errors.Join(fmt.Errorf("listen on %s: whoever reaches it could say to be anybody: "+
			`set mode = "api-key" in the table [auth] of %s, or allow_unauthenticated = true: %w`, ln.Addr(), d.work.File("config.toml"), errkind.Invalid), ln.Close())
	}
	if !local {
		d.local.Store(false)
	}
	return ln, nil
}

// Run serves listeners, and does what the document needs besides, until ctx ends.
func (d *Daemon) Run(ctx context.Context, listeners ...net.Listener) error {
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.work.Service.Document().Run(ctx) })
	group.Go(func() error { return d.files.run(ctx) })
	group.Go(func() error { return d.copies.run(ctx) })
	group.Go(func() error { return d.milestones.Run(ctx) })
	group.Go(func() error { return d.webhooks.Run(ctx) })
	for _, ln := range listeners {
		group.Go(func() error { return d.serve(ctx, ln) })
	}
	return group.Wait() //nolint:wrapcheck // the parts' own
}

// serve serves one listener until ctx ends.
func (d *Daemon) serve(ctx context.Context, ln net.Listener) error {
	hs := &http.Server{
		Handler:           d,
		ReadHeaderTimeout: headerPatience,
		ReadTimeout:       answerPatience,
		WriteTimeout:      answerPatience, // streams move it on
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHeaderBytes,
		TLSConfig:         d.tls,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		Protocols:         new(http.Protocols),
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetHTTP2(d.tls != nil)
	hs.Protocols.SetUnencryptedHTTP2(d.tls == nil) // what gRPC speaks
	served := make(chan error, 1)
	ln = conns.Limit(ln, maxConns)
	go func() {
		if d.tls == nil {
			served <- hs.Serve(ln)
			return
		}
		served <- hs.ServeTLS(ln, "", "")
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	d.stop() // streams end: their clients go on elsewhere by their cursors
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainPatience)
	defer cancel()
	err := hs.Shutdown(drain)
	if err != nil {
		d.log.WarnContext(ctx, "requests cut off at shutdown", "after", drainPatience)
		err = hs.Close()
	}
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}
