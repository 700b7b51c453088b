package server_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/login"
	"github.com/skep-dev/skep/internal/peer"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// withLogin has a provider that nobody asks: sessions are made without it here, and with a real one in e2e.
func withLogin(t *testing.T) server.Options {
	t.Helper()
	p := result(login.New(login.Config{ID: "corp", Issuer: "https://id.example.org", ClientID: "skep"}, http.DefaultClient))(t)
	return server.Options{Logins: []*login.Provider{p}}
}

// browser is somebody logged in: the cookie's header.
func (s *site) browser(name string) (who control.Principal, session control.Session, cookie string) {
	s.t.Helper()
	who = result(s.control.CreatePrincipal(s.t.Context(), name, policy.Human, false))(s.t)
	session, secret, err := s.control.CreateSession(s.t.Context(), control.Session{Principal: who.ID, Address: "192.0.2.1", Agent: "Browser"})
	return who, result(session, err)(s.t), "skep_session=" + secret
}

func TestSessionIsAPrincipal(t *testing.T) {
	s := startSite(t, withLogin(t))
	who, session, cookie := s.browser("alice")
	got, text := s.do(http.MethodGet, "/api/v2/whoami", "", nil, "Cookie", cookie)
	var identity client.Identity
	if err := json.Unmarshal([]byte(text), &identity); err != nil || got.StatusCode != http.StatusOK || identity.Principal != who.ID || identity.Scope != policy.ScopeAdmin {
		t.Errorf("whoami = %d %s", got.StatusCode, text)
	}
	// Another credential in the request is the one that counts.
	_, bob := s.person("bob")
	if _, text := s.do(http.MethodGet, "/api/v2/whoami", bob, nil, "Cookie", cookie); !strings.Contains(text, `"bob"`) {
		t.Errorf("with a token besides, whoami = %s", text)
	}
	// A token that a session makes does not outlive it.
	_, text = s.do(http.MethodPost, "/api/v2/tokens", "", strings.NewReader(`{"scope":"write","ttl":"100d"}`), "Cookie", cookie, "Content-Type", "application/json")
	var made client.CreatedToken
	if err := json.Unmarshal([]byte(text), &made); err != nil || made.ExpiresAt == nil || !made.ExpiresAt.Equal(session.Expires) {
		t.Errorf("a session made the token %s, and ends %s", text, session.Expires)
	}
	got, text = s.do(http.MethodGet, "/api/v2/sessions", "", nil, "Cookie", cookie)
	var list client.Page[client.Session]
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list.Items) != 1 || list.Items[0].ID != session.ID || !list.Items[0].Current {
		t.Errorf("sessions = %d %s", got.StatusCode, text)
	}
	if got, _ := s.do(http.MethodDelete, "/api/v2/sessions/"+string(session.ID), "", nil, "Cookie", cookie); got.StatusCode != http.StatusNoContent {
		t.Errorf("a session ends itself: %d", got.StatusCode)
	}
	got, text = s.do(http.MethodGet, "/api/v2/whoami", "", nil, "Cookie", cookie)
	if got.StatusCode != http.StatusUnauthorized || !strings.Contains(text, "log in again") || !strings.Contains(got.Header.Get("Set-Cookie"), "skep_session=;") {
		t.Errorf("after its end, whoami = %d %s %s", got.StatusCode, text, got.Header)
	}
}

