package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config/rest"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/problem"
)

const openAPIPath = client.Base + "/openapi.json"

const (
	// maxJSON bounds a request's JSON. Decoding takes a few times as much memory.
	maxJSON = 1 << 20
	// maxPage bounds a list's page; the tags of Paging say the same.
	maxPage = 200
	// callTime bounds a call that transfers no bulk: a diff, a blame or a log that takes longer costs others too much.
	callTime = time.Minute
)

// Paging is the query of every list.
type Paging struct {
	Cursor string `query:"cursor" maxLength:"1500" doc:"Where the page starts: the next_cursor of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many at most"`
}

// out is an operation's answer with nothing but a body.
type out[T any] struct{ Body T }

// none is the answer of an operation that has nothing to say.
type none struct{}

// newAPI declares every operation.
func (s *Server) newAPI() http.Handler {
	mux := http.NewServeMux()
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "Skep",
				Version:     s.opts.Version,
				Description: apiDescription,
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", rest.Name),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"bearer":  {Type: "http", Scheme: "bearer", Description: "A token, or a JWT of an issuer that a tenant trusts"},
					"basic":   {Type: "http", Scheme: "basic", Description: "A token or JWT as the password, with any user name"},
					"key":     {Type: "apiKey", In: "header", Name: "X-API-Key"},
					"mtls":    {Type: "mutualTLS", Description: "A client certificate, if the operator takes them"},
					"session": {Type: "apiKey", In: "cookie", Name: hostPrefix + sessionCookie, Description: "What /login gives a browser; for pages of the same origin"},
				},
			},
			Security: []map[string][]string{{}, {"bearer": {}}, {"basic": {}}, {"key": {}}, {"mtls": {}}, {"session": {}}},
		},
		Formats:       huma.DefaultFormats,
		Transformers:  []huma.Transformer{problem.Plain},
		DefaultFormat: "application/json",
	}
	api := humago.New(mux, config)
	a := &restAPI{Server: s, API: api}
	a.registerTenants()
	a.registerAudit()
	a.registerLifecycle()
	a.registerPrincipals()
	a.registerAccounts()
	a.registerInvitations()
	a.registerPolicy()
	a.registerIssuers()
	a.registerPolicySources()
	a.registerSecrets()
	a.registerTokens()
	a.registerCertificates()
	a.registerLogins()
	a.registerSSHKeys()
	a.registerSSHAuthorities()
	a.registerRepos()
	a.registerShares()
	a.registerDeployKeys()
	a.registerRefs()
	a.registerContent()
	a.registerHistory()
	a.registerPacks()
	a.registerUsage()
	a.registerQuotas()
	a.registerDocuments()
	describeProblems(config.OpenAPI)

	document := sync.OnceValues(func() ([]byte, error) { return json.Marshal(api.OpenAPI()) })
	mux.HandleFunc("GET "+openAPIPath, func(w http.ResponseWriter, r *http.Request) {
		b, err := document()
		if err != nil {
			panic("bug: the OpenAPI document does not encode: " + err.Error())
		}
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(b) // the client may be gone
	})
	return mux
}

// describeProblems makes the document say of a problem's type what holds here: there is one, and it is one of few.
func describeProblems(doc *huma.OpenAPI) {
	problem := doc.Components.Schemas.Map()["ErrorModel"]
	problem.Required = append(problem.Required, "type")
	t := problem.Properties["type"]
	t.Description, t.Default, t.Examples = "What kind of failure it is.", nil, nil
	for k := errkind.Internal; k <= errkind.Unsupported; k++ {
		t.Enum = append(t.Enum, client.ProblemType(k))
	}
	for _, item := range doc.Paths {
		for _, o := range []*huma.Operation{item.Get, item.Put, item.Post, item.Delete, item.Patch} {
			if o != nil {
				describeLimits(o)
			}
		}
	}
}

