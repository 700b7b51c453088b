package control_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

func pathsOf(t *testing.T, c *control.Control) (out []string) {
	t.Helper()
	tenants, err := c.Tenants(t.Context(), control.TenantFilter{}, "", 100)
	must0(t, err)
	for _, tn := range tenants {
		out = append(out, tn.Path)
	}
	return out
}

func TestSuspensionIsInTheStanding(t *testing.T) { onEach(t, testSuspensionIsInTheStanding) }

func testSuspensionIsInTheStanding(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme, web := tenant(t, c, "Acme"), tenant(t, c, "Acme/web")
	ui := tenant(t, c, "Acme/web/ui")
	standing := func(tn control.Tenant) policy.Suspension {
		t.Helper()
		s, err := c.Standing(ctx, tn.ID)
		return must(t, s, err).Suspended
	}
	for _, tn := range []control.Tenant{acme, web, ui} {
		if s := standing(tn); s != (policy.Suspension{}) {
			t.Errorf("%s before: %+v", tn.Path, s)
		}
	}
	got, err := c.SuspendTenant(ctx, web.ID, true)
	if must(t, got, err); got.Suspended.IsZero() {
		t.Error("a suspended tenant does not say so")
	}
	_, err = c.SuspendTenant(ctx, web.ID, true)
	wantKind(t, "suspend twice", err, errkind.Conflict)
	if s := standing(ui); s != (policy.Suspension{Tenants: 2, Path: "Acme/web"}) {
		t.Errorf("below the suspended one: %+v", s)
	}
	if s := standing(acme); s.Tenants != 0 {
		t.Errorf("above it: %+v", s)
	}
	// The highest counts.
	must(t, acme, second(c.SuspendTenant(ctx, acme.ID, true)))
	if s := standing(ui); s != (policy.Suspension{Tenants: 3, Path: "Acme"}) {
		t.Errorf("below two suspended ones: %+v", s)
	}
	must(t, acme, second(c.SuspendTenant(ctx, acme.ID, false)))
	must(t, acme, second(c.SuspendTenant(ctx, web.ID, false)))
	_, err = c.SuspendTenant(ctx, web.ID, false)
	wantKind(t, "resume twice", err, errkind.Conflict)
	if s := standing(ui); s.Tenants != 0 {
		t.Errorf("resumed: %+v", s)
	}
}

func TestMove(t *testing.T) { onEach(t, testMove) }

func testMove(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme, old := tenant(t, c, "acme"), tenant(t, c, "acme/old")
	sub := tenant(t, c, "acme/old/Sub")
	partners := tenant(t, c, "Partners")
	r := repo(t, c, sub.ID, "app")
	for _, path := range []string{"acme/old/sub", "ACME/old/Sub"} { // so that its path is remembered
		got, err := c.RepoByName(ctx, path, "app")
		must(t, got, err)
	}
	must(t, acme, second(c.Standing(ctx, sub.ID)))

	moved, err := c.MoveTenant(ctx, old, partners.ID, "New")
	if must(t, moved, err); moved.Path != "Partners/New" || moved.Parent != partners.ID {
		t.Errorf("MoveTenant = %+v", moved)
	}
	if diff := cmp.Diff([]string{"acme", "default", "Partners", "Partners/New", "Partners/New/Sub"}, pathsOf(t, c)); diff != "" {
		t.Errorf("tenants (-want +got):\n%s", diff)
	}
	_, err = c.RepoByName(ctx, "acme/old/sub", "app")
	wantKind(t, "the old path", err, errkind.NotFound)
	got, err := c.RepoByName(ctx, "partners/new/sub", "app")
	if must(t, got, err); got.ID != r.ID || got.TenantPath != "Partners/New/Sub" {
		t.Errorf("at the new path: %+v", got)
	}
	s, err := c.Standing(ctx, sub.ID)
	if diff := cmp.Diff([]id.Tenant{sub.ID, old.ID, partners.ID}, must(t, s, err).Lineage); diff != "" {
		t.Errorf("lineage (-want +got):\n%s", diff)
	}
	_, err = c.MoveTenant(ctx, old, acme.ID, "old")
	wantKind(t, "a move of what was moved meanwhile", err, errkind.Conflict)

	// Another case, another name, to the top and back.
	move := func(tn, to control.Tenant, name string) control.Tenant {
		t.Helper()
		out, err := c.MoveTenant(ctx, tn, to.ID, name)
		return must(t, out, err)
	}
	moved = move(moved, partners, "NEW")
	moved = move(moved, control.Tenant{}, "top")
	if moved.Path != "top" || moved.Parent != "" {
		t.Errorf("at the top: %+v", moved)
	}
	moved = move(moved, acme, "old")
	if diff := cmp.Diff([]string{"acme", "acme/old", "acme/old/Sub", "default", "Partners"}, pathsOf(t, c)); diff != "" {
		t.Errorf("back (-want +got):\n%s", diff)
	}
}

