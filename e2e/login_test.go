package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

func base64Raw(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// forged is a login's ticket in which one field is another.
func forged(t *testing.T, ticket, field string, value any) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(ticket)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	if fields[field] == nil {
		t.Fatalf("a ticket has no field %q: %s", field, text)
	}
	fields[field] = value
	out, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return base64Raw(string(out))
}

// TestLogin: people log in with a real browser at a real provider.
func TestLogin(t *testing.T) {
	c := newCompany(t)
	c.link("alice", 1)
	if out, err := c.skep("tenant", "grant", "default", "alice", "writer"); err != nil {
		t.Fatalf("grant: %v\n%s", err, out)
	}
	c.noise("source", 1000)
	c.git("source", "push", "-q", c.remote("demo"), "main")

	t.Run("browser", c.browserLogin)
	t.Run("terminal", c.terminalLogin)
	t.Run("terminal denied", c.terminalDenied)
	t.Run("terminal with a mistyped code", c.mistypedCode)
}

func (c *company) browserLogin(t *testing.T) {
	c = c.in(t)
	b := newBrowser(t)
	b.login(c, "alice", c.url+"/login")
	b.do("arrive", heading("You are logged in"))
	// Pages may not run scripts nor ask for anything; a visit to the API's address is what remains.
	b.do("ask the API", chromedp.Navigate(c.url+"/api/v2/whoami"))
	text := b.text()
	var who struct{ Name, Scope string }
	if err := json.Unmarshal([]byte(text), &who); err != nil || who.Name != "alice" || who.Scope != "admin" {
		t.Fatalf("whoami = %s", text)
	}
	list, err := c.skep("session", "list", "--principal", "alice")
	if err != nil || !strings.Contains(list, "ses_") || !strings.Contains(list, "HeadlessChrome") {
		t.Errorf("session list: %v\n%s", err, list)
	}
	b.do("log out", chromedp.Navigate(c.url+"/login"), heading("You are logged in"), chromedp.Click(chromedp.CSS("form[action='/logout'] button")),
		heading("You are logged out"))
	b.do("come again", chromedp.Navigate(c.url+"/login/done"), heading("Log in"))
	if list, err = c.skep("session", "list", "--principal", "alice"); err != nil || strings.Contains(list, "ses_") {
		t.Errorf("session list after logging out: %v\n%s", err, list)
	}
}

var (
	shownURL  = regexp.MustCompile(`http://127\.0\.0\.1:\d+/login/device\?user_code=\S+`)
	shownCode = regexp.MustCompile(`(?m)^ +([B-Z]{4}-[B-Z]{4})$`)
)

// awaitText waits until a program has said something.
func awaitText(t *testing.T, out *lockedBuffer, re *regexp.Regexp) string {
	t.Helper()
	for late := time.Now().Add(patience); time.Now().Before(late); {
		if m := re.FindStringSubmatch(out.String()); m != nil {
			return m[len(m)-1]
		}
	}
	t.Fatalf("%s is not said:\n%s", re, out)
	return ""
}

func (c *company) terminalLogin(t *testing.T) {
	c = c.in(t)
	cmd, out := c.terminal("alice-home", "login", "--web", c.url)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	at, code := awaitText(t, out, shownURL), awaitText(t, out, shownCode)
	b := newBrowser(t)
	b.login(c, "alice", at)
	b.do("arrive", heading("Log this terminal in as you?"))
	page := b.text()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{code, host, "127.0.0.1", "30 days", "read and push as you"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
	b.do("allow", chromedp.Click(chromedp.CSS("button[value=allow]")), heading("Your terminal is logged in"))
	if err := cmd.Wait(); err != nil {
		t.Fatalf("skep login --web: %v\n%s", err, out)
	}
	if !strings.Contains(out.String(), "Logged in to "+c.url+" as alice.") {
		t.Errorf("skep said:\n%s", out)
	}
	stored, err := os.ReadFile(filepath.Join(c.path("alice-home"), "skep", "login.json"))
	if err != nil {
		t.Fatal(err)
	}
	var login struct{ URL, Token string }
	if err := json.Unmarshal(stored, &login); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), login.Token) || strings.Contains(c.out.String(), login.Token) {
		t.Error("the token was printed")
	}
	c.git(".", "clone", "-q", c.withToken(login.Token)+"/default/demo.git", "cloned")
	c.same("cloned", "cloned")
	list, err := c.skep("token", "list", "--principal", "alice")
	if err != nil || !strings.Contains(list, "skep login on "+host) || !strings.Contains(list, "write") {
		t.Errorf("token list: %v\n%s", err, list)
	}
}

