// Package auth turns a credential into a principal.
//
// A credential is a token, a JWT that an issuer of a tenant has signed (package jwt), a client certificate, the secret of a
// browser's session, or an SSH certificate.
//
// A token's secret is 256 random bits. Its SHA-256 is stored, and the six digits with which it begins (Mark), so who reads
// the database cannot act as anybody. A password would need a slow, salted hash because it can be guessed; 256 random bits cannot, and a fast hash lets each
// request be checked in microseconds. The hash is also what is looked up, and that the look-up's time depends on its
// input tells nothing: to use it, one would have to choose hashes byte by byte, that is, to invert SHA-256.
//
// Errors never carry the credential, or any part of it.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/jwt"
	"github.com/skep-dev/skep/internal/policy"
)

// secretPrefix lets people and secret scanners recognise what they found.
const secretPrefix = "skep_"

const (
	secretBytes  = 32 // 256 bits: cannot be guessed, whatever the number of tokens
	secretDigits = 43 // of base64url, which secretBytes need
	markDigits   = 6  // 36 bits: ten thousand tokens hardly share one
)

// Hash is the SHA-256 of a secret, by which it is looked up.
type Hash [sha256.Size]byte

// NewSecret makes a token's secret, 256 random bits: skep_ and 43 characters of base64url.
func NewSecret() (secret string, h Hash) {
	secret = secretPrefix + newDigits()
	return secret, HashSecret(secret)
}

// Mark is how a secret begins: enough to tell which one was found somewhere, and 220 bits short of using it.
func Mark(secret string) string { return secret[:min(len(secret), len(secretPrefix)+markDigits)] }

// NewSessionSecret makes the secret of a browser's session or of a terminal that waits: 256 random bits, 43 characters of
// base64url. It lacks a token's prefix, so that neither can be taken for the other.
func NewSessionSecret() (secret string, h Hash) {
	secret = newDigits()
	return secret, HashSecret(secret)
}

// newDigits are secretBytes at random, as secretDigits.
func newDigits() string {
	var b [secretBytes]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// SessionHash is how the secret of a session or a waiting terminal is looked up; false: it does not look like one.
func SessionHash(secret string) (Hash, bool) { return HashSecret(secret), hasDigits(secret) }

// HashSecret is how a presented secret is looked up.
func HashSecret(secret string) Hash { return sha256.Sum256([]byte(secret)) }

// Tokens finds the principal behind a token, behind a JWT that somebody's key has signed, or behind a client certificate by its
// SHA-256 and names: errkind.Unauthorized when it is unknown, expired or revoked.
type Tokens interface {
	Principal(ctx context.Context, h Hash) (policy.Principal, error)
	Signed(ctx context.Context, text string) (policy.Principal, error)
	Presented(ctx context.Context, h Hash, names []Name) (policy.Principal, error)
}

// Refusal is why a credential that is known to be somebody's is refused: whoever sent it may read it.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Unwrap says that a credential is what is missing.
func (r Refusal) Unwrap() error { return errkind.Unauthorized }

// FromSecret authenticates whoever presents a secret. What does not even look like one is refused without a look-up.
func FromSecret(ctx context.Context, tokens Tokens, secret string) (policy.Principal, error) {
	var p policy.Principal
	var err error
	switch {
	case wellFormed(secret):
		p, err = tokens.Principal(ctx, HashSecret(secret))
	case jwt.LooksLike(secret):
		p, err = tokens.Signed(ctx, secret)
	default:
		err = fmt.Errorf("it is not a token: %w", errkind.Unauthorized)
	}
	if err != nil {
		return policy.Principal{}, fmt.Errorf("check token: %w", err)
	}
	if p.Anonymous() {
		panic("bug: a token of nobody")
	}
	return p, nil
}

func wellFormed(secret string) bool {
	digits, ok := strings.CutPrefix(secret, secretPrefix)
	return ok && hasDigits(digits)
}

func hasDigits(digits string) bool {
	if len(digits) != secretDigits {
		return false
	}
	for i := range len(digits) {
		switch c := digits[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
