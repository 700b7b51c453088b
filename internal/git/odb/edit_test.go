package odb_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
)

// Any sequence of edits makes the trees that git's index makes of them, or is refused where a path stands in another's way.
func TestEditMakesTheTreesThatGitMakes(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rngOf(seed)
			repo := newGitRepo(t)
			w := emptyStore().NewWriter()
			files := map[string]git.Entry{} // the model: what an index holds
			var tree git.OID
			done, refused := 0, 0
			for range 200 {
				changes := randomChanges(rng, files)
				want := applyToModel(files, changes)
				got, err := w.Edit(tree, changes)
				if want == nil {
					if err == nil {
						t.Fatalf("%v onto %v: want an error", changes, slices.Sorted(maps.Keys(files)))
					}
					refused++
					continue
				}
				if err != nil {
					t.Fatalf("%v onto %v: %v", changes, slices.Sorted(maps.Keys(files)), err)
				}
				tree, files = got, want
				if done++; done%3 > 0 { // git takes its time
					continue
				}
				if want := writeTree(repo, files); got != want {
					t.Fatalf("%v: tree %s, git makes %s", changes, got, want)
				}
			}
			if done < 20 || refused < 10 {
				t.Errorf("%d edits were made and %d refused: the test shows little", done, refused)
			}
		})
	}
}

// randomChanges makes changes of which most are possible.
func randomChanges(rng *rand.Rand, files map[string]git.Entry) (list []odb.Change) {
	names := []string{"a", "b", "a.c", "a-b", "lib", "ü"}
	paths := slices.Sorted(maps.Keys(files))
	seen := map[string]bool{}
	for range 1 + rng.IntN(5) {
		var c odb.Change
		if len(paths) > 0 && rng.IntN(2) == 0 {
			c.Path = paths[rng.IntN(len(paths))]
			c.Delete = rng.IntN(3) > 0
		} else {
			var parts []string
			for range 1 + rng.IntN(4) {
				parts = append(parts, names[rng.IntN(len(names))])
			}
			c.Path = strings.Join(parts, "/")
			c.Delete = rng.IntN(30) == 0
		}
		if seen[c.Path] && rng.IntN(20) > 0 {
			continue
		}
		seen[c.Path] = true
		if !c.Delete {
			c.Mode = []git.Mode{git.ModeFile, git.ModeExec, git.ModeSymlink, git.ModeGitlink}[rng.IntN(4)]
			c.Data = fmt.Append(nil, rng.IntN(100))
			if c.Mode == git.ModeGitlink {
				c.Data, c.OID = nil, git.OID{byte(1 + rng.IntN(200))}
			}
		}
		list = append(list, c)
	}
	return list
}

// applyToModel returns what the files become, or nil when the changes must be refused.
func applyToModel(files map[string]git.Entry, changes []odb.Change) map[string]git.Entry {
	out := maps.Clone(files)
	seen := map[string]bool{}
	for _, c := range changes {
		if _, ok := files[c.Path]; seen[c.Path] || c.Delete && !ok {
			return nil
		}
		seen[c.Path] = true
		if c.Delete {
			delete(out, c.Path)
			continue
		}
		o := c.OID
		if c.Mode != git.ModeGitlink {
			o = git.Hash(git.Blob, c.Data)
		}
		out[c.Path] = git.Entry{Mode: c.Mode, OID: o}
	}
	paths := slices.Sorted(maps.Keys(out))
	for _, p := range paths {
		for i := range p {
			if _, ok := out[p[:i]]; ok && p[i] == '/' {
				return nil
			}
		}
	}
	return out
}

// writeTree lets git make the tree of files.
func writeTree(repo gitRepo, files map[string]git.Entry) git.OID {
	repo.TB.Helper()
	repo.Git("read-tree", "--empty")
	var in strings.Builder
	for p, e := range files {
		fmt.Fprintf(&in, "%s %s\t%s\x00", e.Mode, e.OID, p)
	}
	repo.GitIn(in.String(), "update-index", "--add", "-z", "--index-info")
	return git.MustParseOID(strings.TrimSpace(repo.Git("write-tree", "--missing-ok")))
}