func (c *company) terminalDenied(t *testing.T) {
	c = c.in(t)
	cmd, out := c.terminal("denied-home", "login", "--web", "--scope", "admin", c.url)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	at := awaitText(t, out, shownURL)
	b := newBrowser(t)
	b.login(c, "alice", at)
	b.do("deny", heading("Log this terminal in as you?"), chromedp.WaitVisible(`//dd[contains(., "everything that you can")]`),
		chromedp.Click(chromedp.CSS("button[value=deny]")), heading("Denied"))
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 4 {
		t.Errorf("skep login --web ended with %v", err)
	}
	if !strings.Contains(out.String(), "skep: log in: the request was denied\n") {
		t.Errorf("skep said:\n%s", out)
	}
	if _, err := os.Stat(filepath.Join(c.path("denied-home"), "skep")); err == nil {
		t.Error("something was stored")
	}
}

func (c *company) mistypedCode(t *testing.T) {
	c = c.in(t)
	b := newBrowser(t)
	b.login(c, "alice", c.url+"/login/device")
	b.do("type", heading("Log a terminal in"), chromedp.SendKeys(chromedp.CSS("#code"), "bcdf ghjk"), chromedp.Click(chromedp.CSS("form[action='/login/device'] button")),
		chromedp.WaitVisible(`//p[@role="alert"][contains(., "No terminal waits with this code")]`))
}

