// Package node builds one node from its options and runs its parts.
//
//	n, err := node.New(ctx, node.Options{DataDir: "skep-data", HTTPAddr: "127.0.0.1:7420"})
//	…
//	log.Info("serving", "address", n.Addr())
//	err = n.Run(ctx) // until ctx ends; then running requests finish
//	err = errors.Join(err, n.Close())
//
// A data directory belongs to one node at a time. In it are control.db, unless the control plane is on PostgreSQL, the cells, and
// admin-token: the secret of the first administrator's token, which only the start that makes the database writes. master-key is there
// unless the options name another one, and so are the SSH server's host keys, ssh_host_*_key, if there is one.
package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/skep-dev/skep/internal/certs"
	"github.com/skep-dev/skep/internal/config/hosted"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/login"
	"github.com/skep-dev/skep/internal/outbound"
	"github.com/skep-dev/skep/internal/peer"
	"github.com/skep-dev/skep/internal/router"
	"github.com/skep-dev/skep/internal/server"
	"github.com/skep-dev/skep/internal/trace"
	"github.com/skep-dev/skep/internal/usage"
)

// Defaults of the two options that every node has, and what is a good SSHAddr.
const (
	DefaultDataDir  = "skep-data"
	DefaultHTTPAddr = "127.0.0.1:7420"
	DefaultSSHAddr  = "127.0.0.1:7422"
)

// Options are a node's settings. The zero Options works.
type Options struct {
	DataDir   string // "": skep-data in the working directory
	Control   string // the control plane's database, a postgres:// address; "": control.db in the data directory
	MasterKey string // of secrets: base64 or file:PATH; "": master-key in the data directory, made at the first start
	Documents string // where the logs of documents of configuration are, as package oplog names stores; "": in the data directory
	HTTPAddr  string // "": 127.0.0.1:7420; a port of 0 lets the system choose
	PublicURL string // what users reach the server by, if not by the address they connect to
	SSHAddr   string // where git is served over SSH too; "": nowhere. Its host keys are in the data directory
	SSHPublic string // HOST or HOST:PORT by which users reach it, if not that of PublicURL with the port of SSHAddr
	Version   string // "": dev
	Log       *slog.Logger

	OldMasterKeys []string // as MasterKey: what they have wrapped is wrapped with MasterKey when the node starts
	DiscardLost   bool     // delete secrets whose master key is not given, instead of refusing to start

	MaxOpenCells int           // repositories open at once; 0: router's default
	MaxPackBytes int64         // of one push; 0: 8 GiB
	MaxTransfers int           // pushes, fetches and archives at once; 0: server's default
	MaxPerCaller int           // of them, of one principal, or of one address without a credential; 0: half
	MaxPerRepo   int           // of them, of one repository; 0: half
	DeleteGrace  time.Duration // how long a deleted tenant can be restored; 0: 30 days
	DrainTimeout time.Duration // how long requests may go on after Run's context has ended; 0: 30 s

	Origins []string // of other sites whose pages may use the API: https://app.example.org

	CertFile, KeyFile string     // PEM: serve HTTPS with them; read again when they change
	ClientCAFile      string     // PEM: whose signature makes client certificates count; read again when it changes. "": none is asked for
	ACME              certs.ACME // or with certificates from an authority, if it has Domains; "" as Dir: acme in the data directory

	Proxies peer.Proxies // who speaks for others; the zero one is nobody

	OutboundAllow []netip.Prefix // networks that the server may ask although they are not public, and without TLS: see package outbound

	Logins   []login.Config // OpenID Connect providers by which people log in
	TokenTTL time.Duration  // of a terminal's token that a person confirms; 0: 30 days

	TraceEndpoint string  // where spans go, OTLP over HTTP: http://127.0.0.1:4318; "": nowhere, at no cost
	TraceSample   float64 // of how many requests, 0 to 1

	Rates      map[string]limit.Quota // how often, by the names of RateLimits; the zero Quota switches one off; missing: its default
	RateExempt []netip.Prefix         // whose requests are not counted; nil: this machine's
}

// RateLimits lists the limits on how often something may be asked for.
func RateLimits() []server.RateLimit { return server.RateLimits() }

// LoopbackPrefixes are the addresses of this machine itself.
func LoopbackPrefixes() []netip.Prefix { return server.LoopbackPrefixes() }

