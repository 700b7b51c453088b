package control_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// A document takes effect in its tenant and below as soon as it is stored, and what does not mean anything is not stored.
func TestPolicyOfATenant(t *testing.T) {
	onEach(t, func(t *testing.T, db backend) {
		c := openAt(t, db.fresh(t))
		run(t, c)
		ctx := t.Context()
		acme, err := c.CreateTenant(ctx, "Acme")
		must0(t, err)
		web, err := c.CreateTenant(ctx, "Acme/web")
		must0(t, err)
		eva, err := c.CreatePrincipal(ctx, "eva", policy.Human, false)
		must0(t, err)

		none, err := c.Policy(ctx, acme.ID)
		if must0(t, err); none.Version != 0 || none.Document != "" {
			t.Errorf("Policy before there is one = %+v", none)
		}
		may := func(in control.Tenant, a policy.Action) bool {
			t.Helper()
			s, err := c.Standing(ctx, in.ID)
			must0(t, err)
			who, err := c.Actor(ctx, eva.ID)
			must0(t, err)
			return policy.Allow(who, a, policy.Resource{Tenant: s.Lineage, Rules: s.Rules, Path: in.Path})
		}
		if may(web, policy.TenantRead) {
			t.Error("eva may read a tenant before anything says so")
		}
		text := "[[assignment]]\ngroup = \"readers\"\nroles = [\"reader\"]\n"
		one, err := c.SetPolicy(ctx, acme.ID, text, 0, eva.ID)
		if must0(t, err); one.Version != 1 || one.Document != text || one.By != eva.ID {
			t.Errorf("SetPolicy = %+v", one)
		}
		if may(web, policy.TenantRead) {
			t.Error("eva may read a tenant before she is in the group")
		}
		must0(t, c.JoinGroup(ctx, acme.ID, "Readers", eva.ID))
		must0(t, c.JoinGroup(ctx, acme.ID, "readers", eva.ID)) // she is there already
		if !may(web, policy.TenantRead) || !may(acme, policy.TenantRead) || may(acme, policy.TenantAdmin) {
			t.Error("a group's role does not count in the tenant and below")
		}
		groups, err := c.Groups(ctx, acme.ID)
		must0(t, err)
		if diff := cmp.Diff([]control.Group{{Name: "Readers", Members: []control.Principal{eva}}}, groups); diff != "" {
			t.Errorf("Groups (-want +got):\n%s", diff)
		}
		// The same group's name in a tenant below is another group.
		must0(t, c.LeaveGroup(ctx, acme.ID, "READERS", eva.ID))
		must0(t, c.JoinGroup(ctx, web.ID, "readers", eva.ID))
		if may(web, policy.TenantRead) {
			t.Error("a child's group counts as its parent's")
		}
		wantKind(t, "leave a group twice", c.LeaveGroup(ctx, acme.ID, "readers", eva.ID), errkind.NotFound)
		wantKind(t, "a group of a bad name", c.JoinGroup(ctx, acme.ID, "a b", eva.ID), errkind.Invalid)

		_, err = c.SetPolicy(ctx, acme.ID, "[role.x]\ninherits = [\"y\"]\n", -1, eva.ID)
		wantKind(t, "a document without sense", err, errkind.Invalid)
		_, err = c.SetPolicy(ctx, acme.ID, "[[deny]]\nactions = [\"push\"]\nresource = \"repo/other/*\"\n", -1, eva.ID)
		wantKind(t, "a document about another tenant", err, errkind.Invalid)
		_, err = c.SetPolicy(ctx, acme.ID, text, 0, eva.ID)
		wantKind(t, "a document over a version that is gone", err, errkind.Conflict)
		now, err := c.Policy(ctx, acme.ID)
		if must0(t, err); now.Version != 1 || now.Document != text {
			t.Errorf("Policy after refusals = %+v", now)
		}

		gone, err := c.SetPolicy(ctx, acme.ID, "", 1, eva.ID)
		if must0(t, err); gone.Version != 2 || gone.Document != "" {
			t.Errorf("SetPolicy of nothing = %+v", gone)
		}
		again, err := c.SetPolicy(ctx, acme.ID, strings.Replace(text, "group = \"readers\"", "actor = \"Eva\"", 1), 2, eva.ID)
		if must0(t, err); again.Version != 3 || !may(web, policy.TenantRead) {
			t.Errorf("SetPolicy after a removal = %+v", again)
		}
		must0(t, c.SetMember(ctx, acme.ID, eva.ID, policy.Guest))
		_, err = c.CreatePrincipal(ctx, "robot", "machine", false)
		wantKind(t, "a class that is none", err, errkind.Invalid)
	})
}
