package server

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/policy"
)

// TenantSecretParam is a tenant's secret in a path.
type TenantSecretParam struct {
	TenantParam
	SecretParam
}

// RepoSecretParam is a repository's secret in a path.
type RepoSecretParam struct {
	RepoParam
	SecretParam
}

// SecretParam is a secret in a path.
type SecretParam struct {
	Secret string `path:"secret" maxLength:"100" doc:"A-Z, 0-9 and _"`
}

// Bodies of the operations on secrets.
type (
	setSecretBody     struct{ Body client.SetSecret }
	restoreSecretBody struct{ Body client.RestoreSecret }
)

// registerSecrets declares each operation twice: for a tenant's secrets and for a repository's.
func (a *restAPI) registerSecrets() {
	const tag = "secrets"
	handle(a, op(http.MethodGet, "/tenants/{tenant}/secrets", "list-tenant-secrets", tag, "List a tenant's secrets, without their values"),
		func(ctx context.Context, p policy.Principal, in *TenantParam) (*out[client.Page[client.Secret]], error) {
			return a.listSecrets(ctx, p, a.tenantOwner(in.Tenant))
		})
	handle(a, op(http.MethodGet, "/repos/{repo}/secrets", "list-repo-secrets", tag, "List a repository's secrets, without their values"),
		func(ctx context.Context, p policy.Principal, in *RepoParam) (*out[client.Page[client.Secret]], error) {
			return a.listSecrets(ctx, p, a.repoOwner(p, in.Repo))
		})
	handle(a, op(http.MethodPut, "/tenants/{tenant}/secrets/{secret}", "set-tenant-secret", tag, "Give a tenant's secret a value"),
		func(ctx context.Context, p policy.Principal, in *struct {
			TenantSecretParam
			setSecretBody
		},
		) (*out[client.SecretVersion], error) {
			return a.setSecret(ctx, p, a.tenantOwner(in.Tenant), in.Secret, in.Body)
		})
	handle(a, op(http.MethodPut, "/repos/{repo}/secrets/{secret}", "set-repo-secret", tag, "Give a repository's secret a value"),
		func(ctx context.Context, p policy.Principal, in *struct {
			RepoSecretParam
			setSecretBody
		},
		) (*out[client.SecretVersion], error) {
			return a.setSecret(ctx, p, a.repoOwner(p, in.Repo), in.Secret, in.Body)
		})
	handle(a, op(http.MethodPost, "/tenants/{tenant}/secrets/{secret}/restore", "restore-tenant-secret", tag, "Go back to an older value of a tenant's secret"),
		func(ctx context.Context, p policy.Principal, in *struct {
			TenantSecretParam
			restoreSecretBody
		},
		) (*out[client.SecretVersion], error) {
			return a.restoreSecret(ctx, p, a.tenantOwner(in.Tenant), in.Secret, in.Body)
		})
	handle(a, op(http.MethodPost, "/repos/{repo}/secrets/{secret}/restore", "restore-repo-secret", tag, "Go back to an older value of a repository's secret"),
		func(ctx context.Context, p policy.Principal, in *struct {
			RepoSecretParam
			restoreSecretBody
		},
		) (*out[client.SecretVersion], error) {
			return a.restoreSecret(ctx, p, a.repoOwner(p, in.Repo), in.Secret, in.Body)
		})
	handle(a, op(http.MethodDelete, "/tenants/{tenant}/secrets/{secret}", "delete-tenant-secret", tag, "Delete a tenant's secret with all its versions"),
		func(ctx context.Context, p policy.Principal, in *TenantSecretParam) (*none, error) {
			return a.deleteSecret(ctx, p, a.tenantOwner(in.Tenant), in.Secret)
		})
	handle(a, op(http.MethodDelete, "/repos/{repo}/secrets/{secret}", "delete-repo-secret", tag, "Delete a repository's secret with all its versions"),
		func(ctx context.Context, p policy.Principal, in *RepoSecretParam) (*none, error) {
			return a.deleteSecret(ctx, p, a.repoOwner(p, in.Repo), in.Secret)
		})
}

