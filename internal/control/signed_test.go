package control_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/jwt/jwttest"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
)

const (
	platform = "https://platform.example.org"
	ourURL   = "https://git.example.org"
)

func newKey(t *testing.T, kid string) jwttest.Key {
	t.Helper()
	k, err := jwttest.NewKey("EdDSA", kid)
	must0(t, err)
	return k
}

// signed makes a token of the platform's for sub, with changes to its claims.
func signed(t *testing.T, k jwttest.Key, sub string, changes jwttest.Claims) string {
	t.Helper()
	claims := jwttest.Claims{"iss": platform, "aud": ourURL, "sub": sub, "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(claims, changes)
	text, err := k.Sign(claims)
	return must(t, text, err)
}

// issuer makes a tenant trust a key of the platform's.
func issuer(t *testing.T, c *control.Control, tn id.Tenant, name string, k jwttest.Key, role policy.Role) control.Issuer {
	t.Helper()
	i, err := c.CreateIssuer(t.Context(), control.Issuer{
		Tenant: tn, Name: name, Iss: platform, Audience: ourURL, Role: role, Keys: string(jwttest.Set(k)),
	})
	return must(t, i, err)
}

func wantRefused(t *testing.T, what string, err error, why string) {
	t.Helper()
	if !errors.Is(err, errkind.Unauthorized) || !strings.Contains(err.Error(), why) {
		t.Errorf("%s: error %v, want one of kind unauthorized with %q", what, err, why)
	}
}

func TestSigned(t *testing.T) { onEach(t, testSigned) }

func testSigned(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme, web := tenant(t, c, "acme"), tenant(t, c, "acme/web")
	api := repo(t, c, acme.ID, "api")
	bob, eve := principal(t, c, "bob"), principal(t, c, "eve")
	must0(t, c.SetMember(ctx, acme.ID, bob.ID, policy.Owner))
	must0(t, c.SetMember(ctx, web.ID, bob.ID, policy.Reader))
	must0(t, c.JoinGroup(ctx, acme.ID, "dev", bob.ID))
	must0(t, c.JoinGroup(ctx, web.ID, "ops", bob.ID))
	k := newKey(t, "one")
	i := issuer(t, c, web.ID, "Platform", k, policy.Writer)
	must0(t, c.MapSubject(ctx, web.ID, "platform", "robert", bob.ID))
	must0(t, c.MapSubject(ctx, web.ID, "platform", "eve", eve.ID))

	agent := policy.Principal{
		ID: id.Principal(i.ID + ":agent-7"), Name: "acme/web/Platform:agent-7", Class: policy.Pipeline, Scope: policy.ScopeWrite,
		Roles: map[id.Tenant]policy.Role{web.ID: policy.Writer}, Within: web.ID,
	}
	with := func(change func(p *policy.Principal)) policy.Principal {
		p := agent
		change(&p)
		return p
	}
	tests := []struct {
		name, sub string
		claims    jwttest.Claims
		want      any // a policy.Principal, or a part of the refusal
	}{
		{"a principal of its own", "agent-7", nil, agent},
		{"its tenant named", "agent-7", jwttest.Claims{"tenant": "ACME/web"}, agent},
		{"a lesser role", "agent-7", jwttest.Claims{"role": "reader"}, with(func(p *policy.Principal) {
			p.Roles = map[id.Tenant]policy.Role{web.ID: policy.Reader}
		})},
		{"a lesser scope", "agent-7", jwttest.Claims{"scope": "read"}, with(func(p *policy.Principal) { p.Scope = policy.ScopeRead })},
		{"a repository", "agent-7", jwttest.Claims{"repo": "Acme/API"}, with(func(p *policy.Principal) { p.Repo, p.RepoTenant = api.ID, api.Tenant })},
		{"a repository by its ID", "agent-7", jwttest.Claims{"repo": string(api.ID)}, with(func(p *policy.Principal) { p.Repo, p.RepoTenant = api.ID, api.Tenant })},
		{"a repository that is not there", "agent-7", jwttest.Claims{"repo": "acme/none"}, with(func(p *policy.Principal) { p.Repo = "none" })},
		{"a member, with what it is in this tenant only", "robert", nil, policy.Principal{
			ID: bob.ID, Name: "bob", Class: policy.Human, Scope: policy.ScopeWrite, Within: web.ID,
			Roles: map[id.Tenant]policy.Role{web.ID: policy.Reader}, Groups: map[id.Tenant][]string{web.ID: {"ops"}},
		}},

		{"a greater role", "agent-7", jwttest.Claims{"role": "owner"}, "writer at most"},
		{"a role that is none", "agent-7", jwttest.Claims{"role": "admin"}, "writer at most"},
		{"a role greater than the member's", "robert", jwttest.Claims{"role": "writer"}, "reader at most"},
		{"a greater scope", "agent-7", jwttest.Claims{"scope": "admin"}, "write at most"},
		{"a scope of OAuth's", "agent-7", jwttest.Claims{"scope": "openid read"}, "write at most"},
		{"a repository without a tenant", "agent-7", jwttest.Claims{"repo": "api"}, "not TENANT/NAME"},
		{"who is no member any more, or never was", "eve", nil, "eve is not a member"},
		{"another tenant", "agent-7", jwttest.Claims{"tenant": "acme"}, "no issuer's key"},
		{"another audience", "agent-7", jwttest.Claims{"aud": "https://other.example.org"}, "aud is not " + ourURL},
		{"another issuer", "agent-7", jwttest.Claims{"iss": platform + "/"}, "no issuer's key"},
		{"an issuer that cannot be", "agent-7", jwttest.Claims{"iss": "a\x00b"}, "no issuer's key"},
		{"expired", "agent-7", jwttest.Claims{"exp": time.Now().Unix() - 1}, "has expired"},
		{"a sub with a blank", "agent 7", nil, "something other than letters"},
		{"a sub with a line feed", "agent\n7", nil, "something other than letters"},
		{"a sub that cannot be", "agent\x007", nil, "something other than letters"},
		{"a sub in other letters", "agеnt", nil, "something other than letters"},
		{"a sub like an address", "<root@example.org>", nil, "something other than letters"},
		{"a long sub", strings.Repeat("x", 151), nil, "over 150 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := signed(t, k, tt.sub, tt.claims)
			for range 2 { // the second time it is remembered
				got, err := c.Signed(ctx, text)
				if why, ok := tt.want.(string); ok {
					wantRefused(t, tt.name, err, why)
					continue
				}
				if !strings.HasPrefix(string(got.Token), "jwt_") {
					t.Errorf("the audit log would know it as %q", got.Token)
				}
				got.Token = ""
				if diff := cmp.Diff(tt.want, any(got)); err != nil || diff != "" {
					t.Errorf("error %v (-want +got):\n%s", err, diff)
				}
			}
		})
	}
}

