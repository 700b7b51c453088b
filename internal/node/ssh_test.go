package node_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/node"
)

// TestSSH: a node that serves it keeps its host keys, and says how its repositories are reached.
func TestSSH(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var first []node.HostKey
	for public, want := range map[string]string{
		"":                     "ssh://git@127.0.0.1:PORT/default/demo.git",
		"git.example.org":      "ssh://git@git.example.org/default/demo.git",
		"git.example.org:2222": "ssh://git@git.example.org:2222/default/demo.git",
		"git.example.org:22":   "ssh://git@git.example.org/default/demo.git",
		"2001:db8::1":          "ssh://git@[2001:db8::1]:22/default/demo.git",
		"[2001:db8::1]:2222":   "ssh://git@[2001:db8::1]:2222/default/demo.git",
	} {
		n, stop := startWith(t, node.Options{DataDir: dir, SSHAddr: "127.0.0.1:0", SSHPublic: public})
		keys := n.HostKeys()
		if first == nil {
			first = keys
		}
		if len(keys) != 2 || keys[0] != first[0] || keys[1] != first[1] || !strings.HasPrefix(keys[0].Fingerprint, "SHA256:") {
			t.Errorf("host keys are %+v, and were %+v", keys, first)
		}
		token, err := os.ReadFile(n.AdminTokenPath())
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.New(n.URL(), client.Options{Token: strings.TrimSpace(string(token))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.CreateRepo(t.Context(), client.CreateRepo{Tenant: "default", Name: "demo"}); err != nil && !errors.Is(err, errkind.Exists) {
			t.Fatal(err)
		}
		r, err := c.RepoByName(t.Context(), "default", "demo")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(n.SSHAddr().String())
		if got := strings.Replace(r.SSHURL, ":"+port+"/", ":PORT/", 1); got != want {
			t.Errorf("with public address %q: %s, want %s", public, got, want)
		}
		stop()
	}
	for _, bad := range []string{"a/b", "git@host", "host:", "host:0", "host:99999", "host:ssh", ":22"} {
		if _, err := node.New(t.Context(), node.Options{DataDir: dir, HTTPAddr: "127.0.0.1:0", SSHAddr: "127.0.0.1:0", SSHPublic: bad}); !errors.Is(err, errkind.Invalid) {
			t.Errorf("public address %q: %v", bad, err)
		}
	}
	if _, err := node.New(t.Context(), node.Options{DataDir: dir, HTTPAddr: "127.0.0.1:0", SSHAddr: "256.0.0.1:x"}); err == nil || !strings.Contains(err.Error(), "--ssh") {
		t.Errorf("an address that is none: %v", err)
	}
	n, _ := start(t, dir)
	if n.SSHAddr() != nil || n.HostKeys() != nil {
		t.Error("a node without SSH has an address for it")
	}
}
