package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// post makes a request of the API with an idempotency key.
func (s *site) post(path, token, key, body string) (reply, string) {
	s.t.Helper()
	return s.do("POST", "/api/v2"+path, token, strings.NewReader(body), "Content-Type", "application/json", "Idempotency-Key", key)
}

// TestIdempotencyKey: the same request under the same key is done once and answered twice; a different one is told so; of
// another principal, on another path or under another key it is a request of its own.
func TestIdempotencyKey(t *testing.T) {
	s := startSite(t, server.Options{})
	d := result(s.control.TenantByPath(t.Context(), "default"))(t)
	writer := s.member("wanda", d.ID, policy.Writer)
	const made = `{"tenant": "default", "name": "demo"}`
	resp, first := s.post("/repos", s.admin, "k1", made)
	if resp.StatusCode != http.StatusCreated || resp.Header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("first = %d %s", resp.StatusCode, first)
	}
	again, second := s.post("/repos", s.admin, "k1", made)
	if again.StatusCode != http.StatusCreated || second != first || again.Header.Get("Idempotency-Replayed") != "true" ||
		again.Header.Get("Content-Type") != resp.Header.Get("Content-Type") || again.Header.Get("X-Request-Id") == resp.Header.Get("X-Request-Id") {
		t.Errorf("again = %d %s %v, want %s", again.StatusCode, second, again.Header, first)
	}
	for name, tt := range map[string]struct {
		path, token, key, body string
		status                 int
	}{
		"another body":             {"/repos", s.admin, "k1", made + " ", 422},
		"no body":                  {"/repos", s.admin, "k1", "", 422},
		"another key":              {"/repos", s.admin, "k2", made, 409}, // the name is taken
		"another principal":        {"/repos", writer, "k1", made, 409},
		"another path":             {"/tenants", s.admin, "k1", `{"path": "acme"}`, 201},
		"another query":            {"/repos?x=y", s.admin, "k1", made, 409},
		"nobody":                   {"/repos", "", "k1", made, 401},
		"a key with a control":     {"/repos", s.admin, "k\t1", made, 422},
		"a key that is too long":   {"/repos", s.admin, strings.Repeat("k", 256), made, 422},
		"one that is just allowed": {"/tenants", s.admin, strings.Repeat("k", 255), `{"path": "long"}`, 201},
	} {
		if resp, text := s.post(tt.path, tt.token, tt.key, tt.body); resp.StatusCode != tt.status || resp.Header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%s = %d %s, want %d", name, resp.StatusCode, text, tt.status)
		}
	}
	if resp, _ := s.post("/repos", s.admin, "k1", made); resp.StatusCode != http.StatusCreated {
		t.Errorf("after all that = %d", resp.StatusCode)
	}
}

// TestIdempotentFailuresAreTriedAgain: what was refused changed nothing, and a key does not keep it from being done later.
func TestIdempotentFailuresAreTriedAgain(t *testing.T) {
	s := startSite(t, server.Options{})
	const body = `{"tenant": "acme", "name": "demo"}`
	if resp, _ := s.post("/repos", s.admin, "k", body); resp.StatusCode != http.StatusNotFound {
		t.Fatalf("in a tenant that is not there = %d", resp.StatusCode)
	}
	result(s.control.CreateTenant(t.Context(), "acme"))(t)
	if resp, text := s.post("/repos", s.admin, "k", body); resp.StatusCode != http.StatusCreated {
		t.Errorf("when it is there = %d %s", resp.StatusCode, text)
	}
}

// TestIdempotentSecretsAreNotKept: an answer with a secret is given once; the request is still not done twice.
func TestIdempotentSecretsAreNotKept(t *testing.T) {
	s := startSite(t, server.Options{})
	resp, first := s.post("/tokens", s.admin, "k", `{}`)
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("first = %d %s", resp.StatusCode, first)
	}
	before := len(result(s.api(s.admin).Tokens(t.Context(), client.TokenFilter{}, "", 0))(t).Items)
	resp, text := s.post("/tokens", s.admin, "k", `{}`)
	if resp.StatusCode != http.StatusConflict || !strings.Contains(text, "secret") || strings.Contains(text, "skep_") {
		t.Errorf("again = %d %s, want 409", resp.StatusCode, text)
	}
	if after := len(result(s.api(s.admin).Tokens(t.Context(), client.TokenFilter{}, "", 0))(t).Items); after != before {
		t.Errorf("%d tokens, before %d", after, before)
	}

	var made client.CreatedToken
	if err := json.Unmarshal([]byte(first), &made); err != nil {
		t.Fatal(err)
	}
	resp, text = s.post("/tokens/rotate", made.Secret, "k", "")
	if err := json.Unmarshal([]byte(text), &made); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("rotate = %d %s", resp.StatusCode, text)
	}
	if resp, text = s.post("/tokens/rotate", made.Secret, "k", ""); resp.StatusCode != http.StatusConflict || strings.Contains(text, "skep_") {
		t.Errorf("rotate again = %d %s, want 409", resp.StatusCode, text)
	}
}