func TestEditSaysWhyNot(t *testing.T) {
	w := emptyStore().NewWriter()
	file := func(p string) odb.Change { return odb.Change{Path: p, Data: []byte("x")} }
	gone := func(p string) odb.Change { return odb.Change{Path: p, Delete: true} }
	base, err := w.Edit(git.OID{}, []odb.Change{file("file"), file("dir/one"), file("dir/two"), {Path: "sub", Mode: git.ModeGitlink, OID: git.OID{1}}})
	if err != nil {
		t.Fatal(err)
	}
	blob, _ := w.Put(git.Blob, []byte("x"))
	list := func(c ...odb.Change) []odb.Change { return c }
	tests := []struct {
		name    string
		changes []odb.Change
		want    errkind.Kind
		text    string
	}{
		{"delete what is not there", list(gone("nothing")), errkind.NotFound, `"nothing"`},
		{"delete below what is not there", list(gone("no/thing")), errkind.NotFound, `"no/thing"`},
		{"delete in a directory", list(gone("dir/three")), errkind.NotFound, `"dir/three"`},
		{"delete below a file", list(gone("file/x")), errkind.NotFound, `"file/x"`},
		{"delete below a file that goes", list(gone("file"), gone("file/x")), errkind.NotFound, `"file/x"`},
		{"delete below a file that is written", list(file("file"), gone("file/x")), errkind.NotFound, `"file/x"`},
		{"delete a directory", list(gone("dir")), errkind.Invalid, "is a directory"},
		{"file in a directory's place", list(file("dir")), errkind.Conflict, `write "dir": it is a directory`},
		{"file in a directory's place, not all deleted", list(file("dir"), gone("dir/one")), errkind.Conflict, `"dir"`},
		{"directory in a file's place", list(file("file/x")), errkind.Conflict, `"file" is a file`},
		{"directory in a gitlink's place", list(file("sub/x/y")), errkind.Conflict, `"sub" is a file`},
		{"both a file and a directory", list(file("new"), file("new/x")), errkind.Invalid, `"new/x"`},
		{"twice", list(file("a"), file("b"), file("a")), errkind.Invalid, `two changes of "a"`},
		{"written and deleted", list(file("file"), gone("file")), errkind.Invalid, `two changes of "file"`},
		{"directory's mode", list(odb.Change{Path: "a", Mode: git.ModeDir, OID: base}), errkind.Invalid, "mode 040000"},
		{"odd mode", list(odb.Change{Path: "a", Mode: 0o100600, Data: []byte("x")}), errkind.Invalid, "mode 100600"},
		{"link at .gitmodules", list(odb.Change{Path: "a/.gitmodules", Mode: git.ModeSymlink, Data: []byte("x")}), errkind.Invalid, ".gitmodules"},
		{"gitlink without an ID", list(odb.Change{Path: "a", Mode: git.ModeGitlink}), errkind.Invalid, "commit's ID"},
		{"ID and data", list(odb.Change{Path: "a", OID: blob, Data: []byte("x")}), errkind.Invalid, "both"},
		{"ID of nothing", list(odb.Change{Path: "a", OID: git.OID{9}}), errkind.NotFound, git.OID{9}.String()},
		{"ID of a tree", list(odb.Change{Path: "a", OID: base}), errkind.Invalid, "is a tree"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree, err := w.Edit(base, tt.changes)
			if !errors.Is(err, tt.want) || !strings.Contains(fmt.Sprint(err), tt.text) {
				t.Errorf("Edit = %s, %v; want %v and %q", tree, err, tt.want, tt.text)
			}
		})
	}
	if _, err := w.Edit(blob, list(file("a"))); !errors.Is(err, errkind.Invalid) {
		t.Errorf("edit of a blob: %v, want errkind.Invalid", err)
	}
	if _, err := w.Edit(git.OID{9}, list(file("a"))); !errors.Is(err, errkind.NotFound) {
		t.Errorf("edit of nothing: %v, want errkind.NotFound", err)
	}
}

