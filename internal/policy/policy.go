// Package policy says whether a principal may act on a resource, as a pure function.
//
// The rules are written in Cedar, in policies.cedar; this package turns a question into Cedar's terms. Every entrance asks
// the same way:
//
//	if !policy.Allow(p, policy.RepoWrite, policy.Resource{Tenant: lineage, Repo: repo.ID, Public: repo.Public}) { … }
//
// It fails closed: what no policy permits, what Cedar cannot evaluate, and any action, role or scope that is not known
// here is refused.
package policy

import "github.com/skep-dev/skep/internal/id"

// Action is what a principal wants to do.
type Action string

// The actions. Each entrance names one.
const (
	RepoRead     Action = "repo.read"   // fetch, list references, read content
	RepoWrite    Action = "repo.write"  // push, commit, update references
	RepoAdmin    Action = "repo.admin"  // rename, visibility, settings, delete, tokens for it
	RepoCreate   Action = "repo.create" // in a tenant
	RepoList     Action = "repo.list"   // of a tenant: the private ones too
	TenantRead   Action = "tenant.read"
	TenantCreate Action = "tenant.create" // a child; of the root: a top-level tenant
	TenantAdmin  Action = "tenant.admin"  // members, deletion
	SystemAdmin  Action = "system.admin"  // principals, anything of the whole server
)

// actions are all of them.
var actions = []Action{RepoRead, RepoWrite, RepoAdmin, RepoCreate, RepoList, TenantRead, TenantCreate, TenantAdmin, SystemAdmin}

// Role is what a principal is in a tenant and in the tenants below it.
type Role string

// The roles, each with what the one before may do.
const (
	Reader Role = "reader"
	Writer Role = "writer" // also creates repositories
	Owner  Role = "owner"  // also administers repositories, members and child tenants
)

// Known reports whether r is one of the roles.
func (r Role) Known() bool { return r.rank() > 0 }

// rank orders the roles; 0 is no role.
func (r Role) rank() int {
	switch r {
	case Reader:
		return 1
	case Writer:
		return 2
	case Owner:
		return 3
	}
	return 0
}

// Scope is what a token lets its principal do.
type Scope string

// The scopes, each with what the one before lets do.
const (
	ScopeRead  Scope = "read"
	ScopeWrite Scope = "write"
	ScopeAdmin Scope = "admin" // everything its principal may do
)

// Known reports whether s is one of the scopes.
func (s Scope) Known() bool { return s == ScopeRead || s == ScopeWrite || s == ScopeAdmin }

// Principal is who asks, as far as a decision needs it. The zero Principal is anonymous, and so is any without an ID.
type Principal struct {
	ID    id.Principal
	Admin bool               // of the whole server
	Roles map[id.Tenant]Role // memberships; shared between requests, so never changed
	Scope Scope              // of the token it came with
	Repo  id.Repo            // not empty: the token is good for this one repository only
	Token id.Token           // the token it came with: decisions do not look at it
}

// Anonymous reports whether nobody in particular asks.
func (p Principal) Anonymous() bool { return p.ID == "" }

// Resource is what is acted on.
type Resource struct {
	Tenant []id.Tenant // the tenant, its parent, and so on up; empty for the server itself
	Repo   id.Repo     // empty for a tenant
	Public bool        // the repository may be read by anybody
}

// Visible reports whether the principal may know that the resource exists. That the server exists is no secret.
func Visible(p Principal, r Resource) bool {
	switch {
	case r.Repo != "":
		return Allow(p, RepoRead, r)
	case len(r.Tenant) > 0:
		return Allow(p, TenantRead, r)
	}
	return true
}