// TestAttackAdministratorSubject: a tenant's issuer says that it speaks for the server's administrator.
func TestAttackAdministratorSubject(t *testing.T) { onEach(t, testAttackAdministratorSubject) }

func testAttackAdministratorSubject(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme := tenant(t, c, "acme")
	admin, err := c.PrincipalByName(ctx, "admin")
	must0(t, err)
	k := newKey(t, "one")
	issuer(t, c, acme.ID, "platform", k, policy.Owner)
	must0(t, c.MapSubject(ctx, acme.ID, "platform", "root", admin.ID))
	_, err = c.Signed(ctx, signed(t, k, "root", nil))
	wantRefused(t, "who is no member", err, "not a member")
	must0(t, c.SetMember(ctx, acme.ID, admin.ID, policy.Owner))
	p, err := c.Signed(ctx, signed(t, k, "root", nil))
	if must0(t, err); p.Admin || p.Within != acme.ID {
		t.Errorf("principal = %+v", p)
	}
	for name, sub := range map[string]string{"the ID": string(admin.ID), "the name": "admin"} {
		p, err := c.Signed(ctx, signed(t, k, sub, nil))
		if must0(t, err); p.ID == admin.ID || p.Name == "admin" || p.Admin {
			t.Errorf("%s as sub: %+v", name, p)
		}
	}
}

