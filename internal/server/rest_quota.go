package server

import (
	"context"
	"net/http"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/policy"
)

func (a *restAPI) registerQuotas() {
	const tag = "usage"
	handle(a, op(http.MethodGet, "/tenants/{tenant}/quota", "get-quota", tag, "Get a tenant's quotas, and what it has used of them"), a.getQuota)
	o := op(http.MethodPut, "/tenants/{tenant}/quota", "set-quota", tag, "Replace a tenant's quotas")
	o.Description = "Takes tenant.admin of the tenant above; for one at the top, an administrator of the server."
	handle(a, o, a.setQuota)
}

func (a *restAPI) getQuota(ctx context.Context, p policy.Principal, in *TenantParam) (*out[client.TenantQuota], error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	return a.quotaOut(ctx, t)
}

func (a *restAPI) quotaOut(ctx context.Context, t control.Tenant) (*out[client.TenantQuota], error) {
	most, err := a.control.Quotas(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	used, err := a.control.QuotaUse(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	return &out[client.TenantQuota]{client.TenantQuota{Limits: quotasOut(most), Used: quotasOut(used)}}, nil
}

func quotasOut(m control.Quotas) (q client.Quotas) {
	for _, f := range q.Fields() {
		if n, ok := m[control.Quota(f.Name)]; ok {
			*f.Value = &n
		}
	}
	return q
}

// setQuota is the sponsor's: whoever administers the tenant itself could lift its quotas otherwise.
func (a *restAPI) setQuota(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Body client.Quotas
},
) (*out[client.TenantQuota], error) {
	t, err := a.sponsored(ctx, p, in.Tenant)
	if err != nil {
		return nil, err
	}
	most := control.Quotas{}
	for _, f := range in.Body.Fields() {
		if v := *f.Value; v != nil {
			most[control.Quota(f.Name)] = *v
		}
	}
	if err := a.control.SetQuotas(ctx, t.ID, most); err != nil {
		return nil, err
	}
	return a.quotaOut(ctx, t)
}
