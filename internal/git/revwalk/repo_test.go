package revwalk_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// gitRepo is the oracle, and the maker of packs.
type gitRepo struct{ gittest.Repo }

func newGitRepo(tb testing.TB) gitRepo {
	tb.Helper()
	return gitRepo{gittest.New(tb)}
}

// refs reads the repository's references.
func (r gitRepo) refs() *git.Refs {
	var list []git.Ref
	for l := range strings.Lines(r.Git("for-each-ref", "--format=%(refname) %(objectname) %(*objectname)")) {
		f := strings.Fields(l)
		ref := git.Ref{Name: git.RefName(f[0]), OID: git.MustParseOID(f[1])}
		if len(f) > 2 {
			ref.Peeled = git.MustParseOID(strings.TrimSpace(r.Git("rev-parse", f[1]+"^{}")))
		}
		list = append(list, ref)
	}
	return git.NewRefs("refs/heads/main", list)
}

// store receives what tips (all references without) lead to, in several pushes.
func (r gitRepo) store(pushes int) *odb.Store {
	r.TB.Helper()
	s := odb.NewStore(nil, nil, odb.NewCache(16<<20))
	commits := strings.Fields(r.Git("rev-list", "--reverse", "--topo-order", "--all"))
	var before []string
	for i := range pushes {
		revs := []string{commits[(i+1)*len(commits)/pushes-1]}
		if i == pushes-1 {
			revs = append(revs, strings.Fields(r.Git("for-each-ref", "--format=%(objectname)"))...)
		}
		in := strings.Join(revs, "\n") + "\n"
		if len(before) > 0 {
			in += "^" + strings.Join(before, "\n^") + "\n"
		}
		before = append(before, revs...)
		s = receive(r.TB, s, r.PackObjects(in, "--thin", "--delta-base-offset"))
	}
	return s
}

func receive(tb testing.TB, s *odb.Store, packfile []byte) *odb.Store {
	tb.Helper()
	q, err := s.Receive(tb.Context(), bytes.NewReader(packfile), pack.ReceiveOptions{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatalf("receive: %v", err)
	}
	tb.Cleanup(func() { q.Close() })
	return q.Store
}

func graphOf(tb testing.TB, s *odb.Store) *revwalk.Graph {
	tb.Helper()
	g, err := revwalk.NewGraph(s, nil)
	if err != nil {
		tb.Fatalf("NewGraph: %v", err)
	}
	return g
}

func rngOf(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// history writes a random history: branches, merges, octopuses, criss-crosses, unrelated roots, with odd seeds
// wrong clocks; files that
// change, come back, move and are copied, alone and by directory; links, submodules, tags of tags, of trees and of blobs.
func history(tb testing.TB, seed uint64, commits int) gitRepo {
	tb.Helper()
	r, rng := newGitRepo(tb), rngOf(seed)
	var in strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&in, format, args...) }
	trees := make([]map[string]string, commits+1) // files by commit
	dirs := []string{"", "a/", "a/b/", "a/b/c/", "lib/", "lib-x/", "z/"}
	name := func() string { return dirs[rng.IntN(len(dirs))] + string(rune('f'+rng.IntN(4))) }
	pick := func(c int) int { return max(1, c-1-int(rng.ExpFloat64()*3)) }
	for c := 1; c <= commits; c++ {
		parents := []int{}
		if c > 1 && rng.IntN(20) > 0 {
			for range []int{1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 5}[rng.IntN(13)] {
				if p := pick(c); !slices.Contains(parents, p) {
					parents = append(parents, p)
				}
			}
		}
		when := 1_700_000_000 + c*60
		if seed%2 == 1 && rng.IntN(12) == 0 {
			when += rng.IntN(2400) - 1200
		}
		files := map[string]string{}
		if len(parents) == 0 {
			say("reset refs/heads/tmp\n")
		} else {
			maps.Copy(files, trees[parents[0]])
		}
		say("commit refs/heads/tmp\nmark :%d\ncommitter Cy <cy@example.org> %d +0000\ndata 2\nx\n\n", c, when)
		for i, p := range parents {
			say("%s :%d\n", []string{"from", "merge"}[min(i, 1)], p)
		}
		for range rng.IntN(4) {
			changeFile(say, rng, files, name)
		}
		trees[c] = files
	}
	for i := range 4 {
		say("reset refs/heads/b%d\nfrom :%d\n\n", i, pick(commits))
	}
	say("reset refs/heads/main\nfrom :%d\n\n", commits)
	for i := range 4 {
		say("tag t%d\nfrom :%d\ntagger Cy <cy@example.org> 1700000000 +0000\ndata 1\nt\n", i, 1+rng.IntN(commits))
	}
	r.FastImport(in.String())
	r.Git("update-ref", "-d", "refs/heads/tmp")
	r.Git("tag", "-a", "-m", "x", "tt", "t1")
	r.Git("tag", "-a", "-m", "x", "ttt", "tt")
	for l := range strings.Lines(r.Git("ls-tree", "main")) {
		if f := strings.Fields(l); f[1] != "commit" {
			r.Git("tag", "-a", "-m", "x", "some", f[2])
			r.Git("tag", "light", f[2])
			break
		}
	}
	r.Git("tag", "-a", "-m", "x", "root", "main^{tree}")
	return r
}

