package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/skep-dev/skep/internal/id"
)

// Sessions lists a principal's browser sessions, by its ID or name; "": the caller's own.
func (c *Client) Sessions(ctx context.Context, principal, cursor string, limit int) (Page[Session], error) {
	q := paging(cursor, limit)
	if principal != "" {
		q.Set("principal", principal)
	}
	return get[Page[Session]](ctx, c, "/sessions", q)
}

// RevokeSession ends a browser session.
func (c *Client) RevokeSession(ctx context.Context, s id.Session) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/sessions/" + segment(string(s))}, nil)
}

// Identities lists whom at providers a principal, by its ID or name, is.
func (c *Client) Identities(ctx context.Context, principal string) ([]ProviderIdentity, error) {
	p, err := get[Page[ProviderIdentity]](ctx, c, identities(principal), nil)
	return p.Items, err
}

// LinkIdentity lets somebody whom a provider knows log in as a principal.
func (c *Client) LinkIdentity(ctx context.Context, principal string, i LinkIdentity) (ProviderIdentity, error) {
	return send[ProviderIdentity](ctx, c, http.MethodPost, identities(principal), i)
}

// UnlinkIdentity takes that back.
func (c *Client) UnlinkIdentity(ctx context.Context, principal string, i LinkIdentity) error {
	q := url.Values{"issuer": {i.Issuer}, "subject": {i.Subject}}
	return c.do(ctx, call{method: http.MethodDelete, path: identities(principal), query: q}, nil)
}

func identities(principal string) string { return "/principals/" + segment(principal) + "/identities" }
