package bare

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/git"
)

// withCommit is a repository with one commit on two branches.
func withCommit(t *testing.T) (*Repo, git.OID) {
	t.Helper()
	dir := newRepository(t, "")
	text := runGit(t, dir, "commit-tree", "-m", "a", runGit(t, dir, "write-tree"))
	for _, b := range []string{"main", "other"} {
		runGit(t, dir, "update-ref", "refs/heads/"+b, text)
	}
	id, err := git.ParseOID(text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	return r, id
}

// What is no name of a reference is none, wherever it is written: names become paths.
func TestReferencesThatLeadOut(t *testing.T) {
	r, id := withCommit(t)
	runGit(t, r.dir, "pack-refs", "--all", "--prune")
	f, err := os.OpenFile(filepath.Join(r.dir, "packed-refs"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{id.String() + " refs/heads/../../config\n", "^" + id.String() + "\n"} {
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"out": "ref: refs/../config\n", "far": "ref: /etc/passwd\n", "good": "ref: refs/heads/main\n"} {
		if err := os.WriteFile(filepath.Join(r.dir, "refs", "heads", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := r.readRefs()
	if err != nil {
		t.Fatal(err)
	}
	for name := range s.direct {
		if strings.Contains(string(name), "..") {
			t.Errorf("%s is a reference", name)
		}
	}
	if len(s.symbolic) != 1 || s.symbolic["refs/heads/good"] != "refs/heads/main" {
		t.Errorf("symbolic references are %v, want only good", s.symbolic)
	}
	s.head = "ref: ../x"
	if target, _ := s.headTarget(); target != "" {
		t.Errorf("HEAD names %s", target)
	}
}
