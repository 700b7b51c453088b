package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/jwt/jwttest"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

const platformISS, publicURL = "https://platform.example.org", "https://git.example.org"

// signedSite is a server with tenants acme, acme/web and other, a repository in each, and an issuer that acme/web trusts.
type signedSite struct {
	*site
	key               jwttest.Key
	owner             string // of acme/web, its token
	above, own, other client.Repo
}

func newSignedSite(t *testing.T, opts server.Options, role policy.Role) *signedSite {
	t.Helper()
	opts.PublicURL = publicURL
	s := &signedSite{site: startSite(t, opts)}
	for _, path := range []string{"acme", "acme/web", "other"} {
		result(s.api(s.admin).CreateTenant(t.Context(), path))(t)
	}
	s.above, s.own = s.repo("acme", "api", client.Private), s.repo("acme/web", "site", client.Private)
	s.other = s.repo("other", "open", client.Public)
	web := result(s.control.TenantByPath(t.Context(), "acme/web"))(t)
	s.owner = s.member("olga", web.ID, policy.Owner)
	s.key = result(jwttest.NewKey("ES256", "one"))(t)
	i := result(s.api(s.owner).CreateIssuer(t.Context(), "acme/web", client.CreateIssuer{
		Name: "platform", Iss: platformISS, Role: role, JWKS: keySet(t, s.key),
	}))(t)
	if i.Audience != publicURL || i.FullName != "acme/web/platform" || len(i.Keys) != 1 || i.Keys[0] != "ES256 one" {
		t.Errorf("issuer = %+v", i)
	}
	return s
}

func keySet(t *testing.T, keys ...jwttest.Key) (set map[string]any) {
	t.Helper()
	if err := json.Unmarshal(jwttest.Set(keys...), &set); err != nil {
		t.Fatal(err)
	}
	return set
}

