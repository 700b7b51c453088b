package control_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// entries are the log's after a cursor.
func entries(t *testing.T, c *control.Control, f control.AuditFilter, after int64) []audit.Entry {
	t.Helper()
	list, _, err := c.AuditLog(t.Context(), f, after, 1000)
	must0(t, err)
	return list
}

func head(t *testing.T, c *control.Control) audit.Head {
	t.Helper()
	h, err := c.VerifyAudit(t.Context())
	must0(t, err)
	return h
}

// lines are what entries say, in short.
func lines(list []audit.Entry) (out []string) {
	for _, e := range list {
		out = append(out, fmt.Sprintf("%s %s %s", e.Action, e.Resource, e.Outcome))
	}
	return out
}

func TestEachChangeIsInTheAuditLog(t *testing.T) { onEach(t, testEachChangeIsInTheAuditLog) }

func testEachChangeIsInTheAuditLog(t *testing.T, db backend) {
	c := open(t, db)
	first := entries(t, c, control.AuditFilter{}, 0)
	if diff := cmp.Diff([]string{"tenant.create tenant/default done", "principal.create principal/admin done"}, lines(first)[:2]); diff != "" {
		t.Errorf("the first start (-want +got):\n%s", diff)
	}
	if e := first[0]; e.Name != "skep" || e.Class != "system" || e.Principal != "" {
		t.Errorf("it was done by %+v", e)
	}

	who := audit.Origin{Principal: "usr_1", Name: "alice", Class: "human", Token: "tok_1", Intent: "clean up", Request: "r-1", Address: "192.0.2.1"}
	ctx := audit.With(t.Context(), who)
	at := head(t, c).Seq
	acme, err := c.CreateTenant(ctx, "Acme")
	must0(t, err)
	bob, err := c.CreatePrincipal(ctx, "bob", policy.Pipeline, true)
	must0(t, err)
	must0(t, c.SetMember(ctx, acme.ID, bob.ID, policy.Writer))
	must0(t, c.JoinGroup(ctx, acme.ID, "ops", bob.ID))
	must0(t, second(c.SetPolicy(ctx, acme.ID, "[policy]\n", -1, bob.ID)))
	r, err := c.CreateRepo(ctx, acme.ID, "api", false, nil)
	must0(t, err)
	tok, _, err := c.CreateToken(ctx, control.Token{Principal: bob.ID, Name: "ci", Repo: r.ID, Scope: policy.ScopeWrite})
	must0(t, err)
	must0(t, second(c.SetPublic(ctx, r.ID, true)))
	must0(t, second(c.RenameRepo(ctx, r.ID, "web")))
	must0(t, c.RevokeToken(ctx, tok.ID))
	must0(t, c.DeleteRepo(ctx, r.ID))
	must0(t, c.LeaveGroup(ctx, acme.ID, "ops", bob.ID))
	must0(t, c.RemoveMember(ctx, acme.ID, bob.ID))
	must0(t, c.DeleteTenant(ctx, acme.ID, false))
	must0(t, c.DeletePrincipal(ctx, bob.ID))

	list := entries(t, c, control.AuditFilter{}, at)
	want := []string{
		"tenant.create tenant/Acme done",
		"principal.create principal/bob done",
		"member.set tenant/Acme done",
		"group.join tenant/Acme done",
		"policy.set tenant/Acme done",
		"repo.create repo/Acme/api done",
		"token.create token/" + string(tok.ID) + " done",
		"repo.visibility repo/Acme/api done",
		"repo.rename repo/Acme/api done",
		"token.revoke token/" + string(tok.ID) + " done",
		"repo.delete repo/Acme/web done",
		"group.leave tenant/Acme done",
		"member.remove tenant/Acme done",
		"tenant.delete tenant/Acme done",
		"principal.delete principal/bob done",
	}
	if diff := cmp.Diff(want, lines(list)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	for _, e := range list {
		if o := (audit.Origin{Principal: e.Principal, Name: e.Name, Class: e.Class, Token: e.Token, Intent: e.Intent, Request: e.Request, Address: e.Address}); o != who {
			t.Errorf("entry %d was done by %+v, want %+v", e.Seq, o, who)
		}
	}
	head(t, c)
}

// What is refused, and what fails, changes nothing and is in no log.
func TestWhatIsRefusedIsNotInTheAuditLog(t *testing.T) {
	onEach(t, func(t *testing.T, db backend) {
		c := open(t, db)
		before := head(t, c)
		wantKind(t, "a tenant that is there", second(c.CreateTenant(t.Context(), "default")), errkind.Exists)
		wantKind(t, "a member of no tenant", c.SetMember(t.Context(), "ten_no", "usr_no", policy.Reader), errkind.NotFound)
		if after := head(t, c); after != before {
			t.Errorf("the log went on from %+v to %+v", before, after)
		}
	})
}

// Changes and entries from several nodes at once make one chain, and none is lost.
func TestOneChainForAllNodes(t *testing.T) {
	onEach(t, func(t *testing.T, db backend) {
		where := db.fresh(t)
		nodes := []*control.Control{openAt(t, where)}
		if db.name == "postgres" {
			nodes = append(nodes, openAt(t, where), openAt(t, where))
		}
		before := head(t, nodes[0]).Seq
		const writers, each = 6, 15
		var wg sync.WaitGroup
		for w := range writers {
			c := nodes[w%len(nodes)]
			wg.Go(func() {
				for i := range each {
					if w%3 == 0 {
						must0(t, second(c.CreateTenant(t.Context(), fmt.Sprintf("t%d-%d", w, i))))
						continue
					}
					resource := fmt.Sprintf("repo/x@%d-%d", w, i)
					must0(t, c.Audit(t.Context(), audit.Entry{Action: "ref.push", Resource: resource, Outcome: audit.Begun}, audit.Entry{Action: "x"}))
				}
			})
		}
		wg.Wait()
		// A third of the writers made one entry a time, the others two.
		if got, want := head(t, nodes[0]).Seq-before, int64(writers*each*5/3); got != want {
			t.Errorf("%d entries, want %d", got, want)
		}
	})
}

func TestAuditLogIsFiltered(t *testing.T) { onEach(t, testAuditLogIsFiltered) }

func testAuditLogIsFiltered(t *testing.T, db backend) {
	c := open(t, db)
	acme, web, other := tenant(t, c, "acme"), tenant(t, c, "acme/web"), tenant(t, c, "other")
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	c.SetClock(func() time.Time { return at })
	log := func(o audit.Origin, e ...audit.Entry) {
		must0(t, c.Audit(audit.With(t.Context(), o), e...))
		at = at.Add(time.Hour)
	}
	log(audit.Origin{Principal: "usr_1", Request: "a"}, audit.Entry{Action: "ref.push", Tenant: string(acme.ID), Resource: "repo/acme/api"})
	log(audit.Origin{Principal: "usr_2", Request: "b"}, audit.Entry{Action: "ref.push", Tenant: string(web.ID), Resource: "repo/acme/web/x_y"})
	log(audit.Origin{Principal: "usr_1", Request: "c"}, audit.Entry{Action: "ref.delete", Tenant: string(other.ID), Resource: "repo/other/%"})
	begin := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		name string
		f    control.AuditFilter
		want []string // requests
	}{
		{"a tenant and what is below", control.AuditFilter{Tenant: acme.ID}, []string{"a", "b"}},
		{"a child", control.AuditFilter{Tenant: web.ID}, []string{"b"}},
		{"no tenant", control.AuditFilter{Tenant: "ten_no"}, nil},
		{"a principal", control.AuditFilter{Principal: "usr_1"}, []string{"a", "c"}},
		{"an action", control.AuditFilter{Action: "ref.delete"}, []string{"c"}},
		{"actions", control.AuditFilter{Action: "ref.*"}, []string{"a", "b", "c"}},
		{"a resource", control.AuditFilter{Resource: "repo/acme/api"}, []string{"a"}},
		{"resources", control.AuditFilter{Resource: "repo/acme/web/x_*"}, []string{"b"}},
		{"a percent sign stands for itself", control.AuditFilter{Resource: "repo/other/%*"}, []string{"c"}},
		{"a request", control.AuditFilter{Request: "b"}, []string{"b"}},
		{"since", control.AuditFilter{Since: begin.Add(time.Hour)}, []string{"b", "c"}},
		{"until", control.AuditFilter{Since: begin, Until: begin.Add(time.Hour)}, []string{"a"}},
		{"several", control.AuditFilter{Tenant: acme.ID, Principal: "usr_1", Action: "ref.push"}, []string{"a"}},
	}
	for _, tt := range tests {
		var got []string
		for _, e := range entries(t, c, tt.f, 0) {
			if e.Request != "" {
				got = append(got, e.Request)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: entries of requests %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Whatever somebody with the database open does to the log is found.
func TestChangedAuditLogIsFound(t *testing.T) { onEach(t, testChangedAuditLogIsFound) }

func testChangedAuditLogIsFound(t *testing.T, db backend) {
	c := open(t, db)
	for i := range 20 {
		must0(t, c.Audit(t.Context(), audit.Entry{Action: "ref.push", Resource: fmt.Sprint("repo/", i)}))
	}
	n := head(t, c).Seq
	rnd := rand.New(rand.NewPCG(1, 2))
	columns := []string{
		"principal_id", "name", "class", "token_id", "action", "in_tenant", "resource", "outcome", "intent", "request_id", "address", "detail",
	}
	for round := range 1000 {
		seq := 1 + rnd.Int64N(n)
		damage := ""
		switch rnd.IntN(5) {
		case 0:
			damage = fmt.Sprintf("DELETE FROM audit WHERE seq = %d", seq)
		case 1:
			damage = fmt.Sprintf("DELETE FROM audit WHERE seq >= %d", seq)
		case 2:
			damage = fmt.Sprintf("UPDATE audit SET at = at + %d WHERE seq = %d", 1+rnd.IntN(1000), seq)
		case 3:
			damage = fmt.Sprintf("UPDATE audit SET hash = (SELECT prev FROM audit WHERE seq = %d) WHERE seq = %d", 1+seq%n, seq)
			if seq < n {
				damage = fmt.Sprintf("UPDATE audit SET prev = hash WHERE seq = %d", seq)
			}
		default:
			damage = fmt.Sprintf("UPDATE audit SET %[1]s = %[1]s || 'x' WHERE seq = %[2]d", columns[rnd.IntN(len(columns))], seq)
		}
		// What is done is undone again: the damage is seen by a look from inside its transaction.
		err := c.VerifyAuditAfter(t.Context(), damage)
		if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "audit") {
			t.Fatalf("%d: after %s: %v, want errkind.Invalid", round, damage, err)
		}
	}
	head(t, c)
}

// An entry of a request that has gone is written or not, and hurts nobody.
func TestAuditOfARequestThatHasGone(t *testing.T) {
	c := open(t, onSQLite)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		_ = c.Audit(ctx, audit.Entry{Action: "ref.push"})
	}
	must0(t, c.Audit(t.Context(), audit.Entry{Action: "ref.push", Resource: "the last"}))
	all := entries(t, c, control.AuditFilter{}, 0)
	if last := all[len(all)-1]; last.Resource != "the last" {
		t.Errorf("the last entry is %+v", last)
	}
	head(t, c)
}

func BenchmarkAudit(b *testing.B) {
	benchEach(b, func(b *testing.B, db backend) {
		c := open(b, db)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				must0(b, c.Audit(b.Context(), audit.Entry{Action: "ref.push", Resource: "repo/acme/api@refs/heads/main", Outcome: audit.Begun}))
			}
		})
	})
}
