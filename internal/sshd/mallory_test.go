package sshd_test

import (
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
	"github.com/skep-dev/skep/internal/sqlite"
	"github.com/skep-dev/skep/internal/sshd"
)

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
