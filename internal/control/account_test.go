package control_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

func account(t *testing.T, c *control.Control, tn id.Tenant, name string) control.Principal {
	t.Helper()
	out, err := c.CreateAccount(t.Context(), tn, name, policy.Pipeline)
	return must(t, out, err)
}

func TestAccounts(t *testing.T) { onEach(t, testAccounts) }

func testAccounts(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme, child, other := tenant(t, c, "Acme"), tenant(t, c, "Acme/child"), tenant(t, c, "other")
	ci := account(t, c, acme.ID, "ci")
	if ci.Name != "Acme/ci" || ci.Home != acme.ID || ci.Admin || ci.Class != policy.Pipeline {
		t.Errorf("CreateAccount = %+v", ci)
	}
	got, err := c.PrincipalByName(ctx, "acme/CI")
	if diff := cmp.Diff(ci, must(t, got, err)); diff != "" {
		t.Errorf("by name (-want +got):\n%s", diff)
	}
	account(t, c, other.ID, "ci") // another one

	// What cannot be made: twice, of a bad name or class, of nobody. And people's names cannot be accounts'.
	for what, tt := range map[string]struct {
		in    id.Tenant
		name  string
		class policy.Class
		want  errkind.Kind
	}{
		"twice":       {acme.ID, "CI", policy.Pipeline, errkind.Exists},
		"a slash":     {acme.ID, "child/ci", policy.Pipeline, errkind.Invalid},
		"dots":        {acme.ID, "..", policy.Pipeline, errkind.Invalid},
		"an address":  {acme.ID, "a@b", policy.Pipeline, errkind.Invalid},
		"no name":     {acme.ID, "", policy.Pipeline, errkind.Invalid},
		"a human":     {acme.ID, "bob", policy.Human, errkind.Invalid},
		"system":      {acme.ID, "sys", policy.System, errkind.Invalid},
		"of nobody":   {"ten_none", "x", policy.Pipeline, errkind.NotFound},
		"of no class": {acme.ID, "x", "", errkind.Invalid},
	} {
		_, err := c.CreateAccount(ctx, tt.in, tt.name, tt.class)
		wantKind(t, "account: "+what, err, tt.want)
	}
	_, err = c.CreatePrincipal(ctx, "Acme/bob", policy.Human, false)
	wantKind(t, "a person named like an account", err, errkind.Invalid)
	if err := c.DB().Write(ctx, func(q control.Conn) error {
		return q.Exec("UPDATE principal SET admin = 1 WHERE principal_id = ?", ci.ID)
	}); err == nil {
		t.Error("the database lets an account be an administrator")
	}

	// Roles and groups of its own tenant and below.
	must0(t, c.SetMember(ctx, acme.ID, ci.ID, policy.Reader))
	must0(t, c.SetMember(ctx, child.ID, ci.ID, policy.Writer))
	must0(t, c.JoinGroup(ctx, child.ID, "bots", ci.ID))
	wantKind(t, "a role elsewhere", c.SetMember(ctx, other.ID, ci.ID, policy.Owner), errkind.Invalid)
	wantKind(t, "a group elsewhere", c.JoinGroup(ctx, other.ID, "bots", ci.ID), errkind.Invalid)
	low := account(t, c, child.ID, "low")
	wantKind(t, "a role above", c.SetMember(ctx, acme.ID, low.ID, policy.Reader), errkind.Invalid)

	list, err := c.Accounts(ctx, acme.ID, "", 10)
	if diff := cmp.Diff([]control.Principal{ci}, must(t, list, err)); diff != "" {
		t.Errorf("Accounts (-want +got):\n%s", diff)
	}
	wantKind(t, "delete another tenant's account", c.DeleteAccount(ctx, other.ID, ci.ID), errkind.NotFound)
	wantKind(t, "delete a person as an account", c.DeleteAccount(ctx, acme.ID, principal(t, c, "bob").ID), errkind.NotFound)

	// It goes with its tenant: by its new name, out of sight, and back.
	_, ofCI := token(t, c, control.Token{Principal: ci.ID})
	_, ofLow := token(t, c, control.Token{Principal: low.ID})
	must0(t, c.SetMember(ctx, child.ID, low.ID, policy.Owner))
	p, err := c.Principal(ctx, ofLow)
	if must0(t, err); p.Home != child.ID || p.Name != "Acme/child/low" || p.Roles[child.ID] != policy.Owner {
		t.Errorf("principal = %+v", p)
	}
	child, err = c.MoveTenant(ctx, child, other.ID, "kid")
	must0(t, err)
	p, err = c.Principal(ctx, ofLow)
	if must0(t, err); p.Name != "other/kid/low" || p.Roles[child.ID] != policy.Owner {
		t.Errorf("moved with its tenant: %+v", p)
	}
	p, err = c.Principal(ctx, ofCI)
	if must0(t, err); len(p.Roles) != 1 || p.Roles[acme.ID] != policy.Reader || len(p.Groups) != 0 {
		t.Errorf("an account has a role or group in a tenant that was moved away: %+v", p)
	}
	must0(t, c.DeleteTenant(ctx, child.ID, false))
	_, err = c.Principal(ctx, ofLow)
	wantKind(t, "token of a deleted tenant's account", err, errkind.Unauthorized)
	_, err = c.PrincipalByName(ctx, "other/kid/low")
	wantKind(t, "a deleted tenant's account", err, errkind.NotFound)
	tenant(t, c, "other/kid")
	must(t, child, second(c.RestoreTenant(ctx, child.ID, other.ID, "back")))
	p, err = c.Principal(ctx, ofLow)
	if must0(t, err); p.Name != "other/back/low" {
		t.Errorf("restored with its tenant: %+v", p)
	}
	must0(t, c.DeleteAccount(ctx, child.ID, low.ID))
	_, err = c.Principal(ctx, ofLow)
	wantKind(t, "token of a deleted account", err, errkind.Unauthorized)
}
