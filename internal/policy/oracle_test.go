package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// The oracle is Cedar (https://www.cedarpolicy.com): a random document is written twice, as TOML for us and as Cedar
// policies, and both must decide alike whatever is asked.

// rules are a random document before it is written.
type rules struct {
	roles    []roleRule // each inherits earlier ones only
	assigned []assignRule
	denials  []denyRule
	signedIn []int
	anybody  []int
}

type roleRule struct {
	inherits []int
	builtin  policy.Role
	permits  []statement
}

type statement struct {
	actions  []policy.Action
	kind     string
	path     string
	at       string // "": any
	resource string
}

type assignRule struct {
	by, who string
	roles   []int
}

type denyRule struct {
	statement
	actors, groups, classes []string
	roles                   []int
}

var (
	paths   = []string{"acme/api", "acme/web", "acme/web/site", "Acme/API", "acme/*", "*", "acme/web*", "*/site", "acme/w*b/s*"}
	refs    = []string{"", "", "refs/heads/main", "refs/heads/*", "refs/tags/v*", "*"}
	names   = []string{"alice", "bob", "ci-1", "ci-2"}
	groups  = []string{"dev", "ops"}
	classes = []string{"human", "pipeline", "operator"}
	verbs   = []policy.Action{policy.RepoRead, policy.RepoAdmin, policy.RefPush, policy.RefForce, policy.RefDelete, policy.RefBypass}
)

func some[T any](rnd *rand.Rand, from []T, most int) (out []T) {
	for range rnd.IntN(most + 1) {
		out = append(out, from[rnd.IntN(len(from))])
	}
	return out
}

func randomStatement(rnd *rand.Rand) statement {
	s := statement{actions: append(some(rnd, verbs, 2), verbs[rnd.IntN(len(verbs))]), kind: "repo"}
	s.path, s.at = paths[rnd.IntN(len(paths))], refs[rnd.IntN(len(refs))]
	if rnd.IntN(8) == 0 {
		s.kind = "*"
	}
	s.resource = s.kind + "/" + s.path
	if s.kind == "*" {
		s.path, s.resource = "*", "*"
	}
	if s.at != "" {
		s.resource += "@" + s.at
		if s.kind == "repo" { // only these are asked for a reference
			s.actions = append(some(rnd, verbs[2:], 2), verbs[2+rnd.IntN(4)])
		}
	}
	return s
}

func randomRules(rnd *rand.Rand) rules {
	var r rules
	index := func(n int) (out []int) {
		for range rnd.IntN(3) {
			if n > 0 {
				out = append(out, rnd.IntN(n))
			}
		}
		return out
	}
	for i := range 1 + rnd.IntN(4) {
		role := roleRule{inherits: index(i)}
		for range rnd.IntN(3) {
			role.permits = append(role.permits, randomStatement(rnd))
		}
		if rnd.IntN(4) == 0 {
			role.builtin = pick(rnd, policy.Reader, policy.Writer, policy.Owner)
		}
		r.roles = append(r.roles, role)
	}
	n := len(r.roles)
	for range rnd.IntN(4) {
		a := assignRule{roles: []int{rnd.IntN(n)}}
		switch a.by = pick(rnd, "actor", "actor_pattern", "actor_class", "group"); a.by {
		case "actor":
			a.who = names[rnd.IntN(len(names))]
		case "actor_pattern":
			a.who = pick(rnd, "ci-*", "*", "*b*", "ali*ce", "CI-1")
		case "actor_class":
			a.who = classes[rnd.IntN(len(classes))]
		default:
			a.who = groups[rnd.IntN(len(groups))]
		}
		r.assigned = append(r.assigned, a)
	}
	for range rnd.IntN(3) {
		r.denials = append(r.denials, denyRule{
			statement: randomStatement(rnd), actors: some(rnd, names, 1), groups: some(rnd, groups, 1), classes: some(rnd, classes, 1), roles: index(n),
		})
	}
	r.signedIn, r.anybody = index(n), index(n)
	return r
}

