package server_test

import (
	"encoding/csv"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
	"github.com/skep-dev/skep/internal/usage"
)

// used is what a tenant used of each kind, as its API says.
func (s *site) used(tenant string, q client.UsageQuery) map[string]int64 {
	s.t.Helper()
	if err := s.meter.Flush(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	report := result(s.api(s.admin).TenantUsage(s.t.Context(), tenant, q))(s.t)
	amounts := map[string]int64{}
	for _, r := range report.Rows {
		amounts[r.Kind] += r.Amount
	}
	return amounts
}

func TestUseOfGitAndRESTIsCounted(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	acme := result(s.api(s.admin).CreateTenant(ctx, "acme"))(t)
	result(s.api(s.admin).CreateTenant(ctx, "acme/web"))(t)
	bob := s.member("bob", acme.ID, policy.Writer)
	src := newRepo(t, 3)

	// Given a push, which makes the repository, two clones by a member and by nobody, and some calls …
	git(t, src, "push", "-q", s.remote(bob, "acme/site"), "main")
	git(t, src, "push", "-q", s.remote(bob, "acme/web/app"), "main")
	repo := result(s.api(s.admin).Repo(ctx, "acme/site"))(t)
	git(t, t.TempDir(), "clone", "-q", s.remote(bob, "acme/site"), "a")
	public := client.Public
	result(s.api(s.admin).UpdateRepo(ctx, "acme/site", client.UpdateRepo{Visibility: &public}))(t)
	git(t, t.TempDir(), "clone", "-q", s.remote("", "acme/site"), "b")
	if code, _ := s.do(http.MethodGet, "/api/v2/repos/acme%2Fsite/archive", bob, nil); code.StatusCode != http.StatusOK {
		t.Fatalf("archive: %d", code.StatusCode)
	}
	// … and some attempts of a stranger, which are nobody's use.
	_, mallory := s.person("mallory")
	if out, err := tryGit(t, src, "push", s.remote(mallory, "acme/site"), "main:evil"); err == nil {
		t.Errorf("a stranger pushes: %s", out)
	}

	got := s.used("acme", client.UsageQuery{})
	for kind, want := range map[string]int64{"push": 1, "fetch": 2, "archive": 1} {
		if got[kind] != want {
			t.Errorf("%s = %d, want %d; all: %v", kind, got[kind], want, got)
		}
	}
	if got["bytes.in"] < 300 || got["bytes.out"] < 1000 || got["compute"] < 100 || got["api.write"] != 2 || got["api.read"] != 1 {
		t.Errorf("used %v", got)
	}
	stored := got["storage"]
	if stored < 10_000 || stored > 1_000_000 {
		t.Errorf("stored %d bytes", stored)
	}
	if all := s.used("acme", client.UsageQuery{Children: true}); all["push"] != 2 || all["storage"] <= stored {
		t.Errorf("with children, used %v", all)
	}
	if own := s.used("acme/web", client.UsageQuery{}); own["push"] != 1 || own["storage"] == 0 {
		t.Errorf("the child used %v", own)
	}

	// A large push is in the bucket, and is measured there.
	write(t, filepath.Join(src, "big"), noise(3<<20))
	git(t, src, "add", ".")
	git(t, src, "commit", "-q", "-m", "big")
	git(t, src, "push", "-q", s.remote(bob, "acme/site"), "main")
	if now := s.used("acme", client.UsageQuery{})["storage"]; now < stored+3<<20 {
		t.Errorf("after 3 MiB more, %d bytes are stored; before: %d", now, stored)
	}
	// What is deleted takes nothing, and was used all the same.
	if err := s.api(s.admin).DeleteRepo(ctx, string(repo.ID)); err != nil {
		t.Fatal(err)
	}
	if got := s.used("acme", client.UsageQuery{}); got["storage"] != 0 || got["push"] != 2 {
		t.Errorf("after the deletion, used %v", got)
	}
}

// noise is text that does not compress.
func noise(n int) string {
	b := make([]byte, n)
	x := uint64(1)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return string(b)
}

func TestWhoSeesUsage(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	acme := result(s.api(s.admin).CreateTenant(ctx, "acme"))(t)
	web := result(s.api(s.admin).CreateTenant(ctx, "acme/web"))(t)
	sponsor := s.member("sponsor", acme.ID, policy.Owner)
	child := s.member("child", web.ID, policy.Owner)
	writer := s.member("writer", web.ID, policy.Writer)
	_, stranger := s.person("stranger")
	s.repo("acme/web", "app", client.Private)

	tests := []struct {
		who, token, path string
		want             int
	}{
		{"sponsor", sponsor, "/tenants/acme/usage", 200},
		{"sponsor", sponsor, "/tenants/acme%2Fweb/usage?granularity=day&by=repo", 200},
		{"sponsor", sponsor, "/repos/acme%2Fweb%2Fapp/usage", 200},
		{"owner of the child", child, "/tenants/acme%2Fweb/usage", 200},
		{"owner of the child", child, "/tenants/acme/usage", 404},
		{"writer", writer, "/tenants/acme%2Fweb/usage", 403},
		{"writer", writer, "/repos/acme%2Fweb%2Fapp/usage", 403},
		{"stranger", stranger, "/tenants/acme/usage", 404},
		{"stranger", stranger, "/tenants/missing/usage", 404},
		{"stranger", stranger, "/repos/acme%2Fweb%2Fapp/usage", 404},
		{"nobody", "", "/tenants/acme/usage", 401},
		{"sponsor", sponsor, "/usage/events", 403},
		{"administrator", s.admin, "/usage/events", 200},
		{"administrator", s.admin, "/usage/events?cursor=" + url.QueryEscape("bm9uc2Vuc2U"), 422},
		{"administrator", s.admin, "/tenants/acme/usage?from=yesterday", 422},
		{"administrator", s.admin, "/tenants/acme/usage?from=2026-05-02&to=2026-05-01", 422},
		{"administrator", s.admin, "/tenants/acme/usage?from=2020-01-01", 422},
		{"administrator", s.admin, "/tenants/acme/usage?by=token", 422},
	}
	for _, tt := range tests {
		r, body := s.do(http.MethodGet, "/api/v2"+tt.path, tt.token, nil)
		if r.StatusCode != tt.want {
			t.Errorf("%s gets %s: %d, want %d: %s", tt.who, tt.path, r.StatusCode, tt.want, body)
		}
	}
}

func TestUsageAsCSV(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "demo", client.Private)
	s.used("default", client.UsageQuery{})
	for _, ask := range []struct{ query, accept string }{{"?by=repo&format=csv", ""}, {"?by=repo", "text/csv"}} {
		r, body := s.do(http.MethodGet, "/api/v2/tenants/default/usage"+ask.query, s.admin, nil, "Accept", ask.accept)
		rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
		if err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/csv") {
			t.Fatalf("%v: %v, %s:\n%s", ask, err, r.Header.Get("Content-Type"), body)
		}
		if got := strings.Join(rows[0], " "); got != "start tenant_id tenant repo_id repo kind amount" {
			t.Errorf("the first line is %q", got)
		}
		last := rows[len(rows)-1]
		if last[2] != "default" || last[4] != "demo" || last[5] != "storage" || last[6] == "0" {
			t.Errorf("the last line is %q", last)
		}
	}
}

