package control_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
	"github.com/skep-dev/skep/internal/usage"
)

// TestQuotasHoldUpTheTree: what a child has counts for its parent, and however much it may have itself, the parent's quota holds.
func TestQuotasHoldUpTheTree(t *testing.T) { onEach(t, testQuotasHoldUpTheTree) }

func testQuotasHoldUpTheTree(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme, web, other := tenant(t, c, "acme"), tenant(t, c, "acme/web"), tenant(t, c, "other")
	alice, bob, carol := principal(t, c, "alice"), principal(t, c, "bob"), principal(t, c, "carol")
	must0(t, c.SetQuotas(ctx, acme.ID, control.Quotas{control.QuotaRepos: 2, control.QuotaChildren: 2, control.QuotaMembers: 2}))
	must0(t, c.SetQuotas(ctx, web.ID, control.Quotas{control.QuotaRepos: 100, control.QuotaChildren: 1}))

	repo(t, c, acme.ID, "one")
	two := repo(t, c, web.ID, "two")
	create := func(in control.Tenant, name string) error {
		return second(c.CreateRepo(ctx, in.ID, name, false, func(control.Repo) error {
			t.Errorf("%s/%s: a cell is made", in.Path, name)
			return nil
		}))
	}
	refused := func(what string, err error, words ...string) {
		t.Helper()
		wantKind(t, what, err, errkind.QuotaExceeded)
		for _, w := range words {
			if err != nil && !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q in it", what, err, w)
			}
		}
	}
	refused("a third repository", create(acme, "three"), "acme has used 2 of 2 of its quota of repositories")
	// How much its parent has is not the child's business.
	refused("a third one in the child", create(web, "three"), "acme, which acme/web belongs to, has used up its quota of repositories")
	repo(t, c, other.ID, "free")
	must0(t, c.DeleteRepo(ctx, two.ID))
	repo(t, c, web.ID, "three")

	tenant(t, c, "acme/web/deep")
	refused("a second child of the child", second(c.CreateTenant(ctx, "acme/web/more")), "acme/web has used 1 of 1")
	refused("a third descendant", second(c.CreateTenant(ctx, "acme/more")), "acme has used 2 of 2")
	refused("one far below", second(c.CreateTenant(ctx, "acme/web/deep/more")), "acme/web, which acme/web/deep belongs to")

	must0(t, c.SetMember(ctx, acme.ID, alice.ID, policy.Owner))
	must0(t, c.SetMember(ctx, web.ID, bob.ID, policy.Reader))
	refused("a third member", c.SetMember(ctx, web.ID, carol.ID, policy.Reader))
	must0(t, c.SetMember(ctx, web.ID, bob.ID, policy.Writer)) // who is a member already

	used, err := c.QuotaUse(ctx, acme.ID)
	want := control.Quotas{"storage": 0, "repositories": 2, "children": 2, "members": 2, "fetches": 0, "pushes": 0, "calls": 0, "bytes-out-day": 0, "bytes-out-month": 0}
	if diff := cmp.Diff(want, must(t, used, err)); diff != "" {
		t.Errorf("used (-want +got):\n%s", diff)
	}

	// A lower quota takes nothing away.
	must0(t, c.SetQuotas(ctx, acme.ID, control.Quotas{control.QuotaRepos: 0}))
	must0(t, second(c.RepoByName(ctx, "acme", "one")))
	refused("a repository more", create(acme, "four"))
	must0(t, c.SetQuotas(ctx, acme.ID, nil))
	repo(t, c, acme.ID, "four")

	wantKind(t, "an unknown quota", c.SetQuotas(ctx, acme.ID, control.Quotas{"beer": 1}), errkind.Invalid)
	wantKind(t, "a negative one", c.SetQuotas(ctx, acme.ID, control.Quotas{control.QuotaRepos: -1}), errkind.Invalid)
	wantKind(t, "of nobody", c.SetQuotas(ctx, "ten_none", nil), errkind.NotFound)
}

// TestNoWayAroundQuotas: what was deleted counts no more, and does not come back, or from elsewhere, beyond a quota.
func TestNoWayAroundQuotas(t *testing.T) { onEach(t, testNoWayAroundQuotas) }

