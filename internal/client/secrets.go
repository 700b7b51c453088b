package client

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/id"
)

// Secret is what is known of a secret. Its value never comes back.
type Secret struct {
	Name     string          `json:"name" example:"DEPLOY_KEY"`
	Version  int64           `json:"version" doc:"The one that counts: the newest"`
	Versions []SecretVersion `json:"versions" doc:"Those that are kept, the newest first"`
}

// SecretVersion is a value that a secret has or had.
type SecretVersion struct {
	Version   int64        `json:"version"`
	CreatedBy id.Principal `json:"created_by"`
	CreatedAt time.Time    `json:"created_at"`
}

// SetSecret gives a secret a value.
type SetSecret struct {
	Value string `json:"value" minLength:"1" maxLength:"49152" doc:"At most 48 KiB of text. It is stored encrypted and never shown again"`
}

// RestoreSecret makes an older value the newest one.
type RestoreSecret struct {
	Version int64 `json:"version" minimum:"1" doc:"The version to go back to. Its value becomes a new version"`
}

// SecretOwner is a tenant or a repository as what secrets belong to.
type SecretOwner struct{ path string }

// SecretsOfTenant names a tenant by its ID or path.
func SecretsOfTenant(tenant string) SecretOwner {
	return SecretOwner{"/tenants/" + segment(tenant) + "/secrets"}
}

// SecretsOfRepo names a repository by its ID or TENANT/NAME.
func SecretsOfRepo(repo string) SecretOwner {
	return SecretOwner{"/repos/" + segment(repo) + "/secrets"}
}

// Secrets lists an owner's secrets by name.
func (c *Client) Secrets(ctx context.Context, o SecretOwner) ([]Secret, error) {
	p, err := get[Page[Secret]](ctx, c, o.path, nil)
	return p.Items, err
}

// SetSecret gives a secret a value, as a new version.
func (c *Client) SetSecret(ctx context.Context, o SecretOwner, name, value string) (SecretVersion, error) {
	return send[SecretVersion](ctx, c, http.MethodPut, o.path+"/"+segment(name), SetSecret{Value: value})
}

// RestoreSecret makes an older version's value the newest one again.
func (c *Client) RestoreSecret(ctx context.Context, o SecretOwner, name string, version int64) (SecretVersion, error) {
	return send[SecretVersion](ctx, c, http.MethodPost, o.path+"/"+segment(name)+"/restore", RestoreSecret{Version: version})
}

// DeleteSecret deletes a secret with all its versions.
func (c *Client) DeleteSecret(ctx context.Context, o SecretOwner, name string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: o.path + "/" + segment(name)}, nil)
}