// TestAttackSameIssuerElsewhere: another tenant registers an issuer with the same iss, name and kid. Its keys speak in its tenant, and
// the others' in theirs.
func TestAttackSameIssuerElsewhere(t *testing.T) { onEach(t, testAttackSameIssuerElsewhere) }

func testAttackSameIssuerElsewhere(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme, evil := tenant(t, c, "acme"), tenant(t, c, "evil")
	ours, theirs := newKey(t, "one"), newKey(t, "one")
	issuer(t, c, evil.ID, "platform", theirs, policy.Owner) // before ours
	issuer(t, c, acme.ID, "platform", ours, policy.Owner)
	within := func(text string) id.Tenant {
		t.Helper()
		p, err := c.Signed(ctx, text)
		must0(t, err)
		return p.Within
	}
	if got := within(signed(t, theirs, "agent", nil)); got != evil.ID {
		t.Errorf("their token is good in %s", got)
	}
	if got := within(signed(t, ours, "agent", nil)); got != acme.ID {
		t.Errorf("our token is good in %s", got)
	}
	_, err := c.Signed(ctx, signed(t, theirs, "agent", jwttest.Claims{"tenant": "acme"}))
	wantRefused(t, "their token for our tenant", err, "no issuer's key")

	// They copy our public keys. Our tokens would speak in their tenant, where they can do us no good; a tenant claim settles it.
	copied := tenant(t, c, "copied")
	k := newKey(t, "two")
	issuer(t, c, copied.ID, "platform", k, policy.Owner)
	_, err = c.CreateIssuer(ctx, control.Issuer{Tenant: acme.ID, Name: "second", Iss: platform, Audience: ourURL, Role: policy.Reader, Keys: string(jwttest.Set(k))})
	must0(t, err)
	if got := within(signed(t, k, "agent", jwttest.Claims{"tenant": "acme"})); got != acme.ID {
		t.Errorf("our token with a tenant claim is good in %s", got)
	}

	// They copy our keys for another audience: that disturbs nobody.
	_, err = c.CreateIssuer(ctx, control.Issuer{Tenant: evil.ID, Name: "third", Iss: platform, Audience: "https://x.example.org", Role: policy.Owner, Keys: string(jwttest.Set(ours))})
	must0(t, err)
	if got := within(signed(t, ours, "other", nil)); got != acme.ID {
		t.Errorf("our token is good in %s", got)
	}
}

// TestListedIssuer: an issuer that speaks for its subjects only.
func TestListedIssuer(t *testing.T) { onEach(t, testListedIssuer) }

func testListedIssuer(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme := tenant(t, c, "acme")
	bob := principal(t, c, "bob")
	must0(t, c.SetMember(ctx, acme.ID, bob.ID, policy.Writer))
	k := newKey(t, "one")
	_, err := c.CreateIssuer(ctx, control.Issuer{
		Tenant: acme.ID, Name: "ci", Iss: platform, Audience: ourURL, Role: policy.Owner, Listed: true, Keys: string(jwttest.Set(k)),
	})
	must0(t, err)
	text := signed(t, k, "repo:acme/api:ref:refs/heads/main", nil)
	_, err = c.Signed(ctx, text)
	wantRefused(t, "a sub that is not mapped", err, "mapped subjects only")
	must0(t, c.MapSubject(ctx, acme.ID, "CI", "repo:acme/api:ref:refs/heads/main", bob.ID))
	p, err := c.Signed(ctx, text)
	if must0(t, err); p.ID != bob.ID || p.Roles[acme.ID] != policy.Writer || p.Scope != policy.ScopeWrite {
		t.Errorf("principal = %+v", p)
	}
	must0(t, c.RemoveMember(ctx, acme.ID, bob.ID))
	_, err = c.Signed(ctx, text)
	wantRefused(t, "who was a member", err, "not a member")
	must0(t, c.SetMember(ctx, acme.ID, bob.ID, policy.Writer))
	must0(t, c.UnmapSubject(ctx, acme.ID, "ci", "repo:acme/api:ref:refs/heads/main"))
	_, err = c.Signed(ctx, text)
	wantRefused(t, "a sub that was mapped", err, "mapped subjects only")
	wantKind(t, "unmap again", c.UnmapSubject(ctx, acme.ID, "ci", "x"), errkind.NotFound)
}

