package control

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// Principal is a person, an agent or a machine.
type Principal struct {
	ID      id.Principal
	Name    string
	Class   policy.Class
	Admin   bool
	Created time.Time
	Home    id.Tenant // not empty: it is an account of this tenant
}

// CreatePrincipal makes a principal without memberships or tokens.
func (c *Control) CreatePrincipal(ctx context.Context, name string, class policy.Class, admin bool) (Principal, error) {
	err := checkPrincipalName(name)
	if err == nil && !class.Known() {
		err = fmt.Errorf("class %q is none of human, pipeline, operator, system: %w", clip(string(class)), errkind.Invalid)
	}
	if err != nil {
		return Principal{}, fmt.Errorf("create principal: %w", err)
	}
	p := Principal{ID: id.NewPrincipal(), Name: name, Class: class, Admin: admin, Created: c.timestamp()}
	err = c.change(ctx, func(q *txn) error { return newPrincipal(q, p) }, nil)
	if err != nil {
		return Principal{}, fmt.Errorf("create principal: %w", err)
	}
	return p, nil
}

// resource is how the audit log names a principal.
func (p Principal) resource() string { return "principal/" + p.Name }

// newPrincipal stores a new principal under a name that nobody has.
func newPrincipal(q *txn, p Principal) error {
	taken, err := exists(q, "SELECT 1 FROM principal WHERE name_key = ?", fold(p.Name))
	if err != nil {
		return err
	}
	if taken {
		return fmt.Errorf("name %s: %w", p.Name, errkind.Exists)
	}
	return makePrincipal(q, p)
}

// newPerson stores somebody who chose their name. It is not that of somebody who was deleted: policies may go on to give that one
// rights, which are an administrator's to pass on, by making the principal.
func newPerson(q *txn, p Principal) error {
	former, err := exists(q, "SELECT 1 FROM former_name WHERE name_key = ?", fold(p.Name))
	if err != nil {
		return err
	}
	if former {
		return fmt.Errorf("name %s was somebody else's: take another: %w", p.Name, errkind.Exists)
	}
	return newPrincipal(q, p)
}

// makePrincipal stores a new principal.
func makePrincipal(q *txn, p Principal) error {
	what := string(p.ID) + ", " + string(p.Class)
	if p.Admin {
		what += ", administrator of the server"
	}
	if err := q.record(audit.Entry{Action: "principal.create", Tenant: string(p.Home), Resource: p.resource(), Detail: what}); err != nil {
		return err
	}
	var home any
	if p.Home != "" {
		home = p.Home
	}
	return q.Exec("INSERT INTO principal (principal_id, name, admin, created, class, home_id) VALUES (?, ?, ?, ?, ?, ?)",
		p.ID, p.Name, p.Admin, p.Created, p.Class, home)
}

const principalColumns = "SELECT principal_id, principal.name, admin, principal.created, class, home_id FROM principal "

func scanPrincipal(r row) Principal {
	return Principal{
		ID: id.Principal(r.Text(0)), Name: r.Text(1), Admin: r.Bool(2), Created: r.Time(3), Class: policy.Class(r.Text(4)), Home: id.Tenant(r.Text(5)),
	}
}

// PrincipalByID finds a principal by its identifier.
func (c *Control) PrincipalByID(ctx context.Context, p id.Principal) (out Principal, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out, err = principalByID(q, p)
		return err
	})
	return out, err
}

func principalByID(q conn, p id.Principal) (out Principal, err error) {
	err = find(q, "principal "+clip(string(p)), principalColumns+"WHERE principal_id = ?", func(r row) { out = scanPrincipal(r) }, p)
	return out, err
}

// PrincipalByName finds a principal by its name, without regard to case.
func (c *Control) PrincipalByName(ctx context.Context, name string) (out Principal, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		return find(q, "principal "+clip(name), principalColumns+"WHERE name_key = ?", func(r row) { out = scanPrincipal(r) }, fold(name))
	})
	return out, err
}

// Principals lists principals by ID, after a cursor (an ID, "" at first).
func (c *Control) Principals(ctx context.Context, after id.Principal, most int) (out []Principal, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		for r, err := range q.Query(principalColumns+"WHERE principal_id > ? ORDER BY principal_id LIMIT ?", after, page(most)) {
			if err != nil {
				return err
			}
			out = append(out, scanPrincipal(r))
		}
		return nil
	})
	return out, err
}

