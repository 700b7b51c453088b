package control

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

// Tenant is a tenant. Path is its name below its parents' names: acme/platform.
type Tenant struct {
	ID      id.Tenant
	Parent  id.Tenant // empty at the top
	Path    string
	Created time.Time

	Suspended time.Time // since when; zero: it is not
}

// resource is how the audit log names a tenant.
func (t Tenant) resource() string { return "tenant/" + t.Path }

// CreateTenant makes a tenant whose parent (the path up to the last slash) exists.
func (c *Control) CreateTenant(ctx context.Context, path string) (Tenant, error) {
	parentPath, last, err := checkTenantPath(path)
	if err != nil {
		return Tenant{}, err
	}
	t := Tenant{ID: id.NewTenant(), Path: path, Created: c.timestamp()}
	err = c.change(ctx, func(q *txn) error {
		if parentPath != "" {
			parent, err := tenantByPath(q, parentPath)
			if err != nil {
				return err
			}
			t.Parent = parent.ID
			t.Path = parent.Path + "/" + last // the parent's own case
			if err := mustBeFree(q, parent, last, ""); err != nil {
				return err
			}
			if err := mustHaveRoom(q, parent, QuotaChildren); err != nil {
				return err
			}
		} else if err := pathMustBeFree(q, path); err != nil {
			return err
		}
		return makeTenant(q, t)
	}, nil)
	if err != nil {
		return Tenant{}, fmt.Errorf("create tenant: %w", err)
	}
	return t, nil
}

// mustBeFree reports whether a tenant can take another child or repository of this name: one path leads to one thing.
// The repository self, which is being renamed, is not in its own way.
func mustBeFree(q conn, t Tenant, name string, self id.Repo) error {
	taken, err := exists(q, "SELECT 1 FROM repo WHERE tenant_id = ? AND name_key = ? AND repo_id <> ?", t.ID, fold(name), self)
	if err != nil {
		return err
	}
	if taken {
		return fmt.Errorf("repository %s/%s: %w", t.Path, name, errkind.Exists)
	}
	return pathMustBeFree(q, t.Path+"/"+name)
}

func pathMustBeFree(q conn, path string) error {
	taken, err := exists(q, "SELECT 1 FROM tenant WHERE path_key = ?", fold(path))
	if err != nil {
		return err
	}
	if taken {
		return fmt.Errorf("tenant %s: %w", path, errkind.Exists)
	}
	return nil
}

// makeTenant stores a new tenant.
func makeTenant(q *txn, t Tenant) error {
	var parent any
	if t.Parent != "" {
		parent = t.Parent
	}
	if err := q.record(audit.Entry{Action: "tenant.create", Tenant: string(t.Parent), Resource: t.resource(), Detail: string(t.ID)}); err != nil {
		return err
	}
	return q.Exec("INSERT INTO tenant (tenant_id, parent_id, path, created) VALUES (?, ?, ?, ?)", t.ID, parent, t.Path, t.Created)
}

// Tenant finds a tenant by its identifier.
func (c *Control) Tenant(ctx context.Context, t id.Tenant) (out Tenant, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out, err = tenantByID(q, t)
		return err
	})
	return out, err
}

// TenantByPath finds a tenant by its path.
func (c *Control) TenantByPath(ctx context.Context, path string) (out Tenant, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out, err = tenantByPath(q, path)
		return err
	})
	return out, err
}

// tenantColumns selects tenants that are not deleted.
const tenantColumns = "SELECT tenant_id, parent_id, path, created, suspended FROM tenant WHERE deleted = 0 "

func scanTenant(r row) Tenant {
	return Tenant{ID: id.Tenant(r.Text(0)), Parent: id.Tenant(r.Text(1)), Path: r.Text(2), Created: r.Time(3), Suspended: r.Time(4)}
}

func tenantByID(q conn, t id.Tenant) (out Tenant, err error) {
	err = find(q, "tenant "+clip(string(t)), tenantColumns+"AND tenant_id = ?", func(r row) { out = scanTenant(r) }, t)
	return out, err
}

func tenantByPath(q conn, path string) (out Tenant, err error) {
	err = find(q, "tenant "+clip(path), tenantColumns+"AND path_key = ?", func(r row) { out = scanTenant(r) }, fold(path))
	return out, err
}

// TenantFilter narrows Tenants. The zero TenantFilter is all.
type TenantFilter struct {
	Parent id.Tenant // not empty: only the children of this one
}

// Tenants lists tenants by path, without regard to case, after a cursor (a path, "" at first).
func (c *Control) Tenants(ctx context.Context, f TenantFilter, after string, most int) (out []Tenant, err error) {
	query, args := tenantColumns+"AND path_key > ?", []any{fold(after)}
	if f.Parent != "" {
		query, args = query+" AND parent_id = ?", append(args, f.Parent)
	}
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		for r, err := range q.Query(query+" ORDER BY path_key LIMIT ?", append(args, page(most))...) {
			if err != nil {
				return err
			}
			out = append(out, scanTenant(r))
		}
		return nil
	})
	return out, err
}

// Census is how much there is right in a tenant, not below.
type Census struct{ Children, Repos, Members int }

// maxCensus is where counting stops: whoever may read a tenant may ask.
const maxCensus = 100_000

// Census counts.
func (c *Control) Census(ctx context.Context, t id.Tenant) (out Census, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		for _, k := range []struct {
			into *int
			from string
		}{
			{&out.Children, "tenant WHERE parent_id = ? AND deleted = 0"},
			{&out.Repos, "repo WHERE tenant_id = ?"},
			{&out.Members, "member WHERE tenant_id = ?"},
		} {
			count := "SELECT count(*) FROM (SELECT 1 FROM " + k.from + " LIMIT ?) AS some"
			if _, err := q.First(count, func(r row) { *k.into = int(r.Int64(0)) }, t, maxCensus); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}