func quoted[T any](list []T, name func(T) string) string {
	var out []string
	for _, x := range list {
		out = append(out, fmt.Sprintf("%q", name(x)))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func same(s string) string              { return s }
func roleName(i int) string             { return fmt.Sprint("r", i) }
func actionName(a policy.Action) string { return string(a) }

func (r rules) toml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[policy]\nversion = 1\ndefault_authenticated = %s\ndefault_anonymous = %s\n", quoted(r.signedIn, roleName), quoted(r.anybody, roleName))
	for i, role := range r.roles {
		from := quoted(role.inherits, roleName)
		if role.builtin != "" {
			from = strings.Replace(from, "[", fmt.Sprintf("[%q, ", role.builtin), 1)
		}
		fmt.Fprintf(&b, "[role.r%d]\ninherits = %s\npermissions = [\n", i, from)
		for _, s := range role.permits {
			fmt.Fprintf(&b, "  { actions = %s, resource = %q },\n", quoted(s.actions, actionName), s.resource)
		}
		b.WriteString("]\n")
	}
	for _, a := range r.assigned {
		fmt.Fprintf(&b, "[[assignment]]\n%s = %q\nroles = %s\n", a.by, a.who, quoted(a.roles, roleName))
	}
	for _, d := range r.denials {
		fmt.Fprintf(&b, "[[deny]]\nactions = %s\nresource = %q\nexcept = { actors = %s, groups = %s, classes = %s, roles = %s }\n",
			quoted(d.actions, actionName), d.resource, quoted(d.actors, same), quoted(d.groups, same), quoted(d.classes, same), quoted(d.roles, roleName))
	}
	return b.String()
}

// cedar writes the rules as Cedar policies. A principal's roles are in its attribute "roles", worked out by rolesOf.
func (r rules) cedar() string {
	var b strings.Builder
	head := func(s statement) string {
		var list []string
		for _, a := range s.actions {
			list = append(list, fmt.Sprintf("Action::%q", a))
		}
		return "action in [" + strings.Join(list, ", ") + "]"
	}
	cond := func(s statement) string {
		c := fmt.Sprintf("resource.path like %q", strings.ToLower(s.path))
		if s.at != "" {
			c += fmt.Sprintf(" && resource.at like %q", s.at)
		}
		return c
	}
	for i, role := range r.roles {
		for _, s := range role.permits {
			fmt.Fprintf(&b, "permit (principal, %s, resource) when { principal.roles.contains(%q) && %s };\n", head(s), roleName(i), cond(s))
		}
	}
	for _, d := range r.denials {
		var except []string
		for _, x := range d.actors {
			except = append(except, fmt.Sprintf("principal.name == %q", x))
		}
		for _, x := range d.classes {
			except = append(except, fmt.Sprintf("principal.class == %q", x))
		}
		for _, x := range d.groups {
			except = append(except, fmt.Sprintf("principal.groups.contains(%q)", x))
		}
		for _, x := range d.roles {
			except = append(except, fmt.Sprintf("principal.roles.contains(%q)", roleName(x)))
		}
		unless := "false"
		if len(except) > 0 {
			unless = "principal.signedIn && (" + strings.Join(except, " || ") + ")"
		}
		fmt.Fprintf(&b, "forbid (principal, %s, resource) when { %s } unless { %s };\n", head(d.statement), cond(d.statement), unless)
	}
	for role, list := range map[policy.Role]string{
		policy.Reader: `Action::"repo.read"`,
		policy.Writer: `Action::"ref.push", Action::"ref.force", Action::"ref.delete"`,
		policy.Owner:  `Action::"repo.admin", Action::"ref.bypass"`,
	} {
		fmt.Fprintf(&b, "permit (principal, action in [%s], resource) when { principal.roles.contains(%q) };\n", list, role)
	}
	b.WriteString(`forbid (principal, action, resource) when { !principal.signedIn } unless { action == Action::"repo.read" };` + "\n")
	b.WriteString(`permit (principal, action == Action::"repo.read", resource) when { resource.public };` + "\n")
	return b.String()
}

// rolesOf says in the plainest way which roles a principal has.
func (r rules) rolesOf(p policy.Principal, tenants []id.Tenant) map[string]bool {
	belongs := p.Roles[acme] != ""
	has := map[string]bool{}
	var give func(i int)
	builtin := func(role policy.Role) {
		for _, x := range []policy.Role{policy.Owner, policy.Writer, policy.Reader} {
			if x == role || has[string(policy.Owner)] || x == policy.Reader && has[string(policy.Writer)] {
				has[string(x)] = true
			}
		}
	}
	give = func(i int) {
		has[roleName(i)] = true
		builtin(r.roles[i].builtin)
		for _, k := range r.roles[i].inherits {
			give(k)
		}
	}
	if p.Anonymous() {
		for _, i := range r.anybody {
			give(i)
		}
		return has
	}
	for _, i := range r.signedIn {
		if belongs {
			give(i)
		}
	}
	for _, a := range r.assigned {
		match := false
		switch a.by {
		case "actor":
			match = a.who == p.Name
		case "group":
			match = slices.Contains(p.Groups[acme], a.who)
		case "actor_class":
			match = belongs && a.who == string(p.Class)
		default:
			match = belongs && like(strings.ToLower(a.who), p.Name)
		}
		for _, i := range a.roles {
			if match {
				give(i)
			}
		}
	}
	for _, t := range tenants {
		builtin(p.Roles[t])
	}
	return has
}

// like is a match of stars by recursion.
func like(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case pattern[0] == '*':
		return like(pattern[1:], s) || s != "" && like(pattern, s[1:])
	}
	return s != "" && pattern[0] == s[0] && like(pattern[1:], s[1:])
}

