package control

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

// DeployKey is a public key that lets do what git does with one repository, and nothing else. It is nobody's own: whoever added it may
// be gone.
type DeployKey struct {
	ID          id.DeployKey
	Tenant      id.Tenant // of the repository
	Repo        id.Repo
	Title       string
	Kind        string // ssh-ed25519, ssh-rsa, …
	Public      []byte // in SSH's wire format
	Fingerprint string // SHA256:…
	Writes      bool   // or it only reads
	By          id.Principal
	Created     time.Time
	Expires     time.Time // zero: never

	Use
}

// maxDeployKeys is how many a repository may have; they are listed whole.
const maxDeployKeys = 50

// AddDeployKey registers a key for a repository. Of k it takes Repo, Title, Kind, Public, Fingerprint, Writes, By and Expires. A key is
// one repository's or one principal's: a second time it is errkind.Exists, which does not say whose it is.
func (c *Control) AddDeployKey(ctx context.Context, k DeployKey) (DeployKey, error) {
	k.ID, k.Created, k.Use = id.NewDeployKey(), c.timestamp(), Use{}
	var err error
	if k.Expires, err = checkKey(k.Title, k.Created, k.Expires); err == nil {
		err = c.change(ctx, func(q *txn) error {
			repo, err := repoByID(q, k.Repo)
			if err != nil {
				return err
			}
			k.Tenant = repo.Tenant
			if err := mustBeNobodys(q, k.Fingerprint); err != nil {
				return err
			}
			if err := q.recordRepo("deploy-key.add", repo, k.detail()); err != nil {
				return err
			}
			if err := q.Exec(`INSERT INTO deploy_key (tenant_id, repo_id, key_id, fingerprint, title, kind, public, writes, principal_id, created, expires)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
				k.Tenant, k.Repo, k.ID, k.Fingerprint, k.Title, k.Kind, k.Public, k.Writes, k.By, k.Created, k.Expires); err != nil {
				return err
			}
			return mustHold(q, "deploy keys of the repository", maxDeployKeys, "SELECT 1 FROM deploy_key WHERE tenant_id = ? AND repo_id = ? LIMIT 1 OFFSET ?", k.Tenant, k.Repo)
		}, nil)
	}
	if err != nil {
		return DeployKey{}, fmt.Errorf("add deploy key: %w", err)
	}
	return k, nil
}

func (k DeployKey) detail() string {
	may := "reads"
	if k.Writes {
		may = "reads and writes"
	}
	return fmt.Sprintf("%s, %q, %s %s, %s", k.ID, k.Title, k.Kind, k.Fingerprint, may)
}

// mustBeNobodys refuses a key that is somebody's or some repository's.
func mustBeNobodys(q conn, fingerprint string) error {
	for _, query := range []string{"SELECT 1 FROM ssh_key WHERE fingerprint = ?", "SELECT 1 FROM deploy_key WHERE fingerprint = ?"} {
		switch taken, err := exists(q, query, fingerprint); {
		case err != nil:
			return err
		case taken:
			return fmt.Errorf("this key is in use on this server; make another with ssh-keygen: %w", errkind.Exists)
		}
	}
	return nil
}

const deployKeyColumns = `SELECT key_id, tenant_id, repo_id, title, kind, public, fingerprint, writes, principal_id, created, expires, used, used_from
	FROM deploy_key `

func scanDeployKey(r row) DeployKey {
	return DeployKey{
		ID: id.DeployKey(r.Text(0)), Tenant: id.Tenant(r.Text(1)), Repo: id.Repo(r.Text(2)), Title: r.Text(3), Kind: r.Text(4), Public: r.Bytes(5),
		Fingerprint: r.Text(6), Writes: r.Bool(7), By: id.Principal(r.Text(8)), Created: r.Time(9), Expires: r.Time(10), Use: scanUse(r, 11),
	}
}

// DeployKeys lists a repository's keys, of which there are few, expired ones too.
func (c *Control) DeployKeys(ctx context.Context, r id.Repo) (out []DeployKey, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		repo, err := repoByID(q, r)
		if err != nil {
			return err
		}
		for r, err := range q.Query(deployKeyColumns+"WHERE tenant_id = ? AND repo_id = ? ORDER BY key_id", repo.Tenant, repo.ID) {
			if err != nil {
				return err
			}
			out = append(out, scanDeployKey(r))
		}
		return nil
	})
	for n := range out {
		c.uses.add(string(out[n].ID), &out[n].Use)
	}
	return out, err
}

// RemoveDeployKey takes a key of a repository away. Once it returns, the key is refused.
func (c *Control) RemoveDeployKey(ctx context.Context, r id.Repo, k id.DeployKey) error {
	err := c.change(ctx, func(q *txn) error {
		repo, err := repoByID(q, r)
		if err != nil {
			return err
		}
		var found DeployKey
		if err := find(q, "deploy key "+clip(string(k)), deployKeyColumns+"WHERE tenant_id = ? AND repo_id = ? AND key_id = ?",
			func(r row) { found = scanDeployKey(r) }, repo.Tenant, repo.ID, k); err != nil {
			return err
		}
		if err := q.record(audit.Entry{Action: "deploy-key.remove", Tenant: string(repo.Tenant), Resource: "repo/" + repo.Path, Detail: found.detail()}); err != nil {
			return err
		}
		return q.Exec("DELETE FROM deploy_key WHERE tenant_id = ? AND repo_id = ? AND key_id = ?", repo.Tenant, repo.ID, k)
	}, c.cache.principals.clear, principalKind)
	if err != nil {
		return fmt.Errorf("remove deploy key: %w", err)
	}
	return nil
}
