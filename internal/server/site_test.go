package server_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config/hosted"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/router"
	"github.com/skep-dev/skep/internal/secret"
	"github.com/skep-dev/skep/internal/server"
	"github.com/skep-dev/skep/internal/usage"
)

// site is a whole server on a real listener, with the control plane and cells under it.
type site struct {
	t       testing.TB
	url     string
	host    string
	control *control.Control
	admin   string             // a token that may do anything
	stop    context.CancelFunc // begins the shutdown
	ended   <-chan error       // of Run; closed
	log     *logBuffer
	server  *server.Server
	meter   *usage.Meter // flushed by tests alone
	logs    oplog.Store  // of documents
}

// webhooksAllowed is where receivers of tests are.
var webhooksAllowed = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// startSite starts a server that the test ends.
func startSite(tb testing.TB, opts server.Options) *site {
	tb.Helper()
	return startSiteOn(tb, router.Options{}, opts)
}

// startSiteOn is startSite with cells that have options as well.
func startSiteOn(tb testing.TB, cells router.Options, opts server.Options) *site {
	tb.Helper()
	dir := tb.TempDir()
	ctl, admin, err := control.Open(tb.Context(), filepath.Join(dir, "control.db"), control.Options{Keys: func(bool) (*secret.Ring, error) { return masterKey() }})
	if err != nil {
		tb.Fatal(err)
	}
	meter := usage.New(ctl, usage.Options{})
	cells.Stored = func(t id.Tenant, r id.Repo, n int64) { meter.SetStorage(usage.Key{Tenant: t, Repo: r}, n) }
	opts.Meter = meter
	rt, err := router.Open(tb.Context(), dir, cells)
	if err != nil {
		tb.Fatal(err)
	}
	logs := &logBuffer{}
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	documents := oplog.NewMemory()
	var srv *server.Server
	opts.Documents = hosted.New(documents, hosted.Options{Control: ctl, Host: func() hosted.Host { return srv }, Allow: webhooksAllowed, Log: opts.Log})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	if opts.DrainTimeout == 0 {
		opts.DrainTimeout = 5 * time.Second
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	rtDone, docsDone, srvDone := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	rtCtx, stopRouter := context.WithCancel(ctx)
	go func() { rtDone <- rt.Run(rtCtx) }()
	srv = server.New(ctl, rt, opts)
	go func() { docsDone <- opts.Documents.Run(ctx) }()
	go func() { srvDone <- srv.Run(ctx, ln); close(srvDone) }()
	s := &site{t: tb, url: "http://" + ln.Addr().String(), host: ln.Addr().String(), control: ctl, admin: admin, stop: stop, ended: srvDone, log: logs, server: srv, meter: meter, logs: documents}
	tb.Cleanup(func() {
		stop()
		if err := <-srvDone; err != nil {
			tb.Errorf("server ended with %v", err)
		}
		if err := <-docsDone; err != nil {
			tb.Errorf("documents ended with %v", err)
		}
		opts.Documents.Close()
		stopRouter()
		<-rtDone
		if err := errors.Join(rt.Close(), ctl.Close()); err != nil {
			tb.Errorf("close: %v", err)
		}
		if tb.Failed() {
			tb.Logf("server's log:\n%s", logs)
		}
	})
	return s
}

// masterKey is the one of all sites.
func masterKey() (*secret.Ring, error) {
	k, err := secret.ParseKey(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	return secret.NewRing(k), err
}

// api is a client for somebody.
func (s *site) api(token string) *client.Client {
	s.t.Helper()
	return result(client.New(s.url, client.Options{Token: token}))(s.t)
}

// person makes a principal with a token of its own.
func (s *site) person(name string) (id.Principal, string) {
	s.t.Helper()
	p := result(s.control.CreatePrincipal(s.t.Context(), name, policy.Human, false))(s.t)
	return p.ID, s.token(control.Token{Principal: p.ID, Scope: policy.ScopeAdmin})
}

// member makes a principal with a role in a tenant.
func (s *site) member(name string, tenant id.Tenant, role policy.Role) string {
	s.t.Helper()
	p, token := s.person(name)
	if err := s.control.SetMember(s.t.Context(), tenant, p, role); err != nil {
		s.t.Fatal(err)
	}
	return token
}

func (s *site) token(tok control.Token) string {
	s.t.Helper()
	_, secret, err := s.control.CreateToken(s.t.Context(), tok)
	return result(secret, err)(s.t)
}

// repo makes a repository with a file in it.
func (s *site) repo(tenant, name string, v client.Visibility) client.Repo {
	s.t.Helper()
	return result(s.api(s.admin).CreateRepo(s.t.Context(), client.CreateRepo{
		Tenant: tenant, Name: name, Visibility: v, InitialContent: map[string]string{"README.md": "# " + name + "\n"},
	}))(s.t)
}

// remote is a repository's address with a token in it.
func (s *site) remote(token, repo string) string {
	if token == "" {
		return s.url + "/" + repo + ".git"
	}
	return "http://any:" + token + "@" + s.host + "/" + repo + ".git"
}

// reply is an answer without its body, which has been read.
type reply struct {
	StatusCode int
	Header     http.Header
}

// do makes a request and reads the answer.
func (s *site) do(method, path, token string, body io.Reader, header ...string) (reply, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.SetBasicAuth("any", token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: read answer: %v", method, path, err)
	}
	return reply{resp.StatusCode, resp.Header}, string(b)
}

// git runs git in a directory and fails the test if git does.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := tryGit(t, dir, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// tryGit runs git and returns what it said on both outputs.
func tryGit(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := gitCommand(t, dir, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err
}

func gitCommand(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_AUTHOR_DATE=1700000000 +0100",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com", "GIT_COMMITTER_DATE=1700000000 +0100",
		"LC_ALL=C", "no_proxy=*")
	return cmd
}

// newRepo makes a repository on disk with some commits on main.
func newRepo(t *testing.T, commits int) string {
	t.Helper()
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	for i := range commits {
		write(t, filepath.Join(dir, "file"), strings.Repeat("line\n", i+1))
		write(t, filepath.Join(dir, "dir", "sub", "deep.txt"), strings.Repeat("deep ", i+1))
		git(t, dir, "add", ".")
		git(t, dir, "commit", "-q", "-m", "commit "+string(rune('a'+i%26)))
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// result fails the test unless err is nil: result(f(x))(t).
func result[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}
