package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// GroupParam is a member of a tenant's group in a path.
type GroupParam struct {
	TenantParam
	Group     string `path:"group" maxLength:"100"`
	Principal string `path:"principal" maxLength:"600" doc:"ID or name"`
}

func (a *restAPI) registerPolicy() {
	const tag = "policy"
	handle(a, op(http.MethodGet, "/tenants/{tenant}/policy", "get-policy", tag, "Get a tenant's document of policy"), a.getPolicy)
	handle(a, op(http.MethodPut, "/tenants/{tenant}/policy", "set-policy", tag, "Replace a tenant's document of policy"), a.setPolicy)
	handle(a, op(http.MethodDelete, "/tenants/{tenant}/policy", "remove-policy", tag, "Take a tenant's document of policy away"), a.removePolicy)
	o := op(http.MethodPost, "/policy/check", "check-policy", tag, "Ask what a decision would be, and why")
	o.DefaultStatus = http.StatusOK
	handle(a, o, a.checkPolicy)
	handle(a, op(http.MethodGet, "/tenants/{tenant}/groups", "list-groups", tag, "List a tenant's groups with their members"), a.listGroups)
	o = op(http.MethodPut, "/tenants/{tenant}/groups/{group}/members/{principal}", "join-group", tag, "Put a principal into a group, which is made if need be")
	o.DefaultStatus = http.StatusNoContent
	handle(a, o, a.joinGroup)
	handle(a, op(http.MethodDelete, "/tenants/{tenant}/groups/{group}/members/{principal}", "leave-group", tag, "Take a principal out of a group"), a.leaveGroup)
}

func policyOut(p control.Policy) *out[client.Policy] {
	o := client.Policy{Version: p.Version, Document: p.Document, UpdatedBy: p.By, Source: sourceOut(p.Source)}
	if p.Version > 0 {
		o.UpdatedAt = &p.Updated
	}
	return &out[client.Policy]{o}
}

func (a *restAPI) getPolicy(ctx context.Context, p policy.Principal, in *TenantParam) (*out[client.Policy], error) {
	t, err := a.tenant(ctx, p, policy.TenantRead, in.Tenant)
	if err != nil {
		return nil, err
	}
	return a.policyOf(ctx, t)
}

func (a *restAPI) setPolicy(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Body client.SetPolicy
},
) (*out[client.Policy], error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	expected := int64(-1)
	if in.Body.ExpectedVersion != nil {
		expected = *in.Body.ExpectedVersion
	}
	doc, err := a.control.SetPolicy(ctx, t.ID, in.Body.Document, expected, p.ID)
	if err != nil {
		return nil, err
	}
	return policyOut(doc), nil
}

func (a *restAPI) removePolicy(ctx context.Context, p policy.Principal, in *TenantParam) (*none, error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	_, err = a.control.SetPolicy(ctx, t.ID, "", -1, p.ID)
	return &none{}, err
}