// describeLimits adds what any operation may be answered, whatever it does.
func describeLimits(o *huma.Operation) {
	statuses := []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}
	if o.RequestBody != nil {
		statuses = append(statuses, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	for _, status := range statuses {
		code := strconv.Itoa(status)
		if o.Responses[code] == nil {
			o.Responses[code] = &huma.Response{Description: http.StatusText(status), Content: o.Responses["401"].Content}
		}
	}
}

const apiDescription = `Everything Skep does with repositories, without git.

**Credentials.** A token, or a JWT of an issuer that a tenant trusts, as ` + "`Authorization: Bearer`" + `, as ` + "`X-API-Key`" + `, or as the password of HTTP Basic; or, in
a browser, the session that /login began, on pages of the server's own origin. Public repositories are read without one. What a credential may not see is answered like what does not exist.

**Names.** Wherever a path has {repo} or {tenant}, either an ID (repo_…, ten_…) or a path whose slashes are written %2F
(acme%2Fdemo) will do.

**Lists** come in pages: pass next_cursor as ?cursor= until there is none.

**Retries.** A POST with an Idempotency-Key is done at most once: for 24 hours the same request of the same token gets the first
one's answer, with Idempotency-Replayed: true. 409 says that it is still being done, that it was cut off, or that its answer was not kept; 422, that
the key was used for something else.

**Failures** are problem documents (RFC 9457). Their type says what kind of failure it is; a status may stand for several.`

// restAPI declares operations on a server.
type restAPI struct {
	*Server
	huma.API
}

// op is the start of an operation's declaration.
func op(method, path, operationID, tag, summary string) huma.Operation {
	o := huma.Operation{
		OperationID: operationID, Method: method, Path: client.Base + path, Tags: []string{tag}, Summary: summary,
		MaxBodyBytes:    maxJSON,
		BodyReadTimeout: -1, // call.go moves the deadlines
		Errors:          []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound},
	}
	switch method {
	case http.MethodPost:
		o.DefaultStatus = http.StatusCreated
		o.Errors = append(o.Errors, http.StatusConflict)
	case http.MethodPut, http.MethodPatch:
		o.Errors = append(o.Errors, http.StatusConflict)
	case http.MethodDelete:
		o.DefaultStatus = http.StatusNoContent
		o.Errors = append(o.Errors, http.StatusConflict)
	}
	return o
}

// handle declares one operation. h gets the caller, and its errors are translated here and nowhere else.
func handle[I, O any](a *restAPI, o huma.Operation, h func(ctx context.Context, p policy.Principal, in *I) (*O, error)) {
	huma.Register(a.API, o, func(ctx context.Context, in *I) (*O, error) {
		c := callOf(ctx)
		if c.route == routeAPIWrite {
			ctx = audit.With(ctx, c.origin())
		}
		res, err := h(ctx, c.principal, in)
		if err != nil {
			a.logFailure(ctx, c, err)
			status := a.refusalHeaders(c, err)
			return nil, problem.Of(status, err)
		}
		return res, nil
	})
}

// serveAPI authenticates a call of the API and hands it to its operation.
func (s *Server) serveAPI(c *call, r *http.Request) {
	c.route = routeAPIRead
	limit, path := s.calls, encodedPath(r.URL)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		c.route = routeAPIWrite
	}
	switch {
	case watches(path):
		limit = s.watchers
	case transfersBytes(path):
		limit = s.transfers
	case c.route == routeAPIRead && comparesFiles(path):
		limit = s.heavy
	}
	if s.admit(c, r) {
		return
	}
	c.op = operationOf(c.route, r.URL.Path)
	if _, document := documentCall(path); document || !strings.HasSuffix(path, "/push") {
		c.body.ahead()
	}
	c.base = s.publicURL(c, r)
	err := s.enter(c, r, limit, func(ctx context.Context) error {
		s.rates.headers(c, c.w.Header())
		if c.body.broken {
			return errBroken
		}
		if c.principal.Anonymous() && c.route == routeAPIWrite && !openToAll(r.URL.Path) {
			return errAnonymous // before a body is read
		}
		ctx = context.WithValue(ctx, callKey{}, c)
		ctx, cancel := s.bound(ctx, limit)
		defer cancel()
		s.once(c, r, func() { s.callAPI(c, r.WithContext(ctx)) })
		return nil
	})
	if err != nil {
		s.refuse(c, r, err)
	}
}

