package control_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

func TestTokenCarriesItsPrincipal(t *testing.T) { onEach(t, testTokenCarriesItsPrincipal) }

func testTokenCarriesItsPrincipal(t *testing.T, db backend) {
	c := open(t, db)
	a, b := tenant(t, c, "acme"), tenant(t, c, "beta")
	r := repo(t, c, a.ID, "site")
	alice := principal(t, c, "Alice")
	must0(t, c.SetMember(t.Context(), a.ID, alice.ID, policy.Reader))
	must0(t, c.SetMember(t.Context(), b.ID, alice.ID, policy.Writer))

	tok, h := token(t, c, control.Token{Principal: alice.ID, Name: "laptop", Repo: r.ID, Scope: policy.ScopeWrite})
	for range 2 {
		got, err := c.Principal(t.Context(), h)
		want := policy.Principal{
			ID: alice.ID, Name: "Alice", Class: policy.Human, Scope: policy.ScopeWrite, Repo: r.ID, Token: tok.ID, RepoTenant: a.ID,
			Roles: map[id.Tenant]policy.Role{a.ID: policy.Reader, b.ID: policy.Writer},
		}
		if diff := cmp.Diff(want, must(t, got, err)); diff != "" {
			t.Errorf("principal (-want +got):\n%s", diff)
		}
	}
	got, err := c.TokenByID(t.Context(), tok.ID)
	if diff := cmp.Diff(tok, must(t, got, err)); diff != "" {
		t.Errorf("token (-want +got):\n%s", diff)
	}
}

// TestRightsChangeAtOnce: whatever was remembered of a token, after a change returns, the next look-up knows it.
func TestRightsChangeAtOnce(t *testing.T) { onEach(t, testRightsChangeAtOnce) }

func testRightsChangeAtOnce(t *testing.T, db backend) {
	c := open(t, db)
	a := tenant(t, c, "acme")
	alice := principal(t, c, "alice")
	_, h := token(t, c, control.Token{Principal: alice.ID})
	role := func(want policy.Role) {
		t.Helper()
		for range 2 {
			p, err := c.Principal(t.Context(), h)
			if must(t, p, err); p.Roles[a.ID] != want {
				t.Errorf("role = %q, want %q", p.Roles[a.ID], want)
			}
		}
	}
	role("")
	must0(t, c.SetMember(t.Context(), a.ID, alice.ID, policy.Reader))
	role(policy.Reader)
	must0(t, c.SetMember(t.Context(), a.ID, alice.ID, policy.Owner))
	role(policy.Owner)
	must0(t, c.RemoveMember(t.Context(), a.ID, alice.ID))
	role("")
	wantKind(t, "remove again", c.RemoveMember(t.Context(), a.ID, alice.ID), errkind.NotFound)
	must0(t, c.SetMember(t.Context(), a.ID, alice.ID, policy.Owner))
	role(policy.Owner)
	must0(t, c.DeleteTenant(t.Context(), a.ID, false))
	role("")
}

func TestRefusedTokens(t *testing.T) { onEach(t, testRefusedTokens) }

