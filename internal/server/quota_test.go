package server_test

import (
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

func some(n int64) *int64 { return new(n) }

// limit sets a tenant's quotas as the administrator.
func (s *site) limit(tenant string, q client.Quotas) {
	s.t.Helper()
	result(s.api(s.admin).SetTenantQuota(s.t.Context(), tenant, q))(s.t)
	s.flush()
}

// flush stores what was counted, and lets the server read it when it needs it next.
func (s *site) flush() {
	s.t.Helper()
	if err := s.meter.Flush(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.server.Flushed()
}

func TestAPushOverTheStorageQuotaIsRefused(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	acme := result(s.api(s.admin).CreateTenant(ctx, "acme"))(t)
	result(s.api(s.admin).CreateTenant(ctx, "acme/web"))(t)
	bob := s.member("bob", acme.ID, policy.Writer)
	src := newRepo(t, 2)
	git(t, src, "push", "-q", s.remote(bob, "acme/site"), "main", "main:refs/heads/old")
	s.limit("acme", client.Quotas{Storage: some(10 << 10)})

	// Git shows how much there is of how much, and nothing is stored.
	write(t, filepath.Join(src, "more"), noise(5<<20))
	git(t, src, "add", ".")
	git(t, src, "commit", "-q", "-m", "more")
	_, before := s.do(http.MethodGet, "/api/v2/repos/acme%2Fsite/stats", s.admin, nil)
	out, err := tryGit(t, src, "push", s.remote(bob, "acme/site"), "main")
	for _, want := range []string{"remote: acme has used ", " KiB of 10 KiB of its quota of storage: remove some, or ask who sets it for more", "unpacker error"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("git push: %v\n%s\nwant %q in it", err, out, want)
		}
	}
	if _, after := s.do(http.MethodGet, "/api/v2/repos/acme%2Fsite/stats", s.admin, nil); after != before {
		t.Errorf("the repository has %s, and had %s", after, before)
	}
	// A child cannot get around it, nor can REST.
	out, err = tryGit(t, src, "push", s.remote(bob, "acme/web/app"), "main")
	if want := "remote: acme, which acme/web belongs to, has used up its quota of storage"; err == nil || !strings.Contains(out, want) {
		t.Errorf("git push into the child: %v\n%s\nwant %q in it", err, out, want)
	}
	calls := []struct{ path, body string }{
		{"/repos/acme%2Fsite/commits", `{"branch": "main", "message": "m", "changes": [{"path": "x", "content": "x"}]}`},
		{"/repos", `{"tenant": "acme", "name": "fresh", "initial_content": {"a": "a"}}`},
	}
	for _, tt := range calls {
		r, body := s.do(http.MethodPost, "/api/v2"+tt.path, bob, strings.NewReader(tt.body), "Content-Type", "application/json")
		if r.StatusCode != http.StatusForbidden || !strings.Contains(body, "urn:skep:problem:quota-exceeded") || !strings.Contains(body, "acme has used") {
			t.Errorf("POST %s: %d %s", tt.path, r.StatusCode, body)
		}
	}
	r, body := s.do(http.MethodPost, "/api/v2/repos/acme%2Fsite/push?ref=refs/heads/x&new="+git(t, src, "rev-parse", "main"), bob,
		strings.NewReader("PACK"), "Content-Type", "application/x-git-packfile")
	if r.StatusCode != http.StatusForbidden || !strings.Contains(body, "acme has used") {
		t.Errorf("push over REST: %d %s", r.StatusCode, body)
	}
	// What takes no room is done, so that there is a way back.
	git(t, src, "push", "-q", s.remote(bob, "acme/site"), ":refs/heads/old")
	git(t, t.TempDir(), "clone", "-q", s.remote(bob, "acme/site"), "a")
	// And with more room, all is well.
	s.limit("acme", client.Quotas{Storage: some(1 << 30)})
	git(t, src, "push", "-q", s.remote(bob, "acme/site"), "main")
}

func TestOperationsOverAQuotaWaitForTheNextHour(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	acme := result(s.api(s.admin).CreateTenant(ctx, "acme"))(t)
	result(s.api(s.admin).CreateTenant(ctx, "acme/web"))(t)
	bob := s.member("bob", acme.ID, policy.Writer)
	src := newRepo(t, 2)
	clone := func() (string, error) { return tryGit(t, t.TempDir(), "clone", s.remote(bob, "acme/web/app"), "a") }
	push := func(branch string) (string, error) {
		return tryGit(t, src, "push", s.remote(bob, "acme/web/app"), "main:refs/heads/"+branch)
	}
	// Given two pushes and three fetches an hour, for the parent …
	s.limit("acme", client.Quotas{Pushes: some(2), Fetches: some(3), Calls: some(6)}) // two calls have been made for the tenant
	done := func(out string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	refused := func(out string, err error, quota string) {
		t.Helper()
		for _, want := range []string{"remote: acme has used up its quota of " + quota + ": try again in ", "429"} {
			if err == nil || !strings.Contains(out, want) {
				t.Errorf("%v\n%s\nwant %q in it", err, out, want)
			}
		}
	}
	done(push("a"))
	done(clone())
	s.flush() // … it does not matter where a count is: in memory or in the database.
	done(push("b"))
	done(clone())
	done(clone())
	for range 2 {
		out, err := push("c")
		refused(out, err, "pushes")
		out, err = clone()
		refused(out, err, "fetches")
		s.flush()
	}
	var last reply
	for i := range 6 {
		r, body := s.do(http.MethodGet, "/api/v2/repos/acme%2Fweb%2Fapp", bob, nil)
		want := http.StatusOK
		if i >= 4 {
			want = http.StatusTooManyRequests
		}
		if last = r; r.StatusCode != want {
			t.Errorf("call %d: %d, want %d: %s", i, r.StatusCode, want, body)
		}
	}
	if n, err := strconv.Atoi(last.Header.Get("Retry-After")); err != nil || n < 1 || n > 3600 {
		t.Errorf("Retry-After: %q", last.Header.Get("Retry-After"))
	}
	// What is refused counts as no operation; and who administers the tenant still sees and changes what it may.
	used := result(s.api(s.admin).TenantQuota(ctx, "acme"))(t)
	if *used.Used.Pushes != 2 || *used.Used.Fetches != 3 {
		t.Errorf("used %d pushes and %d fetches, want 2 and 3", *used.Used.Pushes, *used.Used.Fetches)
	}
	s.limit("acme", client.Quotas{})
	done(push("c"))
}

func TestBytesOutHaveAQuota(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	acme := result(s.api(s.admin).CreateTenant(ctx, "acme"))(t)
	bob := s.member("bob", acme.ID, policy.Writer)
	src := t.TempDir()
	git(t, src, "init", "-q", "-b", "main")
	write(t, filepath.Join(src, "big"), noise(100<<10))
	git(t, src, "add", ".")
	git(t, src, "commit", "-q", "-m", "big")
	git(t, src, "push", "-q", s.remote(bob, "acme/site"), "main")
	for name, q := range map[string]client.Quotas{"bytes-out-day": {BytesOutDay: some(50 << 10)}, "bytes-out-month": {BytesOutMonth: some(250 << 10)}} {
		s.limit("acme", q)
		var out string
		var err error
		clones := 0
		for ; err == nil && clones < 5; clones++ {
			out, err = tryGit(t, t.TempDir(), "clone", s.remote(bob, "acme/site"), "a")
		}
		if err == nil || !strings.Contains(out, "acme has used up its quota of "+name) {
			t.Errorf("%s: %d clones, then %v\n%s", name, clones, err, out)
		}
	}
}

func TestWhoSetsQuotas(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	acme := result(s.api(s.admin).CreateTenant(ctx, "acme"))(t)
	web := result(s.api(s.admin).CreateTenant(ctx, "acme/web"))(t)
	sponsor, child := s.member("sponsor", acme.ID, policy.Owner), s.member("child", web.ID, policy.Owner)
	writer := s.member("writer", acme.ID, policy.Writer)
	_, stranger := s.person("stranger")
	tests := []struct {
		who, token, tenant string
		get, set           int
	}{
		{"administrator", s.admin, "acme", 200, 200},
		{"sponsor", sponsor, "acme", 200, 403},
		{"sponsor", sponsor, "acme%2Fweb", 200, 200},
		{"owner of the child", child, "acme%2Fweb", 200, 403},
		{"owner of the child", child, "acme", 404, 404},
		{"writer", writer, "acme%2Fweb", 403, 403},
		{"stranger", stranger, "acme", 404, 404},
		{"stranger", stranger, "missing", 404, 404},
		{"nobody", "", "acme", 401, 401},
	}
	for _, tt := range tests {
		path := "/api/v2/tenants/" + tt.tenant + "/quota"
		if r, body := s.do(http.MethodGet, path, tt.token, nil); r.StatusCode != tt.get {
			t.Errorf("%s gets %s: %d, want %d: %s", tt.who, path, r.StatusCode, tt.get, body)
		}
		r, body := s.do(http.MethodPut, path, tt.token, strings.NewReader(`{"repositories": 7}`), "Content-Type", "application/json")
		if r.StatusCode != tt.set {
			t.Errorf("%s sets %s: %d, want %d: %s", tt.who, path, r.StatusCode, tt.set, body)
		}
	}
	for _, body := range []string{`{"repositories": -1}`, `{"beer": 1}`, `{"storage_bytes": "10GiB"}`} {
		r, _ := s.do(http.MethodPut, "/api/v2/tenants/acme/quota", s.admin, strings.NewReader(body), "Content-Type", "application/json")
		if r.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d, want 422", body, r.StatusCode)
		}
	}
}
