package control

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/usage"
)

// The end of what was deleted comes in steps, each of which a crash may follow:
//
//  1. The tenants are marked, in one transaction: from now on nothing restores them.
//  2. A repository's bytes are removed, then its record; a document's log, then its. Without the record, they would be garbage that
//     nobody finds.
//  3. A tenant that nothing is in any more is removed, with its members, accounts and documents.
const doomed = "-" // deleted_with of what is marked

// maxPurge bounds what one Purge does, so that it ends soon and others get to write.
const maxPurge = 100

// Remover removes what the control plane only knows the names of, or finds that it is gone.
type Remover interface {
	RemoveCell(ctx context.Context, r Repo) error
	RemoveLog(ctx context.Context, d Document) error
}

// Purge removes for good what was deleted before a time. more says that there is more to do.
func (c *Control) Purge(ctx context.Context, before time.Time, remove Remover) (more bool, err error) {
	if err = c.doom(ctx, before); err == nil {
		more, err = c.purgeRepos(ctx, remove)
	}
	if err == nil && !more {
		more, err = c.purgeDocuments(ctx, remove)
	}
	if err == nil && !more {
		more, err = c.purgeTenants(ctx)
	}
	if err != nil {
		return false, fmt.Errorf("purge deleted tenants: %w", err)
	}
	return more, nil
}

// doom marks what was deleted before a time.
func (c *Control) doom(ctx context.Context, before time.Time) error {
	var list []Deleted
	err := c.db.Read(ctx, func(q conn) error {
		list = nil
		for r, err := range q.Query(deletedQuery+"AND d.deleted < ? LIMIT ?", before, maxPurge) {
			if err != nil {
				return err
			}
			list = append(list, scanDeleted(r))
		}
		return nil
	})
	if err != nil || len(list) == 0 {
		return err
	}
	return c.change(ctx, func(q *txn) error {
		for _, d := range list {
			e := audit.Entry{Action: "tenant.expire", Tenant: string(d.Parent), Resource: "tenant/" + d.Path, Detail: string(d.ID)}
			if err := q.record(e); err != nil {
				return err
			}
			if err := q.Exec("UPDATE tenant SET deleted_with = ? WHERE deleted_with = ?", doomed, d.ID); err != nil {
				return err
			}
		}
		return nil
	}, nil)
}

func (c *Control) purgeRepos(ctx context.Context, remove Remover) (more bool, err error) {
	const query = repoColumnsEver + "WHERE tenant_id IN (SELECT tenant_id FROM tenant WHERE deleted > 0 AND deleted_with = ?) LIMIT ?"
	repos, err := c.repoBatch(ctx, query, []any{doomed, maxPurge})
	if err != nil {
		return false, err
	}
	for _, r := range repos {
		if err := remove.RemoveCell(ctx, r); err != nil {
			return false, fmt.Errorf("remove repository %s: %w", r.ID, err)
		}
		err := c.change(ctx, func(q *txn) error {
			if err := q.recordRepo("repo.purge", r, string(r.ID)); err != nil {
				return err
			}
			if err := endStorage(q, usage.Key{Tenant: r.Tenant, Repo: r.ID}, q.at); err != nil {
				return err
			}
			return q.Exec("DELETE FROM repo WHERE tenant_id = ? AND repo_id = ?", r.Tenant, r.ID)
		}, nil)
		if err != nil {
			return false, err
		}
	}
	return len(repos) > 0, nil
}

// purgeTenants removes tenants that nothing is in.
func (c *Control) purgeTenants(ctx context.Context) (more bool, err error) {
	const query = `SELECT tenant_id, deleted_path FROM tenant WHERE deleted > 0 AND deleted_with = ?
		AND NOT EXISTS (SELECT 1 FROM tenant AS child WHERE child.parent_id = tenant.tenant_id)
		AND NOT EXISTS (SELECT 1 FROM repo WHERE repo.tenant_id = tenant.tenant_id)
		AND NOT EXISTS (SELECT 1 FROM document WHERE document.tenant_id = tenant.tenant_id) LIMIT ?`
	var list []Tenant
	err = c.db.Read(ctx, func(q conn) error {
		list = nil
		for r, err := range q.Query(query, doomed, maxPurge) {
			if err != nil {
				return err
			}
			list = append(list, Tenant{ID: id.Tenant(r.Text(0)), Path: r.Text(1)})
		}
		return nil
	})
	if err != nil || len(list) == 0 {
		return false, err
	}
	err = c.change(ctx, func(q *txn) error {
		for _, t := range list {
			if err := q.record(audit.Entry{Action: "tenant.purge", Tenant: string(t.ID), Resource: t.resource(), Detail: string(t.ID)}); err != nil {
				return err
			}
			if err := q.Exec("DELETE FROM tenant WHERE tenant_id = ?", t.ID); err != nil {
				return err
			}
		}
		return nil
	}, nil)
	return true, err
}
