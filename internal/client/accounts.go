package client

import (
	"context"
	"net/http"

	"github.com/skep-dev/skep/internal/policy"
)

// CreateAccount asks for an account of a tenant.
type CreateAccount struct {
	Name  string       `json:"name" minLength:"1" maxLength:"100" example:"ci" doc:"In the tenant: it is then acme/ci everywhere"`
	Class policy.Class `json:"class,omitempty" enum:"pipeline,operator" default:"pipeline" doc:"What sort of actor it is"`
}

// CreateAccount makes an account of a tenant: a principal that belongs to it.
func (c *Client) CreateAccount(ctx context.Context, tenant string, a CreateAccount) (Principal, error) {
	return send[Principal](ctx, c, http.MethodPost, tenantPath(tenant, "/accounts"), a)
}

// Accounts lists a tenant's accounts.
func (c *Client) Accounts(ctx context.Context, tenant, cursor string, limit int) (Page[Principal], error) {
	return get[Page[Principal]](ctx, c, tenantPath(tenant, "/accounts"), paging(cursor, limit))
}

// DeleteAccount deletes an account, by its ID or name, with its tokens and roles.
func (c *Client) DeleteAccount(ctx context.Context, tenant, account string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: tenantPath(tenant, "/accounts/"+segment(account))}, nil)
}
