package client

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/id"
)

// DeployKey is a public key that lets do what git does with one repository.
type DeployKey struct {
	ID           id.DeployKey `json:"id" example:"dpl_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	Repo         id.Repo      `json:"repo_id"`
	Title        string       `json:"title"`
	Kind         string       `json:"kind" example:"ssh-ed25519"`
	Key          string       `json:"key" doc:"As in an authorized_keys file, without comment"`
	Fingerprint  string       `json:"fingerprint" example:"SHA256:2kn0/2GXcBGEc6DmFJH1bQKBtA3VkWkDe6KfjlFr8v4"`
	Write        bool         `json:"write" doc:"It may push as well"`
	By           id.Principal `json:"by" doc:"Who added it, who may be gone by now"`
	CreatedAt    time.Time    `json:"created_at"`
	ExpiresAt    *time.Time   `json:"expires_at,omitempty" doc:"Missing: it does not expire"`
	LastUsedAt   *time.Time   `json:"last_used_at,omitempty" doc:"To the minute. Missing: never"`
	LastUsedFrom string       `json:"last_used_from,omitempty" doc:"An address"`
}

// AddDeployKey lets a key use a repository.
type AddDeployKey struct {
	Key   string `json:"key" minLength:"1" maxLength:"16384" doc:"One line of an authorized_keys file, without options: Ed25519, ECDSA, or RSA of 2048 bits and more"`
	Write bool   `json:"write,omitempty" doc:"It may push as well"`
	Title string `json:"title,omitempty" maxLength:"100" doc:"For people, in lists. Default: the key's comment"`
	TTL   string `json:"ttl,omitempty" maxLength:"40" example:"365d" doc:"How long it is good, in Go's notation or days. Default: for ever"`
}

// DeployKeys lists the SSH keys of a repository.
func (c *Client) DeployKeys(ctx context.Context, repo string) ([]DeployKey, error) {
	p, err := get[Page[DeployKey]](ctx, c, "/repos/"+segment(repo)+"/deploy-keys", nil)
	return p.Items, err
}

// AddDeployKey lets a key use a repository, and no other.
func (c *Client) AddDeployKey(ctx context.Context, repo string, k AddDeployKey) (DeployKey, error) {
	return send[DeployKey](ctx, c, http.MethodPost, "/repos/"+segment(repo)+"/deploy-keys", k)
}

// RemoveDeployKey takes a repository's key away.
func (c *Client) RemoveDeployKey(ctx context.Context, repo string, k id.DeployKey) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/repos/" + segment(repo) + "/deploy-keys/" + segment(string(k))}, nil)
}
