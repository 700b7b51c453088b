package client

import (
	"context"
	"net/http"
)

// Quotas are how much of each kind a tenant may have, or has; the tenants below it count for it. Of what is missing it may have
// as much as it likes.
type Quotas struct {
	Storage       *int64 `json:"storage_bytes,omitempty" minimum:"0" doc:"Bytes of all repositories: databases and packs"`
	Repositories  *int64 `json:"repositories,omitempty" minimum:"0"`
	Children      *int64 `json:"children,omitempty" minimum:"0" doc:"Tenants below it, at any depth"`
	Members       *int64 `json:"members,omitempty" minimum:"0" doc:"Memberships"`
	Fetches       *int64 `json:"fetches_per_hour,omitempty" minimum:"0" doc:"Fetches and archives"`
	Pushes        *int64 `json:"pushes_per_hour,omitempty" minimum:"0"`
	Calls         *int64 `json:"calls_per_hour,omitempty" minimum:"0" doc:"Other calls over REST"`
	BytesOutDay   *int64 `json:"bytes_out_per_day,omitempty" minimum:"0" doc:"Bytes of answers, from midnight UTC"`
	BytesOutMonth *int64 `json:"bytes_out_per_month,omitempty" minimum:"0"`
}

// QuotaField is one of a Quotas' fields.
type QuotaField struct {
	Name  string // as in the audit log, and as a flag
	Bytes bool   // it counts bytes
	Value **int64
}

// Fields lists them.
func (q *Quotas) Fields() []QuotaField {
	return []QuotaField{
		{"storage", true, &q.Storage},
		{"repositories", false, &q.Repositories},
		{"children", false, &q.Children},
		{"members", false, &q.Members},
		{"fetches", false, &q.Fetches},
		{"pushes", false, &q.Pushes},
		{"calls", false, &q.Calls},
		{"bytes-out-day", true, &q.BytesOutDay},
		{"bytes-out-month", true, &q.BytesOutMonth},
	}
}

// TenantQuota is what a tenant may have and what it has, with the tenants below it.
type TenantQuota struct {
	Limits Quotas `json:"limits" doc:"Its own. Those of the tenants above it count as well"`
	Used   Quotas `json:"used" doc:"As of some seconds ago"`
}

// TenantQuota returns a tenant's quotas.
func (c *Client) TenantQuota(ctx context.Context, tenant string) (TenantQuota, error) {
	return get[TenantQuota](ctx, c, "/tenants/"+segment(tenant)+"/quota", nil)
}

// SetTenantQuota replaces them.
func (c *Client) SetTenantQuota(ctx context.Context, tenant string, q Quotas) (TenantQuota, error) {
	return send[TenantQuota](ctx, c, http.MethodPut, "/tenants/"+segment(tenant)+"/quota", q)
}
