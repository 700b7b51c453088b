package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/id"
)

// A decision goes through five stages. The first four only take away.
//
//	action      it must be one of the closed list
//	token       its scope must reach as far as the action, and the repository or tenant that it is bound to must be the one at
//	            hand; or the action is to read, and the one at hand is shared with that tenant
//	suspension  none of the resource's tenants may be suspended, unless the credential could end that
//	denial      no document of the resource's tenants may deny it, unless the principal is excepted
//	grant       something must allow it: being public, administering the server, membership in one of the tenants, a role
//	            that a document of one of them gives, or, to read, a share with a tenant where reading is allowed
//
// What no stage allows is refused. Allow and Explain are one function: with a trace it goes on where it could stop.
//
// A decision is made for each request, so it allocates nothing without a trace. Two things keep it so: no function here calls itself,
// even by way of others, and texts are put together for a trace only.

// Allow decides. A principal that may not even read a resource must be answered as if it did not exist: see Visible.
func Allow(p Principal, a Action, r Resource) bool { return decide(&p, a, &r, nil) }

// Somewhere reports whether the principal may do something with any resource of a kind, whatever its path, field and reference: who may not
// is answered as if there were none. Denials are not looked at, so that a yes may be one too many.
func Somewhere(p Principal, a Action, r Resource) bool {
	number := a.number()
	if number < 0 || !throughToken(&p, &actions[number], &r, nil) || suspended(&p, &r, nil) {
		return false
	}
	q := ask(&p, number, &r, nil)
	q.anywhere = true
	return q.granted()
}

// Everywhere reports whether the principal may do something with all resources of a kind, of one environment if r.At is one: nothing denies
// it of some of them.
func Everywhere(p Principal, a Action, r Resource) bool {
	number := a.number()
	if number < 0 || !throughToken(&p, &actions[number], &r, nil) || suspended(&p, &r, nil) {
		return false
	}
	q := ask(&p, number, &r, nil)
	granted := q.granted()
	q.anywhere = true
	return granted && !q.denied()
}

// Decision is an answer with its reasons.
type Decision struct {
	Allowed bool
	Steps   []Step
}

// Effect is what a step did to the decision.
type Effect string

// The effects.
const (
	Permits Effect = "permits"
	Forbids Effect = "forbids"
	Passes  Effect = "passes" // does not concern the question
)

// Step is one rule that was looked at.
type Step struct {
	Effect Effect
	Rule   string // which one, and where it is written
	Why    string // why it has that effect
}

// Explain decides as Allow does, and says how.
func Explain(p Principal, a Action, r Resource) Decision {
	t := &trace{}
	return Decision{Allowed: decide(&p, a, &r, t), Steps: t.steps}
}

// trace collects steps. A nil trace collects none, and its callers make no texts for it.
type trace struct{ steps []Step }

func (t *trace) step(e Effect, rule, why string, args ...any) {
	t.steps = append(t.steps, Step{Effect: e, Rule: rule, Why: fmt.Sprintf(why, args...)})
}

// decide may change what it is handed.
func decide(p *Principal, a Action, r *Resource, t *trace) bool {
	number := a.number()
	if number < 0 {
		if t != nil {
			t.step(Forbids, "actions", "%q is none", clip(string(a)))
		}
		return false
	}
	if !throughToken(p, &actions[number], r, t) || suspended(p, r, t) {
		return false
	}
	q := ask(p, number, r, t)
	if q.denied() {
		return false
	}
	allowed := q.granted()
	if t != nil && !allowed {
		t.step(Forbids, "default", "nothing permits it")
	}
	return allowed
}

// throughToken asks whether the credential lets its principal do such a thing at all.
func throughToken(p *Principal, row *actionRow, r *Resource, t *trace) bool {
	switch {
	case p.Repo != "" && p.Repo != r.Repo && !readsByShare(p, row, r):
		if t != nil {
			t.step(Forbids, "token", "it is good for repository %s only", p.Repo)
		}
		return false
	case p.Within != "" && !slices.Contains(r.Tenant, p.Within) && !readsByShare(p, row, r):
		if t != nil {
			t.step(Forbids, "token", "it is good within tenant %s only", p.Within)
		}
		return false
	case p.Anonymous():
		if row.scope != ScopeRead {
			if t != nil {
				t.step(Forbids, "anonymous", "who is not signed in only reads")
			}
			return false
		}
		return true
	case row.scope.Wider(p.Scope):
		if t != nil {
			t.step(Forbids, "token", "its scope %q does not reach as far as %s, which needs %s", p.Scope, row.action, row.scope)
		}
		return false
	}
	if t != nil {
		t.step(Passes, "token", "its scope %q lets do it", p.Scope)
	}
	return true
}