// TestIdempotentAnswersStayWithTheirToken: a weaker token of the same principal does not get what a stronger one was told.
func TestIdempotentAnswersStayWithTheirToken(t *testing.T) {
	s := startSite(t, server.Options{})
	if resp, _ := s.post("/repos", s.admin, "k", `{"tenant": "default", "name": "demo"}`); resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.StatusCode)
	}
	weak := result(s.api(s.admin).CreateToken(t.Context(), client.CreateToken{Scope: policy.ScopeRead}))(t)
	if resp, text := s.post("/repos", weak.Secret, "k", `{"tenant": "default", "name": "demo"}`); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a token that only reads = %d %s, want 403", resp.StatusCode, text)
	}
}

// TestIdempotentRace: of many at once one is done; the others get its answer, or are told that it is being done.
func TestIdempotentRace(t *testing.T) {
	s := startSite(t, server.Options{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[string]int{}
	for range 20 {
		wg.Go(func() {
			resp, text := s.post("/repos", s.admin, "k", `{"tenant": "default", "name": "demo"}`)
			mu.Lock()
			defer mu.Unlock()
			statuses[fmt.Sprint(resp.StatusCode, resp.Header.Get("Idempotency-Replayed"))]++
			if resp.StatusCode != http.StatusCreated && !strings.Contains(text, "still being done") {
				t.Errorf("%d %s", resp.StatusCode, text)
			}
		})
	}
	wg.Wait()
	if statuses["201"] != 1 {
		t.Errorf("answers: %v, want one 201 that is no replay", statuses)
	}
}

// TestIdempotentRequestStillRunning: a request whose body has not all come is being done.
func TestIdempotentRequestStillRunning(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "demo", client.Private)
	pr, pw := io.Pipe()
	req := result(http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/api/v2/repos/default%2Fdemo/push?ref=refs/heads/x", pr))(t)
	req.SetBasicAuth("any", s.admin)
	req.Header.Set("Idempotency-Key", "k")
	req.Header.Set("Content-Type", "application/x-git-packfile")
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	for {
		if _, text := s.do("GET", "/metrics", "", nil); strings.Contains(text, `skep_http_in_flight{pool="transfers"} 1`) {
			break
		}
	}
	resp, text := s.post("/repos/default%2Fdemo/push?ref=refs/heads/x", s.admin, "k", "")
	if resp.StatusCode != http.StatusConflict || !strings.Contains(text, "still being done") {
		t.Errorf("%d %s, want 409", resp.StatusCode, text)
	}
	_ = pw.CloseWithError(io.ErrUnexpectedEOF)
	<-done
}

// TestRememberedAnswersHaveAShare: what is done in a tenant is the top-level tenant's, however many principals it has.
func TestRememberedAnswersHaveAShare(t *testing.T) {
	s := startSite(t, server.Options{})
	top := result(s.control.CreateTenant(t.Context(), "acme"))(t).ID
	below := result(s.control.CreateTenant(t.Context(), "acme/web"))(t).ID
	olga := policy.Principal{ID: "usr_olga"}
	for _, tt := range []struct {
		name string
		p    policy.Principal
		used id.Tenant
		want string
	}{
		{"in a child", olga, below, string(top)},
		{"in none", olga, "", "usr_olga"},
		{"in one that is gone", olga, "ten_gone", "usr_olga"},
		{"an issuer's, in none", policy.Principal{ID: "iss_1:agent-7", Within: below}, "", string(top)},
		{"an account, in none", policy.Principal{ID: "usr_ci", Home: below}, "", string(top)},
	} {
		if got := s.server.ShareOf(t.Context(), tt.p, tt.used); got != tt.want {
			t.Errorf("%s: the share of %s, want %s", tt.name, got, tt.want)
		}
	}
}
