package sshd_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/peer"
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
		s := startSite(t, server.Options{}, sshd.Hasten(sshd.Options{}, 0, 100*time.Millisecond, 0))
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
		s := startSite(t, server.Options{}, sshd.Hasten(sshd.Options{}, 100*time.Millisecond, 0, 0))
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

// from connects as a proxy does that speaks for an address.
func (s *site) from(address string) net.Conn {
	s.t.Helper()
	c := result(net.Dial("tcp", s.addr))(s.t)
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	family, to := "TCP4", "127.0.0.1"
	if strings.Contains(address, ":") {
		family, to = "TCP6", "::1"
	}
	if _, err := fmt.Fprintf(c, "PROXY %s %s %s 1000 22\r\n", family, address, to); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// heldConn is a connection of which the server's first line was read already.
type heldConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *heldConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// hold connects for an address, and says nothing when it has its place for a handshake: the server speaks then.
func (s *site) hold(address string) *heldConn {
	s.t.Helper()
	c := s.from(address)
	h := &heldConn{c, bufio.NewReader(c)}
	if _, err := h.r.Peek(1); err != nil {
		s.t.Fatal(err)
	}
	return h
}

// closed waits until the server has closed it.
func (c *heldConn) closed(t *testing.T) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

// TestSilentClients: who does not begin to exchange keys has not the time of those who log in.
func TestSilentClients(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Hasten(sshd.Options{LoginTimeout: 10 * patience}, 0, 0, 300*time.Millisecond))
	for _, says := range []string{"", "SSH-2.0-x", "SSH-2.0-x\r\n", "SSH-2.0-x\r\n\x00\x00\x01\x00\x05\x14"} {
		c := result(net.Dial("tcp", s.addr))(t)
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = c.Write([]byte(says))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("who says %q has all the time to log in", says)
		}
	}
}

// TestSlowPeople: who is asked whether the host is the right one may take the time to log in.
func TestSlowPeople(t *testing.T) {
	s := startSite(t, server.Options{}, sshd.Hasten(sshd.Options{LoginTimeout: patience}, 0, 0, 200*time.Millisecond))
	alice, _ := s.person("alice")
	c, err := s.dial(func(c *ssh.ClientConfig) {
		c.HostKeyCallback = func(string, net.Addr, ssh.PublicKey) error {
			silent, err := net.Dial("tcp", s.addr) // it began later, and is gone when its time is over
			if err != nil {
				return err
			}
			defer silent.Close()
			_, err = io.Copy(io.Discard, silent)
			return err
		}
	}, alice)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// TestCrowdedDoor: nobody keeps others out by taking all the places for handshakes.
func TestCrowdedDoor(t *testing.T) {
	crowded := func(t *testing.T, places int) (*site, ssh.Signer) {
		t.Helper()
		proxies := peer.Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Protocol: true}
		s := startSite(t, server.Options{}, sshd.Hasten(
			sshd.Options{Proxies: proxies, MaxHandshakes: places, LoginTimeout: 10 * patience}, 0, 0, 10*patience))
		alice, _ := s.person("alice")
		return s, alice
	}
	for name, addresses := range map[string][]string{
		"four addresses": {"192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3", "192.0.2.3", "192.0.2.4", "192.0.2.4"},
		"one site":       {"2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:1:4::1"},
	} {
		t.Run(name, func(t *testing.T) {
			s, alice := crowded(t, len(addresses))
			var held []*heldConn
			for _, a := range addresses {
				held = append(held, s.hold(a))
			}
			_ = s.speak(s.from("2001:db8:2::1"), alice).Close()
			held[0].closed(t)
			_ = s.speak(held[len(held)-1], alice).Close()
		})
	}
	t.Run("each has one", func(t *testing.T) {
		s, alice := crowded(t, 4)
		var held []*heldConn
		for _, a := range []string{"192.0.2.1", "192.0.2.2", "2001:db8:1::1", "2001:db8:2::1"} {
			held = append(held, s.hold(a))
		}
		late := s.from("192.0.2.5")
		_ = held[3].Close()
		_ = s.speak(late, alice).Close()
		for _, c := range held[:3] {
			_ = s.speak(c, alice).Close()
		}
	})
}