// TestCookieOfAnotherOrigin is an attack: a page elsewhere makes a browser use its cookie. Also a site that may use the API with a
// token of its own may not use what the browser remembers.
func TestCookieOfAnotherOrigin(t *testing.T) {
	const friend = "https://app.example.org"
	opts := withLogin(t)
	opts.Origins = []string{friend}
	s := startSite(t, opts)
	_, session, cookie := s.browser("alice")
	tests := []struct {
		name    string
		headers []string
		refused bool
	}{
		{"the same origin", []string{"Sec-Fetch-Site", "same-origin"}, false},
		{"no browser", nil, false},
		{"the same origin, by an older browser", []string{"Origin", s.url}, false},
		{"another site", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, true},
		{"another origin of the same site", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:1"}, true},
		{"another site, by an older browser", []string{"Origin", "https://evil.example"}, true},
		{"a frame without an origin", []string{"Origin", "null"}, true},
		{"a friend's site", []string{"Sec-Fetch-Site", "cross-site", "Origin", friend}, true},
		{"a friend's site, by an older browser", []string{"Origin", friend}, true},
	}
	for _, tt := range tests {
		for _, to := range []struct{ method, path, body string }{
			{http.MethodPost, "/api/v2/tokens", `{"scope":"write"}`},
			{http.MethodPut, "/api/v2/principals/alice", `{}`},
			{http.MethodDelete, "/api/v2/tokens/tok_01jd4x5vwr9ab3k6m0q7z2c8ye", ""},
			{http.MethodPost, "/login/device", "user_code=BCDFGHJK&answer=deny"},
		} {
			kind := "application/json"
			if to.path == "/login/device" {
				kind = "application/x-www-form-urlencoded"
			}
			got, text := s.do(to.method, to.path, "", strings.NewReader(to.body), append([]string{"Cookie", cookie, "Content-Type", kind}, tt.headers...)...)
			if refused := got.StatusCode == http.StatusForbidden && strings.Contains(text, "page of another site"); refused != tt.refused {
				t.Errorf("%s: %s %s = %d %s, refused %v", tt.name, to.method, to.path, got.StatusCode, text, refused)
			}
		}
	}
	if got, _ := s.do(http.MethodGet, "/api/v2/whoami", "", nil, "Cookie", cookie, "Origin", friend); got.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Error("another site may read what a session may")
	}
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", friend}} {
		if got, _ := s.do(http.MethodPost, "/logout", "", nil, append(header, "Cookie", cookie)...); got.StatusCode != http.StatusForbidden {
			t.Errorf("another site logs alice out: %d", got.StatusCode)
		}
	}
	if _, err := s.control.SessionByID(t.Context(), session.ID); err != nil {
		t.Errorf("the session is gone: %v", err)
	}
}

// TestCookieAttributes: over TLS the cookie has a name that browsers take from this host alone. Without TLS, only who is on the
// same machine logs in.
func TestCookieAttributes(t *testing.T) {
	opts := withLogin(t)
	opts.Proxies = peer.Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	s := startSite(t, opts)
	_, _, cookie := s.browser("alice")
	over := []string{"X-Forwarded-Proto", "https", "X-Forwarded-For", "192.0.2.7"}
	if got, _ := s.do(http.MethodGet, "/api/v2/whoami", "", nil, append(over, "Cookie", cookie)...); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("over TLS, a cookie that plain HTTP could have set = %d", got.StatusCode)
	}
	if got, text := s.do(http.MethodGet, "/api/v2/whoami", "", nil, append(over, "Cookie", "__Host-"+cookie)...); got.StatusCode != http.StatusOK {
		t.Errorf("over TLS, whoami = %d %s", got.StatusCode, text)
	}
	got, _ := s.do(http.MethodPost, "/logout", "", nil, append(over, "Cookie", "__Host-"+cookie)...)
	if set := got.Header.Get("Set-Cookie"); !strings.HasPrefix(set, "__Host-skep_session=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax") {
		t.Errorf("Set-Cookie: %s", set)
	}
	req := result(http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/login", nil))(t)
	req.Host = "git.example.org"
	resp := result(http.DefaultClient.Do(req))(t)
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusForbidden {
		t.Errorf("login over plain HTTP from elsewhere = %d", resp.StatusCode)
	}
}

// TestPagesSayLittle: what browsers are told of a page, and that nothing of a request comes back as HTML.
func TestPagesSayLittle(t *testing.T) {
	s := startSite(t, withLogin(t))
	const evil = `"><script>alert(1)</script>`
	for _, path := range []string{"/login", "/login?to=" + url.QueryEscape("/"+evil), "/login/start/" + url.PathEscape(evil), "/login/callback/corp?error=" + url.QueryEscape(evil), "/login/nothing"} {
		got, text := s.do(http.MethodGet, path, "", nil)
		h := got.Header
		if strings.Contains(text, "<script") || !strings.Contains(h.Get("Content-Type"), "text/html") || h.Get("Cache-Control") != "no-store" ||
			!strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'; style-src 'self'; form-action 'self'") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s = %d %v\n%s", path, got.StatusCode, h, text)
		}
	}
	if got, _ := s.do(http.MethodGet, "/login/style.css", "", nil); got.StatusCode != http.StatusOK || !strings.Contains(got.Header.Get("Content-Type"), "text/css") {
		t.Errorf("style sheet = %d", got.StatusCode)
	}
	if got, _ := s.do(http.MethodGet, "/logout", "", nil); got.StatusCode != http.StatusNotFound {
		t.Errorf("a link logs out: %d", got.StatusCode)
	}
}