func changeFile(say func(string, ...any), rng *rand.Rand, files map[string]string, name func() string) {
	have := slices.Sorted(maps.Keys(files))
	n := name()
	// A file does not replace a directory here, nor the other way: see TestFileBecomesDirectory.
	if len(have) > 0 {
		switch old := have[rng.IntN(len(have))]; rng.IntN(12) {
		case 0:
			say("D %s\n", old)
			delete(files, old)
			return
		case 1:
			if files[old] != "" && old != n {
				say("R %s %s\n", old, n)
				files[n] = files[old]
				delete(files, old)
			}
			return
		case 2:
			if files[old] != "" {
				say("C %s %s\n", old, n)
				files[n] = files[old]
			}
			return
		case 3:
			if dir, rest, ok := strings.Cut(old, "/"); ok && rest != "" {
				say("R %s moved-%s\n", dir, dir)
				for _, f := range have {
					if strings.HasPrefix(f, dir+"/") {
						delete(files, f)
					}
				}
			}
			return
		}
	}
	switch rng.IntN(8) {
	case 0:
		say("M 160000 %040x sub\n", 1+rng.IntN(3))
	case 1:
		say("M 120000 inline %s\ndata 1\n%d\n", n, rng.IntN(9))
		files[n] = "link"
	default:
		// Few contents, so that some come back.
		data := strings.Repeat(fmt.Sprintf("line %d\n", rng.IntN(400)), 1+rng.IntN(30))
		say("M 100%d inline %s\ndata %d\n%s\n", []int{644, 755}[rng.IntN(2)], n, len(data), data)
		files[n] = data
	}
}

// closure is everything that tips lead to, by the simplest possible walk. cut are commits whose parents do not count.
func closure(tb testing.TB, s *odb.Store, tips []git.OID, cut map[git.OID]bool) map[git.OID]bool {
	tb.Helper()
	seen := map[git.OID]bool{}
	var visit func(o git.OID)
	visit = func(o git.OID) {
		if seen[o] {
			return
		}
		seen[o] = true
		for _, l := range links(tb, s, o, cut) {
			visit(l)
		}
	}
	for _, o := range tips {
		visit(o)
	}
	return seen
}

// links is what an object names.
func links(tb testing.TB, s *odb.Store, o git.OID, cut map[git.OID]bool) (list []git.OID) {
	tb.Helper()
	obj, err := s.Read(o)
	if err != nil {
		tb.Fatal(err)
	}
	switch obj.Kind {
	case git.Commit:
		tree, parents, _, err := git.CommitLinks(obj.Data, nil)
		if err != nil {
			tb.Fatal(err)
		}
		if list = append(list, tree); !cut[o] {
			list = append(list, parents...)
		}
	case git.Tree:
		for e := range git.TreeEntries(obj.Data) {
			if e.Mode != git.ModeGitlink {
				list = append(list, e.OID)
			}
		}
	case git.Tag:
		target, _, err := git.TagLink(obj.Data)
		if err != nil {
			tb.Fatal(err)
		}
		list = append(list, target)
	case git.Blob:
	}
	return list
}

func members(s *odb.Store, set *odb.Set) map[git.OID]bool {
	list := map[git.OID]bool{}
	if set != nil {
		for at := range set.All() {
			list[s.OID(at)] = true
		}
	}
	return list
}

func setOf(list []git.OID) map[git.OID]bool {
	set := map[git.OID]bool{}
	for _, o := range list {
		set[o] = true
	}
	return set
}

// minus says what a has and b lacks.
func minus(a, b map[git.OID]bool) (list []git.OID) {
	for o := range a {
		if !b[o] {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, git.OID.Compare)
	return list
}

func hexes(list []git.OID, prefix string) string {
	var b strings.Builder
	for _, o := range list {
		b.WriteString(prefix + o.String() + "\n")
	}
	return b.String()
}
