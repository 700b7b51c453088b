package control

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/usage"
)

// Repo is a repository as the control plane knows it: everything about its content is the cell's.
type Repo struct {
	ID         id.Repo
	Tenant     id.Tenant
	TenantPath string
	Name       string // without .git
	Path       string // TENANT/NAME
	Public     bool
	Created    time.Time
	Updated    time.Time // of this record
	Shared     bool      // it may have shares: see SharesFor
}

// rename sets what a repository is called. Its tenant's path and its name are parts of its path, and take no memory of their own.
func (r *Repo) rename(tenantPath, name string) {
	r.Path = tenantPath + "/" + name
	r.TenantPath, r.Name = r.Path[:len(tenantPath)], r.Path[len(tenantPath)+1:]
}

// repoKey is a repository's name in lower case.
type repoKey struct {
	tenant id.Tenant
	name   string
}

// CreateRepo records a repository whose cell makeCell creates.
//
// The cell comes first, then the record: a crash between the two leaves a cell that nothing names, which is garbage that
// skep doctor reports, and never a repository without a cell. For the same reason a cell that was made stays even if
// the record then cannot be written: whether a commit that failed is on disk, nobody knows for certain. If makeCell
// fails, nothing is recorded. It runs outside the database's transaction, so that cells are made side by side; the name
// is kept for it meanwhile.
func (c *Control) CreateRepo(ctx context.Context, t id.Tenant, name string, public bool, makeCell func(Repo) error) (Repo, error) {
	r, err := c.createRepo(ctx, t, name, public, makeCell)
	if err != nil {
		return Repo{}, fmt.Errorf("create repository: %w", err)
	}
	return r, nil
}

func (c *Control) createRepo(ctx context.Context, t id.Tenant, name string, public bool, makeCell func(Repo) error) (Repo, error) {
	if err := checkName("repository name", name); err != nil {
		return Repo{}, err
	}
	key := repoKey{t, fold(name)}
	if !c.reserve(key) {
		return Repo{}, fmt.Errorf("repository %s is just being made: %w", name, errkind.Exists)
	}
	defer c.release(key)

	now := c.timestamp()
	r := Repo{ID: id.NewRepo(), Tenant: t, Public: public, Created: now, Updated: now}
	check := func(q conn) error {
		tenant, err := tenantByID(q, t)
		if err != nil {
			return err
		}
		r.rename(tenant.Path, name)
		if err := mustBeFree(q, tenant, name, ""); err != nil {
			return err
		}
		return mustHaveRoom(q, tenant, QuotaRepos)
	}
	if err := c.db.Read(ctx, check); err != nil {
		return Repo{}, err
	}
	if makeCell != nil {
		if err := makeCell(r); err != nil {
			return Repo{}, err
		}
	}
	err := c.change(ctx, func(q *txn) error {
		if err := check(q); err != nil { // again: the tenant may be gone, or a child may have taken the name
			return err
		}
		if err := q.recordRepo("repo.create", r, visibility(public)+", "+string(r.ID)); err != nil {
			return err
		}
		return q.Exec("INSERT INTO repo (tenant_id, repo_id, name, public, created, updated) VALUES (?, ?, ?, ?, ?, ?)",
			r.Tenant, r.ID, r.Name, r.Public, r.Created, r.Updated)
	}, nil)
	return r, err
}

// recordRepo says in the audit log what is done with a repository.
func (q *txn) recordRepo(action string, r Repo, detail string) error {
	return q.record(audit.Entry{Action: action, Tenant: string(r.Tenant), Resource: "repo/" + r.Path, Detail: detail})
}

func visibility(public bool) string {
	if public {
		return "public"
	}
	return "private"
}

// reserve keeps a name until release, unless somebody has it already.
func (c *Control) reserve(k repoKey) bool {
	c.makingMu.Lock()
	defer c.makingMu.Unlock()
	if c.making[k] {
		return false
	}
	c.making[k] = true
	return true
}

func (c *Control) release(k repoKey) {
	c.makingMu.Lock()
	defer c.makingMu.Unlock()
	delete(c.making, k)
}

const repoFields = "SELECT repo_id, tenant_id, tenant.path, name, public, repo.created, updated, shared FROM repo "

const (
	// repoColumns selects repositories of tenants that are not deleted.
	repoColumns = repoFields + "JOIN (SELECT tenant_id, path, path_key FROM tenant WHERE deleted = 0) AS tenant USING (tenant_id) "
	// repoColumnsEver selects those of deleted ones too.
	repoColumnsEver = repoFields + "JOIN tenant USING (tenant_id) "
)

