package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/sqlite"
)

// Repo is a repository as the control plane knows it: everything about its content is the cell's.
type Repo struct {
	ID         id.Repo
	Tenant     id.Tenant
	TenantPath string
	Name       string // without .git
	Public     bool
	Created    time.Time
	Updated    time.Time // of this record
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
	key := repoKey{t, strings.ToLower(name)}
	if !c.reserve(key) {
		return Repo{}, fmt.Errorf("repository %s is just being made: %w", name, errkind.Exists)
	}
	defer c.release(key)

	now := c.timestamp()
	r := Repo{ID: id.NewRepo(), Tenant: t, Name: name, Public: public, Created: now, Updated: now}
	check := func(q *sqlite.Conn) error {
		tenant, err := tenantByID(q, t)
		if err != nil {
			return err
		}
		r.TenantPath = tenant.Path
		return mustBeFree(q, tenant, name, "")
	}
	if err := c.db.Read(ctx, check); err != nil {
		return Repo{}, err
	}
	if makeCell != nil {
		if err := makeCell(r); err != nil {
			return Repo{}, err
		}
	}
	err := c.db.Write(ctx, func(q *sqlite.Conn) error {
		if err := check(q); err != nil { // again: the tenant may be gone, or a child may have taken the name
			return err
		}
		return q.Exec("INSERT INTO repo (tenant_id, repo_id, name, public, created, updated) VALUES (?, ?, ?, ?, ?, ?)",
			r.Tenant, r.ID, r.Name, r.Public, r.Created, r.Updated)
	})
	return r, err
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

const repoColumns = `SELECT repo_id, tenant_id, tenant.path, name, public, repo.created, updated
	FROM repo JOIN tenant USING (tenant_id) `

func scanRepo(r *sqlite.Row) Repo {
	return Repo{
		ID: id.Repo(r.Text(0)), Tenant: id.Tenant(r.Text(1)), TenantPath: r.Text(2), Name: r.Text(3),
		Public: r.Bool(4), Created: r.Time(5), Updated: r.Time(6),
	}
}

// Repo finds a repository by its identifier.
func (c *Control) Repo(ctx context.Context, r id.Repo) (Repo, error) {
	if out, ok := c.cache.repos.get(r); ok {
		return out, nil
	}
	before := c.cache.repos.version()
	var out Repo
	err := c.db.Read(ctx, func(q *sqlite.Conn) (err error) {
		out, err = repoByID(q, r)
		return err
	})
	if err != nil {
		return Repo{}, err
	}
	c.cache.repos.put(r, out, before)
	return out, nil
}

func repoByID(q *sqlite.Conn, r id.Repo) (out Repo, err error) {
	ok, err := q.First(repoColumns+"WHERE repo_id = ?", func(row *sqlite.Row) { out = scanRepo(row) }, r)
	if err == nil && !ok {
		err = notFound("repository " + clip(string(r)))
	}
	return out, err
}

// RepoByName finds a repository by its tenant's path and its name, without regard to case.
func (c *Control) RepoByName(ctx context.Context, tenantPath, name string) (Repo, error) {
	if !isASCII(tenantPath) || !isASCII(name) {
		// The database folds ASCII only, but strings.ToLower makes a k of the Kelvin sign.
		return Repo{}, notFound("repository")
	}
	path := pathKey{strings.ToLower(tenantPath), strings.ToLower(name)}
	if r, ok := c.cache.repoByPath(path); ok {
		return r, nil
	}
	before := c.cache.repos.version()
	var out Repo
	found := false
	err := c.db.Read(ctx, func(q *sqlite.Conn) (err error) {
		found, err = q.First(repoColumns+"WHERE tenant.path = ? AND name = ?", func(row *sqlite.Row) { out = scanRepo(row) }, tenantPath, name)
		return err
	})
	if err == nil && !found {
		err = notFound("repository " + clip(tenantPath) + "/" + clip(name))
	}
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
	out, err := c.updateRepo(ctx, r, func(q *sqlite.Conn, out *Repo) error {
		out.Name = name
		return mustBeFree(q, Tenant{ID: out.Tenant, Path: out.TenantPath}, name, out.ID)
	})
	if err != nil {
		return Repo{}, fmt.Errorf("rename repository: %w", err)
	}
	return out, nil
}

// SetPublic lets everybody read a repository, or no longer.
func (c *Control) SetPublic(ctx context.Context, r id.Repo, public bool) (Repo, error) {
	out, err := c.updateRepo(ctx, r, func(_ *sqlite.Conn, out *Repo) error {
		out.Public = public
		return nil
	})
	if err != nil {
		return Repo{}, fmt.Errorf("change visibility: %w", err)
	}
	return out, nil
}

func (c *Control) updateRepo(ctx context.Context, r id.Repo, change func(*sqlite.Conn, *Repo) error) (out Repo, err error) {
	defer c.cache.repos.drop(r)
	err = c.db.Write(ctx, func(q *sqlite.Conn) error {
		if out, err = repoByID(q, r); err != nil {
			return err
		}
		if err := change(q, &out); err != nil {
			return err
		}
		out.Updated = c.timestamp()
		return q.Exec("UPDATE repo SET name = ?, public = ?, updated = ? WHERE tenant_id = ? AND repo_id = ?",
			out.Name, out.Public, out.Updated, out.Tenant, out.ID)
	})
	return out, err
}

// DeleteRepo forgets a repository and the tokens that were good for it alone. Its cell is then garbage.
func (c *Control) DeleteRepo(ctx context.Context, r id.Repo) error {
	defer c.cache.principals.clear()
	defer c.cache.repos.drop(r)
	err := c.db.Write(ctx, func(q *sqlite.Conn) error {
		found, err := repoByID(q, r)
		if err != nil {
			return err
		}
		return q.Exec("DELETE FROM repo WHERE tenant_id = ? AND repo_id = ?", found.Tenant, found.ID)
	})
	if err != nil {
		return fmt.Errorf("delete repository: %w", err)
	}
	return nil
}
