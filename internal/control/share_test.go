package control_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
)

// mayRead decides as the server does.
func mayRead(t *testing.T, c *control.Control, p policy.Principal, r id.Repo) bool {
	t.Helper()
	repo, err := c.Repo(t.Context(), r)
	must0(t, err)
	s, err := c.Standing(t.Context(), repo.Tenant)
	must0(t, err)
	shares, err := c.SharesFor(t.Context(), repo, &p)
	must0(t, err)
	return policy.Allow(p, policy.RepoRead, policy.Resource{Tenant: s.Lineage, Rules: s.Rules, Repo: r, Path: repo.TenantPath + "/" + repo.Name, Shared: shares})
}

func readerOf(tenants ...control.Tenant) policy.Principal {
	p := policy.Principal{ID: "usr_x", Scope: policy.ScopeRead, Roles: map[id.Tenant]policy.Role{}}
	for _, tn := range tenants {
		p.Roles[tn.ID] = policy.Reader
	}
	return p
}

func TestShares(t *testing.T) { onEach(t, testShares) }

func testShares(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme, child := tenant(t, c, "acme"), tenant(t, c, "acme/child")
	low, sibling := tenant(t, c, "acme/child/low"), tenant(t, c, "acme/sibling")
	other := tenant(t, c, "other")
	lib, app := repo(t, c, acme.ID, "lib"), repo(t, c, low.ID, "app")
	by := principal(t, c, "olga")

	for what, with := range map[string]id.Tenant{"its own tenant": acme.ID, "a stranger": other.ID} {
		_, err := c.SetShare(ctx, lib.ID, with, false, by.ID)
		wantKind(t, "share with "+what, err, errkind.Invalid)
	}
	_, err := c.SetShare(ctx, app.ID, child.ID, false, by.ID)
	wantKind(t, "share with a tenant above", err, errkind.Invalid)
	_, err = c.SetShare(ctx, lib.ID, "ten_nobody", false, by.ID)
	wantKind(t, "share with nobody", err, errkind.NotFound)
	_, err = c.SetShare(ctx, "repo_none", child.ID, false, by.ID)
	wantKind(t, "share nothing", err, errkind.NotFound)
	wantKind(t, "end what is not shared", c.RemoveShare(ctx, lib.ID, child.ID), errkind.NotFound)

	// agent's token is for app, in acme/child/low.
	agent := readerOf(child)
	agent.Repo, agent.RepoTenant = app.ID, low.ID
	who := map[string]policy.Principal{
		"child": readerOf(child), "low": readerOf(low), "sibling": readerOf(sibling), "other": readerOf(other), "agent": agent,
	}
	check := func(when string, want ...string) {
		t.Helper()
		for range 2 { // from the database, then from memory
			for name, p := range who {
				if got := mayRead(t, c, p, lib.ID); got != slices.Contains(want, name) {
					t.Errorf("%s: reader of %s may read lib: %v", when, name, got)
				}
			}
		}
	}
	share := func(with control.Tenant, children bool) {
		t.Helper()
		must(t, lib, second(c.SetShare(ctx, lib.ID, with.ID, children, by.ID)))
	}
	check("before")
	share(child, false)
	check("with the child", "child")
	share(child, true)
	check("and below", "child", "low", "agent")
	made := tenant(t, c, "acme/child/later")
	who["later"] = readerOf(made)
	check("a child made later", "child", "low", "agent", "later")
	share(child, false)
	share(low, false)
	check("with both, and not below", "child", "low", "agent")
	list, err := c.Shares(ctx, lib.ID)
	must0(t, err)
	want := []control.Share{{With: child.ID, Path: "acme/child", By: by.ID}, {With: low.ID, Path: "acme/child/low", By: by.ID}}
	for i := range list {
		list[i].Created = time.Time{}
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("Shares (-want +got):\n%s", diff)
	}
	// As who has a role between reads below, and so what is shared there.
	must0(t, c.RemoveShare(ctx, lib.ID, child.ID))
	check("with the lower one", "child", "low", "agent")
	must0(t, c.RemoveShare(ctx, lib.ID, low.ID))
	check("with nobody")
	wantKind(t, "end it twice", c.RemoveShare(ctx, lib.ID, low.ID), errkind.NotFound)

	// Gone with a deletion, and back.
	share(child, true)
	must0(t, c.DeleteTenant(ctx, child.ID, true))
	delete(who, "agent") // its repository is gone
	check("deleted")
	list, err = c.Shares(ctx, lib.ID)
	if must0(t, err); len(list) != 0 {
		t.Errorf("shares with deleted tenants: %+v", list)
	}
	must(t, child, second(c.RestoreTenant(ctx, child.ID, acme.ID, "back")))
	who["agent"] = agent
	check("restored", "child", "low", "agent", "later")

	// A move inside of the family keeps it, one out of it ends it for good.
	child, err = c.Tenant(ctx, child.ID)
	must0(t, err)
	child, err = c.MoveTenant(ctx, child, sibling.ID, "in")
	must0(t, err)
	check("moved inside", "child", "low", "agent", "later", "sibling")
	child, err = c.MoveTenant(ctx, child, other.ID, "out")
	must0(t, err)
	check("moved out")
	must(t, child, second(c.MoveTenant(ctx, child, acme.ID, "child")))
	check("moved back")

	// The repository's own tenant moves, with and without the receiver.
	share(child, true)
	acme, err = c.MoveTenant(ctx, acme, other.ID, "acme")
	must0(t, err)
	delete(who, "other") // it is the sponsor now
	check("all moved", "child", "low", "agent", "later")
}

func TestSharesOfOtherNodes(t *testing.T) {
	where := postgrestest.New(t)
	one, two := openAt(t, where), openAt(t, where)
	run(t, one)
	run(t, two)
	acme, child := tenant(t, one, "acme"), tenant(t, one, "acme/child")
	r := repo(t, one, acme.ID, "lib")
	p := readerOf(child)
	if mayRead(t, two, p, r.ID) {
		t.Error("not shared, but read")
	}
	must(t, r, second(one.SetShare(t.Context(), r.ID, child.ID, false, "usr_x")))
	until(t, "shared", time.Now(), func() bool { return !mayRead(t, two, p, r.ID) })
	must0(t, one.RemoveShare(t.Context(), r.ID, child.ID))
	until(t, "no longer shared", time.Now(), func() bool { return mayRead(t, two, p, r.ID) })
}
