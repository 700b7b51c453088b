package server

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

const (
	// repoTokenTTL is how long a repository's token lives unless somebody says otherwise: an agent's credential.
	repoTokenTTL = time.Hour
	// maxTTL bounds what a ttl may say; without a ttl a token lives for ever.
	maxTTL = 10 * 365 * 24 * time.Hour
)

func (a *restAPI) registerTokens() {
	const tag = "tokens"
	handle(a, op(http.MethodPost, "/tokens", "create-token", tag, "Create a token, no stronger than your own"), a.createToken)
	handle(a, op(http.MethodGet, "/tokens", "list-tokens", tag, "List tokens: your own, or all of a repository's"), a.listTokens)
	o := op(http.MethodPost, "/tokens/rotate", "rotate-token", tag, "Replace the secret of the token that asks")
	o.DefaultStatus = http.StatusOK
	handle(a, o, a.rotateToken)
	handle(a, op(http.MethodDelete, "/tokens/{token}", "revoke-token", tag, "Revoke a token"), a.revokeToken)
}

func tokenOut(t control.Token) client.Token {
	o := client.Token{
		ID: t.ID, Principal: t.Principal, Name: t.Name, Repo: t.Repo, Scope: t.Scope, CreatedAt: t.Created, Prefix: t.Prefix,
		Parent: t.Parent, Certificate: t.Certificate, LastUsedAt: timeOut(t.Used), LastUsedFrom: t.UsedFrom, ExpiresAt: timeOut(t.Expires),
	}
	return o
}

