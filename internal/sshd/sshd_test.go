package sshd_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/server"
	"github.com/skep-dev/skep/internal/sshd"
)

const uploadPublic = "git-upload-pack '/default/public.git'"

// TestWhatIsSpoken: each algorithm of the lists works, and none that is not in them.
func TestWhatIsSpoken(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{})
	alice, _ := s.person("alice")
	all, weak := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	ours := sshd.Spoken()
	try := func(kind, name string, want bool, change func(*ssh.ClientConfig)) {
		t.Helper()
		c, err := s.dial(change, alice)
		if err == nil {
			_ = c.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s %s: %v", kind, name, err)
		}
	}
	for _, kex := range append(all.KeyExchanges, weak.KeyExchanges...) {
		want := slices.Contains(ours.KeyExchanges, kex) || kex == "curve25519-sha256@libssh.org" // the same by its older name
		try("key exchange", kex, want, func(c *ssh.ClientConfig) { c.KeyExchanges = []string{kex} })
	}
	for _, cipher := range append(all.Ciphers, weak.Ciphers...) {
		try("cipher", cipher, slices.Contains(ours.Ciphers, cipher), func(c *ssh.ClientConfig) { c.Ciphers = []string{cipher} })
	}
	for _, mac := range append(all.MACs, weak.MACs...) {
		try("MAC", mac, slices.Contains(ours.MACs, mac), func(c *ssh.ClientConfig) { c.Ciphers, c.MACs = []string{ssh.CipherAES128CTR}, []string{mac} })
	}

	key := result(rsa.GenerateKey(rand.Reader, 2048))(t)
	signer := result(ssh.NewSignerFromKey(key))(t)
	who := result(s.control.PrincipalByName(t.Context(), "alice"))(t)
	result(s.control.AddSSHKey(t.Context(), control.SSHKey{
		Principal: who.ID, Kind: "ssh-rsa", Public: signer.PublicKey().Marshal(), Fingerprint: ssh.FingerprintSHA256(signer.PublicKey()),
	}))(t)
	for name, want := range map[string]bool{ssh.KeyAlgoRSASHA256: true, ssh.KeyAlgoRSASHA512: true, ssh.KeyAlgoRSA: false} {
		one := result(ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), []string{name}))(t)
		c, err := s.dial(nil, one)
		if err == nil {
			_ = c.Close()
		}
		if (err == nil) != want {
			t.Errorf("signature %s: %v", name, err)
		}
	}
}

// TestWhoIsLetIn: keys that are known, and nothing else.
func TestWhoIsLetIn(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{})
	alice, key := s.person("alice")
	bob, _ := s.person("bob")
	c := s.client(alice)
	if _, text, code := s.run(c, "whoami"); code != 1 || !strings.Contains(text, "only git-upload-pack") {
		t.Errorf("whoami: %q, %d", text, code)
	}
	for _, user := range []string{"git", "root", "bob", "", "default"} {
		c, err := s.dial(func(c *ssh.ClientConfig) { c.User = user }, alice)
		if err != nil {
			t.Fatalf("user %q: %v", user, err)
		}
		if got := greeted(t, c); !strings.HasPrefix(got, "You are alice. ") {
			t.Errorf("user %q is greeted %q", user, got)
		}
		_ = c.Close()
	}
	if got := greeted(t, s.client(newKey(t), bob, alice)); !strings.HasPrefix(got, "You are bob. ") {
		t.Errorf("of two keys the first that is known counts; greeted %q", got)
	}
	for what, auth := range map[string][]ssh.AuthMethod{
		"nothing":        nil,
		"a password":     {ssh.Password("skep_secret")},
		"an unknown key": {ssh.PublicKeys(newKey(t))},
		"questions":      {ssh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) { return q, nil })},
	} {
		if _, err := s.dial(func(c *ssh.ClientConfig) { c.Auth = auth }); err == nil {
			t.Errorf("%s lets in", what)
		}
	}
	if err := s.control.RemoveSSHKey(t.Context(), key.Principal, key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.dial(nil, alice); err == nil {
		t.Error("a key that was removed lets in")
	}
}

// greeted asks for a shell.
func greeted(t *testing.T, c *ssh.Client) string {
	t.Helper()
	session := result(c.NewSession())(t)
	defer session.Close()
	stderr := result(session.StderrPipe())(t)
	if err := session.Shell(); err != nil {
		t.Fatal(err)
	}
	text := result(io.ReadAll(stderr))(t)
	if code := exitCode(t, session.Wait()); code != 1 {
		t.Errorf("a shell ended with %d", code)
	}
	return string(text)
}

