package sshd_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
	"github.com/skep-dev/skep/internal/sqlite"
	"github.com/skep-dev/skep/internal/sshd"
)

// patience is how long these tests wait for what has to happen.
const patience = 20 * time.Second

// deafConn is a client's end that can stop listening: then the client never answers again, and what the server says is dropped.
type deafConn struct {
	net.Conn
	deaf atomic.Bool
}

func (c *deafConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.deaf.Load() {
			return n, err
		}
	}
}

// deafClient lets a key in over a connection that ends by itself after patience.
func (s *site) deafClient(key ssh.Signer) (*ssh.Client, *deafConn) {
	s.t.Helper()
	c := &deafConn{Conn: result(net.Dial("tcp", s.addr))(s.t)}
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return s.speak(c, key), c
}

// speak lets a key in over a connection.
func (s *site) speak(c net.Conn, key ssh.Signer) *ssh.Client {
	s.t.Helper()
	conn, chans, reqs, err := ssh.NewClientConn(c, s.addr, &ssh.ClientConfig{
		User: "git", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(s.host),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return ssh.NewClient(conn, chans, reqs)
}

// flood asks for more in a session than anybody may before its command, and more than is kept for a reader.
func flood(t *testing.T, c *ssh.Client) {
	t.Helper()
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	for range 3 * sshd.MaxRequests {
		if _, err := ch.SendRequest("env", false, ssh.Marshal(struct{ Name, Value string }{"LANG", "C"})); err != nil {
			return // the session is closed already
		}
	}
}

// cutOff waits until the server has closed a connection.
func cutOff(t *testing.T, c *ssh.Client) {
	t.Helper()
	if err := c.Wait(); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

// TestTooManyRequests: a session that asks for too much ends, and the connection goes on.
func TestTooManyRequests(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{})
	alice, _ := s.person("alice")
	c, _ := s.deafClient(alice)
	for range sshd.MaxSessions + 1 {
		flood(t, c)
	}
	if _, text, code := s.run(c, uploadPublic); code != 0 {
		t.Errorf("after sessions that asked for too much: %q, %d", text, code)
	}
}

// TestUnansweredClose: whoever does not confirm that a session is closed loses the connection, and holds nothing.
func TestUnansweredClose(t *testing.T) {
	t.Run("too many requests", func(t *testing.T) {
		s := startSite(t, server.Options{}, sshd.Hasten(sshd.Options{}, 0, 100*time.Millisecond))
		alice, _ := s.person("alice")
		c, conn := s.deafClient(alice)
		ch, _, err := c.OpenChannel("session", nil)
		if err != nil {
			t.Fatal(err)
		}
		conn.deaf.Store(true)
		for range 3 * sshd.MaxRequests {
			_, _ = ch.SendRequest("env", false, ssh.Marshal(struct{ Name, Value string }{"LANG", "C"})) // it may be cut off already
		}
		cutOff(t, c)
	})
	t.Run("no command", func(t *testing.T) {
		s := startSite(t, server.Options{}, sshd.Hasten(sshd.Options{}, 100*time.Millisecond, 0))
		alice, _ := s.person("alice")
		c, conn := s.deafClient(alice)
		if _, _, err := c.OpenChannel("session", nil); err != nil {
			t.Fatal(err)
		}
		conn.deaf.Store(true)
		cutOff(t, c)
	})
	t.Run("a command that has ended", func(t *testing.T) {
		s := startSite(t, server.Options{}, sshd.Options{IdleTimeout: 300 * time.Millisecond})
		alice, _ := s.person("alice")
		c, conn := s.deafClient(alice)
		ch, _, err := c.OpenChannel("session", nil)
		if err != nil {
			t.Fatal(err)
		}
		conn.deaf.Store(true)
		_, _ = ch.SendRequest("exec", false, ssh.Marshal(struct{ Command string }{"whoami"}))
		cutOff(t, c)
	})
}

// TestUnknownWhetherRevoked: while nobody can say whose a key is, no command begins with it.
func TestUnknownWhetherRevoked(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Options{})
	alice, _ := s.person("alice")
	c := s.client(alice)
	db := result(sqlite.Open(t.Context(), filepath.Join(s.dir, "control.db"), nil, sqlite.Options{MustExist: true}))(t)
	defer db.Close()
	err := db.Write(t.Context(), func(c *sqlite.Conn) error { return c.Exec("ALTER TABLE ssh_key RENAME TO lost") })
	if err != nil {
		t.Fatal(err)
	}
	bob := result(s.control.CreatePrincipal(t.Context(), "bob", policy.Human, false))(t)
	if err := s.control.DeletePrincipal(t.Context(), bob.ID); err != nil { // now nothing is remembered of who has which key
		t.Fatal(err)
	}
	session := result(c.NewSession())(t)
	stderr := result(session.StderrPipe())(t)
	if err := session.Shell(); err != nil {
		t.Fatal(err)
	}
	text := string(result(io.ReadAll(stderr))(t))
	if code := exitCode(t, session.Wait()); code != 128 || !strings.HasPrefix(text, "skep: ") {
		t.Errorf("without the control database a shell says %q, %d", text, code)
	}
	_ = c.Close()
}
