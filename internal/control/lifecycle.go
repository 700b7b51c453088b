package control

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

// maxSubtree bounds the tenants that one move, deletion or restoration takes along, in one transaction.
const maxSubtree = 10_000

// below is the tenants of a subtree: ?1, and those below it that are of the same deletion, ?2; for the living that is "".
const below = `(WITH RECURSIVE below (tenant_id) AS (
		SELECT tenant_id FROM tenant WHERE tenant_id = ?1
		UNION ALL SELECT tenant.tenant_id FROM tenant JOIN below ON tenant.parent_id = below.tenant_id WHERE tenant.deleted_with = ?2
	) SELECT tenant_id FROM below)`

// above is the tenant ?1 and those above it.
const above = `(WITH RECURSIVE above (tenant_id, parent_id) AS (
		SELECT tenant_id, parent_id FROM tenant WHERE tenant_id = ?1
		UNION ALL SELECT tenant.tenant_id, tenant.parent_id FROM tenant JOIN above ON tenant.tenant_id = above.parent_id
	) SELECT tenant_id FROM above)`

// nothing is no tenant.
const nothing = "('')"

// SuspendTenant suspends a tenant with all below it, or ends that. errkind.Conflict when it is so already.
func (c *Control) SuspendTenant(ctx context.Context, t id.Tenant, suspend bool) (Tenant, error) {
	action, already := "tenant.resume", "not suspended"
	if suspend {
		action, already = "tenant.suspend", "suspended already"
	}
	var out Tenant
	err := c.change(ctx, func(q *txn) (err error) {
		if out, err = tenantByID(q, t); err != nil {
			return err
		}
		if out.Suspended.IsZero() != suspend {
			return fmt.Errorf("tenant %s is %s: %w", out.Path, already, errkind.Conflict)
		}
		out.Suspended = time.Time{}
		if suspend {
			out.Suspended = c.timestamp()
		}
		if err := q.record(audit.Entry{Action: action, Tenant: string(t), Resource: out.resource()}); err != nil {
			return err
		}
		return q.Exec("UPDATE tenant SET suspended = ? WHERE tenant_id = ?", out.Suspended, t)
	}, c.cache.standings.clear, lineageKind)
	if err != nil {
		return Tenant{}, fmt.Errorf("suspend or resume: %w", err)
	}
	return out, nil
}

// MoveTenant gives a tenant another parent ("" is the top), another name, or both, with all below it. t is the tenant as the
// caller judged it: errkind.Conflict if its parent is another one by now.
//
// Documents of policy that would then speak of what is not in their tenants stop it. Shares whose repository is no longer
// above the tenant that they are with end, and so do the roles of accounts whose tenant is no longer above. A policy that lives in
// a repository on the other side stays, and lives there no longer.
func (c *Control) MoveTenant(ctx context.Context, t Tenant, parent id.Tenant, name string) (Tenant, error) {
	var out Tenant
	err := c.change(ctx, func(q *txn) error {
		found, err := tenantByID(q, t.ID)
		if err != nil {
			return err
		}
		if found.Parent != t.Parent {
			return fmt.Errorf("tenant %s has been moved meanwhile: %w", found.Path, errkind.Conflict)
		}
		out = found
		if out.Path, err = placeFor(q, found, parent, name); err != nil {
			return err
		}
		out.Parent = parent
		ended, err := c.relocate(q, found, "", out)
		if err != nil {
			return err
		}
		if err := q.record(audit.Entry{Action: "tenant.move", Tenant: string(t.ID), Resource: found.resource(), Detail: "to " + out.Path + ended}); err != nil {
			return err
		}
		if parent == found.Parent {
			return nil // another name
		}
		return mustFit(q, out)
	}, c.cache.dropTenants, lineageKind, principalKind, repoKind)
	if err != nil {
		return Tenant{}, fmt.Errorf("move tenant: %w", err)
	}
	return out, nil
}

// placeFor finds the path of a tenant below a parent ("" is the top), and makes sure that it is free.
func placeFor(q conn, t Tenant, parent id.Tenant, name string) (string, error) {
	if err := checkName("tenant name", name); err != nil {
		return "", err
	}
	if parent == "" {
		if _, _, err := checkTenantPath(name); err != nil {
			return "", err
		}
		if fold(name) == fold(t.Path) {
			return name, nil
		}
		return name, pathMustBeFree(q, name)
	}
	up, err := tenantByID(q, parent)
	if err != nil {
		return "", err
	}
	path := up.Path + "/" + name
	if _, _, err := checkTenantPath(path); err != nil {
		return "", err
	}
	for at := up; ; {
		if at.ID == t.ID {
			return "", fmt.Errorf("tenant %s cannot lie in itself: %w", t.Path, errkind.Invalid)
		}
		if at.Parent == "" {
			break
		}
		if at, err = tenantByID(q, at.Parent); err != nil {
			return "", err
		}
	}
	if fold(path) == fold(t.Path) {
		return path, nil // another case
	}
	return path, mustBeFree(q, up, name, "")
}

