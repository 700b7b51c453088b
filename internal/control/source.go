package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// A tenant's policy may live in a repository. Whoever has the repository sees to it that what is there counts here:
//
//  1. A push that changes the file is judged before it is accepted (policy.Parse, and who pushes).
//  2. ExpectPolicy counts it, before the push is durable.
//  3. The push is durable, or has failed.
//  4. ApplyPolicy makes what is in the repository then the tenant's document.
//  5. SettlePolicy counts it off.
//
// A crash after 2 leaves the count, with which the next start looks what is in the repository, whether the push was durable or not.

// PolicySource is where a tenant's document lives.
type PolicySource struct {
	Tenant     id.Tenant
	TenantPath string
	Repo       id.Repo
	RepoTenant id.Tenant
	RepoPath   string // TENANT/NAME
	Ref, Path  string
	Delegated  bool   // whoever may push there may change it, and not only who administers the tenant
	Commit     string // the last one that changed it
	By         id.Principal
}

func (s *PolicySource) String() string {
	return "repo/" + s.RepoPath + "@" + s.Ref + ", " + s.Path
}

const sourceColumns = `SELECT policy_source.tenant_id, tenant.path, repo_id, of_tenant_id, other.path, repo.name, ref, policy_source.path, delegated,
	commit_id, principal_id FROM policy_source JOIN tenant ON tenant.tenant_id = policy_source.tenant_id
	JOIN repo USING (repo_id) JOIN tenant AS other ON other.tenant_id = of_tenant_id `

func scanSource(r row) PolicySource {
	return PolicySource{
		Tenant: id.Tenant(r.Text(0)), TenantPath: r.Text(1), Repo: id.Repo(r.Text(2)), RepoTenant: id.Tenant(r.Text(3)),
		RepoPath: r.Text(4) + "/" + r.Text(5), Ref: r.Text(6), Path: r.Text(7), Delegated: r.Bool(8), Commit: r.Text(9), By: id.Principal(r.Text(10)),
	}
}

func sourceOf(q conn, t id.Tenant) (out PolicySource, ok bool, err error) {
	ok, err = q.First(sourceColumns+"WHERE policy_source.tenant_id = ?", func(r row) { out = scanSource(r) }, t)
	return out, ok, err
}

// PolicySources lists the policies that live in a repository.
func (c *Control) PolicySources(ctx context.Context, r Repo) ([]PolicySource, error) {
	return c.sources(ctx, "WHERE of_tenant_id = ? AND repo_id = ?", r.Tenant, r.ID)
}

// ExpectedPolicies lists those that a push may have changed that nobody has applied.
func (c *Control) ExpectedPolicies(ctx context.Context) ([]PolicySource, error) {
	return c.sources(ctx, "WHERE pending > 0")
}

func (c *Control) sources(ctx context.Context, where string, args ...any) (out []PolicySource, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		for r, err := range q.Query(sourceColumns+where, args...) {
			if err != nil {
				return err
			}
			out = append(out, scanSource(r))
		}
		return nil
	})
	return out, err
}

// SetPolicySource lets a tenant's document live in a repository, where it has this text now.
func (c *Control) SetPolicySource(ctx context.Context, s PolicySource, text string) error {
	doc, err := policy.Parse([]byte(text))
	if err != nil {
		return err
	}
	return c.change(ctx, func(q *txn) error {
		if err := q.Exec(`INSERT INTO policy_source (tenant_id, of_tenant_id, repo_id, ref, path, delegated, commit_id, pending, principal_id)
			VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?) ON CONFLICT (tenant_id) DO UPDATE SET of_tenant_id = excluded.of_tenant_id,
			repo_id = excluded.repo_id, ref = excluded.ref, path = excluded.path, delegated = excluded.delegated,
			commit_id = excluded.commit_id, pending = 0, principal_id = excluded.principal_id`,
			s.Tenant, s.RepoTenant, s.Repo, s.Ref, s.Path, s.Delegated, s.Commit, s.By); err != nil {
			return err
		}
		if err := recordSource(q, s, fmt.Sprintf("%s, delegated %t", &s, s.Delegated)); err != nil {
			return err
		}
		_, err := putPolicy(q, s.Tenant, text, doc, -1, s.By, ", commit "+s.Commit)
		return err
	}, c.cache.standings.clear, lineageKind)
}