// DeletePrincipal deletes a principal with its tokens and memberships. The last admin stays, errkind.Conflict: nobody
// could make another.
func (c *Control) DeletePrincipal(ctx context.Context, p id.Principal) error {
	err := c.change(ctx, func(q *txn) error {
		found, err := principalByID(q, p)
		if err != nil {
			return err
		}
		if found.Admin {
			others, err := exists(q, "SELECT 1 FROM principal WHERE admin = 1 AND principal_id <> ? LIMIT 1", p)
			if err != nil {
				return err
			}
			if !others {
				return fmt.Errorf("%s is the last admin: %w", found.Name, errkind.Conflict)
			}
		}
		if err := q.record(audit.Entry{Action: "principal.delete", Tenant: string(found.Home), Resource: found.resource(), Detail: string(p)}); err != nil {
			return err
		}
		if err := q.Exec("INSERT INTO former_name (name_key) VALUES (?) ON CONFLICT (name_key) DO NOTHING", fold(found.Name)); err != nil {
			return err
		}
		return q.Exec("DELETE FROM principal WHERE principal_id = ?", p)
	}, c.cache.principals.clear, principalKind)
	if err != nil {
		return fmt.Errorf("delete principal: %w", err)
	}
	return nil
}

// Member is a principal's role in a tenant.
type Member struct {
	Principal Principal
	Role      policy.Role
}

// Members are listed whole, and a principal's roles are all in memory while it is active: so both have a limit.
const (
	maxMembers     = 10_000 // of a tenant
	maxMemberships = 10_000 // of a principal
)

// SetMember gives a principal a role in a tenant, in place of any that it had there.
func (c *Control) SetMember(ctx context.Context, t id.Tenant, p id.Principal, role policy.Role) error {
	if !role.Known() {
		return fmt.Errorf("set member: role %q: %w", clip(string(role)), errkind.Invalid)
	}
	err := c.change(ctx, func(q *txn) error {
		if err := recordMember(q, "member.set", t, p, string(role)); err != nil {
			return err
		}
		if err := mayBelong(q, t, p); err != nil {
			return err
		}
		return setMember(q, t, p, role)
	}, c.cache.principals.clear, principalKind)
	if err != nil {
		return fmt.Errorf("set member: %w", err)
	}
	return nil
}

func setMember(q *txn, t id.Tenant, p id.Principal, role policy.Role) error {
	if err := mustTakeMember(q, t, p); err != nil {
		return err
	}
	if err := q.Exec(`INSERT INTO member (tenant_id, principal_id, role) VALUES (?, ?, ?)
		ON CONFLICT (tenant_id, principal_id) DO UPDATE SET role = excluded.role`, t, p, role); err != nil {
		return err
	}
	if err := mustHold(q, "members of the tenant", maxMembers, "SELECT 1 FROM member WHERE tenant_id = ? LIMIT 1 OFFSET ?", t); err != nil {
		return err
	}
	return mustHold(q, "memberships of the principal", maxMemberships, "SELECT 1 FROM member WHERE principal_id = ? LIMIT 1 OFFSET ?", p)
}

// mustHold refuses when a query whose last parameter is an OFFSET has more rows than most.
func mustHold(q conn, what string, most int, query string, args ...any) error {
	over, err := exists(q, query, append(args, most)...)
	if err == nil && over {
		err = fmt.Errorf("more than %d %s: %w", most, what, errkind.TooLarge)
	}
	return err
}

// RemoveMember takes a principal's role in a tenant away.
func (c *Control) RemoveMember(ctx context.Context, t id.Tenant, p id.Principal) error {
	err := c.change(ctx, func(q *txn) error {
		if err := recordMember(q, "member.remove", t, p, ""); err != nil {
			return err
		}
		if err := q.Exec("DELETE FROM member WHERE tenant_id = ? AND principal_id = ?", t, p); err != nil {
			return err
		}
		if q.Changes() == 0 {
			return notFound("member " + clip(string(p)))
		}
		return nil
	}, c.cache.principals.clear, principalKind)
	if err != nil {
		return fmt.Errorf("remove member: %w", err)
	}
	return nil
}

// recordMember says in the audit log what is done with a principal in a tenant, both of which must be there.
func recordMember(q *txn, action string, t id.Tenant, p id.Principal, detail string) error {
	tenant, err := tenantByID(q, t)
	if err != nil {
		return err
	}
	who, err := principalByID(q, p)
	if err != nil {
		return err
	}
	if detail != "" {
		detail = ": " + detail
	}
	return q.record(audit.Entry{Action: action, Tenant: string(t), Resource: tenant.resource(), Detail: who.Name + " (" + string(p) + ")" + detail})
}

// Members lists who has a role in the tenant itself, by name. Roles from tenants above are not among them.
func (c *Control) Members(ctx context.Context, t id.Tenant) (out []Member, err error) {
	const query = `SELECT principal_id, principal.name, admin, principal.created, class, home_id, role
		FROM member JOIN principal USING (principal_id) WHERE tenant_id = ? ORDER BY principal.name_key`
	err = c.db.Read(ctx, func(q conn) error {
		if _, err := tenantByID(q, t); err != nil {
			return err
		}
		for r, err := range q.Query(query, t) {
			if err != nil {
				return err
			}
			out = append(out, Member{Principal: scanPrincipal(r), Role: policy.Role(r.Text(6))})
		}
		return nil
	})
	return out, err
}
