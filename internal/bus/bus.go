// Package bus brings messages between nodes, over the operator's NATS servers.
//
//	conn, err := bus.Connect(ctx, bus.Options{URL: "tls://one:4222,tls://two:4222", CredentialsFile: "/etc/skep/bus.creds"})
//	defer conn.Close()
//	sub, err := conn.Subscribe("skep.config.shop.news")
//	message, err := sub.Next(ctx)
//	answer, err := conn.Ask(ctx, "skep.config.shop.ask.n1", question)
//
// It is core NATS: a message goes to whoever listens at that moment. It may be lost, and between several senders they come in any order. Nothing of the
// bus is kept: streams (JetStream) would be a second truth beside the logs of those who speak here, which are durable before anything is
// said. So whoever uses this package must be right when messages are lost, late or twice, and compare from time to time.
//
// What is bounded: a message, an answer, what waits for somebody who is slow (the rest is dropped and counted), and nothing is kept for when the servers
// are back: to Publish without a connection is an error. The connection is tried again for ever.
package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skep-dev/skep/internal/errkind"
)

// The limits of a connection.
const (
	maxServers = 16
	// pingEvery and maxPings say when a connection over which nothing comes is given up: a network that drops packets ends none.
	pingEvery    = 5 * time.Second
	maxPings     = 2
	dialPatience = 5 * time.Second
	// writePatience is how long the network may take nothing before whoever publishes gets an error.
	writePatience = 5 * time.Second
	// minPause and maxPause are between attempts to reach any of the servers.
	minPause = 100 * time.Millisecond
	maxPause = 15 * time.Second
)

// Options of a connection. URL is needed.
type Options struct {
	// URL names the servers, nats://HOST:PORT or tls://HOST:PORT, several joined by commas: one is used, and the next one when it fails.
	// Those that servers tell of are not used.
	URL string
	// CredentialsFile has what the servers are shown: a user's JWT and seed, as nsc writes them (.creds), or one line, USER:PASSWORD or a token. It is
	// read again for each connection. "" shows nothing.
	CredentialsFile string
	CAFile          string       // PEM; the authorities by which the servers are known, over TLS only; "": the system's
	Name            string       // how the servers' operator sees the connection; "": skep
	Log             *slog.Logger // nil: none
}

// Conn is a connection to the bus. It is safe for concurrent use.
type Conn struct {
	nc  *nats.Conn
	log *slog.Logger

	mu      sync.Mutex
	changed chan struct{} // guarded by mu, as all that follows; closed when the connection is there or gone
	lost    uint64
	dropped uint64 // of subscriptions that are closed
	subs    map[*Subscription]bool
}

// Status is how a connection does.
type Status struct {
	Connected bool   `json:"connected"`
	Server    string `json:"server,omitempty"` // which one
	Lost      uint64 `json:"lost"`             // how often the connection was lost
	Dropped   uint64 `json:"dropped"`          // messages that came faster than they were taken
	Error     string `json:"error,omitempty"`  // the last one
}

