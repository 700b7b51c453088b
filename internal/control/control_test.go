package control_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
)

var _ auth.Tokens = (*control.Control)(nil)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// backend is a kind of database. Everything here is tested on each: what they may differ in is speed.
type backend struct {
	name  string
	fresh func(testing.TB) string // where a database can be made
}

var (
	onSQLite   = backend{"sqlite", freshFile}
	onPostgres = backend{"postgres", postgrestest.New}
)

func freshFile(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "control.db")
}

func onEach(t *testing.T, test func(*testing.T, backend)) {
	t.Helper()
	for _, db := range []backend{onSQLite, onPostgres} {
		t.Run(db.name, func(t *testing.T) { test(t, db) })
	}
}

func benchEach(b *testing.B, bench func(*testing.B, backend)) {
	b.Helper()
	for _, db := range []backend{onSQLite, onPostgres} {
		b.Run(db.name, func(b *testing.B) { bench(b, db) })
	}
}

// open makes a fresh control plane that remembers.
func open(tb testing.TB, db backend) *control.Control {
	tb.Helper()
	c := openAt(tb, db.fresh(tb))
	run(tb, c)
	return c
}

func openAt(tb testing.TB, where string) *control.Control {
	tb.Helper()
	c, _, err := control.Open(tb.Context(), where, control.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { must0(tb, c.Close()) })
	return c
}

// run watches other nodes until the test ends, and returns once what is remembered is used.
func run(tb testing.TB, c *control.Control) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		must0(tb, <-done)
	})
	for !c.Remembers() {
		runtime.Gosched()
	}
}

