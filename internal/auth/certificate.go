package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// NameKind is by what a client certificate is known.
type NameKind string

// The kinds of name.
const (
	CommonName  NameKind = "cn"          // of the subject
	DNSName     NameKind = "dns"         // a subject alternative name, as the next two; in lower case
	EmailName   NameKind = "email"       // case counts
	URIName     NameKind = "uri"         // SPIFFE's, for example
	Fingerprint NameKind = "fingerprint" // SHA-256 of the certificate, in lower-case hexadecimal digits
)

// Known reports whether k is one of the kinds.
func (k NameKind) Known() bool {
	return k == CommonName || k == DNSName || k == EmailName || k == URIName || k == Fingerprint
}

// Name is one of the names of a certificate.
type Name struct {
	Kind  NameKind
	Value string
}

// maxNames bounds the names of a certificate: each is looked up.
const maxNames = 20

// ClientCertificate is the certificate of a request's client if the connection has one that an authority vouches for, else nil.
func ClientCertificate(r *http.Request) *x509.Certificate {
	// Chains, and not the certificates that were sent: those may be anybody's.
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return nil
	}
	return r.TLS.VerifiedChains[0][0]
}

// fromCertificate finds the principal of a client certificate.
func fromCertificate(ctx context.Context, tokens Tokens, c *x509.Certificate) (policy.Principal, error) {
	if time.Now().After(c.NotAfter) { // the connection is older
		return policy.Principal{}, Refusal("the client certificate has expired")
	}
	h := Hash(sha256.Sum256(c.Raw))
	names := []Name{{Fingerprint, fmt.Sprintf("%x", h)}}
	add := func(k NameKind, value string) {
		if value != "" {
			names = append(names, Name{k, value})
		}
	}
	add(CommonName, c.Subject.CommonName)
	for _, n := range c.DNSNames {
		add(DNSName, strings.ToLower(n))
	}
	for _, n := range c.EmailAddresses {
		add(EmailName, n)
	}
	for _, u := range c.URIs {
		add(URIName, u.String())
	}
	if len(names) > maxNames {
		return policy.Principal{}, Refusal(fmt.Sprintf("the client certificate has more than %d names", maxNames))
	}
	p, err := tokens.Presented(ctx, h, names)
	if err != nil {
		return policy.Principal{}, fmt.Errorf("check client certificate: %w", err)
	}
	if p.Anonymous() {
		panic("bug: a certificate of nobody")
	}
	return p, nil
}

// both decides about a request whose connection has a client certificate and which has another credential, too: that one counts. But
// whoever knows two principals may not choose between them by what a proxy or a program adds.
func both(p, holder policy.Principal, certificate error) (policy.Principal, error) {
	switch {
	case certificate == nil && holder.ID != p.ID:
		return policy.Principal{}, fmt.Errorf("the client certificate is another principal's than the token: %w", errkind.Invalid)
	case certificate != nil && errkind.Of(certificate) != errkind.Unauthorized:
		return policy.Principal{}, certificate
	}
	return p, nil
}
