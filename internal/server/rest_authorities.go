package server

import (
	"context"
	"net/http"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

func (a *restAPI) registerSSHAuthorities() {
	const tag = "keys"
	const all = "/tenants/{tenant}/ssh-authorities"
	handle(a, op(http.MethodPost, all, "add-ssh-authority", tag, "Let somebody sign SSH certificates for a tenant's accounts"), a.addSSHAuthority)
	handle(a, op(http.MethodGet, all, "list-ssh-authorities", tag, "List who may sign SSH certificates for a tenant's accounts"), a.listSSHAuthorities)
	handle(a, op(http.MethodDelete, all+"/{authority}", "remove-ssh-authority", tag, "Refuse an authority's SSH certificates from now on"), a.removeSSHAuthority)
}

func sshAuthorityOut(c control.SSHAuthority) client.SSHAuthority {
	o := client.SSHAuthority{
		ID: c.ID, Name: c.Name, FullName: c.FullName(), Kind: c.Kind, Key: authorizedLine(c.Kind, c.Public), Fingerprint: c.Fingerprint,
		Scope: c.Scope, CreatedAt: c.Created, LastUsedAt: timeOut(c.Used), LastUsedFrom: c.UsedFrom,
	}
	if c.MaxLifetime > 0 {
		o.MaxTTL = c.MaxLifetime.String()
	}
	return o
}

// addSSHAuthority is for whoever may make accounts of the tenant and tokens for them: an authority can do no more.
func (a *restAPI) addSSHAuthority(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Body client.AddSSHAuthority
},
) (*out[client.SSHAuthority], error) {
	t, err := a.issuerTenant(ctx, p, in.Tenant)
	if err != nil {
		return nil, err
	}
	key, err := parseAuthorizedKey(in.Body.Key)
	if err != nil {
		return nil, err
	}
	want := control.SSHAuthority{
		Tenant: t.ID, Name: in.Body.Name, Kind: key.kind, Public: key.wire, Fingerprint: key.fingerprint, Scope: in.Body.Scope,
	}
	if in.Body.MaxTTL != "" {
		if want.MaxLifetime, err = parseTTL(in.Body.MaxTTL); err != nil {
			return nil, err
		}
	}
	made, err := a.control.AddSSHAuthority(ctx, want)
	if err != nil {
		return nil, err
	}
	return &out[client.SSHAuthority]{sshAuthorityOut(made)}, nil
}

func (a *restAPI) listSSHAuthorities(ctx context.Context, p policy.Principal, in *TenantParam) (*out[client.Page[client.SSHAuthority]], error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	list, err := a.control.SSHAuthorities(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	return whole(list, sshAuthorityOut), nil
}

func (a *restAPI) removeSSHAuthority(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Authority string `path:"authority" maxLength:"100" doc:"Its name"`
},
) (*none, error) {
	t, err := a.issuerTenant(ctx, p, in.Tenant)
	if err != nil {
		return nil, err
	}
	err = a.control.RemoveSSHAuthority(ctx, t.ID, in.Authority)
	if errIsMissing(err) {
		err = denial{errkind.NotFound, "the tenant has no such SSH authority"}
	}
	return &none{}, err
}
