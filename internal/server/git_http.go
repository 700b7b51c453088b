package server

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/router"
	"github.com/skep-dev/skep/internal/usage"
)

// The two services of smart HTTP (https://git-scm.com/docs/gitprotocol-http).
const (
	uploadPack  = "git-upload-pack"
	receivePack = "git-receive-pack"
)

// Header values that every answer shares. Nobody appends to them.
var (
	uploadAdvert  = []string{"application/x-git-upload-pack-advertisement"}
	receiveAdvert = []string{"application/x-git-receive-pack-advertisement"}
	uploadResult  = []string{"application/x-git-upload-pack-result"}
	receiveResult = []string{"application/x-git-receive-pack-result"}

	noCache   = []string{"no-cache, max-age=0, must-revalidate"}
	pragma    = []string{"no-cache"}
	longAgo   = []string{"Fri, 01 Jan 1980 00:00:00 GMT"}
	onlyPosts = []string{"POST"}
	onlyGets  = []string{"GET, HEAD"}
)

// What a client of the wrong kind is told.
var (
	errDumb           = denial{errkind.Forbidden, "the dumb HTTP protocol is not served here: use git 1.6.6 or newer"}
	errUnknownService = denial{errkind.Forbidden, "only git-upload-pack and git-receive-pack are served here"}
)

// gitPath is what a path says: TENANT/NAME[.git]/REST.
type gitPath struct {
	tenant, name string
	rest         string
}

// parseGitPath splits a path at the rest that smart HTTP knows, or that a dumb client would ask for.
func parseGitPath(path string) (p gitPath, ok bool) {
	for _, rest := range [...]string{"/info/refs", "/" + uploadPack, "/" + receivePack, "/HEAD"} {
		if head, found := strings.CutSuffix(path, rest); found {
			return splitRepoPath(head, rest)
		}
	}
	if head, rest, found := strings.Cut(path, "/objects/"); found {
		return splitRepoPath(head, "/objects/"+rest)
	}
	return gitPath{}, false
}

func splitRepoPath(head, rest string) (gitPath, bool) {
	if head == "" || head[0] != '/' {
		return gitPath{}, false
	}
	tenant, name, ok := cutLast(head[1:])
	name = strings.TrimSuffix(name, ".git")
	return gitPath{tenant: tenant, name: name, rest: rest}, ok && name != ""
}

// serveGit serves what is neither the API's nor the system's.
func (s *Server) serveGit(c *call, r *http.Request) {
	p, ok := parseGitPath(r.URL.Path)
	if !ok {
		s.text(c, http.StatusNotFound, "nothing is here: repositories are at TENANT/REPO.git, the API is below /api/v2")
		return
	}
	switch p.rest {
	case "/info/refs":
		c.route = routeInfoRefs
		s.serveInfoRefs(c, r, p)
	case "/" + uploadPack:
		c.route = routeUploadPack
		s.serveUploadPack(c, r, p)
	case "/" + receivePack:
		c.route = routeReceivePack
		s.serveReceivePack(c, r, p)
	default:
		s.refuse(c, r, errDumb)
	}
}

// serviceOf reads ?service=, mostly without parsing the query.
func serviceOf(r *http.Request) string {
	switch r.URL.RawQuery {
	case "service=" + uploadPack:
		return uploadPack
	case "service=" + receivePack:
		return receivePack
	case "":
		return ""
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "?"
	}
	return q.Get("service")
}

// serveInfoRefs says what a repository has, or (protocol v2) what the server can do.
func (s *Server) serveInfoRefs(c *call, r *http.Request, p gitPath) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		c.w.Header()["Allow"] = onlyGets
		s.text(c, http.StatusMethodNotAllowed, "info/refs is read with GET")
		return
	}
	var err error
	switch serviceOf(r) {
	case uploadPack:
		c.next = usage.Fetch
		err = s.enter(c, r, s.calls, func(context.Context) error { return s.advertiseUpload(c, r, p) })
	case receivePack:
		c.next = usage.Push
		err = s.enter(c, r, s.calls, func(context.Context) error { return s.advertiseReceive(c, r, p) })
	case "":
		err = errDumb
	default:
		err = errUnknownService
	}
	if err != nil {
		s.refuse(c, r, err)
	}
}

// enter authenticates a request and runs it when a place is free. Strangers have places of their own: however slowly they
// send and read, whoever has a token is served. What compares files is bounded for all together, because of its memory.
func (s *Server) enter(c *call, r *http.Request, from *pool, run func(ctx context.Context) error) error {
	if err := s.authenticate(c, r); err != nil {
		return err
	}
	if err := s.rates.caller(c); err != nil {
		return err
	}
	caller := callerKey(c.principal)
	if c.principal.Anonymous() {
		caller = c.addressKey()
		if from != s.heavy {
			from = s.guests
		}
	}
	if err := c.place.take(r.Context(), from, caller); err != nil {
		return err
	}
	defer c.place.leave()
	c.pace()
	return run(r.Context())
}

