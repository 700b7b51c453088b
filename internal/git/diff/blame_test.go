package diff_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/diff"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// blameOf asks git.
func (r gitRepo) blameOf(rev, path string) (out []diff.BlameLine) {
	r.TB.Helper()
	names := map[git.OID]string{}
	var at diff.BlameLine
	for line := range strings.SplitSeq(r.Git("blame", "--porcelain", rev, "--", path), "\n") {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "\t"):
			at.Path = names[at.Commit]
			out = append(out, at)
		case strings.HasPrefix(line, "filename "):
			names[at.Commit] = strings.TrimPrefix(line, "filename ")
		case len(f) >= 3 && len(f[0]) == 40:
			at = diff.BlameLine{Commit: git.MustParseOID(f[0])}
			fmt.Sscan(f[1], &at.OldLine)
			fmt.Sscan(f[2], &at.Line)
		}
	}
	return out
}

func graph(tb testing.TB, s *odb.Store) *revwalk.Graph {
	tb.Helper()
	g, err := revwalk.NewGraph(s, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

func (r gitRepo) compareBlame(g *revwalk.Graph, rev, path string) {
	r.TB.Helper()
	got, err := diff.Blame(r.TB.Context(), g, r.OID(rev), path)
	if err != nil {
		r.TB.Errorf("%s %s: %v", rev, path, err)
		return
	}
	if diff := cmp.Diff(r.blameOf(rev, path), got); diff != "" {
		r.TB.Errorf("%s %s (-git +ours):\n%s", rev, path, diff)
	}
}

// TestBlameIsGits: in random histories with branches, merges and renames, each line is attributed as git does. No two
// lines ever written are equal, so that there is one answer.
func TestBlameIsGits(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 15))
			r := newGitRepo(t)
			r.history(randomHistory(rnd, 60)...)
			g := graph(t, r.store())
			for _, branch := range []string{"b0", "b1", "b2"} {
				for path := range strings.SplitSeq(strings.TrimRight(r.Git("ls-tree", "-r", "--name-only", branch), "\n"), "\n") {
					r.compareBlame(g, branch, path)
				}
			}
		})
	}
}

// randomHistory works on three branches, which fork from and merge each other. A merge takes each file from one of its
// parents, or joins both.
func randomHistory(rnd *rand.Rand, n int) (out []commit) {
	tips := map[string]map[string][]string{} // branch: path: lines
	for i := range n {
		branch := fmt.Sprint("b", rnd.IntN(3))
		c := commit{branch: branch, when: 1_700_000_000 + 60*i}
		var cur map[string][]string
		other := fmt.Sprint("b", rnd.IntN(3))
		switch {
		case tips[branch] == nil && tips["b0"] == nil:
			cur = map[string][]string{"a": uniqueText(rnd, 10), "dir/b": uniqueText(rnd, 20), "dir/sub/c": uniqueText(rnd, 5)}
		case tips[branch] == nil:
			for _, from := range []string{"b0", "b1", "b2"} {
				if tips[from] != nil {
					c.parents, cur = []string{from}, tips[from]
				}
			}
		case other != branch && tips[other] != nil && rnd.IntN(3) == 0:
			c.parents, cur = []string{branch, other}, joinFiles(rnd, tips[branch], tips[other])
		default:
			c.parents, cur = []string{branch}, tips[branch]
		}
		next := map[string][]string{}
		for path, lines := range cur {
			next[path] = slices.Clone(lines)
		}
		editFiles(rnd, next, i)
		if len(tips) == 0 {
			tips["b0"], c.branch = next, "b0"
		} else {
			tips[branch] = next
		}
		c.files = files{}
		for path, lines := range next {
			c.files[path] = text(lines...)
		}
		out = append(out, c)
	}
	for _, branch := range []string{"b1", "b2"} { // each exists in the end
		if tips[branch] == nil {
			out = append(out, commit{branch: branch, parents: []string{"b0"}, when: 1_800_000_000, files: files{"a": text("x")}})
		}
	}
	return out
}

