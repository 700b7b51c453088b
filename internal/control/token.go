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
	Prefix    string    // how the secret begins; empty of tokens that an older version made

	// What it was made with, and ends with. One of them or none: of the first token, and of those that an older version made.
	Parent      id.Token
	Certificate id.Certificate

	Use
}

const (
	// maxTokens is how many tokens a principal may have: agents make one for each task, and so fill a disk by mistake.
	maxTokens = 10_000
	// expiredKept is how long an expired token stays in lists, so that its owner can see why something stopped.
	expiredKept = 7 * 24 * time.Hour
	// maxTokenDepth bounds how many tokens are made with one another: their end is one statement, and each finds the next.
	maxTokenDepth = 16
)

// CreateToken makes a token and returns its secret, which is never seen again. Of t it takes Principal, Name, Repo, Scope,
// Expires, and Parent or Certificate, after which it does not end.
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
	if err := checkParent(q, &t); err != nil {
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
		detail += ", for " + r.Path
	}
	if !t.Expires.IsZero() {
		detail += ", until " + t.Expires.Format(time.RFC3339)
	}
	if err := q.record(audit.Entry{Action: "token.create", Tenant: string(in), Resource: "token/" + string(t.ID), Detail: detail}); err != nil {
		return Token{}, "", err
	}
	secret, hash := auth.NewSecret()
	t.Prefix = auth.Mark(secret)
	var parent, certificate any
	if t.Parent != "" {
		parent = t.Parent
	}
	if t.Certificate != "" {
		certificate = t.Certificate
	}
	err = q.Exec(`INSERT INTO token (token_id, hash, principal_id, tenant_id, repo_id, name, scope, created, expires, prefix, parent_id, certificate_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		t.ID, hash, t.Principal, tenant, repo, t.Name, t.Scope, t.Created, t.Expires, t.Prefix, parent, certificate)
	return t, secret, err
}

// checkParent sees to it that a new token does not outlive the one that it is made with, which may have ended meanwhile.
func checkParent(q *txn, t *Token) error {
	if t.Certificate != "" {
		ok, err := exists(q, "SELECT 1 FROM certificate WHERE certificate_id = ?", t.Certificate)
		if err == nil && !ok {
			err = fmt.Errorf("the certificate that asks is not taken any more: %w", errkind.Unauthorized)
		}
		if err != nil {
			return err
		}
	}
	at := t.Parent
	for depth := 1; at != ""; depth++ {
		var up Token
		if ok, err := q.First(tokenColumns+"WHERE token_id = ?", func(r row) { up = scanToken(r) }, at); err != nil || !ok {
			if err == nil {
				err = fmt.Errorf("the token that asks has ended: %w", errkind.Unauthorized)
			}
			return err
		}
		if depth >= maxTokenDepth {
			return fmt.Errorf("%d tokens are made with one another already: use one of the first: %w", maxTokenDepth, errkind.TooLarge)
		}
		if !up.Expires.IsZero() && (t.Expires.IsZero() || up.Expires.Before(t.Expires)) {
			t.Expires = up.Expires
		}
		at = up.Parent
	}
	if !t.Expires.IsZero() && !t.Expires.After(q.at) {
		return fmt.Errorf("the token that asks has ended: %w", errkind.Unauthorized)
	}
	return nil
}

const tokenColumns = `SELECT token_id, principal_id, name, repo_id, scope, created, expires, prefix, parent_id, certificate_id, used, used_from
	FROM token `

func scanToken(r row) Token {
	return Token{
		ID: id.Token(r.Text(0)), Principal: id.Principal(r.Text(1)), Name: r.Text(2), Repo: id.Repo(r.Text(3)),
		Scope: policy.Scope(r.Text(4)), Created: r.Time(5), Expires: r.Time(6), Prefix: r.Text(7),
		Parent: id.Token(r.Text(8)), Certificate: id.Certificate(r.Text(9)), Use: scanUse(r, 10),
	}
}

// TokenByID finds a token by its identifier, expired or not.
func (c *Control) TokenByID(ctx context.Context, t id.Token) (out Token, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		return find(q, "token "+clip(string(t)), tokenColumns+"WHERE token_id = ?", func(r row) { out = scanToken(r) }, t)
	})
	c.uses.add(string(out.ID), &out.Use)
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
	for i := range out {
		c.uses.add(string(out[i].ID), &out[i].Use)
	}
	return out, err
}

// RevokeToken deletes a token, and those that were made with it. Once it returns, their secrets are refused.
func (c *Control) RevokeToken(ctx context.Context, t id.Token) error {
	const ending = `WITH RECURSIVE ending (token_id) AS (
		SELECT token_id FROM token WHERE token_id = ?
		UNION SELECT token.token_id FROM token JOIN ending ON token.parent_id = ending.token_id
	) SELECT hash FROM token JOIN ending USING (token_id)`
	var hashes []auth.Hash
	err := c.change(ctx, func(q *txn) error {
		in, detail, err := describeToken(q, t)
		if err != nil {
			return err
		}
		hashes = nil
		for r, err := range q.Query(ending, t) {
			if err != nil {
				return err
			}
			hashes = append(hashes, auth.Hash(r.Bytes(0)))
		}
		if more := len(hashes) - 1; more > 0 {
			detail += fmt.Sprintf(", and %d made with it", more)
		}
		if err := q.record(audit.Entry{Action: "token.revoke", Tenant: in, Resource: "token/" + string(t), Detail: detail}); err != nil {
			return err
		}
		return q.Exec("DELETE FROM token WHERE token_id = ?", t)
	}, func() {
		for _, h := range hashes {
			c.cache.principals.drop(h)
		}
	}, principalKind)
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	return nil
}

// describeToken is what the audit log says of a token that is there.
func describeToken(q conn, t id.Token) (in, detail string, err error) {
	err = find(q, "token "+clip(string(t)), "SELECT tenant_id, token.name, principal.name FROM token JOIN principal USING (principal_id) WHERE token_id = ?",
		func(r row) { in, detail = r.Text(0), fmt.Sprintf("of %s, %q", r.Text(2), r.Text(1)) }, t)
	return in, detail, err
}

// RotateToken gives a token another secret, and all else stays: also the tokens that were made with it. Once it returns, the
// old secret is refused.
func (c *Control) RotateToken(ctx context.Context, t id.Token) (Token, string, error) {
	secret, hash := auth.NewSecret()
	err := c.change(ctx, func(q *txn) error {
		in, detail, err := describeToken(q, t)
		if err != nil {
			return err
		}
		if err := q.record(audit.Entry{Action: "token.rotate", Tenant: in, Resource: "token/" + string(t), Detail: detail}); err != nil {
			return err
		}
		return q.Exec("UPDATE token SET hash = ?, prefix = ? WHERE token_id = ?", hash, auth.Mark(secret), t)
	}, c.cache.principals.clear, principalKind)
	if err != nil {
		return Token{}, "", fmt.Errorf("rotate token: %w", err)
	}
	out, err := c.TokenByID(ctx, t)
	return out, secret, err
}

// credential is a token or a session as a request needs it.
type credential struct {
	principal policy.Principal
	expires   time.Time
	repo      string       // that a signed token is limited to: see bind
	issuer    id.Issuer    // of a signed token
	session   sessionTimes // of a session
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
	if cred.principal.Token == "" {
		return policy.Principal{}, fmt.Errorf("token is a session's secret: %w", errkind.Unauthorized)
	}
	if !cred.expires.IsZero() && !c.now().Before(cred.expires) {
		return policy.Principal{}, fmt.Errorf("token has expired: %w", errkind.Unauthorized)
	}
	return cred.principal, nil
}

func loadCredential(q conn, h auth.Hash) (cred credential, err error) {
	p := &cred.principal
	ok, err := q.First(`SELECT principal_id, admin, scope, repo_id, expires, token_id, principal.name, class, tenant_id, home_id
		FROM token JOIN principal USING (principal_id)
		WHERE hash = ? AND (home_id IS NULL OR home_id IN (SELECT tenant_id FROM tenant WHERE deleted = 0))`, func(r row) {
		p.ID, p.Admin = id.Principal(r.Text(0)), r.Bool(1)
		p.Scope, p.Repo = policy.Scope(r.Text(2)), id.Repo(r.Text(3))
		cred.expires, p.Token = r.Time(4), id.Token(r.Text(5))
		p.Name, p.Class, p.RepoTenant = r.Text(6), policy.Class(r.Text(7)), id.Tenant(r.Text(8))
		p.Home = id.Tenant(r.Text(9))
	}, h)
	if err != nil {
		return credential{}, err
	}
	if !ok {
		return credential{}, fmt.Errorf("token is not known: %w", errkind.Unauthorized)
	}
	return cred, loadBelonging(q, p)
}