// TestOnlyGit: what else SSH can do is refused, in one line that a person can read where there is a place for one.
func TestOnlyGit(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{})
	alice, _ := s.person("alice")
	c := s.client(alice)
	session := result(c.NewSession())(t)
	if err := session.RequestPty("xterm", 24, 80, nil); err == nil {
		t.Error("there is a terminal")
	}
	for name, payload := range map[string][]byte{
		"auth-agent-req@openssh.com": nil,
		"x11-req":                    ssh.Marshal(struct{ One bool }{}),
		"signal":                     ssh.Marshal(struct{ Name string }{"KILL"}),
		"env":                        ssh.Marshal(struct{ Name, Value string }{"LD_PRELOAD", "/tmp/x.so"}),
	} {
		if ok, err := session.SendRequest(name, true, payload); ok || err != nil {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
	stderr := result(session.StderrPipe())(t)
	if err := session.RequestSubsystem("sftp"); err != nil {
		t.Fatal(err)
	}
	if text := result(io.ReadAll(stderr))(t); !strings.Contains(string(text), "no subsystems") || strings.Count(string(text), "\n") != 1 {
		t.Errorf("sftp: %q", text)
	}
	_ = session.Close()
	if _, err := c.Dial("tcp", s.addr); err == nil {
		t.Error("a connection is forwarded")
	}
	if _, err := c.Dial("unix", "/tmp/x"); err == nil {
		t.Error("a socket is forwarded")
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("a port is forwarded")
	}
	for _, kind := range []string{"x11", "auth-agent@openssh.com", "tun@openssh.com", ""} {
		if _, _, err := c.OpenChannel(kind, nil); err == nil {
			t.Errorf("channel %q is opened", kind)
		}
	}
	if out, text, code := s.run(c, uploadPublic); !strings.Contains(out, "capabilities^{}") || code != 0 {
		t.Errorf("after all that git is served: %q, %q, %d", out, text, code)
	}
}

// TestProtocolVersions: GIT_PROTOCOL says which is spoken.
func TestProtocolVersions(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{})
	alice, _ := s.person("alice")
	c := s.client(alice)
	for value, want := range map[string]string{"": "0000000000000000000000000000000000000000 capabilities^{}", "version=1": "000eversion 1\n", "version=2": "000eversion 2\n", "version=2:x": "000eversion 2\n"} {
		env := []string{"GIT_PROTOCOL", value, "GIT_DIR", "/etc", "GIT_TRACE", "1"}
		if out, _, code := s.run(c, uploadPublic, env...); code != 0 || !strings.Contains(out[:min(len(out), 80)], want) {
			t.Errorf("version %q: %.80q, %d", value, out, code)
		}
	}
}

// TestMissingAndHidden: what is not there and what is not theirs read the same, whatever is wanted of it.
func TestMissingAndHidden(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{})
	alice, _ := s.person("alice")
	if _, err := s.control.SetPublic(t.Context(), s.public, false); err != nil {
		t.Fatal(err)
	}
	c := s.client(alice)
	for _, service := range []string{"git-upload-pack", "git-receive-pack", "git-upload-archive"} {
		for _, path := range []string{
			"/default/public.git", "default/none.git", "none/none", "none", "", "/", "//", "../../etc/passwd", "/default/../default/public", "a/b/c/d/e/f/g",
			"default/public.git/objects", strings.Repeat("x/", 1500) + "y", "default/\xff", "default/public.git.git", "~root/x",
		} {
			out, text, code := s.run(c, service+" "+quoted(path))
			if out != "" || text != "skep: not found, or not yours to see\n" || code != 128 {
				t.Errorf("%s %.60q: %q, %q, %d", service, path, out, text, code)
			}
		}
	}
}

// TestAgentsWithManyKeys: they cost one failure a connection, however many keys there are, and whoever was let in before still is.
func TestAgentsWithManyKeys(t *testing.T) {
	const failures = 3
	git := counted()
	git.Rates = map[string]limit.Quota{"failed-auth": {Events: failures, Per: time.Hour}}
	s := startSite(t, git, sshd.Options{})
	alice, _ := s.person("alice")
	bob, _ := s.person("bob")
	var many []ssh.Signer
	for range sshd.MaxOffers - 1 {
		many = append(many, newKey(t))
	}
	_ = s.client(append(many, alice)...).Close()
	for range failures {
		if _, err := s.dial(nil, many...); err == nil {
			t.Fatal("unknown keys let in")
		}
	}
	_ = s.client(append(many[:3:3], alice)...).Close() // who was let in before
	told := ""
	_, err := s.dial(func(c *ssh.ClientConfig) {
		c.BannerCallback = func(text string) error { told += text; return nil }
	}, bob)
	if err == nil || !strings.Contains(told, "too many requests (limit failed-auth)") {
		t.Errorf("after %d failures from the address another is let in: %v, told %q", failures, err, told)
	}
	if _, err := s.dial(nil, append(append([]ssh.Signer{}, many...), newKey(t), alice)...); err == nil {
		t.Errorf("more than %d keys may be offered", sshd.MaxOffers)
	}
}

// TestTooOften: an address that connects too often is refused, and counts apart from others.
func TestTooOften(t *testing.T) {
	git := counted()
	git.Rates = map[string]limit.Quota{"ssh": {Events: 2, Per: time.Hour}}
	s := startSite(t, git, sshd.Options{})
	alice, _ := s.person("alice")
	for range 2 {
		_ = s.client(alice).Close()
	}
	if _, err := s.dial(nil, alice); err == nil {
		t.Error("a third connection is let in")
	}
	if !strings.Contains(s.log.String(), "reason=too_often") {
		t.Error("the log does not say so")
	}
}

