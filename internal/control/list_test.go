package control_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// TestReposForIsOnlyFaster: whoever asks, with For and without it the same visible repositories are listed.
func TestReposForIsOnlyFaster(t *testing.T) { onEach(t, testReposForIsOnlyFaster) }

func testReposForIsOnlyFaster(t *testing.T, db backend) {
	c := open(t, db)
	rnd := rand.New(rand.NewPCG(1, 2))
	var tenants []id.Tenant
	for _, p := range []string{"a", "a/b", "a/b/c", "d", "d/e"} {
		tenants = append(tenants, tenant(t, c, p).ID)
	}
	for i := range 40 {
		_, err := c.CreateRepo(t.Context(), tenants[rnd.IntN(len(tenants))], fmt.Sprint("r", i), rnd.IntN(3) == 0, nil)
		must0(t, err)
	}
	var someRepo id.Repo
	if rs, err := c.Repos(t.Context(), control.RepoFilter{}, "", 1); err == nil {
		someRepo = rs[0].ID
	}
	tenants = append(tenants, tenant(t, c, "a/x").ID)
	for i, tn := range []string{"a", "a/b", "a", "d", "a", "a"} {
		up, err := c.TenantByPath(t.Context(), tn)
		must0(t, err)
		r := repo(t, c, up.ID, fmt.Sprint("shared", i))
		with, err := c.TenantByPath(t.Context(), []string{"a/b", "a/b/c", "a/b/c", "d/e", "a/b", "a/x"}[i])
		must0(t, err)
		must(t, r, second(c.SetShare(t.Context(), r.ID, with.ID, i%2 == 0, "usr_x")))
	}
	principals := []policy.Principal{
		{},
		{ID: "usr_admin", Admin: true, Scope: policy.ScopeRead},
		{ID: "usr_stranger", Scope: policy.ScopeAdmin},
		{ID: "usr_bound", Scope: policy.ScopeAdmin, Repo: someRepo, Admin: true},
		{ID: "usr_gone", Scope: policy.ScopeAdmin, Roles: map[id.Tenant]policy.Role{"ten_gone": policy.Owner}},
	}
	for range 8 {
		p := policy.Principal{ID: "usr_x", Scope: policy.ScopeRead, Roles: map[id.Tenant]policy.Role{}}
		for range 1 + rnd.IntN(3) {
			p.Roles[tenants[rnd.IntN(len(tenants))]] = policy.Reader
		}
		principals = append(principals, p)
	}
	app := repo(t, c, tenants[2], "app")
	principals = append(principals, policy.Principal{
		ID: "usr_y", Scope: policy.ScopeRead, Roles: map[id.Tenant]policy.Role{tenants[0]: policy.Owner}, Repo: app.ID, RepoTenant: app.Tenant,
	})
	list := func(f control.RepoFilter) (out []id.Repo) {
		t.Helper()
		var after id.Repo
		for {
			page, err := c.Repos(t.Context(), f, after, 13)
			must0(t, err)
			for _, r := range page {
				out = append(out, r.ID)
			}
			if len(page) == 0 {
				return out
			}
			after = page[len(page)-1].ID
		}
	}
	for _, p := range principals {
		visible := func(r control.Repo) bool {
			lineage, err := c.Standing(t.Context(), r.Tenant)
			must0(t, err)
			shares, err := c.SharesFor(t.Context(), r, &p)
			must0(t, err)
			return policy.Visible(p, policy.Resource{Tenant: lineage.Lineage, Repo: r.ID, Public: r.Public, Shared: shares})
		}
		for _, tn := range append([]id.Tenant{""}, tenants...) {
			want := list(control.RepoFilter{Tenant: tn, Visible: visible})
			got := list(control.RepoFilter{Tenant: tn, Visible: visible, For: &p})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%+v, tenant %q (-without +with For):\n%s", p, tn, diff)
			}
		}
	}
}