// bound ends a call's context when it has taken long enough: if it transfers bulk, never; if it goes on by itself, when the server stops.
func (s *Server) bound(ctx context.Context, from *pool) (context.Context, context.CancelFunc) {
	switch from {
	case s.transfers:
		return ctx, func() {}
	case s.watchers:
		ctx, cancel := context.WithCancel(ctx)
		go func() {
			select {
			case <-s.stopping:
				cancel()
			case <-ctx.Done():
			}
		}()
		return ctx, cancel
	}
	return context.WithTimeout(ctx, callTime)
}

var errBroken = denial{errkind.Invalid, "the request's body broke off, came too slowly, or is in chunks that cannot be read"}

// openToAll reports whether a POST does without a credential: a fetch only reads, and an invitation is accepted with its secret.
func openToAll(path string) bool {
	return strings.HasPrefix(path, client.Base+"/repos/") && strings.HasSuffix(path, "/fetch") || path == acceptPath
}

// comparesFiles reports whether a call may take a core for as long as callTime, and 100 MiB: a diff or a blame of files
// made for it. Few of them run at once.
func comparesFiles(path string) bool {
	if call, ok := documentCall(path); ok {
		return call == "diff" // it reads the whole log
	}
	return strings.HasSuffix(path, "/blame") || strings.HasSuffix(path, "/compare") || strings.Contains(path, "/commits/")
}

// documentCall returns what a call asks of a document, from its path as it came: "watch" of /api/v2/tenants/acme%2Fweb/config/shop/watch. Names
// that users choose are never taken for it.
func documentCall(encoded string) (call string, ok bool) {
	rest, ok := strings.CutPrefix(encoded, client.Base+"/tenants/")
	parts := strings.SplitN(rest, "/", 4)
	if !ok || len(parts) < 4 || parts[1] != "config" {
		return "", false
	}
	return parts[3], true
}

// watches reports whether a call's answer goes on until somebody ends it.
func watches(encoded string) bool {
	call, _ := documentCall(encoded)
	return call == "watch"
}

// transfersBytes reports whether a call may keep its place for long: its answer or body has no small bound.
func transfersBytes(path string) bool {
	if call, ok := documentCall(path); ok {
		return call == "audit/export"
	}
	for _, end := range [...]string{"/fetch", "/push", "/archive", "/contents", "/audit/export"} {
		if strings.HasSuffix(path, end) {
			return true
		}
	}
	return false
}

// callAPI lets the mux find the operation. Where there is none, its answer becomes a problem document.
func (s *Server) callAPI(c *call, r *http.Request) {
	encoded := encodedPath(r.URL)
	if redirectToClean(&c.w, r, encoded) {
		return
	}
	u := *r.URL
	u.RawPath, r.URL = refAsSegment(encoded), &u
	h, pattern := s.api.(*http.ServeMux).Handler(r) //nolint:errcheck,forcetypeassert // newAPI made it
	if pattern != "" {
		if c.route == routeAPIWrite && c.principal.Anonymous() && !openToAll(r.URL.Path) {
			s.refuse(c, r, errAnonymous) // nobody writes anonymously: no need to read what
			return
		}
		s.api.ServeHTTP(&c.w, r)
		return
	}
	found := probe{header: c.w.Header()}
	h.ServeHTTP(&found, r)
	if found.status == http.StatusMethodNotAllowed {
		problem.Write(&c.w, found.status, denial{errkind.Unsupported, "this path has no such method"})
		return
	}
	problem.Write(&c.w, http.StatusNotFound, denial{errkind.NotFound, "the API has no such path: see " + openAPIPath})
}

// probe takes a handler's status and headers and drops its text.
type probe struct {
	header http.Header
	status int
}

// Header is where the handler puts its headers.
func (p *probe) Header() http.Header { return p.header }

// Write drops b.
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader keeps the status.
func (p *probe) WriteHeader(status int) { p.status = status }
