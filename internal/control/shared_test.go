package control_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
)

// until asks again and again what a change made untrue. An answer from before the change may be given for MaxStale at most,
// counted up to when the question was put: so it does not matter how slow the machine is.
func until(t *testing.T, what string, changed time.Time, ask func() (stillTrue bool)) {
	t.Helper()
	for {
		asked := time.Now()
		if !ask() {
			return
		}
		if late := asked.Sub(changed); late > control.MaxStale {
			t.Fatalf("%s: the old answer was given %v after the change, more than %v", what, late, control.MaxStale)
		}
	}
}

func TestPromise(t *testing.T) {
	if control.MaxStale >= time.Second {
		t.Errorf("what is revoked may be used for %v elsewhere; the promise is a second", control.MaxStale)
	}
}

// TestOtherNodesForget: two nodes share a database. What one takes away, the other refuses within the promised time,
// though it remembers it.
func TestOtherNodesForget(t *testing.T) {
	where := postgrestest.New(t)
	one, two := openAt(t, where), openAt(t, where)
	run(t, one)
	run(t, two)
	ctx := t.Context()
	a := tenant(t, one, "acme")
	gone, moving := tenant(t, one, "gone"), tenant(t, one, "moving")
	in := repo(t, one, moving.ID, "site")
	alice, bob := principal(t, one, "alice"), principal(t, one, "bob")
	must0(t, one.SetMember(ctx, a.ID, alice.ID, policy.Owner))
	must0(t, one.SetMember(ctx, gone.ID, alice.ID, policy.Owner))
	r := repo(t, one, a.ID, "site")
	must(t, r, second(one.SetPublic(ctx, r.ID, true)))
	doomed := repo(t, one, a.ID, "doomed")
	tok, revoked := token(t, one, control.Token{Principal: alice.ID})
	_, kept := token(t, one, control.Token{Principal: alice.ID})
	_, bobs := token(t, one, control.Token{Principal: bob.ID})
	_, bound := token(t, one, control.Token{Principal: bob.ID, Repo: doomed.ID})

	known := func(h auth.Hash) func() bool {
		return func() bool {
			_, err := two.Principal(ctx, h)
			if err != nil {
				wantKind(t, "token", err, errkind.Unauthorized)
			}
			return err == nil
		}
	}
	roleIn := func(tn id.Tenant) func() bool {
		return func() bool {
			p, err := two.Principal(ctx, kept)
			must0(t, err)
			return p.Roles[tn] != ""
		}
	}
	found := func(_ any, err error) bool {
		if err != nil {
			wantKind(t, "look-up", err, errkind.NotFound)
		}
		return err == nil
	}
	tests := []struct {
		what   string
		change func() error
		ask    func() bool
	}{
		{"token revoked", func() error { return one.RevokeToken(ctx, tok.ID) }, known(revoked)},
		{"member removed", func() error { return one.RemoveMember(ctx, a.ID, alice.ID) }, roleIn(a.ID)},
		{"made private", func() error { return second(one.SetPublic(ctx, r.ID, false)) }, func() bool {
			got, err := two.RepoByName(ctx, "acme", "site")
			return must(t, got, err).Public
		}},
		{"renamed", func() error { return second(one.RenameRepo(ctx, r.ID, "home")) }, func() bool { return found(two.RepoByName(ctx, "acme", "site")) }},
		{"repository deleted", func() error { return one.DeleteRepo(ctx, doomed.ID) }, known(bound)},
		{"tenant suspended", func() error { return second(one.SuspendTenant(ctx, a.ID, true)) }, func() bool {
			s, err := two.Standing(ctx, a.ID)
			return must(t, s, err).Suspended.Tenants == 0
		}},
		{"tenant moved", func() error { return second(one.MoveTenant(ctx, moving, "", "moved")) }, func() bool { return found(two.RepoByName(ctx, "moving", "site")) }},
		{"tenant deleted with all in it", func() error { return one.DeleteTenant(ctx, moving.ID, true) }, func() bool { return found(two.Repo(ctx, in.ID)) }},
		{"tenant deleted", func() error { return one.DeleteTenant(ctx, gone.ID, false) }, func() bool { return found(two.Standing(ctx, gone.ID)) }},
		{"role in it", func() error { return nil }, roleIn(gone.ID)},
		{"principal deleted", func() error { return one.DeletePrincipal(ctx, bob.ID) }, known(bobs)},
	}
	for _, tt := range tests {
		if tt.what != "role in it" && !tt.ask() {
			t.Errorf("%s: it is refused before", tt.what)
		}
		must0(t, tt.change())
		until(t, tt.what, time.Now(), tt.ask)
	}
	if !known(kept)() {
		t.Error("a token that nobody revoked is refused")
	}
}

