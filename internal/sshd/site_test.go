package sshd_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/router"
	"github.com/skep-dev/skep/internal/server"
	"github.com/skep-dev/skep/internal/sshd"
)

// site is a whole server that is reached by SSH.
type site struct {
	t       testing.TB
	addr    string
	host    ssh.PublicKey
	control *control.Control
	dir     string // with control.db
	server  *server.Server
	stop    context.CancelFunc
	ended   <-chan error // of Run; closed
	log     *logBuffer
	public  id.Repo // default/public.git: empty, and public
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func result[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// startSite starts a server that the test ends.
func startSite(tb testing.TB, git server.Options, opts sshd.Options) *site {
	tb.Helper()
	dir := tb.TempDir()
	s := &site{t: tb, dir: dir, log: &logBuffer{}}
	ctl, _, err := control.Open(tb.Context(), filepath.Join(dir, "control.db"), control.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	rt := result(router.Open(tb.Context(), dir, router.Options{}))(tb)
	git.Log = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.control, s.server, opts.Log = ctl, server.New(ctl, rt, git), git.Log
	hostKey := newKey(tb)
	s.host, opts.HostKeys = hostKey.PublicKey(), []ssh.Signer{hostKey}
	if opts.DrainTimeout == 0 {
		opts.DrainTimeout = 5 * time.Second
	}
	ln := result(net.Listen("tcp", "127.0.0.1:0"))(tb)
	s.addr = ln.Addr().String()
	ctx, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended, rtDone := make(chan error, 1), make(chan error, 1)
	rtCtx, stopRouter := context.WithCancel(context.WithoutCancel(tb.Context()))
	go func() { rtDone <- rt.Run(rtCtx) }()
	front := sshd.New(s.server, opts)
	go func() {
		ended <- front.Run(ctx, ln)
		close(ended)
	}()
	s.stop, s.ended = stop, ended
	tb.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			tb.Errorf("server ended with %v", err)
		}
		stopRouter()
		<-rtDone
		if err := errors.Join(rt.Close(), ctl.Close()); err != nil {
			tb.Errorf("close: %v", err)
		}
		if tb.Failed() {
			tb.Logf("server's log:\n%s", s.log)
		}
	})
	t := result(ctl.TenantByPath(tb.Context(), "default"))(tb)
	s.public = result(ctl.CreateRepo(tb.Context(), t.ID, "public", true, func(r control.Repo) error {
		return rt.Create(tb.Context(), r.Tenant, r.ID, "refs/heads/main")
	}))(tb).ID
	return s
}

func newKey(tb testing.TB) ssh.Signer {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return result(ssh.NewSignerFromKey(key))(tb)
}

// person makes a principal with a key.
func (s *site) person(name string) (ssh.Signer, control.SSHKey) {
	s.t.Helper()
	p := result(s.control.CreatePrincipal(s.t.Context(), name, policy.Human, false))(s.t)
	key := newKey(s.t)
	k := control.SSHKey{Principal: p.ID, Title: name, Kind: key.PublicKey().Type(), Public: key.PublicKey().Marshal(), Fingerprint: ssh.FingerprintSHA256(key.PublicKey())}
	return key, result(s.control.AddSSHKey(s.t.Context(), k))(s.t)
}

// dial connects with keys, which are offered in turn.
func (s *site) dial(change func(*ssh.ClientConfig), keys ...ssh.Signer) (*ssh.Client, error) {
	config := &ssh.ClientConfig{
		User: "git", Auth: []ssh.AuthMethod{ssh.PublicKeys(keys...)}, HostKeyCallback: ssh.FixedHostKey(s.host), Timeout: 30 * time.Second,
	}
	if change != nil {
		change(config)
	}
	return ssh.Dial("tcp", s.addr, config)
}

// client is dial where that must work.
func (s *site) client(keys ...ssh.Signer) *ssh.Client {
	s.t.Helper()
	c := result(s.dial(nil, keys...))(s.t)
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// run runs a command without input, and returns what it printed and how it ended.
func (s *site) run(c *ssh.Client, command string, env ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	session := result(c.NewSession())(s.t)
	defer session.Close()
	var out, err bytes.Buffer
	session.Stdout, session.Stderr = &out, &err
	for i := 0; i+1 < len(env); i += 2 {
		_ = session.Setenv(env[i], env[i+1])
	}
	code = exitCode(s.t, session.Run(command))
	return out.String(), err.String(), code
}

func exitCode(tb testing.TB, err error) int {
	tb.Helper()
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*ssh.ExitError](err)
	if !ok {
		tb.Fatalf("the command ended with %v", err)
	}
	return exit.ExitStatus()
}

// open begins a command that waits for input, and has said something.
func (s *site) open(c *ssh.Client, command string) (*ssh.Session, io.WriteCloser) {
	s.t.Helper()
	session := result(c.NewSession())(s.t)
	stdin := result(session.StdinPipe())(s.t)
	stdout := result(session.StdoutPipe())(s.t)
	if err := session.Start(command); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, 8)); err != nil {
		s.t.Fatal(err)
	}
	return session, stdin
}

// counted makes requests from this machine count.
func counted() server.Options { return server.Options{RateExempt: []netip.Prefix{}} }
