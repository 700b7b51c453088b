package node_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/certs"
	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/node"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
	"github.com/skep-dev/skep/internal/sqlite"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// start runs a node until the test, or stop, ends it.
func start(t *testing.T, dir string) (n *node.Node, stop func()) {
	t.Helper()
	return startOn(t, dir, "")
}

// startOn runs a node whose control plane is at an address.
func startOn(t *testing.T, dir, address string) (n *node.Node, stop func()) {
	t.Helper()
	return startWith(t, node.Options{DataDir: dir, Control: address})
}

// startWith runs a node with options.
func startWith(t *testing.T, opts node.Options) (n *node.Node, stop func()) {
	t.Helper()
	opts.HTTPAddr, opts.DrainTimeout = "127.0.0.1:0", 5*time.Second
	n, err := node.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, n.Close()); err != nil {
			t.Errorf("node ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return n, stop
}

// adminToken is the token that the first start of a data directory left.
func adminToken(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "admin-token"))
	return strings.TrimSpace(string(text)), err
}

func api(t *testing.T, n *node.Node, token string) *client.Client {
	t.Helper()
	c, err := client.New(n.URL(), client.Options{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestFirstStart: it leaves a token that may do anything, in a file that others cannot read; a later start leaves it alone.
func TestFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n, stop := start(t, dir)
	info, err := os.Stat(filepath.Join(dir, "admin-token"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("admin-token: %v, %v, want mode 0600", info, err)
	}
	token, err := adminToken(dir)
	if err != nil || token != n.FirstSecret() {
		t.Fatalf("admin-token has %q, %v, want the first secret", token, err)
	}
	who, err := api(t, n, token).Whoami(t.Context())
	if err != nil || !who.Admin {
		t.Errorf("the first token is of %+v, %v, want an administrator", who, err)
	}
	if tn, err := api(t, n, token).Tenant(t.Context(), "default"); err != nil {
		t.Errorf("tenant default: %v, %v", tn, err)
	}
	resp, err := http.Get(n.URL() + "/readyz")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("readyz: %v, %v", resp, err)
	}
	_ = resp.Body.Close()
	stop()

	n, stop = start(t, dir)
	if n.FirstSecret() != "" {
		t.Error("the second start made a token as well")
	}
	if _, err := api(t, n, token).Whoami(t.Context()); err != nil {
		t.Errorf("the token after a restart: %v", err)
	}
	stop()

	// Whoever takes the file away, as is wise, gets no new one.
	if err := os.Remove(filepath.Join(dir, "admin-token")); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
	if _, err := os.Stat(filepath.Join(dir, "admin-token")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("admin-token came back: %v", err)
	}
}

// TestInterruptedFirstStart: the database was made, and the process died before the token was in its file.
func TestInterruptedFirstStart(t *testing.T) {
	dir := t.TempDir()
	_, stop := start(t, dir)
	stop()
	if err := os.Truncate(filepath.Join(dir, "admin-token"), 0); err != nil {
		t.Fatal(err)
	}
	n, _ := start(t, dir)
	token, err := adminToken(dir)
	if err != nil || token == "" {
		t.Fatalf("admin-token has %q, %v", token, err)
	}
	if who, err := api(t, n, token).Whoami(t.Context()); err != nil || !who.Admin {
		t.Errorf("the new first token is of %+v, %v", who, err)
	}
}

// TestOneNodePerDirectory: a second one is refused, and the first goes on.
func TestOneNodePerDirectory(t *testing.T) {
	dir := t.TempDir()
	n, _ := start(t, dir)
	_, err := node.New(t.Context(), node.Options{DataDir: dir, HTTPAddr: "127.0.0.1:0"})
	if !errors.Is(err, errkind.Unavailable) {
		t.Errorf("a second node on one directory: %v", err)
	}
	if err := api(t, n, "").Health(t.Context()); err != nil {
		t.Errorf("the first node: %v", err)
	}
}

// TestFailedStart leaves nothing open: the next one works.
func TestFailedStart(t *testing.T) {
	dir := t.TempDir()
	if _, err := node.New(t.Context(), node.Options{DataDir: dir, HTTPAddr: "256.0.0.1:http"}); err == nil {
		t.Fatal("listening nowhere works")
	}
	n, _ := start(t, dir)
	if err := api(t, n, "").Health(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestWhatWasPushedSurvivesARestart and a repository made over REST does too.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	n, stop := start(t, dir)
	token, err := adminToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	made, err := api(t, n, token).CreateRepo(t.Context(), client.CreateRepo{
		Tenant: "default", Name: "demo", InitialContent: map[string]string{"a/b.txt": "hello\n"},
	})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	n, _ = start(t, dir)
	got, err := api(t, n, token).RepoByName(t.Context(), "default", "demo")
	if err != nil || got.ID != made.ID {
		t.Errorf("after a restart: %+v, %v, want %+v", got, err, made)
	}
	c, err := api(t, n, token).Contents(t.Context(), "default/demo", "", "a/b.txt")
	if err != nil || c.Content != "aGVsbG8K" {
		t.Errorf("content after a restart: %+v, %v", c, err)
	}
}

// TestMistakesAreToldFirst: options that cannot be meant are refused before anything is opened.
func TestMistakesAreToldFirst(t *testing.T) {
	for name, opts := range map[string]node.Options{
		"no key":                {CertFile: "cert.pem"},
		"no certificate":        {KeyFile: "key.pem"},
		"two sources":           {CertFile: "cert.pem", KeyFile: "key.pem", ACME: certs.ACME{Domains: []string{"git.example.org"}}},
		"any origin":            {Origins: []string{"*"}},
		"an origin with a path": {Origins: []string{"https://app.example.org/x"}},
		"a wildcard":            {ACME: certs.ACME{Domains: []string{"*.example.org"}}},
	} {
		opts.DataDir, opts.HTTPAddr = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0"
		if _, err := node.New(t.Context(), opts); !errors.Is(err, errkind.Invalid) {
			t.Errorf("%s: %v, want errkind.Invalid", name, err)
		}
		if _, err := os.Stat(opts.DataDir); err == nil {
			t.Errorf("%s: the data directory was made", name)
		}
	}
}

// What somebody did to the audit log while no server ran, the doctor finds.
func TestDoctorReadsTheAuditLog(t *testing.T) {
	dir := t.TempDir()
	n, stop := start(t, dir)
	c := api(t, n, n.FirstSecret())
	for _, path := range []string{"a", "b", "c"} {
		if _, err := c.CreateTenant(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	doctor := func() (faults []string, entries int64) {
		t.Helper()
		report, err := node.Doctor(t.Context(), dir, node.DoctorOptions{Fault: func(what string, err error) { faults = append(faults, what+": "+err.Error()) }})
		if err != nil {
			t.Fatal(err)
		}
		return faults, report.Audited
	}
	if faults, entries := doctor(); len(faults) > 0 || entries != 6 { // three at the first start
		t.Errorf("a log as it was: %d entries, %q", entries, faults)
	}
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "control.db"), nil, sqlite.Options{MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Write(t.Context(), func(q *sqlite.Conn) error { return q.Exec("DELETE FROM audit WHERE seq = 5") })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if faults, _ := doctor(); len(faults) != 1 || !strings.Contains(faults[0], "audit log has entry 6 after entry 4") {
		t.Errorf("a log without its fifth entry: %q", faults)
	}
}