// TestNoDatabaseNoAnswer: a node that cannot see what others change soon gives no answer from memory, and works again when
// it can.
func TestNoDatabaseNoAnswer(t *testing.T) {
	where := postgrestest.New(t)
	line := postgrestest.NewLine(t)
	one, two := openAt(t, where), openAt(t, line.Address(where))
	run(t, two)
	bob := principal(t, one, "bob")
	tok, h := token(t, one, control.Token{Principal: bob.ID})
	_, kept := token(t, one, control.Token{Principal: bob.ID})
	for _, h := range []auth.Hash{h, kept} {
		if _, err := two.Principal(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	line.Cut()
	must0(t, one.RevokeToken(t.Context(), tok.ID))
	until(t, "a node without its database", time.Now(), func() bool {
		_, err := two.Principal(t.Context(), h)
		if err != nil {
			wantKind(t, "no database", err, errkind.Unavailable)
		}
		return err == nil
	})
	line.Mend()
	_, err := two.Principal(t.Context(), h)
	wantKind(t, "revoked meanwhile", err, errkind.Unauthorized)
	if _, err := two.Principal(t.Context(), kept); err != nil {
		t.Errorf("the other token: %v", err)
	}
	for !two.Remembers() { // asked meanwhile, it goes to the database
		_, err = two.Principal(t.Context(), kept)
		must0(t, err)
	}
	_, err = two.Principal(t.Context(), h)
	wantKind(t, "revoked meanwhile", err, errkind.Unauthorized)
}

// TestWithoutRun: nobody watches, so nothing is remembered.
func TestWithoutRun(t *testing.T) {
	where := postgrestest.New(t)
	one, two := openAt(t, where), openAt(t, where)
	bob := principal(t, one, "bob")
	tok, h := token(t, one, control.Token{Principal: bob.ID})
	if _, err := two.Principal(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	must0(t, one.RevokeToken(t.Context(), tok.ID))
	_, err := two.Principal(t.Context(), h)
	wantKind(t, "revoked", err, errkind.Unauthorized)
}

// TestNodesStartAtOnce: one of them makes the first token, and only its secret is kept.
func TestNodesStartAtOnce(t *testing.T) {
	where := postgrestest.New(t)
	var mu sync.Mutex
	var secrets []string
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			kept := ""
			c, secret, err := control.Open(t.Context(), where, control.Options{KeepFirst: func(s string) error {
				kept = s
				return nil
			}})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if secret != "" {
				secrets = append(secrets, secret)
				if kept != secret {
					t.Errorf("kept %q, not the secret", kept)
				}
			}
			must0(t, c.Close())
		})
	}
	wg.Wait()
	if len(secrets) != 1 {
		t.Fatalf("%d nodes made a first token", len(secrets))
	}
	if p, err := openAt(t, where).Principal(t.Context(), auth.HashSecret(secrets[0])); err != nil || !p.Admin {
		t.Errorf("its token is of %+v, %v", p, err)
	}
}

func TestFirstSecretIsKeptOrNothingIsMade(t *testing.T) {
	onEach(t, testFirstSecretIsKeptOrNothingIsMade)
}

func testFirstSecretIsKeptOrNothingIsMade(t *testing.T, db backend) {
	where := db.fresh(t)
	_, _, err := control.Open(t.Context(), where, control.Options{MustExist: true})
	wantKind(t, "a database that must exist", err, errkind.NotFound)
	broken := errors.New("disk is full")
	_, secret, err := control.Open(t.Context(), where, control.Options{KeepFirst: func(string) error { return broken }})
	if !errors.Is(err, broken) || secret != "" {
		t.Errorf("a secret that cannot be kept: %q, %v", secret, err)
	}
	c, secret, err := control.Open(t.Context(), where, control.Options{MustExist: db.name == "sqlite"})
	must0(t, err)
	defer c.Close()
	if secret == "" {
		t.Error("the next start made no token")
	}
}

