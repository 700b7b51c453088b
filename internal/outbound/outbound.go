// Package outbound makes HTTP requests to addresses that users name, and reaches no private ones.
//
//	c := outbound.New(outbound.Options{Allow: prefixes})
//	resp, err := c.Do(req)        // or c.Get(ctx, url)
//	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, c.HTTP()), issuer)
//
// What a user writes into a form must not become a way into the network around the server. So the address that is connected to is
// judged, after the name was resolved and for each redirect anew: it is a public one, or one that the operator allows. What
// a name resolves to a moment later, and in which notation an address is written, then make no difference.
//
// Requests go over TLS, except to allowed addresses. Redirects, headers, bodies, connections and time are bounded. What can be
// repeated is tried up to three times; a host that fails again and again is left alone for a while. No proxy is used: it, and
// not this package, would choose the address.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// Limits. They are generous to slow, honest servers.
const (
	maxRedirects     = 5
	maxURLBytes      = 2 << 10
	maxHeaderBytes   = 64 << 10 // of an answer
	defaultBodyBytes = 1 << 20  // of an answer: documents of discovery and sets of keys have some KiB
	defaultTimeout   = 30 * time.Second

	dialTimeout    = 5 * time.Second // for the name and the connection
	headerTimeout  = 10 * time.Second
	idleTimeout    = 30 * time.Second
	maxIdle        = 50 // connections that are kept
	maxConnsToHost = 8
)

// Options are the settings of New. The zero Options reaches public addresses over TLS.
type Options struct {
	// Allow are the networks that may be reached although they are not public, and without TLS.
	Allow        []netip.Prefix
	AllowedBy    string         // what operators set for that, as messages call it; "": --outbound-allow
	NoRedirects  bool           // one is an answer like others: for what is sent to an address, which a redirect would turn into a question
	RootCAs      *x509.CertPool // whom to trust; nil: whom the system trusts
	Resolver     *net.Resolver  // nil: the system's
	MaxBodyBytes int64          // of an answer; 0: 1 MiB
	Timeout      time.Duration  // for all of a request: redirects, repetitions and the answer's body; 0: 30 s
	UserAgent    string         // "": skep
}

// Client makes requests. It is safe for concurrent use.
type Client struct {
	opts     Options
	http     *http.Client
	plain    http.RoundTripper // to allowed addresses only
	secure   http.RoundTripper
	breakers breakers
	pause    time.Duration // before the first repetition, at most
}

// New makes a client.
func New(opts Options) *Client {
	if opts.MaxBodyBytes == 0 {
		opts.MaxBodyBytes = defaultBodyBytes
	}
	if opts.Timeout == 0 {
		opts.Timeout = defaultTimeout
	}
	if opts.UserAgent == "" {
		opts.UserAgent = "skep"
	}
	if opts.AllowedBy == "" {
		opts.AllowedBy = "--outbound-allow"
	}
	g := guard{opts.Allow, opts.AllowedBy}
	c := &Client{opts: opts, plain: transport(opts, g.controlPlain), secure: transport(opts, g.controlTLS), pause: firstPause}
	c.http = &http.Client{Transport: roundTripper{c}, Timeout: opts.Timeout, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if opts.NoRedirects {
			return http.ErrUseLastResponse
		}
		if len(via) > maxRedirects {
			return refusal(fmt.Sprintf("it redirects more than %d times", maxRedirects))
		}
		return nil
	}}
	return c
}

func transport(opts Options, control func(network, address string) error) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, Resolver: opts.Resolver, ControlContext: func(_ context.Context, network, address string, _ rawConn) error {
		return control(network, address)
	}}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: opts.RootCAs},
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           maxIdle,
		MaxConnsPerHost:        maxConnsToHost,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true, // what comes is small, and a bomb would not be
		ForceAttemptHTTP2:      true,
	}
}

// HTTP is the client for libraries that want net/http's. All that this package promises holds for it.
func (c *Client) HTTP() *http.Client { return c.http }

// Get asks for a document. The caller closes the answer's body.
func (c *Client) Get(ctx context.Context, address string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, refusal("it is not a URL")
	}
	return c.Do(req)
}

// Read gets a document: what an address answers with status 200.
func (c *Client) Read(ctx context.Context, address string) ([]byte, error) {
	resp, err := c.Get(ctx, address)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s: it answers %s: %w", clip(resp.Request.URL.Host), clip(resp.Status), errkind.Unavailable)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil && errkind.Of(err) != errkind.TooLarge {
		err = fmt.Errorf("its answer breaks off: %w", errkind.Unavailable)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", clip(resp.Request.URL.Host), err)
	}
	return b, nil
}

// Do makes a request. What is wrong with the address is errkind.Invalid; what is wrong at the other end is
// errkind.Unavailable. Errors name the host and no address: what names mean inside a network is nobody's business outside. The
// caller closes the answer's body, whose reading ends in errkind.TooLarge beyond the limit.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err == nil {
		return resp, nil
	}
	host := req.URL.Host
	if e, ok := errors.AsType[*url.Error](err); ok { // it tells where a redirect led
		if u, perr := url.Parse(e.URL); perr == nil {
			host = u.Host
		}
	}
	if r, ok := errors.AsType[refusal](err); ok {
		return nil, fmt.Errorf("ask %s: %w", clip(host), r)
	}
	if ctxErr := req.Context().Err(); ctxErr != nil {
		return nil, fmt.Errorf("ask %s: %w", clip(host), ctxErr)
	}
	return nil, fmt.Errorf("ask %s: %s: %w", clip(host), reason(err), errkind.Unavailable)
}

// Close gives up the connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// refusal is why an address is not asked.
type refusal string

func (r refusal) Error() string { return string(r) }
func (r refusal) Unwrap() error { return errkind.Invalid }

// reason says what went wrong without saying where a name leads.
func reason(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var bad *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errResting):
		return errResting.Error()
	case errors.As(err, &dns):
		return "its name cannot be resolved"
	case errors.As(err, &bad):
		return "its certificate is not trusted"
	case errors.As(err, &op) && op.Op == "dial":
		return "it cannot be connected to"
	case errors.Is(err, context.DeadlineExceeded):
		return "it did not answer in time"
	}
	return "it did not answer as HTTP servers do"
}

// clip keeps what a user wrote short.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
