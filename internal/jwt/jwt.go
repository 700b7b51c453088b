// Package jwt checks JSON Web Tokens that tenants sign with keys of their own.
//
//	t, err := jwt.Parse(text)              // its form; nothing of it is proven yet
//	claims, err := t.Verify(keys, iss, aud, now)
//
// A token (RFC 7519) is a header, claims and a signature over both, in JWS's compact form (RFC 7515). What can go wrong with these
// is known by now (RFC 8725), and decided here so that a token has no say in it: the algorithms are ES256, RS256 and EdDSA; a key's
// type fixes its algorithm; keys come from the set that was registered and never from a token, whatever jwk, jku, x5u or x5c it
// has; a header that must be understood (crit) is not; a token ends within a day and says for whom it was made.
package jwt

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"github.com/skep-dev/skep/internal/errkind"
)

// Limits on a token.
const (
	MaxBytes = 4 << 10          // of its text: with an RS256 signature of 4096 bits there is room for 2 KiB of claims
	MaxLife  = 24 * time.Hour   // from iat to exp, and from now to exp
	MaxSkew  = 60 * time.Second // how far an issuer's clock may be ahead of ours

	maxClaimBytes = 512 // of each claim that is used
	maxAudiences  = 20
)

// Token is a token of which nothing is proven yet.
type Token struct {
	Issuer string // the iss claim: who is said to have signed it
	Tenant string // the tenant claim: in whose name; may be empty

	keyID string
	alg   jose.SignatureAlgorithm
	jws   *jose.JSONWebSignature
}

// Claims are what a token says that is of use here. All but Subject and Expires may be empty.
type Claims struct {
	Subject string
	Expires time.Time

	// What the principal is to be limited to.
	Role, Scope, Repo string
}

// body is a token's payload. Times are seconds since 1970, which may have fractions.
type body struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Expires  *float64 `json:"exp"`
	NotYet   *float64 `json:"nbf"`
	Issued   *float64 `json:"iat"`
	ID       string   `json:"jti"`
	Tenant   string   `json:"tenant"`
	Role     string   `json:"role"`
	Scope    string   `json:"scope"`
	Repo     string   `json:"repo"`
}

// audience is one or several (RFC 7519 section 4.1.3).
type audience []string

// UnmarshalJSON takes a string or a list of strings.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return err //nolint:wrapcheck // decode says what it means
	}
	*a = list
	return nil
}

// LooksLike reports whether a credential has the form of a token: three parts of base64url.
func LooksLike(s string) bool {
	if !strings.HasPrefix(s, "ey") || strings.Count(s, ".") != 2 { // ey is {"
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// Parse reads a token's text. An error is errkind.Unauthorized, and has nothing of the token in it.
func Parse(text string) (*Token, error) {
	if len(text) > MaxBytes {
		return nil, refuse("it is longer than %d bytes", MaxBytes)
	}
	if !LooksLike(text) {
		return nil, refuse("it is not three parts of base64url")
	}
	jws, err := jose.ParseSignedCompact(text, algorithms)
	if err != nil {
		return nil, refuse("its header cannot be read, or its algorithm is none of ES256, RS256, EdDSA")
	}
	head := jws.Signatures[0].Protected
	if _, ok := head.ExtraHeaders["crit"]; ok {
		return nil, refuse("its header has crit")
	}
	if typ, ok := head.ExtraHeaders[jose.HeaderType]; ok {
		if s, ok := typ.(string); !ok || !slices.Contains([]string{"jwt", "at+jwt", "application/jwt"}, strings.ToLower(s)) {
			return nil, refuse("its typ is not JWT")
		}
	}
	if len(head.KeyID) > maxKeyIDBytes {
		return nil, refuse("its kid is longer than %d bytes", maxKeyIDBytes)
	}
	b, err := decode(jws.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, err
	}
	return &Token{Issuer: b.Issuer, Tenant: b.Tenant, keyID: head.KeyID, alg: jose.SignatureAlgorithm(head.Algorithm), jws: jws}, nil
}

// decode reads claims. A name that is there twice is refused: two readers might take two different ones.
func decode(payload []byte) (b body, err error) {
	if err := json.Unmarshal(payload, &b); err != nil {
		return b, refuse("its claims are not a JSON object with the types of RFC 7519")
	}
	for _, s := range []string{b.Issuer, b.Subject, b.ID, b.Tenant, b.Role, b.Scope, b.Repo} {
		if len(s) > maxClaimBytes {
			return b, refuse("a claim is longer than %d bytes", maxClaimBytes)
		}
	}
	switch {
	case b.Issuer == "":
		return b, refuse("it has no iss")
	case len(b.Audience) > maxAudiences:
		return b, refuse("it is for more than %d audiences", maxAudiences)
	}
	return b, nil
}

// Fits reports whether a set has the key that the token names.
func (t *Token) Fits(keys Keys) bool { return keys.choose(t.keyID, t.alg) != nil }

// Verify checks the signature and then the claims: that issuer has made the token for audience, and that it counts now. Errors are
// errkind.Unauthorized. proven says whether the signature is good: then the error may be shown to whoever sent the token.
func (t *Token) Verify(keys Keys, issuer, audience string, now time.Time) (c Claims, proven bool, err error) {
	k := keys.choose(t.keyID, t.alg)
	if k == nil {
		return Claims{}, false, refuse("its issuer has no such key")
	}
	payload, err := t.jws.Verify(k.public)
	if err != nil {
		return Claims{}, false, refuse("its signature is wrong")
	}
	b, err := decode(payload)
	if err == nil {
		err = b.check(issuer, audience, now)
	}
	if err != nil {
		return Claims{}, true, err
	}
	return Claims{Subject: b.Subject, Expires: b.expires(), Role: b.Role, Scope: b.Scope, Repo: b.Repo}, true, nil
}

func (b *body) check(issuer, audience string, now time.Time) error {
	switch {
	case b.Issuer != issuer:
		return refuse("its iss is another")
	case b.Subject == "":
		return refuse("it has no sub")
	case !slices.Contains(b.Audience, audience):
		return refuse("its aud is not %s", audience)
	case b.Expires == nil:
		return refuse("it has no exp")
	}
	for _, at := range []*float64{b.Expires, b.NotYet, b.Issued} {
		if at != nil && !(*at >= 0 && *at < 1<<40) { // the year 36,812; no NaN either
			return refuse("one of its times is out of range")
		}
	}
	ends, latest := b.expires(), now.Add(MaxSkew)
	switch {
	case !now.Before(ends):
		return refuse("it has expired")
	case b.NotYet != nil && seconds(*b.NotYet).After(latest):
		return refuse("its nbf is in the future")
	case b.Issued != nil && seconds(*b.Issued).After(latest):
		return refuse("its iat is in the future")
	case ends.After(latest.Add(MaxLife)), b.Issued != nil && ends.Sub(seconds(*b.Issued)) > MaxLife:
		return refuse("it lives longer than %d hours", int(MaxLife.Hours()))
	}
	return nil
}

func (b *body) expires() time.Time { return seconds(*b.Expires) }

func seconds(s float64) time.Time { return time.UnixMicro(int64(s * 1e6)) }

func refuse(why string, args ...any) error {
	return fmt.Errorf(why+": %w", append(args, errkind.Unauthorized)...)
}
