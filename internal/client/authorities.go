package client

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// SSHAuthority signs SSH certificates for the accounts of a tenant.
type SSHAuthority struct {
	ID           id.SSHAuthority `json:"id" example:"sca_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	Name         string          `json:"name" example:"vault"`
	FullName     string          `json:"full_name" example:"acme/vault"`
	Kind         string          `json:"kind" example:"ssh-ed25519"`
	Key          string          `json:"key" doc:"As in an authorized_keys file, without comment"`
	Fingerprint  string          `json:"fingerprint" example:"SHA256:2kn0/2GXcBGEc6DmFJH1bQKBtA3VkWkDe6KfjlFr8v4"`
	Scope        policy.Scope    `json:"scope" enum:"read,write,admin" doc:"What its certificates let do"`
	MaxTTL       string          `json:"max_ttl,omitempty" example:"24h0m0s" doc:"How long a certificate may be good. Missing: as long as it says"`
	CreatedAt    time.Time       `json:"created_at"`
	LastUsedAt   *time.Time      `json:"last_used_at,omitempty" doc:"When one of its certificates was used last, to the minute. Missing: never yet"`
	LastUsedFrom string          `json:"last_used_from,omitempty" doc:"The address that it came from"`
}

// AddSSHAuthority asks for a tenant's trust in a key that signs SSH certificates.
type AddSSHAuthority struct {
	Name   string       `json:"name" minLength:"1" maxLength:"100" example:"vault"`
	Key    string       `json:"key" minLength:"1" maxLength:"16384" doc:"Its public key, one line of an authorized_keys file without options: Ed25519, ECDSA, or RSA of 2048 bits and more"`
	Scope  policy.Scope `json:"scope,omitempty" enum:"read,write,admin" default:"write" doc:"What its certificates let do"`
	MaxTTL string       `json:"max_ttl,omitempty" maxLength:"40" example:"24h" doc:"How long a certificate may be good, in Go's notation or days. Default: as long as it says"`
}

// SSHAuthorities lists who may sign SSH certificates for a tenant's accounts.
func (c *Client) SSHAuthorities(ctx context.Context, tenant string) ([]SSHAuthority, error) {
	p, err := get[Page[SSHAuthority]](ctx, c, "/tenants/"+segment(tenant)+"/ssh-authorities", nil)
	return p.Items, err
}

// AddSSHAuthority makes a tenant trust a key that signs SSH certificates for its accounts.
func (c *Client) AddSSHAuthority(ctx context.Context, tenant string, a AddSSHAuthority) (SSHAuthority, error) {
	return send[SSHAuthority](ctx, c, http.MethodPost, "/tenants/"+segment(tenant)+"/ssh-authorities", a)
}

// RemoveSSHAuthority makes a tenant trust an authority no longer.
func (c *Client) RemoveSSHAuthority(ctx context.Context, tenant, authority string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/tenants/" + segment(tenant) + "/ssh-authorities/" + segment(authority)}, nil)
}