func testNoWayAroundQuotas(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme, other := tenant(t, c, "acme"), tenant(t, c, "other")
	must0(t, c.SetQuotas(ctx, acme.ID, control.Quotas{control.QuotaRepos: 1, control.QuotaChildren: 1}))
	one := tenant(t, c, "acme/one")
	repo(t, c, one.ID, "site")
	must0(t, c.DeleteTenant(ctx, one.ID, true))
	two := tenant(t, c, "acme/two")
	repo(t, c, two.ID, "site")
	wantKind(t, "a child that comes back", second(c.RestoreTenant(ctx, one.ID, acme.ID, "one")), errkind.QuotaExceeded)
	back, err := c.RestoreTenant(ctx, one.ID, other.ID, "one")
	must0(t, err)
	wantKind(t, "a child that moves in", second(c.MoveTenant(ctx, back, acme.ID, "one")), errkind.QuotaExceeded)
	must0(t, c.SetQuotas(ctx, acme.ID, control.Quotas{control.QuotaRepos: 1, control.QuotaChildren: 2}))
	wantKind(t, "its repository", second(c.MoveTenant(ctx, back, acme.ID, "one")), errkind.QuotaExceeded)
	must0(t, c.SetQuotas(ctx, acme.ID, control.Quotas{control.QuotaRepos: 2}))
	must0(t, second(c.MoveTenant(ctx, back, acme.ID, "one")))
}

func TestUseOfTimeEnds(t *testing.T) { onEach(t, testUseOfTimeEnds) }

func testUseOfTimeEnds(t *testing.T, db backend) {
	c := open(t, db)
	move := clockAt(c)
	acme, web := tenant(t, c, "acme"), tenant(t, c, "acme/web")
	l := &ledger{t: t, c: c}
	l.add(record(acme.ID, "", noon, usage.Push, 1), record(web.ID, "", noon, usage.Push, 2), record(web.ID, "", noon, usage.APIWrite, 4),
		record(web.ID, "", noon, usage.APIRead, 8), record(web.ID, "", noon, usage.Archive, 16), record(web.ID, "", noon, usage.BytesOut, 32))
	steps := []struct {
		wait time.Duration
		want control.Quotas
	}{
		{0, control.Quotas{"pushes": 3, "calls": 12, "fetches": 16, "bytes-out-day": 32, "bytes-out-month": 32}},
		{time.Hour, control.Quotas{"bytes-out-day": 32, "bytes-out-month": 32}},
		{day, control.Quotas{"bytes-out-month": 32}},
		{31 * day, control.Quotas{}},
	}
	for _, s := range steps {
		move(s.wait)
		used, err := c.QuotaUse(t.Context(), acme.ID)
		for k, n := range must(t, used, err) {
			if k != control.QuotaChildren && n != s.want[k] {
				t.Errorf("after %v more, %s = %d, want %d", s.wait, k, n, s.want[k])
			}
		}
	}
	c.SetClock(func() time.Time { return noon })
	for k, want := range map[control.Quota]time.Duration{
		control.QuotaPushes: 40 * time.Minute, control.QuotaDayOut: 11*time.Hour + 40*time.Minute,
		control.QuotaMonthOut: 27*day + 11*time.Hour + 40*time.Minute, control.QuotaStorage: 0,
	} {
		if got := c.Until(k); got != want {
			t.Errorf("%s counts for %v more, want %v", k, got, want)
		}
	}
}

const day = 24 * time.Hour

// TestQuotasCountOnAllNodes: a quota that is set on one node holds on another within the promised time.
func TestQuotasCountOnAllNodes(t *testing.T) {
	where := postgrestest.New(t)
	one, two := openAt(t, where), openAt(t, where)
	run(t, one)
	run(t, two)
	acme := tenant(t, one, "acme")
	must0(t, second(two.Standing(t.Context(), acme.ID))) // which two remembers
	must0(t, one.SetQuotas(t.Context(), acme.ID, control.Quotas{control.QuotaPushes: 5}))
	until(t, "no quota", time.Now(), func() bool {
		s, err := two.Standing(t.Context(), acme.ID)
		return len(must(t, s, err).Quotas) == 0
	})
}