func TestEditReplacesFilesAndDirectories(t *testing.T) {
	w := emptyStore().NewWriter()
	edit := func(base git.OID, c ...odb.Change) git.OID {
		t.Helper()
		tree, err := w.Edit(base, c)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	file := func(p string) odb.Change { return odb.Change{Path: p, Data: []byte("x")} }
	gone := func(p string) odb.Change { return odb.Change{Path: p, Delete: true} }

	base := edit(git.OID{}, file("a/b/c"), file("d"))
	if got, want := edit(base, gone("a/b/c"), file("a")), edit(git.OID{}, file("a"), file("d")); got != want {
		t.Errorf("a file in a directory's place: %s, want %s", got, want)
	}
	if got, want := edit(base, gone("d"), file("d/e/f")), edit(git.OID{}, file("a/b/c"), file("d/e/f")); got != want {
		t.Errorf("a directory in a file's place: %s, want %s", got, want)
	}
	if got, want := edit(base, gone("a/b/c")), edit(git.OID{}, file("d")); got != want {
		t.Errorf("directories that are empty: %s, want %s", got, want)
	}
	if got := edit(base, gone("a/b/c"), gone("d")); got != git.Hash(git.Tree, nil) {
		t.Errorf("nothing left: %s, want the empty tree", got)
	}
	if got := edit(base); got != base {
		t.Errorf("no changes: %s, want %s", got, base)
	}
}

func TestEditKeepsWhatIsExecutable(t *testing.T) {
	w := emptyStore().NewWriter()
	base, err := w.Edit(git.OID{}, []odb.Change{{Path: "run", Mode: git.ModeExec, Data: []byte("1")}})
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[git.Mode]git.Mode{0: git.ModeExec, git.ModeFile: git.ModeFile, git.ModeExec: git.ModeExec} {
		got, err := w.Edit(base, []odb.Change{{Path: "run", Mode: mode, Data: []byte("2")}})
		if err != nil {
			t.Fatal(err)
		}
		other, err := w.Edit(git.OID{}, []odb.Change{{Path: "run", Mode: want, Data: []byte("2")}})
		if err != nil || got != other {
			t.Errorf("mode %s: %s, want %s, %v", mode, got, other, err)
		}
	}
}

// Paths from outside may climb, or hide in .git under one of its many names. None of them is ever written.
func TestEditRefusesBadPaths(t *testing.T) {
	w := emptyStore().NewWriter()
	bad := []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "./a", "../a", "a/..", "a/./b", "a/../b",
		".git", ".git/config", "a/.git/hooks/post-checkout", ".GIT", ".Git/x", "sub/.gIt",
		"git~1", "GIT~1/config", ".git.", ".git ", ".git. ./x", ".git::$INDEX_ALLOCATION/config",
		".g\u200cit/config", ".gi\u200dt", "\ufeff.git",
		"a\\b", "..\\a", ".git\\config", "a\x00b", "\x00",
		strings.Repeat("a/", 2048) + "a",
	}
	for _, p := range bad {
		if tree, err := w.Edit(git.OID{}, []odb.Change{{Path: p, Data: []byte("x")}}); !errors.Is(err, errkind.Invalid) {
			t.Errorf("write %.80q: %s, %v; want errkind.Invalid", p, tree, err)
		}
	}
	good := []string{".gitignore", ".gitattributes", "git", "a.git", ".github/x", "...", "a b", " a", "ü", "\xff", "-", "~", "git~", strings.Repeat("a/", 2047) + "a"}
	for _, p := range good {
		if _, err := w.Edit(git.OID{}, []odb.Change{{Path: p, Data: []byte("x")}}); err != nil {
			t.Errorf("write %.80q: %v", p, err)
		}
	}
}

// Edit never panics, and what it makes of any path has that path.
func FuzzEdit(f *testing.F) {
	f.Add("a", "a/b", false)
	f.Add("dir/one", "dir", true)
	f.Add(".git/config", "x", false)
	f.Add("a/../b", "a\\b", false)
	f.Add("lib.go", "lib/x", true)
	f.Fuzz(func(t *testing.T, first, second string, gone bool) {
		w := emptyStore().NewWriter()
		base, err := w.Edit(git.OID{}, []odb.Change{{Path: first, Data: []byte("1")}})
		if err != nil {
			return
		}
		changes := []odb.Change{{Path: second, Data: []byte("2")}}
		if gone {
			changes = append(changes, odb.Change{Path: first, Delete: true})
		}
		tree, err := w.Edit(base, changes)
		if err != nil {
			if k := errkind.Of(err); k == errkind.Internal {
				t.Fatalf("Edit(%q, %q): %v wraps no kind", first, second, err)
			}
			return
		}
		for part := range strings.SplitSeq(second, "/") {
			obj, err := w.Read(tree)
			if err != nil || git.Check(git.Tree, obj.Data) != nil {
				t.Fatalf("Edit(%q, %q): tree %s: %v", first, second, tree, err)
			}
			tree = git.OID{}
			for e := range git.TreeEntries(obj.Data) {
				if string(e.Name) == part {
					tree = e.OID
				}
			}
		}
		if tree != git.Hash(git.Blob, []byte("2")) {
			t.Fatalf("Edit(%q, %q): what was written is %s", first, second, tree)
		}
	})
}