// TestNodesCreateOneName: whoever comes second is told that the name is taken.
func TestNodesCreateOneName(t *testing.T) {
	where := postgrestest.New(t)
	nodes := []*control.Control{openAt(t, where), openAt(t, where)}
	a := tenant(t, nodes[0], "acme")
	for round := range 5 {
		var mu sync.Mutex
		var wg sync.WaitGroup
		made := map[string]int{}
		for i, c := range append(nodes, nodes...) {
			attempts := map[string]func() error{
				"repo":   func() error { return second(c.CreateRepo(t.Context(), a.ID, fmt.Sprint("r", round), false, nil)) },
				"tenant": func() error { return second(c.CreateTenant(t.Context(), fmt.Sprint("T", round))) },
				"principal": func() error {
					return second(c.CreatePrincipal(t.Context(), fmt.Sprint("p", round), policy.Human, false))
				},
				// A child tenant and a repository of one path: no constraint of the database forbids that.
				"path": func() error {
					if i%2 == 0 {
						return second(c.CreateRepo(t.Context(), a.ID, fmt.Sprint("x", round), false, nil))
					}
					return second(c.CreateTenant(t.Context(), fmt.Sprint("acme/X", round)))
				},
			}
			for what, attempt := range attempts {
				wg.Go(func() {
					err := attempt()
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						made[what]++
					} else if errkind.Of(err) != errkind.Exists || strings.Contains(err.Error(), "SQLSTATE") {
						t.Errorf("%s: %v", what, err)
					}
				})
			}
		}
		wg.Wait()
		for _, what := range []string{"repo", "tenant", "principal", "path"} {
			if made[what] != 1 {
				t.Errorf("%s was made %d times", what, made[what])
			}
		}
	}
}

// TestLastAdminStays: two nodes delete the last two admins at once. One of them must not succeed.
func TestLastAdminStays(t *testing.T) {
	where := postgrestest.New(t)
	nodes := []*control.Control{openAt(t, where), openAt(t, where)}
	for round := range 5 {
		admin, err := nodes[0].PrincipalByName(t.Context(), "admin")
		must0(t, err)
		other, err := nodes[0].CreatePrincipal(t.Context(), fmt.Sprint("other", round), policy.Human, true)
		must0(t, err)
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for i, p := range []id.Principal{admin.ID, other.ID} {
			wg.Go(func() { errs[i] = nodes[i].DeletePrincipal(t.Context(), p) })
		}
		wg.Wait()
		switch {
		case errs[0] == nil && errs[1] == nil:
			t.Fatal("no admin is left")
		case errs[0] == nil: // the other one is the admin of the next round
			wantKind(t, "the last admin", errs[1], errkind.Conflict)
			must0(t, second(nodes[0].CreatePrincipal(t.Context(), "admin", policy.Human, true)))
			must0(t, nodes[0].DeletePrincipal(t.Context(), other.ID))
		default:
			wantKind(t, "the last admin", errs[0], errkind.Conflict)
		}
	}
}

// TestOddTextIsTheSameEverywhere: what one database could hold and the other could not.
func TestOddTextIsTheSameEverywhere(t *testing.T) { onEach(t, testOddTextIsTheSameEverywhere) }

func testOddTextIsTheSameEverywhere(t *testing.T, db backend) {
	c, ctx := open(t, db), t.Context()
	for _, odd := range []string{"a\x00b", "\xff"} {
		for what, err := range map[string]error{
			"Tenant":          second(c.Tenant(ctx, id.Tenant(odd))),
			"TenantByPath":    second(c.TenantByPath(ctx, odd)),
			"Standing":        second(c.Standing(ctx, id.Tenant(odd))),
			"Repo":            second(c.Repo(ctx, id.Repo(odd))),
			"RepoByName":      second(c.RepoByName(ctx, "default", odd)),
			"PrincipalByID":   second(c.PrincipalByID(ctx, id.Principal(odd))),
			"PrincipalByName": second(c.PrincipalByName(ctx, odd)),
			"TokenByID":       second(c.TokenByID(ctx, id.Token(odd))),
			"RevokeToken":     c.RevokeToken(ctx, id.Token(odd)),
			"DeleteRepo":      c.DeleteRepo(ctx, id.Repo(odd)),
		} {
			wantKind(t, what, err, errkind.NotFound)
		}
		for what, err := range map[string]error{
			"Tenants":    second(c.Tenants(ctx, control.TenantFilter{}, odd, 1)),
			"Principals": second(c.Principals(ctx, id.Principal(odd), 1)),
			"Repos":      second(c.Repos(ctx, control.RepoFilter{}, id.Repo(odd), 1)),
			"Tokens":     second(c.Tokens(ctx, control.TokenFilter{}, id.Token(odd), 1)),
		} {
			wantKind(t, what, err, errkind.Invalid)
		}
	}
}