func TestMoveRefuses(t *testing.T) { onEach(t, testMoveRefuses) }

func testMoveRefuses(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	a, b, sub := tenant(t, c, "a"), tenant(t, c, "b"), tenant(t, c, "a/sub")
	deep := tenant(t, c, "a/sub/deep")
	repo(t, c, b.ID, "taken")
	tenant(t, c, "b/child")
	gone := tenant(t, c, "gone")
	must0(t, c.DeleteTenant(ctx, gone.ID, false))
	low := control.Tenant{}
	path := "l"
	for range control.MaxTenantDepth - 2 {
		low = tenant(t, c, path)
		path += "/l"
	}
	long := strings.Repeat("x", 100)
	wide := tenant(t, c, long)
	for range 2 {
		wide = tenant(t, c, wide.Path+"/"+long)
	}
	tests := []struct {
		what   string
		parent id.Tenant
		name   string
		want   errkind.Kind
	}{
		{"into itself", a.ID, "x", errkind.Invalid},
		{"into its child", sub.ID, "x", errkind.Invalid},
		{"into its grandchild", deep.ID, "x", errkind.Invalid},
		{"onto a repository", b.ID, "Taken", errkind.Exists},
		{"onto a tenant", b.ID, "CHILD", errkind.Exists},
		{"onto a tenant at the top", "", "B", errkind.Exists},
		{"onto a reserved name", "", "api", errkind.Invalid},
		{"to where the deleted ones are", "", "-", errkind.Invalid},
		{"to a name with a slash", "", "b/x", errkind.Invalid},
		{"to a name with a slash below", b.ID, "x/y", errkind.Invalid},
		{"to a name of dots", b.ID, "..", errkind.Invalid},
		{"to no name", b.ID, "", errkind.Invalid},
		{"to nobody", "ten_nobody", "x", errkind.NotFound},
		{"to a deleted one", gone.ID, "x", errkind.NotFound},
		{"too deep for its grandchild", low.ID, "x", errkind.Invalid},
		{"to a path too long", wide.ID, long, errkind.TooLarge},
	}
	before := pathsOf(t, c)
	for _, tt := range tests {
		_, err := c.MoveTenant(ctx, a, tt.parent, tt.name)
		wantKind(t, tt.what, err, tt.want)
	}
	// A document that speaks of its own path would speak of nothing there.
	must(t, a, second(c.SetPolicy(ctx, deep.ID, "[[deny]]\nactions = [\"push\"]\nresource = \"repo/a/sub/deep/*\"\n", -1, "usr_x")))
	_, err := c.MoveTenant(ctx, a, b.ID, "x")
	wantKind(t, "with a document of the old path", err, errkind.Invalid)
	if err != nil && !strings.Contains(err.Error(), "the policy of a/sub/deep does not fit its new path") {
		t.Errorf("error %v does not say which policy", err)
	}
	if diff := cmp.Diff(before, pathsOf(t, c)); diff != "" {
		t.Errorf("refused moves moved (-want +got):\n%s", diff)
	}
	must(t, a, second(c.MoveTenant(ctx, a, "", "A"))) // another case is the same path
}

func TestDeleteAndRestore(t *testing.T) { onEach(t, testDeleteAndRestore) }