func joinFiles(rnd *rand.Rand, a, b map[string][]string) map[string][]string {
	out := map[string][]string{}
	for path, lines := range a {
		theirs, both := b[path]
		switch {
		case both && rnd.IntN(3) == 0:
			out[path] = theirs
		case both && rnd.IntN(2) == 0:
			cut := rnd.IntN(min(len(lines), len(theirs)) + 1)
			out[path] = unique(slices.Concat(lines[:cut], theirs[cut:]))
		default:
			out[path] = lines
		}
	}
	return out
}

func unique(lines []string) (out []string) {
	for _, l := range lines {
		if !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}

// editFiles changes some lines of some files, and moves a file now and then.
func editFiles(rnd *rand.Rand, f map[string][]string, n int) {
	paths := slices.Sorted(func(yield func(string) bool) {
		for p := range f {
			if !yield(p) {
				return
			}
		}
	})
	for _, path := range paths {
		lines := f[path]
		switch rnd.IntN(6) {
		case 0:
			at := rnd.IntN(len(lines) + 1)
			lines = slices.Insert(lines, at, uniqueText(rnd, 1+rnd.IntN(3))...)
		case 1:
			if len(lines) > 3 {
				at := rnd.IntN(len(lines) - 1)
				lines = slices.Delete(lines, at, at+1)
			}
		case 2:
			lines[rnd.IntN(len(lines))] = uniqueText(rnd, 1)[0]
		}
		f[path] = lines
		if rnd.IntN(15) == 0 {
			delete(f, path)
			f[fmt.Sprintf("moved%d/%d", rnd.IntN(3), n)] = lines
		}
	}
}

func TestBlameRules(t *testing.T) {
	r := newGitRepo(t)
	lines := numbered(12)
	r.history(
		commit{files: files{"old": text(lines...), "same": text(lines[:3]...), "dir/f": text("x"), "empty": {"100644", ""}}},
		commit{parents: []string{"main"}, files: files{"new": text(change(lines, 4)...), "same": text(lines[:3]...), "dir/f": {"100755", "x\n"}, "empty": {"100644", ""}}},
		commit{branch: "side", parents: []string{"main"}, files: files{"new": text(change(lines, 4, 9)...), "dir/f": {"100644", "x\ny"}, "empty": {"100644", ""}}},
		commit{parents: []string{"main"}, files: files{"new": text(change(lines, 1, 4)...), "dir/f": {"100644", "w\nx\n"}, "link": {"120000", "t"}, "sub": {"160000", strings.Repeat("1", 40)}, "empty": {"100644", ""}}},
		commit{parents: []string{"main", "side"}, files: files{"new": text(change(lines, 1, 4, 9)...), "dir/f": {"100644", "w\nx\ny"}, "link": {"120000", "t"}, "sub": {"160000", strings.Repeat("1", 40)}, "empty": {"100644", ""}}},
	)
	g := graph(t, r.store())
	for _, path := range []string{"new", "dir/f", "link"} {
		r.compareBlame(g, "main", path)
	}
	if lines, err := diff.Blame(t.Context(), g, r.OID("main"), "empty"); err != nil || len(lines) != 0 {
		t.Errorf("an empty file: %v, %v", lines, err)
	}
	tests := []struct {
		name, rev, path string
		want            errkind.Kind
	}{
		{"no file", "main", "nothing", errkind.NotFound},
		{"gone since", "main", "old", errkind.NotFound},
		{"a directory", "main", "dir", errkind.NotFound},
		{"below a file", "main", "new/x", errkind.NotFound},
		{"a submodule", "main", "sub", errkind.NotFound},
		{"an empty path", "main", "", errkind.NotFound},
		{"a slash at the end", "main", "dir/f/", errkind.NotFound},
		{"a slash at the start", "main", "/dir/f", errkind.NotFound},
		{"a tree for a commit", "main^{tree}", "new", errkind.NotFound},
	}
	for _, tt := range tests {
		_, err := diff.Blame(t.Context(), g, r.OID(tt.rev), tt.path)
		if err == nil || errkind.Of(err) != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := diff.Blame(ctx, g, r.OID("main"), "new"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