// limited reports whether a resource is outside of what the token is good for.
func limited(p *Principal, r *Resource) bool {
	return p.Repo != "" && p.Repo != r.Repo || p.Within != "" && !slices.Contains(r.Tenant, p.Within)
}

// readsByShare reports whether all that is asked is to read a repository that is shared with the tenant of the one repository that
// the token is good for, or with one in which it is good: so a token for one repository is enough to clone its submodules.
func readsByShare(p *Principal, row *actionRow, r *Resource) bool {
	return row.action == RepoRead && r.Repo != "" && slices.ContainsFunc(r.Shared, func(s Share) bool { return s.inFamily(r.Tenant) && s.reaches(p) })
}

// suspended reports whether a suspension is in the way. It is not in that of a credential that could end it: one with
// tenant.admin of the parent of the highest suspended tenant or, where there is none, of the server.
func suspended(p *Principal, r *Resource, t *trace) bool {
	n := min(r.Suspended.Tenants, len(r.Tenant))
	if n == 0 {
		return false
	}
	number, above := systemAdmin, Resource{Kind: KindServer}
	if n < len(r.Tenant) {
		number, above = tenantAdmin, Resource{Kind: KindTenant, Tenant: r.Tenant[n:]}
		if i := strings.LastIndexByte(r.Suspended.Path, '/'); i > 0 {
			above.Path = r.Suspended.Path[:i]
		}
		for _, g := range r.Rules {
			if slices.Contains(above.Tenant, g.Tenant) {
				above.Rules = append(above.Rules, g)
			}
		}
	}
	q := ask(p, number, &above, nil)
	ends := throughToken(p, q.row, &above, nil) && !q.denied() && q.grantedHere()
	if t != nil {
		effect, why := Forbids, "tenant %s is suspended"
		if ends {
			effect, why = Passes, "tenant %s is suspended, and the credential could end that"
		}
		t.step(effect, "suspension", why, r.Suspended.Path)
	}
	return !ends
}

// question is a decision under way.
type question struct {
	p    *Principal
	name string // the principal's, in lower case
	r    *Resource
	kind Kind // of r
	t    *trace

	// The action: its number, as a set, and what is known of it.
	number int
	bit    actionSet
	row    *actionRow

	anywhere bool // it is about any resource of the kind, and of r.At if that is not empty
}

// ask makes a question of an action, by its number. It folds the resource's path if that is a name.
func ask(p *Principal, number int, r *Resource, t *trace) question {
	q := question{p: p, name: Fold(p.Name), r: r, kind: r.kind(), t: t, number: number, bit: 1 << number, row: &actions[number]}
	if q.kind.foldsPath() {
		r.Path = Fold(r.Path)
	}
	return q
}

// concerns reports whether a statement is about the question's action and resource.
func (q *question) concerns(s *permission) bool {
	if s.actions&q.bit != 0 && q.names(s.pattern) {
		return true
	}
	// To start a push is to push to some reference, and which one is not known yet.
	return q.bit == repoWrite && q.r.At == "" && s.actions&refActions != 0 && s.pattern.matchesPath(q.r, q.kind)
}

// names reports whether a pattern names the question's resource, or some of the kind.
func (q *question) names(p *Pattern) bool {
	if !q.anywhere {
		return p.matches(q.r, q.kind)
	}
	return (p.kind == q.kind || p.kind == anyKind) && (q.r.At == "" || p.anyAt || p.at.match(q.r.At))
}

func (q *question) denied() bool {
	if q.kind == KindServer {
		return false
	}
	denied := false
	for k := range q.r.Rules {
		g := &q.r.Rules[k]
		if q.t == nil && g.Doc.denies&q.bit == 0 {
			continue
		}
		for i := range g.Doc.denials {
			d := &g.Doc.denials[i]
			// Whoever may not push to one reference may still start to push to another.
			if d.actions&q.bit == 0 || !q.names(d.pattern) || !d.pattern.anyAt && q.r.At == "" && q.kind == KindRepo {
				if q.t != nil {
					q.t.step(Passes, g.name(&d.permission, "denial"), "it is about other actions or resources")
				}
				continue
			}
			if why, ok := q.excepted(g, &d.except); ok {
				if q.t != nil {
					q.t.step(Passes, g.name(&d.permission, "denial"), "it excepts %s", why)
				}
				continue
			}
			if denied = true; q.t == nil {
				return true
			}
			q.t.step(Forbids, g.name(&d.permission, "denial"), "%s", d.text())
		}
	}
	return denied
}

