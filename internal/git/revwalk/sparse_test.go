package revwalk_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// Patterns match what git's match: the blobs of a tree that rev-list --filter=sparse:oid lists.
func TestSparsePatternsLikeGit(t *testing.T) {
	paths := []string{
		"a", "b", "ab", "a.c", "a.h", "x/a", "x/b", "x/y/a", "x/y/z/a", "x/y/z/b.c", "docs/a.txt", "docs/b/c.txt", "[a]", "a*b", "a b", "#h",
		"!n", "-", "]", "^", "src/main.c", "src/test/main.c", "src/test/deep/main.c", "end ", "x/docs/a.txt", "A", "aXb", "ä", "back\\slash",
	}
	r := newGitRepo(t)
	var in strings.Builder
	in.WriteString("commit refs/heads/main\ncommitter Cy <cy@example.org> 1700000000 +0000\ndata 1\nx\n")
	for _, p := range paths {
		fmt.Fprintf(&in, "M 644 inline %q\ndata %d\n%s\n", p, len(p), p)
	}
	r.FastImport(strings.ReplaceAll(in.String(), `"ä"`, `"\303\244"`))
	s := r.store(1)
	g, tip := graphOf(t, s), []git.OID{r.OID("main")}
	for _, list := range []string{
		"", "*", "/*", "/*\n!/*/", "a", "/a", "x", "x/", "/x/", "x/*", "x/**", "**/a", "x/**/a", "x/**/", "**", "***", "x**", "x/y**/a", "*.c", "!*.c", "*\n!*.c",
		"*\n!docs/\ndocs/b", "docs/*\n!docs/b", "src/*/main.c", "src/**/main.c\n!src/test", "[ab]", "[a-b]", "[!a]", "[^a-z]", "[]]", "[]-]", "[a", "[[:alpha:]]",
		"[[:nope:]]a", "[a-]", "[z-a]", "[\\]]", "?", "a?b", "\\#h", "#h", "\\!n", "!n", "a\\*b", "a b", "end ", "end\\ ", "a   ", "\\[a\\]", "x/y/", "y/", "y/a",
		"/y", "a\r\nb\r", "\ufeffa", "x/?/a", "x?a", "x[/]a", "x[!b]a", "back\\\\slash", "back\\", "/", "//", "!", "!/", "***/a", "x/***/a", "a**b", "[[.a.]]", "[--a]",
	} {
		spec := "sparse:oid=" + strings.TrimSpace(r.GitIn(list, "hash-object", "-w", "--stdin"))
		want := setOf(r.OIDs("", "rev-list", "--objects", "--no-object-names", "--filter="+spec, "main"))
		got := members(s, plan(t, g, revwalk.Request{Wants: tip, Filter: resolved(t, r, spec)}).Send)
		name := func(list []git.OID) (names []string) {
			for _, o := range list {
				names = append(names, string(r.Read(o)[0].Data))
			}
			return names
		}
		if extra, missing := minus(got, want), minus(want, got); len(extra)+len(missing) > 0 {
			t.Errorf("patterns %q: sent and not by git: %q, missing: %q", list, name(extra), name(missing))
		}
	}
}

func TestSparseIsBounded(t *testing.T) {
	for _, text := range []string{strings.Repeat("a", 70<<10), strings.Repeat("a\n", 1001)} {
		f, err := revwalk.ParseFilter("sparse:oid=x")
		if err != nil {
			t.Fatal(err)
		}
		err = f.Resolve(func(string) (git.OID, []byte, error) { return git.OID{1}, []byte(text), nil })
		if !errors.Is(err, errkind.TooLarge) {
			t.Errorf("patterns of %d bytes: %v, want errkind.TooLarge", len(text), err)
		}
	}
}

func FuzzSparsePatterns(f *testing.F) {
	for _, s := range []string{"*\n!/*/\n", "a/**/b", "[!a-z]\\#", "[[:alpha:]]x", "**", "[a-\\]]"} {
		f.Add(s)
	}
	w := odb.NewStore(nil, nil, odb.NewCache(1<<20)).NewWriter()
	tree, err := w.Edit(git.OID{}, []odb.Change{
		{Path: "a/b/c", Mode: git.ModeFile, Data: []byte("1")}, {Path: "d.e", Mode: git.ModeFile, Data: []byte("2")},
	})
	if err != nil {
		f.Fatal(err)
	}
	q, err := w.Finish(f.Context(), pack.ReceiveOptions{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { q.Close() })
	g := graphOf(f, q.Store)
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := revwalk.ParseFilter("combine:sparse:oid=x+object:type=blob")
		if err != nil {
			t.Fatal(err)
		}
		if filter.Resolve(func(string) (git.OID, []byte, error) { return git.OID{1}, []byte(text), nil }) != nil {
			return
		}
		p := plan(t, g, revwalk.Request{Wants: []git.OID{tree}, Filter: filter})
		if !slices.Contains([]int{1, 2, 3}, p.Send.Len()) {
			t.Errorf("patterns %q: %d objects", text, p.Send.Len())
		}
	})
}
