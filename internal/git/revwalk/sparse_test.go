package revwalk_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
		"/y", "a\r\nb\r", "\ufeffa", "x/?/a", "x?a", "x[/]a", "x[!b]a", "**/**/a", "x/**/**/a", "x/**/***/", "**/**", "back\\\\slash", "back\\", "/", "//", "!", "!/", "***/a", "x/***/a", "a**b", "[[.a.]]", "[--a]",
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
	long := strings.Repeat(strings.Repeat("a", 999)+"\n", 40)
	tests := []struct {
		lists []string
		want  string // "" is within the bounds
	}{
		{[]string{strings.Repeat("#\n", 33<<10)}, "more than 65536 bytes of patterns"},
		{[]string{long}, ""},
		{[]string{long, long + "b\n"}, "more than 65536 bytes of patterns"},
		{[]string{strings.Repeat("a\n", 1000)}, ""},
		{[]string{strings.Repeat("a\n", 1001)}, "more than 1000 patterns"},
		{[]string{"a\n" + strings.Repeat("b", 1024)}, ""},
		{[]string{"a\n" + strings.Repeat("b", 1025)}, "line 2: a pattern of more than 1024 bytes"},
		{[]string{strings.Repeat("*a", 32)}, ""},
		{[]string{strings.Repeat("*a", 33)}, "line 1: a pattern with more than 32 wildcards"},
		{[]string{strings.Repeat("?", 33)}, "more than 32 wildcards"},
		{[]string{strings.Repeat("[a]", 33)}, "more than 32 wildcards"},
		{[]string{strings.Repeat("**/a/", 33)}, "more than 32 wildcards"},
		{[]string{strings.Repeat("**/", 300) + "a"}, ""}, // is **/a
		{[]string{strings.Repeat("**/", 22<<10/3) + "a"}, "a pattern of more than 1024 bytes"},
	}
	for _, tt := range tests {
		var specs []string
		for i := range tt.lists {
			specs = append(specs, fmt.Sprintf("sparse:oid=%d", i))
		}
		f, err := revwalk.ParseFilter("combine:" + strings.Join(specs, "+"))
		if err != nil {
			t.Fatal(err)
		}
		err = f.Resolve(func(name string) (git.OID, []byte, error) {
			i, err := strconv.Atoi(name)
			return git.OID{byte(i)}, []byte(tt.lists[i]), err
		})
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, errkind.TooLarge) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%d lists, the first is %.40q of %d bytes: %v, want %q", len(tt.lists), tt.lists[0], len(tt.lists[0]), err, tt.want)
		}
	}
}

// Patterns cost something at each entry, so that the end of a request is looked for at each.
func TestASparsePlanEndsWithItsContext(t *testing.T) {
	r := newGitRepo(t)
	r.FastImport("commit refs/heads/main\ncommitter Cy <cy@example.org> 1700000000 +0000\ndata 1\nx\nM 644 inline a\ndata 1\na\n")
	g := graphOf(t, r.store(1))
	spec := "sparse:oid=" + strings.TrimSpace(r.GitIn("*", "hash-object", "-w", "--stdin"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := g.Plan(ctx, revwalk.Request{Wants: []git.OID{r.OID("main^{tree}")}, Filter: resolved(t, r, spec)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Plan after the end of its context: %v", err)
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
