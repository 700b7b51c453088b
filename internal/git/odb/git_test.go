package odb_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
)

// gitRepo is the oracle, and the maker of packs.
type gitRepo struct{ gittest.Repo }

func newGitRepo(tb testing.TB) gitRepo {
	tb.Helper()
	return gitRepo{gittest.New(tb)}
}

// reachable lists what revs lead to.
func (r gitRepo) reachable(revs ...string) []git.OID {
	r.TB.Helper()
	list := r.OIDs(strings.Join(revs, "\n"), "rev-list", "--objects", "--no-object-names", "--stdin")
	slices.SortFunc(list, git.OID.Compare)
	return list
}

// history writes commits to refs/heads/main that change some files a little, which gives long delta chains, with
// directories, executables, symbolic links, gitlinks, merges and tags.
func (r gitRepo) history(rng *rand.Rand, commits int) {
	r.TB.Helper()
	var in strings.Builder
	files := map[string][]string{}
	names := []string{"README", "a.c", "a/x.c", "a/y.c", "a/b/c/deep.c", "lib/one.go", "lib/two.go", "lib-x/three.go", "z"}
	say := func(format string, args ...any) { fmt.Fprintf(&in, format, args...) }
	for c := range commits {
		when := 1_700_000_000 + c*60
		msg := fmt.Sprintf("change %d", c)
		side := c%7 == 6
		branch := "refs/heads/main"
		if side {
			branch = "refs/heads/side"
		}
		say("commit %s\nmark :%d\ncommitter Cy <cy@example.org> %d +0000\ndata %d\n%s\n", branch, c+1, when, len(msg), msg)
		switch {
		case side:
			say("from :%d\n", c)
		case c > 7 && c%7 == 0:
			say("from :%d\nmerge :%d\n", c-1, c)
		case c > 0:
			say("from :%d\n", c)
		}
		for range 1 + rng.IntN(3) {
			name := names[rng.IntN(len(names))]
			lines := files[name]
			if len(lines) == 0 {
				for range 40 + rng.IntN(200) {
					lines = append(lines, fmt.Sprintf("line %x of %s", rng.Uint64(), name))
				}
			}
			lines = slices.Clone(lines)
			lines[rng.IntN(len(lines))] = fmt.Sprintf("changed by %d: %x", c, rng.Uint64())
			if rng.IntN(4) == 0 {
				lines = append(lines, fmt.Sprintf("one more %x", rng.Uint64()))
			}
			files[name] = lines
			data := strings.Join(lines, "\n")
			say("M %s inline %s\ndata %d\n%s\n", []string{"100644", "100755"}[rng.IntN(2)], name, len(data), data)
		}
		if c%5 == 0 {
			say("M 120000 inline link\ndata 1\n%d\n", c%10)
			say("M 160000 %040x sub\n", c+1)
		}
		if c%11 == 10 {
			say("tag v%d\nfrom :%d\ntagger Cy <cy@example.org> %d +0000\ndata 1\nt\n", c, c+1, when)
		}
	}
	r.FastImport(in.String())
	r.Git("repack", "-a", "-d", "-q") // without what no reference leads to
}

// receive puts a pack into a store, and returns the store that it becomes.
func receive(tb testing.TB, s *odb.Store, packfile []byte) *odb.Store {
	tb.Helper()
	q, err := s.Receive(tb.Context(), bytes.NewReader(packfile), pack.ReceiveOptions{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatalf("receive: %v", err)
	}
	tb.Cleanup(func() { q.Close() })
	return q.Store
}

func emptyStore() *odb.Store { return odb.NewStore(nil, nil, odb.NewCache(8<<20)) }

// split feeds the history of a repository to a store as several pushes, packed in as many ways as git knows: thin or not,
// with deltas by distance or by ID, with or without objects that came before.
func (r gitRepo) split(rng *rand.Rand, pushes int) *odb.Store {
	r.TB.Helper()
	s := emptyStore()
	commits := strings.Fields(r.Git("rev-list", "--reverse", "--topo-order", "--all"))
	var before []string
	for i := range pushes {
		tip := commits[(i+1)*len(commits)/pushes-1]
		revs := []string{tip}
		if i == pushes-1 {
			revs = append(revs, strings.Fields(r.Git("for-each-ref", "--format=%(objectname)"))...)
		}
		var args []string
		if rng.IntN(2) == 0 {
			args = append(args, "--delta-base-offset")
		}
		if rng.IntN(3) > 0 { // else everything once more
			for _, b := range before {
				revs = append(revs, "^"+b)
			}
			if rng.IntN(3) > 0 {
				args = append(args, "--thin")
			}
		}
		if rng.IntN(3) == 0 {
			args = append(args, "--no-reuse-delta", "--depth=250", "--window=50")
		}
		s = receive(r.TB, s, r.PackObjects(strings.Join(revs, "\n"), args...))
		before = append(before, tip)
	}
	return s
}

// members lists a set's objects.
func members(s *odb.Store, set *odb.Set) (list []git.OID) {
	for at := range set.All() {
		list = append(list, s.OID(at))
	}
	slices.SortFunc(list, git.OID.Compare)
	return list
}

// setOf makes a set of objects that the store has.
func setOf(tb testing.TB, s *odb.Store, list []git.OID) *odb.Set {
	tb.Helper()
	set := odb.NewSet(s)
	for _, o := range list {
		at, ok := s.Find(o)
		if !ok {
			tb.Fatalf("the store lacks %s", o)
		}
		set.Add(at)
	}
	return set
}

func rngOf(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
