package policy_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// The little world of these tests: tenant acme with child acme/web; tenant other. Each has a private repository, and
// acme/web a public one as well.
const (
	acme  id.Tenant = "ten_acme"
	web   id.Tenant = "ten_web"
	other id.Tenant = "ten_other"
)

var (
	allActions = []policy.Action{
		policy.RepoRead, policy.RepoWrite, policy.RepoAdmin, policy.RepoCreate, policy.RepoList,
		policy.TenantRead, policy.TenantCreate, policy.TenantAdmin, policy.SystemAdmin,
	}

	server = policy.Resource{}

	resources = map[string]policy.Resource{
		"server":     server,
		"acme":       {Tenant: []id.Tenant{acme}},
		"acme/web":   {Tenant: []id.Tenant{web, acme}},
		"other":      {Tenant: []id.Tenant{other}},
		"acme:top":   {Tenant: []id.Tenant{acme}, Repo: "repo_top"},
		"web:site":   {Tenant: []id.Tenant{web, acme}, Repo: "repo_site"},
		"web:public": {Tenant: []id.Tenant{web, acme}, Repo: "repo_public", Public: true},
		"other:x":    {Tenant: []id.Tenant{other}, Repo: "repo_x"},
	}
)

func member(t id.Tenant, r policy.Role) policy.Principal {
	return policy.Principal{ID: "usr_m", Roles: map[id.Tenant]policy.Role{t: r}, Scope: policy.ScopeAdmin}
}

func scoped(p policy.Principal, s policy.Scope) policy.Principal {
	p.Scope = s
	return p
}

func account(p policy.Principal, home id.Tenant) policy.Principal {
	p.Home = home
	return p
}

func bound(p policy.Principal, r id.Repo) policy.Principal {
	p.Repo = r
	return p
}

// TestAllow is the whole matrix: for each principal, what it may do to each resource; what is not listed is refused.
func TestAllow(t *testing.T) {
	const (
		read = " repo.read"

		reads  = " repo.read repo.list tenant.read"
		writes = " repo.write repo.create"
		owns   = " repo.admin tenant.create tenant.admin"
		all    = reads + writes + owns + " system.admin"
	)
	admin := policy.Principal{ID: "usr_a", Admin: true, Scope: policy.ScopeAdmin}
	everywhere := func(rights string) map[string]string {
		m := map[string]string{}
		for name := range resources {
			m[name] = rights
		}
		return m
	}
	inWeb := func(rights string) map[string]string {
		return map[string]string{"acme/web": rights, "web:site": rights, "web:public": rights}
	}
	inAcme := func(rights string) map[string]string {
		m := inWeb(rights)
		m["acme"], m["acme:top"] = rights, rights
		return m
	}
	public := map[string]string{"web:public": read}
	tests := []struct {
		name string
		p    policy.Principal
		want map[string]string
	}{
		{"anonymous", policy.Principal{}, public},
		{"anonymous with rights by mistake", policy.Principal{Admin: true, Scope: policy.ScopeAdmin, Roles: map[id.Tenant]policy.Role{acme: policy.Owner}}, public},
		{"stranger", policy.Principal{ID: "usr_s", Scope: policy.ScopeAdmin}, public},

		{"reader of the parent", member(acme, policy.Reader), inAcme(reads)},
		{"writer of the parent", member(acme, policy.Writer), inAcme(reads + writes)},
		{"owner of the parent", member(acme, policy.Owner), inAcme(reads + writes + owns)},
		{"reader of the child", member(web, policy.Reader), inWeb(reads)},
		{"writer of the child", member(web, policy.Writer), inWeb(reads + writes)},
		{"owner of the child", member(web, policy.Owner), inWeb(reads + writes + owns)},
		{"unknown role", member(acme, "boss"), public},
		{"owner of a reader's child", policy.Principal{
			ID: "usr_b", Scope: policy.ScopeAdmin,
			Roles: map[id.Tenant]policy.Role{acme: policy.Reader, web: policy.Owner},
		}, merge(inAcme(reads), inWeb(reads+writes+owns))},
		{"reader of an owner's child", policy.Principal{
			ID: "usr_b", Scope: policy.ScopeAdmin,
			Roles: map[id.Tenant]policy.Role{acme: policy.Owner, web: policy.Reader},
		}, inAcme(reads + writes + owns)},

		{"admin", admin, everywhere(all)},
		{"admin, write token", scoped(admin, policy.ScopeWrite), everywhere(reads + writes)},
		{"admin, read token", scoped(admin, policy.ScopeRead), everywhere(reads)},
		{"admin, no scope", scoped(admin, ""), nil},
		{"admin, unknown scope", scoped(admin, "ADMIN"), nil},
		{"owner, write token", scoped(member(acme, policy.Owner), policy.ScopeWrite), inAcme(reads + writes)},
		{"owner, read token", scoped(member(acme, policy.Owner), policy.ScopeRead), inAcme(reads)},
		{"reader, write token", scoped(member(acme, policy.Reader), policy.ScopeWrite), inAcme(reads)},
		{"stranger, read token", policy.Principal{ID: "usr_s", Scope: policy.ScopeRead}, public},

		{"admin, token for one repository", bound(admin, "repo_site"), map[string]string{"web:site": all}},
		{"owner, token for one repository", bound(member(acme, policy.Owner), "repo_site"), map[string]string{"web:site": reads + writes + owns}},
		{"owner, write token for one repository", bound(scoped(member(acme, policy.Owner), policy.ScopeWrite), "repo_site"), map[string]string{"web:site": reads + writes}},
		{"owner, read token for one repository", bound(scoped(member(acme, policy.Owner), policy.ScopeRead), "repo_top"), map[string]string{"acme:top": reads}},
		{"token for a repository of another tenant", bound(member(acme, policy.Owner), "repo_x"), nil},
		{"stranger, token for a public repository", bound(policy.Principal{ID: "usr_s", Scope: policy.ScopeWrite}, "repo_public"), public},
		{"account of the child", account(member(web, policy.Owner), web), inWeb(reads + writes + owns)},
		{"account of the child with a role above", account(member(acme, policy.Owner), web), inWeb(reads + writes + owns)},
		{"account of another tenant with a role here", account(member(acme, policy.Owner), other), public},
		{"account of the parent with a role in the child", account(member(web, policy.Writer), acme), inWeb(reads + writes)},
		{"account that is an administrator by mistake", account(admin, web), inWeb(all)},
		{"stranger, token elsewhere, public repository", bound(policy.Principal{ID: "usr_s", Scope: policy.ScopeWrite}, "repo_x"), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, res := range resources {
				for _, act := range allActions {
					want := strings.Contains(tt.want[name]+" ", " "+string(act)+" ")
					if got := policy.Allow(tt.p, act, res); got != want {
						t.Errorf("Allow(%s, %s) = %v, want %v", act, name, got, want)
					}
				}
			}
		})
	}
}

