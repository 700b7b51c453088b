package server

import (
	"context"
	"net/http"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

func (a *restAPI) registerCertificates() {
	const tag = "certificates"
	handle(a, op(http.MethodPost, "/certificates", "create-certificate", tag, "Let client certificates with a name in, as a principal"), a.createCertificate)
	handle(a, op(http.MethodGet, "/certificates", "list-certificates", tag, "List which client certificates are let in"), a.listCertificates)
	handle(a, op(http.MethodDelete, "/certificates/{certificate}", "remove-certificate", tag, "Let client certificates with a name in no longer"), a.removeCertificate)
}

func certificateOut(c control.Certificate) client.Certificate {
	return client.Certificate{
		ID: c.ID, Kind: string(c.Name.Kind), Value: c.Name.Value, Principal: c.Principal, Scope: c.Scope, CreatedAt: c.Created,
		LastUsedAt: timeOut(c.Used), LastUsedFrom: c.UsedFrom,
	}
}

func (a *restAPI) createCertificate(ctx context.Context, p policy.Principal, in *struct{ Body client.CreateCertificate }) (*out[client.Certificate], error) {
	if err := a.allowServer(p, policy.SystemAdmin); err != nil {
		return nil, err
	}
	who, err := a.findPrincipal(ctx, in.Body.Principal)
	if err != nil {
		return nil, err
	}
	c, err := a.control.CreateCertificate(ctx, control.Certificate{
		Name: auth.Name{Kind: auth.NameKind(in.Body.Kind), Value: in.Body.Value}, Principal: who.ID, Scope: in.Body.Scope,
	})
	if err != nil {
		return nil, err
	}
	return &out[client.Certificate]{certificateOut(c)}, nil
}

func (a *restAPI) listCertificates(ctx context.Context, p policy.Principal, in *Paging) (*out[client.Page[client.Certificate]], error) {
	if err := a.allowServer(p, policy.SystemAdmin); err != nil {
		return nil, err
	}
	after, err := parseCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := a.control.Certificates(ctx, id.Certificate(after), in.Limit+1)
	if err != nil {
		return nil, err
	}
	return &out[client.Page[client.Certificate]]{pageOf(list, in.Limit, certificateOut, func(c control.Certificate) string { return string(c.ID) })}, nil
}

func (a *restAPI) removeCertificate(ctx context.Context, p policy.Principal, in *struct {
	Certificate string `path:"certificate" maxLength:"100"`
},
) (*none, error) {
	if err := a.allowServer(p, policy.SystemAdmin); err != nil {
		return nil, err
	}
	c, err := id.ParseCertificate(in.Certificate)
	if err != nil {
		return nil, errMissing
	}
	return &none{}, a.control.RemoveCertificate(ctx, c)
}
