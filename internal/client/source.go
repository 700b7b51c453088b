package client

import (
	"context"
	"net/http"
)

// PolicySource is where a tenant's document of policy lives.
type PolicySource struct {
	Repo      string `json:"repo" example:"acme/policy"`
	Ref       string `json:"ref" example:"refs/heads/main"`
	Path      string `json:"path" example:"policy.toml"`
	Delegated bool   `json:"delegated" doc:"Whoever may push there may change the document"`
	Commit    string `json:"commit" doc:"The last one that changed it"`
}

// SetPolicySource asks for it.
type SetPolicySource struct {
	Repo      string `json:"repo" minLength:"1" maxLength:"700" example:"acme/policy" doc:"ID or TENANT/NAME. It takes repo.admin there"`
	Ref       string `json:"ref" minLength:"6" maxLength:"1024" example:"refs/heads/main" doc:"It must be there, with the file"`
	Path      string `json:"path" minLength:"1" maxLength:"1000" example:"policy.toml"`
	Delegated bool   `json:"delegated,omitempty" doc:"Let whoever may push there change the document; otherwise that takes tenant.admin as well"`
}

// SetPolicySource lets a tenant's document live in a repository.
func (c *Client) SetPolicySource(ctx context.Context, tenant string, s SetPolicySource) (Policy, error) {
	return send[Policy](ctx, c, http.MethodPut, "/tenants/"+segment(tenant)+"/policy/source", s)
}

// RemovePolicySource ends that. The document stays.
func (c *Client) RemovePolicySource(ctx context.Context, tenant string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/tenants/" + segment(tenant) + "/policy/source"}, nil)
}