// Node is one server process's parts.
type Node struct {
	opts      Options
	control   *control.Control
	router    *router.Router
	outbound  *outbound.Client
	logs      oplog.Store // of documents
	documents *hosted.Documents
	meter     *usage.Meter
	tracer    *trace.Tracer // nil: nobody follows requests
	server    *server.Server
	listener  net.Listener
	ssh       sshPart

	transactions *transactions
	first        string
}

// New opens the data directory, making it if need be, and listens. Connections wait until Run.
func New(ctx context.Context, opts Options) (n *Node, err error) {
	if opts.DataDir == "" {
		opts.DataDir = DefaultDataDir
	}
	if opts.HTTPAddr == "" {
		opts.HTTPAddr = DefaultHTTPAddr
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	n = &Node{opts: opts, transactions: newTransactions()}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close(), n.tracer.Close(ctx))
			n = nil
		}
	}()
	for _, o := range opts.Origins {
		if err := server.CheckOrigin(o); err != nil {
			return n, fmt.Errorf("allow origin %q: %w: %w", o, err, errkind.Invalid)
		}
	}
	tlsConfig, err := opts.clientTLS()
	if err != nil {
		return n, err
	}
	if opts.TraceEndpoint != "" {
		n.tracer, err = trace.Open(ctx, trace.Options{Endpoint: opts.TraceEndpoint, Sample: opts.TraceSample, Version: opts.Version, Log: opts.Log})
		if err != nil {
			return n, err
		}
	}
	if err := os.MkdirAll(opts.DataDir, 0o700); err != nil {
		return n, fmt.Errorf("make data directory: %w", err)
	}
	// First the router: it takes the directory for this process.
	if n.router, err = router.Open(ctx, opts.DataDir, router.Options{
		MaxOpenCells: opts.MaxOpenCells, MaxPackBytes: opts.MaxPackBytes, Log: opts.Log,
		Stored: func(t id.Tenant, r id.Repo, bytes int64) { n.meter.SetStorage(usage.Key{Tenant: t, Repo: r}, bytes) },
	}); err != nil {
		return n, fmt.Errorf("open cells: %w", err)
	}
	n.outbound = outbound.New(outbound.Options{Allow: opts.OutboundAllow})
	if err := n.openControl(ctx); err != nil {
		return n, err
	}
	if err := n.openDocuments(ctx); err != nil {
		return n, err
	}
	if err := login.CheckConfigs(opts.Logins); err != nil {
		return n, fmt.Errorf("login: %w", err)
	}
	var logins []*login.Provider
	for _, c := range opts.Logins {
		p, err := login.New(c, n.outbound.HTTP())
		if err != nil {
			return n, fmt.Errorf("login: %w", err)
		}
		logins = append(logins, p)
	}
	n.meter = usage.New(n.control, usage.Options{Log: opts.Log, Flushed: func() { n.server.Flushed() }})
	if err := n.listenSSH(ctx); err != nil {
		return n, err
	}
	n.server = server.New(n.control, n.router, server.Options{ //nolint:contextcheck // its handlers have contexts of their own
		Log: opts.Log, Version: opts.Version, PublicURL: opts.PublicURL,
		MaxTransfers: opts.MaxTransfers, MaxPerCaller: opts.MaxPerCaller, MaxPerRepo: opts.MaxPerRepo,
		MaxPackBytes: opts.MaxPackBytes, DrainTimeout: opts.DrainTimeout, DeleteGrace: opts.DeleteGrace,
		Rates: opts.Rates, RateExempt: opts.RateExempt, Proxies: opts.Proxies, TLS: tlsConfig, Origins: opts.Origins,
		Outbound: n.outbound, Logins: logins, TokenTTL: opts.TokenTTL, Meter: n.meter, Tracer: n.tracer, Documents: n.documents,
		SSHHost: n.ssh.host, SSHPort: n.ssh.port,
	})
	n.makeSSH()
	for _, c := range append([]prometheus.Collector{n.transactions.took, n.transactions.failed}, n.ssh.collectors()...) {
		if err := n.server.Register(c); err != nil {
			return n, fmt.Errorf("register metrics: %w", err)
		}
	}
	if err := n.server.ApplyPolicies(ctx); err != nil {
		return n, err
	}
	var lc net.ListenConfig
	if n.listener, err = lc.Listen(ctx, "tcp", opts.HTTPAddr); err != nil {
		return n, fmt.Errorf("listen: %w", err)
	}
	return n, nil
}

// Addr is where the node listens: with the port that the system chose, if it was asked to.
func (n *Node) Addr() net.Addr { return n.listener.Addr() }