// TestAttackDeletedSubject: who was mapped to a reader does not become what the issuer may give by being deleted.
func TestAttackDeletedSubject(t *testing.T) { onEach(t, testAttackDeletedSubject) }

func testAttackDeletedSubject(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme := tenant(t, c, "acme")
	mallory := principal(t, c, "mallory")
	must0(t, c.SetMember(ctx, acme.ID, mallory.ID, policy.Reader))
	k := newKey(t, "one")
	issuer(t, c, acme.ID, "platform", k, policy.Owner)
	must0(t, c.MapSubject(ctx, acme.ID, "platform", "mallory@example.org", mallory.ID))
	text := signed(t, k, "mallory@example.org", nil)
	p, err := c.Signed(ctx, text)
	if must0(t, err); p.ID != mallory.ID || p.Roles[acme.ID] != policy.Reader {
		t.Errorf("principal = %+v", p)
	}
	must0(t, c.DeletePrincipal(ctx, mallory.ID))
	for what, text := range map[string]string{"the same JWT": text, "another": signed(t, k, "mallory@example.org", jwttest.Claims{"jti": "2"})} {
		_, err = c.Signed(ctx, text)
		wantRefused(t, what, err, "has been deleted")
	}
	_, subjects, err := c.Issuer(ctx, acme.ID, "platform")
	if must0(t, err); len(subjects) != 1 || subjects[0].Principal.ID != mallory.ID || subjects[0].Principal.Name != "(deleted)" {
		t.Errorf("subjects = %+v", subjects)
	}
	must0(t, c.UnmapSubject(ctx, acme.ID, "platform", "mallory@example.org"))
	if p, err = c.Signed(ctx, text); err != nil || p.ID == mallory.ID || p.Roles[acme.ID] != policy.Owner {
		t.Errorf("unmapped: %+v, %v", p, err)
	}
}

// TestSignedIsForgotten: removing an issuer, changing its keys and deleting its tenant end its tokens at once.
func TestSignedIsForgotten(t *testing.T) { onEach(t, testSignedIsForgotten) }

func testSignedIsForgotten(t *testing.T, db backend) {
	c := open(t, db)
	run(t, c)
	ctx := t.Context()
	k, next := newKey(t, "one"), newKey(t, "one")
	for name, end := range map[string]func(tn control.Tenant) error{
		"the issuer removed": func(tn control.Tenant) error { return c.RemoveIssuer(ctx, tn.ID, "PLATFORM") },
		"its keys changed": func(tn control.Tenant) error {
			return c.SetIssuerKeys(ctx, tn.ID, "platform", string(jwttest.Set(next)))
		},
		"the tenant deleted": func(tn control.Tenant) error { return c.DeleteTenant(ctx, tn.ID, false) },
	} {
		tn := tenant(t, c, strings.ReplaceAll(name, " ", "-"))
		issuer(t, c, tn.ID, "platform", k, policy.Writer)
		text := signed(t, k, "agent", jwttest.Claims{"tenant": tn.Path})
		for range 2 {
			_, err := c.Signed(ctx, text)
			must0(t, err)
		}
		must0(t, end(tn))
		_, err := c.Signed(ctx, text)
		wantRefused(t, name, err, "no issuer's key")
	}
}

