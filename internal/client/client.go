// Package client is the HTTP API as Go types, and a client for it.
//
// The server answers with these very types, so they cannot drift apart. A failure that the server explained comes back
// as a *Problem, which wraps the errkind that the server meant:
//
//	c, err := client.New("http://127.0.0.1:7420", client.Options{Token: token})
//	repo, err := c.RepoByName(ctx, "acme", "demo")
//	if errors.Is(err, errkind.NotFound) { … }
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// maxAnswer bounds a JSON answer: more than any that the server gives.
const maxAnswer = 64 << 20

// Client calls one server as one principal. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	api   string // below base, where the API is
	token string
	agent string
	why   string
	own   http.Header // sent with each request
	http  *http.Client
}

// Options are a client's settings. The zero Options asks anonymously.
type Options struct {
	Token     string
	Intent    string       // why, for the server's audit log
	UserAgent string       // "": skep
	HTTP      *http.Client // nil: one of its own, without a total time limit; calls end with their context
}

// New makes a client for the server at serverURL, such as http://127.0.0.1:7420.
func New(serverURL string, opts Options) (*Client, error) {
	u, err := url.Parse(serverURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("server address %q is not an http or https URL: %w", serverURL, errkind.Invalid)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	u.RawQuery, u.Fragment = "", ""
	c := &Client{base: u, api: Base, token: opts.Token, agent: opts.UserAgent, why: opts.Intent, http: opts.HTTP}
	if c.agent == "" {
		c.agent = "skep"
	}
	if c.token == "" && u.User != nil {
		c.token, _ = u.User.Password()
	}
	u.User = nil
	if c.http == nil {
		c.http = &http.Client{}
	}
	return c, nil
}

// Token is the credential, for the Git client of the same principal.
func (c *Client) Token() string { return c.token }

// URL is the server's address.
func (c *Client) URL() string { return c.base.String() }

// call is one request to the API.
type call struct {
	method string
	path   string // below the API's, segments already escaped
	query  url.Values
	in     any       // sent as JSON
	body   io.Reader // or sent as it is
	ctype  string
	accept string
	header http.Header
}

// send makes the request and hands back an answer of status 2xx, or 304, which only who has sent an ETag gets. The caller closes its body.
func (c *Client) send(ctx context.Context, k call) (*http.Response, error) {
	body := k.body
	if k.in != nil {
		b, err := json.Marshal(k.in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body, k.ctype = bytes.NewReader(b), "application/json"
	}
	target := c.base.String() + c.api + k.path
	if len(k.query) > 0 {
		target += "?" + k.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, k.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	maps.Copy(req.Header, c.own)
	maps.Copy(req.Header, k.header)
	req.Header.Set("User-Agent", c.agent)
	if k.ctype != "" {
		req.Header.Set("Content-Type", k.ctype)
	}
	if k.accept != "" {
		req.Header.Set("Accept", k.accept)
	}
	if c.why != "" {
		req.Header.Set("X-Intent", c.why)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call server: %w", err)
	}
	if resp.StatusCode/100 != 2 && resp.StatusCode != http.StatusNotModified {
		defer closeBody(resp)
		return nil, readProblem(resp)
	}
	return resp, nil
}

// closeBody gives the connection back. What is lost when that does not work is the connection.
func closeBody(resp *http.Response) { _ = resp.Body.Close() }

// do makes the request and decodes the answer into out, unless out is nil.
func (c *Client) do(ctx context.Context, k call, out any) error {
	_, err := c.doHeader(ctx, k, out)
	return err
}

func (c *Client) doHeader(ctx context.Context, k call, out any) (http.Header, error) {
	resp, err := c.send(ctx, k)
	if err != nil {
		return nil, err
	}
	defer closeBody(resp)
	if out == nil || resp.StatusCode == http.StatusNotModified {
		return resp.Header, nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if len(b) > maxAnswer {
		return nil, fmt.Errorf("read answer: more than %d bytes: %w", maxAnswer, errkind.TooLarge)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	return resp.Header, nil
}

// get is the commonest call.
func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	var out T
	err := c.do(ctx, call{method: http.MethodGet, path: path, query: query}, &out)
	return out, err
}

// send a JSON body and decode the answer.
func send[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	err := c.do(ctx, call{method: method, path: path, in: in}, &out)
	return out, err
}

// segment escapes one segment of a path: an ID, or a name whose slashes become %2F.
func segment(s string) string { return url.PathEscape(s) }
