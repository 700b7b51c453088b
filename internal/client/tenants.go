package client

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/id"
)

// TenantDetails is a tenant with how much there is right in it, not below. Counting stops at 100,000.
type TenantDetails struct {
	Tenant
	Children int `json:"children"`
	Repos    int `json:"repos"`
	Members  int `json:"members"`
}

// MoveTenant asks for another path.
type MoveTenant struct {
	Path string `json:"path" minLength:"1" maxLength:"400" example:"partners/platform" doc:"The new path: the parent, which exists, and the name there"`
}

// DeletedTenant is a tenant that was deleted with all below it, and can be restored.
type DeletedTenant struct {
	ID          id.Tenant `json:"id"`
	Path        string    `json:"path" doc:"Which it had"`
	DeletedAt   time.Time `json:"deleted_at"`
	PurgedAfter time.Time `json:"purged_after" doc:"From then on it is removed for good"`
}

// RestoreTenant says where a deleted tenant comes back.
type RestoreTenant struct {
	Path string `json:"path,omitempty" maxLength:"400" doc:"Default: its name of before, below the same tenant"`
}

// Tenants lists the tenants that the caller may see, by path.
func (c *Client) Tenants(ctx context.Context, cursor string, limit int) (Page[Tenant], error) {
	return c.Children(ctx, "", cursor, limit)
}

// Children lists those of them that lie right in a tenant ("" for all).
func (c *Client) Children(ctx context.Context, parent, cursor string, limit int) (Page[Tenant], error) {
	q := paging(cursor, limit)
	if parent != "" {
		q.Set("parent", parent)
	}
	return get[Page[Tenant]](ctx, c, "/tenants", q)
}

// Tenant finds a tenant by its ID or path. So does every other method that takes a tenant.
func (c *Client) Tenant(ctx context.Context, tenant string) (TenantDetails, error) {
	return get[TenantDetails](ctx, c, tenantPath(tenant, ""), nil)
}

func tenantPath(tenant, rest string) string { return "/tenants/" + segment(tenant) + rest }

// SuspendTenant suspends a tenant and all below it.
func (c *Client) SuspendTenant(ctx context.Context, tenant string) (Tenant, error) {
	return send[Tenant](ctx, c, http.MethodPost, tenantPath(tenant, "/suspend"), nil)
}

// ResumeTenant ends that.
func (c *Client) ResumeTenant(ctx context.Context, tenant string) (Tenant, error) {
	return send[Tenant](ctx, c, http.MethodPost, tenantPath(tenant, "/resume"), nil)
}

// MoveTenant gives a tenant another path, and with it everything below it.
func (c *Client) MoveTenant(ctx context.Context, tenant, path string) (Tenant, error) {
	return send[Tenant](ctx, c, http.MethodPost, tenantPath(tenant, "/move"), MoveTenant{Path: path})
}

// DeleteTenant deletes a tenant, for a time in which it can be restored; recursive: with children and repositories.
func (c *Client) DeleteTenant(ctx context.Context, tenant string, recursive bool) error {
	q := paging("", 0)
	if recursive {
		q.Set("recursive", "true")
	}
	return c.do(ctx, call{method: http.MethodDelete, path: tenantPath(tenant, ""), query: q}, nil)
}

// DeletedTenants lists the deleted tenants that the caller may restore.
func (c *Client) DeletedTenants(ctx context.Context, cursor string, limit int) (Page[DeletedTenant], error) {
	return get[Page[DeletedTenant]](ctx, c, "/deleted-tenants", paging(cursor, limit))
}

// RestoreTenant brings a deleted tenant back, under a path or ("") where it was.
func (c *Client) RestoreTenant(ctx context.Context, t id.Tenant, path string) (Tenant, error) {
	return send[Tenant](ctx, c, http.MethodPost, "/deleted-tenants/"+segment(string(t))+"/restore", RestoreTenant{Path: path})
}
