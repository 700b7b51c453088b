package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func sorted(lines string) string {
	l := strings.Split(lines, "\n")
	slices.Sort(l)
	return strings.Join(l, "\n")
}

// world is one server and one place for repositories, for the tests that are easier to write in Go than as scripts.
type world struct {
	*server
	t    *testing.T
	work string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gitconfig"), []byte(gitConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{server: &server{dir: filepath.Join(dir, "data"), env: environment(dir)}, t: t, work: dir}
	t.Cleanup(w.kill)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.work, name) }

// remote is a repository's address for the admin.
func (w *world) remote(name string) string {
	w.t.Helper()
	token, err := w.adminToken()
	if err != nil {
		w.t.Fatal(err)
	}
	return w.withToken(token) + "/default/" + name + ".git"
}

// git runs git in a folder below the world and returns what it printed; a failure ends the test.
func (w *world) git(dir string, args ...string) string {
	w.t.Helper()
	out, err := w.try(dir, nil, args...)
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// try is git for a command that may fail.
func (w *world) try(dir string, stdin []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(w.t.Context(), "git", args...)
	cmd.Dir = w.path(dir)
	cmd.Env = w.env
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// same fails the test unless both repositories have the same references and reachable objects, and b is sound.
func (w *world) same(a, b string) {
	w.t.Helper()
	for _, question := range [][]string{
		{"for-each-ref", "--format=%(refname) %(objectname)"},
		{"rev-list", "--objects", "--all", "--no-object-names"},
	} {
		if x, y := sorted(w.git(a, question...)), sorted(w.git(b, question...)); x != y {
			w.t.Fatalf("git %s differs between %s (%d bytes) and %s (%d bytes)", question[0], a, len(x), b, len(y))
		}
	}
	w.git(b, "fsck", "--strict", "--full")
}
