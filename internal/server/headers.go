package server

import (
	"net/http"
	"slices"

	"github.com/skep-dev/skep/internal/errkind"
)

// What every answer tells browsers. Nothing here is a page: what users put into repositories must not become one, run, be
// framed, or be read by other sites. Git and other programs do not look at these. They are few: with more than eight headers
// in all, making the map of an answer's headers takes as long as all the rest of a small one.
var (
	nosniff   = []string{"nosniff"}
	noContent = []string{"default-src 'none'; frame-ancestors 'none'; sandbox"}
	sameSite  = []string{"same-origin"}
	// hsts is a year, without subdomains: they may be somebody else's.
	hsts = []string{"max-age=31536000"}
)

// secure sets what every answer has.
func secure(h http.Header, r *http.Request) {
	h["X-Content-Type-Options"] = nosniff
	h["Content-Security-Policy"] = noContent
	h["Cross-Origin-Resource-Policy"] = sameSite
	if r.TLS != nil { // behind a proxy with TLS it is the proxy's to say
		h["Strict-Transport-Security"] = hsts
	}
}

// CORS's answers (https://fetch.spec.whatwg.org/#http-cors-protocol). Credentials are never allowed: a page sends a token
// that it has, in a header of its own, and not what the browser remembers.
var (
	corsVary    = []string{"Origin"}
	corsMethods = []string{"GET, HEAD, POST, PUT, PATCH, DELETE"}
	corsHeaders = []string{"Authorization, Content-Type, Idempotency-Key, X-API-Key, X-Intent, X-Request-Id"}
	corsExpose  = []string{"Idempotency-Replayed, RateLimit, RateLimit-Policy, Retry-After, X-Next-Cursor, X-Request-Id"}
	corsMaxAge  = []string{"600"} // seconds for which a browser need not ask again; a changed list counts soon
)

// otherSites says what pages of other sites may do.
type otherSites struct {
	origins []string
	// protection tells apart what a page of another site makes a browser send. A browser adds the credential that its user once
	// typed, and a form may have the content type of a push.
	protection *http.CrossOriginProtection
	// own trusts no other site: it is for requests whose credential is a cookie, which browsers add by themselves.
	own *http.CrossOriginProtection
}

func newOtherSites(origins []string) otherSites {
	s := otherSites{origins: origins, protection: http.NewCrossOriginProtection(), own: http.NewCrossOriginProtection()}
	for _, o := range origins {
		if err := s.protection.AddTrustedOrigin(o); err != nil {
			panic("bug: origins are checked where they are read: " + err.Error())
		}
	}
	return s
}

// CheckOrigin reports what is wrong with an origin such as https://app.example.org. "*" is none: who may write is named.
func CheckOrigin(origin string) error {
	return http.NewCrossOriginProtection().AddTrustedOrigin(origin) //nolint:wrapcheck // it names the origin
}

var errCrossOrigin = denial{errkind.Forbidden, "this request was made by a page of another site"}

// admit lets the pages of allowed origins use the API, and refuses what those of others make a browser send. It reports
// whether the request is answered.
func (s *Server) admit(c *call, r *http.Request) (answered bool) {
	if len(s.sites.origins) > 0 {
		h := c.w.Header()
		h["Vary"] = corsVary
		if o := r.Header["Origin"]; len(o) == 1 && slices.Contains(s.sites.origins, o[0]) {
			h["Access-Control-Allow-Origin"] = []string{o[0]}
			h["Access-Control-Expose-Headers"] = corsExpose
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				h["Access-Control-Allow-Methods"], h["Access-Control-Allow-Headers"] = corsMethods, corsHeaders
				h["Access-Control-Max-Age"] = corsMaxAge
				c.w.WriteHeader(http.StatusNoContent)
				return true
			}
		}
	}
	if err := s.sites.protection.Check(r); err != nil {
		s.refuse(c, r, errCrossOrigin)
		return true
	}
	return false
}