// relocate gives a tenant another path and parent, and another path to all below it of the same deletion ("" is none). It says, for
// the audit log, what ended with that.
func (c *Control) relocate(q conn, from Tenant, deletion id.Tenant, to Tenant) (ended string, err error) {
	if err := checkSubtree(q, from, deletion, to.Path); err != nil {
		return "", err
	}
	if err := c.checkDocuments(q, from, deletion, to.Path); err != nil {
		return "", err
	}
	if err := rename(q, from, deletion, to.Path); err != nil {
		return "", err
	}
	var parent any
	if to.Parent != "" {
		parent = to.Parent
	}
	if err := q.Exec("UPDATE tenant SET parent_id = ? WHERE tenant_id = ?", parent, from.ID); err != nil {
		return "", err
	}
	n, err := endShares(q, from.ID, deletion)
	if n > 0 {
		ended = fmt.Sprintf(", %d shares ended", n)
	}
	if err == nil {
		err = endVisits(q, from.ID, deletion)
	}
	if err != nil {
		return ended, err
	}
	homeless, err := endSources(q, from.ID, deletion, above)
	return ended + homeless, err
}

// rename writes the paths of a subtree anew, and the names of its accounts, which begin with them. No row meets another one's old
// path: the new root's path was free, and so is all below it.
func rename(q conn, from Tenant, deletion id.Tenant, path string) error {
	args := []any{from.ID, deletion, path, len(from.Path) + 1}
	if err := q.Exec("UPDATE principal SET name = ?3 || substr(name, ?4) WHERE home_id IN "+below, args...); err != nil {
		return err
	}
	return q.Exec("UPDATE tenant SET path = ?3 || substr(path, ?4) WHERE tenant_id IN "+below, args...)
}

// checkSubtree refuses what would be too much, too deep or too long.
func checkSubtree(q conn, from Tenant, deletion id.Tenant, path string) error {
	n := 0
	for r, err := range q.Query("SELECT path FROM tenant WHERE tenant_id IN "+below+" LIMIT ?3", from.ID, deletion, maxSubtree+1) {
		if err != nil {
			return err
		}
		if n++; n > maxSubtree {
			return fmt.Errorf("more than %d tenants at once: take a part of them first: %w", maxSubtree, errkind.TooLarge)
		}
		moved := path + r.Text(0)[len(from.Path):]
		if len(moved) > maxPathBytes {
			return fmt.Errorf("tenant path %q is longer than %d bytes: %w", clip(moved), maxPathBytes, errkind.TooLarge)
		}
		if _, _, err := checkTenantPath(moved); err != nil {
			return err
		}
	}
	return nil
}

// checkDocuments refuses a new path that a document of the subtree does not speak of.
func (c *Control) checkDocuments(q conn, from Tenant, deletion id.Tenant, path string) error {
	if fold(path) == fold(from.Path) {
		return nil
	}
	query := `SELECT tenant_id, version, path, document FROM policy JOIN (SELECT tenant_id, path FROM tenant) AS tenant USING (tenant_id)
		WHERE document <> '' AND tenant_id IN ` + below
	for r, err := range q.Query(query, from.ID, deletion) {
		if err != nil {
			return err
		}
		d := document{key: documentKey{id.Tenant(r.Text(0)), r.Int64(1)}, path: path + r.Text(2)[len(from.Path):], text: r.Text(3)}
		doc, err := c.parsed(d)
		if err == nil {
			err = doc.Inside(d.path)
		}
		if err != nil {
			return fmt.Errorf("the policy of %s does not fit its new path: change or remove it first: %w", r.Text(2), err)
		}
	}
	return nil
}

// waiting is where deleted tenants are: nobody's path begins so.
const waiting = "-/"