func (d *denial) text() string {
	if d.reason != "" {
		return d.reason
	}
	return "it concerns everybody who is not excepted"
}

// excepted reports whether a denial leaves the principal alone.
func (q *question) excepted(rules *Rules, e *except) (why string, ok bool) {
	if q.p.Anonymous() {
		return "", false
	}
	switch {
	case q.name != "" && slices.Contains(e.Actors, q.name):
		return "its name", true
	case slices.Contains(e.Classes, q.p.Class):
		return "its class", true
	}
	above := q.above(rules.Tenant)
	for _, t := range above {
		for _, g := range q.p.Groups[t] {
			if slices.Contains(e.Groups, Fold(g)) {
				return "the group " + g, true
			}
		}
	}
	if len(e.Roles) == 0 {
		return "", false
	}
	for _, role := range e.Roles {
		if rank := Role(role).rank(); rank > 0 && q.membership() >= rank {
			return "the role " + role, true
		}
	}
	rules.Doc.rolesOf(q.p, q.name, above, func(list *assigned, _ given) bool {
		for _, r := range list.roles {
			if role := e.role(r); role != "" {
				why, ok = "the role "+role, true
				return false
			}
		}
		return true
	})
	return why, ok
}

// role is one of the excepted roles that a role is or inherits; "" is none.
func (e *except) role(r *customRole) (name string) {
	for _, has := range r.inherits {
		if slices.Contains(e.Roles, has.name) {
			name = has.name
		}
	}
	if rank := r.builtin.rank(); rank > 0 {
		for _, role := range e.Roles {
			if need := Role(role).rank(); need > 0 && rank >= need {
				name = role
			}
		}
	}
	return name
}

// above returns a document's tenant and those above it.
func (q *question) above(t id.Tenant) []id.Tenant {
	if i := slices.Index(q.r.Tenant, t); i >= 0 {
		return q.r.Tenant[i:]
	}
	return nil
}

// membership is the rank of the greatest role that the principal has as a member of the resource's tenants.
func (q *question) membership() (most int) {
	for _, t := range q.r.Tenant {
		most = max(most, q.p.Roles[t].rank())
	}
	return most
}

func (q *question) granted() bool {
	here := !limited(q.p, q.r) && q.grantedHere() // a token reaches nothing but shares outside of what it is good for
	return here && q.t == nil || q.grantedByShare() || here
}

// grantedHere leaves the resource's shares aside. Without a trace it stops at the first grant.
func (q *question) grantedHere() (allowed bool) {
	if q.row.action == RepoRead && q.kind == KindRepo && q.r.Public {
		if allowed = true; q.t == nil {
			return true
		}
		q.t.step(Permits, "public", "everybody may read the repository")
	}
	switch {
	case q.p.Anonymous():
		return q.grantedByDocuments() || allowed
	case q.p.Home != "" && !slices.Contains(q.r.Tenant, q.p.Home):
		if q.t != nil {
			q.t.step(Passes, "account", "of tenant %s: no role counts outside of it", q.p.Home)
		}
		return allowed
	case q.p.Admin:
		if allowed = true; q.t == nil {
			return true
		}
		q.t.step(Permits, "administrator", "of the whole server")
	}
	if need := q.row.role.rank(); need > 0 {
		for _, t := range q.r.Tenant {
			role := q.p.Roles[t]
			enough := role.rank() >= need
			if allowed = allowed || enough; q.t == nil {
				if enough {
					return true
				}
				continue
			}
			if enough {
				q.t.step(Permits, "member", "%s of tenant %s", role, t)
			} else {
				q.t.step(Passes, "member", "%s of tenant %s, and it takes %s", orNothing(role), t, q.row.role)
			}
		}
	}
	return q.grantedByDocuments() || allowed
}

