package client

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/id"
)

// SSHKey is a public key of a principal's.
type SSHKey struct {
	ID           id.Key       `json:"id" example:"key_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	Principal    id.Principal `json:"principal"`
	Title        string       `json:"title"`
	Kind         string       `json:"kind" example:"ssh-ed25519"`
	Key          string       `json:"key" doc:"As in an authorized_keys file, without comment"`
	Fingerprint  string       `json:"fingerprint" example:"SHA256:2kn0/2GXcBGEc6DmFJH1bQKBtA3VkWkDe6KfjlFr8v4"`
	CreatedAt    time.Time    `json:"created_at"`
	ExpiresAt    *time.Time   `json:"expires_at,omitempty" doc:"Missing: it does not expire"`
	LastUsedAt   *time.Time   `json:"last_used_at,omitempty" doc:"To the minute. Missing: never"`
	LastUsedFrom string       `json:"last_used_from,omitempty" doc:"An address"`
}

// AddSSHKey registers a public key.
type AddSSHKey struct {
	Key   string `json:"key" minLength:"1" maxLength:"16384" doc:"One line of an authorized_keys file, without options: Ed25519, ECDSA, or RSA of 2048 bits and more"`
	Title string `json:"title,omitempty" maxLength:"100" doc:"For people, in lists. Default: the key's comment"`
	TTL   string `json:"ttl,omitempty" maxLength:"40" example:"365d" doc:"How long it is good, in Go's notation or days. Default: for ever"`
}

// SSHKeys lists the SSH keys of a principal, by its ID or name.
func (c *Client) SSHKeys(ctx context.Context, principal string) ([]SSHKey, error) {
	p, err := get[Page[SSHKey]](ctx, c, "/principals/"+segment(principal)+"/keys", nil)
	return p.Items, err
}

// AddSSHKey registers a public key for a principal.
func (c *Client) AddSSHKey(ctx context.Context, principal string, k AddSSHKey) (SSHKey, error) {
	return send[SSHKey](ctx, c, http.MethodPost, "/principals/"+segment(principal)+"/keys", k)
}

// RemoveSSHKey takes a principal's key away.
func (c *Client) RemoveSSHKey(ctx context.Context, principal string, k id.Key) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/principals/" + segment(principal) + "/keys/" + segment(string(k))}, nil)
}