func testDeleteAndRestore(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme, web := tenant(t, c, "acme"), tenant(t, c, "acme/web")
	ui := tenant(t, c, "acme/web/ui")
	was := tenant(t, c, "acme/web/was")
	bob := principal(t, c, "bob")
	must0(t, c.SetMember(ctx, web.ID, bob.ID, policy.Owner))
	r := repo(t, c, ui.ID, "app")
	_, err := c.SetPublic(ctx, r.ID, true)
	must0(t, err)
	_, bound := token(t, c, control.Token{Principal: bob.ID, Repo: r.ID})
	must(t, r, second(c.RepoByName(ctx, "acme/web/ui", "app")))
	must(t, r, second(c.Standing(ctx, ui.ID)))

	must0(t, c.DeleteTenant(ctx, was.ID, false))
	wantKind(t, "delete what is not empty", c.DeleteTenant(ctx, web.ID, false), errkind.Conflict)
	must0(t, c.DeleteTenant(ctx, web.ID, true))

	// Nothing leads there, by name or ID, from memory or not.
	for range 2 {
		for what, err := range map[string]error{
			"tenant": second(c.Tenant(ctx, web.ID)), "child": second(c.Tenant(ctx, ui.ID)), "path": second(c.TenantByPath(ctx, "acme/web")),
			"waiting path": second(c.TenantByPath(ctx, "-/"+string(web.ID))), "standing": second(c.Standing(ctx, ui.ID)),
			"repository": second(c.Repo(ctx, r.ID)), "by name": second(c.RepoByName(ctx, "acme/web/ui", "app")),
			"by waiting name": second(c.RepoByName(ctx, "-/"+string(web.ID)+"/ui", "app")),
			"publish":         second(c.SetPublic(ctx, r.ID, true)), "rename": second(c.RenameRepo(ctx, r.ID, "x")), "delete": c.DeleteRepo(ctx, r.ID),
			"member":  c.SetMember(ctx, web.ID, bob.ID, policy.Owner),
			"tokens":  second(c.Tokens(ctx, control.TokenFilter{Repo: r.ID}, "", 1)),
			"new one": second(c.CreateRepo(ctx, ui.ID, "new", false, nil)), "suspend": second(c.SuspendTenant(ctx, web.ID, true)),
			"move": second(c.MoveTenant(ctx, ui, acme.ID, "ui")), "policy": second(c.SetPolicy(ctx, ui.ID, "[policy]", -1, bob.ID)), "again": c.DeleteTenant(ctx, web.ID, true),
		} {
			wantKind(t, what, err, errkind.NotFound)
		}
		c.Forget()
	}
	if diff := cmp.Diff([]string{"acme", "default"}, pathsOf(t, c)); diff != "" {
		t.Errorf("tenants (-want +got):\n%s", diff)
	}
	all, err := c.Repos(ctx, control.RepoFilter{}, "", 10)
	if must0(t, err); len(all) != 0 {
		t.Errorf("repositories listed: %+v", all)
	}
	all, err = c.Repos(ctx, control.RepoFilter{Deleted: true}, "", 10)
	if must0(t, err); len(all) != 1 || all[0].ID != r.ID {
		t.Errorf("with the deleted ones: %+v", all)
	}
	p, err := c.Principal(ctx, bound)
	if must0(t, err); p.Roles[web.ID] != "" {
		t.Error("bob has a role in a deleted tenant")
	}

	// Each deletion is one thing to restore.
	list, err := c.DeletedTenants(ctx, "", 10)
	must0(t, err)
	var paths []string
	for _, d := range list {
		paths = append(paths, d.Path)
	}
	if diff := cmp.Diff([]string{"acme/web", "acme/web/was"}, paths); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
	_, err = c.DeletedTenant(ctx, ui.ID)
	wantKind(t, "restore a part of a deletion", err, errkind.NotFound)
	d, err := c.DeletedTenant(ctx, was.ID)
	if must0(t, err); d.Parent != "" {
		t.Errorf("a deleted tenant's parent is deleted, but given as %s", d.Parent)
	}

	// The path is free, and whoever has it then keeps it.
	other := tenant(t, c, "acme/web")
	_, err = c.RestoreTenant(ctx, web.ID, acme.ID, "WEB")
	wantKind(t, "restore where somebody else is", err, errkind.Exists)
	_, err = c.RestoreTenant(ctx, other.ID, acme.ID, "x")
	wantKind(t, "restore what is not deleted", err, errkind.NotFound)
	_, err = c.RestoreTenant(ctx, web.ID, acme.ID, "x/y")
	wantKind(t, "restore under a bad name", err, errkind.Invalid)
	back, err := c.RestoreTenant(ctx, web.ID, acme.ID, "Back")
	if must(t, back, err); back.Path != "acme/Back" || back.ID != web.ID {
		t.Errorf("RestoreTenant = %+v", back)
	}
	got, err := c.RepoByName(ctx, "acme/back/ui", "app")
	if must(t, got, err); got.ID != r.ID || !got.Public {
		t.Errorf("the repository is back as %+v", got)
	}
	p, err = c.Principal(ctx, bound)
	if must0(t, err); p.Roles[web.ID] != policy.Owner || p.Repo != r.ID {
		t.Errorf("bob is back as %+v", p)
	}
	if diff := cmp.Diff([]string{"acme", "acme/Back", "acme/Back/ui", "acme/web", "default"}, pathsOf(t, c)); diff != "" {
		t.Errorf("tenants (-want +got):\n%s", diff)
	}
	// What was deleted before stays so, and comes back below its parent.
	d, err = c.DeletedTenant(ctx, was.ID)
	if must0(t, err); d.Parent != web.ID {
		t.Errorf("the parent is back, but given as %q", d.Parent)
	}
	back, err = c.RestoreTenant(ctx, was.ID, d.Parent, "was")
	if must(t, back, err); back.Path != "acme/Back/was" {
		t.Errorf("RestoreTenant = %+v", back)
	}
}

