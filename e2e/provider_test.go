package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/crypto/bcrypt"
)

// company is a server whose people log in with a real OpenID Connect provider, dex, which knows alice and mallory.
type company struct {
	*world
	provider string // dex's address
}

const (
	password     = "correct horse"
	clientSecret = "what dex and skep know"
)

// newCompany starts dex and the server.
func newCompany(t *testing.T, flags ...string) *company {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"gitconfig": gitConfig, "secret": clientSecret + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{server: &server{dir: filepath.Join(dir, "data"), env: environment(dir)}, t: t, work: dir}
	t.Cleanup(w.kill)
	addr := "127.0.0.1:" + freePort(t)
	c := &company{world: w, provider: startDex(t, "http://"+addr+"/login/callback/oidc")}
	err := w.start(append([]string{
		"--http", addr, "--oidc-issuer", c.provider, "--oidc-client-id", "skep", "--oidc-client-secret-file", w.path("secret"),
		"--oidc-name", "Example Corp", "--outbound-allow", "127.0.0.1",
	}, flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("skep said:\n%s", w.out)
		}
	})
	return c
}

// needs finds a program that a test cannot do without, by one of its names. Without it the test is left out; with
// SKEP_TEST_ALL=1 it fails.
func needs(t *testing.T, how string, names ...string) string {
	t.Helper()
	for _, n := range names {
		if at, err := exec.LookPath(n); err == nil {
			return at
		}
	}
	if os.Getenv("SKEP_TEST_ALL") == "1" {
		t.Fatalf("%s is missing: %s", names[0], how)
	}
	t.Skipf("%s is missing: %s", names[0], how)
	return ""
}

// in is the company for a test that is a part of another.
func (c *company) in(t *testing.T) *company {
	t.Helper()
	w := *c.world
	w.t = t
	return &company{world: &w, provider: c.provider}
}

// buildDex builds dex, once.
var buildDex = sync.OnceValues(func() (program string, err error) {
	program = filepath.Join(filepath.Dir(binary), "dex")
	build := exec.Command("go", "build", "-modfile=tools/dex/go.mod", "-o", program, "github.com/dexidp/dex/cmd/dex")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=1") // its configuration names SQLite, though this one is in memory
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build dex: %w\n%s", err, out)
	}
	return program, nil
})

// startDex runs dex until the test ends, and waits until it answers.
func startDex(t *testing.T, callbacks ...string) (issuer string) {
	t.Helper()
	dir := t.TempDir()
	needs(t, "install a C compiler and its library, for example gcc and libc6-dev", "gcc", "cc", "clang") // to build dex
	program, err := buildDex()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		t.Fatal(err)
	}
	people := []map[string]string{}
	for i, name := range []string{"alice", "mallory"} {
		people = append(people, map[string]string{
			"email": name + "@example.test", "hash": string(hash), "username": name, "userID": fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1),
		})
	}
	addr := "127.0.0.1:" + freePort(t)
	issuer = "http://" + addr + "/dex"
	config := map[string]any{ // JSON is YAML
		"issuer": issuer, "storage": map[string]any{"type": "memory"}, "web": map[string]any{"http": addr},
		"oauth2": map[string]any{"skipApprovalScreen": true}, "enablePasswordDB": true, "staticPasswords": people,
		"staticClients": []map[string]any{{"id": "skep", "name": "Skep", "secret": clientSecret, "redirectURIs": callbacks}},
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "dex.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	background(t, nil, program, "serve", file)
	for late := time.Now().Add(patience); ; {
		resp, err := http.Get(issuer + "/.well-known/openid-configuration")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return issuer
			}
		}
		if time.Now().After(late) {
			t.Fatalf("dex does not answer: %v", err)
		}
	}
}

// link lets somebody whom dex knows log in as a principal, which is made if need be.
func (c *company) link(name string, number int) {
	c.t.Helper()
	_, _ = c.skep("principal", "create", name)
	if out, err := c.skep("principal", "link", name, "--issuer", c.provider, "--subject", subject(number)); err != nil {
		c.t.Fatalf("link %s: %v\n%s", name, err, out)
	}
}

// subject is what dex calls the person with a number: the user's ID and the connector's in protobuf and base64.
func subject(number int) string {
	user := fmt.Sprintf("00000000-0000-4000-8000-%012d", number)
	return base64Raw("\x0a\x24" + user + "\x12\x05local")
}

// surfer is somebody with a browser of which a test sees every request: an http.Client with cookies.
type surfer struct {
	*http.Client
	t    *testing.T
	site string
}

