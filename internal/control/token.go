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

// Token is what is known of a token, its secret not included.
type Token struct {
	ID        id.Token
	Principal id.Principal
	Name      string
	Repo      id.Repo // empty: good for whatever the principal may do
	Scope     policy.Scope
	Created   time.Time
	Expires   time.Time // zero: never
}

const (
	// maxTokens is how many tokens a principal may have: agents make one for each task, and so fill a disk by mistake.
	maxTokens = 10_000
	// expiredKept is how long an expired token stays in lists, so that its owner can see why something stopped.
	expiredKept = 7 * 24 * time.Hour
)

// CreateToken makes a token and returns its secret, which is never seen again. Of t it takes Principal, Name, Repo, Scope
// and Expires.
func (c *Control) CreateToken(ctx context.Context, t Token) (Token, string, error) {
	t.ID, t.Created = id.NewToken(), c.timestamp()
	var made Token
	var secret string
	err := c.checkToken(&t)
	if err == nil {
		err = c.change(ctx, func(q *txn) error {
			if err := q.Exec("DELETE FROM token WHERE principal_id = ? AND expires > 0 AND expires < ?",
				t.Principal, t.Created.Add(-expiredKept)); err != nil {
				return err
			}
			if made, secret, err = makeToken(q, t); err != nil {
				return err
			}
			return mustHold(q, "tokens of the principal", maxTokens, "SELECT 1 FROM token WHERE principal_id = ? LIMIT 1 OFFSET ?", t.Principal)
		}, nil)
	}
	if err != nil {
		return Token{}, "", fmt.Errorf("create token: %w", err)
	}
	return made, secret, nil
}

func (c *Control) checkToken(t *Token) error {
	if err := checkTokenName(t.Name); err != nil {
		return err
	}
	if !t.Scope.Known() {
		return fmt.Errorf("scope %q: %w", clip(string(t.Scope)), errkind.Invalid)
	}
	if !t.Expires.IsZero() {
		t.Expires = t.Expires.UTC().Truncate(time.Microsecond)
		if !t.Expires.After(t.Created) {
			return fmt.Errorf("expiry %s is not in the future: %w", t.Expires.Format(time.RFC3339), errkind.Invalid)
		}
	}
	return nil
}