// decideShared adds to decide what shares give: a share is decided as if the repository lay in its tenant, by an oracle of that
// tenant's own rules. forbids is the oracle's denials with a permission for everything.
func (r rules) decideShared(t *testing.T, list, forbids *cedar.PolicySet, there []sharedRules, p policy.Principal, a policy.Action, res policy.Resource) bool {
	t.Helper()
	foreign := p.Repo != "" && p.Repo != res.Repo
	if !foreign && r.decide(t, list, p, a, res) {
		return true
	}
	if a != policy.RepoRead || p.Anonymous() || !r.decide(t, forbids, p, a, res) {
		return false
	}
	for i, s := range res.Shared {
		as := policy.Resource{Tenant: s.Tenant, Path: s.Path, At: res.At}
		if foreign && p.RepoTenant != s.Tenant[0] || !slices.Contains(s.Tenant[1:], res.Tenant[0]) || s.Suspended.Tenants > 0 {
			continue
		}
		if there[i].decideIn(t, there[i].oracle, s.Tenant, p, a, as) {
			return true
		}
	}
	return false
}

// sharedRules are the rules of a tenant that a repository is shared with.
type sharedRules struct {
	rules
	oracle *cedar.PolicySet
}

func (r rules) decide(t *testing.T, list *cedar.PolicySet, p policy.Principal, a policy.Action, res policy.Resource) bool {
	t.Helper()
	return r.decideIn(t, list, res.Tenant, p, a, res)
}

// decideIn asks the oracle of rules that belong to the last of some tenants.
func (r rules) decideIn(t *testing.T, list *cedar.PolicySet, tenants []id.Tenant, p policy.Principal, a policy.Action, res policy.Resource) bool {
	t.Helper()
	set := func(list []string) types.Value {
		var vs []types.Value
		for _, s := range list {
			vs = append(vs, types.String(s))
		}
		return types.NewSet(vs...)
	}
	var roles []string
	for role := range r.rolesOf(p, tenants) {
		roles = append(roles, role)
	}
	who, what := types.EntityUID{Type: "User", ID: "u"}, types.EntityUID{Type: "Repo", ID: "r"}
	entities := types.EntityMap{
		who: {UID: who, Attributes: types.NewRecord(types.RecordMap{
			"name": types.String(p.Name), "class": types.String(p.Class), "groups": set(p.Groups[acme]), "roles": set(roles), "signedIn": types.Boolean(!p.Anonymous()),
		})},
		what: {UID: what, Attributes: types.NewRecord(types.RecordMap{
			"path": types.String(strings.ToLower(res.Path)), "at": types.String(res.At), "public": types.Boolean(res.Public),
		})},
	}
	decision, diag := cedar.Authorize(list, entities, cedar.Request{
		Principal: who, Action: types.EntityUID{Type: "Action", ID: types.String(a)}, Resource: what, Context: types.NewRecord(nil),
	})
	if len(diag.Errors) > 0 {
		t.Fatalf("the oracle fails: %v", diag.Errors)
	}
	return decision == cedar.Allow
}

func parseBoth(t *testing.T, seed uint64, r rules) (*policy.Document, *cedar.PolicySet) {
	t.Helper()
	doc, err := policy.Parse([]byte(r.toml()))
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", seed, err, r.toml())
	}
	oracle, err := cedar.NewPolicySetFromBytes("oracle", []byte(r.cedar()))
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", seed, err, r.cedar())
	}
	return doc, oracle
}

func randomActor(rnd *rand.Rand) policy.Principal {
	p := policy.Principal{
		ID: "usr_1", Name: names[rnd.IntN(len(names))], Class: policy.Class(classes[rnd.IntN(len(classes))]),
		// A group of another tenant, even of one below, is another group.
		Groups: map[id.Tenant][]string{acme: some(rnd, groups, 2), web: some(rnd, groups, 1), other: groups}, Scope: policy.ScopeAdmin,
	}
	if rnd.IntN(4) > 0 {
		p.Roles = map[id.Tenant]policy.Role{pick(rnd, acme, acme, web, other): pick(rnd, policy.Guest, policy.Guest, policy.Guest, policy.Guest, policy.Reader, policy.Writer, policy.Owner)}
	}
	if rnd.IntN(6) == 0 {
		p = policy.Principal{}
	}
	return p
}