func testRefusedTokens(t *testing.T, db backend) {
	c := open(t, db)
	clk := &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	c.SetClock(clk.now)
	a := tenant(t, c, "acme")
	refused := func(what string, h auth.Hash) {
		t.Helper()
		for range 2 {
			p, err := c.Principal(t.Context(), h)
			wantKind(t, what, err, errkind.Unauthorized)
			if p.ID != "" || p.Admin || p.Scope != "" {
				t.Errorf("%s: %+v came with the error", what, p)
			}
		}
	}
	accepted := func(what string, h auth.Hash) {
		t.Helper()
		for range 2 {
			if _, err := c.Principal(t.Context(), h); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	_, unknown := auth.NewSecret()
	refused("unknown", unknown)
	refused("zero", auth.Hash{})

	bob := principal(t, c, "bob")
	tok, h := token(t, c, control.Token{Principal: bob.ID})
	_, other := token(t, c, control.Token{Principal: bob.ID})
	accepted("before it is revoked", h)
	must0(t, c.RevokeToken(t.Context(), tok.ID))
	refused("revoked", h)
	accepted("the other one", other)
	wantKind(t, "revoke again", c.RevokeToken(t.Context(), tok.ID), errkind.NotFound)

	_, h = token(t, c, control.Token{Principal: bob.ID, Expires: clk.t.Add(time.Hour)})
	clk.t = clk.t.Add(time.Hour - time.Microsecond)
	accepted("just before it expires", h)
	clk.t = clk.t.Add(time.Microsecond)
	refused("expired, though remembered", h)
	c.Forget()
	refused("expired", h)

	r := repo(t, c, a.ID, "site")
	_, h = token(t, c, control.Token{Principal: bob.ID, Repo: r.ID})
	accepted("of a repository", h)
	must0(t, c.DeleteRepo(t.Context(), r.ID))
	refused("of a repository that is gone", h)

	accepted("before its principal goes", other)
	must0(t, c.DeletePrincipal(t.Context(), bob.ID))
	refused("of nobody", other)
}

func TestCreateTokenRefuses(t *testing.T) { onEach(t, testCreateTokenRefuses) }

func testCreateTokenRefuses(t *testing.T, db backend) {
	c := open(t, db)
	bob := principal(t, c, "bob")
	good := control.Token{Principal: bob.ID, Scope: policy.ScopeRead}
	tests := []struct {
		name   string
		change func(*control.Token)
		want   errkind.Kind
	}{
		{"no scope", func(t *control.Token) { t.Scope = "" }, errkind.Invalid},
		{"unknown scope", func(t *control.Token) { t.Scope = "root" }, errkind.Invalid},
		{"expired already", func(t *control.Token) { t.Expires = time.Now().Add(-time.Second) }, errkind.Invalid},
		{"long name", func(t *control.Token) { t.Name = strings.Repeat("x", 101) }, errkind.Invalid},
		{"name with a control character", func(t *control.Token) { t.Name = "a\x1b[2J" }, errkind.Invalid},
		{"name that is no text", func(t *control.Token) { t.Name = "\xff" }, errkind.Invalid},
		{"no principal", func(t *control.Token) { t.Principal = "" }, errkind.NotFound},
		{"unknown principal", func(t *control.Token) { t.Principal = id.NewPrincipal() }, errkind.NotFound},
		{"unknown repository", func(t *control.Token) { t.Repo = id.NewRepo() }, errkind.NotFound},
	}
	for _, tt := range tests {
		tok := good
		tt.change(&tok)
		got, secret, err := c.CreateToken(t.Context(), tok)
		wantKind(t, tt.name, err, tt.want)
		if secret != "" || got != (control.Token{}) {
			t.Errorf("%s: a token came with the error", tt.name)
		}
	}
	list, err := c.Tokens(t.Context(), control.TokenFilter{Principal: bob.ID}, "", 10)
	if must(t, list, err); len(list) != 0 {
		t.Errorf("refused tokens were stored: %+v", list)
	}
}

func TestTokensList(t *testing.T) { onEach(t, testTokensList) }

func testTokensList(t *testing.T, db backend) {
	c := open(t, db)
	clk := &clock{time.Now()}
	c.SetClock(clk.now)
	a := tenant(t, c, "acme")
	r := repo(t, c, a.ID, "site")
	alice, bob := principal(t, c, "alice"), principal(t, c, "bob")
	for i := range 5 {
		token(t, c, control.Token{Principal: alice.ID, Name: fmt.Sprint("a", i)})
		token(t, c, control.Token{Principal: bob.ID, Name: fmt.Sprint("b", i), Repo: r.ID, Expires: clk.t.Add(time.Minute)})
	}
	count := func(f control.TokenFilter) map[string]int {
		t.Helper()
		got := map[string]int{}
		var after id.Token
		for {
			page, err := c.Tokens(t.Context(), f, after, 2)
			must0(t, err)
			if len(page) == 0 {
				return got
			}
			for _, tok := range page {
				got[tok.Name]++
			}
			after = page[len(page)-1].ID
		}
	}
	as := map[string]int{"a0": 1, "a1": 1, "a2": 1, "a3": 1, "a4": 1}
	bs := map[string]int{"b0": 1, "b1": 1, "b2": 1, "b3": 1, "b4": 1}
	tests := []struct {
		name string
		f    control.TokenFilter
		want map[string]int
	}{
		{"alice's", control.TokenFilter{Principal: alice.ID}, as},
		{"the repository's", control.TokenFilter{Repo: r.ID}, bs},
		{"bob's of the repository", control.TokenFilter{Principal: bob.ID, Repo: r.ID}, bs},
		{"alice's of the repository", control.TokenFilter{Principal: alice.ID, Repo: r.ID}, map[string]int{}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, count(tt.f)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	// Expired tokens are listed for a while, and go when their owner makes another one after that.
	clk.t = clk.t.Add(time.Hour)
	token(t, c, control.Token{Principal: bob.ID, Name: "later"})
	if got := count(control.TokenFilter{Repo: r.ID}); len(got) != 5 {
		t.Errorf("expired tokens went at once: %v", got)
	}
	clk.t = clk.t.Add(control.ExpiredKept)
	token(t, c, control.Token{Principal: bob.ID, Name: "much later"})
	if got := count(control.TokenFilter{Repo: r.ID}); len(got) != 0 {
		t.Errorf("expired tokens stay: %v", got)
	}
}

// TestSecretsAreNotStored: what is on disk does not contain any secret.
func TestSecretsAreNotStored(t *testing.T) { onEach(t, testSecretsAreNotStored) }

func testSecretsAreNotStored(t *testing.T, db backend) {
	c := open(t, db)
	bob := principal(t, c, "bob")
	_, secret, err := c.CreateToken(t.Context(), control.Token{Principal: bob.ID, Scope: policy.ScopeRead})
	must0(t, err)
	err = c.DB().Read(t.Context(), func(q control.Conn) error {
		for r, err := range q.Query("SELECT token_id, name, hash FROM token") {
			must0(t, err)
			if strings.Contains(fmt.Sprintf("%s %s %x %s", r.Text(0), r.Text(1), r.Bytes(2), r.Bytes(2)), secret[5:20]) {
				t.Error("the secret is in the database")
			}
		}
		return nil
	})
	must0(t, err)
}

func TestPrincipals(t *testing.T) { onEach(t, testPrincipals) }

func testPrincipals(t *testing.T, db backend) {
	c := open(t, db)
	a := tenant(t, c, "acme")
	alice := principal(t, c, "Alice")
	_, err := c.CreatePrincipal(t.Context(), "alice", policy.Human, false)
	wantKind(t, "the same name in other case", err, errkind.Exists)
	got, err := c.PrincipalByName(t.Context(), "ALICE")
	if diff := cmp.Diff(alice, must(t, got, err)); diff != "" {
		t.Errorf("by name (-want +got):\n%s", diff)
	}
	got, err = c.PrincipalByID(t.Context(), alice.ID)
	if diff := cmp.Diff(alice, must(t, got, err)); diff != "" {
		t.Errorf("by ID (-want +got):\n%s", diff)
	}
	bob := principal(t, c, "bob")
	must0(t, c.SetMember(t.Context(), a.ID, bob.ID, policy.Owner))
	must0(t, c.SetMember(t.Context(), a.ID, alice.ID, policy.Reader))
	want := []control.Member{{alice, policy.Reader}, {bob, policy.Owner}}
	members, err := c.Members(t.Context(), a.ID)
	if diff := cmp.Diff(want, must(t, members, err)); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	must0(t, c.DeletePrincipal(t.Context(), bob.ID))
	members, err = c.Members(t.Context(), a.ID)
	if diff := cmp.Diff(want[:1], must(t, members, err)); diff != "" {
		t.Errorf("members after bob went (-want +got):\n%s", diff)
	}
	wantKind(t, "delete again", c.DeletePrincipal(t.Context(), bob.ID), errkind.NotFound)
	wantKind(t, "unknown role", c.SetMember(t.Context(), a.ID, alice.ID, "boss"), errkind.Invalid)
	wantKind(t, "unknown tenant", c.SetMember(t.Context(), id.NewTenant(), alice.ID, policy.Reader), errkind.NotFound)
	wantKind(t, "unknown principal", c.SetMember(t.Context(), a.ID, bob.ID, policy.Reader), errkind.NotFound)
	_, err = c.Members(t.Context(), id.NewTenant())
	wantKind(t, "members of nobody", err, errkind.NotFound)

	// The last admin stays.
	admin, err := c.PrincipalByName(t.Context(), "admin")
	must0(t, err)
	wantKind(t, "delete the last admin", c.DeletePrincipal(t.Context(), admin.ID), errkind.Conflict)
	root, err := c.CreatePrincipal(t.Context(), "root", policy.Human, true)
	must0(t, err)
	must0(t, c.DeletePrincipal(t.Context(), admin.ID))
	wantKind(t, "delete the last admin", c.DeletePrincipal(t.Context(), root.ID), errkind.Conflict)

	var names []string
	var after id.Principal
	for {
		page, err := c.Principals(t.Context(), after, 1)
		must0(t, err)
		if len(page) == 0 {
			break
		}
		names = append(names, page[0].Name)
		after = page[0].ID
	}
	if diff := cmp.Diff([]string{"Alice", "root"}, names); diff != "" {
		t.Errorf("principals (-want +got):\n%s", diff)
	}
}

// TestCacheNeverLies: many readers look up what one writer changes. Once a change has returned, no look-up that starts
// later may answer from before it.
func TestCacheNeverLies(t *testing.T) { onEach(t, testCacheNeverLies) }

func testCacheNeverLies(t *testing.T, db backend) {
	c := open(t, db)
	a := tenant(t, c, "acme")
	r := repo(t, c, a.ID, "n0")
	alice := principal(t, c, "alice")
	_, h := token(t, c, control.Token{Principal: alice.ID})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, 2))
			for {
				select {
				case <-stop:
					return
				default:
				}
				c.Repo(t.Context(), r.ID)
				c.RepoByName(t.Context(), "acme", fmt.Sprint("n", rnd.IntN(4)))
				c.Principal(t.Context(), h)
			}
		})
	}
	roles := []policy.Role{policy.Reader, policy.Writer, policy.Owner}
	for i := 1; i < 40; i++ {
		name := fmt.Sprint("n", i%4)
		_, err := c.RenameRepo(t.Context(), r.ID, name)
		must0(t, err)
		for n := range 4 {
			got, err := c.RepoByName(t.Context(), "acme", fmt.Sprint("n", n))
			if found := err == nil; found != (n == i%4) || found && got.Name != name {
				t.Fatalf("after the rename to %s, n%d = %+v, %v", name, n, got, err)
			}
		}
		must0(t, c.SetMember(t.Context(), a.ID, alice.ID, roles[i%3]))
		p, err := c.Principal(t.Context(), h)
		if must(t, p, err); p.Roles[a.ID] != roles[i%3] {
			t.Fatalf("role = %s, want %s", p.Roles[a.ID], roles[i%3])
		}
	}
	close(stop)
	wg.Wait()
}

func TestRecent(t *testing.T) {
	r := control.NewRecent(10)
	for k := range 1000 {
		r.Put(k, k, r.Version())
		r.Get(3) // used all the time: never forgotten once there
		if r.Len() > 10 {
			t.Fatalf("%d keys, want at most 10", r.Len())
		}
	}
	if v, ok := r.Get(999); !ok || v != 999 {
		t.Errorf("the newest key is gone")
	}
	if _, ok := r.Get(3); !ok {
		t.Errorf("the key that is always used is gone")
	}
	// What was read before a drop is not kept, of whatever key.
	before := r.Version()
	r.Drop(5)
	r.Put(999, 1, before)
	if v, _ := r.Get(999); v != 999 {
		t.Errorf("an old value was put after a drop")
	}
	r.Clear()
	if _, ok := r.Get(999); ok {
		t.Error("a key survived Clear")
	}
}
