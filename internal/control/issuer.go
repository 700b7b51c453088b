package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/jwt"
	"github.com/skep-dev/skep/internal/policy"
)

// Issuer is somebody whose signed tokens (JWTs) count in a tenant and in those below it, and nowhere else.
type Issuer struct {
	ID       id.Issuer
	Tenant   id.Tenant
	Path     string // of the tenant
	Name     string
	Iss      string      // the claim by which its tokens are known; other tenants may have it too
	Audience string      // that they must be made for
	Role     policy.Role // the most that they give in the tenant
	Listed   bool        // it speaks for its subjects only; else any sub is a principal of its own
	URL      string      // where its keys are; empty when they were sent
	Keys     string      // a JWK set
	Fetched  time.Time   // when they came
	Created  time.Time

	Use
}

// FullName is TENANT/NAME. Policies know those whom an issuer makes up as TENANT/NAME:SUB.
func (i Issuer) FullName() string { return i.Path + "/" + i.Name }

func (i Issuer) resource() string { return "issuer/" + i.FullName() }

// deletedName is what lists call a principal who is not there any more: nobody's name has brackets.
const deletedName = "(deleted)"

// Subject is a sub of an issuer's that means a principal. It still does when that has been deleted, and is then refused.
type Subject struct {
	Subject   string
	Principal Principal
}

const (
	maxIssuers  = 50    // of a tenant; they are listed whole
	maxSubjects = 1_000 // of an issuer, likewise
	// maxClaimText bounds what tokens are compared with: package jwt takes no longer claims.
	maxClaimText = 500
)

// CreateIssuer makes a tenant trust an issuer. Of i it takes Tenant, Name, Iss, Audience, Role, Listed, and URL or Keys. From a URL the
// keys are fetched first, so that one which does not work is refused.
func (c *Control) CreateIssuer(ctx context.Context, i Issuer) (Issuer, error) {
	i, err := c.createIssuer(ctx, i)
	if err != nil {
		return Issuer{}, fmt.Errorf("create issuer: %w", err)
	}
	return i, nil
}