// sign makes a token for agent-7 with changes to its claims.
func (s *signedSite) sign(changes jwttest.Claims) string {
	s.t.Helper()
	c := jwttest.Claims{"iss": platformISS, "aud": publicURL, "sub": "agent-7", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(c, changes)
	return result(s.key.Sign(c))(s.t)
}

// TestSignedAccess: what a JWT lets do in its tenant, and that it lets do nothing outside.
func TestSignedAccess(t *testing.T) {
	s := newSignedSite(t, server.Options{}, policy.Owner)
	text := s.sign(nil)
	me := result(s.api(text).Whoami(t.Context()))(t)
	if me.Name != "acme/web/platform:agent-7" || me.Admin || me.Scope != policy.ScopeAdmin || me.Tenant == "" || me.Class != policy.Pipeline {
		t.Errorf("whoami = %+v", me)
	}
	body := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	tests := []struct {
		request, body string
		want          int
	}{
		{"GET /acme/web/site.git/info/refs?service=git-receive-pack", "", 200},
		{"GET /api/v2/repos/acme%2Fweb%2Fsite", "", 200},
		{"POST /api/v2/repos", body(client.CreateRepo{Tenant: "acme/web", Name: "made", InitialContent: map[string]string{"a": "b"}}), 201},
		{"POST /api/v2/tenants", body(client.CreateTenant{Path: "acme/web/child"}), 201},
		{"GET /api/v2/tenants/acme%2Fweb/issuers", "", 200},

		// A sponsor's, a stranger's, and what is everybody's.
		{"GET /acme/api.git/info/refs?service=git-upload-pack", "", 404},
		{"GET /api/v2/repos/acme%2Fapi", "", 404},
		{"GET /api/v2/tenants/acme", "", 404},
		{"POST /api/v2/tenants", body(client.CreateTenant{Path: "acme/sibling"}), 404},
		{"GET /other/open.git/info/refs?service=git-upload-pack", "", 404},
		{"GET /api/v2/repos/other%2Fopen", "", 404},
		{"POST /api/v2/tenants", body(client.CreateTenant{Path: "mine"}), 403},
		{"GET /api/v2/principals", "", 403},
		{"POST /api/v2/principals", body(client.CreatePrincipal{Name: "eve", Admin: true}), 403},

		// Nothing that outlives it.
		{"POST /api/v2/tokens", body(client.CreateToken{}), 403},
		{"POST /api/v2/tokens", body(client.CreateToken{Repo: "acme/web/site", Scope: policy.ScopeRead}), 403},
		{"GET /api/v2/tokens", "", 403},
		{"POST /api/v2/tenants/acme%2Fweb/issuers", body(client.CreateIssuer{Name: "second", Iss: "x", Audience: "y", JWKSURL: "https://x.invalid/"}), 403},
		{"PUT /api/v2/tenants/acme%2Fweb/issuers/platform/keys", `{"jwks":{"keys":[]}}`, 403},
		{"PUT /api/v2/tenants/acme%2Fweb/issuers/platform/subjects/root", `{"principal":"admin"}`, 403},
		{"DELETE /api/v2/tenants/acme%2Fweb/issuers/platform", "", 403},
		{"POST /api/v2/tenants/acme%2Fweb/ssh-authorities", body(client.AddSSHAuthority{Name: "second", Key: newEd25519(t)}), 403},
		{"DELETE /api/v2/tenants/acme%2Fweb/ssh-authorities/second", "", 403},
	}
	for _, tt := range tests {
		method, path, _ := strings.Cut(tt.request, " ")
		if resp, text := s.do(method, path, text, strings.NewReader(tt.body), "Content-Type", "application/json"); resp.StatusCode != tt.want {
			t.Errorf("%s = %d %q, want %d", tt.request, resp.StatusCode, text, tt.want)
		}
	}
	repos := result(s.api(text).Repos(t.Context(), "", "", 50))(t)
	for _, r := range repos.Items {
		if r.Tenant != "acme/web" {
			t.Errorf("the list has %s", r.FullName())
		}
	}
	if len(repos.Items) != 2 {
		t.Errorf("the list has %d repositories, want 2", len(repos.Items))
	}
}

// TestSignedRefusals: whoever holds the keys is told what is wrong with a token; nobody else is told anything.
func TestSignedRefusals(t *testing.T) {
	s := newSignedSite(t, server.Options{}, policy.Writer)
	mallory := result(jwttest.NewKey("ES256", "one"))(t)
	theirs := func(c jwttest.Claims) string { return result(mallory.Sign(c))(t) }
	tests := []struct{ name, token, want string }{
		{"expired", s.sign(jwttest.Claims{"exp": time.Now().Unix() - 1}), "it has expired"},
		{"another audience", s.sign(jwttest.Claims{"aud": s.url}), "its aud is not " + publicURL},
		{"a greater role", s.sign(jwttest.Claims{"role": "owner"}), "writer at most"},
		{"a stranger's, expired", theirs(jwttest.Claims{"iss": platformISS, "aud": publicURL, "sub": "x", "exp": 1}), "unknown, expired or revoked"},
		{"a stranger's", theirs(jwttest.Claims{"iss": platformISS, "aud": publicURL, "sub": "x", "exp": time.Now().Add(time.Hour).Unix()}), "unknown, expired or revoked"},
		{"nobody's", theirs(jwttest.Claims{"iss": "https://x.invalid", "aud": publicURL, "sub": "x", "exp": time.Now().Add(time.Hour).Unix()}), "unknown, expired or revoked"},
		{"no form", "eyJ.eyJ.", "unknown, expired or revoked"},
	}
	for _, tt := range tests {
		for _, path := range []string{"/acme/web/site.git/info/refs?service=git-upload-pack", "/api/v2/whoami", "/other/open.git/info/refs?service=git-upload-pack"} {
			if resp, text := s.do("GET", path, tt.token, nil); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(text, tt.want) {
				t.Errorf("%s: %s = %d %q, want 401 with %q", tt.name, path, resp.StatusCode, text, tt.want)
			}
		}
	}
	if text := s.log.String(); strings.Contains(text, tests[0].token) || strings.Contains(text, strings.Split(tests[0].token, ".")[2]) {
		t.Error("the log has a token in it")
	}
}

// TestAttackGuessingJWTs: wrong tokens are counted like wrong passwords, and a good one is let in still.
func TestAttackGuessingJWTs(t *testing.T) {
	s := newSignedSite(t, server.Options{}, policy.Writer)
	g := newSignedSite(t, server.Options{
		RateExempt: []netip.Prefix{}, Rates: map[string]limit.Quota{"failed-auth": {Events: 3, Per: time.Hour}},
	}, policy.Writer)
	good := g.sign(nil)
	if resp, text := g.do("GET", "/api/v2/whoami", good, nil); resp.StatusCode != http.StatusOK {
		t.Fatalf("whoami = %d %q", resp.StatusCode, text)
	}
	var got []int
	for n := range 5 {
		resp, _ := g.do("GET", "/api/v2/whoami", s.sign(jwttest.Claims{"n": n}), nil) // of another's keys
		got = append(got, resp.StatusCode)
	}
	if want := []int{401, 401, 401, 429, 429}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("guesses = %v, want %v", got, want)
	}
	if resp, text := g.do("GET", "/api/v2/whoami", good, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("the good one afterwards = %d %q", resp.StatusCode, text)
	}
}