// narrow makes sure that no repository takes too many places. It may wait.
func (c *call) narrow(ctx context.Context, r control.Repo) error {
	if err := c.place.narrow(ctx, r.ID); err != nil {
		return err
	}
	c.pace()
	return nil
}

// pace begins to expect that the rest of a body that was read ahead comes.
func (c *call) pace() {
	if c.body.early != nil {
		c.body.paced = time.Now()
	}
}

func (s *Server) gitRepo(c *call, r *http.Request, p gitPath, a policy.Action) (control.Repo, error) {
	ctx := context.WithValue(r.Context(), callKey{}, c)
	return s.repo(ctx, c.principal, a, func() (control.Repo, error) { return s.control.RepoByName(ctx, p.tenant, p.name) })
}

func (s *Server) advertiseUpload(c *call, r *http.Request, p gitPath) error {
	repo, err := s.gitRepo(c, r, p, policy.RepoRead)
	if err != nil {
		return err
	}
	cell, err := s.open(r.Context(), repo)
	if err != nil {
		return err
	}
	defer cell.Release()
	out := c.begin(uploadAdvert)
	err = protocol.AdvertiseUpload(out, cell.View(), true, s.uploadOptions(r))
	return out.finish(err)
}

func (s *Server) advertiseReceive(c *call, r *http.Request, p gitPath) error {
	var view protocol.View
	repo, err := s.gitRepo(c, r, p, policy.RepoWrite)
	switch {
	case err == nil:
		var cell *router.Repo
		if cell, err = s.open(r.Context(), repo); err != nil {
			return err
		}
		defer cell.Release()
		view = cell.View()
	case errkind.Of(err) == errkind.NotFound:
		// The push will create it. Until then it is answered for as if it were there and empty.
		if _, err = s.mayCreate(r.Context(), c.principal, p, err); err != nil {
			return err
		}
		view = protocol.View{Refs: git.NewRefs(defaultBranch, nil), Objects: odb.NewStore(nil, nil, nil)}
	default:
		return err
	}
	out := c.begin(receiveAdvert)
	return out.finish(protocol.AdvertiseReceive(out, view, true, s.receiveOptions(r, protocol.Writer{})))
}

// defaultBranch is where the HEAD of a new repository points, if nobody says otherwise.
const defaultBranch git.RefName = "refs/heads/main"

// mayCreate finds the tenant in which a push may create a repository. otherwise is the error if it may not: nobody
// learns from a push whether the tenant, or a private repository, exists.
func (s *Server) mayCreate(ctx context.Context, p policy.Principal, g gitPath, otherwise error) (control.Tenant, error) {
	t, err := s.tenant(ctx, p, policy.RepoCreate, g.tenant)
	switch {
	case err == nil:
		return t, control.CheckRepoName(g.name)
	case errkind.Of(err) == errkind.Internal, errors.As(err, new(suspendedError)):
		return t, err
	}
	return t, otherwise
}

// gitRepoOrNew is gitRepo for a push, which creates what is missing.
func (s *Server) gitRepoOrNew(c *call, r *http.Request, p gitPath) (control.Repo, error) {
	repo, err := s.gitRepo(c, r, p, policy.RepoWrite)
	if errkind.Of(err) != errkind.NotFound || err == nil {
		return repo, err
	}
	ctx := r.Context()
	t, err := s.mayCreate(ctx, c.principal, p, err)
	if err != nil {
		return repo, err
	}
	repo, err = s.control.CreateRepo(audit.With(ctx, c.origin()), t.ID, p.name, false, func(n control.Repo) error {
		return s.router.Create(ctx, n.Tenant, n.ID, defaultBranch)
	})
	c.used = usage.Key{Tenant: t.ID, Repo: repo.ID}
	if errors.Is(err, errkind.Exists) { // another push was quicker, and is perhaps just making it
		return s.awaitRepo(c, r, p, err)
	}
	return repo, err
}

// awaitRepo finds a repository that another request is making: a matter of milliseconds. Otherwise the name was taken by
// something else, and the error stands.
func (s *Server) awaitRepo(c *call, r *http.Request, p gitPath, otherwise error) (control.Repo, error) {
	const patience, interval = time.Second, 10 * time.Millisecond
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for late := time.Now().Add(patience); time.Now().Before(late); {
		repo, err := s.gitRepo(c, r, p, policy.RepoWrite)
		if err == nil || errkind.Of(err) != errkind.NotFound {
			return repo, err
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return repo, r.Context().Err()
		}
	}
	return control.Repo{}, otherwise
}

func (s *Server) uploadOptions(r *http.Request) protocol.UploadOptions {
	return protocol.UploadOptions{Version: gitVersion(r), Stateless: true, Agent: s.agent}
}

func (s *Server) receiveOptions(r *http.Request, w protocol.Writer) protocol.ReceiveOptions {
	return protocol.ReceiveOptions{Version: gitVersion(r), Stateless: true, Agent: s.agent, Writer: w}
}

func gitVersion(r *http.Request) protocol.Version {
	h := r.Header["Git-Protocol"]
	if len(h) == 0 {
		return protocol.V0
	}
	return protocol.ParseVersion(h[0])
}
