package control

import (
	"context"
	"fmt"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// An account is a principal that a tenant makes for its machines. It belongs to the tenant: its name is the tenant's path and a part
// of its own, acme/ci, which people's names cannot be; it has roles there and below only, and policy gives it none elsewhere; and it
// goes where the tenant goes, to the end.

// maxAccounts bounds the accounts of a tenant.
const maxAccounts = 10_000

// CreateAccount makes an account of a tenant, without a role or tokens.
func (c *Control) CreateAccount(ctx context.Context, t id.Tenant, name string, class policy.Class) (Principal, error) {
	err := checkName("account name", name)
	if err == nil && class != policy.Pipeline && class != policy.Operator {
		err = fmt.Errorf("class %q: an account is of class pipeline or operator; people are invited: %w", clip(string(class)), errkind.Invalid)
	}
	if err != nil {
		return Principal{}, fmt.Errorf("create account: %w", err)
	}
	p := Principal{ID: id.NewPrincipal(), Class: class, Created: c.timestamp(), Home: t}
	err = c.change(ctx, func(q *txn) error {
		tenant, err := tenantByID(q, t)
		if err != nil {
			return err
		}
		p.Name = tenant.Path + "/" + name
		if err := newPrincipal(q, p); err != nil {
			return err
		}
		return mustHold(q, "accounts of the tenant", maxAccounts, "SELECT 1 FROM principal WHERE home_id = ? LIMIT 1 OFFSET ?", t)
	}, nil)
	if err != nil {
		return Principal{}, fmt.Errorf("create account: %w", err)
	}
	return p, nil
}

// Accounts lists a tenant's accounts by ID, after a cursor (an ID, "" at first).
func (c *Control) Accounts(ctx context.Context, t id.Tenant, after id.Principal, most int) (out []Principal, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		for r, err := range q.Query(principalColumns+"WHERE home_id = ? AND principal_id > ? ORDER BY principal_id LIMIT ?", t, after, page(most)) {
			if err != nil {
				return err
			}
			out = append(out, scanPrincipal(r))
		}
		return nil
	})
	return out, err
}

// DeleteAccount deletes an account of a tenant, with its tokens and roles.
func (c *Control) DeleteAccount(ctx context.Context, t id.Tenant, p id.Principal) error {
	err := c.change(ctx, func(q *txn) error {
		found, err := principalByID(q, p)
		if err != nil {
			return err
		}
		if found.Home != t {
			return notFound("account " + clip(string(p)))
		}
		if err := q.record(audit.Entry{Action: "principal.delete", Tenant: string(t), Resource: found.resource(), Detail: string(p)}); err != nil {
			return err
		}
		return q.Exec("DELETE FROM principal WHERE principal_id = ?", p)
	}, c.cache.principals.clear, principalKind)
	if err != nil {
		return fmt.Errorf("delete account: %w", err)
	}
	return nil
}

// mayBelong refuses to bring an account into a tenant that is neither its own nor below it.
func mayBelong(q conn, t id.Tenant, p id.Principal) error {
	who, err := principalByID(q, p)
	if err != nil || who.Home == "" {
		return err
	}
	inside, err := exists(q, "SELECT 1 FROM tenant WHERE tenant_id = ?2 AND tenant_id IN "+above, t, who.Home)
	if err == nil && !inside {
		err = fmt.Errorf("account %s belongs to another tenant, and gets roles there and below only: %w", who.Name, errkind.Invalid)
	}
	return err
}

// endVisits ends what accounts are in a subtree that has been moved away from their tenants.
func endVisits(q conn, root, deletion id.Tenant) error {
	for _, table := range []string{"member", "group_member"} {
		err := q.Exec("DELETE FROM "+table+" WHERE tenant_id IN "+below+` AND principal_id IN (SELECT principal_id FROM principal
			WHERE home_id IS NOT NULL AND home_id NOT IN `+below+" AND home_id NOT IN "+above+")", root, deletion)
		if err != nil {
			return err
		}
	}
	return nil
}
