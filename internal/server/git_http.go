package server

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
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

// enter authenticates a request and runs it when a place is free.
func (s *Server) enter(c *call, r *http.Request, from *pool, run func(ctx context.Context) error) error {
	if err := s.authenticate(c, r); err != nil {
		return err
	}
	return s.admitted(r.Context(), c, from, run)
}

// admitted runs what somebody asks for, who is known by now, when a place is free. Strangers have places of their own: however slowly
// they send and read, whoever has a token is served. What compares files is bounded for all together, because of its memory.
func (s *Server) admitted(ctx context.Context, c *call, from *pool, run func(ctx context.Context) error) error {
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
	if err := c.place.take(ctx, from, caller); err != nil {
		return err
	}
	defer c.place.leave()
	c.pace()
	return run(ctx)
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

func (s *Server) advertiseUpload(c *call, r *http.Request, p gitPath) error {
	repo, err := s.gitRepo(r.Context(), c, p, policy.RepoRead)
	if err != nil {
		return err
	}
	cell, err := s.open(r.Context(), repo)
	if err != nil {
		return err
	}
	defer cell.Release()
	out := c.begin(uploadAdvert)
	err = protocol.AdvertiseUpload(out, cell.View(), true, s.uploadOptions(c, r))
	return out.finish(err)
}

func (s *Server) advertiseReceive(c *call, r *http.Request, p gitPath) error {
	var view protocol.View
	repo, err := s.gitRepo(r.Context(), c, p, policy.RepoWrite)
	switch {
	case err == nil:
		var cell *router.Repo
		if cell, err = s.open(r.Context(), repo); err != nil {
			return err
		}
		defer cell.Release()
		view = cell.View()
	case errkind.Of(err) == errkind.NotFound:
		if _, err = s.mayCreate(r.Context(), c.principal, p, err); err != nil {
			return err
		}
		view = nothingYet()
	default:
		return err
	}
	out := c.begin(receiveAdvert)
	return out.finish(protocol.AdvertiseReceive(out, view, true, s.receiveOptions(c, r, protocol.Writer{})))
}

func (s *Server) uploadOptions(c *call, r *http.Request) protocol.UploadOptions {
	o := s.uploadOver(r.Context(), c, gitVersion(r))
	o.Stateless = true
	return o
}

func (s *Server) receiveOptions(c *call, r *http.Request, w protocol.Writer) protocol.ReceiveOptions {
	p, _ := parseGitPath(r.URL.Path)
	o := s.receiveOver(r.Context(), c, p, gitVersion(r))
	o.Stateless, o.Writer = true, w
	return o
}

func gitVersion(r *http.Request) protocol.Version {
	h := r.Header["Git-Protocol"]
	if len(h) == 0 {
		return protocol.V0
	}
	return protocol.ParseVersion(h[0])
}
