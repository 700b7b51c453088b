package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// Share lets a tenant below a repository's own read that repository.
type Share struct {
	With     id.Tenant
	Path     string // of that tenant
	Children bool   // those below it too
	By       id.Principal
	Created  time.Time
}

// maxShares bounds the shares of a repository: a decision about somebody who is not a member may look at each.
const maxShares = 1000

// SetShare shares a repository with a tenant, which must be below the repository's own, or changes how.
func (c *Control) SetShare(ctx context.Context, r id.Repo, with id.Tenant, children bool, by id.Principal) (Share, error) {
	s := Share{With: with, Children: children, By: by, Created: c.timestamp()}
	err := c.change(ctx, func(q *txn) error {
		repo, err := repoByID(q, r)
		if err != nil {
			return err
		}
		receiver, err := tenantByID(q, with)
		if err != nil {
			return err
		}
		s.Path = receiver.Path
		for up := receiver; up.Parent != repo.Tenant; {
			if up.Parent == "" {
				return fmt.Errorf("tenant %s is not below %s: a repository is shared with children of its tenant only: %w", s.Path, repo.TenantPath, errkind.Invalid)
			}
			if up, err = tenantByID(q, up.Parent); err != nil {
				return err
			}
		}
		detail := "with " + s.Path
		if children {
			detail += " and all below it"
		}
		if err := q.recordRepo("share.set", repo, detail); err != nil {
			return err
		}
		if err := q.Exec(`INSERT INTO share (tenant_id, repo_id, with_tenant, children, principal_id, created) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (tenant_id, repo_id, with_tenant) DO UPDATE SET children = excluded.children,
			principal_id = excluded.principal_id, created = excluded.created`, repo.Tenant, r, with, children, by, s.Created); err != nil {
			return err
		}
		if err := mustHold(q, "shares of the repository", maxShares, "SELECT 1 FROM share WHERE tenant_id = ? AND repo_id = ? LIMIT 1 OFFSET ?", repo.Tenant, r); err != nil {
			return err
		}
		return q.Exec("UPDATE repo SET shared = 1 WHERE tenant_id = ? AND repo_id = ?", repo.Tenant, r)
	}, func() { c.cache.dropRepo(r) }, repoKind)
	if err != nil {
		return Share{}, fmt.Errorf("share repository: %w", err)
	}
	return s, nil
}

// RemoveShare ends a share.
func (c *Control) RemoveShare(ctx context.Context, r id.Repo, with id.Tenant) error {
	err := c.change(ctx, func(q *txn) error {
		repo, err := repoByID(q, r)
		if err != nil {
			return err
		}
		receiver, err := tenantByID(q, with)
		if err != nil {
			return err
		}
		if err := q.recordRepo("share.remove", repo, "with "+receiver.Path); err != nil {
			return err
		}
		if err := q.Exec("DELETE FROM share WHERE tenant_id = ? AND repo_id = ? AND with_tenant = ?", repo.Tenant, r, with); err != nil {
			return err
		}
		if q.Changes() == 0 {
			return notFound("share with " + receiver.Path)
		}
		return nil
	}, func() { c.cache.dropRepo(r) }, repoKind)
	if err != nil {
		return fmt.Errorf("end share: %w", err)
	}
	return nil
}

// Shares lists a repository's shares with tenants that are not deleted, by their paths.
func (c *Control) Shares(ctx context.Context, r id.Repo) (out []Share, err error) {
	const query = `SELECT with_tenant, path, children, principal_id, share.created FROM share JOIN tenant ON tenant.tenant_id = with_tenant
		WHERE share.tenant_id = ? AND repo_id = ? AND deleted = 0 ORDER BY path_key`
	err = c.db.Read(ctx, func(q conn) error {
		repo, err := repoByID(q, r)
		if err != nil {
			return err
		}
		out = nil
		for r, err := range q.Query(query, repo.Tenant, r) {
			if err != nil {
				return err
			}
			out = append(out, Share{With: id.Tenant(r.Text(0)), Path: r.Text(1), Children: r.Bool(2), By: id.Principal(r.Text(3)), Created: r.Time(4)})
		}
		return nil
	})
	return out, err
}

// SharesFor finds those of a repository's shares that may let a principal read it: with tenants to which it belongs by a role there or
// above, and with the tenant of the one repository that its token is good for.
func (c *Control) SharesFor(ctx context.Context, r Repo, p *policy.Principal) ([]policy.Share, error) {
	if !r.Shared || p.Anonymous() {
		return nil, nil
	}
	shares, err := c.sharesOf(ctx, r)
	if err != nil {
		return nil, err
	}
	var out []policy.Share
	with := func(t id.Tenant, concerns func([]id.Tenant) bool) error {
		if slices.ContainsFunc(out, func(s policy.Share) bool { return s.Tenant[0] == t }) {
			return nil
		}
		s, err := c.Standing(ctx, t)
		switch {
		case errors.Is(err, errkind.NotFound): // deleted
			err = nil
		case err == nil && concerns(s.Lineage):
			out = append(out, policy.Share{Tenant: s.Lineage, Rules: s.Rules, Suspended: s.Suspended, Path: s.Path + "/" + r.Name})
		}
		return err
	}
	goesDown := false
	for _, s := range shares {
		goesDown = goesDown || s.Children
		if err := with(s.With, func(lineage []id.Tenant) bool {
			return s.With == p.RepoTenant || slices.ContainsFunc(lineage, func(t id.Tenant) bool { return p.Roles[t] != "" })
		}); err != nil {
			return nil, err
		}
	}
	if !goesDown {
		return out, nil
	}
	below := func(lineage []id.Tenant) bool {
		return slices.ContainsFunc(shares, func(s Share) bool { return s.Children && slices.Contains(lineage[1:], s.With) })
	}
	for t := range p.Roles {
		if err := with(t, below); err != nil {
			return nil, err
		}
	}
	if p.RepoTenant != "" {
		if err := with(p.RepoTenant, below); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// sharesOf are the shares that a decision looks at.
func (c *Control) sharesOf(ctx context.Context, repo Repo) ([]Share, error) {
	if s, ok := c.cache.shares.get(repo.ID); ok {
		return s, nil
	}
	before := c.cache.shares.version()
	var out []Share
	err := c.db.Read(ctx, func(q conn) error {
		out = nil
		for r, err := range q.Query("SELECT with_tenant, children FROM share WHERE tenant_id = ? AND repo_id = ?", repo.Tenant, repo.ID) {
			if err != nil {
				return err
			}
			out = append(out, Share{With: id.Tenant(r.Text(0)), Children: r.Bool(1)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.cache.shares.put(repo.ID, out, before)
	return out, nil
}

// endShares ends those that a move has made meaningless: with a tenant of the subtree, of a repository that is neither in it nor
// in a tenant above it.
func endShares(q conn, root, deletion id.Tenant) (ended int, err error) {
	err = q.Exec("DELETE FROM share WHERE with_tenant IN "+below+" AND tenant_id NOT IN "+below+" AND tenant_id NOT IN "+above, root, deletion)
	return q.Changes(), err
}