// TestPlaces: sessions of a connection, connections of an address.
func TestPlaces(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{MaxConns: 8, MaxPerAddress: 2})
	alice, _ := s.person("alice")
	one, two := s.client(alice), s.client(alice)
	if _, err := s.dial(nil, alice); err == nil {
		t.Error("an address has more connections than it may")
	}
	_ = two.Close()
	eventually(t, "a place is free again", func() bool {
		c, err := s.dial(nil, alice)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	var sessions []*ssh.Session
	for range sshd.MaxSessions {
		session, _ := s.open(one, uploadPublic)
		sessions = append(sessions, session)
	}
	if _, err := one.NewSession(); err == nil {
		t.Error("a connection has more sessions than it may")
	}
	_ = sessions[0].Close()
	eventually(t, "a session is free again", func() bool {
		session, err := one.NewSession()
		if err == nil {
			_ = session.Close()
		}
		return err == nil
	})
}

// eventually asks until something is so.
func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	for late := time.Now().Add(30 * time.Second); !ask(); {
		if time.Now().After(late) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// TestSlowlorises: who does not become somebody in time, or dawdles in a handshake, is gone; nobody else waits for it.
func TestSlowlorises(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{LoginTimeout: 300 * time.Millisecond, MaxHandshakes: 4})
	alice, _ := s.person("alice")
	var slow []net.Conn
	for _, says := range []string{"", "SSH-2.0-x", "SSH-2.0-x\r\n", "GET / HTTP/1.1\r\n\r\n"} {
		c := result(net.Dial("tcp", s.addr))(t)
		defer c.Close()
		_, _ = c.Write([]byte(says))
		slow = append(slow, c)
	}
	for i, c := range slow {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d is still open", i)
		}
	}
	_ = s.client(alice).Close()
}

// TestIdleClients: a connection ends in which a command waits for a client that says nothing.
func TestIdleClients(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{IdleTimeout: 300 * time.Millisecond})
	alice, _ := s.person("alice")
	c := s.client(alice)
	session, _ := s.open(c, uploadPublic)
	if err := session.Wait(); err == nil {
		t.Error("the command ended well")
	}
	_ = c.Wait() // the test ends when the connection does
}

// TestRevokedWhileConnected: what is being transferred ends with the key that it came with.
func TestRevokedWhileConnected(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{})
	alice, key := s.person("alice")
	bob, _ := s.person("bob")
	hers, his := s.client(alice), s.client(bob)
	session, _ := s.open(hers, uploadPublic)
	other, stdin := s.open(his, uploadPublic)
	if err := s.control.RemoveSSHKey(t.Context(), key.Principal, key.ID); err != nil {
		t.Fatal(err)
	}
	if err := session.Wait(); err == nil {
		t.Error("the command ended well")
	}
	_ = hers.Wait()
	if !strings.Contains(s.log.String(), "its key does not count any more") {
		t.Error("the log does not say why")
	}
	_, _ = stdin.Write([]byte("0000"))
	if err := other.Wait(); err != nil {
		t.Errorf("another's command ended with %v", err)
	}
}

// TestShutdown: connections that do nothing are closed, a command may finish.
func TestShutdown(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{DrainTimeout: time.Minute})
	alice, _ := s.person("alice")
	quiet, busy := s.client(alice), s.client(alice)
	session, stdin := s.open(busy, uploadPublic)
	s.stop()
	_ = quiet.Wait()
	if _, err := s.dial(nil, alice); err == nil {
		t.Error("a connection is let in while the server stops")
	}
	_, _ = stdin.Write([]byte("0000"))
	if err := session.Wait(); err != nil {
		t.Errorf("the command ended with %v", err)
	}
	if err := <-s.ended; err != nil {
		t.Errorf("Run ended with %v", err)
	}
}

// TestCutOff: a command that does not finish is ended.
func TestCutOff(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{DrainTimeout: 10 * time.Millisecond})
	alice, _ := s.person("alice")
	session, _ := s.open(s.client(alice), uploadPublic)
	s.stop()
	if err := <-s.ended; err != nil {
		t.Errorf("Run ended with %v", err)
	}
	if err := session.Wait(); err == nil {
		t.Error("the command ended well")
	}
}

// TestManyAtOnce: connections and sessions side by side, for the race detector.
func TestManyAtOnce(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{})
	alice, _ := s.person("alice")
	done := make(chan error)
	const n = 8
	for range n {
		go func() {
			c, err := s.dial(nil, alice)
			if err != nil {
				done <- err
				return
			}
			defer c.Close()
			for range 3 {
				session, err := c.NewSession()
				if err == nil {
					_, err = session.Output(uploadPublic)
				}
				if err != nil {
					done <- fmt.Errorf("session: %w", err)
					return
				}
			}
			done <- nil
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
