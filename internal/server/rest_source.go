package server

import (
	"context"
	"net/http"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/policy"
)

func (a *restAPI) registerPolicySources() {
	const tag = "policy"
	handle(a, op(http.MethodPut, "/tenants/{tenant}/policy/source", "set-policy-source", tag, "Let a tenant's document of policy live in a repository"), a.setPolicySource)
	handle(a, op(http.MethodDelete, "/tenants/{tenant}/policy/source", "remove-policy-source", tag, "End that, and keep the document as it is"), a.removePolicySource)
}

func sourceOut(s *control.PolicySource) *client.PolicySource {
	if s == nil {
		return nil
	}
	return &client.PolicySource{Repo: s.RepoPath, Ref: s.Ref, Path: s.Path, Delegated: s.Delegated, Commit: s.Commit}
}

// setPolicySource takes the right to administer both: pushes to the repository are refused for the tenant's sake from then on.
func (a *restAPI) setPolicySource(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Body client.SetPolicySource
},
) (*out[client.Policy], error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	r, err := a.repo(ctx, p, policy.RepoAdmin, func() (control.Repo, error) { return a.findRepo(ctx, in.Body.Repo) })
	if err != nil {
		return nil, err
	}
	ref, err := git.ParseRefName(in.Body.Ref)
	if err != nil {
		return nil, err
	}
	src := control.PolicySource{
		Tenant: t.ID, TenantPath: t.Path, Repo: r.ID, RepoTenant: r.Tenant, RepoPath: r.Path,
		Ref: string(ref), Path: cleanPath(in.Body.Path), Delegated: in.Body.Delegated, By: p.ID,
	}
	text, commit, err := a.policyIn(ctx, src)
	if err != nil {
		return nil, err
	}
	src.Commit = commit
	if err := a.control.SetPolicySource(ctx, src, text); err != nil {
		return nil, err
	}
	if err := a.applyPolicy(ctx, src, false); err != nil { // pushed before it counted
		return nil, err
	}
	return a.policyOf(ctx, t)
}

func (a *restAPI) removePolicySource(ctx context.Context, p policy.Principal, in *TenantParam) (*none, error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	return &none{}, a.control.RemovePolicySource(ctx, t.ID)
}

func (a *restAPI) policyOf(ctx context.Context, t control.Tenant) (*out[client.Policy], error) {
	doc, err := a.control.Policy(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	return policyOut(doc), nil
}
