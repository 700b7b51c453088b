package control

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// Invitation lets whoever has its secret become a member of a tenant, once.
type Invitation struct {
	ID         id.Invitation
	Tenant     id.Tenant
	TenantPath string
	Role       policy.Role
	Name       string // who may accept it; empty: anybody
	NewAccount bool   // also somebody whom the server does not know yet, who becomes a principal
	By         id.Principal
	Created    time.Time
	Expires    time.Time
}

const (
	// maxInvitations bounds a tenant's open invitations, which are listed whole.
	maxInvitations = 1000
	// FirstTokenTTL is how long the first token of somebody lives who came by an invitation: time to make another one.
	FirstTokenTTL = 30 * 24 * time.Hour
)

// CreateInvitation makes an invitation and returns its secret, which is never seen again. Of inv it takes Tenant, Role, Name,
// NewAccount, By and Expires.
func (c *Control) CreateInvitation(ctx context.Context, inv Invitation) (Invitation, string, error) {
	inv.ID, inv.Created, inv.Expires = id.NewInvitation(), c.timestamp(), inv.Expires.UTC().Truncate(time.Microsecond)
	secret, hash := auth.NewInvitation()
	err := checkInvitation(&inv)
	if err == nil {
		err = c.change(ctx, func(q *txn) error {
			tenant, err := tenantByID(q, inv.Tenant)
			if err != nil {
				return err
			}
			inv.TenantPath = tenant.Path
			if err := q.Exec("DELETE FROM invitation WHERE tenant_id = ? AND expires <= ?", inv.Tenant, inv.Created); err != nil {
				return err
			}
			if err := q.recordInvitation("invitation.create", inv, ", until "+inv.Expires.Format(time.RFC3339)); err != nil {
				return err
			}
			if err := q.Exec(`INSERT INTO invitation (tenant_id, invitation_id, hash, role, name, new_account, principal_id, created, expires)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, inv.Tenant, inv.ID, hash, inv.Role, inv.Name, inv.NewAccount, inv.By, inv.Created, inv.Expires); err != nil {
				return err
			}
			return mustHold(q, "open invitations of the tenant", maxInvitations, "SELECT 1 FROM invitation WHERE tenant_id = ? LIMIT 1 OFFSET ?", inv.Tenant)
		}, nil)
	}
	if err != nil {
		return Invitation{}, "", fmt.Errorf("invite: %w", err)
	}
	return inv, secret, nil
}

func checkInvitation(inv *Invitation) error {
	if !inv.Role.Known() {
		return fmt.Errorf("role %q: %w", clip(string(inv.Role)), errkind.Invalid)
	}
	if !inv.Expires.After(inv.Created) {
		return fmt.Errorf("expiry %s is not in the future: %w", inv.Expires.Format(time.RFC3339), errkind.Invalid)
	}
	if inv.Name == "" {
		return nil
	}
	return checkPrincipalName(inv.Name)
}

// recordInvitation says in the audit log what is done with an invitation.
func (q *txn) recordInvitation(action string, inv Invitation, more string) error {
	detail := fmt.Sprintf("%s, as %s", inv.ID, inv.Role)
	if inv.Name != "" {
		detail += ", for " + inv.Name
	}
	if inv.NewAccount {
		detail += ", also as a new principal"
	}
	return q.record(audit.Entry{Action: action, Tenant: string(inv.Tenant), Resource: "tenant/" + inv.TenantPath, Detail: detail + more})
}

const invitationColumns = `SELECT invitation_id, tenant_id, path, role, name, new_account, principal_id, invitation.created, expires
	FROM invitation JOIN (SELECT tenant_id, path FROM tenant WHERE deleted = 0) AS tenant USING (tenant_id) `

func scanInvitation(r row) Invitation {
	return Invitation{
		ID: id.Invitation(r.Text(0)), Tenant: id.Tenant(r.Text(1)), TenantPath: r.Text(2), Role: policy.Role(r.Text(3)), Name: r.Text(4),
		NewAccount: r.Bool(5), By: id.Principal(r.Text(6)), Created: r.Time(7), Expires: r.Time(8),
	}
}

// Invitations lists a tenant's open invitations, the oldest first.
func (c *Control) Invitations(ctx context.Context, t id.Tenant) (out []Invitation, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		for r, err := range q.Query(invitationColumns+"WHERE tenant_id = ? AND expires > ? ORDER BY invitation_id", t, c.timestamp()) {
			if err != nil {
				return err
			}
			out = append(out, scanInvitation(r))
		}
		return nil
	})
	return out, err
}

// RevokeInvitation withdraws a tenant's invitation.
func (c *Control) RevokeInvitation(ctx context.Context, t id.Tenant, i id.Invitation) error {
	err := c.change(ctx, func(q *txn) error {
		var inv Invitation
		err := find(q, "invitation "+clip(string(i)), invitationColumns+"WHERE tenant_id = ? AND invitation_id = ?",
			func(r row) { inv = scanInvitation(r) }, t, i)
		if err != nil {
			return err
		}
		if err := q.recordInvitation("invitation.revoke", inv, ""); err != nil {
			return err
		}
		return q.Exec("DELETE FROM invitation WHERE tenant_id = ? AND invitation_id = ?", t, i)
	}, nil)
	if err != nil {
		return fmt.Errorf("revoke invitation: %w", err)
	}
	return nil
}

// Invitation finds the open invitation behind a secret's hash.
func (c *Control) Invitation(ctx context.Context, h auth.Hash) (out Invitation, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out, err = c.openInvitation(q, h)
		return err
	})
	return out, err
}

func (c *Control) openInvitation(q conn, h auth.Hash) (out Invitation, err error) {
	err = find(q, "invitation", invitationColumns+"WHERE hash = ? AND expires > ?", func(r row) { out = scanInvitation(r) }, h, c.timestamp())
	return out, err
}

// AcceptInvitation uses an invitation up: a principal gets its role, unless it has a greater one there.
func (c *Control) AcceptInvitation(ctx context.Context, h auth.Hash, p id.Principal) (inv Invitation, err error) {
	err = c.change(ctx, func(q *txn) error {
		if inv, err = c.openInvitation(q, h); err != nil {
			return err
		}
		who, err := principalByID(q, p)
		if err != nil {
			return err
		}
		if err := isFor(inv, who.Name); err != nil {
			return err
		}
		if who.Home != "" {
			return fmt.Errorf("account %s belongs to a tenant: invitations are for people: %w", who.Name, errkind.Forbidden)
		}
		return join(q, &inv, who)
	}, c.cache.principals.clear, principalKind)
	if err != nil {
		return Invitation{}, fmt.Errorf("accept invitation: %w", err)
	}
	return inv, nil
}

// AcceptAsNew uses an invitation up that is also for people whom the server does not know: it makes one, with its role and a token
// whose secret comes back this once.
func (c *Control) AcceptAsNew(ctx context.Context, h auth.Hash, name string) (inv Invitation, who Principal, secret string, err error) {
	if err = checkPrincipalName(name); err == nil {
		err = c.change(ctx, func(q *txn) error {
			if inv, err = c.openInvitation(q, h); err != nil {
				return err
			}
			if !inv.NewAccount {
				return fmt.Errorf("the invitation is for somebody whom the server knows: %w", errkind.Forbidden)
			}
			if err := isFor(inv, name); err != nil {
				return err
			}
			who = Principal{ID: id.NewPrincipal(), Name: name, Class: policy.Human, Created: c.timestamp()}
			if err := newPerson(q, who); err != nil {
				return err
			}
			_, secret, err = makeToken(q, Token{
				ID: id.NewToken(), Principal: who.ID, Name: "invitation", Scope: policy.ScopeAdmin, Created: who.Created, Expires: who.Created.Add(FirstTokenTTL),
			})
			if err != nil {
				return err
			}
			return join(q, &inv, who)
		}, nil)
	}
	if err != nil {
		return Invitation{}, Principal{}, "", fmt.Errorf("accept invitation: %w", err)
	}
	return inv, who, secret, nil
}

func isFor(inv Invitation, name string) error {
	if inv.Name != "" && fold(inv.Name) != fold(name) {
		return fmt.Errorf("the invitation is for %s: %w", inv.Name, errkind.Forbidden)
	}
	return nil
}

// join gives a principal the role of an invitation, which is then gone. inv gets the role that it has in the end.
func join(q *txn, inv *Invitation, who Principal) error {
	if err := q.recordInvitation("invitation.accept", *inv, ": "+who.Name+" ("+string(who.ID)+")"); err != nil {
		return err
	}
	if err := q.Exec("DELETE FROM invitation WHERE tenant_id = ? AND invitation_id = ?", inv.Tenant, inv.ID); err != nil {
		return err
	}
	has := policy.Role("")
	if _, err := q.First("SELECT role FROM member WHERE tenant_id = ? AND principal_id = ?", func(r row) { has = policy.Role(r.Text(0)) }, inv.Tenant, who.ID); err != nil {
		return err
	}
	if !inv.Role.Above(has) {
		inv.Role = has
		return nil
	}
	return setMember(q, inv.Tenant, who.ID, inv.Role)
}