func must[T any](tb testing.TB, v T, err error) T {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func must0(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func wantKind(tb testing.TB, what string, err error, want errkind.Kind) {
	tb.Helper()
	if err == nil || errkind.Of(err) != want {
		tb.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func tenant(tb testing.TB, c *control.Control, path string) control.Tenant {
	tb.Helper()
	out, err := c.CreateTenant(tb.Context(), path)
	return must(tb, out, err)
}

func repo(tb testing.TB, c *control.Control, tn id.Tenant, name string) control.Repo {
	tb.Helper()
	out, err := c.CreateRepo(tb.Context(), tn, name, false, nil)
	return must(tb, out, err)
}

func principal(tb testing.TB, c *control.Control, name string) control.Principal {
	tb.Helper()
	out, err := c.CreatePrincipal(tb.Context(), name, policy.Human, false)
	return must(tb, out, err)
}

func token(tb testing.TB, c *control.Control, tok control.Token) (control.Token, auth.Hash) {
	tb.Helper()
	if tok.Scope == "" {
		tok.Scope = policy.ScopeAdmin
	}
	out, secret, err := c.CreateToken(tb.Context(), tok)
	must0(tb, err)
	return out, auth.HashSecret(secret)
}

func TestFirstStart(t *testing.T) { onEach(t, testFirstStart) }

func testFirstStart(t *testing.T, db backend) {
	path := db.fresh(t)
	c, secret, err := control.Open(t.Context(), path, control.Options{})
	must0(t, err)

	// The secret is an admin's.
	p, err := c.Principal(t.Context(), auth.HashSecret(secret))
	must0(t, err)
	if !p.Admin || p.Scope != policy.ScopeAdmin || !policy.Allow(p, policy.SystemAdmin, policy.Resource{}) {
		t.Errorf("the first token belongs to %+v, not to an admin", p)
	}
	admin, err := c.PrincipalByName(t.Context(), "admin")
	if must0(t, err); admin.ID != p.ID {
		t.Errorf("the first token is not admin's")
	}
	dt, err := c.TenantByPath(t.Context(), "default")
	must0(t, err)

	// A second start makes nothing, not even what was deleted on purpose.
	must0(t, c.DeleteTenant(t.Context(), dt.ID, false))
	must0(t, c.Close())
	c, again, err := control.Open(t.Context(), path, control.Options{})
	must0(t, err)
	defer c.Close()
	if again != "" {
		t.Error("a second start gave a secret")
	}
	_, err = c.TenantByPath(t.Context(), "default")
	wantKind(t, "default after its deletion", err, errkind.NotFound)
	_, err = c.Principal(t.Context(), auth.HashSecret(secret))
	must0(t, err)
}

func TestNames(t *testing.T) { onEach(t, testNames) }

func testNames(t *testing.T, db backend) {
	c := open(t, db)
	def, err := c.TenantByPath(t.Context(), "default")
	must0(t, err)
	long := fmt.Sprintf("%0101d", 1)
	good := []string{"a", "A1", "my.repo", "x_y-z", "1", "git", "a.gitx", "lock", "_", long[:100]}
	bad := []string{
		"", ".", "..", "a..b", ".git", ".hidden", "-x", "a.git", "a.GIT", "a.lock", "a.LOCK", "a.", "a/b", "a b", "a\x00", "a\n", "ä",
		"a%2e", "a\\b", "a:b", "~", long, "info", "HEAD", "git-upload-pack", "git-Receive-pack", "objects",
	}
	for _, n := range good {
		if _, err := c.CreateRepo(t.Context(), def.ID, n, false, nil); err != nil {
			t.Errorf("repository %q: %v", n, err)
		}
		if _, err := c.CreateTenant(t.Context(), n+"t"); err != nil && n != long[:100] {
			t.Errorf("tenant %q: %v", n+"t", err)
		}
	}
	r := repo(t, c, def.ID, "renamed")
	for _, n := range bad {
		_, err := c.CreateRepo(t.Context(), def.ID, n, false, func(control.Repo) error {
			t.Errorf("a cell is made for %q", n)
			return nil
		})
		wantKind(t, fmt.Sprintf("repository %q", n), err, errkind.Invalid)
		_, err = c.RenameRepo(t.Context(), r.ID, n)
		wantKind(t, fmt.Sprintf("rename to %q", n), err, errkind.Invalid)
		if n == "a/b" { // as a tenant, a child of a tenant that is not there
			_, err = c.CreateTenant(t.Context(), n)
			wantKind(t, "tenant a/b", err, errkind.NotFound)
			continue
		}
		_, err = c.CreateTenant(t.Context(), n)
		wantKind(t, fmt.Sprintf("tenant %q", n), err, errkind.Invalid)
		_, err = c.CreateTenant(t.Context(), "default/"+n)
		wantKind(t, fmt.Sprintf("tenant default/%q", n), err, errkind.Invalid)
	}
	for _, n := range []string{"api", "API", "healthz", "readyz", "metrics", "-", "/default", "default/", "/", "default//x"} {
		_, err := c.CreateTenant(t.Context(), n)
		wantKind(t, fmt.Sprintf("tenant %q", n), err, errkind.Invalid)
	}
	// Reserved only at the top.
	tenant(t, c, "default/api")

	for _, n := range []string{"", "-x", ".x", "a b", "a/b", "ä", "a\x00", long} {
		_, err := c.CreatePrincipal(t.Context(), n, policy.Human, false)
		wantKind(t, fmt.Sprintf("principal %q", n), err, errkind.Invalid)
	}
	principal(t, c, "bob+ci@example.org")
}

func TestTenantTree(t *testing.T) { onEach(t, testTenantTree) }

func testTenantTree(t *testing.T, db backend) {
	c := open(t, db)
	a := tenant(t, c, "Acme")
	web := tenant(t, c, "acme/Web")
	ui := tenant(t, c, "acme/web/ui")

	if ui.Path != "Acme/Web/ui" {
		t.Errorf("path = %q: want the parents' own case", ui.Path)
	}
	got, err := c.TenantByPath(t.Context(), "aCmE/wEb")
	if diff := cmp.Diff(web, must(t, got, err)); diff != "" {
		t.Errorf("tenant by path (-want +got):\n%s", diff)
	}
	got, err = c.Tenant(t.Context(), ui.ID)
	if diff := cmp.Diff(ui, must(t, got, err)); diff != "" {
		t.Errorf("tenant by ID (-want +got):\n%s", diff)
	}
	for range 2 { // from the database, then from memory
		l, err := c.Standing(t.Context(), ui.ID)
		if diff := cmp.Diff([]id.Tenant{ui.ID, web.ID, a.ID}, must(t, l, err).Lineage); diff != "" {
			t.Errorf("lineage (-want +got):\n%s", diff)
		}
	}
	_, err = c.CreateTenant(t.Context(), "ACME")
	wantKind(t, "the same name in other case", err, errkind.Exists)
	_, err = c.CreateTenant(t.Context(), "acme/web")
	wantKind(t, "the same child in other case", err, errkind.Exists)
	_, err = c.CreateTenant(t.Context(), "nobody/x")
	wantKind(t, "child of nobody", err, errkind.NotFound)

	// From the leaves up, and only when empty.
	wantKind(t, "delete with a child", c.DeleteTenant(t.Context(), web.ID, false), errkind.Conflict)
	r := repo(t, c, ui.ID, "site")
	wantKind(t, "delete with a repository", c.DeleteTenant(t.Context(), ui.ID, false), errkind.Conflict)
	must0(t, c.DeleteRepo(t.Context(), r.ID))
	must0(t, c.DeleteTenant(t.Context(), ui.ID, false))
	wantKind(t, "delete again", c.DeleteTenant(t.Context(), ui.ID, false), errkind.NotFound)
	_, err = c.Standing(t.Context(), ui.ID)
	wantKind(t, "lineage of what is gone", err, errkind.NotFound)
	must0(t, c.DeleteTenant(t.Context(), web.ID, false))

	path := "deep"
	for range control.MaxTenantDepth {
		tenant(t, c, path)
		path += "/d"
	}
	_, err = c.CreateTenant(t.Context(), path)
	wantKind(t, "too deep", err, errkind.Invalid)
}

func TestOnePathLeadsToOneThing(t *testing.T) { onEach(t, testOnePathLeadsToOneThing) }

func testOnePathLeadsToOneThing(t *testing.T, db backend) {
	c := open(t, db)
	a := tenant(t, c, "acme")
	tenant(t, c, "acme/web")
	r := repo(t, c, a.ID, "site")

	_, err := c.CreateRepo(t.Context(), a.ID, "WEB", false, nil)
	wantKind(t, "repository named like a child tenant", err, errkind.Exists)
	_, err = c.CreateTenant(t.Context(), "acme/Site")
	wantKind(t, "child tenant named like a repository", err, errkind.Exists)
	_, err = c.CreateRepo(t.Context(), a.ID, "Site", false, nil)
	wantKind(t, "repository in other case", err, errkind.Exists)
	_, err = c.RenameRepo(t.Context(), r.ID, "web")
	wantKind(t, "rename to a child tenant's name", err, errkind.Exists)
	repo(t, c, a.ID, "other")
	_, err = c.RenameRepo(t.Context(), r.ID, "OTHER")
	wantKind(t, "rename to another repository's name", err, errkind.Exists)

	// Elsewhere the names are free, and a repository may change the case of its own.
	b := tenant(t, c, "beta")
	repo(t, c, b.ID, "web")
	renamed, err := c.RenameRepo(t.Context(), r.ID, "SITE")
	if must(t, renamed, err); renamed.Name != "SITE" {
		t.Errorf("name = %q, want SITE", renamed.Name)
	}
}

func TestTenantsPages(t *testing.T) { onEach(t, testTenantsPages) }

func testTenantsPages(t *testing.T, db backend) {
	c := open(t, db)
	for _, p := range []string{"b", "A", "c", "A/x", "B/y", "a-b"} {
		tenant(t, c, p)
	}
	var got []string
	after := ""
	for {
		page, err := c.Tenants(t.Context(), control.TenantFilter{}, after, 2)
		must0(t, err)
		if len(page) == 0 {
			break
		}
		for _, tn := range page {
			got = append(got, tn.Path)
		}
		after = page[len(page)-1].Path
	}
	if diff := cmp.Diff([]string{"A", "a-b", "A/x", "b", "b/y", "c", "default"}, got); diff != "" {
		t.Errorf("tenants (-want +got):\n%s", diff)
	}
}

// clock is a time that tests set.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func TestClosedControl(t *testing.T) { onEach(t, testClosedControl) }

func testClosedControl(t *testing.T, db backend) {
	c, _, err := control.Open(t.Context(), db.fresh(t), control.Options{})
	must0(t, err)
	must0(t, c.Close())
	_, err = c.RepoByName(t.Context(), "default", "x")
	wantKind(t, "look-up after Close", err, errkind.Unavailable)
}

func TestCancelledContext(t *testing.T) { onEach(t, testCancelledContext) }

func testCancelledContext(t *testing.T, db backend) {
	c := open(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.CreateTenant(ctx, "late"); !errors.Is(err, context.Canceled) {
		t.Errorf("CreateTenant = %v, want context.Canceled", err)
	}
}
