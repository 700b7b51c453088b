package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config/rpc"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/problem"
)

// dispatch finds out which world a request belongs to. Tenants cannot take the names that are looked for first.
func (s *Server) dispatch(c *call, r *http.Request) {
	path := r.URL.Path
	switch {
	case len(path) > maxPathBytes:
		s.refuse(c, r, tooLongPath)
	case strings.HasPrefix(path, "/api/"):
		s.serveAPI(c, s.trace(c, r))
	case path == "/healthz" || path == "/readyz" || path == "/metrics" || path == "/":
		c.route = routeSystem
		s.serveSystem(c, r)
	case strings.HasPrefix(path, rpc.Path):
		s.serveRPC(c, s.trace(c, r))
	case path == "/login" || path == "/logout" || strings.HasPrefix(path, "/login/"):
		s.serveLogin(c, r)
	default:
		s.serveGit(c, s.trace(c, r))
	}
}

var tooLongPath = denial{errkind.TooLarge, "the path is too long"}

// serveSystem serves what belongs to nobody. It waits for no place, so that an overloaded server still says how it is.
func (s *Server) serveSystem(c *call, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.text(c, http.StatusMethodNotAllowed, "only GET is served here")
		return
	}
	switch r.URL.Path {
	case "/healthz":
		s.text(c, http.StatusOK, "ok")
	case "/readyz":
		if !s.ready.Load() {
			s.text(c, http.StatusServiceUnavailable, "not ready")
			return
		}
		s.text(c, http.StatusOK, "ready")
	case "/metrics":
		s.metrics.handler.ServeHTTP(&c.w, r)
	default:
		s.text(c, http.StatusOK, "This is Skep, a Git server.\n\n"+
			"  git clone "+s.publicURL(c, r)+"/TENANT/REPO.git\n\n"+
			"The API is below "+client.Base+", described by "+openAPIPath+".")
	}
}

// publicURL is the server's address as its users see it.
func (s *Server) publicURL(c *call, r *http.Request) string {
	if s.opts.PublicURL != "" {
		return s.opts.PublicURL
	}
	if c.https {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

var plainText = []string{"text/plain; charset=utf-8"}

// text answers with one line, which git shows to its user.
func (s *Server) text(c *call, status int, line string) {
	h := c.w.Header()
	h["Content-Type"] = plainText
	h["Cache-Control"] = noStore
	c.w.WriteHeader(status)
	_, _ = io.WriteString(&c.w, line+"\n") // the client may be gone
}

var noStore = []string{"no-store"}

// challenge asks for a credential. Git asks its user (or credential helper) when it sees it.
var challenge = []string{`Basic realm="skep", charset="UTF-8"`}

// refuse answers a request that failed: with a problem document below /api, with a line of text for git.
func (s *Server) refuse(c *call, r *http.Request, err error) {
	s.logFailure(r.Context(), c, err)
	if c.w.status != 0 {
		return // the answer has begun
	}
	status := s.refusalHeaders(c, err)
	if c.route == routeAPIRead || c.route == routeAPIWrite {
		problem.Write(&c.w, status, err)
		return
	}
	switch c.route {
	case routeLogin:
		s.showFailure(c, r, status, err)
	case routeDevice:
		s.deviceFailure(c, status, "invalid_request", problem.Explain(err))
	default:
		s.text(c, status, problem.Explain(err))
	}
}

// refusalHeaders sets the headers that belong to a refusal's status.
func (s *Server) refusalHeaders(c *call, err error) int {
	status := s.countRefusal(err)
	switch status {
	case http.StatusUnauthorized:
		c.w.Header()["Www-Authenticate"] = challenge
	case http.StatusServiceUnavailable:
		c.w.Header()["Retry-After"] = []string{retryAfter}
	case http.StatusTooManyRequests:
		s.rates.headers(c, c.w.Header())
		if spent, ok := errors.AsType[quotaSpent](err); ok {
			c.w.Header()["Retry-After"] = []string{strconv.FormatInt(seconds(spent.retry), 10)}
		}
	}
	return status
}

// countRefusal counts what is refused for want of places or quota, and says as which status it counts among requests.
func (s *Server) countRefusal(err error) (status int) {
	if over, ok := errors.AsType[control.QuotaError](err); ok && over.Quota != control.QuotaStorage {
		s.metrics.overQuota[over.Quota].Inc()
	}
	if status = problem.Status(err); status == http.StatusServiceUnavailable {
		s.metrics.refused.Inc()
	}
	return status
}

// logFailure keeps what people are not shown.
func (s *Server) logFailure(ctx context.Context, c *call, err error) {
	level := slog.LevelDebug
	if problem.Status(err) == http.StatusInternalServerError && ctx.Err() == nil {
		level = slog.LevelError
	}
	if d := (denial{}); errors.As(err, &d) || !s.log.Enabled(ctx, level) {
		return // the access log has it
	}
	s.log.LogAttrs(ctx, level, "request failed", slog.String("request_id", c.id),
		slog.String("route", c.route.String()), slog.Any("error", err))
}