// deviceAsk makes a terminal's request.
func (s *site) deviceAsk(path string, form url.Values) (reply, client.DeviceError, client.DeviceToken, client.DeviceCode) {
	s.t.Helper()
	got, text := s.do(http.MethodPost, path, "", strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
	var failure client.DeviceError
	var token client.DeviceToken
	var code client.DeviceCode
	for _, v := range []any{&failure, &token, &code} {
		if err := json.Unmarshal([]byte(text), v); err != nil {
			s.t.Fatalf("%s = %d %s", path, got.StatusCode, text)
		}
	}
	return got, failure, token, code
}

// TestDeviceWords: a terminal is answered in the words of RFC 8628 and RFC 6749.
func TestDeviceWords(t *testing.T) {
	s := startSite(t, withLogin(t))
	who, _, _ := s.browser("alice")
	begin := func() client.DeviceCode {
		t.Helper()
		got, _, _, code := s.deviceAsk("/login/device/code", url.Values{"device_name": {"laptop"}})
		if got.StatusCode != http.StatusOK || code.Interval < 1 || code.ExpiresIn != 600 || code.VerificationURI != s.url+"/login/device" ||
			code.VerificationURIComplete != s.url+"/login/device?user_code="+code.UserCode || got.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("code = %d %+v", got.StatusCode, code)
		}
		return code
	}
	const grant = "urn:ietf:params:oauth:grant-type:device_code"
	want := func(what, word string, form url.Values) client.DeviceToken {
		t.Helper()
		got, failure, token, _ := s.deviceAsk("/login/device/token", form)
		if ok := got.StatusCode == http.StatusOK; failure.Code != word || ok != (word == "") || !ok && got.StatusCode != http.StatusBadRequest {
			t.Errorf("%s = %d %+v, want %q", what, got.StatusCode, failure, word)
		}
		return token
	}
	ask := func(code client.DeviceCode) url.Values {
		return url.Values{"grant_type": {grant}, "device_code": {code.DeviceCode}, "client_id": {"skep"}}
	}
	waits := begin()
	want("nobody has answered", "authorization_pending", ask(waits))
	want("at once again", "slow_down", ask(waits))
	denied := begin()
	if err := s.control.AnswerDevice(t.Context(), denied.UserCode, who.ID, false); err != nil {
		t.Fatal(err)
	}
	want("denied", "access_denied", ask(denied))
	allowed := begin()
	if err := s.control.AnswerDevice(t.Context(), allowed.UserCode, who.ID, true); err != nil {
		t.Fatal(err)
	}
	token := want("allowed", "", ask(allowed))
	if token.TokenType != "Bearer" || token.ExpiresIn != 30*24*3600 || token.Scope != "write" {
		t.Errorf("token = %+v", token)
	}
	if got := result(s.api(token.AccessToken).Whoami(t.Context()))(t); got.Principal != who.ID {
		t.Errorf("the token is %+v's", got)
	}
	want("no such code", "expired_token", ask(client.DeviceCode{DeviceCode: strings.Repeat("A", 43)}))
	want("the person's code in place of the terminal's", "expired_token", ask(client.DeviceCode{DeviceCode: waits.UserCode}))
	want("another grant", "unsupported_grant_type", url.Values{"grant_type": {"authorization_code"}, "device_code": {waits.DeviceCode}})
	if got, failure, _, _ := s.deviceAsk("/login/device/code", url.Values{"scope": {"everything"}}); got.StatusCode != http.StatusUnprocessableEntity || failure.Code != "invalid_request" {
		t.Errorf("a scope that there is not = %d %+v", got.StatusCode, failure)
	}
	got, text := s.do(http.MethodPost, "/login/device/code", "", strings.NewReader("device_name="+strings.Repeat("x", 100<<10)), "Content-Type", "application/x-www-form-urlencoded")
	if got.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a form without end = %d %s", got.StatusCode, text)
	}
}