func merge(a, b map[string]string) map[string]string {
	maps.Copy(a, b)
	return a
}

func TestAllowRefusesUnknownActions(t *testing.T) {
	admin := policy.Principal{ID: "usr_a", Admin: true, Scope: policy.ScopeAdmin}
	for _, a := range []policy.Action{"", "repo", "repo.", "repo.READ", "repo.read ", "anything"} {
		if policy.Allow(admin, a, server) {
			t.Errorf("Allow(admin, %q) = true, want false", a)
		}
	}
}

// TestVisible: what may be read is visible, the server always, and all else is as if it were not there.
func TestVisible(t *testing.T) {
	reader := member(web, policy.Reader)
	tests := []struct {
		name string
		p    policy.Principal
		want []string
	}{
		{"anonymous", policy.Principal{}, []string{"server", "web:public"}},
		{"reader of the child", reader, []string{"server", "acme/web", "web:site", "web:public"}},
		{"token for one repository", bound(reader, "repo_site"), []string{"server", "web:site"}},
	}
	for _, tt := range tests {
		for name, res := range resources {
			want := false
			for _, w := range tt.want {
				want = want || w == name
			}
			if got := policy.Visible(tt.p, res); got != want {
				t.Errorf("Visible(%s, %s) = %v, want %v", tt.name, name, got, want)
			}
		}
	}
}

// TestNarrowingNeverAllows: any way to take something away from a principal only takes answers from yes to no.
func TestNarrowingNeverAllows(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	yes := 0
	for range 3000 {
		p, r := randomPrincipal(rnd), randomResource(rnd)
		n, how := narrow(rnd, p)
		for _, a := range allActions {
			wide, narrow := policy.Allow(p, a, r), policy.Allow(n, a, r)
			if narrow && !wide {
				t.Fatalf("%s: %+v may %s %+v, but %+v may not", how, n, a, r, p)
			}
			if wide {
				yes++
			}
			// Losing all is to be anonymous; an anonymous caller only reads what is public.
			if policy.Allow(policy.Principal{}, a, r) != (a == policy.RepoRead && r.Public && r.Repo != "") {
				t.Fatalf("anonymous: %s %+v", a, r)
			}
			if p.Repo != "" && r.Repo != p.Repo && wide {
				t.Fatalf("%+v may %s %+v: not its repository", p, a, r)
			}
		}
	}
	if yes < 1000 {
		t.Errorf("only %d answers were yes: the test shows little", yes)
	}
}

