package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
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

func newWorld(t *testing.T, flags ...string) *world {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gitconfig"), []byte(gitConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{server: &server{dir: filepath.Join(dir, "data"), env: environment(dir)}, t: t, work: dir}
	t.Cleanup(w.kill)
	if err := w.start(flags...); err != nil {
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

// skep runs the command line as the admin, and returns what it printed.
func (w *world) skep(args ...string) (string, error) {
	token, err := w.adminToken()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(w.t.Context(), binary, args...)
	cmd.Dir = w.work
	cmd.Env = append(slices.Clone(w.env), "SKEP_URL="+w.url, "SKEP_TOKEN="+token)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// publish lets everybody read a repository.
func (w *world) publish(name string) {
	w.t.Helper()
	if out, err := w.skep("repo", "settings", "default/"+name, "--public"); err != nil {
		w.t.Fatalf("publish %s: %v\n%s", name, err, out)
	}
}

// noise makes a repository with a file of so many bytes that do not compress, a branch more and a tag.
func (w *world) noise(repo string, size int) {
	w.t.Helper()
	w.git(".", "init", "-q", "--bare", repo)
	b := make([]byte, size)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(b) // it cannot fail
	if err := os.WriteFile(w.path("noise"), b, 0o600); err != nil {
		w.t.Fatal(err)
	}
	blob := w.git(repo, "hash-object", "-w", w.path("noise"))
	w.feed(repo, fmt.Sprintf("commit refs/heads/main\n%sM 100644 %s noise\n\ncommit refs/heads/topic\n%sfrom refs/heads/main\n\n", stamp, blob, stamp))
	w.git(repo, "tag", "-a", "-m", "first", "v1", "main")
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

// size is how long a file below the world is.
func (w *world) size(name string) int64 {
	w.t.Helper()
	info, err := os.Stat(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return info.Size()
}
