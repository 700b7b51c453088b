package server

import (
	"context"
	"net/http"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/policy"
)

// ShareParam is a repository and a tenant in a path.
type ShareParam struct {
	RepoParam
	Tenant string `path:"tenant" maxLength:"500" doc:"ID, or path with %2F for each slash, of a tenant below the repository's"`
}

func (a *restAPI) registerShares() {
	const tag = "repositories"
	handle(a, op(http.MethodGet, "/repos/{repo}/shares", "list-shares", tag, "List the tenants that a repository is shared with"), a.listShares)
	handle(a, op(http.MethodPut, "/repos/{repo}/shares/{tenant}", "set-share", tag, "Let those who read in a tenant below read the repository"), a.setShare)
	handle(a, op(http.MethodDelete, "/repos/{repo}/shares/{tenant}", "remove-share", tag, "End a share"), a.removeShare)
}

func shareOut(s control.Share) client.Share {
	return client.Share{TenantID: s.With, Tenant: s.Path, Children: s.Children, By: s.By, CreatedAt: s.Created}
}

func (a *restAPI) sharedRepo(ctx context.Context, p policy.Principal, ref string) (control.Repo, error) {
	return a.repo(ctx, p, policy.RepoAdmin, func() (control.Repo, error) { return a.findRepo(ctx, ref) })
}

func (a *restAPI) listShares(ctx context.Context, p policy.Principal, in *RepoParam) (*out[client.Page[client.Share]], error) {
	r, err := a.sharedRepo(ctx, p, in.Repo)
	if err != nil {
		return nil, err
	}
	list, err := a.control.Shares(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return whole(list, shareOut), nil
}

func (a *restAPI) setShare(ctx context.Context, p policy.Principal, in *struct {
	ShareParam
	Body client.SetShare
},
) (*out[client.Share], error) {
	r, t, err := a.share(ctx, p, in.ShareParam)
	if err != nil {
		return nil, err
	}
	s, err := a.control.SetShare(ctx, r.ID, t.ID, in.Body.Children, p.ID)
	if err != nil {
		return nil, err
	}
	return &out[client.Share]{shareOut(s)}, nil
}

func (a *restAPI) removeShare(ctx context.Context, p policy.Principal, in *ShareParam) (*none, error) {
	r, t, err := a.share(ctx, p, *in)
	if err != nil {
		return nil, err
	}
	return &none{}, a.control.RemoveShare(ctx, r.ID, t.ID)
}

// share finds the repository and the tenant that a share is about, for somebody who administers the one and sees the other.
func (a *restAPI) share(ctx context.Context, p policy.Principal, in ShareParam) (r control.Repo, t control.Tenant, err error) {
	if r, err = a.sharedRepo(ctx, p, in.Repo); err == nil {
		t, err = a.tenant(ctx, p, policy.TenantRead, in.Tenant)
	}
	return r, t, err
}