func recordSource(q *txn, s PolicySource, detail string) error {
	return q.record(audit.Entry{Action: "policy.source", Tenant: string(s.Tenant), Resource: "tenant/" + s.TenantPath, Detail: detail})
}

// RemovePolicySource ends it. The document stays.
func (c *Control) RemovePolicySource(ctx context.Context, t id.Tenant) error {
	err := c.change(ctx, func(q *txn) error {
		s, ok, err := sourceOf(q, t)
		if err != nil || !ok {
			return orMissing(err, "source of the policy")
		}
		if err := recordSource(q, s, "removed"); err != nil {
			return err
		}
		return q.Exec("DELETE FROM policy_source WHERE tenant_id = ?", t)
	}, nil)
	if err != nil {
		return fmt.Errorf("remove policy source: %w", err)
	}
	return nil
}

// endSources ends it between a subtree and what is outside of it, those that may stay excepted: pushes there would be refused for the
// sake of a tenant whose administrators are gone, or be the policy of one that is no longer near.
func endSources(q conn, root, deletion id.Tenant, stay string) (ended string, err error) {
	err = q.Exec("DELETE FROM policy_source WHERE tenant_id IN "+below+" AND of_tenant_id NOT IN "+below+" AND of_tenant_id NOT IN "+stay+
		" OR of_tenant_id IN "+below+" AND tenant_id NOT IN "+below+" AND tenant_id NOT IN "+stay, root, deletion)
	if n := q.Changes(); err == nil && n > 0 {
		ended = fmt.Sprintf(", %d policies live in a repository no longer", n)
	}
	return ended, err
}

func orMissing(err error, what string) error {
	if err == nil {
		err = notFound(what)
	}
	return err
}

// ExpectPolicy counts a push that is about to change a document.
func (c *Control) ExpectPolicy(ctx context.Context, t id.Tenant) error {
	return c.count(ctx, "UPDATE policy_source SET pending = pending + 1 WHERE tenant_id = ?", t)
}

// SettlePolicy counts off one push whose end was seen, or at the start of a node all of them.
func (c *Control) SettlePolicy(ctx context.Context, t id.Tenant, all bool) error {
	if all {
		return c.count(ctx, "UPDATE policy_source SET pending = 0 WHERE tenant_id = ?", t)
	}
	return c.count(ctx, "UPDATE policy_source SET pending = pending - 1 WHERE tenant_id = ? AND pending > 0", t)
}

// count is no change for the audit log: the push is.
func (c *Control) count(ctx context.Context, query string, t id.Tenant) error {
	return c.db.Write(ctx, func(q conn) error { return q.Exec(query, t) })
}

// errSettled is of a document that is the tenant's already.
var errSettled = errors.New("the document has not changed")

// ApplyPolicy makes the text that a source has, at a commit, the tenant's document, unless it is that already, or lives elsewhere
// by now.
func (c *Control) ApplyPolicy(ctx context.Context, s PolicySource, text, commit string, by id.Principal) error {
	doc, err := policy.Parse([]byte(text))
	if err != nil {
		return err
	}
	err = c.change(ctx, func(q *txn) error {
		now, ok, err := sourceOf(q, s.Tenant)
		if err != nil {
			return err
		}
		old, err := policyOf(q, s.Tenant)
		if err != nil {
			return err
		}
		if !ok || now.Repo != s.Repo || now.Ref != s.Ref || now.Path != s.Path || old.Document == text {
			return errSettled
		}
		if err := q.Exec("UPDATE policy_source SET commit_id = ? WHERE tenant_id = ?", commit, s.Tenant); err != nil {
			return err
		}
		_, err = putPolicy(q, s.Tenant, text, doc, -1, by, ", commit "+commit)
		return err
	}, c.cache.standings.clear, lineageKind)
	if err != nil && !errors.Is(err, errSettled) {
		return fmt.Errorf("apply policy of %s: %w", s.TenantPath, err)
	}
	return nil
}
