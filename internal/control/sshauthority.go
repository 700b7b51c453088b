package control

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// SSHAuthority signs SSH certificates for the accounts of a tenant: for those whose home it is, and for nobody else.
type SSHAuthority struct {
	ID          id.SSHAuthority
	Tenant      id.Tenant
	Path        string // of the tenant
	Name        string
	Kind        string // of its key: ssh-ed25519, ssh-rsa, …
	Public      []byte // in SSH's wire format
	Fingerprint string // SHA256:…
	Scope       policy.Scope
	MaxLifetime time.Duration // of a certificate, in seconds; 0: any
	Created     time.Time

	Use
}

// FullName is TENANT/NAME.
func (a SSHAuthority) FullName() string { return a.Path + "/" + a.Name }

// maxSSHAuthorities is how many a tenant may have; they are listed whole.
const maxSSHAuthorities = 20

// AddSSHAuthority makes a tenant trust a key that signs SSH certificates. Of a it takes Tenant, Name, Kind, Public, Fingerprint, Scope and
// MaxLifetime. Other tenants may trust the same key: each for its own accounts.
func (c *Control) AddSSHAuthority(ctx context.Context, a SSHAuthority) (SSHAuthority, error) {
	a.ID, a.Created = id.NewSSHAuthority(), c.timestamp()
	err := checkSSHAuthority(a)
	if err == nil {
		err = c.change(ctx, func(q *txn) error {
			tenant, err := tenantByID(q, a.Tenant)
			if err != nil {
				return err
			}
			a.Path = tenant.Path
			taken, err := exists(q, "SELECT 1 FROM ssh_authority WHERE tenant_id = ? AND (name_key = ? OR fingerprint = ?)", a.Tenant, fold(a.Name), a.Fingerprint)
			if err != nil {
				return err
			}
			if taken {
				return fmt.Errorf("tenant %s has an authority %s, or one with this key: %w", a.Path, a.Name, errkind.Exists)
			}
			if err := a.record(q, "ssh-authority.add"); err != nil {
				return err
			}
			if err := q.Exec(`INSERT INTO ssh_authority (tenant_id, authority_id, name, kind, public, fingerprint, scope, max_seconds, created)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
				a.Tenant, a.ID, a.Name, a.Kind, a.Public, a.Fingerprint, a.Scope, int64(a.MaxLifetime/time.Second), a.Created); err != nil {
				return err
			}
			return mustHold(q, "SSH authorities of the tenant", maxSSHAuthorities, "SELECT 1 FROM ssh_authority WHERE tenant_id = ? LIMIT 1 OFFSET ?", a.Tenant)
		}, nil)
	}
	if err != nil {
		return SSHAuthority{}, fmt.Errorf("add SSH authority: %w", err)
	}
	return a, nil
}

func (a SSHAuthority) record(q *txn, action string) error {
	detail := fmt.Sprintf("%s, %s %s, scope %s", a.ID, a.Kind, a.Fingerprint, a.Scope)
	if a.MaxLifetime > 0 {
		detail += fmt.Sprintf(", for %s at most", a.MaxLifetime)
	}
	return q.record(audit.Entry{Action: action, Tenant: string(a.Tenant), Resource: "ssh-authority/" + a.FullName(), Detail: detail})
}

func checkSSHAuthority(a SSHAuthority) error {
	if err := checkName("authority name", a.Name); err != nil {
		return err
	}
	switch {
	case !a.Scope.Known():
		return fmt.Errorf("scope %q: %w", clip(string(a.Scope)), errkind.Invalid)
	case a.MaxLifetime < 0 || a.MaxLifetime%time.Second != 0:
		return fmt.Errorf("the longest lifetime %s of a certificate is not a number of seconds: %w", a.MaxLifetime, errkind.Invalid)
	}
	return nil
}

const sshAuthorityColumns = `SELECT authority_id, tenant_id, tenant.path, name, kind, public, fingerprint, scope, max_seconds, ssh_authority.created, used, used_from
	FROM ssh_authority JOIN (SELECT tenant_id, path FROM tenant WHERE deleted = 0) AS tenant USING (tenant_id) `

func scanSSHAuthority(r row) SSHAuthority {
	return SSHAuthority{
		ID: id.SSHAuthority(r.Text(0)), Tenant: id.Tenant(r.Text(1)), Path: r.Text(2), Name: r.Text(3), Kind: r.Text(4), Public: r.Bytes(5),
		Fingerprint: r.Text(6), Scope: policy.Scope(r.Text(7)), MaxLifetime: time.Duration(r.Int64(8)) * time.Second, Created: r.Time(9), Use: scanUse(r, 10),
	}
}

// SSHAuthorities lists those that a tenant itself trusts, by name.
func (c *Control) SSHAuthorities(ctx context.Context, t id.Tenant) (out []SSHAuthority, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		if _, err := tenantByID(q, t); err != nil {
			return err
		}
		for r, err := range q.Query(sshAuthorityColumns+"WHERE tenant_id = ? ORDER BY name_key", t) {
			if err != nil {
				return err
			}
			out = append(out, scanSSHAuthority(r))
		}
		return nil
	})
	for n := range out {
		c.uses.add(string(out[n].ID), &out[n].Use)
	}
	return out, err
}

// RemoveSSHAuthority makes a tenant trust a key no longer. Once it returns, the certificates that it has signed are refused.
func (c *Control) RemoveSSHAuthority(ctx context.Context, t id.Tenant, name string) error {
	err := c.change(ctx, func(q *txn) error {
		var found SSHAuthority
		err := find(q, "SSH authority "+clip(name), sshAuthorityColumns+"WHERE tenant_id = ? AND name_key = ?", func(r row) { found = scanSSHAuthority(r) }, t, fold(name))
		if err != nil {
			return err
		}
		if err := found.record(q, "ssh-authority.remove"); err != nil {
			return err
		}
		return q.Exec("DELETE FROM ssh_authority WHERE tenant_id = ? AND authority_id = ?", t, found.ID)
	}, nil)
	if err != nil {
		return fmt.Errorf("remove SSH authority: %w", err)
	}
	return nil
}

// Vouched finds the account for which an SSH certificate speaks. Its principals are whole names of accounts, as acme/ci; those that are
// none, or of a tenant that does not trust the authority, mean nobody, since a certificate may be for other machines too. What is left
// must be one account. It is looked up each time, so that nothing is to be forgotten when an authority is removed.
//
// The authority speaks for accounts only, never for people or administrators: who signs for a tenant must not choose whom it can be.
func (c *Control) Vouched(ctx context.Context, v auth.SSHVoucher) (p policy.Principal, err error) {
	const query = `SELECT authority_id, scope, max_seconds, principal_id, principal.name, class, home_id
		FROM ssh_authority JOIN principal ON home_id = tenant_id WHERE fingerprint = ? AND principal.name_key = ? AND ` + alive
	err = c.db.Read(ctx, func(q conn) error {
		p = policy.Principal{}
		var most time.Duration
		for _, name := range v.Names {
			if !utf8.ValidString(name) || strings.Contains(name, "\x00") {
				continue // nobody is called so
			}
			var one policy.Principal
			var its time.Duration
			ok, err := q.First(query, func(r row) {
				one = policy.Principal{
					ID: id.Principal(r.Text(3)), Name: r.Text(4), Class: policy.Class(r.Text(5)), Home: id.Tenant(r.Text(6)),
					Scope: policy.Scope(r.Text(1)), Token: id.Token(r.Text(0)),
				}
				its = time.Duration(r.Int64(2)) * time.Second
			}, v.Authority, fold(name))
			switch {
			case err != nil:
				return err
			case !ok || one.Name != name || one.ID == p.ID:
			case p.ID != "":
				return auth.Refusal("this SSH certificate is not valid: it names several accounts")
			default:
				p, most = one, its
			}
		}
		switch {
		case p.ID == "":
			return auth.Refusal("this SSH certificate is not valid: it names no account whose tenant trusts its authority")
		case most > 0 && v.Lifetime > most:
			return auth.Refusal(fmt.Sprintf("this SSH certificate is not valid: its authority may sign for %s at most", most))
		}
		return loadBelonging(q, &p)
	})
	if err != nil {
		return policy.Principal{}, err
	}
	return p, nil
}
