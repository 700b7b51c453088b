package diff_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/diff"
	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
)

// gitRepo is the oracle.
type gitRepo struct{ gittest.Repo }

func newGitRepo(tb testing.TB) gitRepo {
	tb.Helper()
	return gitRepo{gittest.New(tb)}
}

// store takes the whole repository in, as a push would.
func (r gitRepo) store() *odb.Store {
	r.TB.Helper()
	packfile := r.PackObjects("", "--all")
	s := odb.NewStore(nil, nil, odb.NewCache(8<<20))
	q, err := s.Receive(r.TB.Context(), bytes.NewReader(packfile), pack.ReceiveOptions{Dir: r.TB.TempDir()})
	if err != nil {
		r.TB.Fatal(err)
	}
	r.TB.Cleanup(func() { q.Close() })
	return q.Store
}

// files is a commit's whole content: what is at a path, by path.
type files map[string]file

type file struct{ mode, data string } // of a gitlink, data is the commit's ID

func text(lines ...string) file { return file{"100644", strings.Join(lines, "\n") + "\n"} }

// commit describes one commit for history.
type commit struct {
	branch  string
	parents []string // branches; the first is what the commit is on top of; none: a root
	when    int
	files   files
}

// history makes commits in one go.
func (r gitRepo) history(commits ...commit) {
	r.TB.Helper()
	var in strings.Builder
	tips := map[string]int{} // marks
	for i, c := range commits {
		if c.branch == "" {
			c.branch = "main"
		}
		if c.when == 0 {
			c.when = 1_700_000_000 + 60*i
		}
		if len(c.parents) == 0 {
			fmt.Fprintf(&in, "reset refs/heads/%s\n", c.branch)
		}
		fmt.Fprintf(&in, "commit refs/heads/%s\nmark :%d\ncommitter Cy <cy@example.org> %d +0000\ndata 1\nx\n", c.branch, i+1, c.when)
		for n, p := range c.parents {
			fmt.Fprintf(&in, "%s :%d\n", []string{"from", "merge"}[min(n, 1)], tips[p])
		}
		tips[c.branch] = i + 1
		fmt.Fprint(&in, "deleteall\n")
		for path, f := range c.files {
			in.WriteString(gittest.Modify(f.mode, path, f.data))
		}
	}
	r.FastImport(in.String())
}

func collect(tb testing.TB, s *odb.Store, a, b git.OID) (out []diff.Change) {
	tb.Helper()
	for c, err := range diff.Trees(tb.Context(), s, a, b) {
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func patchOf(tb testing.TB, s *odb.Store, changes []diff.Change, context int) string {
	tb.Helper()
	var out strings.Builder
	for _, c := range changes {
		if _, err := diff.Patch(&out, s, c, context); err != nil {
			tb.Fatal(err)
		}
	}
	return out.String()
}

// raw writes changes as git diff-tree --raw -z does, for comparison.
func raw(changes []diff.Change) string {
	var out strings.Builder
	for _, c := range changes {
		status := "M"
		path := c.New.Path
		switch {
		case c.Old.Mode == 0:
			status = "A"
		case c.New.Mode == 0:
			status, path = "D", c.Old.Path
		case c.Renamed():
			status, path = fmt.Sprintf("R%03d", c.Similarity), c.Old.Path+"\x00"+c.New.Path
		case c.Old.Mode>>12 != c.New.Mode>>12:
			status = "T"
		}
		fmt.Fprintf(&out, ":%s %s %s %s %s\x00%s\x00", c.Old.Mode, c.New.Mode, c.Old.OID, c.New.OID, status, path)
	}
	return out.String()
}