func scanRepo(r row) Repo {
	out := Repo{ID: id.Repo(r.Text(0)), Tenant: id.Tenant(r.Text(1)), Public: r.Bool(4), Created: r.Time(5), Updated: r.Time(6), Shared: r.Bool(7)}
	out.rename(r.Text(2), r.Text(3))
	return out
}

// Repo finds a repository by its identifier.
func (c *Control) Repo(ctx context.Context, r id.Repo) (Repo, error) {
	if out, ok := c.cache.repos.get(r); ok {
		return out, nil
	}
	before := c.cache.repos.version()
	var out Repo
	err := c.db.Read(ctx, func(q conn) (err error) {
		out, err = repoByID(q, r)
		return err
	})
	if err != nil {
		return Repo{}, err
	}
	c.cache.repos.put(r, out, before)
	return out, nil
}

func repoByID(q conn, r id.Repo) (out Repo, err error) {
	err = find(q, "repository "+clip(string(r)), repoColumns+"WHERE repo_id = ?", func(r row) { out = scanRepo(r) }, r)
	return out, err
}

// RepoByName finds a repository by its tenant's path and its name, without regard to case.
func (c *Control) RepoByName(ctx context.Context, tenantPath, name string) (Repo, error) {
	path := pathKey{fold(tenantPath), fold(name)}
	if r, ok := c.cache.repoByPath(path); ok {
		return r, nil
	}
	before := c.cache.repos.version()
	var out Repo
	err := c.db.Read(ctx, func(q conn) error {
		return find(q, "repository "+clip(tenantPath)+"/"+clip(name),
			repoColumns+"WHERE path_key = ? AND name_key = ?", func(r row) { out = scanRepo(r) }, path.tenant, path.name)
	})
	if err != nil {
		return Repo{}, err
	}
	c.cache.repos.put(out.ID, out, before)
	c.cache.names.put(path, out.ID, c.cache.names.version())
	return out, nil
}

// RenameRepo gives a repository another name in its tenant.
func (c *Control) RenameRepo(ctx context.Context, r id.Repo, name string) (Repo, error) {
	if err := checkName("repository name", name); err != nil {
		return Repo{}, fmt.Errorf("rename repository: %w", err)
	}
	out, err := c.updateRepo(ctx, r, func(q *txn, out *Repo) error {
		if err := q.recordRepo("repo.rename", *out, "to "+name); err != nil {
			return err
		}
		out.rename(out.TenantPath, name)
		return mustBeFree(q, Tenant{ID: out.Tenant, Path: out.TenantPath}, name, out.ID)
	})
	if err != nil {
		return Repo{}, fmt.Errorf("rename repository: %w", err)
	}
	return out, nil
}

// SetPublic lets everybody read a repository, or no longer.
func (c *Control) SetPublic(ctx context.Context, r id.Repo, public bool) (Repo, error) {
	out, err := c.updateRepo(ctx, r, func(q *txn, out *Repo) error {
		out.Public = public
		return q.recordRepo("repo.visibility", *out, visibility(public))
	})
	if err != nil {
		return Repo{}, fmt.Errorf("change visibility: %w", err)
	}
	return out, nil
}

func (c *Control) updateRepo(ctx context.Context, r id.Repo, change func(*txn, *Repo) error) (out Repo, err error) {
	err = c.change(ctx, func(q *txn) error {
		if out, err = repoByID(q, r); err != nil {
			return err
		}
		if err := change(q, &out); err != nil {
			return err
		}
		out.Updated = c.timestamp()
		return q.Exec("UPDATE repo SET name = ?, public = ?, updated = ? WHERE tenant_id = ? AND repo_id = ?",
			out.Name, out.Public, out.Updated, out.Tenant, out.ID)
	}, func() { c.cache.dropRepo(r) }, repoKind)
	return out, err
}

// DeleteRepo forgets a repository and the tokens that were good for it alone. Its cell is then garbage.
func (c *Control) DeleteRepo(ctx context.Context, r id.Repo) error {
	forget := func() {
		c.cache.dropRepo(r)
		c.cache.principals.clear()
	}
	err := c.change(ctx, func(q *txn) error {
		found, err := repoByID(q, r)
		if err != nil {
			return err
		}
		if err := q.recordRepo("repo.delete", found, string(r)); err != nil {
			return err
		}
		if err := endStorage(q, usage.Key{Tenant: found.Tenant, Repo: found.ID}, q.at); err != nil {
			return err
		}
		return q.Exec("DELETE FROM repo WHERE tenant_id = ? AND repo_id = ?", found.Tenant, found.ID)
	}, forget, principalKind, repoKind)
	if err != nil {
		return fmt.Errorf("delete repository: %w", err)
	}
	return nil
}