func pick[T any](rnd *rand.Rand, of ...T) T { return of[rnd.IntN(len(of))] }

func randomPrincipal(rnd *rand.Rand) policy.Principal {
	p := policy.Principal{
		ID:    pick[id.Principal](rnd, "usr_1", "usr_2", "usr_3", ""),
		Admin: rnd.IntN(4) == 0,
		Scope: pick[policy.Scope](rnd, policy.ScopeAdmin, policy.ScopeAdmin, policy.ScopeWrite, policy.ScopeRead, "", "x"),
		Repo:  pick[id.Repo](rnd, "", "", "repo_0", "repo_1"),
		Roles: map[id.Tenant]policy.Role{},
	}
	for i := range rnd.IntN(4) {
		p.Roles[id.Tenant(fmt.Sprint("ten_", i))] = pick(rnd, policy.Reader, policy.Writer, policy.Owner, "x")
	}
	return p
}

func randomResource(rnd *rand.Rand) policy.Resource {
	r := policy.Resource{Repo: pick[id.Repo](rnd, "", "repo_0", "repo_1", "repo_2"), Public: rnd.IntN(4) == 0}
	for _, i := range rnd.Perm(6)[:rnd.IntN(4)] {
		r.Tenant = append(r.Tenant, id.Tenant(fmt.Sprint("ten_", i)))
	}
	return r
}

func narrow(rnd *rand.Rand, p policy.Principal) (policy.Principal, string) {
	switch rnd.IntN(5) {
	case 4:
		if p.Home == "" && !p.Admin { // an account is no administrator
			p.Home = pick[id.Tenant](rnd, "ten_0", "ten_1", "ten_4")
		}
		return p, "an account"
	case 0:
		next := map[policy.Scope]policy.Scope{policy.ScopeAdmin: policy.ScopeWrite, policy.ScopeWrite: policy.ScopeRead}
		return scoped(p, next[p.Scope]), "less scope"
	case 1:
		if p.Repo == "" {
			return bound(p, pick[id.Repo](rnd, "repo_0", "repo_1", "repo_2")), "one repository"
		}
		return p, "nothing"
	case 2:
		p.Admin = false
		return p, "no admin"
	default:
		next := map[policy.Role]policy.Role{policy.Owner: policy.Writer, policy.Writer: policy.Reader}
		roles := map[id.Tenant]policy.Role{}
		for t, r := range p.Roles {
			roles[t] = next[r]
		}
		p.Roles = roles
		return p, "lesser roles"
	}
}

// BenchmarkAllow: a decision is part of every request, so it should stay below 5 µs.
func BenchmarkAllow(b *testing.B) {
	site := resources["web:site"]
	site.Public = false
	ruled := site
	ruled.Path, ruled.Rules = "acme/web/site", []policy.Rules{{Tenant: acme, Path: "acme", Doc: twentyRoles(b)}}
	agent := scoped(member(acme, policy.Guest), policy.ScopeRead)
	agent.Name = "agent-7"
	tests := []struct {
		name string
		p    policy.Principal
		a    policy.Action
		r    policy.Resource
	}{
		{"anonymous", policy.Principal{}, policy.RepoRead, resources["web:public"]},
		{"member", member(acme, policy.Writer), policy.RepoRead, site},
		{"repository token", bound(scoped(member(acme, policy.Writer), policy.ScopeWrite), site.Repo), policy.RepoWrite, site},
		{"admin", policy.Principal{ID: "usr_a", Admin: true, Scope: policy.ScopeAdmin}, policy.RepoWrite, site},
		{"last of 20 roles", agent, policy.RepoRead, ruled},
	}
	for _, tt := range tests {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !policy.Allow(tt.p, tt.a, tt.r) {
					b.Fatal("refused")
				}
			}
		})
	}
}

// twentyRoles is a document whose last role is the one that lets agents read acme/web/site.
func twentyRoles(b *testing.B) *policy.Document {
	b.Helper()
	var text strings.Builder
	for i := range 20 {
		resource := fmt.Sprintf("repo/acme/*/x%d", i)
		if i == 19 {
			resource = "repo/acme/web/*"
		}
		fmt.Fprintf(&text, "[role.r%d]\npermissions = [{ actions = [\"read\"], resource = %q }]\n", i, resource)
		fmt.Fprintf(&text, "[[assignment]]\nactor_pattern = \"agent-*\"\nroles = [\"r%d\"]\n", i)
	}
	doc, err := policy.Parse([]byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	return doc
}
