package server

import (
	"context"
	"errors"
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

// What fetches and pushes have in common over HTTP and over other transports.

// gitPath is what a path says: TENANT/NAME[.git]/REST.
type gitPath struct {
	tenant, name string
	rest         string
}

func splitRepoPath(head, rest string) (gitPath, bool) {
	if head == "" || head[0] != '/' {
		return gitPath{}, false
	}
	tenant, name, ok := cutLast(head[1:])
	name = strings.TrimSuffix(name, ".git")
	return gitPath{tenant: tenant, name: name, rest: rest}, ok && name != ""
}

// gitRepo finds a repository that somebody wants to fetch from or push to.
func (s *Server) gitRepo(ctx context.Context, c *call, p gitPath, a policy.Action) (control.Repo, error) {
	ctx = context.WithValue(ctx, callKey{}, c)
	return s.repo(ctx, c.principal, a, func() (control.Repo, error) { return s.control.RepoByName(ctx, p.tenant, p.name) })
}

// gitCell opens a repository that somebody wants to fetch from. The caller releases it.
func (s *Server) gitCell(ctx context.Context, c *call, p gitPath) (*router.Repo, control.Repo, error) {
	repo, err := s.gitRepo(ctx, c, p, policy.RepoRead)
	if err != nil {
		return nil, repo, err
	}
	if err := c.narrow(ctx, repo); err != nil {
		return nil, repo, err
	}
	cell, err := s.open(ctx, repo)
	return cell, repo, err
}

// defaultBranch is where the HEAD of a new repository points, if nobody says otherwise.
const defaultBranch git.RefName = "refs/heads/main"

// nothingYet is what a repository has that a push will create: until then it is answered for as if it were there and empty.
func nothingYet() protocol.View {
	return protocol.View{Refs: git.NewRefs(defaultBranch, nil), Objects: odb.NewStore(nil, nil, nil)}
}

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
func (s *Server) gitRepoOrNew(ctx context.Context, c *call, p gitPath) (control.Repo, error) {
	repo, err := s.gitRepo(ctx, c, p, policy.RepoWrite)
	if errkind.Of(err) != errkind.NotFound || err == nil {
		return repo, err
	}
	t, err := s.mayCreate(ctx, c.principal, p, err)
	if err != nil {
		return repo, err
	}
	repo, err = s.control.CreateRepo(audit.With(ctx, c.origin()), t.ID, p.name, false, func(n control.Repo) error {
		return s.router.Create(ctx, n.Tenant, n.ID, defaultBranch)
	})
	c.used = usage.Key{Tenant: t.ID, Repo: repo.ID}
	if errors.Is(err, errkind.Exists) { // another push was quicker, and is perhaps just making it
		return s.awaitRepo(ctx, c, p, err)
	}
	return repo, err
}

// awaitRepo finds a repository that another request is making: a matter of milliseconds. Otherwise the name was taken by
// something else, and the error stands.
func (s *Server) awaitRepo(ctx context.Context, c *call, p gitPath, otherwise error) (control.Repo, error) {
	const patience, interval = time.Second, 10 * time.Millisecond
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for late := time.Now().Add(patience); time.Now().Before(late); {
		repo, err := s.gitRepo(ctx, c, p, policy.RepoWrite)
		if err == nil || errkind.Of(err) != errkind.NotFound {
			return repo, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return repo, ctx.Err()
		}
	}
	return control.Repo{}, otherwise
}

// uploadOver are the options of a fetch, of whatever transport.
func (s *Server) uploadOver(ctx context.Context, c *call, v protocol.Version) protocol.UploadOptions {
	return protocol.UploadOptions{Version: v, Agent: s.agent, Session: c.id, Said: s.logSaid(ctx, c)}
}

// receiveOver are those of a push.
func (s *Server) receiveOver(ctx context.Context, c *call, p gitPath, v protocol.Version) protocol.ReceiveOptions {
	return protocol.ReceiveOptions{
		Version: v, Agent: s.agent, Session: c.id, Said: s.logSaid(ctx, c),
		NonceSeed: s.nonces, Place: p.noncePlace(), Verify: s.verifyPush(c.principal),
	}
}
