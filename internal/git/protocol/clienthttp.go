package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// HTTPOptions go with a Client over HTTP. The zero value is anonymous.
type HTTPOptions struct {
	Username, Password string // Basic
	Token              string // Bearer; counts before Basic
	Agent              string // "" is "skep"
}

// NewHTTPClient makes a Client of the repository at rawURL, which may hold credentials, over the smart HTTP protocol.
func NewHTTPClient(c *http.Client, rawURL string, opts HTTPOptions) (*Client, error) {
	u, err := url.Parse(rawURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("remote's address is no http URL: %w", errkind.Invalid)
	}
	if u.User != nil && opts.Username == "" && opts.Token == "" {
		opts.Username = u.User.Username()
		opts.Password, _ = u.User.Password()
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	u.Path = strings.TrimSuffix(u.Path, "/")
	follows := *c
	follows.CheckRedirect = keepCredentials(u, c.CheckRedirect)
	return &Client{dial: &httpDialer{client: &follows, base: u, opts: opts}, agent: agentOr(opts.Agent)}, nil
}

// maxRedirects is net/http's own.
const maxRedirects = 10

// keepCredentials follows redirects, with credentials only to where they are for: net/http would take them along to
// another port, and from https to http.
func keepCredentials(base *url.URL, then func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if req.URL.Host != base.Host || req.URL.Scheme != base.Scheme {
			req.Header.Del("Authorization")
		}
		switch {
		case then != nil:
			return then(req, via)
		case len(via) >= maxRedirects:
			return fmt.Errorf("%d redirects: %w", maxRedirects, errkind.Invalid)
		}
		return nil
	}
}

type httpDialer struct {
	client *http.Client
	base   *url.URL
	opts   HTTPOptions
}

// httpConversation is one advertisement, and the request that may follow it.
type httpConversation struct {
	dialer  *httpDialer
	base    *url.URL // where redirects have led
	service string
	version Version
	body    io.ReadCloser
	pkts    *PktReader
}

func (d *httpDialer) open(ctx context.Context, service string, v Version) (conversation, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base.String()+"/info/refs?service="+service, nil)
	if err != nil {
		return nil, err
	}
	conv := &httpConversation{dialer: d, base: d.base, service: service, version: v}
	resp, err := conv.do(req) //nolint:bodyclose // conv.Close does
	if err != nil {
		return nil, err
	}
	conv.body, conv.pkts = resp.Body, NewPktReader(resp.Body, maxAdvertBytes)
	if err := conv.begin(resp); err != nil {
		_ = conv.Close()
		return nil, err
	}
	return conv, nil
}

// begin checks that a smart server answers, and skips the line that says so.
func (c *httpConversation) begin(resp *http.Response) error {
	if t := resp.Header.Get("Content-Type"); t != "application/x-"+c.service+"-advertisement" {
		return fmt.Errorf("%s does not speak Git's smart HTTP protocol (it answers with %q): %w", c.base.Host, clip(t, 80), errkind.Unsupported)
	}
	if u := resp.Request.URL; u.String() != c.base.String() {
		moved := *u
		moved.RawQuery, moved.User = "", nil
		if p, ok := strings.CutSuffix(moved.Path, "/info/refs"); ok {
			moved.Path, moved.RawPath = p, ""
			c.base = &moved
		}
	}
	// v2 has no such line. What is wrong otherwise is seen by who reads the advertisement.
	if head, err := c.pkts.r.Peek(pktHeader + 2); err != nil || string(head[pktHeader:]) != "# " {
		return nil //nolint:nilerr // see above
	}
	return eachLine(c.pkts, func([]byte) error { return nil })
}

// do sends a request with credentials, which go to no other host than the one they are for.
func (c *httpConversation) do(req *http.Request) (*http.Response, error) {
	o := &c.dialer.opts
	switch {
	case req.URL.Host != c.dialer.base.Host || req.URL.Scheme != c.dialer.base.Scheme:
	case o.Token != "":
		req.Header.Set("Authorization", "Bearer "+o.Token)
	case o.Username != "" || o.Password != "":
		req.SetBasicAuth(o.Username, o.Password)
	}
	req.Header.Set("User-Agent", "git/2 ("+agentOr(o.Agent)+")")
	if c.version != V0 {
		req.Header.Set("Git-Protocol", fmt.Sprintf("version=%d", c.version))
	}
	resp, err := c.dialer.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // its text would repeat the address
		}
		return nil, fmt.Errorf("ask %s: %w", c.base.Host, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxReasonBytes)) // only to explain
	_ = resp.Body.Close()
	kind := statusKind(resp.StatusCode)
	if why := clip(strings.TrimSpace(string(text)), maxReasonBytes); why != "" && !strings.HasPrefix(why, "<") {
		return nil, fmt.Errorf("%s answers %s: %s: %w", c.base.Host, resp.Status, why, kind)
	}
	return nil, fmt.Errorf("%s answers %s: %w", c.base.Host, resp.Status, kind)
}

func statusKind(code int) errkind.Kind {
	switch code {
	case http.StatusUnauthorized:
		return errkind.Unauthorized
	case http.StatusForbidden:
		return errkind.Forbidden
	case http.StatusNotFound, http.StatusGone:
		return errkind.NotFound
	case http.StatusRequestEntityTooLarge:
		return errkind.TooLarge
	case http.StatusTooManyRequests:
		return errkind.RateLimited
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return errkind.Unavailable
	}
	return errkind.Invalid
}

func (c *httpConversation) advert() *PktReader { return c.pkts }

func (c *httpConversation) request(ctx context.Context, body io.Reader) (*PktReader, error) {
	if err := c.Close(); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.String()+"/"+c.service, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-"+c.service+"-request")
	req.Header.Set("Accept", "application/x-"+c.service+"-result")
	resp, err := c.do(req) //nolint:bodyclose // Close does
	if err != nil {
		return nil, err
	}
	c.body, c.pkts = resp.Body, NewPktReader(resp.Body, maxAnswerBytes)
	return c.pkts, nil
}

func (c *httpConversation) explain(err error) error { return err }

// Close ends the answer that is being read.
func (c *httpConversation) Close() error {
	if c.body == nil {
		return nil
	}
	err := c.body.Close()
	c.pkts.Close()
	c.body, c.pkts = nil, nil
	return err
}
