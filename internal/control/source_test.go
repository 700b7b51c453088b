package control_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

const (
	onePolicy = "[policy]\nversion = 1\n"
	twoPolicy = "[policy]\nversion = 1\n\n"
)

func TestPolicySources(t *testing.T) { onEach(t, testPolicySources) }

func testPolicySources(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme, web := tenant(t, c, "acme"), tenant(t, c, "acme/web")
	rules := repo(t, c, acme.ID, "rules")
	src := control.PolicySource{
		Tenant: web.ID, TenantPath: "acme/web", Repo: rules.ID, RepoTenant: acme.ID, RepoPath: "acme/rules",
		Ref: "refs/heads/main", Path: "web.toml", Commit: "c1", By: "usr_1",
	}
	wantKind(t, "a document that is none", c.SetPolicySource(ctx, src, "[nonsense]"), errkind.Invalid)
	outside := "[[deny]]\nactions = [\"push\"]\nresource = \"repo/other/*\"\n"
	wantKind(t, "one of another tenant", c.SetPolicySource(ctx, src, outside), errkind.Invalid)
	must0(t, c.SetPolicySource(ctx, src, onePolicy))
	p, err := c.Policy(ctx, web.ID)
	must0(t, err)
	if diff := cmp.Diff(&src, p.Source); diff != "" || p.Document != onePolicy || p.Version != 1 || p.By != "usr_1" {
		t.Errorf("policy = %+v, source (-want +got):\n%s", p, diff)
	}
	wantKind(t, "set it elsewhere", second(c.SetPolicy(ctx, web.ID, twoPolicy, -1, "usr_1")), errkind.Conflict)
	wantKind(t, "take it away elsewhere", second(c.SetPolicy(ctx, web.ID, "", -1, "usr_1")), errkind.Conflict)

	// Two pushes are under way, and the end of one is seen: the other is still expected.
	expected := func(want int) {
		t.Helper()
		list, err := c.ExpectedPolicies(ctx)
		if must0(t, err); len(list) != want {
			t.Errorf("%d are expected, want %d", len(list), want)
		}
	}
	expected(0)
	must0(t, c.ExpectPolicy(ctx, web.ID))
	must0(t, c.ExpectPolicy(ctx, web.ID))
	must0(t, c.SettlePolicy(ctx, web.ID, false))
	expected(1)
	must0(t, c.SettlePolicy(ctx, web.ID, true))
	must0(t, c.SettlePolicy(ctx, web.ID, false))
	expected(0)

	must0(t, c.ApplyPolicy(ctx, src, onePolicy, "c2", "usr_2")) // nothing has changed
	must0(t, c.ApplyPolicy(ctx, src, twoPolicy, "c3", "usr_2"))
	if p, err = c.Policy(ctx, web.ID); err != nil || p.Version != 2 || p.Document != twoPolicy || p.By != "usr_2" || p.Source.Commit != "c3" {
		t.Errorf("applied: %+v, %v", p, err)
	}
	// What lives elsewhere by now is not taken from here.
	moved := src
	moved.Path = "other.toml"
	must0(t, c.SetPolicySource(ctx, moved, onePolicy))
	must0(t, c.ApplyPolicy(ctx, src, twoPolicy, "c4", "usr_2"))
	if p, err = c.Policy(ctx, web.ID); err != nil || p.Document != onePolicy {
		t.Errorf("a source of before was applied: %+v, %v", p, err)
	}
	list, err := c.PolicySources(ctx, rules)
	if must0(t, err); len(list) != 1 || list[0].Tenant != web.ID || list[0].RepoPath != "acme/rules" {
		t.Errorf("policies in the repository: %+v", list)
	}

	// Without its repository, or when it is ended, the document stays and is the tenant's own again.
	must0(t, c.RemovePolicySource(ctx, web.ID))
	wantKind(t, "end what is ended", c.RemovePolicySource(ctx, web.ID), errkind.NotFound)
	must0(t, c.SetPolicySource(ctx, src, onePolicy))
	must0(t, c.DeleteRepo(ctx, rules.ID))
	p, err = c.Policy(ctx, web.ID)
	if must0(t, err); p.Source != nil || p.Document != onePolicy {
		t.Errorf("without its repository: %+v", p)
	}
	must0(t, second(c.SetPolicy(ctx, web.ID, twoPolicy, -1, "usr_1")))
}

func TestPolicySourcesGoWithTenants(t *testing.T) { onEach(t, testPolicySourcesGoWithTenants) }

// testPolicySourcesGoWithTenants: nobody is held up for long by the policy of a tenant that is not there any more.
func testPolicySourcesGoWithTenants(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme, web, other := tenant(t, c, "acme"), tenant(t, c, "acme/web"), tenant(t, c, "other")
	api := tenant(t, c, "acme/web/api")
	above, inside := repo(t, c, acme.ID, "rules"), repo(t, c, web.ID, "rules")
	live := func(of control.Tenant, in control.Repo) {
		t.Helper()
		must0(t, c.SetPolicySource(ctx, control.PolicySource{
			Tenant: of.ID, TenantPath: of.Path, Repo: in.ID, RepoTenant: in.Tenant, RepoPath: in.TenantPath + "/" + in.Name,
			Ref: "refs/heads/main", Path: string(of.ID) + ".toml", Commit: "c1", By: "usr_1",
		}, onePolicy))
	}
	wantSources := func(what string, in control.Repo, want ...id.Tenant) {
		t.Helper()
		list, err := c.PolicySources(ctx, in)
		must0(t, err)
		var got []id.Tenant
		for _, s := range list {
			got = append(got, s.Tenant)
		}
		if !cmp.Equal(got, want) {
			t.Errorf("%s: %s has the policies of %v, want %v", what, in.Name, got, want)
		}
	}

	live(web, above)
	live(api, inside)
	live(acme, inside)
	must0(t, c.DeleteTenant(ctx, web.ID, true))
	wantSources("web is deleted", above)
	if p, err := c.Policy(ctx, acme.ID); err != nil || p.Source != nil || p.Document != onePolicy {
		t.Errorf("the policy of acme, which lived in web: %+v, %v", p, err)
	}
	web, err := c.RestoreTenant(ctx, web.ID, acme.ID, "web")
	must0(t, err)
	wantSources("web is back", above)
	wantSources("web is back", inside, api.ID)
	if p, err := c.Policy(ctx, web.ID); err != nil || p.Source != nil || p.Document != onePolicy {
		t.Errorf("the policy of web: %+v, %v", p, err)
	}

	live(web, above)
	live(acme, inside)
	web, err = c.MoveTenant(ctx, web, acme.ID, "site")
	must0(t, err)
	wantSources("web has another name", above, web.ID)
	must0(t, second(c.MoveTenant(ctx, web, other.ID, "web")))
	wantSources("web is elsewhere", above)
	wantSources("web is elsewhere", inside, api.ID)
	if p, err := c.Policy(ctx, acme.ID); err != nil || p.Source != nil {
		t.Errorf("the policy of acme, which lived in web: %+v, %v", p, err)
	}
}
