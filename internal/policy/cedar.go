package policy

import (
	_ "embed"
	"encoding/json"
	"iter"
	"slices"
	"sync"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/skep-dev/skep/internal/id"
)

//go:embed policies.cedar
var policiesText []byte

// builtin are the policies that come with Skep, parsed on first use.
var builtin = sync.OnceValue(func() map[Action]policyList {
	list, err := cedar.NewPolicyListFromBytes("policies.cedar", policiesText)
	if err != nil {
		panic("bug: " + err.Error())
	}
	byAction := map[Action]policyList{}
	for _, a := range actions {
		for _, p := range list {
			if mayConcern(p, a) {
				byAction[a] = append(byAction[a], p)
			}
		}
	}
	return byAction
})

// mayConcern reports whether a policy's head lets it match the action. Cedar evaluates the head first, so leaving out a
// policy that does not match changes no decision; it saves half the time of one.
func mayConcern(p *cedar.Policy, a Action) bool {
	// https://docs.cedarpolicy.com/policies/json-format.html
	var head struct {
		Action struct {
			Op       string            `json:"op"`
			Entity   types.EntityUID   `json:"entity"`
			Entities []types.EntityUID `json:"entities"`
		} `json:"action"`
	}
	text, err := p.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(text, &head)
	}
	if err != nil {
		panic("bug: " + err.Error())
	}
	switch head.Action.Op {
	case "==":
		return head.Action.Entity == actionUID(a)
	case "in":
		return head.Action.Entity == actionUID(a) || slices.Contains(head.Action.Entities, actionUID(a))
	}
	return true
}

// policyList is a cedar.PolicyIterator. The policies' names are in their annotations.
type policyList []*cedar.Policy

// All implements cedar.PolicyIterator.
func (l policyList) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, p := range l {
			if !yield("", p) {
				return
			}
		}
	}
}

// The types of entity that policies.cedar speaks of.
const (
	typeUser      types.EntityType = "User"
	typeAnonymous types.EntityType = "Anonymous"
	typeRepo      types.EntityType = "Repo"
	typeTenant    types.EntityType = "Tenant"
	typeServer    types.EntityType = "Server"
	typeAction    types.EntityType = "Action"
)

// Allow decides. A principal that may not even read a resource must be answered as if it did not exist: see Visible.
func Allow(p Principal, a Action, r Resource) bool {
	q := &question{principal: p, resource: r}
	decision, diag := cedar.Authorize(builtin()[a], q, cedar.Request{
		Principal: q.principalUID(),
		Action:    actionUID(a),
		Resource:  q.resourceUID(),
		Context:   q.context(),
	})
	// Cedar skips a policy that it cannot evaluate. A skipped forbid would allow: so an error refuses.
	return decision == cedar.Allow && len(diag.Errors) == 0
}

// question is one request. It makes the entities that the policies look at when they look at them.
type question struct {
	principal Principal
	resource  Resource
	made      []types.Entity // those asked for already
	room      [4]types.Entity
}

func (q *question) principalUID() types.EntityUID {
	if q.principal.Anonymous() {
		return types.EntityUID{Type: typeAnonymous, ID: "anonymous"}
	}
	return types.EntityUID{Type: typeUser, ID: types.String(q.principal.ID)}
}

func (q *question) resourceUID() types.EntityUID {
	switch {
	case q.resource.Repo != "":
		return types.EntityUID{Type: typeRepo, ID: types.String(q.resource.Repo)}
	case len(q.resource.Tenant) > 0:
		return tenantUID(q.resource.Tenant[0])
	}
	return types.EntityUID{Type: typeServer, ID: "server"}
}

// The contexts of tokens that are not bound to a repository: nearly all, and always the same.
var plainContexts = map[Scope]types.Record{
	"":         types.NewRecord(types.RecordMap{"scope": types.String("")}),
	ScopeRead:  types.NewRecord(types.RecordMap{"scope": types.String(ScopeRead)}),
	ScopeWrite: types.NewRecord(types.RecordMap{"scope": types.String(ScopeWrite)}),
	ScopeAdmin: types.NewRecord(types.RecordMap{"scope": types.String(ScopeAdmin)}),
}

func (q *question) context() types.Record {
	scope := q.principal.Scope
	if !scope.Known() {
		scope = ""
	}
	if q.principal.Repo == "" {
		return plainContexts[scope]
	}
	return types.NewRecord(types.RecordMap{
		"scope": types.String(scope),
		"repo":  types.EntityUID{Type: typeRepo, ID: types.String(q.principal.Repo)},
	})
}

var (
	publicRepo  = types.NewRecord(types.RecordMap{"public": types.True})
	privateRepo = types.NewRecord(types.RecordMap{"public": types.False})
)

// Get implements types.EntityGetter.
func (q *question) Get(uid types.EntityUID) (types.Entity, bool) {
	for i := range q.made {
		if q.made[i].UID == uid {
			return q.made[i], true
		}
	}
	e := types.Entity{UID: uid}
	switch uid.Type {
	case typeUser:
		e.Attributes = q.userAttributes()
	case typeRepo:
		e.Attributes, e.Parents = privateRepo, parent(q.resource.Tenant)
		if q.resource.Public {
			e.Attributes = publicRepo
		}
	case typeTenant:
		i := slices.Index(q.resource.Tenant, id.Tenant(uid.ID))
		if i < 0 {
			return e, false
		}
		e.Parents = parent(q.resource.Tenant[i+1:])
	default:
		return e, false
	}
	if q.made == nil {
		q.made = q.room[:0]
	}
	q.made = append(q.made, e)
	return e, true
}

// parent returns the set of the first tenant of a lineage.
func parent(lineage []id.Tenant) types.EntityUIDSet {
	if len(lineage) == 0 {
		return types.EntityUIDSet{}
	}
	return types.NewEntityUIDSet(tenantUID(lineage[0]))
}

func actionUID(a Action) types.EntityUID {
	return types.EntityUID{Type: typeAction, ID: types.String(a)}
}

func tenantUID(t id.Tenant) types.EntityUID {
	return types.EntityUID{Type: typeTenant, ID: types.String(t)}
}

// The attributes of a principal without a role in sight.
var (
	plainUser = userRecord(false, types.Set{}, types.Set{}, types.Set{})
	adminUser = userRecord(true, types.Set{}, types.Set{}, types.Set{})
)

// userAttributes tells of the roles in the resource's lineage only: the others cannot matter to it, and a principal may
// have thousands.
func (q *question) userAttributes() types.Record {
	var reader, writer, owner []types.Value
	for _, t := range q.resource.Tenant {
		rank := q.principal.Roles[t].rank()
		if rank == 0 {
			continue
		}
		uid := tenantUID(t)
		reader = append(reader, uid)
		if rank >= Writer.rank() {
			writer = append(writer, uid)
		}
		if rank >= Owner.rank() {
			owner = append(owner, uid)
		}
	}
	switch {
	case len(reader) > 0:
		return userRecord(q.principal.Admin, types.NewSet(reader...), types.NewSet(writer...), types.NewSet(owner...))
	case q.principal.Admin:
		return adminUser
	}
	return plainUser
}

func userRecord(admin bool, reader, writer, owner types.Set) types.Record {
	return types.NewRecord(types.RecordMap{
		"admin":     types.Boolean(admin),
		"reader_of": reader,
		"writer_of": writer,
		"owner_of":  owner,
	})
}
