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
	Class     policy.Class `json:"class" enum:"human,pipeline,operator,system"`
	Admin     bool         `json:"admin" doc:"May do anything on this server"`
	Scope     policy.Scope `json:"scope" enum:"read,write,admin" doc:"What the token lets its principal do"`
	Repo      id.Repo      `json:"repo,omitempty" doc:"The one repository that the token is good for"`
	Tenant    id.Tenant    `json:"tenant,omitempty" doc:"The one tenant, with those below it, that the token is good for: of a JWT"`
}

// Tenant owns repositories and child tenants.
type Tenant struct {
	ID        id.Tenant `json:"id" example:"ten_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	Parent    id.Tenant `json:"parent,omitempty" doc:"Missing at the top"`
	Path      string    `json:"path" example:"acme/platform"`
	CreatedAt time.Time `json:"created_at"`

	SuspendedAt *time.Time `json:"suspended_at,omitempty" doc:"Missing: it is not suspended itself"`
}

// CreateTenant asks for a new tenant.
type CreateTenant struct {
	Path string `json:"path" minLength:"1" maxLength:"400" example:"acme/platform" doc:"Its parent, the path up to the last slash, exists"`
}

// Principal is a person, an agent or a machine.
type Principal struct {
	ID        id.Principal `json:"id" example:"usr_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	Name      string       `json:"name"`
	Class     policy.Class `json:"class" enum:"human,pipeline,operator,system" doc:"What sort of actor it is"`
	Admin     bool         `json:"admin" doc:"May do anything on this server"`
	Tenant    id.Tenant    `json:"tenant,omitempty" doc:"It is an account of this tenant"`
	CreatedAt time.Time    `json:"created_at"`
}

// CreatePrincipal asks for a new principal.
type CreatePrincipal struct {
	Name  string       `json:"name" minLength:"1" maxLength:"100"`
	Class policy.Class `json:"class,omitempty" enum:"human,pipeline,operator,system" default:"human" doc:"What sort of actor it is: policies may speak of all of one sort"`
	Admin bool         `json:"admin,omitempty"`
}

// Policy is a tenant's document of policy: docs/guide/policy.md has its form.
type Policy struct {
	Version   int64        `json:"version" doc:"Counts up from 1 with each change; 0 when there never was a document"`
	Document  string       `json:"document" doc:"TOML; empty when there is none"`
	UpdatedBy id.Principal `json:"updated_by,omitempty"`
	UpdatedAt *time.Time   `json:"updated_at,omitempty"`

	Source *PolicySource `json:"source,omitempty" doc:"The repository in which the document lives; missing: none"`
}

// SetPolicy replaces a tenant's document.
type SetPolicy struct {
	Document        string `json:"document" minLength:"1" maxLength:"262144" doc:"TOML. It is checked as a whole before it takes effect"`
	ExpectedVersion *int64 `json:"expected_version,omitempty" minimum:"0" doc:"Refuse with 409 unless this is the version there now"`
}

// CheckPolicy asks what a decision would be, and why.
type CheckPolicy struct {
	Principal string        `json:"principal,omitempty" maxLength:"200" doc:"ID or name; default: yourself. Asking about others takes tenant.admin of the resource's tenant"`
	Action    policy.Action `json:"action" maxLength:"100" example:"ref.push"`
	Resource  string        `json:"resource" maxLength:"2000" example:"repo/acme/api@refs/heads/main" doc:"server, tenant/PATH, repo/TENANT/NAME[@REF] or secret/TENANT[/REPO]/NAME"`
}

// Decision is the answer to CheckPolicy.
type Decision struct {
	Allowed bool           `json:"allowed"`
	Steps   []DecisionStep `json:"steps" doc:"The rules that were looked at, in order"`
}

// DecisionStep is a rule that was looked at.
type DecisionStep struct {
	Effect policy.Effect `json:"effect" enum:"permits,forbids,passes"`
	Rule   string        `json:"rule" example:"policy of acme, line 12: role agent"`
	Why    string        `json:"why"`
}

// Group is some principals under one name, for a tenant's policy.
type Group struct {
	Name    string      `json:"name"`
	Members []Principal `json:"members"`
}

// Member is a principal's role in a tenant.
type Member struct {
	Principal Principal   `json:"principal"`
	Role      policy.Role `json:"role" enum:"guest,reader,writer,owner"`
}

// SetMember gives a principal a role.
type SetMember struct {
	Role policy.Role `json:"role" enum:"guest,reader,writer,owner"`
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
	Prefix    string       `json:"prefix,omitempty" example:"skep_Zk3x9Q" doc:"How its secret begins, to tell which token was found somewhere. Missing of those that an older version made"`

	Parent       id.Token       `json:"parent,omitempty" doc:"The token that it was made with, and ends with"`
	Certificate  id.Certificate `json:"certificate,omitempty" doc:"The client certificate that it was made with, and ends with"`
	LastUsedAt   *time.Time     `json:"last_used_at,omitempty" doc:"To the minute. Missing: never yet"`
	LastUsedFrom string         `json:"last_used_from,omitempty" doc:"An address"`
}

// CreateToken asks for a token. A token never lets do more than the credential that asked for it.
type CreateToken struct {
	Principal id.Principal `json:"principal,omitempty" doc:"For whom: the caller (the default), an account of a tenant that the caller administers, or anybody for an administrator of the server"`
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
	SSHURL        string        `json:"ssh_url,omitempty" doc:"Missing: the server does not serve git over SSH" example:"ssh://git@git.example.com/acme/platform/demo.git"`
	CreatedAt     time.Time     `json:"created_at"`
	UpdatedAt     time.Time     `json:"updated_at" doc:"When this record changed, not the content"`
}

// FullName is TENANT/NAME.
func (r Repo) FullName() string { return r.Tenant + "/" + r.Name }

// RepoSettings are a repository's switches.
type RepoSettings struct {
	DenyNonFastForward bool `json:"deny_non_fast_forward" required:"false" doc:"Refuse updates that lose commits of a branch"`
	DenyDeletes        bool `json:"deny_deletes" required:"false" doc:"Refuse to delete references"`
	// GitConfig is checked by the server, which knows the variables.
	GitConfig []string `json:"git_config,omitempty" maxItems:"200" doc:"Variables of git's configuration, KEY=VALUE, that say what the protocol does; the default is none" example:"[\"uploadpack.hideRefs=refs/pull\"]"`
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