// Connect begins a connection. No server needs to be there yet: an error says that the options are wrong.
func Connect(ctx context.Context, opts Options) (*Conn, error) {
	if opts.Name == "" {
		opts.Name = "skep"
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	servers, secure, err := parseServers(opts.URL)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	c := &Conn{log: opts.Log, changed: make(chan struct{}), subs: map[*Subscription]bool{}}
	settings := []nats.Option{
		nats.Name(opts.Name), nats.Timeout(dialPatience), nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(maxPings), nats.FlusherTimeout(writePatience),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.CustomReconnectDelay(pause),
		nats.SyncQueueLen(maxWaiting),
		nats.ReconnectBufSize(-1),      // nothing is kept for when the servers are back
		nats.IgnoreDiscoveredServers(), // whom the operator wrote down is shown credentials, and nobody else
		nats.ConnectHandler(c.connected(ctx)), nats.ReconnectHandler(c.connected(ctx)),
		nats.DisconnectErrHandler(c.missing(ctx)), nats.ErrorHandler(c.trouble(ctx)),
	}
	if opts.CAFile != "" {
		settings = append(settings, nats.RootCAs(opts.CAFile))
		secure = true
	}
	if secure {
		settings = append(settings, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	if settings, err = withCredentials(settings, opts.CredentialsFile, opts.Log); err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	if c.nc, err = nats.Connect(servers, settings...); err != nil {
		return nil, fmt.Errorf("connect to the bus: %w: %w", err, errkind.Invalid)
	}
	return c, nil
}

// parseServers checks the servers' addresses, and says whether one wants TLS, so that all are to.
func parseServers(text string) (servers string, secure bool, err error) {
	list := strings.Split(text, ",")
	if len(list) > maxServers {
		return "", false, fmt.Errorf("%d servers are named, and %d are allowed: %w", len(list), maxServers, errkind.TooLarge)
	}
	for i, server := range list {
		u, err := url.Parse(strings.TrimSpace(server))
		switch {
		case err != nil: // it may have a password, and so its text is not for a log
			return "", false, fmt.Errorf("the address of server %d cannot be read: %w", i+1, errkind.Invalid)
		case u.User != nil:
			return "", false, fmt.Errorf("the address of %s has credentials: they belong in a file of their own: %w", u.Host, errkind.Invalid)
		case u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
			return "", false, fmt.Errorf("server %q is not of the form nats://HOST:PORT or tls://HOST:PORT: %w", u, errkind.Invalid)
		}
		list[i], secure = u.String(), secure || u.Scheme == "tls"
	}
	return strings.Join(list, ","), secure, nil
}

// pause says how long to wait until all servers are tried again.
func pause(attempts int) time.Duration {
	most := min(minPause<<min(attempts, 10), maxPause)
	return most/2 + rand.N(most/2) //nolint:gosec // it spreads load and is no secret
}

func (c *Conn) connected(ctx context.Context) nats.ConnHandler {
	return func(nc *nats.Conn) {
		c.log.InfoContext(ctx, "bus connected", "server", nc.ConnectedUrlRedacted())
		c.change(0)
	}
}

func (c *Conn) missing(ctx context.Context) nats.ConnErrHandler {
	return func(_ *nats.Conn, err error) {
		if ctx.Err() == nil {
			c.log.WarnContext(ctx, "bus connection lost: it is tried again", "error", err)
		}
		c.change(1)
	}
}

func (c *Conn) trouble(ctx context.Context) nats.ErrHandler {
	return func(_ *nats.Conn, sub *nats.Subscription, err error) {
		subject := ""
		if sub != nil {
			subject = sub.Subject
		}
		c.log.WarnContext(ctx, "bus trouble", "subject", subject, "error", err)
	}
}

func (c *Conn) change(lost uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost += lost
	close(c.changed)
	c.changed = make(chan struct{})
}

// Changed returns a channel that is closed when the connection is next made or lost.
func (c *Conn) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Status returns how the connection does.
func (c *Conn) Status() Status {
	s := Status{Connected: c.nc.IsConnected(), Server: c.nc.ConnectedUrlRedacted()}
	if err := c.nc.LastError(); err != nil {
		s.Error = err.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Lost, s.Dropped = c.lost, c.dropped
	for sub := range c.subs {
		s.Dropped += sub.dropped()
	}
	return s
}

// Close ends the connection, and with it whatever waits for a message.
func (c *Conn) Close() { c.nc.Close() }

// MaxMessage is how large a message may be: the servers' default is 1 MiB, and they count its subject and headers, too.
const MaxMessage = 512 << 10

// limit is how large a message may be for the servers that are there.
func (c *Conn) limit() int {
	const overhead = 4 << 10 // of headers
	if n := c.nc.MaxPayload(); n > 2*overhead {
		return int(min(n-overhead, MaxMessage))
	}
	return MaxMessage
}

// Publish sends a message to whoever listens to a subject. That it returns without an error does not say that anybody got it.
func (c *Conn) Publish(subject string, data []byte) error {
	if limit := c.limit(); len(data) > limit {
		return fmt.Errorf("publish: the message has %d bytes, and %d are allowed: %w", len(data), limit, errkind.TooLarge)
	}
	return wrap("publish", c.nc.Publish(subject, data))
}

// wrap gives what NATS says a kind.
func wrap(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%s: nobody listens there: %w", what, errkind.Unavailable)
	}
	return fmt.Errorf("%s: %w: %w", what, err, errkind.Unavailable)
}
