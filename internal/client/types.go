package client

import (
	"time"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// Base is the path below which the API lives.
const Base = "/api/v2"

// Page is one page of a list. The next page is asked for with NextCursor; without one this page is the last.
type Page[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty" doc:"Pass as ?cursor= to get the next page; missing on the last one"`
}

// Identity is who a credential stands for.
type Identity struct {
	Principal id.Principal `json:"principal" doc:"Whom the credential stands for"`
	Name      string       `json:"name"`
	Admin     bool         `json:"admin" doc:"May do anything on this server"`
	Scope     policy.Scope `json:"scope" enum:"read,write,admin" doc:"What the token lets its principal do"`
	Repo      id.Repo      `json:"repo,omitempty" doc:"The one repository that the token is good for"`
}

// Tenant owns repositories and child tenants.
type Tenant struct {
	ID        id.Tenant `json:"id" example:"ten_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	Parent    id.Tenant `json:"parent,omitempty" doc:"Missing at the top"`
	Path      string    `json:"path" example:"acme/platform"`
	CreatedAt time.Time `json:"created_at"`
}

// CreateTenant asks for a new tenant.
type CreateTenant struct {
	Path string `json:"path" minLength:"1" maxLength:"400" example:"acme/platform" doc:"Its parent, the path up to the last slash, exists"`
}

// Principal is a person, an agent or a machine.
type Principal struct {
	ID        id.Principal `json:"id" example:"usr_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	Name      string       `json:"name"`
	Admin     bool         `json:"admin" doc:"May do anything on this server"`
	CreatedAt time.Time    `json:"created_at"`
}

// CreatePrincipal asks for a new principal.
type CreatePrincipal struct {
	Name  string `json:"name" minLength:"1" maxLength:"100"`
	Admin bool   `json:"admin,omitempty"`
}

// Member is a principal's role in a tenant.
type Member struct {
	Principal Principal   `json:"principal"`
	Role      policy.Role `json:"role" enum:"reader,writer,owner"`
}

// SetMember gives a principal a role.
type SetMember struct {
	Role policy.Role `json:"role" enum:"reader,writer,owner"`
}

// Token is what is known of a token, its secret not included.
type Token struct {
	ID        id.Token     `json:"id" example:"tok_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	Principal id.Principal `json:"principal"`
	Name      string       `json:"name"`
	Repo      id.Repo      `json:"repo,omitempty" doc:"The one repository that the token is good for"`
	Scope     policy.Scope `json:"scope" enum:"read,write,admin"`
	CreatedAt time.Time    `json:"created_at"`
	ExpiresAt *time.Time   `json:"expires_at,omitempty" doc:"Missing: it does not expire"`
}

// CreateToken asks for a token. A token never lets do more than the credential that asked for it.
type CreateToken struct {
	Principal id.Principal `json:"principal,omitempty" doc:"For whom; only an administrator asks for somebody else. Default: the caller"`
	Repo      string       `json:"repo,omitempty" maxLength:"600" doc:"ID or TENANT/NAME of the one repository that it is good for. Default: all that the principal may reach"`
	Scope     policy.Scope `json:"scope,omitempty" enum:"read,write,admin" default:"read"`
	TTL       string       `json:"ttl,omitempty" maxLength:"40" example:"1h" doc:"How long it lives, in Go's notation (90s, 1h30m) or days (30d). Default: 1h for a repository's token, otherwise for ever, but no longer than the asking credential"`
	Name      string       `json:"name,omitempty" maxLength:"100" doc:"For people, in lists"`
}

// CreatedToken is a new token with its secret, which is never shown again.
type CreatedToken struct {
	Token
	Secret string `json:"token" doc:"The secret: Bearer token, or password of HTTP Basic with any user name"`
}

// Visibility says who may read a repository.
type Visibility string

// The visibilities.
const (
	Private Visibility = "private" // its tenant's members
	Public  Visibility = "public"  // anybody, without a credential
)

// Repo is a repository.
type Repo struct {
	ID            id.Repo       `json:"id" example:"repo_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	TenantID      id.Tenant     `json:"tenant_id"`
	Tenant        string        `json:"tenant" doc:"The tenant's path" example:"acme/platform"`
	Name          string        `json:"name" example:"demo"`
	Visibility    Visibility    `json:"visibility" enum:"private,public"`
	DefaultBranch string        `json:"default_branch,omitempty" doc:"The branch that HEAD names, whether it exists or not. Not in lists"`
	Settings      *RepoSettings `json:"settings,omitempty" doc:"Not in lists"`
	CloneURL      string        `json:"clone_url" example:"https://git.example.com/acme/platform/demo.git"`
	CreatedAt     time.Time     `json:"created_at"`
	UpdatedAt     time.Time     `json:"updated_at" doc:"When this record changed, not the content"`
}

// FullName is TENANT/NAME.
func (r Repo) FullName() string { return r.Tenant + "/" + r.Name }

// RepoSettings are a repository's switches.
type RepoSettings struct {
	DenyNonFastForward bool `json:"deny_non_fast_forward" required:"false" doc:"Refuse updates that lose commits of a branch"`
	DenyDeletes        bool `json:"deny_deletes" required:"false" doc:"Refuse to delete references"`
}

// CreateRepo asks for a new repository.
type CreateRepo struct {
	Tenant         string            `json:"tenant" minLength:"1" maxLength:"400" doc:"ID or path of the tenant" example:"acme/platform"`
	Name           string            `json:"name" minLength:"1" maxLength:"110" example:"demo"`
	Visibility     Visibility        `json:"visibility,omitempty" enum:"private,public" default:"private"`
	DefaultBranch  string            `json:"default_branch,omitempty" maxLength:"250" default:"main"`
	InitialContent map[string]string `json:"initial_content,omitempty" doc:"Files of a first commit: text by path" example:"{\"README.md\":\"# Demo\\n\"}"`
}

// UpdateRepo changes what is not nil.
type UpdateRepo struct {
	Name          *string       `json:"name,omitempty" minLength:"1" maxLength:"110"`
	Visibility    *Visibility   `json:"visibility,omitempty" enum:"private,public"`
	DefaultBranch *string       `json:"default_branch,omitempty" maxLength:"250"`
	Settings      *RepoSettings `json:"settings,omitempty"`
}

// Stats is what a repository takes.
type Stats struct {
	Packs   int   `json:"packs"`
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	Refs    int   `json:"refs"`
}

// Ref is a reference.
type Ref struct {
	Name   string   `json:"name" example:"refs/heads/main"`
	SHA    git.OID  `json:"sha"`
	Peeled *git.OID `json:"peeled,omitempty" doc:"What an annotated tag leads to"`
}

// CreateRef asks for a new reference.
type CreateRef struct {
	Name string  `json:"name" minLength:"6" maxLength:"1024" example:"refs/heads/topic"`
	SHA  git.OID `json:"sha"`
}

// UpdateRef moves a reference.
type UpdateRef struct {
	SHA      git.OID  `json:"sha"`
	Expected *git.OID `json:"expected,omitempty" doc:"The value it must have now; 40 zeros: it must not exist. Default: whatever it is"`
}

// RefLogEntry is one move of a reference.
type RefLogEntry struct {
	At      time.Time `json:"at"`
	Actor   string    `json:"actor" doc:"The ID of the principal who did it"`
	Message string    `json:"message"`
	Ref     string    `json:"ref"`
	Old     git.OID   `json:"old"`
	New     git.OID   `json:"new"`
}
