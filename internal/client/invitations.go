package client

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// Invitation is what is known of an open invitation, its secret not included.
type Invitation struct {
	ID         id.Invitation `json:"id" example:"inv_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	Role       policy.Role   `json:"role" enum:"guest,reader,writer,owner"`
	Name       string        `json:"name,omitempty" doc:"Who may accept it; missing: whoever has the secret"`
	NewAccount bool          `json:"new_account" doc:"Also somebody whom the server does not know yet"`
	By         id.Principal  `json:"by" doc:"Who invites"`
	CreatedAt  time.Time     `json:"created_at"`
	ExpiresAt  time.Time     `json:"expires_at"`
}

// CreateInvitation asks for an invitation.
type CreateInvitation struct {
	Role       policy.Role `json:"role" enum:"guest,reader,writer,owner" doc:"No more than the inviter has, when it is made and when it is accepted"`
	Name       string      `json:"name,omitempty" maxLength:"100" doc:"Who may accept it. Default: whoever has the secret"`
	NewAccount bool        `json:"new_account,omitempty" doc:"Also for somebody whom the server does not know yet, who then becomes a principal of class human"`
	TTL        string      `json:"ttl,omitempty" maxLength:"40" example:"7d" doc:"How long it is open, up to 90d. Default: 7d"`
}

// CreatedInvitation is a new invitation with its secret, which is never shown again.
type CreatedInvitation struct {
	Invitation
	Secret string `json:"secret" doc:"Whoever has it may accept, once"`
}

// AcceptInvitation uses an invitation up.
type AcceptInvitation struct {
	Secret string `json:"secret" minLength:"1" maxLength:"200"`
	Name   string `json:"name,omitempty" maxLength:"100" doc:"Without a credential: the name that the new principal gets"`
}

// AcceptedInvitation says who is now what.
type AcceptedInvitation struct {
	TenantID  id.Tenant    `json:"tenant_id"`
	Tenant    string       `json:"tenant" doc:"Its path"`
	Role      policy.Role  `json:"role" enum:"guest,reader,writer,owner" doc:"What the principal is there now: a greater role of before stays"`
	Principal id.Principal `json:"principal"`
	Token     string       `json:"token,omitempty" doc:"A new principal's first token, of scope admin, for 30 days. It is never shown again"`
}

// CreateInvitation invites somebody into a tenant. The secret comes back this once.
func (c *Client) CreateInvitation(ctx context.Context, tenant string, i CreateInvitation) (CreatedInvitation, error) {
	return send[CreatedInvitation](ctx, c, http.MethodPost, tenantPath(tenant, "/invitations"), i)
}

// Invitations lists a tenant's open invitations.
func (c *Client) Invitations(ctx context.Context, tenant string) ([]Invitation, error) {
	p, err := get[Page[Invitation]](ctx, c, tenantPath(tenant, "/invitations"), nil)
	return p.Items, err
}

// RevokeInvitation withdraws an invitation.
func (c *Client) RevokeInvitation(ctx context.Context, tenant string, i id.Invitation) error {
	return c.do(ctx, call{method: http.MethodDelete, path: tenantPath(tenant, "/invitations/"+segment(string(i)))}, nil)
}

// AcceptInvitation uses an invitation up, as the client's principal or, for a client without a token, as a new one.
func (c *Client) AcceptInvitation(ctx context.Context, a AcceptInvitation) (AcceptedInvitation, error) {
	return send[AcceptedInvitation](ctx, c, http.MethodPost, "/invitations/accept", a)
}