// inFamily reports whether a share's tenant is below that of the repository: nobody else's shares count.
func (s *Share) inFamily(repo []id.Tenant) bool {
	return len(s.Tenant) > 1 && len(repo) > 0 && slices.Contains(s.Tenant[1:], repo[0])
}

// reaches reports whether a token that is limited is so to the share's tenant.
func (s *Share) reaches(p *Principal) bool {
	return (p.Repo == "" || p.RepoTenant != "" && s.Tenant[0] == p.RepoTenant) && (p.Within == "" || slices.Contains(s.Tenant, p.Within))
}

// grantedByShare asks the rules of the tenants with which the repository is shared whether the principal may read there. Who
// is not signed in may not: a child does not publish what its sponsor shares with it.
func (q *question) grantedByShare() (allowed bool) {
	if q.row.action != RepoRead || q.kind != KindRepo || q.p.Anonymous() {
		return false
	}
	outside := limited(q.p, q.r)
	for i := range q.r.Shared {
		s := &q.r.Shared[i]
		if !s.inFamily(q.r.Tenant) || outside && !s.reaches(q.p) {
			continue
		}
		switch there := q.grantedThere(s); {
		case there && q.t == nil:
			return true
		case there:
			allowed = true
			q.t.step(Permits, "share", "to be read as %s", s.Path)
		case q.t != nil:
			q.t.step(Passes, "share", "to be read as %s, where the principal does not read", s.Path)
		}
	}
	return allowed
}

// grantedThere asks as if the repository lay in the tenant that it is shared with. What the token is good for has been judged.
func (q *question) grantedThere(s *Share) bool {
	as := Resource{Tenant: s.Tenant, Rules: s.Rules, Suspended: s.Suspended, Repo: q.r.Repo, Path: Fold(s.Path), At: q.r.At}
	there := question{p: q.p, name: q.name, r: &as, kind: KindRepo, number: q.number, bit: q.bit, row: q.row}
	return !suspended(q.p, &as, nil) && !there.denied() && there.grantedHere()
}

func orNothing(r Role) string {
	if r == "" {
		return "not a member"
	}
	return string(r)
}

// grantedByDocuments looks for a role that a document gives. Without a trace it stops at the first grant, and looks only at the
// permissions that are about the action.
func (q *question) grantedByDocuments() (allowed bool) {
	for k := range q.r.Rules {
		g := &q.r.Rules[k]
		switch {
		case q.t != nil:
			g.Doc.rolesOf(q.p, q.name, q.above(g.Tenant), func(list *assigned, to given) bool {
				for _, r := range list.roles {
					allowed = q.explainRole(g, r, to) || allowed
				}
				return true
			})
		case q.grantedBy(g):
			return true
		}
	}
	return allowed
}

func (q *question) grantedBy(g *Rules) (allowed bool) {
	about := g.Doc.about[q.number]
	if len(about) == 0 && g.Doc.gives&q.bit == 0 {
		return false
	}
	var has roleSet
	g.Doc.rolesOf(q.p, q.name, q.above(g.Tenant), func(list *assigned, _ given) bool {
		allowed = list.gives&q.bit != 0
		has.add(&list.all)
		return !allowed
	})
	for i := 0; !allowed && i < len(about); i++ {
		allowed = has.contains(about[i].role) && q.concerns(about[i])
	}
	return allowed
}

// explainRole says all that a role does to the decision.
func (q *question) explainRole(g *Rules, r *customRole, to given) (allowed bool) {
	if actionsOf(r.builtin)&q.bit != 0 {
		allowed = true
		q.t.step(Permits, g.of("role "+r.name), "given to %s: it is or inherits %s", to, r.builtin)
	}
	for _, from := range r.inherits {
		for i := range from.permissions {
			s := &from.permissions[i]
			effect, why := Passes, "given to %s, but it is about %s on %s"
			if q.concerns(s) {
				allowed = true
				effect, why = Permits, "given to %s: %s on %s"
			}
			q.t.step(effect, g.name(s, "role "+from.name), why, to, s.actions.names(), s.pattern)
		}
	}
	return allowed
}

// Rules are the document of one of a resource's tenants.
type Rules struct {
	Tenant id.Tenant
	Path   string // of the tenant, for explanations
	Doc    *Document
}

func (g *Rules) of(what string) string { return "policy of " + g.Path + ", " + what }

func (g *Rules) name(s *permission, what string) string {
	return fmt.Sprintf("policy of %s, line %d: %s", g.Path, s.line, what)
}
