package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// pageSize is how much All asks for at once: the most that the server gives.
const pageSize = 200

// All walks the pages of a list.
func All[T any](ctx context.Context, page func(ctx context.Context, cursor string, limit int) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		cursor := ""
		for {
			p, err := page(ctx, cursor, pageSize)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, it := range p.Items {
				if !yield(it, nil) {
					return
				}
			}
			if p.NextCursor == "" {
				return
			}
			cursor = p.NextCursor
		}
	}
}

// paging is a list's query.
func paging(cursor string, limit int) url.Values {
	q := url.Values{}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return q
}

// Whoami says whom the client's credential stands for.
func (c *Client) Whoami(ctx context.Context) (Identity, error) {
	return get[Identity](ctx, c, "/whoami", nil)
}

// CreateTenant makes a tenant.
func (c *Client) CreateTenant(ctx context.Context, path string) (Tenant, error) {
	return send[Tenant](ctx, c, http.MethodPost, "/tenants", CreateTenant{Path: path})
}

// Members lists a tenant's members.
func (c *Client) Members(ctx context.Context, tenant string) ([]Member, error) {
	p, err := get[Page[Member]](ctx, c, "/tenants/"+segment(tenant)+"/members", nil)
	return p.Items, err
}

// SetMember gives a principal, by its ID or name, a role in a tenant.
func (c *Client) SetMember(ctx context.Context, tenant, principal string, role policy.Role) error {
	return c.do(ctx, call{method: http.MethodPut, path: "/tenants/" + segment(tenant) + "/members/" + segment(principal), in: SetMember{Role: role}}, nil)
}

// RemoveMember takes a principal's role in a tenant away.
func (c *Client) RemoveMember(ctx context.Context, tenant, principal string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/tenants/" + segment(tenant) + "/members/" + segment(principal)}, nil)
}

// CreatePrincipal makes a principal.
func (c *Client) CreatePrincipal(ctx context.Context, p CreatePrincipal) (Principal, error) {
	return send[Principal](ctx, c, http.MethodPost, "/principals", p)
}

// Policy returns a tenant's own document of policy.
func (c *Client) Policy(ctx context.Context, tenant string) (Policy, error) {
	return get[Policy](ctx, c, "/tenants/"+segment(tenant)+"/policy", nil)
}

// SetPolicy replaces a tenant's document of policy.
func (c *Client) SetPolicy(ctx context.Context, tenant string, p SetPolicy) (Policy, error) {
	return send[Policy](ctx, c, http.MethodPut, "/tenants/"+segment(tenant)+"/policy", p)
}

// RemovePolicy takes a tenant's document of policy away.
func (c *Client) RemovePolicy(ctx context.Context, tenant string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/tenants/" + segment(tenant) + "/policy"}, nil)
}

// CheckPolicy asks what a decision would be, and why.
func (c *Client) CheckPolicy(ctx context.Context, q CheckPolicy) (Decision, error) {
	return send[Decision](ctx, c, http.MethodPost, "/policy/check", q)
}

// Groups lists a tenant's groups with their members.
func (c *Client) Groups(ctx context.Context, tenant string) ([]Group, error) {
	p, err := get[Page[Group]](ctx, c, "/tenants/"+segment(tenant)+"/groups", nil)
	return p.Items, err
}

// JoinGroup puts a principal, by its ID or name, into a tenant's group, which is made if need be.
func (c *Client) JoinGroup(ctx context.Context, tenant, group, principal string) error {
	return c.do(ctx, call{method: http.MethodPut, path: groupMember(tenant, group, principal)}, nil)
}

// LeaveGroup takes a principal out of a tenant's group.
func (c *Client) LeaveGroup(ctx context.Context, tenant, group, principal string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: groupMember(tenant, group, principal)}, nil)
}

func groupMember(tenant, group, principal string) string {
	return "/tenants/" + segment(tenant) + "/groups/" + segment(group) + "/members/" + segment(principal)
}

// Principals lists the server's principals.
func (c *Client) Principals(ctx context.Context, cursor string, limit int) (Page[Principal], error) {
	return get[Page[Principal]](ctx, c, "/principals", paging(cursor, limit))
}

// Principal finds a principal by its ID or name.
func (c *Client) Principal(ctx context.Context, principal string) (Principal, error) {
	return get[Principal](ctx, c, "/principals/"+segment(principal), nil)
}

// DeletePrincipal deletes a principal with its tokens and memberships.
func (c *Client) DeletePrincipal(ctx context.Context, p id.Principal) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/principals/" + segment(string(p))}, nil)
}

// CreateToken makes a token. Its secret comes back this once.
func (c *Client) CreateToken(ctx context.Context, t CreateToken) (CreatedToken, error) {
	return send[CreatedToken](ctx, c, http.MethodPost, "/tokens", t)
}

// TokenFilter narrows Tokens. The zero TokenFilter lists the caller's own.
type TokenFilter struct {
	Principal id.Principal
	Repo      string // ID or TENANT/NAME
}

// Tokens lists tokens, newest last.
func (c *Client) Tokens(ctx context.Context, f TokenFilter, cursor string, limit int) (Page[Token], error) {
	q := paging(cursor, limit)
	if f.Principal != "" {
		q.Set("principal", string(f.Principal))
	}
	if f.Repo != "" {
		q.Set("repo", f.Repo)
	}
	return get[Page[Token]](ctx, c, "/tokens", q)
}

// RotateToken replaces the secret of the client's own token. The new one comes back this once; the client goes on with the old one, which is
// refused.
func (c *Client) RotateToken(ctx context.Context) (CreatedToken, error) {
	return send[CreatedToken](ctx, c, http.MethodPost, "/tokens/rotate", nil)
}

// RevokeToken ends a token, and those that were made with it.
func (c *Client) RevokeToken(ctx context.Context, t id.Token) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/tokens/" + segment(string(t))}, nil)
}
