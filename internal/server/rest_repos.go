package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/router"
)

const (
	// maxCommitJSON bounds a request that carries files' content. More goes through a push, which streams.
	maxCommitJSON = 16 << 20
	// maxChanges bounds the files of one such request.
	maxChanges = 10_000
)

// RepoParam is the repository in a path.
type RepoParam struct {
	Repo string `path:"repo" maxLength:"700" doc:"ID, or TENANT/NAME with %2F for each slash"`
}

func (a *restAPI) registerRepos() {
	const tag = "repositories"
	o := op(http.MethodPost, "/repos", "create-repo", tag, "Create a repository")
	o.MaxBodyBytes = maxCommitJSON
	handle(a, o, a.createRepo)
	handle(a, op(http.MethodGet, "/repos", "list-repos", tag, "List the repositories you may see"), a.listRepos)
	handle(a, op(http.MethodGet, "/repos/{repo}", "get-repo", tag, "Get a repository"), a.getRepo)
	handle(a, op(http.MethodGet, "/repos/by-name", "get-repo-by-name", tag, "Get a repository by its tenant's path and its name"), a.getRepoByName)
	handle(a, op(http.MethodPatch, "/repos/{repo}", "update-repo", tag, "Rename a repository, or change its visibility, default branch or settings"), a.updateRepo)
	handle(a, op(http.MethodDelete, "/repos/{repo}", "delete-repo", tag, "Delete a repository with all that is in it"), a.deleteRepo)
	handle(a, op(http.MethodGet, "/repos/{repo}/stats", "get-repo-stats", tag, "Say what a repository takes"), a.repoStats)
}

// openRepo finds and opens the repository of a path for somebody who wants to do something with it. The caller
// releases it.
func (a *restAPI) openRepo(ctx context.Context, p policy.Principal, act policy.Action, ref string) (*router.Repo, control.Repo, error) {
	r, err := a.repo(ctx, p, act, func() (control.Repo, error) { return a.findRepo(ctx, ref) })
	if err != nil {
		return nil, r, err
	}
	if err := callOf(ctx).narrow(ctx, r); err != nil {
		return nil, r, err
	}
	cell, err := a.open(ctx, r)
	return cell, r, err
}

// openToWrite is openRepo for somebody who wants to move its references.
func (a *restAPI) openToWrite(ctx context.Context, p policy.Principal, ref string) (*router.Repo, control.Repo, protocol.Writer, error) {
	cell, r, err := a.openRepo(ctx, p, policy.RepoWrite, ref)
	if err != nil {
		return nil, r, protocol.Writer{}, err
	}
	w, err := a.writer(ctx, p, r)
	if err != nil {
		cell.Release()
		return nil, r, w, err
	}
	return cell, r, w, nil
}

func (a *restAPI) repoOut(ctx context.Context, r control.Repo) client.Repo {
	visibility := client.Private
	if r.Public {
		visibility = client.Public
	}
	return client.Repo{
		ID: r.ID, TenantID: r.Tenant, Tenant: r.TenantPath, Name: r.Name, Visibility: visibility,
		CloneURL: callOf(ctx).base + "/" + r.Path + ".git", SSHURL: a.sshURL(callOf(ctx).base, r.Path), CreatedAt: r.Created, UpdatedAt: r.Updated,
	}
}

// sshURL is a repository's address for SSH; empty: there is none.
func (s *Server) sshURL(base, path string) string {
	if s.opts.SSHPort == 0 {
		return ""
	}
	host := s.opts.SSHHost
	if u, err := url.Parse(base); host == "" && err == nil {
		host = u.Hostname()
	}
	if s.opts.SSHPort != 22 || strings.Contains(host, ":") {
		host = net.JoinHostPort(host, strconv.Itoa(s.opts.SSHPort))
	}
	return "ssh://git@" + host + "/" + path + ".git"
}

