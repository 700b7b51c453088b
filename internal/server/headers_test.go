package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/server"
)

// TestSecurityHeaders: every answer of every kind has them; that of TLS also says to stay there.
func TestSecurityHeaders(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "demo", client.Public)
	for _, path := range []string{
		"/", "/healthz", "/metrics", "/nothing", gitRefs, "/default/none.git/info/refs?service=git-upload-pack", "/api/v2/repos", "/api/v2/nothing",
		"/api/v2/repos/default%2Fdemo/contents?path=README.md&raw=true", "/api/v2/repos/default%2Fdemo/archive", "/api/v2/openapi.json",
	} {
		resp, _ := s.do("GET", path, "", nil)
		for k, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Strict-Transport-Security": "",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := resp.Header[k]; strings.Join(got, "|") != want {
				t.Errorf("%s: %s: %q, want %q", path, k, got, want)
			}
		}
	}
	secure := startSecure(t, server.Options{})
	req := result(http.NewRequestWithContext(t.Context(), http.MethodGet, secure.url+"/healthz", nil))(t)
	resp := result(secure.http.Do(req))(t)
	_ = resp.Body.Close()
	if got := resp.Header.Get("Strict-Transport-Security"); !strings.HasPrefix(got, "max-age=31536000") {
		t.Errorf("over TLS: Strict-Transport-Security: %q", got)
	}
}

// TestCORS: the pages of a named origin may use the API with tokens of their own; all others may not; git is nobody's.
func TestCORS(t *testing.T) {
	const app = "https://app.example.org"
	s := startSite(t, server.Options{Origins: []string{app}})
	s.repo("default", "demo", client.Public)
	preflight := []string{"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type"}
	create := `{"tenant": "default", "name": "made"}`
	tests := []struct {
		name, method, path, origin, body string
		header                           []string
		status                           int
		allowed                          bool
	}{
		{"preflight", "OPTIONS", "/api/v2/repos", app, "", preflight, 204, true},
		{"read", "GET", "/api/v2/repos", app, "", nil, 200, true},
		{"refusal", "GET", "/api/v2/repos/default%2Fnone", app, "", nil, 404, true},
		{"write", "POST", "/api/v2/repos", app, create, []string{"Sec-Fetch-Site", "cross-site", "Content-Type", "application/json"}, 201, true},
		{"preflight of another", "OPTIONS", "/api/v2/repos", "https://evil.example.org", "", preflight, 401, false},
		{"read of another", "GET", "/api/v2/repos", "https://evil.example.org", "", nil, 200, false},
		{"write of another", "POST", "/api/v2/repos", "https://evil.example.org", create, []string{"Content-Type", "application/json"}, 403, false},
		{"nearly the same", "GET", "/api/v2/repos", "http://app.example.org", "", nil, 200, false},
		{"longer", "GET", "/api/v2/repos", app + ".evil.org", "", nil, 200, false},
		{"null", "GET", "/api/v2/repos", "null", "", nil, 200, false},
		{"no page", "GET", "/api/v2/repos", "", "", nil, 200, false},
		{"git", "GET", gitRefs, app, "", nil, 200, false},
	}
	for _, tt := range tests {
		token := s.admin
		if tt.method == "OPTIONS" {
			token = "" // browsers send none
		}
		header := tt.header
		if tt.origin != "" {
			header = append(header, "Origin", tt.origin)
		}
		resp, text := s.do(tt.method, tt.path, token, strings.NewReader(tt.body), header...)
		want := ""
		if tt.allowed {
			want = app
		}
		if got := resp.Header.Get("Access-Control-Allow-Origin"); got != want || resp.StatusCode != tt.status && tt.status != 401 {
			t.Errorf("%s = %d, allowed %q, want %d, %q: %s", tt.name, resp.StatusCode, got, tt.status, want, text)
		}
		if resp.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: credentials are allowed", tt.name)
		}
		if strings.HasPrefix(tt.path, "/api/") && resp.Header.Get("Vary") != "Origin" {
			t.Errorf("%s: Vary: %q", tt.name, resp.Header.Get("Vary"))
		}
	}
	if err := server.CheckOrigin("*"); err == nil {
		t.Error("any origin can be allowed")
	}
}