// makeToken stores a new token under a new secret.
func makeToken(q *txn, t Token) (Token, string, error) {
	who, err := principalByID(q, t.Principal)
	if err != nil {
		return Token{}, "", err
	}
	detail := fmt.Sprintf("of %s, %q, scope %s", who.Name, t.Name, t.Scope)
	in := id.Tenant("")
	var tenant, repo any
	if t.Repo != "" {
		r, err := repoByID(q, t.Repo)
		if err != nil {
			return Token{}, "", err
		}
		tenant, repo, in = r.Tenant, r.ID, r.Tenant
		detail += ", for " + r.TenantPath + "/" + r.Name
	}
	if !t.Expires.IsZero() {
		detail += ", until " + t.Expires.Format(time.RFC3339)
	}
	if err := q.record(audit.Entry{Action: "token.create", Tenant: string(in), Resource: "token/" + string(t.ID), Detail: detail}); err != nil {
		return Token{}, "", err
	}
	secret, hash := auth.NewSecret()
	err = q.Exec(`INSERT INTO token (token_id, hash, principal_id, tenant_id, repo_id, name, scope, created, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, t.ID, hash, t.Principal, tenant, repo, t.Name, t.Scope, t.Created, t.Expires)
	return t, secret, err
}

const tokenColumns = "SELECT token_id, principal_id, name, repo_id, scope, created, expires FROM token "

func scanToken(r row) Token {
	return Token{
		ID: id.Token(r.Text(0)), Principal: id.Principal(r.Text(1)), Name: r.Text(2), Repo: id.Repo(r.Text(3)),
		Scope: policy.Scope(r.Text(4)), Created: r.Time(5), Expires: r.Time(6),
	}
}

// TokenByID finds a token by its identifier, expired or not.
func (c *Control) TokenByID(ctx context.Context, t id.Token) (out Token, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		return find(q, "token "+clip(string(t)), tokenColumns+"WHERE token_id = ?", func(r row) { out = scanToken(r) }, t)
	})
	return out, err
}

// TokenFilter narrows Tokens.
type TokenFilter struct {
	Principal id.Principal
	Repo      id.Repo
}

// Tokens lists tokens by ID, after a cursor (an ID, "" at first).
func (c *Control) Tokens(ctx context.Context, f TokenFilter, after id.Token, most int) (out []Token, err error) {
	query, args := tokenColumns+"WHERE token_id > ?", []any{after}
	if f.Principal != "" {
		query, args = query+" AND principal_id = ?", append(args, f.Principal)
	}
	err = c.db.Read(ctx, func(q conn) error {
		if f.Repo != "" {
			// The tenant leads the index. A repository that is gone has no tokens.
			r, err := repoByID(q, f.Repo)
			if err != nil {
				return err
			}
			query, args = query+" AND tenant_id = ? AND repo_id = ?", append(args, r.Tenant, r.ID)
		}
		for r, err := range q.Query(query+" ORDER BY token_id LIMIT ?", append(args, page(most))...) {
			if err != nil {
				return err
			}
			out = append(out, scanToken(r))
		}
		return nil
	})
	return out, err
}

// RevokeToken deletes a token. Once it returns, the secret is refused.
func (c *Control) RevokeToken(ctx context.Context, t id.Token) error {
	var hash auth.Hash
	err := c.change(ctx, func(q *txn) error {
		var in, detail string
		err := find(q, "token "+clip(string(t)), "SELECT hash, tenant_id, token.name, principal.name FROM token JOIN principal USING (principal_id) WHERE token_id = ?",
			func(r row) {
				r.Copy(0, hash[:])
				in, detail = r.Text(1), fmt.Sprintf("of %s, %q", r.Text(3), r.Text(2))
			}, t)
		if err != nil {
			return err
		}
		if err := q.record(audit.Entry{Action: "token.revoke", Tenant: in, Resource: "token/" + string(t), Detail: detail}); err != nil {
			return err
		}
		return q.Exec("DELETE FROM token WHERE token_id = ?", t)
	}, func() { c.cache.principals.drop(hash) }, principalKind)
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	return nil
}

// credential is a token as a request needs it.
type credential struct {
	principal policy.Principal
	expires   time.Time
	repo      string // that a signed token is limited to: see bind
}

// Principal finds the principal behind a token's hash, with its memberships.
func (c *Control) Principal(ctx context.Context, h auth.Hash) (policy.Principal, error) {
	cred, ok := c.cache.principals.get(h)
	if !ok {
		before := c.cache.principals.version()
		err := c.db.Read(ctx, func(q conn) (err error) {
			cred, err = loadCredential(q, h)
			return err
		})
		if err != nil {
			return policy.Principal{}, err
		}
		c.cache.principals.put(h, cred, before)
	}
	if !cred.expires.IsZero() && !c.now().Before(cred.expires) {
		return policy.Principal{}, fmt.Errorf("token has expired: %w", errkind.Unauthorized)
	}
	return cred.principal, nil
}

func loadCredential(q conn, h auth.Hash) (cred credential, err error) {
	p := &cred.principal
	ok, err := q.First(`SELECT principal_id, admin, scope, repo_id, expires, token_id, principal.name, class
		FROM token JOIN principal USING (principal_id) WHERE hash = ?`, func(r row) {
		p.ID, p.Admin = id.Principal(r.Text(0)), r.Bool(1)
		p.Scope, p.Repo = policy.Scope(r.Text(2)), id.Repo(r.Text(3))
		cred.expires, p.Token = r.Time(4), id.Token(r.Text(5))
		p.Name, p.Class = r.Text(6), policy.Class(r.Text(7))
	}, h)
	if err != nil {
		return credential{}, err
	}
	if !ok {
		return credential{}, fmt.Errorf("token is not known: %w", errkind.Unauthorized)
	}
	return cred, loadBelonging(q, p)
}
