// Package server has the listeners: Git over HTTP, REST, the pages for logging in, health and metrics.
//
// A request passes, in this order: the request's identifier, the access log and metrics (call.go), authentication
// (access.go), the limits on how often (rates.go), a bounded queue (limiter.go), and then one of two worlds: Git's smart
// HTTP (git_*.go), found by the path's end and kept cheap, or the API below /api/v2 (rest_*.go), declared with huma so that
// the OpenAPI document comes from the code. People log in with a few pages below /login (login.go, device.go).
//
// Both worlds ask the same question through access.go. What a caller may not see is answered exactly like what does not
// exist: same status, headers and text.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skep-dev/skep/internal/config/hosted"
	"github.com/skep-dev/skep/internal/conns"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/login"
	"github.com/skep-dev/skep/internal/outbound"
	"github.com/skep-dev/skep/internal/peer"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/router"
	"github.com/skep-dev/skep/internal/trace"
	"github.com/skep-dev/skep/internal/usage"
)

// Limits that are not options: nobody has had a reason to change them.
const (
	keepAlive       = 2 * time.Minute // idle connections; git and CI come back within seconds
	maxHeaderBytes  = 32 << 10        // a token is 50 bytes; what browsers send is below 8 KiB
	abortPatience   = 5 * time.Second // for handlers to notice that their context has ended
	maxPathBytes    = 2 << 10         // a repository's path is below 600 bytes, a reference's name below 1,024
	defaultMaxConns = 8192            // each takes some 10 KiB and one file descriptor
	// defaultMaxWatchers is half of the connections: a stream holds one, and some 20 KiB.
	defaultMaxWatchers = 4096
	maxStreams         = 100 // of an HTTP/2 connection, as RFC 9113 recommends at least; git uses one at a time
)

// Options are the server's settings. The zero Options works.
type Options struct {
	Log       *slog.Logger
	Version   string // in Git's agent capability and the OpenAPI document; "" is dev
	PublicURL string // what clone_url starts with; "": http:// or https:// and the request's Host
	SSHHost   string // what ssh_url has as its host; "": the host of clone_url
	SSHPort   int    // and its port; 0: git is not served over SSH

	MaxTransfers int           // pushes, fetches, archives at once; 0: 32 per core, at least 64
	MaxCalls     int           // other requests at once; 0: 64 per core, at least 128
	MaxGuests    int           // requests without a credential at once, of all kinds; 0: as many as transfers
	MaxPerCaller int           // transfers at once of one principal, and of guests at one address; 0: half
	MaxPerRepo   int           // transfers at once of one repository, of principals and of guests; 0: half
	MaxWaiting   int           // requests waiting for one of those places, each kind; 0: 8 times the places; < 0: none
	MaxWait      time.Duration // how long they wait; 0: 15 s
	MaxWatchers  int           // streams of documents' changes at once, and of one principal half as many; 0: 4096
	MaxConns     int           // open connections; 0: 8192
	MaxPackBytes int64         // of one push; 0: 8 GiB

	Rates      map[string]limit.Quota // by the names of RateLimits; the zero Quota switches one off; missing: its default
	RateExempt []netip.Prefix         // whose requests are not counted; nil: LoopbackPrefixes

	Logins   []*login.Provider // who knows people; none: nobody logs in with a browser
	TokenTTL time.Duration     // of the token that a terminal gets when a person lets it log in; 0: 30 days

	Origins []string     // of other sites whose pages may use the API; CheckOrigin accepts each
	TLS     *tls.Config  // with certificates; nil: plain HTTP
	Proxies peer.Proxies // who speaks for others; the zero one is nobody

	Outbound *outbound.Client // asks addresses that users name; nil: one that reaches public addresses

	Documents *hosted.Documents // of configuration; nil: there are none

	Meter *usage.Meter // counts what tenants use; nil: nobody does

	Tracer *trace.Tracer // follows requests; nil: nobody does

	HeaderTimeout time.Duration // for a TLS handshake, and for a request's headers: who takes longer is a slowloris; 0: 10 s
	// IdleTimeout ends a request whose client neither sends nor takes anything for so long; 0: 2 min. There is no limit
	// on a request's total time: a clone over a slow line may take hours.
	IdleTimeout time.Duration
	// DrainTimeout is how long running requests may go on after Run's context has ended; 0: 30 s.
	DrainTimeout time.Duration
	// DeleteGrace is how long a deleted tenant can be restored; 0: DefaultDeleteGrace.
	DeleteGrace time.Duration
}

func (o Options) withDefaults() Options {
	cores := runtime.GOMAXPROCS(0)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	def(&o.MaxTransfers, max(64, 32*cores))
	def(&o.MaxCalls, max(128, 64*cores))
	def(&o.MaxGuests, o.MaxTransfers)
	def(&o.MaxWait, 15*time.Second)
	def(&o.MaxWatchers, defaultMaxWatchers)
	def(&o.MaxConns, defaultMaxConns)
	def(&o.MaxPackBytes, 8<<30)
	def(&o.HeaderTimeout, 10*time.Second)
	def(&o.IdleTimeout, 2*time.Minute)
	def(&o.DrainTimeout, 30*time.Second)
	def(&o.TokenTTL, 30*24*time.Hour)
	if o.Outbound == nil {
		o.Outbound = outbound.New(outbound.Options{})
	}
	def(&o.DeleteGrace, DefaultDeleteGrace)
	if o.RateExempt == nil {
		o.RateExempt = LoopbackPrefixes()
	}
	return o
}

