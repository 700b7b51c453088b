package server

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// The names of cookies. With __Host- a browser takes a cookie from this very host over TLS alone, so that no neighbour can plant one
// (draft-ietf-httpbis-rfc6265bis section 4.1.3). Plain HTTP, on this machine only, has to do without.
const (
	hostPrefix    = "__Host-"
	sessionCookie = "skep_session"
	ticketCookie  = "skep_login"
)

var (
	errBadSession = denial{errkind.Unauthorized, "this session is over: log in again at /login"}
	errPlainHTTP  = denial{errkind.Forbidden, "people log in over https only: what this page sends could be read on the way. An administrator can switch https on: " +
		"see the operator's guide, TLS"}
)

// overTLS reports whether browsers reach the server over TLS.
func (s *Server) overTLS(c *call) bool {
	return c.https || strings.HasPrefix(s.opts.PublicURL, "https://")
}

// mayLogin refuses a browser whose cookies others could read on the way.
func (s *Server) mayLogin(c *call, r *http.Request) error {
	if s.overTLS(c) || isLoopback(r.Host) {
		return nil
	}
	return errPlainHTTP
}

// isLoopback reports whether a Host header names the machine on which the browser is.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && a.IsLoopback()
}

func (s *Server) cookieName(c *call, name string) string {
	if s.overTLS(c) {
		return hostPrefix + name
	}
	return name
}

// cookie returns a cookie's value. Of two with one name somebody else planted one: then there is none that counts.
func (s *Server) cookie(c *call, r *http.Request, name string) string {
	if len(r.Header["Cookie"]) == 0 {
		return ""
	}
	found := r.CookiesNamed(s.cookieName(c, name))
	if len(found) != 1 {
		return ""
	}
	return found[0].Value
}

// setCookie keeps a value in the browser for a time; 0 takes it away.
func (s *Server) setCookie(c *call, name, value string, life time.Duration) {
	k := http.Cookie{
		Name: s.cookieName(c, name), Value: value, Path: "/", MaxAge: int(life / time.Second),
		HttpOnly: true, Secure: s.overTLS(c), SameSite: http.SameSiteLaxMode,
	}
	if life == 0 {
		k.MaxAge = -1
	}
	http.SetCookie(&c.w, &k)
}

// sessionSecret finds the secret of a browser's session where one counts: on pages and in the API, without another credential. For
// git it is nobody's.
func (s *Server) sessionSecret(c *call, r *http.Request) string {
	switch c.route {
	case routeAPIRead, routeAPIWrite, routeLogin:
	default:
		return ""
	}
	if len(r.Header["Authorization"])+len(r.Header["X-Api-Key"]) > 0 {
		return ""
	}
	return s.cookie(c, r, sessionCookie)
}

// fromSession authenticates a browser. What a page of another origin, allowed or not, makes it send is refused.
func (s *Server) fromSession(ctx context.Context, c *call, r *http.Request, secret string) (policy.Principal, error) {
	if err := s.sites.own.Check(r); err != nil {
		return policy.Principal{}, errCrossOrigin
	}
	h, ok := auth.SessionHash(secret)
	if !ok {
		return policy.Principal{}, errBadSession
	}
	p, next, err := s.control.SessionPrincipal(ctx, h)
	if err != nil {
		return policy.Principal{}, err
	}
	if next != "" {
		s.setCookie(c, sessionCookie, next, control.SessionLife)
	}
	return p, nil
}