// TestOtherNodesForgetIssuers: what one node takes away, another refuses within the promised time, though it remembers it.
func TestOtherNodesForgetIssuers(t *testing.T) {
	where := postgrestest.New(t)
	one, two := openAt(t, where), openAt(t, where)
	run(t, one)
	run(t, two)
	ctx := t.Context()
	k, next := newKey(t, "one"), newKey(t, "one")
	for name, end := range map[string]func(tn control.Tenant) error{
		"removed": func(tn control.Tenant) error { return one.RemoveIssuer(ctx, tn.ID, "platform") },
		"changed": func(tn control.Tenant) error {
			return one.SetIssuerKeys(ctx, tn.ID, "platform", string(jwttest.Set(next)))
		},
	} {
		tn := tenant(t, one, name)
		issuer(t, one, tn.ID, "platform", k, policy.Writer)
		text := signed(t, k, "agent", jwttest.Claims{"tenant": name})
		known := func() bool {
			_, err := two.Signed(ctx, text)
			if err != nil {
				wantKind(t, name, err, errkind.Unauthorized)
			}
			return err == nil
		}
		if !known() {
			t.Fatalf("%s: the other node does not know the token", name)
		}
		changed := time.Now()
		must0(t, end(tn))
		until(t, name, changed, known)
	}
}

// TestSignedExpires: what is remembered ends with the token.
func TestSignedExpires(t *testing.T) { onEach(t, testSignedExpires) }

func testSignedExpires(t *testing.T, db backend) {
	c := open(t, db)
	now := clock{time.Now()}
	c.SetClock(now.now)
	k := newKey(t, "one")
	issuer(t, c, tenant(t, c, "acme").ID, "platform", k, policy.Writer)
	text := signed(t, k, "agent", jwttest.Claims{"exp": now.t.Add(time.Minute).Unix()})
	_, err := c.Signed(t.Context(), text)
	must0(t, err)
	now.t = now.t.Add(time.Minute)
	_, err = c.Signed(t.Context(), text)
	wantRefused(t, "a minute later", err, "has expired")
}

// published is a set of keys at a URL, as a test's FetchKeys sees it.
type published struct {
	keys  atomic.Pointer[[]byte] // nil: it cannot be had
	asked atomic.Int64
}

func (p *published) set(text []byte) { p.keys.Store(&text) }

func (p *published) fetch(context.Context, string) ([]byte, error) {
	p.asked.Add(1)
	if text := p.keys.Load(); text != nil {
		return *text, nil
	}
	return nil, errkind.Unavailable
}

// TestKeysAtURL: keys are fetched when a token needs others, not too often, and are used for a day when they cannot be had.
func TestKeysAtURL(t *testing.T) { onEach(t, testKeysAtURL) }

func testKeysAtURL(t *testing.T, db backend) {
	var p published
	c, _, err := control.Open(t.Context(), db.fresh(t), control.Options{FetchKeys: p.fetch})
	must0(t, err)
	t.Cleanup(func() { must0(t, c.Close()) })
	now := clock{time.Now().Truncate(time.Second)}
	c.SetClock(now.now)
	ctx := t.Context()
	acme := tenant(t, c, "acme")
	first, second := newKey(t, "one"), newKey(t, "two")
	add := func() error {
		_, err := c.CreateIssuer(ctx, control.Issuer{Tenant: acme.ID, Name: "platform", Iss: platform, Audience: ourURL, Role: policy.Writer, URL: "https://platform.example.org/keys"})
		return err
	}
	wantKind(t, "keys that cannot be had", add(), errkind.Invalid)
	p.set([]byte("<html>"))
	wantKind(t, "keys that are none", add(), errkind.Invalid)
	p.set(jwttest.Set(first))
	must0(t, add())

	good := func(k jwttest.Key) error {
		_, err := c.Signed(ctx, signed(t, k, "agent", jwttest.Claims{"exp": now.t.Add(time.Hour).Unix(), "jti": id.NewToken()}))
		return err
	}
	p.asked.Store(0)
	must0(t, good(first))
	wantRefused(t, "a key that nobody has", good(second), "no issuer's key")
	if n := p.asked.Load(); n != 1 {
		t.Errorf("keys were fetched %d times for a new kid", n)
	}
	p.set(jwttest.Set(first, second)) // they rotate
	for range 10 {
		wantRefused(t, "a new key, at once", good(second), "no issuer's key")
	}
	if n := p.asked.Load(); n != 1 {
		t.Errorf("keys were fetched %d times within the same half minute", n)
	}
	now.t = now.t.Add(time.Minute)
	must0(t, good(second))
	if n := p.asked.Load(); n != 2 {
		t.Errorf("keys were fetched %d times, want one more", n)
	}
	p.keys.Store(nil) // they are gone
	now.t = now.t.Add(23 * time.Hour)
	must0(t, good(second))
	now.t = now.t.Add(2 * time.Hour)
	wantRefused(t, "keys of more than a day ago", good(second), "no issuer's key")
	p.set(jwttest.Set(second))
	now.t = now.t.Add(time.Minute)
	must0(t, good(second))
	wantRefused(t, "a key that was taken back", good(first), "no issuer's key")
}

