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

// Identity is somebody at an OpenID Connect provider, and the principal who that is here.
type Identity struct {
	Issuer    string
	Subject   string
	Principal id.Principal
	Created   time.Time
	Used      time.Time // the last login; zero: never
}

// The bounds of an identity: OpenID Connect Core section 2 gives a subject 255 characters, and an issuer is a short URL.
const (
	maxIss        = 500
	maxSub        = 255
	maxIdentities = 100 // of a principal
)

// ErrUnlinked is of a login of somebody whom nobody here has been linked with.
var ErrUnlinked = fmt.Errorf("identity is linked with no principal: %w", errkind.Forbidden)

// Login finds the principal behind an identity and notes that it was used. Without one it makes a person of that name, who has no
// rights, and links it; with no name it returns ErrUnlinked. It never takes a principal that exists because of its name, nor the name of
// one that was deleted: it is anybody's to choose at the provider. Then it is errkind.Exists.
func (c *Control) Login(ctx context.Context, issuer, subject, name string) (who Principal, err error) {
	if err := checkIdentity(issuer, subject); err != nil {
		return Principal{}, fmt.Errorf("log in: %w", err)
	}
	err = c.change(ctx, func(q *txn) error {
		now := c.timestamp()
		found, err := q.First(principalColumns+"JOIN identity USING (principal_id) WHERE issuer = ? AND subject = ?", func(r row) { who = scanPrincipal(r) }, issuer, subject)
		switch {
		case err != nil:
			return err
		case found:
			q.as(who)
			if err := recordIdentity(q, "identity.login", who, issuer, subject); err != nil {
				return err
			}
			return q.Exec("UPDATE identity SET used = ? WHERE issuer = ? AND subject = ?", now, issuer, subject)
		case name == "":
			return ErrUnlinked
		}
		if err := checkPrincipalName(name); err != nil {
			return err
		}
		who = Principal{ID: id.NewPrincipal(), Name: name, Class: policy.Human, Created: now}
		q.as(who)
		if err := newPerson(q, who); err != nil {
			return err
		}
		if err := recordIdentity(q, "identity.login", who, issuer, subject); err != nil {
			return err
		}
		return insertIdentity(q, Identity{Issuer: issuer, Subject: subject, Principal: who.ID, Created: now, Used: now})
	}, nil)
	if err != nil {
		return Principal{}, fmt.Errorf("log in: %w", err)
	}
	return who, nil
}

func recordIdentity(q *txn, action string, who Principal, issuer, subject string) error {
	return q.record(audit.Entry{Action: action, Resource: who.resource(), Detail: subject + " of " + issuer})
}

// as says who does something that brings its own proof of who that is, where the request has no other credential.
func (q *txn) as(p Principal) {
	if q.origin.Principal == "" {
		q.origin.Principal, q.origin.Name, q.origin.Class = string(p.ID), p.Name, string(p.Class)
	}
}

func checkIdentity(issuer, subject string) error {
	switch {
	case issuer == "" || len(issuer) > maxIss:
		return fmt.Errorf("issuer has %d bytes, not 1 to %d: %w", len(issuer), maxIss, errkind.Invalid)
	case subject == "" || len(subject) > maxSub:
		return fmt.Errorf("subject has %d bytes, not 1 to %d: %w", len(subject), maxSub, errkind.Invalid)
	}
	return nil
}

func insertIdentity(q conn, i Identity) error {
	return q.Exec("INSERT INTO identity (issuer, subject, principal_id, created, used) VALUES (?, ?, ?, ?, ?)", i.Issuer, i.Subject, i.Principal, i.Created, i.Used)
}

// LinkIdentity lets somebody at a provider log in as a principal. An identity that is linked already stays as it is:
// errkind.Exists.
func (c *Control) LinkIdentity(ctx context.Context, p id.Principal, issuer, subject string) (Identity, error) {
	i := Identity{Issuer: issuer, Subject: subject, Principal: p, Created: c.timestamp()}
	err := checkIdentity(issuer, subject)
	if err == nil {
		err = c.change(ctx, func(q *txn) error {
			who, err := principalByID(q, p)
			if err != nil {
				return err
			}
			if who.Home != "" {
				return fmt.Errorf("%s is an account of a tenant, which does not log in with a browser: %w", who.Name, errkind.Invalid)
			}
			taken, err := exists(q, "SELECT 1 FROM identity WHERE issuer = ? AND subject = ?", issuer, subject)
			if err != nil {
				return err
			}
			if taken {
				return fmt.Errorf("the identity is linked already: %w", errkind.Exists)
			}
			if err := insertIdentity(q, i); err != nil {
				return err
			}
			if err := recordIdentity(q, "identity.link", who, issuer, subject); err != nil {
				return err
			}
			return mustHold(q, "identities of the principal", maxIdentities, "SELECT 1 FROM identity WHERE principal_id = ? LIMIT 1 OFFSET ?", p)
		}, nil)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("link identity: %w", err)
	}
	return i, nil
}

// UnlinkIdentity ends logins of somebody at a provider as a principal. Sessions that are open go on.
func (c *Control) UnlinkIdentity(ctx context.Context, p id.Principal, issuer, subject string) error {
	err := c.change(ctx, func(q *txn) error {
		who, err := principalByID(q, p)
		if err != nil {
			return err
		}
		if err := q.Exec("DELETE FROM identity WHERE issuer = ? AND subject = ? AND principal_id = ?", issuer, subject, p); err != nil {
			return err
		}
		if q.Changes() == 0 {
			return notFound("identity " + clip(subject))
		}
		return recordIdentity(q, "identity.unlink", who, issuer, subject)
	}, nil)
	if err != nil {
		return fmt.Errorf("unlink identity: %w", err)
	}
	return nil
}

// Identities lists a principal's identities, of which there are few.
func (c *Control) Identities(ctx context.Context, p id.Principal) (out []Identity, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		for r, err := range q.Query("SELECT issuer, subject, principal_id, created, used FROM identity WHERE principal_id = ? ORDER BY issuer, subject", p) {
			if err != nil {
				return err
			}
			out = append(out, Identity{Issuer: r.Text(0), Subject: r.Text(1), Principal: id.Principal(r.Text(2)), Created: r.Time(3), Used: r.Time(4)})
		}
		return nil
	})
	return out, err
}
