package server_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// accessSite is a server with one of every kind of caller around a private and a public repository of tenant acme.
type accessSite struct {
	*site
	private, public client.Repo
	callers         map[string]string // token by name; "" is nobody
}

// callerOrder is the columns of the access matrix.
var callerOrder = []string{"nobody", "admin", "owner", "writer", "reader", "stranger", "expired", "invented", "agent-r", "agent-w", "agent-else"}

func newAccessSite(t *testing.T) *accessSite {
	t.Helper()
	s := startSite(t, server.Options{})
	acme := result(s.control.CreateTenant(t.Context(), "acme"))(t)
	other := result(s.control.CreateTenant(t.Context(), "other"))(t)
	a := &accessSite{site: s, private: s.repo("acme", "private", client.Private), public: s.repo("acme", "public", client.Public)}
	elsewhere := s.repo("other", "else", client.Private)
	writer, writerToken := s.person("wanda")
	if err := s.control.SetMember(t.Context(), acme.ID, writer, policy.Writer); err != nil {
		t.Fatal(err)
	}
	bound := func(r client.Repo, scope policy.Scope) string {
		return s.token(control.Token{Principal: writer, Repo: r.ID, Scope: scope})
	}
	a.callers = map[string]string{
		"nobody":     "",
		"admin":      s.admin,
		"owner":      s.member("olga", acme.ID, policy.Owner),
		"writer":     writerToken,
		"reader":     s.member("rita", acme.ID, policy.Reader),
		"stranger":   s.member("steve", other.ID, policy.Owner),
		"expired":    s.token(control.Token{Principal: writer, Scope: policy.ScopeAdmin, Expires: time.Now().Add(20 * time.Millisecond)}),
		"invented":   "skep_" + strings.Repeat("A", 43),
		"agent-r":    bound(a.private, policy.ScopeRead),
		"agent-w":    bound(a.private, policy.ScopeWrite),
		"agent-else": bound(elsewhere, policy.ScopeWrite),
	}
	for { // until the token has expired
		if resp, _ := s.do("GET", "/api/v2/whoami", a.callers["expired"], nil); resp.StatusCode == http.StatusUnauthorized {
			return a
		}
	}
}