// TestIssuersOverREST: who may say whose tokens count, and for whom they speak.
func TestIssuersOverREST(t *testing.T) {
	s := newSignedSite(t, server.Options{}, policy.Writer)
	ctx := t.Context()
	api, admin := s.api(s.owner), s.api(s.admin)
	list := result(api.Issuers(ctx, "acme/web"))(t)
	if len(list) != 1 || list[0].Name != "platform" {
		t.Errorf("issuers = %+v", list)
	}
	wantKind(t, "map a subject to somebody else", api.MapSubject(ctx, "acme/web", "platform", "root", "admin"), errkind.Forbidden)
	wantKind(t, "map a subject to nobody", api.MapSubject(ctx, "acme/web", "platform", "root", "nobody"), errkind.Forbidden)
	for _, err := range []error{
		api.MapSubject(ctx, "acme/web", "platform", "me/2|x", "OLGA"),
		admin.MapSubject(ctx, "acme/web", "platform", "root", "admin"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	i := result(api.Issuer(ctx, "acme/web", "Platform"))(t)
	if len(i.Subjects) != 2 || i.Subjects[0].Subject != "me/2|x" || i.Subjects[0].Principal.Name != "olga" {
		t.Errorf("subjects = %+v", i.Subjects)
	}
	if me := result(s.api(s.sign(jwttest.Claims{"sub": "me/2|x"})).Whoami(ctx))(t); me.Name != "olga" || me.Scope != policy.ScopeWrite {
		t.Errorf("whoami = %+v", me)
	}
	if err := api.UnmapSubject(ctx, "acme/web", "platform", "me/2|x"); err != nil {
		t.Error(err)
	}
	next := result(jwttest.NewKey("EdDSA", "two"))(t)
	if err := api.SetIssuerKeys(ctx, "acme/web", "platform", client.SetIssuerKeys{JWKS: keySet(t, next)}); err != nil {
		t.Error(err)
	}
	_, err := s.api(s.sign(nil)).Whoami(ctx)
	wantKind(t, "a token of the old key", err, errkind.Unauthorized)
	_, err = s.api(s.member("mia", result(s.control.TenantByPath(ctx, "acme/web"))(t).ID, policy.Writer)).Issuers(ctx, "acme/web")
	wantKind(t, "a member's look", err, errkind.Forbidden)
	_, stranger := s.person("steve")
	_, err = s.api(stranger).Issuers(ctx, "acme/web")
	wantKind(t, "a stranger's look", err, errkind.NotFound)
	_, err = s.api(stranger).CreateIssuer(ctx, "acme/web", client.CreateIssuer{Name: "x", Iss: "x", Audience: "x", JWKSURL: "https://x.invalid"})
	wantKind(t, "a stranger's issuer", err, errkind.NotFound)
	_, err = api.CreateIssuer(ctx, "acme/web", client.CreateIssuer{Name: "x", Iss: "x", JWKS: map[string]any{"keys": []any{}}})
	wantKind(t, "no keys", err, errkind.Invalid)
	if err := api.RemoveIssuer(ctx, "acme/web", "platform"); err != nil {
		t.Error(err)
	}
	wantKind(t, "remove again", api.RemoveIssuer(ctx, "acme/web", "platform"), errkind.NotFound)
}

// TestAudienceIsNotTheRequests: without a public address that the operator has set, whoever asks would choose it.
func TestAudienceIsNotTheRequests(t *testing.T) {
	s := startSite(t, server.Options{})
	_, err := s.api(s.admin).CreateIssuer(t.Context(), "default", client.CreateIssuer{
		Name: "x", Iss: "x", JWKS: keySet(t, result(jwttest.NewKey("EdDSA", "k"))(t)),
	})
	if wantKind(t, "no audience", err, errkind.Invalid); err != nil && !strings.Contains(err.Error(), "--public-url") {
		t.Errorf("error %v says not what to do", err)
	}
}

// TestCommitOfSigned: a principal that is in no table makes commits, too.
func TestCommitOfSigned(t *testing.T) {
	s := newSignedSite(t, server.Options{}, policy.Writer)
	api := s.api(s.sign(nil))
	r := result(api.CreateRepo(t.Context(), client.CreateRepo{Tenant: "acme/web", Name: "made", InitialContent: map[string]string{"a": "b"}}))(t)
	dir := t.TempDir()
	git(t, dir, "clone", "-q", s.remote(s.sign(jwttest.Claims{"repo": string(r.ID)}), "acme/web/made"), "made")
	if got := git(t, dir+"/made", "log", "--format=%an"); strings.TrimSpace(got) != "acme/web/platform:agent-7" {
		t.Errorf("author = %q", got)
	}
}

// TestAttackManySubjects: who signs tokens can make up principals without end, and is limited as one.
func TestAttackManySubjects(t *testing.T) {
	s := newSignedSite(t, server.Options{RateExempt: []netip.Prefix{}, Rates: map[string]limit.Quota{"api-read": {Events: 3, Per: time.Hour}}}, policy.Writer)
	var got []int
	for n := range 5 {
		resp, _ := s.do("GET", "/api/v2/whoami", s.sign(jwttest.Claims{"sub": fmt.Sprint("agent-", n)}), nil)
		got = append(got, resp.StatusCode)
	}
	if want := []int{200, 200, 200, 429, 429}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("requests of several subjects = %v, want %v", got, want)
	}
}

// TestPolicyCheckOfSubs: whoever administers a repository asks about those for whom an issuer speaks, and is told what they then get.
func TestPolicyCheckOfSubs(t *testing.T) {
	s := newSignedSite(t, server.Options{}, policy.Reader)
	ctx, owner := t.Context(), s.api(s.owner)
	document := "[role.agent]\npermissions = [{ actions = [\"push\"], resource = \"repo/acme/web/site@refs/heads/agents/*\" }]\n" +
		"[[assignment]]\nactor = \"acme/web/platform:agent-7\"\nroles = [\"agent\"]\n"
	result(owner.SetPolicy(ctx, "acme/web", client.SetPolicy{Document: document}))(t)
	if err := owner.MapSubject(ctx, "acme/web", "platform", "me", "olga"); err != nil {
		t.Fatal(err)
	}
	const site, own = "repo/acme/web/site", "repo/acme/web/site@refs/heads/agents/1"
	for _, tt := range []struct {
		as, resource string
		action       policy.Action
		want         bool
	}{
		{"acme/web/platform:agent-7", site, policy.RepoRead, true},
		{"acme/web/platform:agent-7", own, policy.RefPush, true},
		{"acme/web/platform:agent-8", own, policy.RefPush, false},
		{"ACME/web/Platform:agent-7", own, policy.RefPush, true},
		{"acme/web/platform:me", site, policy.RepoAdmin, false}, // olga is the owner, and a reader as the issuer's
		{"olga", site, policy.RepoAdmin, true},
	} {
		d, err := owner.CheckPolicy(ctx, client.CheckPolicy{Principal: tt.as, Action: tt.action, Resource: tt.resource})
		if err != nil || d.Allowed != tt.want {
			t.Errorf("may %s do %s on %s: %+v, %v, want %v", tt.as, tt.action, tt.resource, d, err, tt.want)
		}
	}
	agent := s.api(s.sign(nil))
	if d, err := agent.CheckPolicy(ctx, client.CheckPolicy{Principal: "acme/web/platform:agent-7", Action: policy.RefPush, Resource: own}); err != nil || !d.Allowed {
		t.Errorf("agent-7 about itself: %+v, %v", d, err)
	}
	ask := func(c *client.Client, as, resource string) error {
		return second(c.CheckPolicy(ctx, client.CheckPolicy{Principal: as, Action: policy.RepoRead, Resource: resource}))
	}
	mallory := s.api(s.member("mallory", result(s.control.TenantByPath(ctx, "other"))(t).ID, policy.Owner))
	for what, err := range map[string]error{
		"no issuer":           ask(owner, "acme/web/gone:agent-7", site),
		"no tenant":           ask(owner, "gone/platform:agent-7", site),
		"no sub":              ask(owner, "acme/web/platform:", site),
		"no name":             ask(owner, ":agent-7", site),
		"a sub that is none":  ask(owner, "acme/web/platform:a b", site),
		"of another's issuer": ask(mallory, "acme/web/platform:agent-7", "repo/other/open"),
		"of what she cannot":  ask(mallory, "acme/web/platform:agent-7", site),
	} {
		if !errors.Is(err, errkind.NotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := ask(agent, "acme/web/platform:agent-8", site); !errors.Is(err, errkind.Forbidden) {
		t.Errorf("a reader about another: %v", err)
	}
}
