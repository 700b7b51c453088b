package control_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

func TestInvitations(t *testing.T) { onEach(t, testInvitations) }

func testInvitations(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	at := &clock{time.Now()}
	c.SetClock(at.now)
	acme, other := tenant(t, c, "acme"), tenant(t, c, "other")
	olga, bob, eve := principal(t, c, "olga"), principal(t, c, "Bob"), principal(t, c, "eve")
	ci := account(t, c, acme.ID, "ci")
	invite := func(inv control.Invitation) (control.Invitation, auth.Hash) {
		t.Helper()
		inv.Tenant, inv.By, inv.Expires = acme.ID, olga.ID, at.t.Add(time.Hour)
		made, secret, err := c.CreateInvitation(ctx, inv)
		must0(t, err)
		if !strings.HasPrefix(secret, "skep_inv_") || made.TenantPath != "acme" {
			t.Errorf("invitation = %+v, secret %q", made, secret)
		}
		return made, auth.HashSecret(secret)
	}
	accept := func(h auth.Hash, p id.Principal) (policy.Role, error) {
		t.Helper()
		inv, err := c.AcceptInvitation(ctx, h, p)
		return inv.Role, err
	}
	roleOf := func(p id.Principal) policy.Role {
		t.Helper()
		who, err := c.Actor(ctx, p)
		return must(t, who, err).Roles[acme.ID]
	}

	// Once, by anybody or by whom it is for, and no account.
	_, h := invite(control.Invitation{Role: policy.Writer})
	_, err := accept(h, ci.ID)
	wantKind(t, "accepted by an account", err, errkind.Forbidden)
	if role, err := accept(h, bob.ID); err != nil || role != policy.Writer || roleOf(bob.ID) != policy.Writer {
		t.Errorf("accepted: %v, %v, bob is %v", role, err, roleOf(bob.ID))
	}
	_, err = accept(h, eve.ID)
	wantKind(t, "accepted twice", err, errkind.NotFound)
	_, h = invite(control.Invitation{Role: policy.Reader, Name: "BOB"})
	_, err = accept(h, eve.ID)
	wantKind(t, "accepted by somebody else", err, errkind.Forbidden)
	if role, err := accept(h, bob.ID); err != nil || role != policy.Writer || roleOf(bob.ID) != policy.Writer {
		t.Errorf("a lesser role: %v, %v, bob is %v", role, err, roleOf(bob.ID))
	}

	// A new person, if it says so.
	_, h = invite(control.Invitation{Role: policy.Reader})
	_, _, _, err = c.AcceptAsNew(ctx, h, "nina")
	wantKind(t, "a new person by an invitation for known ones", err, errkind.Forbidden)
	_, h = invite(control.Invitation{Role: policy.Reader, NewAccount: true, Name: "nina"})
	for name, want := range map[string]errkind.Kind{"eve": errkind.Forbidden, "acme/nina": errkind.Invalid, "": errkind.Invalid} {
		_, _, _, err = c.AcceptAsNew(ctx, h, name)
		wantKind(t, "a new person named "+name, err, want)
	}
	_, anyName := invite(control.Invitation{Role: policy.Guest, NewAccount: true})
	_, _, _, err = c.AcceptAsNew(ctx, anyName, "BOB")
	wantKind(t, "a new person under a name that is taken", err, errkind.Exists)
	inv, who, secret, err := c.AcceptAsNew(ctx, h, "Nina")
	must0(t, err)
	p, err := c.Principal(ctx, auth.HashSecret(secret))
	if must0(t, err); p.ID != who.ID || p.Admin || p.Class != policy.Human || p.Home != "" || p.Roles[acme.ID] != policy.Reader || inv.Role != policy.Reader {
		t.Errorf("nina = %+v", p)
	}
	_, _, _, err = c.AcceptAsNew(ctx, h, "Nina")
	wantKind(t, "used up", err, errkind.NotFound)

	// Open until they are withdrawn, expired, their tenant or their inviter is gone.
	open := func(n int, when string) {
		t.Helper()
		list, err := c.Invitations(ctx, acme.ID)
		if must0(t, err); len(list) != n {
			t.Errorf("%s: %d are open, want %d", when, len(list), n)
		}
	}
	made, h := invite(control.Invitation{Role: policy.Owner})
	open(3, "before") // with those that were refused
	wantKind(t, "withdrawn by another tenant", c.RevokeInvitation(ctx, other.ID, made.ID), errkind.NotFound)
	must0(t, c.RevokeInvitation(ctx, acme.ID, made.ID))
	_, err = accept(h, eve.ID)
	wantKind(t, "withdrawn", err, errkind.NotFound)
	wantKind(t, "withdrawn twice", c.RevokeInvitation(ctx, acme.ID, made.ID), errkind.NotFound)
	_, h = invite(control.Invitation{Role: policy.Owner})
	must0(t, c.DeleteTenant(ctx, acme.ID, false))
	_, err = accept(h, eve.ID)
	wantKind(t, "of a deleted tenant", err, errkind.NotFound)
	must(t, acme, second(c.RestoreTenant(ctx, acme.ID, "", "acme")))
	must(t, made, second(c.Invitation(ctx, h)))
	at.t = at.t.Add(time.Hour)
	_, err = accept(h, eve.ID)
	wantKind(t, "expired", err, errkind.NotFound)
	_, err = c.Invitation(ctx, h)
	wantKind(t, "look at an expired one", err, errkind.NotFound)
	open(0, "expired")
	_, h = invite(control.Invitation{Role: policy.Owner})
	must0(t, c.DeletePrincipal(ctx, olga.ID))
	_, err = accept(h, eve.ID)
	wantKind(t, "its inviter is gone", err, errkind.NotFound)
	if roleOf(eve.ID) != "" {
		t.Error("eve got in")
	}

	// What cannot be made.
	for what, inv := range map[string]control.Invitation{
		"no role":     {Expires: at.t.Add(time.Hour)},
		"a bad role":  {Role: "boss", Expires: at.t.Add(time.Hour)},
		"a bad name":  {Role: policy.Reader, Name: "a/b", Expires: at.t.Add(time.Hour)},
		"no time":     {Role: policy.Reader},
		"in the past": {Role: policy.Reader, Expires: at.t.Add(-time.Hour)},
	} {
		inv.Tenant, inv.By = acme.ID, bob.ID
		_, _, err := c.CreateInvitation(ctx, inv)
		wantKind(t, "invitation: "+what, err, errkind.Invalid)
	}
}

