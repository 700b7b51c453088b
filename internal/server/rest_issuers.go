package server

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/jwt"
	"github.com/skep-dev/skep/internal/policy"
)

// IssuerParam is one of a tenant's issuers in a path.
type IssuerParam struct {
	TenantParam
	Issuer string `path:"issuer" maxLength:"100" doc:"Its name"`
}

// SubjectParam is one of an issuer's subjects in a path.
type SubjectParam struct {
	IssuerParam
	Subject string `path:"subject" maxLength:"500" doc:"The sub claim, with %2F for each slash"`
}

func (a *restAPI) registerIssuers() {
	const tag = "issuers"
	const all, one = "/tenants/{tenant}/issuers", "/tenants/{tenant}/issuers/{issuer}"
	handle(a, op(http.MethodPost, all, "create-issuer", tag, "Let somebody sign tokens (JWTs) that count in a tenant"), a.createIssuer)
	handle(a, op(http.MethodGet, all, "list-issuers", tag, "List who may sign tokens for a tenant"), a.listIssuers)
	handle(a, op(http.MethodGet, one, "get-issuer", tag, "Get an issuer with its subjects"), a.getIssuer)
	handle(a, op(http.MethodDelete, one, "remove-issuer", tag, "Refuse an issuer's tokens from now on"), a.removeIssuer)
	silent := func(method, path, name, summary string) (o huma.Operation) {
		o = op(method, path, name, tag, summary)
		o.DefaultStatus = http.StatusNoContent
		return o
	}
	handle(a, silent(http.MethodPut, one+"/keys", "set-issuer-keys", "Replace an issuer's keys, or fetch them again"), a.setIssuerKeys)
	handle(a, silent(http.MethodPut, one+"/subjects/{subject}", "map-subject", "Say which principal an issuer's sub means"), a.mapSubject)
	handle(a, silent(http.MethodDelete, one+"/subjects/{subject}", "unmap-subject", "Make an issuer's sub mean no principal any more"), a.unmapSubject)
}

func issuerOut(i control.Issuer, subjects []control.Subject) client.Issuer {
	keys, err := jwt.ParseKeys([]byte(i.Keys))
	if err != nil {
		panic("bug: an issuer's keys were stored unread: " + err.Error())
	}
	o := client.Issuer{
		ID: i.ID, Name: i.Name, FullName: i.FullName(), Iss: i.Iss, Audience: i.Audience, Role: i.Role, Listed: i.Listed,
		JWKSURL: i.URL, Keys: keys.Names(), KeysFetchedAt: i.Fetched, CreatedAt: i.Created, LastUsedAt: timeOut(i.Used),
	}
	for _, s := range subjects {
		o.Subjects = append(o.Subjects, client.IssuerSubject{Subject: s.Subject, Principal: principalOut(s.Principal)})
	}
	return o
}

// issuerTenant finds a tenant for somebody who may say who signs for it. A signed token may not: it would outlive itself.
func (a *restAPI) issuerTenant(ctx context.Context, p policy.Principal, ref string) (control.Tenant, error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, ref)
	if err == nil && p.Within != "" {
		err = errSigned
	}
	return t, err
}

var errSigned = denial{errkind.Forbidden, "a JWT does not let make other credentials: use a token"}

func (a *restAPI) createIssuer(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Body client.CreateIssuer
},
) (*out[client.Issuer], error) {
	t, err := a.issuerTenant(ctx, p, in.Tenant)
	if err != nil {
		return nil, err
	}
	want := in.Body
	if want.Audience == "" {
		// Not what the request says that the server is called: whoever presents a token could say the same.
		if want.Audience = a.opts.PublicURL; want.Audience == "" {
			return nil, denial{errkind.Invalid, "audience is needed: the operator has set no public address of the server (--public-url)"}
		}
	}
	keys, err := jwksText(want.JWKS)
	if err != nil {
		return nil, err
	}
	i, err := a.control.CreateIssuer(ctx, control.Issuer{
		Tenant: t.ID, Name: want.Name, Iss: want.Iss, Audience: want.Audience, Role: want.Role, Listed: want.Listed, URL: want.JWKSURL, Keys: keys,
	})
	if err != nil {
		return nil, err
	}
	return &out[client.Issuer]{issuerOut(i, nil)}, nil
}