// TestAccess is who may do what. A row is a request, a column a caller, a cell the status. {private}, {public} and
// {missing} stand for repositories.
func TestAccess(t *testing.T) {
	s := newAccessSite(t)
	const oid = "1111111111111111111111111111111111111111"
	rows := []struct {
		request, body string
		want          string
	}{
		//                                                          nobody admin owner writer reader stranger expired invented agent-r agent-w agent-else
		{"GET /{private}.git/info/refs?service=git-upload-pack", "", "401 200 200 200 200 404 401 401 200 200 404"},
		{"GET /{private}.git/info/refs?service=git-receive-pack", "", "401 200 200 200 403 404 401 401 403 200 404"},
		{"GET /{missing}.git/info/refs?service=git-upload-pack", "", "401 404 404 404 404 404 401 401 404 404 404"},
		{"GET /{missing}.git/info/refs?service=git-receive-pack", "", "401 200 200 200 404 404 401 401 404 404 404"},
		{"GET /{public}.git/info/refs?service=git-upload-pack", "", "200 200 200 200 200 200 401 401 404 404 404"},
		{"GET /{public}.git/info/refs?service=git-receive-pack", "", "401 200 200 200 403 403 401 401 404 404 404"},
		{"POST /{private}.git/git-upload-pack", "0000", "401 200 200 200 200 404 401 401 200 200 404"},
		{"POST /{missing}.git/git-upload-pack", "0000", "401 404 404 404 404 404 401 401 404 404 404"},
		{"POST /{private}.git/git-receive-pack", "0000", "401 200 200 200 403 404 401 401 403 200 404"},
		{"POST /{missing}.git/git-receive-pack", "0000", "401 200 200 200 404 404 401 401 404 404 404"},
		{"POST /{public}.git/git-receive-pack", "0000", "401 200 200 200 403 403 401 401 404 404 404"},

		{"GET /api/v2/repos/{private}", "", "401 200 200 200 200 404 401 401 200 200 404"},
		{"GET /api/v2/repos/{missing}", "", "401 404 404 404 404 404 401 401 404 404 404"},
		{"GET /api/v2/repos/{public}", "", "200 200 200 200 200 200 401 401 404 404 404"},
		{"GET /api/v2/repos/{private}/refs", "", "401 200 200 200 200 404 401 401 200 200 404"},
		{"GET /api/v2/repos/{private}/contents?path=README.md", "", "401 200 200 200 200 404 401 401 200 200 404"},
		{"GET /api/v2/repos/{private}/reflog", "", "401 200 200 200 403 404 401 401 403 200 404"},
		{"GET /api/v2/repos/{public}/reflog", "", "401 200 200 200 403 403 401 401 404 404 404"},
		{"PUT /api/v2/repos/{private}/refs/heads/x", `{"sha":"` + oid + `"}`, "401 422 422 422 403 404 401 401 403 422 404"},
		{"DELETE /api/v2/repos/{private}/refs/heads/x", "", "401 404 404 404 403 404 401 401 403 404 404"},
		{"POST /api/v2/repos/{private}/commits", `{"branch":"x","message":"m","changes":[{"path":"../x","content":""}]}`, "401 422 422 422 403 404 401 401 403 422 404"},
		{"POST /api/v2/repos/{private}/push?ref=refs/heads/x", "", "401 422 422 422 403 404 401 401 403 422 404"},
		{"POST /api/v2/repos/{private}/fetch", `{"want":["` + oid + `"]}`, "401 404 404 404 404 404 401 401 404 404 404"},
		{"PATCH /api/v2/repos/{private}", `{}`, "401 200 200 403 403 404 401 401 403 403 404"},
		{"PATCH /api/v2/repos/{public}", `{}`, "401 200 200 403 403 403 401 401 404 404 404"},
		{"DELETE /api/v2/repos/{missing}", "", "401 404 404 404 404 404 401 401 404 404 404"},
		{"POST /api/v2/repos", `{"tenant":"acme","name":"private"}`, "401 409 409 409 403 404 401 401 404 404 404"},
		{"POST /api/v2/repos", `{"tenant":"nowhere","name":"x"}`, "401 404 404 404 404 404 401 401 404 404 404"},

		{"GET /api/v2/whoami", "", "401 200 200 200 200 200 401 401 200 200 200"},
		{"GET /api/v2/tenants", "", "401 200 200 200 200 200 401 401 200 200 200"},
		{"GET /api/v2/tenants/acme", "", "401 200 200 200 200 404 401 401 404 404 404"},
		{"GET /api/v2/tenants/nowhere", "", "401 404 404 404 404 404 401 401 404 404 404"},
		{"POST /api/v2/tenants", `{"path":"acme"}`, "401 409 403 403 403 403 401 401 403 403 403"},
		{"POST /api/v2/tenants", `{"path":"acme/private"}`, "401 409 409 403 403 404 401 401 404 404 404"},
		{"GET /api/v2/tenants/acme/members", "", "401 200 200 403 403 404 401 401 404 404 404"},
		{"PUT /api/v2/tenants/acme/members/nobody-there", `{"role":"owner"}`, "401 404 404 403 403 404 401 401 404 404 404"},
		{"DELETE /api/v2/tenants/acme", "", "401 409 409 403 403 404 401 401 404 404 404"},
		{"GET /api/v2/tenants?parent=acme", "", "401 200 200 200 200 404 401 401 404 404 404"},
		{"POST /api/v2/tenants/acme/resume", "", "401 409 403 403 403 404 401 401 404 404 404"},
		{"POST /api/v2/tenants/acme/move", `{"path":"acme/x"}`, "401 422 403 403 403 404 401 401 404 404 404"},
		{"GET /api/v2/deleted-tenants", "", "401 200 200 200 200 200 401 401 200 200 200"},
		{"POST /api/v2/deleted-tenants/ten_01jd4x5vwr9ab3k6m0q7z2c8ye/restore", `{}`, "401 404 404 404 404 404 401 401 404 404 404"},
		{"GET /api/v2/repos/{private}/shares", "", "401 200 200 403 403 404 401 401 403 403 404"},
		{"PUT /api/v2/repos/{private}/shares/acme", `{}`, "401 422 422 403 403 404 401 401 403 403 404"},
		{"DELETE /api/v2/repos/{private}/shares/acme", "", "401 404 404 403 403 404 401 401 403 403 404"},
		{"GET /api/v2/tenants/acme/accounts", "", "401 200 200 403 403 404 401 401 404 404 404"},
		{"POST /api/v2/tenants/acme/accounts", `{"name":"a b"}`, "401 422 422 403 403 404 401 401 404 404 404"},
		{"DELETE /api/v2/tenants/acme/accounts/none", "", "401 404 404 403 403 404 401 401 404 404 404"},
		{"GET /api/v2/tenants/acme/invitations", "", "401 200 200 403 403 404 401 401 404 404 404"},
		{"DELETE /api/v2/tenants/acme/invitations/none", "", "401 404 404 403 403 404 401 401 404 404 404"},
		{"POST /api/v2/invitations/accept", `{"secret":"skep_inv_x"}`, "404 404 404 404 404 404 401 401 404 404 404"},
		{"GET /api/v2/principals", "", "401 200 403 403 403 403 401 401 403 403 403"},
		{"POST /api/v2/principals", `{"name":"admin"}`, "401 409 403 403 403 403 401 401 403 403 403"},
		{"DELETE /api/v2/principals/nobody-there", "", "401 404 403 403 403 403 401 401 403 403 403"},
		{"GET /api/v2/tokens", "", "401 200 200 200 200 200 401 401 403 403 403"},
		{"GET /api/v2/tokens?principal=admin", "", "401 200 403 403 403 403 401 401 403 403 403"},
		{"GET /api/v2/tokens?repo={private}", "", "401 200 200 403 403 404 401 401 403 403 404"},
		{"POST /api/v2/tokens", `{"repo":"acme/private","scope":"read"}`, "401 201 201 201 201 404 401 401 201 201 404"},
		{"POST /api/v2/tokens", `{"repo":"acme/private","scope":"write"}`, "401 201 201 201 403 404 401 401 403 201 404"},
		{"POST /api/v2/tokens", `{"scope":"admin"}`, "401 201 201 201 201 201 401 401 403 403 403"},
		{"POST /api/v2/tokens", `{"principal":"admin","scope":"read"}`, "401 201 403 403 403 403 401 401 403 403 403"},
		{"DELETE /api/v2/tokens/tok_01jd4x5vwr9ab3k6m0q7z2c8ye", "", "401 404 404 404 404 404 401 401 404 404 404"},

		{"GET /healthz", "", "200 200 200 200 200 200 200 200 200 200 200"},
		{"GET /api/v2/openapi.json", "", "200 200 200 200 200 200 401 401 200 200 200"},
		{"GET /api/v2/nothing", "", "404 404 404 404 404 404 401 401 404 404 404"},
		{"PATCH /api/v2/whoami", "", "401 405 405 405 405 405 401 401 405 405 405"},
	}
	for _, row := range rows {
		want := strings.Fields(row.want)
		for i, caller := range callerOrder {
			method, path, _ := strings.Cut(s.fill(row.request), " ")
			resp, body := s.do(method, path, s.callers[caller], strings.NewReader(row.body), "Content-Type", contentType(path))
			if got := fmt.Sprint(resp.StatusCode); got != want[i] {
				t.Errorf("%-10s %s %s = %s, want %s: %s", caller, row.request, row.body, got, want[i], firstLine(body))
			}
		}
	}
}