// def sets an option that was left zero.
func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Server answers HTTP requests. It is an http.Handler, and Run serves a listener with it.
type Server struct {
	control *control.Control
	router  *router.Router
	opts    Options
	log     *slog.Logger
	agent   string // Git's
	nonces  []byte // makes nonces for signed pushes, until the next start

	// judge is mayRepo. It is a field so that a benchmark can measure what a fetch costs without it: there is no setting for that.
	judge func(context.Context, policy.Principal, policy.Action, control.Repo, control.Standing) error

	api       http.Handler
	rpc       http.Handler
	rates     *rateLimiter
	sites     otherSites
	guesses   *limit.Window // of terminals' codes, by principal
	polls     *limit.Bucket // of terminals for their tokens, by terminal
	budgets   budgets
	applying  chan struct{} // policies of repositories: one at a time
	metrics   *metrics
	transfers *pool
	calls     *pool
	guests    *pool
	heavy     *pool       // calls that compare files
	watchers  *pool       // calls that go on until somebody ends them
	untrusted atomic.Bool // proxies were warned of
	ready     atomic.Bool
	running   atomic.Int64 // handlers

	stopping chan struct{} // closed when the server stops: streams end then, which else would go on
	stop     func()
}

// New makes a server on a control plane and a router, which it does not close.
func New(ctl *control.Control, rt *router.Router, opts Options) *Server {
	opts = opts.withDefaults()
	s := &Server{control: ctl, router: rt, opts: opts, log: opts.Log, agent: "skep/" + opts.Version, nonces: newNonces()}
	s.judge = s.mayRepo
	bulk := func(places int) *pool {
		perCaller, perRepo := opts.MaxPerCaller, opts.MaxPerRepo
		def(&perCaller, half(places))
		def(&perRepo, half(places))
		return newPool(places, perCaller, perRepo, opts.MaxWaiting, opts.MaxWait)
	}
	s.transfers, s.guests = bulk(opts.MaxTransfers), bulk(opts.MaxGuests)
	s.calls = newPool(opts.MaxCalls, 0, 0, opts.MaxWaiting, opts.MaxWait)
	heavy := max(4, 2*runtime.GOMAXPROCS(0))
	s.heavy = newPool(heavy, half(heavy), 0, opts.MaxWaiting, opts.MaxWait)
	s.watchers = newPool(opts.MaxWatchers, half(opts.MaxWatchers), 0, -1, opts.MaxWait)
	s.stopping = make(chan struct{})
	s.stop = sync.OnceFunc(func() { close(s.stopping) })
	s.guesses, s.polls = limit.NewWindow(deviceGuesses, limit.Options{}), limit.NewBucket(devicePolls, limit.Options{})
	s.applying = make(chan struct{}, 1)
	s.sites = newOtherSites(opts.Origins)
	s.rates = newRateLimiter(opts.Rates, opts.RateExempt)
	s.budgets.load = ctl.QuotaUse
	s.metrics = newMetrics(s)
	s.api, s.rpc = s.newAPI(), newRPC()
	return s
}

// Register adds what other parts count to what /metrics shows.
func (s *Server) Register(c prometheus.Collector) error { return s.metrics.registry.Register(c) }

// DefaultDeleteGrace is time enough to notice that somebody deleted the wrong thing.
const DefaultDeleteGrace = 30 * 24 * time.Hour

// Run serves ln until ctx ends. Then it stops accepting, lets running requests finish for up to DrainTimeout, cuts off
// those that have not, and returns when the last handler has.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	base, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()
	hs := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.opts.HeaderTimeout,
		WriteTimeout:      s.opts.IdleTimeout, // from the request's start; extended while there is progress, see call.go
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHeaderBytes,
		TLSConfig:         s.opts.TLS,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		Protocols:         new(http.Protocols),
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetHTTP2(s.opts.TLS != nil)
	hs.Protocols.SetUnencryptedHTTP2(s.opts.TLS == nil) // what gRPC speaks to a server without TLS: HTTP/2 from the first byte on
	served := make(chan error, 1)
	ln = conns.Limit(s.opts.Proxies.Listen(ln), s.opts.MaxConns)
	go func() {
		if s.opts.TLS == nil {
			served <- hs.Serve(ln)
			return
		}
		served <- hs.ServeTLS(ln, "", "") // and HTTP/2
	}()
	s.ready.Store(true)
	defer s.ready.Store(false)
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	s.ready.Store(false)
	s.stop()

	drain, cancel := context.WithTimeout(base, s.opts.DrainTimeout)
	defer cancel()
	err := hs.Shutdown(drain)
	if err != nil {
		s.log.WarnContext(base, "requests cut off at shutdown", "after", s.opts.DrainTimeout)
		cutOff()
		err = hs.Close()
	}
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	if !s.waitHandlers() {
		err = errors.Join(err, errors.New("handlers still run after their requests were cut off"))
	}
	return err
}

// waitHandlers waits until no handler runs, which is at once unless requests were cut off.
func (s *Server) waitHandlers() bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(abortPatience); s.running.Load() > 0; <-tick.C {
		if time.Now().After(late) {
			return false
		}
	}
	return true
}