// URL is the server's address for its users.
func (n *Node) URL() string {
	if n.opts.PublicURL != "" {
		return n.opts.PublicURL
	}
	if n.opts.secure() {
		if len(n.opts.ACME.Domains) > 0 {
			return "https://" + n.opts.ACME.Domains[0]
		}
		return "https://" + n.Addr().String()
	}
	return "http://" + n.Addr().String()
}

func (o Options) secure() bool { return o.CertFile != "" || o.KeyFile != "" || len(o.ACME.Domains) > 0 }

// clientTLS is how clients are spoken to, and whether they are asked for certificates; nil: plainly.
func (o Options) clientTLS() (*tls.Config, error) {
	config, err := o.tls()
	switch {
	case err != nil || o.ClientCAFile == "":
		return config, err
	case config == nil:
		return nil, fmt.Errorf("client certificates need TLS: say --tls-cert and --tls-key, or --acme-domain: %w", errkind.Invalid)
	}
	clients, err := certs.OpenClientCAs(o.ClientCAFile, o.Log)
	if err != nil {
		return nil, err
	}
	return clients.Ask(config), nil
}

// tls is the server's part of it.
func (o Options) tls() (*tls.Config, error) {
	files, authority := o.CertFile != "" || o.KeyFile != "", len(o.ACME.Domains) > 0
	switch {
	case files && authority:
		return nil, fmt.Errorf("certificate files and ACME domains: one of them: %w", errkind.Invalid)
	case authority:
		if o.ACME.Dir == "" {
			o.ACME.Dir = filepath.Join(o.DataDir, acmeDir)
		}
		return o.ACME.Config()
	case !files:
		return nil, nil
	case o.CertFile == "" || o.KeyFile == "":
		return nil, fmt.Errorf("a certificate and its key: one of them is not named: %w", errkind.Invalid)
	}
	f, err := certs.Open(o.CertFile, o.KeyFile, o.Log)
	if err != nil {
		return nil, err
	}
	return f.Config(), nil
}

// acmeDir is the part of the data directory with an authority's account and certificates.
const acmeDir = "acme"

// FirstSecret is the administrator's token if this start made it, else empty. It is to be shown once.
func (n *Node) FirstSecret() string { return n.first }

// AdminTokenPath is the file in which the first start left that token.
func (n *Node) AdminTokenPath() string { return filepath.Join(n.opts.DataDir, adminTokenFile) }

// Run serves until ctx ends, lets running requests finish, and returns when all parts have ended. It is called once.
func (n *Node) Run(ctx context.Context) error {
	// The router and the control plane work on while the server drains: a push that is under way must find its cell.
	rest, stopRest := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRest()
	g, gctx := errgroup.WithContext(ctx)
	var fronts sync.WaitGroup
	fronts.Add(1)
	if n.ssh.server != nil {
		fronts.Add(1)
		g.Go(func() error {
			defer fronts.Done()
			return n.ssh.server.Run(gctx, n.ssh.listener)
		})
	}
	g.Go(func() error {
		defer fronts.Done()
		return n.server.Run(gctx, n.listener)
	})
	g.Go(func() error {
		fronts.Wait()
		stopRest()
		return nil
	})
	g.Go(func() error {
		if err := n.control.Run(rest); err != nil {
			return fmt.Errorf("run control plane: %w", err)
		}
		return nil
	})
	g.Go(func() error { return n.documents.Run(rest) })
	g.Go(func() error { return n.meter.Run(rest) }) // to the end, when everybody has counted
	g.Go(func() error {
		n.purge(gctx)
		return nil
	})
	g.Go(func() error {
		if err := n.router.Run(rest); err != nil {
			return fmt.Errorf("run cells: %w", err)
		}
		return nil // rest has ended: that is how the router ends
	})
	err := g.Wait()
	if e := n.tracer.Close(ctx); e != nil {
		n.opts.Log.WarnContext(rest, "last traces dropped", "error", e) // nothing of what was served is lost with them
	}
	return err
}

// Close closes what is open. It is called once, after Run if that was called.
func (n *Node) Close() error {
	var errs []error
	for _, ln := range []net.Listener{n.listener, n.ssh.listener} {
		if ln == nil {
			continue
		}
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if n.outbound != nil {
		n.outbound.Close()
	}
	if n.documents != nil {
		n.documents.Close()
	}
	if n.logs != nil {
		errs = append(errs, n.logs.Close())
	}
	if n.control != nil {
		errs = append(errs, n.control.Close())
	}
	if n.router != nil { // last: it lets go of the directory
		errs = append(errs, n.router.Close())
	}
	return errors.Join(errs...)
}
