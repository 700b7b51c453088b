// Package policy says whether a principal may act on a resource, as a pure function.
//
// Every entrance asks the same way:
//
//	if !policy.Allow(p, policy.RepoWrite, policy.Resource{Tenant: lineage, Repo: repo.ID, Path: "acme/api", Rules: rules}) { … }
//
// Four things give rights: built-in roles as a member of a tenant, the documents of a resource's tenants (TOML, see Parse), a
// repository's being shared with a tenant, and its being public. Tokens, suspensions and denials only take away. Anything that is not known here is refused: an
// action, a role, a scope, a class.
package policy

import "github.com/skep-dev/skep/internal/id"

// Role is what a principal is in a tenant and in the tenants below it.
type Role string

// The roles, each with what the one before may do.
const (
	Guest  Role = "guest" // belongs to the tenant, and may what its documents say
	Reader Role = "reader"
	Writer Role = "writer" // also creates repositories
	Owner  Role = "owner"  // also administers repositories, members and child tenants
)

// Known reports whether r is one of the roles.
func (r Role) Known() bool { return r.rank() > 0 }

// Above reports whether r may do something that s may not.
func (r Role) Above(s Role) bool { return r.rank() > s.rank() }

// rank orders the roles; 0 is no role.
func (r Role) rank() int {
	switch r {
	case Guest:
		return 1
	case Reader:
		return 2
	case Writer:
		return 3
	case Owner:
		return 4
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
func (s Scope) Known() bool { return s.rank() > 0 }

// Wider reports whether s lets do something that t does not.
func (s Scope) Wider(t Scope) bool { return s.rank() > t.rank() }

// rank orders the scopes; 0 is none.
func (s Scope) rank() int {
	switch s {
	case ScopeRead:
		return 1
	case ScopeWrite:
		return 2
	case ScopeAdmin:
		return 3
	}
	return 0
}

// Class is what sort of principal acts.
type Class string

// The classes.
const (
	Human    Class = "human"
	Pipeline Class = "pipeline" // CI, bots, agents
	Operator Class = "operator" // controllers that keep something in a state
	System   Class = "system"   // Skep's own parts
)

// Known reports whether c is one of the classes.
func (c Class) Known() bool { return c == Human || c == Pipeline || c == Operator || c == System }

// Principal is who asks, as far as a decision needs it. The zero Principal is anonymous, and so is any without an ID.
type Principal struct {
	ID     id.Principal
	Name   string
	Class  Class
	Groups map[id.Tenant][]string // by the tenant that a group belongs to; shared between requests, so never changed
	Admin  bool                   // of the whole server
	Roles  map[id.Tenant]Role     // memberships; shared between requests, so never changed
	Scope  Scope                  // of the token it came with
	Repo   id.Repo                // not empty: the token is good for this one repository, and to read what is shared with its tenant
	Within id.Tenant              // not empty: the token is good within this tenant and those below only
	Token  id.Token               // the token it came with: decisions do not look at it

	Session    id.Session // the session it came with, in place of a token: decisions do not look at it either
	RepoTenant id.Tenant  // of Repo
	Home       id.Tenant  // not empty: an account of this tenant, with no rights outside of it and those below
}

// Anonymous reports whether nobody in particular asks.
func (p Principal) Anonymous() bool { return p.ID == "" }

// Resource is what is acted on.
type Resource struct {
	Tenant []id.Tenant // the tenant, its parent, and so on up; empty for the server itself
	Repo   id.Repo     // empty for a tenant
	Public bool        // the repository may be read by anybody
	Rules  []Rules     // the documents of Tenant; shared between requests, so never changed

	Suspended Suspension // of the tenant, or of one above it
	Shared    []Share    // those of the repository's shares that may matter to the principal

	// The resource's name, as patterns see it. Kind may be left out: it is then what Tenant and Repo say.
	Kind  Kind
	Path  string // tenant path, TENANT/NAME, TYPE/ID, …
	Field string // of a config entity
	At    string // reference or environment; empty when the question is not about one
}

func (r *Resource) kind() Kind {
	switch {
	case r.Kind != "":
		return r.Kind
	case r.Repo != "":
		return KindRepo
	case len(r.Tenant) > 0:
		return KindTenant
	}
	return KindServer
}

// Suspension says which of a resource's tenants are suspended. The zero Suspension is none.
type Suspension struct {
	Tenants int    // how many: from the tenant up to the highest one that is suspended itself
	Path    string // of that one
}

// Share is a tenant with which a repository of a tenant above it is shared: whoever may read there, as a member or by its
// documents, may read the repository as if it lay there.
type Share struct {
	Tenant    []id.Tenant // the tenant, its parent, and so on up to the repository's own and beyond
	Rules     []Rules     // the documents of these
	Suspended Suspension
	Path      string // which the repository would have there
}

// Visible reports whether the principal may know that the resource exists. That the server exists is no secret, nor is a
// suspended tenant's existence to those who could see it before.
func Visible(p Principal, r Resource) bool {
	r.Suspended = Suspension{}
	switch {
	case r.Repo != "":
		return Allow(p, RepoRead, r)
	case len(r.Tenant) > 0:
		return Allow(p, TenantRead, r)
	}
	return true
}