func (c *Control) createIssuer(ctx context.Context, i Issuer) (Issuer, error) {
	if err := checkIssuer(i); err != nil {
		return i, err
	}
	var err error
	if i.Keys, err = c.keysFor(ctx, i.URL, i.Keys); err != nil {
		return i, err
	}
	i.ID, i.Created = id.NewIssuer(), c.timestamp()
	i.Fetched = i.Created
	return i, c.change(ctx, func(q *txn) error {
		tenant, err := tenantByID(q, i.Tenant)
		if err != nil {
			return err
		}
		i.Path = tenant.Path
		taken, err := exists(q, "SELECT 1 FROM issuer WHERE tenant_id = ? AND name_key = ?", i.Tenant, fold(i.Name))
		if err != nil {
			return err
		}
		if taken {
			return fmt.Errorf("issuer %s: %w", i.FullName(), errkind.Exists)
		}
		detail := fmt.Sprintf("%s, iss %s, audience %s, at most %s", i.ID, i.Iss, i.Audience, i.Role)
		if err := q.record(audit.Entry{Action: "issuer.create", Tenant: string(i.Tenant), Resource: i.resource(), Detail: detail}); err != nil {
			return err
		}
		if err := q.Exec(`INSERT INTO issuer (tenant_id, issuer_id, name, iss, audience, role, listed, url, keys, fetched, created)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			i.Tenant, i.ID, i.Name, i.Iss, i.Audience, i.Role, i.Listed, i.URL, i.Keys, i.Fetched, i.Created); err != nil {
			return err
		}
		return mustHold(q, "issuers of the tenant", maxIssuers, "SELECT 1 FROM issuer WHERE tenant_id = ? LIMIT 1 OFFSET ?", i.Tenant)
	}, c.cache.dropIssuers, principalKind) // a list of those with the same iss may be remembered
}

func checkIssuer(i Issuer) error {
	if err := checkName("issuer name", i.Name); err != nil {
		return err
	}
	if err := checkClaim("iss", i.Iss); err != nil {
		return err
	}
	if err := checkClaim("audience", i.Audience); err != nil {
		return err
	}
	switch {
	case !i.Role.Known():
		return fmt.Errorf("role %q is none of guest, reader, writer, owner: %w", clip(string(i.Role)), errkind.Invalid)
	case (i.URL == "") == (i.Keys == ""):
		return fmt.Errorf("an issuer has either keys or a URL where they are: %w", errkind.Invalid)
	}
	return nil
}

// checkClaim judges what a claim is compared with.
func checkClaim(what, s string) error {
	if s == "" || len(s) > maxClaimText {
		return fmt.Errorf("%s has %d bytes, not 1 to %d: %w", what, len(s), maxClaimText, errkind.Invalid)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return fmt.Errorf("%s %q has something other than visible ASCII in it: %w", what, clip(s), errkind.Invalid)
		}
	}
	return nil
}

// keysFor returns a set of keys that can be used: the one at a URL, or the one that was sent.
func (c *Control) keysFor(ctx context.Context, url, sent string) (string, error) {
	if url != "" {
		var err error
		sent, err = c.fetch(ctx, url)
		if errkind.Of(err) == errkind.Unavailable && ctx.Err() == nil { // not this server's fault, as that kind says to a caller
			err = fmt.Errorf("%s: send the keys, or another URL: %w", strings.TrimSuffix(err.Error(), ": "+errkind.Unavailable.Error()), errkind.Invalid)
		}
		if err != nil {
			return "", err
		}
	}
	_, err := jwt.ParseKeys([]byte(sent))
	return sent, err
}

const issuerColumns = `SELECT issuer_id, tenant_id, tenant.path, name, iss, audience, role, listed, url, keys, fetched, issuer.created, used, used_from
	FROM issuer JOIN (SELECT tenant_id, path, path_key FROM tenant WHERE deleted = 0) AS tenant USING (tenant_id) `

func scanIssuer(r row) Issuer {
	return Issuer{
		ID: id.Issuer(r.Text(0)), Tenant: id.Tenant(r.Text(1)), Path: r.Text(2), Name: r.Text(3), Iss: r.Text(4), Audience: r.Text(5),
		Role: policy.Role(r.Text(6)), Listed: r.Bool(7), URL: r.Text(8), Keys: r.Text(9), Fetched: r.Time(10), Created: r.Time(11), Use: scanUse(r, 12),
	}
}

// Issuers lists those whom a tenant itself trusts, by name.
func (c *Control) Issuers(ctx context.Context, t id.Tenant) (out []Issuer, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		if _, err := tenantByID(q, t); err != nil {
			return err
		}
		for r, err := range q.Query(issuerColumns+"WHERE tenant_id = ? ORDER BY name_key", t) {
			if err != nil {
				return err
			}
			out = append(out, scanIssuer(r))
		}
		return nil
	})
	for n := range out {
		c.uses.add(string(out[n].ID), &out[n].Use)
	}
	return out, err
}

// Issuer finds one of a tenant's issuers by its name, without regard to case, with its subjects.
func (c *Control) Issuer(ctx context.Context, t id.Tenant, name string) (out Issuer, subjects []Subject, err error) {
	const query = `SELECT principal_id, principal.name, admin, principal.created, class, home_id, subject
		FROM issuer_subject LEFT JOIN principal USING (principal_id) WHERE tenant_id = ? AND issuer_id = ? ORDER BY subject`
	err = c.db.Read(ctx, func(q conn) error {
		subjects = nil
		if out, err = issuerByName(q, t, name); err != nil {
			return err
		}
		for r, err := range q.Query(query, t, out.ID) {
			if err != nil {
				return err
			}
			s := Subject{r.Text(6), scanPrincipal(r)}
			if r.IsNull(1) { // of whom nothing is known any more
				s.Principal.Name, s.Principal.Class = deletedName, policy.Human
			}
			subjects = append(subjects, s)
		}
		return nil
	})
	c.uses.add(string(out.ID), &out.Use)
	return out, subjects, err
}

func issuerByName(q conn, t id.Tenant, name string) (out Issuer, err error) {
	err = find(q, "issuer "+clip(name), issuerColumns+"WHERE tenant_id = ? AND name_key = ?", func(r row) { out = scanIssuer(r) }, t, fold(name))
	return out, err
}

// RemoveIssuer makes a tenant trust an issuer no longer. Once it returns, its tokens are refused.
func (c *Control) RemoveIssuer(ctx context.Context, t id.Tenant, name string) error {
	err := c.changeIssuer(ctx, t, name, "issuer.remove", "", func(q *txn, i Issuer) error {
		return q.Exec("DELETE FROM issuer WHERE tenant_id = ? AND issuer_id = ?", t, i.ID)
	})
	if err != nil {
		return fmt.Errorf("remove issuer: %w", err)
	}
	return nil
}

// SetIssuerKeys gives an issuer new keys; of one whose keys are at a URL they are fetched, and keys must be empty. Once it
// returns, tokens that were signed with keys which are gone are refused.
func (c *Control) SetIssuerKeys(ctx context.Context, t id.Tenant, name, keys string) error {
	i, _, err := c.Issuer(ctx, t, name)
	if err == nil && (i.URL == "") == (keys == "") {
		err = fmt.Errorf("the keys of %s are at its URL, or else must be sent: %w", i.FullName(), errkind.Invalid)
	}
	if err == nil {
		keys, err = c.keysFor(ctx, i.URL, keys)
	}
	if err == nil {
		err = c.storeKeys(ctx, i, keys)
	}
	if err != nil {
		return fmt.Errorf("set keys: %w", err)
	}
	return nil
}

func (c *Control) storeKeys(ctx context.Context, i Issuer, keys string) error {
	return c.changeIssuer(ctx, i.Tenant, i.Name, "issuer.keys", "", func(q *txn, now Issuer) error {
		if now.ID != i.ID {
			return notFound("issuer " + i.Name) // another one has its name by now
		}
		return q.Exec("UPDATE issuer SET keys = ?, fetched = ? WHERE tenant_id = ? AND issuer_id = ?", keys, c.timestamp(), i.Tenant, i.ID)
	})
}

// MapSubject makes a sub of an issuer's mean a principal, in place of any that it meant. The principal acts with no more than
// its own role in the tenant.
func (c *Control) MapSubject(ctx context.Context, t id.Tenant, name, subject string, p id.Principal) error {
	err := checkClaim("sub", subject)
	if err == nil {
		err = c.changeIssuer(ctx, t, name, "issuer.map", subject+" is "+string(p), func(q *txn, i Issuer) error {
			if _, err := principalByID(q, p); err != nil {
				return err
			}
			if err := q.Exec(`INSERT INTO issuer_subject (tenant_id, issuer_id, subject, principal_id) VALUES (?, ?, ?, ?)
				ON CONFLICT (tenant_id, issuer_id, subject) DO UPDATE SET principal_id = excluded.principal_id`, t, i.ID, subject, p); err != nil {
				return err
			}
			return mustHold(q, "subjects of the issuer", maxSubjects, "SELECT 1 FROM issuer_subject WHERE issuer_id = ? LIMIT 1 OFFSET ?", i.ID)
		})
	}
	if err != nil {
		return fmt.Errorf("map subject: %w", err)
	}
	return nil
}

// UnmapSubject makes a sub mean no principal any more.
func (c *Control) UnmapSubject(ctx context.Context, t id.Tenant, name, subject string) error {
	err := c.changeIssuer(ctx, t, name, "issuer.unmap", clip(subject), func(q *txn, i Issuer) error {
		if err := q.Exec("DELETE FROM issuer_subject WHERE tenant_id = ? AND issuer_id = ? AND subject = ?", t, i.ID, subject); err != nil {
			return err
		}
		if q.Changes() == 0 {
			return notFound("subject " + clip(subject))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("unmap subject: %w", err)
	}
	return nil
}

// changeIssuer changes something of an issuer, after which nothing that its tokens let do is remembered.
func (c *Control) changeIssuer(ctx context.Context, t id.Tenant, name, action, detail string, fn func(*txn, Issuer) error) error {
	return c.change(ctx, func(q *txn) error {
		i, err := issuerByName(q, t, name)
		if err != nil {
			return err
		}
		if err := fn(q, i); err != nil {
			return err
		}
		return q.record(audit.Entry{Action: action, Tenant: string(t), Resource: i.resource(), Detail: detail})
	}, c.cache.dropIssuers, principalKind)
}