// jwksText is a set of keys as package jwt reads it; empty when there is none.
func jwksText(set map[string]any) (string, error) {
	if set == nil {
		return "", nil
	}
	b, err := json.Marshal(set)
	return string(b), err //nolint:wrapcheck // it was JSON
}

func (a *restAPI) listIssuers(ctx context.Context, p policy.Principal, in *TenantParam) (*out[client.Page[client.Issuer]], error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	list, err := a.control.Issuers(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	return whole(list, func(i control.Issuer) client.Issuer { return issuerOut(i, nil) }), nil
}

func (a *restAPI) getIssuer(ctx context.Context, p policy.Principal, in *IssuerParam) (*out[client.Issuer], error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	i, subjects, err := a.control.Issuer(ctx, t.ID, in.Issuer)
	if err != nil {
		return nil, noIssuer(err)
	}
	return &out[client.Issuer]{issuerOut(i, subjects)}, nil
}

// noIssuer says what is missing to somebody who may know.
func noIssuer(err error) error {
	if errIsMissing(err) {
		return denial{errkind.NotFound, "the tenant has no such issuer, or the issuer no such subject"}
	}
	return err
}

func (a *restAPI) removeIssuer(ctx context.Context, p policy.Principal, in *IssuerParam) (*none, error) {
	t, err := a.issuerTenant(ctx, p, in.Tenant)
	if err != nil {
		return nil, err
	}
	return &none{}, noIssuer(a.control.RemoveIssuer(ctx, t.ID, in.Issuer))
}

func (a *restAPI) setIssuerKeys(ctx context.Context, p policy.Principal, in *struct {
	IssuerParam
	Body client.SetIssuerKeys
},
) (*none, error) {
	t, err := a.issuerTenant(ctx, p, in.Tenant)
	if err != nil {
		return nil, err
	}
	keys, err := jwksText(in.Body.JWKS)
	if err != nil {
		return nil, err
	}
	return &none{}, noIssuer(a.control.SetIssuerKeys(ctx, t.ID, in.Issuer, keys))
}

// mapSubject lets an issuer speak for a principal. Whoever may say who signs for a tenant may not thereby act in others' names,
// which a sponsor's policy may know: so it is the principal itself who agrees, or an administrator of the server.
func (a *restAPI) mapSubject(ctx context.Context, p policy.Principal, in *struct {
	SubjectParam
	Body client.MapSubject
},
) (*none, error) {
	t, err := a.issuerTenant(ctx, p, in.Tenant)
	if err != nil {
		return nil, err
	}
	who := p.ID
	if in.Body.Principal != string(p.ID) && policy.Fold(in.Body.Principal) != policy.Fold(p.Name) {
		if err := a.allowServer(p, policy.SystemAdmin); err != nil {
			return nil, denial{errkind.Forbidden, "you may map a subject to yourself; to others, an administrator of the server may"}
		}
		found, err := a.findPrincipal(ctx, in.Body.Principal)
		if err != nil {
			return nil, err
		}
		who = found.ID
	}
	return &none{}, noIssuer(a.control.MapSubject(ctx, t.ID, in.Issuer, in.Subject, who))
}

func (a *restAPI) unmapSubject(ctx context.Context, p policy.Principal, in *SubjectParam) (*none, error) {
	t, err := a.issuerTenant(ctx, p, in.Tenant)
	if err != nil {
		return nil, err
	}
	return &none{}, noIssuer(a.control.UnmapSubject(ctx, t.ID, in.Issuer, in.Subject))
}