// fullRepoOut is repoOut with what only the cell knows.
func (a *restAPI) fullRepoOut(ctx context.Context, r control.Repo) (*out[client.Repo], error) {
	cell, err := a.open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer cell.Release()
	o := a.repoOut(ctx, r)
	o.DefaultBranch = cell.View().Refs.Head.Short()
	set := cell.Settings()
	o.Settings = &client.RepoSettings{DenyNonFastForward: set.DenyNonFastForward, DenyDeletes: set.DenyDeletes, GitConfig: set.Git}
	return &out[client.Repo]{o}, nil
}

func (a *restAPI) createRepo(ctx context.Context, p policy.Principal, in *struct{ Body client.CreateRepo }) (*out[client.Repo], error) {
	want := in.Body
	t, err := a.tenant(ctx, p, policy.RepoCreate, want.Tenant)
	if err != nil {
		return nil, err
	}
	branch, err := parseBranch(want.DefaultBranch)
	if err != nil {
		return nil, err
	}
	if len(want.InitialContent) > maxChanges {
		return nil, errTooManyChanges
	}
	if len(want.InitialContent) > 0 {
		if err := a.mayStore(ctx, t.ID); err != nil {
			return nil, err
		}
	}
	r, err := a.control.CreateRepo(ctx, t.ID, want.Name, want.Visibility == client.Public, func(r control.Repo) error {
		if err := a.router.Create(ctx, r.Tenant, r.ID, branch); err != nil || len(want.InitialContent) == 0 {
			return err
		}
		err := a.commitInitial(ctx, p, r, branch, want.InitialContent)
		if err != nil {
			_ = a.router.Delete(ctx, r.Tenant, r.ID) // what matters is why the commit failed
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	o := a.repoOut(ctx, r) // the cell need not be opened to know what it was made with
	o.DefaultBranch, o.Settings = branch.Short(), &client.RepoSettings{}
	return &out[client.Repo]{o}, nil
}

// commitInitial makes a new repository's first commit.
func (a *restAPI) commitInitial(ctx context.Context, p policy.Principal, r control.Repo, branch git.RefName, files map[string]string) error {
	cell, err := a.open(ctx, r)
	if err != nil {
		return err
	}
	defer cell.Release()
	who, err := signature(p, nil)
	if err != nil {
		return err
	}
	changes := make([]odb.Change, 0, len(files))
	for path, text := range files {
		changes = append(changes, odb.Change{Path: path, Mode: git.ModeFile, Data: []byte(text)})
	}
	_, err = cell.Commit(ctx, router.CommitRequest{
		Branch: branch, Parent: &git.OID{}, Changes: changes, Author: who, Committer: who,
		Message: "Initial content\n", Writer: protocol.Writer{Actor: string(p.ID)}, // whoever may create it may begin it
	})
	return err
}

func (a *restAPI) listRepos(ctx context.Context, p policy.Principal, in *struct {
	Paging
	Tenant string `query:"tenant" maxLength:"500" doc:"ID or path: only the repositories right in this tenant"`
},
) (*out[client.Page[client.Repo]], error) {
	after, err := parseCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	f := control.RepoFilter{}
	if in.Tenant != "" {
		t, err := a.findTenant(ctx, in.Tenant)
		switch {
		case err != nil && errkind.Of(err) == errkind.NotFound:
			// As for a tenant all of whose repositories are private.
			return &out[client.Page[client.Repo]]{client.Page[client.Repo]{Items: []client.Repo{}}}, nil
		case err != nil:
			return nil, err
		}
		f.Tenant = t.ID
	}
	f.For = &p
	f.Visible = func(r control.Repo) bool {
		res, err := a.repoResource(ctx, p, r)
		return err == nil && policy.Allow(p, policy.RepoRead, res)
	}
	rs, err := a.control.Repos(ctx, f, id.Repo(after), in.Limit+1)
	if err != nil && errkind.Of(err) != errkind.NotFound { // the tenant is gone meanwhile
		return nil, err
	}
	page := pageOf(rs, in.Limit, func(r control.Repo) client.Repo { return a.repoOut(ctx, r) }, func(r control.Repo) string { return string(r.ID) })
	return &out[client.Page[client.Repo]]{page}, nil
}

func (a *restAPI) getRepo(ctx context.Context, p policy.Principal, in *RepoParam) (*out[client.Repo], error) {
	r, err := a.repo(ctx, p, policy.RepoRead, func() (control.Repo, error) { return a.findRepo(ctx, in.Repo) })
	if err != nil {
		return nil, err
	}
	return a.fullRepoOut(ctx, r)
}

func (a *restAPI) getRepoByName(ctx context.Context, p policy.Principal, in *struct {
	Tenant string `query:"tenant" required:"true" maxLength:"500" doc:"Its path"`
	Name   string `query:"name" required:"true" maxLength:"110" doc:"With or without .git"`
},
) (*out[client.Repo], error) {
	return a.getRepo(ctx, p, &RepoParam{Repo: in.Tenant + "/" + in.Name})
}

func (a *restAPI) updateRepo(ctx context.Context, p policy.Principal, in *struct {
	RepoParam
	Body client.UpdateRepo
},
) (*out[client.Repo], error) {
	cell, r, err := a.openRepo(ctx, p, policy.RepoAdmin, in.Repo)
	if err != nil {
		return nil, err
	}
	defer cell.Release()
	u := in.Body
	if u.DefaultBranch != nil { // first what can be refused, so that mostly all or nothing is done
		branch, err := parseBranch(*u.DefaultBranch)
		if err != nil {
			return nil, err
		}
		if err := a.logSetting(ctx, r, "default branch "+branch.Short()); err != nil {
			return nil, err
		}
		if err := cell.SetHead(ctx, branch); err != nil {
			return nil, err
		}
	}
	if u.Name != nil && *u.Name != r.Name {
		if r, err = a.control.RenameRepo(ctx, r.ID, *u.Name); err != nil {
			return nil, err
		}
	}
	if u.Visibility != nil {
		if r, err = a.control.SetPublic(ctx, r.ID, *u.Visibility == client.Public); err != nil {
			return nil, err
		}
	}
	if u.Settings != nil {
		set := router.Settings{DenyNonFastForward: u.Settings.DenyNonFastForward, DenyDeletes: u.Settings.DenyDeletes, Git: u.Settings.GitConfig}
		if _, err := protocol.ParseConfig(set.Git); err != nil {
			return nil, err
		}
		what := fmt.Sprintf("deny non-fast-forward %t, deny deletes %t, git %q", set.DenyNonFastForward, set.DenyDeletes, set.Git)
		if err := a.logSetting(ctx, r, what); err != nil {
			return nil, err
		}
		if err := cell.SetSettings(ctx, set); err != nil {
			return nil, err
		}
	}
	return a.fullRepoOut(ctx, r)
}

// deleteRepo first makes the repository unreachable, then removes its bytes: a crash between the two leaves garbage.
func (a *restAPI) deleteRepo(ctx context.Context, p policy.Principal, in *RepoParam) (*none, error) {
	r, err := a.repo(ctx, p, policy.RepoAdmin, func() (control.Repo, error) { return a.findRepo(ctx, in.Repo) })
	if err != nil {
		return nil, err
	}
	if err := a.control.DeleteRepo(ctx, r.ID); err != nil {
		return nil, err
	}
	return &none{}, a.router.Delete(context.WithoutCancel(ctx), r.Tenant, r.ID)
}

func (a *restAPI) repoStats(ctx context.Context, p policy.Principal, in *RepoParam) (*out[client.Stats], error) {
	cell, _, err := a.openRepo(ctx, p, policy.RepoRead, in.Repo)
	if err != nil {
		return nil, err
	}
	defer cell.Release()
	st := cell.Stats()
	return &out[client.Stats]{client.Stats{Packs: st.Packs, Objects: st.Objects, Bytes: st.Bytes, Refs: st.Refs}}, nil
}

// parseBranch reads main or refs/heads/main; "" is the default.
func parseBranch(s string) (git.RefName, error) {
	if s == "" {
		return defaultBranch, nil
	}
	if !strings.HasPrefix(s, "refs/heads/") {
		s = "refs/heads/" + s
	}
	return git.ParseRefName(s)
}
