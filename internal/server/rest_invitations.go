package server

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

const (
	acceptPath = client.Base + "/invitations/accept"
	// invitationTTL is how long an invitation is open unless somebody says otherwise, and maxInvitationTTL the longest.
	invitationTTL    = 7 * 24 * time.Hour
	maxInvitationTTL = 90 * 24 * time.Hour
)

var (
	errInvitation = denial{errkind.NotFound, "this invitation is not valid: unknown, used, expired or withdrawn"}
	errInviter    = denial{errkind.Forbidden, "whoever invited you may no longer do so: ask for another invitation"}
	errRole       = denial{errkind.Forbidden, "an invitation gives no role that you do not have yourself"}
	errPerson     = denial{errkind.Forbidden, "accepting an invitation takes a person's own credential of scope admin, not limited to a repository"}
)

func (a *restAPI) registerInvitations() {
	const tag = "invitations"
	handle(a, op(http.MethodPost, "/tenants/{tenant}/invitations", "create-invitation", tag, "Invite somebody into a tenant"), a.createInvitation)
	handle(a, op(http.MethodGet, "/tenants/{tenant}/invitations", "list-invitations", tag, "List a tenant's open invitations"), a.listInvitations)
	handle(a, op(http.MethodDelete, "/tenants/{tenant}/invitations/{invitation}", "revoke-invitation", tag, "Withdraw an invitation"), a.revokeInvitation)
	o := op(http.MethodPost, "/invitations/accept", "accept-invitation", tag, "Accept an invitation, once")
	o.Description = "With a credential, its principal gets the role. Without one, and if the invitation is also for people whom the server does not " +
		"know yet, a principal of the wished name is made, and the answer has its first token."
	o.DefaultStatus = http.StatusOK
	o.Errors = append(o.Errors, http.StatusTooManyRequests)
	handle(a, o, a.acceptInvitation)
}

func invitationOut(inv control.Invitation) client.Invitation {
	return client.Invitation{
		ID: inv.ID, Role: inv.Role, Name: inv.Name, NewAccount: inv.NewAccount, By: inv.By, CreatedAt: inv.Created, ExpiresAt: inv.Expires,
	}
}

// mayGive reports whether somebody may bring others into a tenant with a role: with tenant.admin, and what the role gives.
func (s *Server) mayGive(ctx context.Context, p policy.Principal, role policy.Role, t control.Tenant) (bool, error) {
	res, err := s.tenantResource(ctx, t)
	if err != nil {
		return false, err
	}
	needs := map[policy.Role][]policy.Action{
		policy.Guest:  {policy.TenantAdmin},
		policy.Reader: {policy.TenantAdmin, policy.RepoList},
		policy.Writer: {policy.TenantAdmin, policy.RepoList, policy.RepoCreate},
		policy.Owner:  {policy.TenantAdmin, policy.RepoList, policy.RepoCreate, policy.TenantCreate},
	}[role]
	for _, action := range needs {
		if !policy.Allow(p, action, res) {
			return false, nil
		}
	}
	return len(needs) > 0, nil
}

func (a *restAPI) createInvitation(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Body client.CreateInvitation
},
) (*out[client.CreatedInvitation], error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	if p.Within != "" {
		return nil, errSigned // nobody is there to ask again when it is accepted
	}
	may, err := a.mayGive(ctx, p, in.Body.Role, t)
	if err != nil {
		return nil, err
	}
	if !may {
		return nil, errRole
	}
	ttl := invitationTTL
	if in.Body.TTL != "" {
		if ttl, err = parseTTL(in.Body.TTL); err != nil {
			return nil, err
		}
		if ttl > maxInvitationTTL {
			return nil, denial{errkind.Invalid, "ttl: an invitation is open for 90 days at most"}
		}
	}
	inv, secret, err := a.control.CreateInvitation(ctx, control.Invitation{
		Tenant: t.ID, Role: in.Body.Role, Name: in.Body.Name, NewAccount: in.Body.NewAccount, By: p.ID, Expires: time.Now().Add(ttl),
	})
	if err != nil {
		return nil, err
	}
	return &out[client.CreatedInvitation]{client.CreatedInvitation{Invitation: invitationOut(inv), Secret: secret}}, nil
}

func (a *restAPI) listInvitations(ctx context.Context, p policy.Principal, in *TenantParam) (*out[client.Page[client.Invitation]], error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	list, err := a.control.Invitations(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	return whole(list, invitationOut), nil
}

func (a *restAPI) revokeInvitation(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Invitation string `path:"invitation" maxLength:"100"`
},
) (*none, error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	i, err := id.ParseInvitation(in.Invitation)
	if err != nil {
		return nil, errInvitation
	}
	if err := a.control.RevokeInvitation(ctx, t.ID, i); err != nil {
		return nil, a.tooLate(err)
	}
	return &none{}, nil
}

// acceptInvitation uses an invitation up. Wrong secrets are counted like wrong credentials. What the inviter may no longer give, the
// invitation does not give either.
func (a *restAPI) acceptInvitation(ctx context.Context, p policy.Principal, in *struct{ Body client.AcceptInvitation }) (*out[client.AcceptedInvitation], error) {
	hash := auth.HashSecret(in.Body.Secret)
	inv, err := a.openInvitation(ctx, hash)
	if err != nil {
		return nil, err
	}
	if err := a.stillInvited(ctx, inv); err != nil {
		return nil, err
	}
	if !p.Anonymous() {
		if !ownsItsTokens(p) {
			return nil, errPerson
		}
		if inv, err = a.control.AcceptInvitation(ctx, hash, p.ID); err != nil {
			return nil, a.tooLate(err)
		}
		return &out[client.AcceptedInvitation]{client.AcceptedInvitation{TenantID: inv.Tenant, Tenant: inv.TenantPath, Role: inv.Role, Principal: p.ID}}, nil
	}
	if !inv.NewAccount || in.Body.Name == "" {
		return nil, errAnonymous
	}
	inv, who, secret, err := a.control.AcceptAsNew(ctx, hash, in.Body.Name)
	if err != nil {
		return nil, a.tooLate(err)
	}
	return &out[client.AcceptedInvitation]{client.AcceptedInvitation{
		TenantID: inv.Tenant, Tenant: inv.TenantPath, Role: inv.Role, Principal: who.ID, Token: secret,
	}}, nil
}

func (a *restAPI) openInvitation(ctx context.Context, h auth.Hash) (control.Invitation, error) {
	c := callOf(ctx)
	if err := a.rates.mayGuess(c); err != nil {
		return control.Invitation{}, err
	}
	inv, err := a.control.Invitation(ctx, h)
	if err != nil && errkind.Of(err) == errkind.NotFound {
		if err := a.rates.guessed(c); err != nil {
			return inv, err
		}
		return inv, errInvitation
	}
	return inv, err
}

// tooLate says of an invitation that is not there any more what is said of one that never was.
func (a *restAPI) tooLate(err error) error {
	if errkind.Of(err) == errkind.NotFound {
		return errInvitation
	}
	return err
}

// stillInvited asks again what was asked when the invitation was made.
func (a *restAPI) stillInvited(ctx context.Context, inv control.Invitation) error {
	t, err := a.control.Tenant(ctx, inv.Tenant)
	if err != nil {
		return a.tooLate(err)
	}
	inviter, err := a.control.Actor(ctx, inv.By)
	if err != nil {
		return a.tooLate(err)
	}
	may, err := a.mayGive(ctx, inviter, inv.Role, t)
	if err == nil && !may {
		err = errInviter
	}
	return err
}