func (c *company) surfer() *surfer {
	jar, err := cookiejar.New(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return &surfer{t: c.t, site: c.url, Client: &http.Client{Jar: jar, Timeout: patience}}
}

// visit is an answer whose body was read.
type visit struct {
	status int
	header http.Header
	at     *url.URL // after redirects
	text   string
}

func (s *surfer) send(method, address string, form url.Values, headers ...string) visit {
	s.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = s.site + address
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, address, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return visit{resp.StatusCode, resp.Header, resp.Request.URL, string(b)}
}

func (s *surfer) get(address string) visit {
	s.t.Helper()
	return s.send(http.MethodGet, address, nil)
}

// atProvider begins a login and types the password, and stops when dex sends the browser back.
func (s *surfer) atProvider(name, to string) (callback string) {
	s.t.Helper()
	page := s.get("/login/start/oidc?to=" + url.QueryEscape(to))
	if !strings.Contains(page.at.Path, "/auth/local") {
		s.t.Fatalf("the login led to %s (%d):\n%s", page.at, page.status, page.text)
	}
	follow := s.CheckRedirect
	defer func() { s.CheckRedirect = follow }()
	s.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(req.URL.String(), s.site) {
			return http.ErrUseLastResponse
		}
		return nil
	}
	done := s.send(http.MethodPost, page.at.String(), url.Values{"login": {name + "@example.test"}, "password": {password}})
	callback = done.header.Get("Location")
	if !strings.HasPrefix(callback, s.site+"/login/callback/oidc?") {
		s.t.Fatalf("dex sends %s to %q (%d):\n%s", name, callback, done.status, done.text)
	}
	return callback
}

// login goes all the way.
func (s *surfer) login(name string) visit {
	s.t.Helper()
	return s.get(s.atProvider(name, "/login/done"))
}

// whoami is whom the API takes the browser for; "": nobody.
func (s *surfer) whoami() string {
	s.t.Helper()
	v := s.get("/api/v2/whoami")
	if v.status == http.StatusUnauthorized {
		return ""
	}
	var who struct{ Name string }
	if err := json.Unmarshal([]byte(v.text), &who); err != nil || v.status != http.StatusOK {
		s.t.Fatalf("whoami = %d %s", v.status, v.text)
	}
	return who.Name
}

// cookie is the value of a cookie for the server.
func (s *surfer) cookie(name string) string {
	u, _ := url.Parse(s.site)
	for _, k := range s.Jar.Cookies(u) {
		if k.Name == name {
			return k.Value
		}
	}
	return ""
}

// setCookie plants one.
func (s *surfer) setCookie(name, value string) {
	u, _ := url.Parse(s.site)
	s.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
}

// browser is a real one, Chromium, with a profile of its own.
type browser struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp's context is the browser
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	flags := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(needs(t, "install it, on Debian: apt-get install chromium", "chromium", "chromium-browser", "google-chrome")),
		chromedp.Headless, chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(patience), chromedp.WindowSize(900, 900),
	}
	for _, f := range []string{"disable-gpu", "no-first-run", "disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "no-proxy-server"} {
		flags = append(flags, chromedp.Flag(f, true))
	}
	allocated, end := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), flags...)
	ctx, stop := chromedp.NewContext(allocated)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the process is gone
		stop()
		end()
	})
	b := &browser{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return b
}

// step is something that a browser does.
type step = chromedp.Action[chromedp.Void]

// do does something within a limit of time, in which pages load and answers come.
func (b *browser) do(what string, steps ...step) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		at, _ := chromedp.Run(b.ctx, chromedp.Location())
		b.t.Fatalf("%s: %v; the browser is at %s:\n%s", what, err, at, b.text())
	}
}

// text is what the page says.
func (b *browser) text() string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
	if err != nil {
		b.t.Errorf("read the page: %v", err)
	}
	return text
}

// heading waits for a page with a heading.
func heading(text string) step {
	return chromedp.WaitVisible(fmt.Sprintf("//h1[contains(., %q)]", text))
}

// login begins at the server's page and types the password at dex.
func (b *browser) login(c *company, name, start string) {
	b.t.Helper()
	b.do("log in", chromedp.Navigate(start), heading("Log in"), chromedp.Click(chromedp.CSS("a.button")), chromedp.WaitVisible(chromedp.CSS("#login")),
		chromedp.SendKeys(chromedp.CSS("#login"), name+"@example.test"), chromedp.SendKeys(chromedp.CSS("#password"), password),
		chromedp.Click(chromedp.CSS("#submit-login")))
}

// terminal prepares skep as somebody without any login, and gives its error output as it comes.
func (c *company) terminal(home string, args ...string) (cmd *exec.Cmd, stderr *lockedBuffer) {
	c.t.Helper()
	if err := os.MkdirAll(c.path(home), 0o700); err != nil {
		c.t.Fatal(err)
	}
	cmd = exec.CommandContext(c.t.Context(), binary, args...)
	cmd.Dir = c.work
	cmd.Env = append(slices.Clone(c.env), "XDG_CONFIG_HOME="+c.path(home))
	stderr = &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = stderr, stderr
	return cmd, stderr
}
