package control_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
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
