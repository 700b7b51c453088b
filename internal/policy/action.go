package policy

import (
	"math/bits"
	"strings"
)

// Action is what a principal wants to do: a kind of resource and a verb.
type Action string

// The actions. Each entrance names one. A document names them by their verbs.
const (
	SystemAdmin Action = "system.admin" // principals, anything of the whole server

	TenantRead   Action = "tenant.read"
	TenantCreate Action = "tenant.create" // a child; of the root: a top-level tenant
	TenantAdmin  Action = "tenant.admin"  // members, policy, deletion
	AuditRead    Action = "audit.read"    // what was done in a tenant, and below
	RepoCreate   Action = "repo.create"   // in a tenant
	RepoList     Action = "repo.list"     // of a tenant: the private ones too

	RepoRead  Action = "repo.read"  // fetch, list references, read content
	RepoWrite Action = "repo.write" // push to some reference: which one is asked with the three below
	RepoAdmin Action = "repo.admin" // rename, visibility, settings, delete, tokens for it

	RefPush   Action = "ref.push"   // create a reference, or move it forward
	RefForce  Action = "ref.force"  // move it anywhere else
	RefDelete Action = "ref.delete" // take it away
	RefBypass Action = "ref.bypass" // do without the repository's own rules for it

	ConfigRead      Action = "config.read"
	ConfigWrite     Action = "config.write"
	ConfigCreate    Action = "config.create"
	ConfigDelete    Action = "config.delete"
	ConfigMove      Action = "config.move"
	ConfigOverride  Action = "config.override"
	ConfigResolve   Action = "config.resolve"
	ConfigPromote   Action = "config.promote"
	ConfigMilestone Action = "config.milestone"
	ConfigAdmin     Action = "config.admin"

	EnvRead    Action = "env.read"
	EnvDeploy  Action = "env.deploy"
	EnvApprove Action = "env.approve"
	EnvAdmin   Action = "env.admin"

	JobRead   Action = "job.read"
	JobRun    Action = "job.run"
	JobCancel Action = "job.cancel"
	JobAdmin  Action = "job.admin"

	SecretList  Action = "secret.list"  // names and versions; nobody reads a value
	SecretWrite Action = "secret.write" // set, restore, delete
)

// actionRow says of an action what it is done to, from which built-in role on, and from which scope of a token on.
type actionRow struct {
	action Action
	kind   Kind
	role   Role // "": only the server's administrators
	scope  Scope
}

// actions are all of them. An action's number is its place here.
var actions = [...]actionRow{
	{SystemAdmin, KindServer, "", ScopeAdmin},
	{TenantRead, KindTenant, Reader, ScopeRead},
	{TenantCreate, KindTenant, Owner, ScopeAdmin},
	{TenantAdmin, KindTenant, Owner, ScopeAdmin},
	{AuditRead, KindTenant, Owner, ScopeRead},
	{RepoCreate, KindTenant, Writer, ScopeWrite},
	{RepoList, KindTenant, Reader, ScopeRead},
	{RepoRead, KindRepo, Reader, ScopeRead},
	{RepoWrite, KindRepo, Writer, ScopeWrite},
	{RepoAdmin, KindRepo, Owner, ScopeAdmin},
	{RefPush, KindRepo, Writer, ScopeWrite},
	{RefForce, KindRepo, Writer, ScopeWrite},
	{RefDelete, KindRepo, Writer, ScopeWrite},
	{RefBypass, KindRepo, Owner, ScopeAdmin},
	{ConfigRead, KindConfig, Reader, ScopeRead},
	{ConfigWrite, KindConfig, Writer, ScopeWrite},
	{ConfigCreate, KindConfig, Writer, ScopeWrite},
	{ConfigDelete, KindConfig, Writer, ScopeWrite},
	{ConfigMove, KindConfig, Writer, ScopeWrite},
	{ConfigOverride, KindConfig, Writer, ScopeWrite},
	{ConfigResolve, KindConfig, Writer, ScopeWrite},
	{ConfigPromote, KindConfig, Owner, ScopeWrite},
	{ConfigMilestone, KindConfig, Writer, ScopeWrite},
	{ConfigAdmin, KindConfig, Owner, ScopeAdmin},
	{EnvRead, KindEnv, Reader, ScopeRead},
	{EnvDeploy, KindEnv, Writer, ScopeWrite},
	{EnvApprove, KindEnv, Owner, ScopeWrite},
	{EnvAdmin, KindEnv, Owner, ScopeAdmin},
	{JobRead, KindJob, Reader, ScopeRead},
	{JobRun, KindJob, Writer, ScopeWrite},
	{JobCancel, KindJob, Writer, ScopeWrite},
	{JobAdmin, KindJob, Owner, ScopeAdmin},
	{SecretList, KindSecret, Owner, ScopeAdmin},
	{SecretWrite, KindSecret, Owner, ScopeAdmin},
}

// Actions lists all actions.
func Actions() []Action {
	list := make([]Action, len(actions))
	for i := range actions {
		list[i] = actions[i].action
	}
	return list
}

// number is an action's place in actions, and -1 of what is none. Those that requests ask for most come first there, and to compare
// constants costs less than to look one up in a map.
func (a Action) number() int {
	for i := range actions {
		if actions[i].action == a {
			return i
		}
	}
	return -1
}

// actionSet has a bit for each action, by its number.
type actionSet uint64

func setOf(list ...Action) (s actionSet) {
	for _, a := range list {
		s |= 1 << a.number()
	}
	return s
}

// undeniable are the actions without which nobody could mend a policy.
var undeniable = setOf(SystemAdmin, TenantRead, TenantCreate, TenantAdmin)

// refActions are asked for a reference. Whoever has one for some reference may start to push.
var refActions = setOf(RefPush, RefForce, RefDelete)

// repoWrite alone.
var repoWrite = setOf(RepoWrite)

// The actions by which a suspension is ended, by their numbers.
var systemAdmin, tenantAdmin = SystemAdmin.number(), TenantAdmin.number()

// ofReferences are the actions on a single reference.
var ofReferences = refActions | setOf(RefBypass)

// about are the actions in whose decision a permission for these is looked at: see question.concerns.
func (s actionSet) about() actionSet {
	if s&refActions != 0 {
		s |= repoWrite
	}
	return s
}

// actionsOf are what a built-in role lets its members do.
func actionsOf(role Role) (s actionSet) {
	for i := range actions {
		if need := actions[i].role.rank(); need > 0 && role.rank() >= need {
			s |= 1 << i
		}
	}
	return s
}

// actionsNamed returns the actions on a kind of resource that a document's word means: a verb, kind.verb, or *.
func actionsNamed(word string, k Kind) (s actionSet) {
	for i := range actions {
		row := &actions[i]
		if (k == row.kind || k == anyKind && row.kind != KindServer) && (word == "*" || word == string(row.action) || word == row.verb()) {
			s |= 1 << i
		}
	}
	return s
}

func (r *actionRow) verb() string {
	_, verb, _ := strings.Cut(string(r.action), ".")
	return verb
}

func actionWords(k Kind) string {
	var words []string
	for i := range actions {
		if k == actions[i].kind || k == anyKind {
			words = append(words, string(actions[i].action))
		}
	}
	return strings.Join(words, ", ")
}

func kindWords(k Kind) string {
	if k == anyKind {
		return "any kind of resource"
	}
	return "resources of kind " + string(k)
}

// names lists a set's actions.
func (s actionSet) names() string {
	var words []string
	for ; s != 0; s &= s - 1 {
		words = append(words, string(actions[bits.TrailingZeros64(uint64(s))].action))
	}
	return strings.Join(words, ", ")
}