// TestLoginIsLimited: one address does not begin logins without end.
func TestLoginIsLimited(t *testing.T) {
	opts := withLogin(t)
	opts.RateExempt = []netip.Prefix{}
	s := startSite(t, opts)
	refused := false
	for range 70 {
		got, _, _, _ := s.deviceAsk("/login/device/code", url.Values{})
		if refused = got.StatusCode == http.StatusTooManyRequests; refused {
			if got.Header.Get("Retry-After") == "" {
				t.Error("it is not said when to come back")
			}
			break
		}
	}
	if !refused {
		t.Error("nothing stops it")
	}
	if got, text := s.do(http.MethodGet, "/login/start/corp", "", nil); got.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a browser of the same address = %d %s", got.StatusCode, text)
	}
}

// TestGuessedSessionsAreLimited: wrong cookies count like wrong tokens.
func TestGuessedSessionsAreLimited(t *testing.T) {
	opts := withLogin(t)
	opts.RateExempt = []netip.Prefix{}
	s := startSite(t, opts)
	last := 0
	for i := range 40 {
		guess := strings.Repeat(string(rune('a'+i%26)), 42) + string(rune('A'+i/26))
		got, _ := s.do(http.MethodGet, "/api/v2/whoami", "", nil, "Cookie", "skep_session="+guess)
		last = got.StatusCode
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("after 40 wrong cookies the answer is %d", last)
	}
}

func TestSessionsOverREST(t *testing.T) {
	s := startSite(t, withLogin(t))
	who, session, cookie := s.browser("alice")
	_, mallory := s.person("mallory")
	ctx := t.Context()
	if list := result(s.api(s.admin).Sessions(ctx, "alice", "", 10))(t); len(list.Items) != 1 || list.Items[0].ID != session.ID || list.Items[0].Principal != who.ID || list.Items[0].Current {
		t.Errorf("sessions = %+v", list)
	}
	if _, err := s.api(mallory).Sessions(ctx, "alice", "", 10); !errors.Is(err, errkind.Forbidden) {
		t.Errorf("mallory lists alice's sessions: %v", err)
	}
	hers, none := s.api(mallory).RevokeSession(ctx, session.ID), s.api(mallory).RevokeSession(ctx, id.NewSession())
	if !errors.Is(hers, errkind.NotFound) || hers.Error() != none.Error() {
		t.Errorf("mallory ends alice's session: %v; and one that there is not: %v", hers, none)
	}
	if err := s.api(s.admin).RevokeSession(ctx, session.ID); err != nil {
		t.Errorf("the administrator ends it: %v", err)
	}
	if got, _ := s.do(http.MethodGet, "/api/v2/whoami", "", nil, "Cookie", cookie); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("afterwards whoami = %d", got.StatusCode)
	}
}

func TestIdentitiesOverREST(t *testing.T) {
	s := startSite(t, withLogin(t))
	_, alice := s.person("alice")
	ctx := t.Context()
	link := client.LinkIdentity{Issuer: "https://id.example.org", Subject: "a/1?x"}
	if _, err := s.api(alice).LinkIdentity(ctx, "alice", link); !errors.Is(err, errkind.Forbidden) {
		t.Errorf("alice links herself: %v", err)
	}
	if _, err := s.api(s.admin).LinkIdentity(ctx, "alice", link); err != nil {
		t.Fatal(err)
	}
	if _, err := s.api(s.admin).LinkIdentity(ctx, "admin", link); !errors.Is(err, errkind.Exists) {
		t.Errorf("a second link: %v", err)
	}
	if list := result(s.api(alice).Identities(ctx, "alice"))(t); len(list) != 1 || list[0].Subject != link.Subject || list[0].UsedAt != nil {
		t.Errorf("identities = %+v", list)
	}
	if err := s.api(s.admin).UnlinkIdentity(ctx, "alice", link); err != nil {
		t.Fatal(err)
	}
	if err := s.api(s.admin).UnlinkIdentity(ctx, "alice", link); !errors.Is(err, errkind.NotFound) {
		t.Errorf("a second time: %v", err)
	}
}