func TestEventsOfAnHourThatGoesOnAreNotListed(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "demo", client.Private)
	s.used("default", client.UsageQuery{})
	page := result(s.api(s.admin).UsageEvents(t.Context(), "", 0))(t)
	if len(page.Items) != 0 || page.Cursor != "" {
		t.Errorf("there are events: %+v", page)
	}
}

// FuzzEventCursor: a cursor that is taken leads to one record, and is that record's own.
func FuzzEventCursor(f *testing.F) {
	for _, repo := range []id.Repo{"", "repo_1"} {
		r := usage.Record{Key: usage.Key{Tenant: "ten_1", Repo: repo}, Hour: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC), Kind: usage.Fetch}
		f.Add(server.EventCursor(r))
		if got, err := server.ParseEventCursor(server.EventCursor(r)); err != nil || got != r {
			f.Errorf("%+v becomes %+v, %v", r, got, err)
		}
	}
	f.Add("")
	f.Add("bm9uc2Vuc2U")
	f.Fuzz(func(t *testing.T, cursor string) {
		r, err := server.ParseEventCursor(cursor)
		if err != nil || cursor == "" {
			return
		}
		if again, err := server.ParseEventCursor(server.EventCursor(r)); err != nil || again != r {
			t.Errorf("cursor %q is of %+v, whose own is of %+v, %v", cursor, r, again, err)
		}
	})
}

func TestUsageOfFarTimes(t *testing.T) {
	s := startSite(t, server.Options{})
	result(s.api(s.admin).CreateTenant(t.Context(), "acme"))(t)
	for _, span := range []string{
		"to=9999-12-31T23:59:59Z", "to=9999-12-31", "from=9999-12-31", "from=0001-01-01", "to=0000-01-01T00:00:00Z",
		"from=1969-12-31T23:59:59Z", "from=1970-01-01&to=9998-12-31", "from=292277026596-01-01", "to=%00", "to=%FF",
	} {
		if resp, body := s.do(http.MethodGet, "/api/v2/tenants/acme/usage?"+span, s.admin, nil); resp.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d, want 422: %s", span, resp.StatusCode, body)
		}
	}
	if resp, body := s.do(http.MethodGet, "/api/v2/tenants/acme/usage?to=9998-12-31T23:59:59Z", s.admin, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("the last time of all: %d: %s", resp.StatusCode, body)
	}
}