// TestKeysAreRefreshed: keys that are used are fetched again beside the requests that use them.
func TestKeysAreRefreshed(t *testing.T) {
	var p published
	k, next := newKey(t, "one"), newKey(t, "one")
	p.set(jwttest.Set(k))
	c, _, err := control.Open(t.Context(), freshFile(t), control.Options{FetchKeys: p.fetch})
	must0(t, err)
	t.Cleanup(func() { must0(t, c.Close()) })
	ctx := t.Context()
	_, err = c.CreateIssuer(ctx, control.Issuer{Tenant: tenant(t, c, "acme").ID, Name: "platform", Iss: platform, Audience: ourURL, Role: policy.Writer, URL: "https://x/"})
	must0(t, err)
	late := clock{time.Now().Add(15 * time.Minute)}
	c.SetClock(late.now)
	run(t, c)
	p.set(jwttest.Set(next)) // the same kid: nobody would ask for it
	for {
		_, err := c.Signed(ctx, signed(t, k, "agent", jwttest.Claims{"exp": late.t.Add(time.Hour).Unix(), "jti": id.NewToken()}))
		if err != nil {
			wantRefused(t, "a key that was replaced", err, "no issuer's key")
			return
		}
	}
}

// TestNewKeyIsFetchedOnce: of many who come at once with tokens of a new key, each is let in, and one fetches.
func TestNewKeyIsFetchedOnce(t *testing.T) { onEach(t, testNewKeyIsFetchedOnce) }

func testNewKeyIsFetchedOnce(t *testing.T, db backend) {
	var p published
	k, next := newKey(t, "one"), newKey(t, "two")
	p.set(jwttest.Set(k))
	const many = 20
	var c *control.Control
	hold := make(chan struct{})
	fetch := func(ctx context.Context, url string) ([]byte, error) {
		if p.asked.Load() > 0 {
			<-hold
		}
		return p.fetch(ctx, url)
	}
	c, _, err := control.Open(t.Context(), db.fresh(t), control.Options{FetchKeys: fetch})
	must0(t, err)
	t.Cleanup(func() { must0(t, c.Close()) })
	_, err = c.CreateIssuer(t.Context(), control.Issuer{Tenant: tenant(t, c, "acme").ID, Name: "platform", Iss: platform, Audience: ourURL, Role: policy.Writer, URL: "https://x/"})
	must0(t, err)
	p.set(jwttest.Set(k, next))
	answers := make(chan error, many)
	for n := range many {
		text := signed(t, next, "agent", jwttest.Claims{"n": n})
		go func() {
			_, err := c.Signed(t.Context(), text)
			answers <- err
		}()
	}
	close(hold)
	for range many {
		must0(t, <-answers)
	}
	if n := p.asked.Load(); n != 2 {
		t.Errorf("keys were fetched %d times, want once when the issuer was made and once now", n)
	}
}

func TestIssuers(t *testing.T) { onEach(t, testIssuers) }

