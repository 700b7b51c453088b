package server

import (
	"context"
	"net/http"
	"strings"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// AccountParam is a tenant's account in a path.
type AccountParam struct {
	TenantParam
	Account string `path:"account" maxLength:"600" doc:"ID, its name in the tenant (ci), or its whole name (acme/ci)"`
}

func (a *restAPI) registerAccounts() {
	const tag = "accounts"
	handle(a, op(http.MethodPost, "/tenants/{tenant}/accounts", "create-account", tag, "Create an account of a tenant, for a machine"), a.createAccount)
	handle(a, op(http.MethodGet, "/tenants/{tenant}/accounts", "list-accounts", tag, "List a tenant's accounts"), a.listAccounts)
	handle(a, op(http.MethodDelete, "/tenants/{tenant}/accounts/{account}", "delete-account", tag, "Delete an account, its tokens and roles"), a.deleteAccount)
}

func (a *restAPI) createAccount(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Body client.CreateAccount
},
) (*out[client.Principal], error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	who, err := a.control.CreateAccount(ctx, t.ID, in.Body.Name, in.Body.Class)
	if err != nil {
		return nil, err
	}
	return &out[client.Principal]{principalOut(who)}, nil
}

func (a *restAPI) listAccounts(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Paging
},
) (*out[client.Page[client.Principal]], error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	after, err := parseCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := a.control.Accounts(ctx, t.ID, id.Principal(after), in.Limit+1)
	if err != nil {
		return nil, err
	}
	return &out[client.Page[client.Principal]]{pageOf(list, in.Limit, principalOut, func(p control.Principal) string { return string(p.ID) })}, nil
}

func (a *restAPI) deleteAccount(ctx context.Context, p policy.Principal, in *AccountParam) (*none, error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	ref := in.Account
	if _, err := id.ParsePrincipal(ref); err != nil && !strings.Contains(ref, "/") {
		ref = t.Path + "/" + ref
	}
	who, err := a.findPrincipal(ctx, ref)
	if err == nil && who.Home != t.ID {
		err = errNoPrincipal
	}
	if err != nil {
		return nil, err
	}
	return &none{}, a.control.DeleteAccount(ctx, t.ID, who.ID)
}