// timeOut leaves out what is not known.
func timeOut(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// createToken makes a token for the caller, or for another principal if the caller governs it. It is never
// stronger than the one it was asked for with: neither in scope, nor in reach, nor in time. It ends with it.
func (a *restAPI) createToken(ctx context.Context, p policy.Principal, in *struct{ Body client.CreateToken }) (*out[client.CreatedToken], error) {
	if p.Anonymous() {
		return nil, errAnonymous
	}
	if p.Within != "" {
		return nil, errSigned
	}
	want := in.Body
	t := control.Token{Principal: p.ID, Name: want.Name, Scope: want.Scope, Repo: p.Repo}
	if want.Repo != "" {
		action := policy.RepoRead
		if want.Scope != policy.ScopeRead {
			action = policy.RepoWrite
		}
		repo, err := a.repo(ctx, p, action, func() (control.Repo, error) { return a.findRepo(ctx, want.Repo) })
		if err != nil {
			return nil, err
		}
		if p.Repo != "" && p.Repo != repo.ID {
			return nil, denial{errkind.Forbidden, "a token for one repository makes tokens for that one only"}
		}
		t.Repo = repo.ID
	}
	if want.Principal != "" && want.Principal != p.ID {
		who, err := a.governed(ctx, p, string(want.Principal))
		if err != nil {
			return nil, err
		}
		t.Principal = who.ID
	}
	if t.Scope.Wider(p.Scope) {
		return nil, denial{errkind.Forbidden, "a token cannot make one of a wider scope than its own"}
	}
	var err error
	if t.Expires, err = tokenExpiry(t, want.TTL); err != nil {
		return nil, err
	}
	if err := a.boundBySession(ctx, p, &t); err != nil {
		return nil, err
	}
	if parent, err := id.ParseToken(string(p.Token)); err == nil {
		t.Parent = parent
	}
	if parent, err := id.ParseCertificate(string(p.Token)); err == nil {
		t.Certificate = parent
		if ends := callOf(ctx).certEnds; t.Expires.IsZero() || ends.Before(t.Expires) {
			t.Expires = ends
		}
	}
	t, secret, err := a.control.CreateToken(ctx, t)
	if err != nil {
		return nil, err
	}
	return &out[client.CreatedToken]{client.CreatedToken{Token: tokenOut(t), Secret: secret}}, nil
}

// tokenExpiry says when a new token ends at the latest.
func tokenExpiry(t control.Token, ttl string) (time.Time, error) {
	switch {
	case ttl != "":
		d, err := parseTTL(ttl)
		return time.Now().Add(d), err
	case t.Repo != "":
		return time.Now().Add(repoTokenTTL), nil
	}
	return time.Time{}, nil
}

// boundBySession sees to it that a token does not outlive the session that asks for it. It does not end with a logout.
func (a *restAPI) boundBySession(ctx context.Context, p policy.Principal, t *control.Token) error {
	if p.Session == "" {
		return nil
	}
	own, err := a.control.SessionByID(ctx, p.Session)
	if err == nil && (t.Expires.IsZero() || own.Expires.Before(t.Expires)) {
		t.Expires = own.Expires
	}
	return err
}

// parseTTL reads 90s, 1h30m, 30d.
func parseTTL(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		if n > int(maxTTL/(24*time.Hour)) {
			n = 0
		}
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < time.Second || d > maxTTL {
		return 0, fmt.Errorf("ttl %q is not a time between 1s and 3650d: %w", s, errkind.Invalid)
	}
	return d, nil
}

// listTokens lists the caller's tokens, those of a repository that the caller administers, or those of a principal that it
// governs.
func (a *restAPI) listTokens(ctx context.Context, p policy.Principal, in *struct {
	Paging
	Principal string `query:"principal" maxLength:"600" doc:"ID or name; default: you, unless repo is given"`
	Repo      string `query:"repo" maxLength:"600" doc:"ID or TENANT/NAME"`
},
) (*out[client.Page[client.Token]], error) {
	if p.Anonymous() {
		return nil, errAnonymous
	}
	after, err := parseCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	var f control.TokenFilter
	if in.Repo != "" {
		repo, err := a.repo(ctx, p, policy.RepoAdmin, func() (control.Repo, error) { return a.findRepo(ctx, in.Repo) })
		if err != nil {
			return nil, err
		}
		f.Repo = repo.ID
	}
	switch {
	case in.Principal != "" && in.Principal != string(p.ID):
		who, err := a.governed(ctx, p, in.Principal)
		if err != nil {
			return nil, err
		}
		f.Principal = who.ID
	case in.Principal != "" || f.Repo == "":
		f.Principal = p.ID
		if !ownsItsTokens(p) {
			return nil, errForbidden
		}
	}
	ts, err := a.control.Tokens(ctx, f, id.Token(after), in.Limit+1)
	if err != nil {
		return nil, err
	}
	return &out[client.Page[client.Token]]{pageOf(ts, in.Limit, tokenOut, func(t control.Token) string { return string(t.ID) })}, nil
}

// ownsItsTokens reports whether the credential speaks for its whole principal: an agent's does not.
func ownsItsTokens(p policy.Principal) bool {
	return p.Scope == policy.ScopeAdmin && p.Repo == "" && p.Within == ""
}

// revokeToken ends a token: one's own, one for a repository that one administers, or one of a principal that one governs. A token
// may always end itself.
func (a *restAPI) revokeToken(ctx context.Context, p policy.Principal, in *struct {
	Token string `path:"token" maxLength:"100"`
},
) (*none, error) {
	if p.Anonymous() {
		return nil, errAnonymous
	}
	tok, err := id.ParseToken(in.Token)
	if err != nil {
		return nil, errMissing
	}
	t, err := a.control.TokenByID(ctx, tok)
	switch {
	case err != nil && errkind.Of(err) == errkind.NotFound:
		return nil, errMissing
	case err != nil:
		return nil, err
	}
	allowed := t.ID == p.Token || (t.Principal == p.ID && ownsItsTokens(p))
	if !allowed {
		_, err := a.governed(ctx, p, string(t.Principal))
		allowed = err == nil
	}
	if !allowed && t.Repo != "" {
		_, err := a.repo(ctx, p, policy.RepoAdmin, func() (control.Repo, error) { return a.control.Repo(ctx, t.Repo) })
		allowed = err == nil
	}
	if !allowed {
		return nil, errMissing
	}
	return &none{}, a.control.RevokeToken(ctx, tok)
}

// rotateToken replaces the secret of the caller's token. Of another one it would make a credential that the caller has not.
func (a *restAPI) rotateToken(ctx context.Context, p policy.Principal, _ *none) (*out[client.CreatedToken], error) {
	t, err := id.ParseToken(string(p.Token))
	switch {
	case p.Anonymous():
		return nil, errAnonymous
	case err != nil:
		return nil, denial{errkind.Invalid, "only a token can be rotated, and this request came with something else"}
	}
	made, secret, err := a.control.RotateToken(ctx, t)
	if err != nil {
		return nil, err
	}
	return &out[client.CreatedToken]{client.CreatedToken{Token: tokenOut(made), Secret: secret}}, nil
}
