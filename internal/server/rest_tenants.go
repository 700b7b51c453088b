package server

import (
	"context"
	"net/http"
	"slices"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// TenantParam is the tenant in a path.
type TenantParam struct {
	Tenant string `path:"tenant" maxLength:"500" doc:"ID, or path with %2F for each slash"`
}

// MemberParam is a tenant and a principal in a path.
type MemberParam struct {
	TenantParam
	Principal string `path:"principal" maxLength:"600" doc:"ID or name"`
}

func (a *restAPI) registerTenants() {
	const tag = "tenants"
	handle(a, op(http.MethodPost, "/tenants", "create-tenant", tag, "Create a tenant"), a.createTenant)
	handle(a, op(http.MethodGet, "/tenants", "list-tenants", tag, "List the tenants you may see"), a.listTenants)
	handle(a, op(http.MethodGet, "/tenants/{tenant}", "get-tenant", tag, "Get a tenant"), a.getTenant)
	handle(a, op(http.MethodGet, "/tenants/{tenant}/members", "list-members", tag, "List a tenant's members"), a.listMembers)
	o := op(http.MethodPut, "/tenants/{tenant}/members/{principal}", "set-member", tag, "Give a principal a role in a tenant")
	o.DefaultStatus = http.StatusNoContent
	handle(a, o, a.setMember)
	handle(a, op(http.MethodDelete, "/tenants/{tenant}/members/{principal}", "remove-member", tag, "Take a principal's role away"), a.removeMember)
}

func tenantOut(t control.Tenant) client.Tenant {
	o := client.Tenant{ID: t.ID, Parent: t.Parent, Path: t.Path, CreatedAt: t.Created}
	if !t.Suspended.IsZero() {
		o.SuspendedAt = &t.Suspended
	}
	return o
}

func (a *restAPI) createTenant(ctx context.Context, p policy.Principal, in *struct{ Body client.CreateTenant }) (*out[client.Tenant], error) {
	var err error
	if parent, _, ok := cutLast(in.Body.Path); ok {
		_, err = a.tenant(ctx, p, policy.TenantCreate, parent)
	} else {
		err = a.allowServer(p, policy.TenantCreate)
	}
	if err != nil {
		return nil, err
	}
	t, err := a.control.CreateTenant(ctx, in.Body.Path)
	if err != nil {
		return nil, err
	}
	return &out[client.Tenant]{tenantOut(t)}, nil
}

func (a *restAPI) listTenants(ctx context.Context, p policy.Principal, in *struct {
	Paging
	Parent string `query:"parent" maxLength:"500" doc:"ID or path: only the children of this tenant"`
},
) (*out[client.Page[client.Tenant]], error) {
	if p.Anonymous() {
		return nil, errAnonymous
	}
	after, err := parseCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	var f control.TenantFilter
	if in.Parent != "" {
		t, err := a.tenant(ctx, p, policy.TenantRead, in.Parent)
		if err != nil {
			return nil, err
		}
		f.Parent = t.ID
	}
	page := client.Page[client.Tenant]{Items: []client.Tenant{}}
	for {
		ts, err := a.control.Tenants(ctx, f, after, maxPage)
		if err != nil {
			return nil, err
		}
		for _, t := range ts {
			after = t.Path
			res, err := a.tenantResource(ctx, t)
			if err != nil || !policy.Visible(p, res) {
				continue // deleted meanwhile, or not theirs to see
			}
			if len(page.Items) == in.Limit {
				page.NextCursor = makeCursor(page.Items[in.Limit-1].Path)
				return &out[client.Page[client.Tenant]]{page}, nil
			}
			page.Items = append(page.Items, tenantOut(t))
		}
		if len(ts) < maxPage {
			return &out[client.Page[client.Tenant]]{page}, nil
		}
	}
}

func (a *restAPI) getTenant(ctx context.Context, p policy.Principal, in *TenantParam) (*out[client.TenantDetails], error) {
	t, err := a.tenant(ctx, p, policy.TenantRead, in.Tenant)
	if err != nil {
		return nil, err
	}
	n, err := a.control.Census(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	return &out[client.TenantDetails]{client.TenantDetails{Tenant: tenantOut(t), Children: n.Children, Repos: n.Repos, Members: n.Members}}, nil
}

func (a *restAPI) listMembers(ctx context.Context, p policy.Principal, in *TenantParam) (*out[client.Page[client.Member]], error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	ms, err := a.control.Members(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	return whole(ms, func(m control.Member) client.Member {
		return client.Member{Principal: principalOut(m.Principal), Role: m.Role}
	}), nil
}

func (a *restAPI) setMember(ctx context.Context, p policy.Principal, in *struct {
	MemberParam
	Body client.SetMember
},
) (*none, error) {
	t, who, err := a.member(ctx, p, in.MemberParam)
	if err != nil {
		return nil, err
	}
	return &none{}, a.control.SetMember(ctx, t, who, in.Body.Role)
}

func (a *restAPI) removeMember(ctx context.Context, p policy.Principal, in *MemberParam) (*none, error) {
	t, who, err := a.member(ctx, p, *in)
	if err != nil {
		return nil, err
	}
	return &none{}, a.control.RemoveMember(ctx, t, who)
}

// member finds the tenant and the principal that a membership is about.
func (a *restAPI) member(ctx context.Context, p policy.Principal, in MemberParam) (id.Tenant, id.Principal, error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return "", "", err
	}
	who, err := a.findPrincipal(ctx, in.Principal)
	if err == nil && who.Home != "" {
		// Another tenant's account is nobody here.
		standing, serr := a.control.Standing(ctx, t.ID)
		if err = serr; err == nil && !slices.Contains(standing.Lineage, who.Home) {
			err = errNoPrincipal
		}
	}
	return t.ID, who.ID, err
}

var errNoPrincipal = denial{errkind.NotFound, "there is no such principal"}

// findPrincipal looks a principal up by its ID or name.
func (a *restAPI) findPrincipal(ctx context.Context, ref string) (control.Principal, error) {
	var who control.Principal
	p, err := id.ParsePrincipal(ref)
	if err == nil {
		who, err = a.control.PrincipalByID(ctx, p)
	} else {
		who, err = a.control.PrincipalByName(ctx, ref)
	}
	if err != nil && errkind.Of(err) == errkind.NotFound {
		err = errNoPrincipal
	}
	return who, err
}
