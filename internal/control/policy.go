package control

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// Standing is what decisions about a tenant's things need to know of it: see policy.Resource. It is shared and never changed.
type Standing struct {
	Lineage []id.Tenant    // the tenant, its parent, and so on up
	Rules   []policy.Rules // the documents of these
	Path    string         // of the tenant
	Quotas  []TenantQuotas // of those of these that have any

	Suspended policy.Suspension
}

// Standing finds a tenant's.
func (c *Control) Standing(ctx context.Context, t id.Tenant) (Standing, error) {
	if s, ok := c.cache.standings.get(t); ok {
		return s, nil
	}
	before := c.cache.standings.version()
	var s Standing
	var texts []document
	err := c.db.Read(ctx, func(q conn) error {
		s, texts = Standing{Lineage: make([]id.Tenant, 0, 4)}, nil
		for at := t; at != ""; {
			up, err := tenantByID(q, at)
			if err != nil {
				return err
			}
			s.Lineage = append(s.Lineage, at)
			if at == t {
				s.Path = up.Path
			}
			if !up.Suspended.IsZero() {
				s.Suspended = policy.Suspension{Tenants: len(s.Lineage), Path: up.Path}
			}
			_, err = q.First("SELECT version, document FROM policy WHERE tenant_id = ? AND document <> ''", func(r row) {
				texts = append(texts, document{key: documentKey{at, r.Int64(0)}, path: up.Path, text: r.Text(1)})
			}, at)
			if err != nil {
				return err
			}
			most, err := quotasOf(q, at)
			if err != nil {
				return err
			}
			if len(most) > 0 {
				s.Quotas = append(s.Quotas, TenantQuotas{Tenant: at, Path: up.Path, Most: most})
			}
			at = up.Parent
		}
		return nil
	})
	if err != nil {
		return Standing{}, err
	}
	for _, d := range texts {
		doc, err := c.parsed(d)
		if err != nil {
			// It was checked when it was stored. To decide without it would be to forget what it denies.
			return Standing{}, fmt.Errorf("policy of tenant %s: %s", d.path, err.Error())
		}
		s.Rules = append(s.Rules, policy.Rules{Tenant: d.key.tenant, Path: d.path, Doc: doc})
	}
	c.cache.standings.put(t, s, before)
	return s, nil
}

type document struct {
	key  documentKey
	path string // of its tenant
	text string
}

// documentKey names a document for good: a version is never used again.
type documentKey struct {
	tenant  id.Tenant
	version int64
}

// parsed parses a document once for all tenants that it counts in.
func (c *Control) parsed(d document) (*policy.Document, error) {
	if doc, ok := c.cache.documents.get(d.key); ok {
		return doc, nil
	}
	before := c.cache.documents.version()
	doc, err := policy.Parse([]byte(d.text))
	if err == nil {
		c.cache.documents.put(d.key, doc, before)
	}
	return doc, err
}

// Policy is a tenant's document.
type Policy struct {
	Version  int64 // 0: there never was one
	Document string
	By       id.Principal
	Updated  time.Time
	Source   *PolicySource // where it lives; nil: here alone
}

// Policy returns a tenant's own document; its Document is empty when there is none.
func (c *Control) Policy(ctx context.Context, t id.Tenant) (out Policy, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		if _, err := tenantByID(q, t); err != nil {
			return err
		}
		if out, err = policyOf(q, t); err != nil {
			return err
		}
		src, ok, err := sourceOf(q, t)
		if ok {
			out.Source = &src
		}
		return err
	})
	return out, err
}

func policyOf(q conn, t id.Tenant) (out Policy, err error) {
	_, err = q.First("SELECT version, document, principal_id, updated FROM policy WHERE tenant_id = ?", func(r row) {
		out = Policy{Version: r.Int64(0), Document: r.Text(1), By: id.Principal(r.Text(2)), Updated: r.Time(3)}
	}, t)
	return out, err
}

// SetPolicy gives a tenant a document, or takes it away when the text is empty. expected is the version that it must have now,
// else errkind.Conflict; -1 takes any. The document is checked before it takes effect.
func (c *Control) SetPolicy(ctx context.Context, t id.Tenant, text string, expected int64, by id.Principal) (Policy, error) {
	doc, err := parseUnlessEmpty(text)
	if err != nil {
		return Policy{}, err
	}
	var out Policy
	err = c.change(ctx, func(q *txn) error {
		src, ok, err := sourceOf(q, t)
		if err != nil {
			return err
		}
		if ok {
			return fmt.Errorf("policy of %s is kept in %s: change it there, or end that first: %w", src.TenantPath, &src, errkind.Conflict)
		}
		out, err = putPolicy(q, t, text, doc, expected, by, "")
		return err
	}, c.cache.standings.clear, lineageKind)
	if err != nil {
		return Policy{}, err
	}
	return out, nil
}

func parseUnlessEmpty(text string) (*policy.Document, error) {
	if text == "" {
		return nil, nil
	}
	return policy.Parse([]byte(text))
}