// fill puts repositories into a request: IDs into the API's paths, names into git's.
func (s *accessSite) fill(request string) string {
	id := strings.Contains(request, "/api/")
	for name, r := range map[string]client.Repo{"private": s.private, "public": s.public} {
		v := r.FullName()
		if id {
			v = string(r.ID)
		}
		request = strings.ReplaceAll(request, "{"+name+"}", v)
	}
	missing := "acme/missing"
	if id {
		missing = "repo_01jd4x5vwr9ab3k6m0q7z2c8ye"
	}
	return strings.ReplaceAll(request, "{missing}", missing)
}

func contentType(path string) string {
	for _, service := range []string{"git-upload-pack", "git-receive-pack"} {
		if strings.HasSuffix(path, "/"+service) {
			return "application/x-" + service + "-request"
		}
	}
	if strings.Contains(path, "/push?") {
		return "application/x-git-packfile"
	}
	return "application/json"
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// TestPrivateIsLikeMissing: to whom may not see it, a private repository answers byte for byte as one that is not there,
// whatever is asked.
func TestPrivateIsLikeMissing(t *testing.T) {
	s := newAccessSite(t)
	const oid = "1111111111111111111111111111111111111111"
	requests := []struct{ method, path, body string }{
		{"GET", "/%s.git/info/refs?service=git-upload-pack", ""},
		{"GET", "/%s.git/info/refs?service=git-receive-pack", ""},
		{"HEAD", "/%s/info/refs?service=git-upload-pack", ""},
		{"GET", "/%s.git/HEAD", ""},
		{"POST", "/%s.git/git-upload-pack", "0000"},
		{"POST", "/%s.git/git-receive-pack", "0000"},
		{"POST", "/%s.git/git-receive-pack", "0001"},
		{"GET", "/api/v2/repos/by-name?tenant=acme&name=%[2]s", ""},
		{"POST", "/api/v2/tokens", `{"repo":"%s","scope":"read"}`},
		{"GET", "/api/v2/tokens?repo=%s", ""},
		{"GET", "/api/v2/repos/%[3]s", ""},
		{"PATCH", "/api/v2/repos/%[3]s", "{}"},
		{"DELETE", "/api/v2/repos/%[3]s", ""},
		{"GET", "/api/v2/repos/%[3]s/refs", ""},
		{"POST", "/api/v2/repos/%[3]s/refs", `{"name":"refs/heads/x","sha":"` + oid + `"}`},
		{"GET", "/api/v2/repos/%[3]s/refs/heads/main", ""},
		{"PUT", "/api/v2/repos/%[3]s/refs/heads/main", `{"sha":"` + oid + `"}`},
		{"DELETE", "/api/v2/repos/%[3]s/refs/heads/main", ""},
		{"GET", "/api/v2/repos/%[3]s/reflog", ""},
		{"GET", "/api/v2/repos/%[3]s/stats", ""},
		{"GET", "/api/v2/repos/%[3]s/contents", ""},
		{"GET", "/api/v2/repos/%[3]s/tree", ""},
		{"GET", "/api/v2/repos/%[3]s/archive", ""},
		{"GET", "/api/v2/repos/%[3]s/commits", ""},
		{"POST", "/api/v2/repos/%[3]s/commits", `{"branch":"main","message":"m","changes":[{"path":"x","content":""}]}`},
		{"GET", "/api/v2/repos/%[3]s/commits/main", ""},
		{"GET", "/api/v2/repos/%[3]s/compare?base=main&head=main", ""},
		{"GET", "/api/v2/repos/%[3]s/blame?path=README.md", ""},
		{"POST", "/api/v2/repos/%[3]s/fetch", `{"want":["` + oid + `"]}`},
		{"POST", "/api/v2/repos/%[3]s/push?ref=refs/heads/x", ""},
	}
	for _, caller := range []string{"nobody", "stranger", "agent-else", "expired"} {
		for _, r := range requests {
			ask := func(name string) string {
				method, path := r.method, r.path
				full := "acme/" + name
				fill := func(text string) string {
					escaped := strings.ReplaceAll(full, "/", "%2F")
					return strings.NewReplacer("%s", full, "%[2]s", name, "%[3]s", escaped).Replace(text)
				}
				resp, body := s.do(method, fill(path), s.callers[caller], strings.NewReader(fill(r.body)), "Content-Type", contentType(path))
				resp.Header.Del("Date")
				resp.Header.Del("X-Request-Id")
				var b strings.Builder
				fmt.Fprintln(&b, resp.StatusCode)
				for _, k := range slices.Sorted(keys(resp.Header)) {
					fmt.Fprintln(&b, k, resp.Header[k])
				}
				return b.String() + body
			}
			if private, missing := ask("private"), ask("missing"); private != missing {
				t.Errorf("%s: %s %s of a private repository answers\n%s\nof a missing one\n%s", caller, r.method, r.path, private, missing)
			}
		}
	}
}

// TestTokensDoNotGrow: whatever is asked for, a new token is no stronger than the one that asked.
func TestTokensDoNotGrow(t *testing.T) {
	s := newAccessSite(t)
	agent := s.api(s.callers["agent-w"])
	if _, err := agent.CreateToken(t.Context(), client.CreateToken{Scope: policy.ScopeAdmin}); err == nil {
		t.Error("an agent made a token of scope admin")
	}
	made := result(agent.CreateToken(t.Context(), client.CreateToken{Scope: policy.ScopeRead}))(t)
	if made.Repo != s.private.ID {
		t.Errorf("an agent's token for one repository made one for %q", made.Repo)
	}

	who := result(s.api(s.callers["writer"]).Whoami(t.Context()))(t)
	soon := time.Now().Add(time.Hour)
	short := s.token(control.Token{Principal: who.Principal, Scope: policy.ScopeAdmin, Expires: soon})
	for _, ttl := range []string{"", "2h", "30d"} {
		made := result(s.api(short).CreateToken(t.Context(), client.CreateToken{TTL: ttl}))(t)
		if made.ExpiresAt == nil || made.ExpiresAt.After(soon) {
			t.Errorf("ttl %q: a token that ends at %v made one that ends at %v", ttl, soon, made.ExpiresAt)
		}
	}
	made = result(s.api(s.callers["writer"]).CreateToken(t.Context(), client.CreateToken{Repo: "acme/private", Scope: policy.ScopeWrite}))(t)
	if made.ExpiresAt == nil || time.Until(*made.ExpiresAt) > time.Hour {
		t.Errorf("an agent's token ends at %v by default, want an hour from now", made.ExpiresAt)
	}
	if resp, _ := s.do("GET", "/acme/private.git/info/refs?service=git-receive-pack", made.Secret, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("the token made for a repository = %d there", resp.StatusCode)
	}
	// A token can end itself, and is refused from then on.
	if err := s.api(made.Secret).RevokeToken(t.Context(), made.ID); err != nil {
		t.Errorf("a token revokes itself: %v", err)
	}
	if resp, _ := s.do("GET", "/acme/private.git/info/refs?service=git-upload-pack", made.Secret, nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a revoked token = %d, want 401", resp.StatusCode)
	}
}

// TestListsHideWhatMayNotBeSeen: each caller lists what it may read, and no more.
func TestListsHideWhatMayNotBeSeen(t *testing.T) {
	s := newAccessSite(t)
	want := map[string]string{
		"nobody": "acme/public", "admin": "acme/private acme/public other/else", "owner": "acme/private acme/public",
		"reader": "acme/private acme/public", "stranger": "acme/public other/else", "agent-r": "acme/private", "agent-else": "",
	}
	for caller, names := range want {
		var got []string
		api := s.api(s.callers[caller])
		for r, err := range client.All(t.Context(), func(ctx context.Context, cursor string, _ int) (client.Page[client.Repo], error) {
			return api.Repos(ctx, "", cursor, 1) // a page each
		}) {
			if err != nil {
				t.Fatalf("%s: %v", caller, err)
			}
			got = append(got, r.FullName())
		}
		slices.Sort(got)
		if strings.Join(got, " ") != names {
			t.Errorf("%s lists %v, want %s", caller, got, names)
		}
	}
	for caller, names := range map[string]string{"admin": "acme default other", "reader": "acme", "agent-r": ""} {
		p := result(s.api(s.callers[caller]).Tenants(t.Context(), "", 0))(t)
		var got []string
		for _, tn := range p.Items {
			got = append(got, tn.Path)
		}
		if strings.Join(got, " ") != names {
			t.Errorf("%s lists tenants %v, want %s", caller, got, names)
		}
	}
}

// TestTokenFamily: a token says how it begins, what made it and when it was used, and does not outlive what made it.
func TestTokenFamily(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	_, secret := s.person("alice")
	api := s.api(secret)
	made := result(api.CreateToken(ctx, client.CreateToken{Scope: policy.ScopeAdmin, TTL: "1h", Name: "made"}))(t)
	if !strings.HasPrefix(made.Secret, made.Prefix) || len(made.Prefix) != len("skep_")+6 || made.Parent == "" || made.LastUsedAt != nil {
		t.Errorf("token = %+v", made.Token)
	}
	grandchild := result(s.api(made.Secret).CreateToken(ctx, client.CreateToken{Scope: policy.ScopeRead, TTL: "2h"}))(t)
	if grandchild.Parent != made.ID || !grandchild.ExpiresAt.Equal(*made.ExpiresAt) {
		t.Errorf("a token made with it = %+v, want one that ends at %v", grandchild.Token, made.ExpiresAt)
	}
	list := result(api.Tokens(ctx, client.TokenFilter{}, "", 10))(t)
	for _, one := range list.Items {
		used := one.ID != grandchild.ID
		if (one.LastUsedAt != nil) != used || (one.LastUsedFrom == "127.0.0.1") != used {
			t.Errorf("token %q was used at %v from %q", one.Name, one.LastUsedAt, one.LastUsedFrom)
		}
	}
	rotated := result(s.api(made.Secret).RotateToken(ctx))(t)
	if rotated.ID != made.ID || rotated.Secret == made.Secret {
		t.Errorf("rotated = %+v", rotated)
	}
	_, err := s.api(made.Secret).Whoami(ctx)
	wantKind(t, "the old secret", err, errkind.Unauthorized)
	result(s.api(grandchild.Secret).Whoami(ctx))(t)
	_, err = s.api("").RotateToken(ctx)
	wantKind(t, "nobody's rotation", err, errkind.Unauthorized)
	if err := api.RevokeToken(ctx, made.ID); err != nil {
		t.Fatal(err)
	}
	_, err = s.api(grandchild.Secret).Whoami(ctx)
	wantKind(t, "a token whose parent was revoked", err, errkind.Unauthorized)
}