func testIssuers(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme := tenant(t, c, "acme")
	k := newKey(t, "one")
	made := issuer(t, c, acme.ID, "Platform", k, policy.Writer)
	got, subjects, err := c.Issuer(ctx, acme.ID, "PLATFORM")
	must0(t, err)
	if diff := cmp.Diff(made, got); diff != "" || len(subjects) != 0 {
		t.Errorf("%d subjects (-made +found):\n%s", len(subjects), diff)
	}
	bob := principal(t, c, "bob")
	must0(t, c.MapSubject(ctx, acme.ID, "platform", "z", bob.ID))
	must0(t, c.MapSubject(ctx, acme.ID, "platform", "a", bob.ID))
	must0(t, c.MapSubject(ctx, acme.ID, "platform", "a", bob.ID))
	_, subjects, err = c.Issuer(ctx, acme.ID, "platform")
	if must0(t, err); len(subjects) != 2 || subjects[0].Subject != "a" || subjects[0].Principal.ID != bob.ID {
		t.Errorf("subjects = %+v", subjects)
	}
	good := control.Issuer{Tenant: acme.ID, Name: "x", Iss: "x", Audience: "y", Role: policy.Reader, Keys: made.Keys}
	for name, tt := range map[string]struct {
		change func(i *control.Issuer)
		want   errkind.Kind
	}{
		"a taken name":    {func(i *control.Issuer) { i.Name = "platforM" }, errkind.Exists},
		"no name":         {func(i *control.Issuer) { i.Name = "" }, errkind.Invalid},
		"a name of parts": {func(i *control.Issuer) { i.Name = "a/b" }, errkind.Invalid},
		"a colon":         {func(i *control.Issuer) { i.Name = "a:b" }, errkind.Invalid},
		"no iss":          {func(i *control.Issuer) { i.Iss = "" }, errkind.Invalid},
		"a blank":         {func(i *control.Issuer) { i.Iss = "a b" }, errkind.Invalid},
		"a long audience": {func(i *control.Issuer) { i.Audience = strings.Repeat("x", 501) }, errkind.Invalid},
		"no role":         {func(i *control.Issuer) { i.Role = "" }, errkind.Invalid},
		"no keys":         {func(i *control.Issuer) { i.Keys = "" }, errkind.Invalid},
		"both":            {func(i *control.Issuer) { i.URL = "https://x" }, errkind.Invalid},
		"a URL":           {func(i *control.Issuer) { i.URL, i.Keys = "https://x", "" }, errkind.Unsupported},
		"no tenant":       {func(i *control.Issuer) { i.Tenant = "ten_none" }, errkind.NotFound},
	} {
		i := good
		tt.change(&i)
		_, err := c.CreateIssuer(ctx, i)
		wantKind(t, name, err, tt.want)
	}
	wantKind(t, "keys that are none", c.SetIssuerKeys(ctx, acme.ID, "platform", "{}"), errkind.Invalid)
	wantKind(t, "no keys", c.SetIssuerKeys(ctx, acme.ID, "platform", ""), errkind.Invalid)
	wantKind(t, "nobody's subject", c.MapSubject(ctx, acme.ID, "platform", "x", "usr_none"), errkind.NotFound)
	wantKind(t, "nobody's issuer", c.MapSubject(ctx, acme.ID, "none", "x", bob.ID), errkind.NotFound)
	must0(t, c.DeletePrincipal(ctx, bob.ID))
	must0(t, c.RemoveIssuer(ctx, acme.ID, "platform"))
	wantKind(t, "remove again", c.RemoveIssuer(ctx, acme.ID, "platform"), errkind.NotFound)
	list, err := c.Issuers(ctx, acme.ID)
	if must0(t, err); len(list) != 0 {
		t.Errorf("issuers = %+v", list)
	}
	var actions []string
	entries, _, err := c.AuditLog(ctx, control.AuditFilter{Action: "issuer.*"}, 0, 100)
	must0(t, err)
	for _, e := range entries {
		actions = append(actions, e.Action)
	}
	if want := []string{"issuer.create", "issuer.map", "issuer.map", "issuer.map", "issuer.remove"}; !slices.Equal(actions, want) {
		t.Errorf("the audit log has %v, want %v", actions, want)
	}
}
