package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/skep-dev/skep/internal/errkind"
)

const (
	maxAttempts = 3
	// firstPause is what is waited before the first repetition, at most; before the second it is twice that. Less is chosen at
	// random, so that many who were disturbed by one failure do not come back together.
	firstPause = 300 * time.Millisecond

	maxFailures = 5                // in a row: then a host rests
	restTime    = 30 * time.Second // after which one request tries whether it is well again
	maxHosts    = 1000             // whose failures are counted
)

// errResting is of a host that has failed too often.
var errResting = errors.New("it has failed several times and is left alone for half a minute")

// errFaulty marks an answer that says that the server is ill. 500 is not among these: it may be about one path, which one user
// asked for.
var errFaulty = errors.New("faulty")

// roundTripper makes one request of a chain of redirects.
type roundTripper struct{ *Client }

// RoundTrip judges a request, and makes it up to maxAttempts times.
func (c roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	rt, err := c.choose(req)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // as RoundTripper promises
		}
		return nil, err
	}
	req = req.Clone(req.Context())
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", c.opts.UserAgent)
	}
	breaker := c.breakers.of(req.URL.Scheme + "://" + req.URL.Host)
	for attempt := 1; ; attempt++ {
		resp, err := breaker.Execute(func() (*http.Response, error) {
			resp, err := rt.RoundTrip(req)
			if err == nil && overloaded(resp.StatusCode) {
				return resp, errFaulty
			}
			return resp, err //nolint:wrapcheck // Do says what it means
		})
		if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
			return nil, errResting
		}
		if attempt == maxAttempts || !worthAnother(req, err) || !c.wait(req.Context(), attempt) || !rewind(req) {
			if errors.Is(err, errFaulty) {
				err = nil
			}
			if err == nil {
				resp.Body = &bounded{ReadCloser: resp.Body, left: c.opts.MaxBodyBytes}
			}
			return resp, err
		}
		if resp != nil {
			_ = resp.Body.Close() // what it says of its illness is not of interest
		}
	}
}

// choose finds the transport for an address, whatever a user or a redirect has written there.
func (c roundTripper) choose(req *http.Request) (http.RoundTripper, error) {
	u := req.URL
	switch {
	case u.Host == "" || u.Hostname() == "":
		return nil, refusal("the URL has no host")
	case len(u.String()) > maxURLBytes:
		return nil, refusal("the URL is too long")
	case u.User != nil:
		return nil, refusal("the URL has a user name or password in it")
	case u.Scheme == "https":
		return c.secure, nil
	case u.Scheme == "http":
		return c.plain, nil
	}
	return nil, refusal("the URL is neither https nor http")
}

// worthAnother reports whether a request may be made again, and whether that may help.
func worthAnother(req *http.Request, err error) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete: // RFC 9110 section 9.2.2
	default:
		return false
	}
	if req.Context().Err() != nil || (req.Body != nil && req.Body != http.NoBody && req.GetBody == nil) {
		return false
	}
	return err != nil && !ours(err)
}

func overloaded(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// ours reports whether a failure is of our own making.
func ours(err error) bool {
	_, refused := errors.AsType[refusal](err)
	return refused || errors.Is(err, context.Canceled)
}

// wait pauses before a repetition, and reports whether there is time for it.
func (c roundTripper) wait(ctx context.Context, attempt int) bool {
	pause := c.pause << (attempt - 1)
	timer := time.NewTimer(pause/2 + rand.N(pause/2)) //nolint:gosec // it spreads load and is no secret
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// rewind makes a request's body ready to be sent again.
func rewind(req *http.Request) bool {
	if req.GetBody == nil {
		return true
	}
	body, err := req.GetBody()
	req.Body = body
	return err == nil
}

// breakers counts the failures of the hosts that were asked last. When half of the room is full, the other half is forgotten.
type breakers struct {
	mu         sync.Mutex
	young, old map[string]*gobreaker.CircuitBreaker[*http.Response] // guarded by mu
}

func (b *breakers) of(host string) *gobreaker.CircuitBreaker[*http.Response] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if found := b.young[host]; found != nil {
		return found
	}
	found := b.old[host]
	if found == nil {
		found = gobreaker.NewCircuitBreaker[*http.Response](gobreaker.Settings{ //nolint:bodyclose // there is no answer yet
			Timeout:     restTime,
			ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= maxFailures },
			IsExcluded:  ours,
		})
	}
	if b.young == nil || len(b.young) >= maxHosts/2 {
		b.young, b.old = map[string]*gobreaker.CircuitBreaker[*http.Response]{}, b.young
	}
	b.young[host] = found
	return found
}

var errLong = fmt.Errorf("answer is longer than allowed: %w", errkind.TooLarge)

// bounded is an answer's body up to its limit.
type bounded struct {
	io.ReadCloser
	left int64 // -1: there is more than may be
}

// Read fails where an answer goes on beyond its limit: half of a document is none.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errLong
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, errLong
	}
	return n, err //nolint:wrapcheck // io.EOF and the connection's errors, as a reader gives them
}