// checkPolicy explains. About oneself anybody may ask, of what one may see; about others, who administers the tenant.
func (a *restAPI) checkPolicy(ctx context.Context, p policy.Principal, in *struct{ Body client.CheckPolicy }) (*out[client.Decision], error) {
	if p.Anonymous() {
		return nil, errAnonymous
	}
	if !slices.Contains(policy.Actions(), in.Body.Action) {
		return nil, denial{errkind.Invalid, fmt.Sprintf("there is no action %q: the actions are %s", clip(string(in.Body.Action)), actionWords())}
	}
	who := p
	var other *control.Principal
	if in.Body.Principal != "" && in.Body.Principal != p.Name {
		found, err := a.findPrincipal(ctx, in.Body.Principal)
		if err != nil && !errIsMissing(err) {
			return nil, err
		}
		if err != nil || found.ID != p.ID {
			other = &found
		}
	}
	res, err := a.namedResource(ctx, p, in.Body.Resource, other != nil)
	if err != nil {
		return nil, err
	}
	if other != nil {
		if other.ID != "" {
			who, err = a.control.Actor(ctx, other.ID)
		} else {
			who, err = a.control.SignedActor(ctx, in.Body.Principal)
		}
		if err != nil {
			if errIsMissing(err) {
				err = errNoPrincipal
			}
			return nil, err
		}
		for _, its := range [...]id.Tenant{who.Home, who.Within} {
			if its != "" && !slices.Contains(res.Tenant, its) && a.allowServer(p, policy.SystemAdmin) != nil {
				return nil, errNoPrincipal // another tenant's account is nobody here: see member
			}
		}
		if res.Repo != "" { // what is shared with them, not with who asks
			repo, err := a.control.Repo(ctx, res.Repo)
			if err == nil {
				res.Shared, err = a.control.SharesFor(ctx, repo, &who)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	d := policy.Explain(who, in.Body.Action, res)
	o := client.Decision{Allowed: d.Allowed, Steps: make([]client.DecisionStep, len(d.Steps))}
	for i, s := range d.Steps {
		o.Steps[i] = client.DecisionStep{Effect: s.Effect, Rule: s.Rule, Why: s.Why}
	}
	return &out[client.Decision]{o}, nil
}

func actionWords() string {
	var words []string
	for _, a := range policy.Actions() {
		words = append(words, string(a))
	}
	return strings.Join(words, ", ")
}

func errIsMissing(err error) bool { return errkind.Of(err) == errkind.NotFound }

// namedResource finds what a resource's name means, for somebody who may see it and, to ask about others, administers it.
func (a *restAPI) namedResource(ctx context.Context, p policy.Principal, name string, aboutOthers bool) (policy.Resource, error) {
	kind, path, _ := strings.Cut(name, "/")
	switch policy.Kind(kind) {
	case policy.KindServer:
		if aboutOthers {
			return policy.Resource{}, a.allowServer(p, policy.SystemAdmin)
		}
		return policy.Resource{}, nil
	case policy.KindTenant:
		action := policy.TenantRead
		if aboutOthers {
			action = policy.TenantAdmin
		}
		t, err := a.tenant(ctx, p, action, path)
		if err != nil {
			return policy.Resource{}, err
		}
		return a.tenantResource(ctx, t)
	case policy.KindRepo:
		path, ref, _ := strings.Cut(path, "@")
		action := policy.RepoRead
		if aboutOthers {
			action = policy.RepoAdmin
		}
		r, err := a.repo(ctx, p, action, func() (control.Repo, error) { return a.findRepo(ctx, path) })
		if err != nil {
			return policy.Resource{}, err
		}
		res, err := a.repoResource(ctx, p, r)
		res.At = ref
		return res, err
	case policy.KindSecret:
		owner, secret, _ := cutLast(path)
		res, err := a.namedResource(ctx, p, "tenant/"+owner, aboutOthers)
		if errIsMissing(err) { // then it is a repository's: the two share no path
			res, err = a.namedResource(ctx, p, "repo/"+owner, aboutOthers)
		}
		res.Kind, res.Path = policy.KindSecret, res.Path+"/"+secret
		return res, err
	case policy.KindConfig, policy.KindEnv, policy.KindJob: // they come with what asks for them
	}
	return policy.Resource{}, denial{errkind.Invalid, "a resource is server, tenant/PATH, repo/TENANT/NAME[@REF] or secret/TENANT[/REPO]/NAME"}
}

func (a *restAPI) listGroups(ctx context.Context, p policy.Principal, in *TenantParam) (*out[client.Page[client.Group]], error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	groups, err := a.control.Groups(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	return whole(groups, groupOut), nil
}

func groupOut(g control.Group) client.Group {
	o := client.Group{Name: g.Name, Members: make([]client.Principal, len(g.Members))}
	for i, m := range g.Members {
		o.Members[i] = principalOut(m)
	}
	return o
}

func (a *restAPI) joinGroup(ctx context.Context, p policy.Principal, in *GroupParam) (*none, error) {
	t, who, err := a.member(ctx, p, MemberParam{TenantParam: in.TenantParam, Principal: in.Principal})
	if err != nil {
		return nil, err
	}
	return &none{}, a.control.JoinGroup(ctx, t, in.Group, who)
}

func (a *restAPI) leaveGroup(ctx context.Context, p policy.Principal, in *GroupParam) (*none, error) {
	t, who, err := a.member(ctx, p, MemberParam{TenantParam: in.TenantParam, Principal: in.Principal})
	if err != nil {
		return nil, err
	}
	return &none{}, a.control.LeaveGroup(ctx, t, in.Group, who)
}