// owner finds what secrets belong to.
type owner func(ctx context.Context) (control.SecretOwner, policy.Resource, error)

func (a *restAPI) tenantOwner(ref string) owner {
	return func(ctx context.Context) (control.SecretOwner, policy.Resource, error) {
		t, err := a.findTenant(ctx, ref)
		if err != nil {
			return control.SecretOwner{}, policy.Resource{}, err
		}
		res, err := a.tenantResource(ctx, t)
		return control.SecretOwner{Tenant: t.ID}, res, err
	}
}

func (a *restAPI) repoOwner(p policy.Principal, ref string) owner {
	return func(ctx context.Context) (control.SecretOwner, policy.Resource, error) {
		r, err := a.findRepo(ctx, ref)
		if err != nil {
			return control.SecretOwner{}, policy.Resource{}, err
		}
		res, err := a.repoResource(ctx, p, r)
		return control.SecretOwner{Tenant: r.Tenant, Repo: r.ID}, res, err
	}
}

// secretOwner finds an owner for somebody who wants to do something with its secrets, or with the one of that name. Whether a
// refusal says that the owner is there, the owner itself decides.
func (a *restAPI) secretOwner(ctx context.Context, p policy.Principal, action policy.Action, find owner, name string) (control.SecretOwner, error) {
	if p.Anonymous() {
		return control.SecretOwner{}, errAnonymous
	}
	started := time.Now()
	o, its, err := find(ctx)
	if err == nil {
		res := its
		res.Kind, res.Path = policy.KindSecret, its.Path+"/"+name
		switch {
		case policy.Allow(p, action, res):
			return o, a.rates.tenant(callOf(ctx), p, its.Tenant)
		case policy.Visible(p, its):
			return o, errForbidden
		}
		err = errMissing
	}
	return o, blur(ctx, p, started, err)
}

func (a *restAPI) listSecrets(ctx context.Context, p policy.Principal, find owner) (*out[client.Page[client.Secret]], error) {
	o, err := a.secretOwner(ctx, p, policy.SecretList, find, "")
	if err != nil {
		return nil, err
	}
	list, err := a.control.Secrets(ctx, o)
	if err != nil {
		return nil, err
	}
	return whole(list, secretOut), nil
}

// secretOut is a secret with its versions, of which there is one at least.
func secretOut(versions []control.Secret) client.Secret {
	s := client.Secret{Name: versions[0].Name, Version: versions[0].Version, Versions: make([]client.SecretVersion, len(versions))}
	for i, v := range versions {
		s.Versions[i] = versionOut(v)
	}
	return s
}

func versionOut(s control.Secret) client.SecretVersion {
	return client.SecretVersion{Version: s.Version, CreatedBy: s.By, CreatedAt: s.Created}
}

func (a *restAPI) setSecret(ctx context.Context, p policy.Principal, find owner, name string, in client.SetSecret) (*out[client.SecretVersion], error) {
	o, err := a.secretOwner(ctx, p, policy.SecretWrite, find, name)
	if err != nil {
		return nil, err
	}
	s, err := a.control.SetSecret(ctx, o, name, []byte(in.Value), p.ID)
	if err != nil {
		return nil, err
	}
	return &out[client.SecretVersion]{versionOut(s)}, nil
}

func (a *restAPI) restoreSecret(ctx context.Context, p policy.Principal, find owner, name string, in client.RestoreSecret) (*out[client.SecretVersion], error) {
	o, err := a.secretOwner(ctx, p, policy.SecretWrite, find, name)
	if err != nil {
		return nil, err
	}
	s, err := a.control.RestoreSecret(ctx, o, name, in.Version, p.ID)
	if err != nil {
		return nil, err
	}
	return &out[client.SecretVersion]{versionOut(s)}, nil
}

func (a *restAPI) deleteSecret(ctx context.Context, p policy.Principal, find owner, name string) (*none, error) {
	o, err := a.secretOwner(ctx, p, policy.SecretWrite, find, name)
	if err != nil {
		return nil, err
	}
	return &none{}, a.control.DeleteSecret(ctx, o, name)
}