func TestDocumentsDecideAsCedarDoes(t *testing.T) {
	t.Parallel()
	yes, no := 0, 0
	for seed := range uint64(150) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		r := randomRules(rnd)
		doc, oracle := parseBoth(t, seed, r)
		for range 60 {
			p := randomActor(rnd)
			res := policy.Resource{
				Tenant: []id.Tenant{web, acme}, Repo: "repo_1", Public: rnd.IntN(6) == 0, Rules: []policy.Rules{{Tenant: acme, Path: "acme", Doc: doc}},
				Path: pick(rnd, "acme/api", "Acme/Web/Site", "acme/web", "acme/other"), At: pick(rnd, "refs/heads/main", "refs/heads/topic", "refs/tags/v1", "refs/x"),
			}
			a := verbs[rnd.IntN(len(verbs))]
			got, want := policy.Allow(p, a, res), r.decide(t, oracle, p, a, res)
			if got != want {
				t.Fatalf("seed %d: %+v, %s on %s@%s: %v, Cedar says %v\n%s\n%+v", seed, p, a, res.Path, res.At, got, want, r.toml(), policy.Explain(p, a, res).Steps)
			}
			if e := policy.Explain(p, a, res); e.Allowed != got || len(e.Steps) == 0 {
				t.Fatalf("seed %d: Explain says %v, Allow %v", seed, e.Allowed, got)
			}
			if got {
				yes++
			} else {
				no++
			}
		}
	}
	if yes < 1000 || no < 1000 {
		t.Errorf("%d answers were yes and %d no: the test shows little", yes, no)
	}
}

// TestSharesDecideAsCedarDoes: a repository of acme is shared with tenants below and, as must never count, elsewhere. acme has rules
// for all of them, as the oracle of each tenant has.
func TestSharesDecideAsCedarDoes(t *testing.T) {
	t.Parallel()
	yes, no := 0, 0
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		r := randomRules(rnd)
		doc, oracle := parseBoth(t, seed, r)
		forbids, err := cedar.NewPolicySetFromBytes("oracle", []byte(r.cedar()+"permit (principal, action, resource);\n"))
		if err != nil {
			t.Fatal(err)
		}
		rulesOf := []policy.Rules{{Tenant: acme, Path: "acme", Doc: doc}}
		for range 60 {
			p := randomActor(rnd)
			if !p.Anonymous() && rnd.IntN(3) == 0 {
				p.Repo, p.RepoTenant = pick[id.Repo](rnd, "repo_1", "repo_app"), pick(rnd, acme, web, sub, other)
			}
			res := policy.Resource{Tenant: []id.Tenant{acme}, Repo: "repo_1", Public: rnd.IntN(8) == 0, Rules: rulesOf, Path: pick(rnd, "acme/api", "acme/lib"), At: pick(rnd, "refs/heads/main", "refs/x")}
			var there []sharedRules
			for range rnd.IntN(3) {
				s := policy.Share{Tenant: pick(rnd, []id.Tenant{web, acme}, []id.Tenant{sub, web, acme}, []id.Tenant{other}, []id.Tenant{sibling, other}), Path: pick(rnd, "acme/web/lib", "Acme/Web/Site", "acme/web")}
				in := sharedRules{oracle: emptyOracle}
				if slices.Contains(s.Tenant, acme) {
					s.Rules, in = rulesOf, sharedRules{r, oracle}
				}
				if rnd.IntN(6) == 0 { // by the server's administrators, of whom p is none
					s.Suspended = policy.Suspension{Tenants: len(s.Tenant), Path: "acme"}
				}
				res.Shared, there = append(res.Shared, s), append(there, in)
			}
			a := verbs[rnd.IntN(len(verbs))]
			if rnd.IntN(2) == 0 {
				a = policy.RepoRead
			}
			got, want := policy.Allow(p, a, res), r.decideShared(t, oracle, forbids, there, p, a, res)
			if got != want {
				t.Fatalf("seed %d: %+v, %s on %+v: %v, Cedar says %v\n%s\n%+v", seed, p, a, res, got, want, r.toml(), policy.Explain(p, a, res).Steps)
			}
			if e := policy.Explain(p, a, res); e.Allowed != got {
				t.Fatalf("seed %d: Explain says %v, Allow %v", seed, e.Allowed, got)
			}
			shared := res
			shared.Shared = nil
			if got && !policy.Allow(p, a, shared) {
				yes++
			} else if !got {
				no++
			}
		}
	}
	if yes < 200 || no < 1000 {
		t.Errorf("%d answers were yes because of a share and %d no: the test shows little", yes, no)
	}
}

var emptyOracle = cedar.NewPolicySet()
