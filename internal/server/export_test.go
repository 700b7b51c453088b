package server

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/problem"
	"github.com/skep-dev/skep/internal/usage"
)

// Pool opens a pool of places for its tests.
type Pool struct{ p *pool }

// NewPool makes one.
func NewPool(places, callers, repos, waiting int, patience time.Duration) Pool {
	return Pool{newPool(places, callers, repos, waiting, patience)}
}

// Enter takes a place as a request does, and gives the way to its repository's share and the way out.
func (p Pool) Enter(ctx context.Context, caller limit.Key) (narrow func(id.Repo) error, leave func(), err error) {
	var pl place
	if err := pl.take(ctx, p.p, caller); err != nil {
		return nil, nil, err
	}
	return func(r id.Repo) error { return pl.narrow(ctx, r) }, pl.leave, nil
}

// Taken is how many places are taken, how many requests wait, and how many shares are kept.
func (p Pool) Taken() (running, waiting, kept int) {
	return p.p.running(), int(p.p.queue.waiting.Load()), len(p.p.callers.inUse) + len(p.p.repos.inUse)
}

// BreakAPI makes every call of the API panic, before or after its answer has begun.
func (s *Server) BreakAPI() {
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v2/before", func(http.ResponseWriter, *http.Request) { panic("secret state") })
	mux.HandleFunc("/api/v2/after", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 100<<10))
		panic("secret state")
	})
	s.api = mux
}

// ParseGitPath opens the path parser for its tests.
func ParseGitPath(path string) (tenant, name, rest string, ok bool) {
	p, ok := parseGitPath(path)
	return p.tenant, p.name, p.rest, ok
}

// MuxPath is the path by which the API's mux finds an operation, for its test.
func MuxPath(u *url.URL) string { return refAsSegment(encodedPath(u)) }

// ParseTTL opens the parser of a token's life time for its tests.
var ParseTTL = parseTTL

// ValidRequestID opens the check of a client's request identifier for its tests.
var ValidRequestID = validRequestID

// Authenticate finds the caller behind a request's credential.
func (s *Server) Authenticate(r *http.Request) (policy.Principal, error) {
	return auth.FromRequest(r.Context(), s.control, r)
}

// Judge switches policy's decisions on repositories on, as they always are, or off.
func (s *Server) Judge(on bool) {
	s.judge = func(context.Context, policy.Principal, policy.Action, control.Repo, control.Standing) error {
		return nil
	}
	if on {
		s.judge = s.mayRepo
	}
}

// MakeRepo makes an empty repository without a request that limits would count.
func (s *Server) MakeRepo(ctx context.Context, t id.Tenant, name string, public bool) error {
	_, err := s.control.CreateRepo(ctx, t, name, public, func(r control.Repo) error {
		return s.router.Create(ctx, r.Tenant, r.ID, defaultBranch)
	})
	return err
}

// ParseAuthorizedKey opens the parser of SSH keys for its tests. line is the key without what people add.
func ParseAuthorizedKey(text string) (kind, line, fingerprint, comment string, err error) {
	k, err := parseAuthorizedKey(text)
	if err != nil {
		return "", "", "", "", err
	}
	return k.kind, authorizedLine(k.kind, k.wire), k.fingerprint, k.comment, nil
}

// MayMove is what a push asks about each reference, when it has come that far.
func (s *Server) MayMove(ctx context.Context, p policy.Principal, repo control.Repo) (func(git.RefName) error, error) {
	w, err := s.writer(context.WithValue(ctx, callKey{}, &call{}), p, repo)
	return func(name git.RefName) error { return w.May(name, protocol.Forward) }, err
}

// ShareOf is among whose remembered answers one is counted.
func (s *Server) ShareOf(ctx context.Context, p policy.Principal, used id.Tenant) string {
	return s.shareOf(ctx, &call{principal: p, used: usage.Key{Tenant: used}})
}

// EventCursor is the cursor after a record of usage.
func EventCursor(r usage.Record) string { return makeCursor(eventName(r)) }

// ParseEventCursor reads it.
var ParseEventCursor = parseEventCursor

// StatusOf is the status of a kind of failure, for the reference.
var StatusOf = problem.Status

// VerifySSH checks a signature's blob and returns the fingerprint of the key that made it.
func VerifySSH(blob, text []byte) (fingerprint string, err error) {
	key, err := verifySSH(blob, text)
	if err != nil {
		return "", err
	}
	return ssh.FingerprintSHA256(key), nil
}