// TestFirstLogin: who becomes whom is the operator's to say, and never the provider's.
func TestFirstLogin(t *testing.T) {
	t.Run("linked only", func(t *testing.T) {
		c := newCompany(t)
		s := c.surfer()
		page := s.login("alice")
		if page.status != http.StatusForbidden || !strings.Contains(page.text, "skep principal link NAME") || !strings.Contains(page.text, subject(1)) || s.whoami() != "" {
			t.Errorf("somebody unknown got %d:\n%s", page.status, page.text)
		}
		c.link("alice", 1)
		if s.login("alice"); s.whoami() != "alice" {
			t.Error("after the link alice is not let in")
		}
	})
	t.Run("create", func(t *testing.T) {
		c := newCompany(t, "--oidc-create")
		s := c.surfer()
		if s.login("alice"); s.whoami() != "alice@example.test" {
			t.Fatalf("the first login made %q", s.whoami())
		}
		if v := s.get("/api/v2/repos?limit=10"); v.status != http.StatusOK || !strings.Contains(v.text, `"items":[]`) {
			t.Errorf("somebody new sees %d %s", v.status, v.text)
		}
		// A name that is taken stays with whom it belongs.
		if out, err := c.skep("principal", "create", "Mallory@example.test"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		m := c.surfer()
		if page := m.login("mallory"); page.status != http.StatusForbidden || !strings.Contains(page.text, "has that name already") || m.whoami() != "" {
			t.Errorf("who has a name that is taken got %d:\n%s", page.status, page.text)
		}
	})
	t.Run("a provider that is away", func(t *testing.T) {
		w := newWorldWith(t, "--oidc-issuer", "http://127.0.0.1:"+freePort(t), "--oidc-client-id", "skep", "--outbound-allow", "127.0.0.1")
		c := &company{world: w}
		if page := c.surfer().get("/login/start/oidc"); page.status != http.StatusServiceUnavailable || page.header.Get("Retry-After") == "" {
			t.Errorf("answered %d:\n%s", page.status, page.text)
		}
	})
	t.Run("a provider at a private address", func(t *testing.T) {
		w := newWorldWith(t, "--oidc-issuer", "http://127.0.0.1:"+freePort(t), "--oidc-client-id", "skep")
		c := &company{world: w}
		if page := c.surfer().get("/login/start/oidc"); page.status != http.StatusServiceUnavailable {
			t.Errorf("answered %d:\n%s", page.status, page.text)
		}
		if err := w.stop(); err != nil { // which writes the rest of the log
			t.Fatal(err)
		}
		if !strings.Contains(w.out.String(), "login provider cannot be used") {
			t.Errorf("the log says nothing of it:\n%s", w.out)
		}
	})
	t.Run("no provider", func(t *testing.T) {
		w := newWorld(t)
		c := &company{world: w}
		if page := c.surfer().get("/login"); page.status != http.StatusNotFound || !strings.Contains(page.text, "no login for people") {
			t.Errorf("answered %d:\n%s", page.status, page.text)
		}
		cmd, out := c.terminal("nowhere", "login", "--web", w.url)
		if err := cmd.Run(); err == nil || !strings.Contains(out.String(), "no login for people") {
			t.Errorf("skep login --web: %v\n%s", err, out)
		}
	})
}

// newWorldWith is newWorld with flags for the server.
func newWorldWith(t *testing.T, flags ...string) *world {
	t.Helper()
	w := newWorld(t)
	w.kill()
	if err := w.start(flags...); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestLoginAttacks: what mallory tries, who has an account at the provider and here, and sites that she can make alice open.
func TestLoginAttacks(t *testing.T) {
	c := newCompany(t)
	c.link("alice", 1)
	c.link("mallory", 2)

	t.Run("forged state", func(t *testing.T) {
		c := c.in(t)
		// Everything else in the answer is right, and the ticket is this browser's.
		for _, forge := range []func(string) string{
			func(string) string { return "" },
			func(string) string { return "x" },
			func(state string) string { return state + "A" },
			func(state string) string { return state[1:] },
			strings.ToLower,
		} {
			s := c.surfer()
			callback, err := url.Parse(s.atProvider("alice", "/"))
			if err != nil {
				t.Fatal(err)
			}
			q := callback.Query()
			q.Set("state", forge(q.Get("state")))
			if v := s.get("/login/callback/oidc?" + q.Encode()); v.status != http.StatusUnprocessableEntity || s.whoami() != "" {
				t.Errorf("state %q got %d", q.Get("state"), v.status)
			}
		}
	})
	t.Run("callback of another browser", func(t *testing.T) {
		c := c.in(t)
		// Mallory's answer from the provider, opened by alice, would make alice work in mallory's account.
		callback := c.surfer().atProvider("mallory", "/")
		alice := c.surfer()
		if v := alice.get(callback); v.status < 400 || alice.whoami() != "" {
			t.Errorf("a browser that began nothing got %d", v.status)
		}
		busy := c.surfer()
		busy.atProvider("alice", "/")
		if v := busy.get(callback); v.status < 400 || busy.whoami() != "" {
			t.Errorf("a browser that began another login got %d", v.status)
		}
	})
	t.Run("replayed code", func(t *testing.T) {
		c := c.in(t)
		s := c.surfer()
		callback := s.atProvider("alice", "/")
		ticket := s.cookie("skep_login")
		if s.get(callback); s.whoami() != "alice" {
			t.Fatal("alice is not let in")
		}
		if v := s.get(callback); v.status < 400 {
			t.Errorf("the same answer a second time got %d", v.status)
		}
		thief := c.surfer() // has read alice's address line, and even her ticket
		if v := thief.get(callback); v.status < 400 || thief.whoami() != "" {
			t.Errorf("the code in another browser got %d", v.status)
		}
		thief.setCookie("skep_login", ticket)
		if v := thief.get(callback); v.status < 400 || thief.whoami() != "" {
			t.Errorf("the code with a stolen ticket got %d", v.status)
		}
	})
	t.Run("code without its verifier", func(t *testing.T) {
		c := c.in(t)
		// Whoever has the code and the state, but not what PKCE keeps back.
		s := c.surfer()
		callback := s.atProvider("alice", "/")
		thief := c.surfer()
		thief.setCookie("skep_login", forged(t, s.cookie("skep_login"), "v", strings.Repeat("a", 43)))
		if v := thief.get(callback); v.status < 400 || thief.whoami() != "" {
			t.Errorf("a code without its verifier got %d", v.status)
		}
	})
	t.Run("nonce of another login", func(t *testing.T) {
		c := c.in(t)
		s := c.surfer()
		callback := s.atProvider("alice", "/")
		s.setCookie("skep_login", forged(t, s.cookie("skep_login"), "n", "another"))
		if v := s.get(callback); v.status < 400 || s.whoami() != "" {
			t.Errorf("an ID token of another login got %d", v.status)
		}
	})
	t.Run("old ticket", func(t *testing.T) {
		c := c.in(t)
		s := c.surfer()
		callback := s.atProvider("alice", "/")
		ticket := s.cookie("skep_login")
		for _, began := range []int64{0, time.Now().Add(-11 * time.Minute).Unix(), time.Now().Add(time.Hour).Unix()} {
			s.setCookie("skep_login", forged(t, ticket, "b", began))
			if v := s.get(callback); v.status < 400 || s.whoami() != "" {
				t.Errorf("a ticket of %v got %d", time.Unix(began, 0), v.status)
			}
		}
	})
	t.Run("open redirect", func(t *testing.T) {
		c := c.in(t)
		for _, to := range []string{
			"https://evil.example/", "//evil.example/", "///evil.example", `/\evil.example`, `\\evil.example`, "/\t/evil.example", "https:evil.example",
			"javascript:alert(1)", "/login/../..//evil.example", "/%09/evil.example", " //evil.example", "http://127.0.0.1@evil.example/",
		} {
			s := c.surfer()
			callback := s.atProvider("alice", to)
			s.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			v := s.get(callback)
			at, err := url.Parse(v.header.Get("Location"))
			if err != nil || v.status != http.StatusSeeOther || at.IsAbs() || at.Host != "" || !strings.HasPrefix(at.Path, "/") || strings.HasPrefix(at.Path, "//") {
				t.Errorf("to=%q led to %q", to, v.header.Get("Location"))
			}
		}
	})
	t.Run("session fixation", func(t *testing.T) {
		c := c.in(t)
		// Mallory plants a session that she knows in alice's browser: her own, or one that she made up.
		mallory := c.surfer()
		mallory.login("mallory")
		for _, planted := range []string{mallory.cookie("skep_session"), strings.Repeat("A", 43)} {
			alice := c.surfer()
			alice.setCookie("skep_session", planted)
			alice.login("alice")
			if now := alice.cookie("skep_session"); now == planted || alice.whoami() != "alice" {
				t.Errorf("after the login the session is %q of %s", now, alice.whoami())
			}
			thief := c.surfer()
			thief.setCookie("skep_session", planted)
			if who := thief.whoami(); who == "alice" {
				t.Errorf("the planted session became %s's", who)
			}
		}
	})
	t.Run("foreign cookie", c.foreignCookie)
	t.Run("another's session", c.anothersSession)
	t.Run("another site", c.anotherSite)
	t.Run("guessed codes", c.guessedCodes)
}

// foreignCookie: a cookie is good for what the browser does with pages and the API, and for nothing else.
func (c *company) foreignCookie(t *testing.T) {
	c = c.in(t)
	alice := c.surfer()
	alice.login("alice")
	secret := alice.cookie("skep_session")
	if v := alice.get("/default/demo.git/info/refs?service=git-receive-pack"); v.status != http.StatusUnauthorized {
		t.Errorf("git with a cookie = %d", v.status)
	}
	for _, header := range [][2]string{{"Authorization", "Bearer " + secret}, {"X-API-Key", secret}, {"Cookie", "__Host-skep_session=" + secret}, {"Cookie", "skep_session=" + secret + "; skep_session=" + secret}} {
		if v := c.surfer().send(http.MethodGet, "/api/v2/whoami", nil, header[0], header[1]); v.status != http.StatusUnauthorized {
			t.Errorf("%s = %d", header[0], v.status)
		}
	}
	for _, bad := range []string{"x", strings.Repeat("A", 43), secret[:42], secret + "A", "skep_" + secret} {
		s := c.surfer()
		s.setCookie("skep_session", bad)
		if who := s.whoami(); who != "" {
			t.Errorf("cookie %q is %s", bad, who)
		}
		if s.cookie("skep_session") != "" {
			t.Errorf("a cookie that is not good stays: %q", bad)
		}
	}
}

func (c *company) anothersSession(t *testing.T) {
	c = c.in(t)
	alice, mallory := c.surfer(), c.surfer()
	alice.login("alice")
	mallory.login("mallory")
	var mine struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(alice.get("/api/v2/sessions").text), &mine); err != nil || len(mine.Items) == 0 {
		t.Fatalf("alice's sessions: %v", err)
	}
	for _, s := range mine.Items {
		hers := mallory.send(http.MethodDelete, "/api/v2/sessions/"+s.ID, nil)
		none := mallory.send(http.MethodDelete, "/api/v2/sessions/ses_01jd4x5vwr9ab3k6m0q7z2c8ye", nil)
		if hers.status != http.StatusNotFound || hers.text != none.text {
			t.Errorf("alice's session = %d %s; one that there is not = %d %s", hers.status, hers.text, none.status, none.text)
		}
	}
	for _, path := range []string{"/api/v2/sessions?principal=alice", "/api/v2/principals/alice/identities", "/api/v2/principals/alice/keys"} {
		if v := mallory.get(path); v.status != http.StatusNotFound && v.status != http.StatusForbidden {
			t.Errorf("%s = %d %s", path, v.status, v.text)
		}
	}
	link := strings.NewReader(`{"issuer":"` + c.provider + `","subject":"x"}`)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"/api/v2/principals/mallory/identities", link)
	req.Header.Set("Content-Type", "application/json")
	resp, err := mallory.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusForbidden {
		t.Errorf("mallory links herself: %d", resp.StatusCode)
	}
	if alice.whoami() != "alice" {
		t.Error("alice is logged out")
	}
}

