package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

func (a *restAPI) registerLifecycle() {
	const tag = "tenants"
	post := func(path, operationID, summary string) (o huma.Operation) {
		o = op(http.MethodPost, path, operationID, tag, summary)
		o.DefaultStatus = http.StatusOK
		return o
	}
	handle(a, post("/tenants/{tenant}/suspend", "suspend-tenant", "Suspend a tenant and all below it"), a.suspendTenant)
	handle(a, post("/tenants/{tenant}/resume", "resume-tenant", "End a tenant's suspension"), a.resumeTenant)
	handle(a, post("/tenants/{tenant}/move", "move-tenant", "Give a tenant another parent or name, with all below it"), a.moveTenant)
	handle(a, op(http.MethodDelete, "/tenants/{tenant}", "delete-tenant", tag, "Delete a tenant, for a time in which it can be restored"), a.deleteTenant)
	handle(a, op(http.MethodGet, "/deleted-tenants", "list-deleted-tenants", tag, "List the deleted tenants that you may restore"), a.listDeleted)
	handle(a, post("/deleted-tenants/{tenant}/restore", "restore-tenant", "Bring a deleted tenant back"), a.restoreTenant)
}

func (a *restAPI) suspendTenant(ctx context.Context, p policy.Principal, in *TenantParam) (*out[client.Tenant], error) {
	return a.setSuspended(ctx, p, in.Tenant, true)
}

func (a *restAPI) resumeTenant(ctx context.Context, p policy.Principal, in *TenantParam) (*out[client.Tenant], error) {
	return a.setSuspended(ctx, p, in.Tenant, false)
}

func (a *restAPI) setSuspended(ctx context.Context, p policy.Principal, ref string, suspended bool) (*out[client.Tenant], error) {
	t, err := a.sponsored(ctx, p, ref)
	if err != nil {
		return nil, err
	}
	if t, err = a.control.SuspendTenant(ctx, t.ID, suspended); err != nil {
		return nil, err
	}
	return &out[client.Tenant]{tenantOut(t)}, nil
}

// moveTenant takes tenant.admin of the tenant, tenant.create where it goes and, if that is another parent, tenant.admin of the one
// that it leaves: nobody takes a tenant away from its sponsor.
func (a *restAPI) moveTenant(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Body client.MoveTenant
},
) (*out[client.Tenant], error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	parent, name, err := a.destination(ctx, p, in.Body.Path)
	if err != nil {
		return nil, err
	}
	if parent != t.Parent {
		if err := a.sponsor(ctx, p, t.Parent); err != nil {
			return nil, errSponsor
		}
	}
	if t, err = a.control.MoveTenant(ctx, t, parent, name); err != nil {
		return nil, err
	}
	return &out[client.Tenant]{tenantOut(t)}, nil
}

// destination finds where a path would put a tenant, for somebody who may create one there.
func (a *restAPI) destination(ctx context.Context, p policy.Principal, path string) (parent id.Tenant, name string, err error) {
	above, name, ok := cutLast(path)
	if !ok {
		return "", path, a.allowServer(p, policy.TenantCreate)
	}
	up, err := a.tenant(ctx, p, policy.TenantCreate, above)
	return up.ID, name, err
}

func (a *restAPI) deleteTenant(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Recursive bool `query:"recursive" doc:"With its children and repositories. Without it, a tenant that has some is refused"`
},
) (*none, error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	return &none{}, a.control.DeleteTenant(ctx, t.ID, in.Recursive)
}

func (a *restAPI) deletedOut(d control.Deleted) client.DeletedTenant {
	return client.DeletedTenant{ID: d.ID, Path: d.Path, DeletedAt: d.At, PurgedAfter: d.At.Add(a.opts.DeleteGrace)}
}

// restores reports whether somebody may bring a deleted tenant back: its sponsor may.
func (a *restAPI) restores(ctx context.Context, p policy.Principal, d control.Deleted) bool {
	return a.sponsor(ctx, p, d.Parent) == nil
}

func (a *restAPI) listDeleted(ctx context.Context, p policy.Principal, in *Paging) (*out[client.Page[client.DeletedTenant]], error) {
	if p.Anonymous() {
		return nil, errAnonymous
	}
	after, err := parseCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	var found []control.Deleted
	for len(found) <= in.Limit {
		list, err := a.control.DeletedTenants(ctx, id.Tenant(after), maxPage)
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			if after = string(d.ID); a.restores(ctx, p, d) {
				found = append(found, d)
			}
		}
		if len(list) < maxPage {
			break
		}
	}
	return &out[client.Page[client.DeletedTenant]]{pageOf(found, in.Limit, a.deletedOut, func(d control.Deleted) string { return string(d.ID) })}, nil
}

func (a *restAPI) restoreTenant(ctx context.Context, p policy.Principal, in *struct {
	Tenant string `path:"tenant" maxLength:"100" doc:"Its ID: the path is no longer its own"`
	Body   client.RestoreTenant
},
) (*out[client.Tenant], error) {
	if p.Anonymous() {
		return nil, errAnonymous
	}
	started := time.Now()
	t, err := id.ParseTenant(in.Tenant)
	if err != nil {
		return nil, errMissing
	}
	d, err := a.control.DeletedTenant(ctx, t)
	if err == nil && !a.restores(ctx, p, d) {
		err = errMissing
	}
	if err != nil {
		return nil, blur(ctx, p, started, err)
	}
	if !d.At.Add(a.opts.DeleteGrace).After(time.Now()) {
		return nil, denial{errkind.NotFound, "its time is over: it is being removed for good"}
	}
	parent, name := d.Parent, d.Path
	if _, last, ok := cutLast(d.Path); ok {
		if name = last; parent == "" && in.Body.Path == "" {
			return nil, denial{errkind.Conflict, "the tenant above it is gone: say as what to restore it"}
		}
	}
	if in.Body.Path != "" {
		if parent, name, err = a.destination(ctx, p, in.Body.Path); err != nil {
			return nil, err
		}
	}
	back, err := a.control.RestoreTenant(ctx, t, parent, name)
	if err != nil {
		return nil, err
	}
	return &out[client.Tenant]{tenantOut(back)}, nil
}