// TestOneOfManyAccepts: however many accept an invitation at once, one gets it.
func TestOneOfManyAccepts(t *testing.T) { onEach(t, testOneOfManyAccepts) }

func testOneOfManyAccepts(t *testing.T, db backend) {
	c := open(t, db)
	acme := tenant(t, c, "acme")
	olga := principal(t, c, "olga")
	_, secret, err := c.CreateInvitation(t.Context(), control.Invitation{
		Tenant: acme.ID, Role: policy.Reader, NewAccount: true, By: olga.ID, Expires: time.Now().Add(time.Hour),
	})
	must0(t, err)
	names := []string{"a", "b", "c", "d", "e", "f"}
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { _, _, _, errs[i] = c.AcceptAsNew(t.Context(), auth.HashSecret(secret), name) })
	}
	wg.Wait()
	got := 0
	for i, err := range errs {
		if err == nil {
			got++
			continue
		}
		wantKind(t, names[i], err, errkind.NotFound)
	}
	members, err := c.Members(t.Context(), acme.ID)
	if must0(t, err); got != 1 || len(members) != 1 {
		t.Errorf("%d have accepted, and there are %d members, want one", got, len(members))
	}
}

func TestAttackFormerName(t *testing.T) { onEach(t, testAttackFormerName) }

// testAttackFormerName: a policy still names somebody who was deleted. Whoever may choose a name does not become that one.
func testAttackFormerName(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	evil := tenant(t, c, "evil")
	bob, mallory := principal(t, c, "Bob"), principal(t, c, "mallory")
	must0(t, c.SetMember(ctx, evil.ID, mallory.ID, policy.Owner))
	must0(t, c.DeletePrincipal(ctx, bob.ID))
	_, secret, err := c.CreateInvitation(ctx, control.Invitation{
		Tenant: evil.ID, Role: policy.Guest, NewAccount: true, By: mallory.ID, Expires: time.Now().Add(time.Hour),
	})
	must0(t, err)
	_, _, _, err = c.AcceptAsNew(ctx, auth.HashSecret(secret), "boB")
	wantKind(t, "an invitation accepted under the name", err, errkind.Exists)
	wantKind(t, "a first login under the name", second(c.Login(ctx, "https://id.example.org", "m1", "bob")), errkind.Exists)
	principal(t, c, "bob") // by an administrator
}