// anotherSite: a page of mallory's in alice's real browser posts to the server, with alice's cookie as far as the browser sends it.
func (c *company) anotherSite(t *testing.T) {
	c = c.in(t)
	cmd, out := c.terminal("mallory-home", "login", "--web", c.url)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	code := awaitText(t, out, shownCode)
	// localhost is another site than 127.0.0.1; another port of 127.0.0.1 is another origin of the same site, to which cookies go.
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		form := `<form method="post" action="` + c.url + r.URL.Path + `"><input name="user_code" value="` + code + `"><input name="answer" value="allow"><button>win</button></form>`
		_, _ = w.Write([]byte("<!doctype html><h1>Kittens</h1>" + form))
	}))
	defer evil.Close()
	b := newBrowser(t)
	b.login(c, "alice", c.url+"/login")
	b.do("arrive", heading("You are logged in"))
	for _, site := range []string{evil.URL, strings.Replace(evil.URL, "127.0.0.1", "localhost", 1)} {
		for _, path := range []string{"/login/device", "/logout", "/api/v2/tokens"} {
			b.do("post from "+site, chromedp.Navigate(site+path), heading("Kittens"), chromedp.Click(chromedp.CSS("button")),
				chromedp.WaitVisible(`//*[contains(., "page of another site")]`))
			text := b.text()
			if !strings.Contains(text, "page of another site") && !strings.Contains(text, "another site") {
				t.Errorf("%s from %s got %s", path, site, text)
			}
		}
	}
	b.do("ask the API", chromedp.Navigate(c.url+"/api/v2/whoami"))
	text := b.text()
	if !strings.Contains(text, "alice") {
		t.Errorf("another site logged alice out: %s", text)
	}
	// Nor can it frame the page and let alice click.
	v := c.surfer().get("/login")
	if csp := v.header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("the page's policy is %q", csp)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if strings.Contains(out.String(), "Logged in") {
		t.Errorf("mallory's terminal was let in:\n%s", out)
	}
}

// guessedCodes: mallory, logged in, tries codes of others' terminals, and is stopped after a few.
func (c *company) guessedCodes(t *testing.T) {
	c = c.in(t)
	mallory := c.surfer()
	mallory.login("mallory")
	stopped := false
	for range 30 {
		v := mallory.get("/login/device?user_code=BCDF-GHJK")
		if stopped = v.status == http.StatusTooManyRequests; stopped {
			break
		}
		if v.status != http.StatusNotFound {
			t.Fatalf("a guess got %d:\n%s", v.status, v.text)
		}
	}
	if !stopped {
		t.Error("nothing stops the guesses")
	}
	if v := mallory.send(http.MethodPost, "/login/device", url.Values{"user_code": {"BCDF-GHJK"}, "answer": {"allow"}}); v.status != http.StatusTooManyRequests {
		t.Errorf("a guess by form got %d", v.status)
	}
	alice := c.surfer()
	alice.login("alice")
	if v := alice.get("/login/device?user_code=BCDF-GHJK"); v.status != http.StatusNotFound {
		t.Errorf("alice pays for mallory: %d", v.status)
	}
}
