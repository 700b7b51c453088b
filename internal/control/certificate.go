package control

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// Certificate lets in client certificates that have a name, as a principal. By whom they must be signed is the listener's business.
type Certificate struct {
	ID        id.Certificate
	Name      auth.Name
	Principal id.Principal
	Scope     policy.Scope // what it lets its principal do
	Created   time.Time

	Use
}

// maxCertName bounds a name: URIs are the longest.
const maxCertName = 500

// CreateCertificate lets certificates with a name in. Of r it takes Name, Principal and Scope. A name means one principal.
func (c *Control) CreateCertificate(ctx context.Context, r Certificate) (Certificate, error) {
	r.ID, r.Created = id.NewCertificate(), c.timestamp()
	err := checkCertificate(&r)
	if err == nil {
		err = c.change(ctx, func(q *txn) error {
			who, err := principalByID(q, r.Principal)
			if err != nil {
				return err
			}
			taken, err := exists(q, "SELECT 1 FROM certificate WHERE kind = ? AND value = ?", r.Name.Kind, r.Name.Value)
			if err != nil {
				return err
			}
			if taken {
				return fmt.Errorf("%s %s: %w", r.Name.Kind, r.Name.Value, errkind.Exists)
			}
			detail := fmt.Sprintf("%s %s is %s (%s), scope %s", r.Name.Kind, r.Name.Value, who.Name, who.ID, r.Scope)
			if err := q.record(audit.Entry{Action: "certificate.create", Resource: r.resource(), Detail: detail}); err != nil {
				return err
			}
			return q.Exec("INSERT INTO certificate (certificate_id, kind, value, principal_id, scope, created) VALUES (?, ?, ?, ?, ?, ?)",
				r.ID, r.Name.Kind, r.Name.Value, r.Principal, r.Scope, r.Created)
		}, c.cache.principals.clear, principalKind) // one that was let in by another name may be refused from now on
	}
	if err != nil {
		return Certificate{}, fmt.Errorf("let certificate in: %w", err)
	}
	return r, nil
}

func (r Certificate) resource() string { return "certificate/" + string(r.ID) }

// checkCertificate judges a name, and brings it into the form in which it is compared.
func checkCertificate(r *Certificate) error {
	n := &r.Name
	switch {
	case !n.Kind.Known():
		return fmt.Errorf("kind of name %q is none of cn, dns, email, uri, fingerprint: %w", clip(string(n.Kind)), errkind.Invalid)
	case !r.Scope.Known():
		return fmt.Errorf("scope %q: %w", clip(string(r.Scope)), errkind.Invalid)
	case n.Value == "" || len(n.Value) > maxCertName:
		return fmt.Errorf("name of a certificate has %d bytes, not 1 to %d: %w", len(n.Value), maxCertName, errkind.Invalid)
	case !utf8.ValidString(n.Value) || strings.ContainsFunc(n.Value, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("name of a certificate %q is not printable text: %w", clip(n.Value), errkind.Invalid)
	}
	switch n.Kind {
	case auth.DNSName:
		n.Value = strings.ToLower(n.Value)
	case auth.Fingerprint:
		n.Value = strings.ToLower(strings.ReplaceAll(n.Value, ":", "")) // as openssl prints it
		if b, err := hex.DecodeString(n.Value); err != nil || len(b) != len(auth.Hash{}) {
			return fmt.Errorf("fingerprint %q is not a SHA-256 in hexadecimal digits: %w", clip(n.Value), errkind.Invalid)
		}
	case auth.CommonName, auth.EmailName, auth.URIName: // they are compared as they are
	}
	return nil
}

const certificateColumns = "SELECT certificate_id, kind, value, principal_id, scope, created, used, used_from FROM certificate "

func scanCertificate(r row) Certificate {
	return Certificate{
		ID: id.Certificate(r.Text(0)), Name: auth.Name{Kind: auth.NameKind(r.Text(1)), Value: r.Text(2)}, Principal: id.Principal(r.Text(3)),
		Scope: policy.Scope(r.Text(4)), Created: r.Time(5), Use: scanUse(r, 6),
	}
}

// Certificates lists which are let in by ID, after a cursor (an ID, "" at first).
func (c *Control) Certificates(ctx context.Context, after id.Certificate, most int) (out []Certificate, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		for r, err := range q.Query(certificateColumns+"WHERE certificate_id > ? ORDER BY certificate_id LIMIT ?", after, page(most)) {
			if err != nil {
				return err
			}
			out = append(out, scanCertificate(r))
		}
		return nil
	})
	for i := range out {
		c.uses.add(string(out[i].ID), &out[i].Use)
	}
	return out, err
}

// RemoveCertificate lets certificates with a name in no longer, and ends the tokens that were made with them. Once it returns, they
// are refused.
func (c *Control) RemoveCertificate(ctx context.Context, r id.Certificate) error {
	err := c.change(ctx, func(q *txn) error {
		var found Certificate
		if err := find(q, "certificate "+clip(string(r)), certificateColumns+"WHERE certificate_id = ?", func(row row) { found = scanCertificate(row) }, r); err != nil {
			return err
		}
		detail := fmt.Sprintf("%s %s", found.Name.Kind, found.Name.Value)
		if err := q.record(audit.Entry{Action: "certificate.remove", Resource: found.resource(), Detail: detail}); err != nil {
			return err
		}
		return q.Exec("DELETE FROM certificate WHERE certificate_id = ?", r)
	}, c.cache.principals.clear, principalKind)
	if err != nil {
		return fmt.Errorf("remove certificate: %w", err)
	}
	return nil
}

// Presented finds the principal of a client certificate by its SHA-256 and its names. If several of these are known they must mean the
// same principal, and the least of their scopes counts: whoever can have certificates signed may not choose.
func (c *Control) Presented(ctx context.Context, h auth.Hash, names []auth.Name) (policy.Principal, error) {
	if cred, ok := c.cache.principals.get(h); ok {
		return cred.principal, nil
	}
	before := c.cache.principals.version()
	var p policy.Principal
	err := c.db.Read(ctx, func(q conn) error {
		var found Certificate
		for _, n := range names {
			if !utf8.ValidString(n.Value) || strings.Contains(n.Value, "\x00") {
				continue // nobody is known by it
			}
			var r Certificate
			ok, err := q.First(certificateColumns+"WHERE kind = ? AND value = ?", func(row row) { r = scanCertificate(row) }, n.Kind, n.Value)
			switch {
			case err != nil:
				return err
			case !ok:
			case found.ID == "":
				found = r
			case found.Principal != r.Principal:
				return auth.Refusal("the client certificate has names of several principals")
			case found.Scope.Wider(r.Scope):
				found.Scope = r.Scope
			}
		}
		if found.ID == "" {
			return auth.Refusal("the client certificate is nobody's here: an administrator can say whose with \"skep cert add\"")
		}
		who, err := principalByID(q, found.Principal)
		if err == nil && who.Home != "" {
			_, err = tenantByID(q, who.Home)
		}
		if errkind.Of(err) == errkind.NotFound {
			return auth.Refusal("the client certificate is of an account whose tenant has been deleted")
		}
		if err != nil {
			return err
		}
		p = policy.Principal{ID: who.ID, Name: who.Name, Class: who.Class, Admin: who.Admin, Home: who.Home, Scope: found.Scope, Token: id.Token(found.ID)}
		return loadBelonging(q, &p)
	})
	if err != nil {
		return policy.Principal{}, err
	}
	c.cache.principals.put(h, credential{principal: p}, before)
	return p, nil
}
