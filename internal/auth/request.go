package auth

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/jwt"
	"github.com/skep-dev/skep/internal/policy"
)

// maxHeaderBytes bounds a credential's header: a JWT of jwt.MaxBytes in base64, with a short user name before it.
const maxHeaderBytes = (jwt.MaxBytes + 256) * 4 / 3

// oauthPassword is the password of clients that put the token where the user name belongs, after GitHub's example.
const oauthPassword = "x-oauth-basic"

// FromRequest authenticates an HTTP request: Authorization Bearer, X-API-Key, or Basic with the token as password (or as
// user name with an empty password or "x-oauth-basic"), or the client certificate of its connection. Without any of them the zero,
// anonymous Principal comes back. A credential that is wrong is an error even where anonymous callers may read:
// errkind.Unauthorized when it is not accepted, errkind.Invalid when it cannot be understood.
func FromRequest(ctx context.Context, tokens Tokens, r *http.Request) (policy.Principal, error) {
	secret, presented, err := secretOf(r)
	if err != nil {
		return policy.Principal{}, err
	}
	var p, holder policy.Principal
	if presented {
		if p, err = FromSecret(ctx, tokens, secret); err != nil {
			return policy.Principal{}, err
		}
	}
	c := ClientCertificate(r)
	if c == nil {
		return p, nil
	}
	holder, err = fromCertificate(ctx, tokens, c)
	if presented {
		return both(p, holder, err)
	}
	return holder, err
}

// secretOf finds the one secret of a request's headers.
func secretOf(r *http.Request) (secret string, presented bool, err error) {
	authorization, keys := r.Header.Values("Authorization"), r.Header.Values("X-API-Key")
	switch {
	case len(authorization)+len(keys) == 0:
		return "", false, nil
	case len(authorization)+len(keys) > 1:
		// Whichever we took, something in front of us might have judged the other.
		return "", true, fmt.Errorf("more than one credential in the request: %w", errkind.Invalid)
	case len(keys) > 0:
		secret, err = fromAPIKey(keys[0])
	default:
		secret, err = fromAuthorization(authorization[0])
	}
	return secret, true, err
}

func fromAPIKey(header string) (string, error) {
	if len(header) > maxHeaderBytes {
		return "", fmt.Errorf("header X-API-Key is longer than %d bytes: %w", maxHeaderBytes, errkind.Invalid)
	}
	return strings.TrimSpace(header), nil
}

// fromAuthorization finds the secret in an Authorization header (RFC 9110 section 11.4, RFC 7617, RFC 6750).
func fromAuthorization(header string) (string, error) {
	if len(header) > maxHeaderBytes {
		return "", fmt.Errorf("header Authorization is longer than %d bytes: %w", maxHeaderBytes, errkind.Invalid)
	}
	scheme, credentials, _ := strings.Cut(strings.TrimSpace(header), " ")
	credentials = strings.TrimLeft(credentials, " ")
	switch strings.ToLower(scheme) {
	case "bearer":
		return credentials, nil
	case "basic":
		return fromBasic(credentials)
	}
	return "", fmt.Errorf("authorization scheme is neither Bearer nor Basic: %w", errkind.Unauthorized)
}

func fromBasic(credentials string) (string, error) {
	// Some clients leave out the padding.
	text, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(credentials, "="))
	if err != nil {
		return "", fmt.Errorf("basic credentials are not base64: %w", errkind.Invalid) // err would quote a part of them
	}
	user, password, ok := strings.Cut(string(text), ":")
	switch {
	case !ok:
		return "", fmt.Errorf("basic credentials have no colon: %w", errkind.Invalid)
	case password == "" || password == oauthPassword:
		return user, nil
	}
	return password, nil
}
