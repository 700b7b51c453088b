package server_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// startLimited starts a server that counts everybody's requests, and of which the named limits are as low as said.
func startLimited(t *testing.T, quotas map[string]limit.Quota) *site {
	t.Helper()
	return startSite(t, server.Options{Rates: quotas, RateExempt: []netip.Prefix{}})
}

// from is do, from another address of this machine.
func (s *site) from(addr, method, path, token string, header ...string) (reply, string) {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	tr := &http.Transport{DialContext: d.DialContext}
	defer tr.CloseIdleConnections()
	req := result(http.NewRequestWithContext(s.t.Context(), method, s.url+path, nil))(s.t)
	if token != "" {
		req.SetBasicAuth("any", token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp := result(tr.RoundTrip(req))(s.t)
	defer resp.Body.Close()
	text := result(io.ReadAll(resp.Body))(s.t)
	return reply{resp.StatusCode, resp.Header}, string(text)
}

func invented(i int) string { return fmt.Sprintf("skep_%043d", i) }

const gitRefs = "/default/demo.git/info/refs?service=git-upload-pack"

// TestRateLimits: each limit lets through as many as it says and no more, and counts only what it is for.
func TestRateLimits(t *testing.T) {
	const most = 3
	tests := []struct {
		limit, method, path string
		guest               bool
		other               string // is still answered
	}{
		{"guest", "GET", gitRefs, true, ""},
		{"guest", "GET", "/api/v2/repos", true, ""},
		{"git", "GET", gitRefs, false, "/api/v2/whoami"},
		{"api-read", "GET", "/api/v2/whoami", false, gitRefs},
		{"api-write", "POST", "/api/v2/tokens", false, "/api/v2/whoami"},
		{"tenant", "GET", gitRefs, false, "/api/v2/whoami"},
		{"tenant", "GET", "/api/v2/repos/default%2Fdemo/refs", false, "/api/v2/whoami"},
	}
	for _, tt := range tests {
		t.Run(tt.limit+" "+tt.path, func(t *testing.T) {
			s := startLimited(t, map[string]limit.Quota{tt.limit: {Events: most, Per: time.Hour}})
			s.makeRepo("demo")
			token := s.admin
			if tt.guest {
				token = ""
			}
			ask := func() (reply, string) {
				return s.do(tt.method, tt.path, token, strings.NewReader(`{}`), "Content-Type", "application/json")
			}
			for i := range most {
				if resp, text := ask(); resp.StatusCode/100 != 2 {
					t.Fatalf("request %d = %d %s", i, resp.StatusCode, text)
				}
			}
			resp, text := ask()
			if resp.StatusCode != http.StatusTooManyRequests {
				t.Fatalf("request %d = %d %s, want 429", most, resp.StatusCode, text)
			}
			checkRefusal(t, tt.limit, most, resp, text)
			if strings.HasPrefix(tt.path, "/api/") && !strings.Contains(text, `"urn:skep:problem:rate-limited"`) {
				t.Errorf("the problem is %s", text)
			}
			if !strings.Contains(text, "limit "+tt.limit) {
				t.Errorf("the text does not name the limit: %s", text)
			}
			if tt.other != "" {
				if resp, text := s.do("GET", tt.other, s.admin, nil); resp.StatusCode != http.StatusOK {
					t.Errorf("%s = %d %s as well", tt.other, resp.StatusCode, text)
				}
			}
			if _, text := s.do("GET", "/metrics", "", nil); !strings.Contains(text, `skep_http_rate_limited_total{limit="`+tt.limit+`"} 1`) {
				t.Error("the metrics do not say so")
			}
		})
	}
}

// makeRepo makes a public repository without a request.
func (s *site) makeRepo(name string) {
	s.t.Helper()
	d := result(s.control.TenantByPath(s.t.Context(), "default"))(s.t)
	if err := s.server.MakeRepo(s.t.Context(), d.ID, name, true); err != nil {
		s.t.Fatal(err)
	}
}

// checkRefusal checks the headers of a 429.
func checkRefusal(t *testing.T, name string, most int, resp reply, text string) {
	t.Helper()
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || after < 1 || after > 3600*9/8 || !strings.Contains(text, fmt.Sprintf("in %d s", after)) {
		t.Errorf("Retry-After: %q, %s", resp.Header.Get("Retry-After"), text)
	}
	if got, want := resp.Header.Get("RateLimit"), fmt.Sprintf("%q;r=0;t=%d", name, after); got != want {
		t.Errorf("RateLimit: %s, want %s", got, want)
	}
	if got, want := resp.Header.Get("RateLimit-Policy"), fmt.Sprintf("%q;q=%d;w=3600", name, most); got != want {
		t.Errorf("RateLimit-Policy: %s, want %s", got, want)
	}
}

// TestRateLimitsAreAnnounced: the API says what remains before it is used up.
func TestRateLimitsAreAnnounced(t *testing.T) {
	s := startLimited(t, map[string]limit.Quota{"api-read": {Events: 100, Per: time.Hour}})
	for want := 99; want > 96; want-- {
		resp, _ := s.do("GET", "/api/v2/whoami", s.admin, nil)
		got := resp.Header.Get("RateLimit")
		if !strings.HasPrefix(got, fmt.Sprintf(`"api-read";r=%d;t=`, want)) || resp.Header.Get("Retry-After") != "" {
			t.Errorf("RateLimit: %s, want r=%d", got, want)
		}
	}
}

// TestClientTellsOfRateLimits: the Go client can tell them from overload.
func TestClientTellsOfRateLimits(t *testing.T) {
	s := startLimited(t, map[string]limit.Quota{"api-read": {Events: 1, Per: time.Hour}})
	if _, err := s.api(s.admin).Whoami(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := s.api(s.admin).Whoami(t.Context())
	if !errors.Is(err, errkind.RateLimited) || errors.Is(err, errkind.Unavailable) {
		t.Errorf("%v, want errkind.RateLimited", err)
	}
}

// TestGitTellsOfRateLimits: a person at a terminal reads why.
func TestGitTellsOfRateLimits(t *testing.T) {
	s := startLimited(t, map[string]limit.Quota{"git": {Events: 1, Per: time.Hour}})
	s.repo("default", "demo", client.Private)
	out, err := tryGit(t, t.TempDir(), "ls-remote", s.remote(s.admin, "default/demo"))
	for i := 0; i < 3 && err == nil; i++ {
		out, err = tryGit(t, t.TempDir(), "ls-remote", s.remote(s.admin, "default/demo"))
	}
	if err == nil || !strings.Contains(out, "too many requests") && !strings.Contains(out, "429") {
		t.Errorf("git says %q, %v", out, err)
	}
	out, _ = tryGit(t, t.TempDir(), "ls-remote", s.remote(s.admin, "default/demo"))
	if !strings.Contains(out, "too many requests (limit git): try again in ") {
		t.Errorf("git says %q", out)
	}
}

// TestGuessing is an attack: wrong credentials, one after the other. After some the server looks at no more of them, not even
// at a good one that it sees for the first time: a guess that is right must not stand out. Whoever was let in from
// there before, and whoever is elsewhere, notices nothing.
func TestGuessing(t *testing.T) {
	const most = 5
	s := startLimited(t, map[string]limit.Quota{"failed-auth": {Events: most, Per: time.Hour}})
	fresh := s.member("new", result(s.control.TenantByPath(t.Context(), "default"))(t).ID, policy.Reader)
	const path = "/api/v2/whoami"
	if resp, _ := s.do("GET", path, s.admin, nil); resp.StatusCode != http.StatusOK {
		t.Fatalf("the admin = %d", resp.StatusCode)
	}
	var statuses []int
	for i := range most + 3 {
		header := []string{"Authorization", "Bearer " + invented(i)}
		switch i % 3 { // in any way in which a credential can be presented, or spoilt
		case 1:
			header = []string{"X-API-Key", invented(i)}
		case 2:
			header = []string{"Authorization", "Basic !" + strconv.Itoa(i)}
		}
		resp, text := s.do("GET", path, "", nil, header...)
		statuses = append(statuses, resp.StatusCode)
		if i == most {
			checkRefusal(t, "failed-auth", most, resp, text)
		}
	}
	if want := []int{401, 401, 422, 401, 401, 429, 429, 429}; !slices.Equal(statuses, want) {
		t.Errorf("guesses are answered %v, want %v", statuses, want)
	}
	for name, tt := range map[string]struct {
		addr, token string
		want        int
	}{
		"a good one, never seen from there":   {"127.0.0.1", fresh, 429},
		"one that was good there before":      {"127.0.0.1", s.admin, 200},
		"a good one from elsewhere":           {"127.0.0.2", fresh, 200},
		"a wrong one from elsewhere":          {"127.0.0.3", invented(99), 401},
		"a good one of elsewhere, from there": {"127.0.0.1", fresh, 429},
		"none":                                {"127.0.0.1", "", 401},
	} {
		if resp, text := s.from(tt.addr, "GET", path, tt.token); resp.StatusCode != tt.want {
			t.Errorf("%s = %d %s, want %d", name, resp.StatusCode, text, tt.want)
		}
	}
}

// TestGuestsDoNotUseUpWhatMembersHave: strangers who read what is public have a quota of the tenant of their own.
func TestGuestsDoNotUseUpWhatMembersHave(t *testing.T) {
	s := startLimited(t, map[string]limit.Quota{"tenant": {Events: 2, Per: time.Hour}})
	s.makeRepo("demo")
	for _, want := range []int{200, 200, 429} {
		if resp, _ := s.do("GET", gitRefs, "", nil); resp.StatusCode != want {
			t.Errorf("a guest = %d, want %d", resp.StatusCode, want)
		}
	}
	if resp, _ := s.do("GET", gitRefs, s.admin, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("a member = %d", resp.StatusCode)
	}
}

// TestLimitsTellNothing: at its limit as before, a stranger finds no difference between a private repository and a missing
// one, and does not use up the quota of a tenant that it may not see.
func TestLimitsTellNothing(t *testing.T) {
	s := startLimited(t, map[string]limit.Quota{
		"tenant": {Events: 3, Per: time.Hour}, "git": {Events: 20, Per: time.Hour}, "api-read": {Events: 20, Per: time.Hour},
	})
	s.repo("default", "private", client.Private)
	_, stranger := s.person("steve")
	changes := regexp.MustCompile(`(;r|;t|in )=?\d+`)
	for i := range 25 {
		ask := func(format, name string) string {
			resp, text := s.do("GET", fmt.Sprintf(format, name), stranger, nil)
			for _, k := range []string{"Date", "X-Request-Id", "Retry-After"} {
				resp.Header.Del(k)
			}
			return changes.ReplaceAllString(fmt.Sprint(resp.StatusCode, resp.Header, text), "")
		}
		for _, format := range []string{"/default/%s.git/info/refs?service=git-upload-pack", "/api/v2/repos/default%%2F%s"} {
			if private, missing := ask(format, "private"), ask(format, "missing"); private != missing {
				t.Fatalf("round %d: a private repository answers\n%s\na missing one\n%s", i, private, missing)
			}
		}
	}
	if resp, text := s.do("GET", "/default/private.git/info/refs?service=git-upload-pack", s.admin, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("a member = %d %s after a stranger's questions", resp.StatusCode, text)
	}
}

// TestRateLimitsOff: what is switched off, and who is exempt, is not counted; and neither says anything of limits.
func TestRateLimitsOff(t *testing.T) {
	one := limit.Quota{Events: 1, Per: time.Hour}
	off := map[string]limit.Quota{}
	low := map[string]limit.Quota{}
	for _, l := range server.RateLimits() {
		off[l.Name], low[l.Name] = limit.Quota{}, one
	}
	for name, opts := range map[string]server.Options{
		"off": {Rates: off, RateExempt: []netip.Prefix{}}, "exempt": {Rates: low},
	} {
		s := startSite(t, opts)
		s.repo("default", "demo", client.Public)
		for range 3 {
			for _, token := range []string{s.admin, "", invented(1)} {
				for _, path := range []string{gitRefs, "/api/v2/repos"} {
					resp, text := s.do("GET", path, token, nil)
					if resp.StatusCode == http.StatusTooManyRequests || resp.Header.Get("RateLimit") != "" {
						t.Fatalf("%s: %d %s, RateLimit %q", name, resp.StatusCode, text, resp.Header.Get("RateLimit"))
					}
				}
			}
		}
	}
}
