package client

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/id"
)

// Share lets a tenant below a repository's own read that repository.
type Share struct {
	TenantID  id.Tenant    `json:"tenant_id"`
	Tenant    string       `json:"tenant" doc:"Its path" example:"acme/child"`
	Children  bool         `json:"children" doc:"The tenants below it too"`
	By        id.Principal `json:"by" doc:"Who shared it"`
	CreatedAt time.Time    `json:"created_at"`
}

// SetShare says how a repository is shared.
type SetShare struct {
	Children bool `json:"children,omitempty" doc:"With the tenants below it too, those made later among them"`
}

// Shares lists the tenants that a repository is shared with.
func (c *Client) Shares(ctx context.Context, repo string) ([]Share, error) {
	p, err := get[Page[Share]](ctx, c, repoPath(repo, "/shares"), nil)
	return p.Items, err
}

// SetShare shares a repository with a tenant below its own.
func (c *Client) SetShare(ctx context.Context, repo, tenant string, s SetShare) (Share, error) {
	return send[Share](ctx, c, http.MethodPut, repoPath(repo, "/shares/"+segment(tenant)), s)
}

// RemoveShare ends a share.
func (c *Client) RemoveShare(ctx context.Context, repo, tenant string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: repoPath(repo, "/shares/"+segment(tenant))}, nil)
}
