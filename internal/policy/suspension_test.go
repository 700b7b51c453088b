package policy_test

import (
	"math/rand/v2"
	"testing"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// TestSuspension: who may do what with a repository of acme/web, when that or acme is suspended. Only a credential that could end
// the suspension still does what it may do otherwise.
func TestSuspension(t *testing.T) {
	child := policy.Suspension{Tenants: 1, Path: "acme/web"}
	top := policy.Suspension{Tenants: 2, Path: "acme"}
	admin := policy.Principal{ID: "usr_a", Admin: true, Scope: policy.ScopeAdmin}
	// A document of the parent may give tenant.admin as well; one of the child's may not for this.
	doc, err := policy.Parse([]byte("[role.sponsor]\npermissions = [{ actions = [\"tenant.admin\"], resource = \"tenant/acme\" }]\n[[assignment]]\nactor = \"greta\"\nroles = [\"sponsor\", \"reader\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := policy.Parse([]byte("[[assignment]]\nactor = \"greta\"\nroles = [\"owner\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	greta := policy.Principal{ID: "usr_g", Name: "greta", Scope: policy.ScopeAdmin}
	ofParent := []policy.Rules{{Tenant: acme, Path: "acme", Doc: doc}}
	ofChild := []policy.Rules{{Tenant: web, Path: "acme/web", Doc: own}}
	tests := []struct {
		name  string
		p     policy.Principal
		rules []policy.Rules
		s     policy.Suspension
		want  bool
	}{
		{"nobody reads what is public", policy.Principal{}, nil, child, false},
		{"owner of the child", member(web, policy.Owner), nil, child, false},
		{"owner of the parent", member(acme, policy.Owner), nil, child, true},
		{"owner of the parent, write token", scoped(member(acme, policy.Owner), policy.ScopeWrite), nil, child, false},
		{"owner of the parent, token for the repository", bound(member(acme, policy.Owner), "repo_site"), nil, child, false},
		{"writer of the parent", member(acme, policy.Writer), nil, child, false},
		{"administrator", admin, nil, child, true},
		{"administrator, write token", scoped(admin, policy.ScopeWrite), nil, child, false},
		{"by a document of the parent", greta, ofParent, child, true},
		{"by a document of the child", greta, ofChild, child, false},
		{"owner of the suspended top", member(acme, policy.Owner), nil, top, false},
		{"owner of the child of a suspended top", member(web, policy.Owner), nil, top, false},
		{"by a document of the suspended top", greta, ofParent, top, false},
		{"administrator, suspended top", admin, nil, top, true},
		{"more suspended than there is", member(acme, policy.Owner), nil, policy.Suspension{Tenants: 9, Path: "acme"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := policy.Resource{Tenant: []id.Tenant{web, acme}, Repo: "repo_site", Path: "acme/web/site", Public: true, Rules: tt.rules, Suspended: tt.s}
			if got := policy.Allow(tt.p, policy.RepoRead, res); got != tt.want {
				t.Errorf("Allow = %v, want %v: %+v", got, tt.want, policy.Explain(tt.p, policy.RepoRead, res).Steps)
			}
			if !policy.Visible(tt.p, res) {
				t.Error("what is suspended looks as if it did not exist to who could see it before")
			}
		})
	}
}

// TestSuspendingNeverAllows: whatever is asked, a suspension only takes answers from yes to no, and one further up takes no less.
func TestSuspendingNeverAllows(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	stopped := 0
	for range 3000 {
		p, r := randomPrincipal(rnd), randomResource(rnd)
		for _, a := range allActions {
			allowed := policy.Allow(p, a, r)
			for n := range len(r.Tenant) + 1 {
				s := r
				s.Suspended = policy.Suspension{Tenants: n, Path: "a/b"}
				got := policy.Allow(p, a, s)
				if got && !allowed {
					t.Fatalf("%+v may %s %+v only when %d are suspended", p, a, r, n)
				}
				if e := policy.Explain(p, a, s); e.Allowed != got {
					t.Fatalf("Explain says %v, Allow %v", e.Allowed, got)
				}
				if allowed && !got {
					stopped++
				}
				allowed = got
			}
		}
	}
	if stopped < 500 {
		t.Errorf("only %d answers became no: the test shows little", stopped)
	}
}