// DeleteTenant deletes a tenant. If it has repositories, documents or children, errkind.Conflict unless all that goes along, recursive.
// It is gone at once for everybody, and its path is free; until Purge comes for it, RestoreTenant brings it back. Where a policy of
// one that goes lives in a repository of one that stays, or the other way round, that ends for good: nobody could end it meanwhile.
func (c *Control) DeleteTenant(ctx context.Context, t id.Tenant, recursive bool) error {
	err := c.change(ctx, func(q *txn) error {
		found, err := tenantByID(q, t)
		if err != nil {
			return err
		}
		const inside = `SELECT 1 FROM tenant WHERE parent_id = ?1 AND deleted = 0
			UNION ALL SELECT 1 FROM repo WHERE tenant_id = ?1 UNION ALL SELECT 1 FROM document WHERE tenant_id = ?1 LIMIT 1`
		full, err := exists(q, inside, t)
		if err != nil {
			return err
		}
		if full && !recursive {
			return fmt.Errorf("%s is not empty: delete it with all that is in it (--recursive), or that first: %w", found.Path, errkind.Conflict)
		}
		ended, err := endSources(q, t, "", nothing)
		if err != nil {
			return err
		}
		if err := q.record(audit.Entry{Action: "tenant.delete", Tenant: string(found.Parent), Resource: found.resource(), Detail: string(t) + ended}); err != nil {
			return err
		}
		n := 0
		for _, err := range q.Query("SELECT 1 FROM tenant WHERE tenant_id IN "+below+" LIMIT ?3", t, "", maxSubtree+1) {
			if err != nil {
				return err
			}
			n++
		}
		if n > maxSubtree {
			return fmt.Errorf("more than %d tenants at once: delete a part of them first: %w", maxSubtree, errkind.TooLarge)
		}
		if err := q.Exec("UPDATE tenant SET deleted = ?3, deleted_with = ?1, deleted_path = path WHERE tenant_id IN "+below, t, "", c.timestamp()); err != nil {
			return err
		}
		return rename(q, found, t, waiting+string(t))
	}, c.cache.dropTenants, lineageKind, principalKind, repoKind)
	if err != nil {
		return fmt.Errorf("delete tenant: %w", err)
	}
	return nil
}

// Deleted is a tenant that was deleted, with all that was below it.
type Deleted struct {
	ID     id.Tenant
	Parent id.Tenant // empty: it was at the top, or its parent has been deleted too
	Path   string    // which it had
	At     time.Time
}

// DeletedTenants lists those that can be restored, by ID, after a cursor (an ID, "" at first).
func (c *Control) DeletedTenants(ctx context.Context, after id.Tenant, most int) (out []Deleted, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		for r, err := range q.Query(deletedQuery+"AND d.tenant_id > ? ORDER BY d.tenant_id LIMIT ?", after, page(most)) {
			if err != nil {
				return err
			}
			out = append(out, scanDeleted(r))
		}
		return nil
	})
	return out, err
}

// deletedQuery selects the tenants that were deleted themselves, not with another one.
const deletedQuery = `SELECT d.tenant_id, up.tenant_id, d.deleted_path, d.deleted
	FROM tenant AS d LEFT JOIN tenant AS up ON up.tenant_id = d.parent_id AND up.deleted = 0 WHERE d.deleted > 0 AND d.deleted_with = d.tenant_id `

func scanDeleted(r row) Deleted {
	return Deleted{ID: id.Tenant(r.Text(0)), Parent: id.Tenant(r.Text(1)), Path: r.Text(2), At: r.Time(3)}
}

// DeletedTenant finds one of them.
func (c *Control) DeletedTenant(ctx context.Context, t id.Tenant) (out Deleted, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out, err = deletedByID(q, t)
		return err
	})
	return out, err
}

func deletedByID(q conn, t id.Tenant) (out Deleted, err error) {
	err = find(q, "deleted tenant "+clip(string(t)), deletedQuery+"AND d.tenant_id = ?", func(r row) { out = scanDeleted(r) }, t)
	return out, err
}

// RestoreTenant brings a deleted tenant back with all that went with it, below a parent ("" is the top), under a name.
func (c *Control) RestoreTenant(ctx context.Context, t, parent id.Tenant, name string) (Tenant, error) {
	var out Tenant
	err := c.change(ctx, func(q *txn) error {
		was, err := deletedByID(q, t)
		if err != nil {
			return err
		}
		out = Tenant{ID: t, Parent: parent, Path: waiting + string(t)}
		from := out
		if out.Path, err = placeFor(q, from, parent, name); err != nil {
			return err
		}
		ended, err := c.relocate(q, from, t, out)
		if err != nil {
			return err
		}
		if err := q.record(audit.Entry{Action: "tenant.restore", Tenant: string(t), Resource: out.resource(), Detail: "was " + was.Path + ended}); err != nil {
			return err
		}
		if err := q.Exec("UPDATE tenant SET deleted = 0, deleted_with = '', deleted_path = '' WHERE deleted_with = ?", t); err != nil {
			return err
		}
		if out, err = tenantByID(q, t); err != nil {
			return err
		}
		return mustFit(q, out)
	}, c.cache.dropTenants, lineageKind, principalKind, repoKind)
	if err != nil {
		return Tenant{}, fmt.Errorf("restore tenant: %w", err)
	}
	return out, nil
}