// putPolicy is SetPolicy in a transaction. from is where the document comes from, for the audit log.
func putPolicy(q *txn, t id.Tenant, text string, doc *policy.Document, expected int64, by id.Principal, from string) (out Policy, err error) {
	tenant, err := tenantByID(q, t)
	if err != nil {
		return out, err
	}
	if doc != nil {
		if err := doc.Inside(tenant.Path); err != nil {
			return out, err
		}
	}
	old, err := policyOf(q, t)
	if err != nil {
		return out, err
	}
	if expected >= 0 && old.Version != expected {
		return out, fmt.Errorf("policy of %s has version %d, not %d: %w", tenant.Path, old.Version, expected, errkind.Conflict)
	}
	out = Policy{Version: old.Version + 1, Document: text, By: by, Updated: q.at}
	what := "removed"
	if text != "" {
		what = fmt.Sprintf("version %d, SHA-256 %x%s", out.Version, sha256.Sum256([]byte(text)), from)
	}
	if err := q.record(audit.Entry{Action: "policy.set", Tenant: string(t), Resource: tenant.resource(), Detail: what}); err != nil {
		return out, err
	}
	return out, q.Exec(`INSERT INTO policy (tenant_id, version, document, principal_id, updated) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (tenant_id) DO UPDATE SET version = excluded.version, document = excluded.document,
		principal_id = excluded.principal_id, updated = excluded.updated`, t, out.Version, out.Document, out.By, out.Updated)
}

// Group is some of those whom a tenant knows, under one name.
type Group struct {
	Name    string
	Members []Principal
}

// maxGroupMembers bounds all groups of a tenant together, which are listed whole, and those that a principal is in.
const maxGroupMembers = 5_000

// JoinGroup puts a principal into a tenant's group, which is made if it is not there.
func (c *Control) JoinGroup(ctx context.Context, t id.Tenant, name string, p id.Principal) error {
	err := checkName("group name", name)
	if err == nil {
		err = c.change(ctx, func(q *txn) error {
			if err := recordMember(q, "group.join", t, p, name); err != nil {
				return err
			}
			if err := mayBelong(q, t, p); err != nil {
				return err
			}
			// The name that the group has already, if it has one: another case is no other group.
			_, err := q.First("SELECT name FROM group_member WHERE tenant_id = ? AND name_key = ? LIMIT 1", func(r row) { name = r.Text(0) }, t, fold(name))
			if err != nil {
				return err
			}
			if err := q.Exec(`INSERT INTO group_member (tenant_id, name_key, principal_id, name) VALUES (?, ?, ?, ?)
				ON CONFLICT (tenant_id, name_key, principal_id) DO NOTHING`, t, fold(name), p, name); err != nil {
				return err
			}
			if err := mustHold(q, "members of the tenant's groups", maxGroupMembers, "SELECT 1 FROM group_member WHERE tenant_id = ? LIMIT 1 OFFSET ?", t); err != nil {
				return err
			}
			return mustHold(q, "groups of the principal", maxGroupMembers, "SELECT 1 FROM group_member WHERE principal_id = ? LIMIT 1 OFFSET ?", p)
		}, c.cache.principals.clear, principalKind)
	}
	if err != nil {
		return fmt.Errorf("join group: %w", err)
	}
	return nil
}

// LeaveGroup takes a principal out of a tenant's group.
func (c *Control) LeaveGroup(ctx context.Context, t id.Tenant, name string, p id.Principal) error {
	err := c.change(ctx, func(q *txn) error {
		if err := recordMember(q, "group.leave", t, p, name); err != nil {
			return err
		}
		if err := q.Exec("DELETE FROM group_member WHERE tenant_id = ? AND name_key = ? AND principal_id = ?", t, fold(name), p); err != nil {
			return err
		}
		if q.Changes() == 0 {
			return notFound("member " + clip(string(p)) + " of group " + clip(name))
		}
		return nil
	}, c.cache.principals.clear, principalKind)
	if err != nil {
		return fmt.Errorf("leave group: %w", err)
	}
	return nil
}

// Groups lists a tenant's groups with their members, by name.
func (c *Control) Groups(ctx context.Context, t id.Tenant) (out []Group, err error) {
	const query = `SELECT principal_id, principal.name, admin, principal.created, class, home_id, group_member.name
		FROM group_member JOIN principal USING (principal_id) WHERE tenant_id = ? ORDER BY group_member.name_key, principal.name_key`
	err = c.db.Read(ctx, func(q conn) error {
		if _, err := tenantByID(q, t); err != nil {
			return err
		}
		out = nil
		for r, err := range q.Query(query, t) {
			if err != nil {
				return err
			}
			name := r.Text(6)
			if len(out) == 0 || fold(out[len(out)-1].Name) != fold(name) {
				out = append(out, Group{Name: name})
			}
			g := &out[len(out)-1]
			g.Members = append(g.Members, scanPrincipal(r))
		}
		return nil
	})
	return out, err
}

// Actor is a principal as policy sees it, with a token that limits nothing: for questions about somebody else.
func (c *Control) Actor(ctx context.Context, p id.Principal) (out policy.Principal, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		who, err := principalByID(q, p)
		if err != nil {
			return err
		}
		out = policy.Principal{ID: who.ID, Name: who.Name, Class: who.Class, Admin: who.Admin, Home: who.Home, Scope: policy.ScopeAdmin}
		return loadBelonging(q, &out)
	})
	return out, err
}

// loadBelonging adds a principal's memberships and groups.
func loadBelonging(q conn, p *policy.Principal) error {
	p.Roles, p.Groups = map[id.Tenant]policy.Role{}, nil
	for r, err := range q.Query("SELECT tenant_id, role FROM member WHERE principal_id = ? AND "+alive, p.ID) {
		if err != nil {
			return err
		}
		p.Roles[id.Tenant(r.Text(0))] = policy.Role(r.Text(1))
	}
	for r, err := range q.Query("SELECT tenant_id, name FROM group_member WHERE principal_id = ? AND "+alive, p.ID) {
		if err != nil {
			return err
		}
		if p.Groups == nil {
			p.Groups = map[id.Tenant][]string{}
		}
		t := id.Tenant(r.Text(0))
		p.Groups[t] = append(p.Groups[t], r.Text(1))
	}
	return nil
}
