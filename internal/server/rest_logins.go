package server

import (
	"context"
	"net/http"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

func (a *restAPI) registerLogins() {
	const tag = "logins"
	handle(a, op(http.MethodGet, "/sessions", "list-sessions", tag, "List the browsers in which you are logged in"), a.listSessions)
	handle(a, op(http.MethodDelete, "/sessions/{session}", "revoke-session", tag, "End a browser's session"), a.revokeSession)
	handle(a, op(http.MethodGet, "/principals/{principal}/identities", "list-identities", tag, "List whom at login providers a principal is"), a.listIdentities)
	handle(a, op(http.MethodPost, "/principals/{principal}/identities", "link-identity", tag, "Let somebody whom a login provider knows log in as a principal"), a.linkIdentity)
	handle(a, op(http.MethodDelete, "/principals/{principal}/identities", "unlink-identity", tag, "Take a link to a login provider back"), a.unlinkIdentity)
}

// whose finds the principal that a call about logins is about: the caller, with a credential that speaks for all of it, or, for
// an administrator, anybody.
func (a *restAPI) whose(ctx context.Context, p policy.Principal, ref string) (control.Principal, error) {
	switch {
	case p.Anonymous():
		return control.Principal{}, errAnonymous
	case ref == "" || ref == string(p.ID) || policy.Fold(ref) == policy.Fold(p.Name):
		if !ownsItsTokens(p) {
			return control.Principal{}, errForbidden
		}
		return a.control.PrincipalByID(ctx, p.ID)
	}
	if err := a.allowServer(p, policy.SystemAdmin); err != nil {
		return control.Principal{}, err
	}
	return a.findPrincipal(ctx, ref)
}

func (a *restAPI) listSessions(ctx context.Context, p policy.Principal, in *struct {
	Paging
	Principal string `query:"principal" maxLength:"200" doc:"ID or name; default: you"`
},
) (*out[client.Page[client.Session]], error) {
	who, err := a.whose(ctx, p, in.Principal)
	if err != nil {
		return nil, err
	}
	after, err := parseCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := a.control.Sessions(ctx, who.ID, id.Session(after), in.Limit+1)
	if err != nil {
		return nil, err
	}
	conv := func(s control.Session) client.Session {
		return client.Session{
			ID: s.ID, Principal: s.Principal, Address: s.Address, Agent: s.Agent, Current: s.ID == p.Session,
			CreatedAt: s.Created, UsedAt: s.Used, ExpiresAt: s.Expires,
		}
	}
	return &out[client.Page[client.Session]]{pageOf(list, in.Limit, conv, func(s control.Session) string { return string(s.ID) })}, nil
}

func (a *restAPI) revokeSession(ctx context.Context, p policy.Principal, in *struct {
	Session string `path:"session" maxLength:"100"`
},
) (*none, error) {
	if p.Anonymous() {
		return nil, errAnonymous
	}
	session, err := id.ParseSession(in.Session)
	if err != nil {
		return nil, errMissing
	}
	s, err := a.control.SessionByID(ctx, session)
	switch {
	case err != nil && errkind.Of(err) == errkind.NotFound:
		return nil, errMissing
	case err != nil:
		return nil, err
	case (s.Principal != p.ID || !ownsItsTokens(p)) && a.allowServer(p, policy.SystemAdmin) != nil:
		return nil, errMissing
	}
	return &none{}, a.control.RevokeSession(ctx, session)
}

func identityOut(i control.Identity) client.ProviderIdentity {
	return client.ProviderIdentity{Issuer: i.Issuer, Subject: i.Subject, CreatedAt: i.Created, UsedAt: timeOut(i.Used)}
}

func (a *restAPI) listIdentities(ctx context.Context, p policy.Principal, in *PrincipalParam) (*out[client.Page[client.ProviderIdentity]], error) {
	who, err := a.whose(ctx, p, in.Principal)
	if err != nil {
		return nil, err
	}
	list, err := a.control.Identities(ctx, who.ID)
	if err != nil {
		return nil, err
	}
	return whole(list, identityOut), nil
}

// linkIdentity is an administrator's: who could link an identity to itself could be anybody whom the provider will know.
func (a *restAPI) linkIdentity(ctx context.Context, p policy.Principal, in *struct {
	PrincipalParam
	Body client.LinkIdentity
},
) (*out[client.ProviderIdentity], error) {
	if err := a.allowServer(p, policy.SystemAdmin); err != nil {
		return nil, err
	}
	who, err := a.findPrincipal(ctx, in.Principal)
	if err != nil {
		return nil, err
	}
	i, err := a.control.LinkIdentity(ctx, who.ID, in.Body.Issuer, in.Body.Subject)
	if err != nil {
		return nil, err
	}
	return &out[client.ProviderIdentity]{identityOut(i)}, nil
}

func (a *restAPI) unlinkIdentity(ctx context.Context, p policy.Principal, in *struct {
	PrincipalParam
	Issuer  string `query:"issuer" required:"true" maxLength:"500"`
	Subject string `query:"subject" required:"true" maxLength:"255"`
},
) (*none, error) {
	if err := a.allowServer(p, policy.SystemAdmin); err != nil {
		return nil, err
	}
	who, err := a.findPrincipal(ctx, in.Principal)
	if err != nil {
		return nil, err
	}
	return &none{}, a.control.UnlinkIdentity(ctx, who.ID, in.Issuer, in.Subject)
}
