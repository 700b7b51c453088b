// Package id gives typed identifiers to tenants, repositories, principals and what lets these in.
//
// An identifier is a prefix that says what it names and a ULID (https://github.com/ulid/spec) in lower case:
// repo_01jd4x5vwr9ab3k6m0q7z2c8ye. Identifiers of one type sort by the time at which they were made.
package id

import (
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/skep-dev/skep/internal/errkind"
)

type (
	// Tenant names a tenant: ten_…
	Tenant string
	// Repo names a repository: repo_…
	Repo string
	// Principal names a principal: usr_…
	Principal string
	// Token names a token, and is not its secret: tok_…
	Token string
	// Issuer names an issuer of tokens that a tenant trusts: iss_…
	Issuer string
	// Certificate names what lets a client certificate in: crt_…
	Certificate string
	// Session names a browser's session, and is not its secret: ses_…
	Session string
	// Key names an SSH key: key_…
	Key string
	// DeployKey names an SSH key of a repository: dpl_…
	DeployKey string
	// SSHAuthority names an SSH certificate authority that a tenant trusts: sca_…
	SSHAuthority string
	// Invitation names an invitation, and is not its secret: inv_…
	Invitation string
	// Document names a document of configuration: doc_…
	Document string
)

const (
	tenantPrefix    = "ten_"
	repoPrefix      = "repo_"
	principalPrefix = "usr_"
	tokenPrefix     = "tok_"
	issuerPrefix    = "iss_"
	certPrefix      = "crt_"
	sessionPrefix   = "ses_"
	keyPrefix       = "key_"
	deployPrefix    = "dpl_"
	authorityPrefix = "sca_"
	invitePrefix    = "inv_"
	documentPrefix  = "doc_"
)

// NewTenant makes the identifier of a new tenant.
func NewTenant() Tenant { return Tenant(tenantPrefix + fresh()) }

// NewRepo makes the identifier of a new repository.
func NewRepo() Repo { return Repo(repoPrefix + fresh()) }

// NewPrincipal makes the identifier of a new principal.
func NewPrincipal() Principal { return Principal(principalPrefix + fresh()) }

// NewToken makes the identifier of a new token. It is not the secret.
func NewToken() Token { return Token(tokenPrefix + fresh()) }

// NewIssuer makes the identifier of a new issuer.
func NewIssuer() Issuer { return Issuer(issuerPrefix + fresh()) }

// NewCertificate makes the identifier of what lets a client certificate in.
func NewCertificate() Certificate { return Certificate(certPrefix + fresh()) }

// NewSession makes the identifier of a new session. It is not the secret.
func NewSession() Session { return Session(sessionPrefix + fresh()) }

// NewKey makes the identifier of a new SSH key.
func NewKey() Key { return Key(keyPrefix + fresh()) }

// NewDeployKey makes the identifier of an SSH key of a repository.
func NewDeployKey() DeployKey { return DeployKey(deployPrefix + fresh()) }

// NewSSHAuthority makes the identifier of an SSH certificate authority.
func NewSSHAuthority() SSHAuthority { return SSHAuthority(authorityPrefix + fresh()) }

// NewInvitation makes the identifier of a new invitation. It is not the secret.
func NewInvitation() Invitation { return Invitation(invitePrefix + fresh()) }

// NewDocument makes the identifier of a new document.
func NewDocument() Document { return Document(documentPrefix + fresh()) }

// ParseTenant checks the form of a tenant's identifier.
func ParseTenant(s string) (Tenant, error) { return parse[Tenant](s, tenantPrefix) }

// ParseRepo checks the form of a repository's identifier. A Repo that came from it is safe in a file name.
func ParseRepo(s string) (Repo, error) { return parse[Repo](s, repoPrefix) }

// ParsePrincipal checks the form of a principal's identifier.
func ParsePrincipal(s string) (Principal, error) { return parse[Principal](s, principalPrefix) }

// ParseToken checks the form of a token's identifier.
func ParseToken(s string) (Token, error) { return parse[Token](s, tokenPrefix) }

// ParseCertificate checks the form of the identifier of what lets a client certificate in.
func ParseCertificate(s string) (Certificate, error) { return parse[Certificate](s, certPrefix) }

// ParseSession checks the form of a session's identifier.
func ParseSession(s string) (Session, error) { return parse[Session](s, sessionPrefix) }

// ParseKey checks the form of an SSH key's identifier.
func ParseKey(s string) (Key, error) { return parse[Key](s, keyPrefix) }

// ParseDeployKey checks the form of the identifier of an SSH key of a repository.
func ParseDeployKey(s string) (DeployKey, error) { return parse[DeployKey](s, deployPrefix) }

// ParseInvitation checks the form of an invitation's identifier.
func ParseInvitation(s string) (Invitation, error) { return parse[Invitation](s, invitePrefix) }

// ParseDocument checks the form of a document's identifier.
func ParseDocument(s string) (Document, error) { return parse[Document](s, documentPrefix) }

func fresh() string { return strings.ToLower(ulid.Make().String()) }

func parse[T ~string](s, prefix string) (T, error) {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok || rest != strings.ToLower(rest) {
		return "", fmt.Errorf("identifier %q does not start with %s: %w", s, prefix, errkind.Invalid)
	}
	if _, err := ulid.ParseStrict(rest); err != nil {
		return "", fmt.Errorf("identifier %q: %w", s, errkind.Invalid)
	}
	return T(s), nil
}