// TestPagesGoOnBehindDeleted: a list that is cut before the deleted are left out would end too soon.
func TestPagesGoOnBehindDeleted(t *testing.T) { onEach(t, testPagesGoOnBehindDeleted) }

func testPagesGoOnBehindDeleted(t *testing.T, db backend) {
	c := open(t, db)
	gone, kept := tenant(t, c, "gone"), tenant(t, c, "kept")
	must0(t, c.DB().Write(t.Context(), func(q control.Conn) error { // more than are read at once
		for i := range 600 {
			must0(t, q.Exec("INSERT INTO repo (tenant_id, repo_id, name, public, created, updated) VALUES (?, ?, ?, 1, 1, 1)", gone.ID, fmt.Sprintf("repo_0%04d", i), fmt.Sprint("r", i)))
		}
		return nil
	}))
	r, err := c.CreateRepo(t.Context(), kept.ID, "r", true, nil)
	must0(t, err)
	must0(t, c.DeleteTenant(t.Context(), gone.ID, true))
	for _, p := range []policy.Principal{{}, {ID: "usr_1", Admin: true}, {ID: "usr_2", Roles: map[id.Tenant]policy.Role{gone.ID: policy.Owner}}} {
		got, err := c.Repos(t.Context(), control.RepoFilter{For: &p, Visible: func(control.Repo) bool { return true }}, "", 10)
		if must0(t, err); len(got) != 1 || got[0].ID != r.ID {
			t.Errorf("%+v sees %d repositories, want the one", p, len(got))
		}
	}
}

func TestPurge(t *testing.T) { onEach(t, testPurge) }

func testPurge(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	at := &clock{time.Now()}
	c.SetClock(at.now)
	acme, web := tenant(t, c, "acme"), tenant(t, c, "acme/web")
	early := tenant(t, c, "acme/web/early")
	keep := repo(t, c, acme.ID, "keep")
	document(t, c, acme.ID, "keep")
	docs := []control.Document{document(t, c, web.ID, "shop"), document(t, c, early.ID, "shop")}
	repos := map[id.Repo]bool{repo(t, c, web.ID, "app").ID: true, repo(t, c, early.ID, "old").ID: true}
	must0(t, c.DeleteTenant(ctx, early.ID, true))
	at.t = at.t.Add(time.Hour)
	must0(t, c.DeleteTenant(ctx, web.ID, true))

	removed := map[id.Repo]int{}
	crash := errors.New("a crash")
	var fail bool
	var logs []id.Document
	remove := remover{func(r control.Repo) error {
		removed[r.ID]++
		if fail {
			return crash
		}
		return nil
	}, func(d control.Document) error {
		logs = append(logs, d.ID)
		return nil
	}}
	purge := func(before time.Time) (err error) {
		for more := true; more && err == nil; {
			more, err = c.Purge(ctx, before, remove)
		}
		return err
	}
	must0(t, purge(at.t.Add(-2*time.Hour)))
	if len(removed) != 0 {
		t.Errorf("removed before its time: %v", removed)
	}
	// After a failure the next one goes on; but what has begun to go is not restored.
	fail = true
	if err := purge(at.t.Add(time.Second)); !errors.Is(err, crash) {
		t.Errorf("Purge = %v, want the failure", err)
	}
	_, err := c.RestoreTenant(ctx, web.ID, acme.ID, "web")
	wantKind(t, "restore what is being removed", err, errkind.NotFound)
	list, err := c.DeletedTenants(ctx, "", 10)
	if must0(t, err); len(list) != 0 {
		t.Errorf("to restore, while being removed: %+v", list)
	}
	fail = false
	must0(t, purge(at.t.Add(time.Second)))
	for r := range repos {
		if removed[r] == 0 {
			t.Errorf("repository %s is not removed", r)
		}
	}
	if removed[keep.ID] > 0 {
		t.Error("a repository that nobody deleted is removed")
	}
	if slices.Sort(logs); !slices.Equal(logs, []id.Document{docs[0].ID, docs[1].ID}) {
		t.Errorf("documents removed: %v, want %s and %s", logs, docs[0].ID, docs[1].ID)
	}
	must0(t, c.DB().Read(ctx, func(q control.Conn) error {
		for _, count := range []string{"SELECT count(*) FROM tenant WHERE deleted > 0", "SELECT count(*) FROM repo WHERE name <> 'keep'", "SELECT count(*) FROM document WHERE name <> 'keep'"} {
			must(t, false, second(q.First(count, func(r control.Row) {
				if n := r.Int64(0); n != 0 {
					t.Errorf("%s: %d", count, n)
				}
			})))
		}
		return nil
	}))
	must0(t, purge(at.t.Add(time.Second))) // nothing to do
}
