package diff_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/diff"
)

// randomFiles makes a small tree in which names are files on one side and directories on the other now and then.
func randomFiles(rnd *rand.Rand) files {
	f := files{}
	names := []string{"a", "a.c", "a-b", "b", "lib", "lib.go", "lib0", "z\xff"}
	for range rnd.IntN(20) {
		path := names[rnd.IntN(len(names))]
		for range rnd.IntN(3) {
			path += "/" + names[rnd.IntN(len(names))]
		}
		switch rnd.IntN(8) {
		case 0:
			f[path] = file{"120000", fmt.Sprint(rnd.IntN(3))}
		case 1:
			f[path] = file{"160000", fmt.Sprintf("%040d", 1+rnd.IntN(3))}
		case 2:
			f[path] = file{"100755", fmt.Sprintln(rnd.IntN(3))}
		default:
			f[path] = file{"100644", fmt.Sprintln(rnd.IntN(3))}
		}
	}
	for path := range f { // a name is a file or a directory; the file goes
		for other := range f {
			if strings.HasPrefix(other, path+"/") {
				delete(f, path)
			}
		}
	}
	return f
}

// TestTreesIsGits: random trees differ as git diff-tree says.
func TestTreesIsGits(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	r := newGitRepo(t)
	const n = 24
	var history []commit
	for i := range n {
		history = append(history, commit{branch: fmt.Sprint("c", i), files: randomFiles(rnd)})
	}
	r.history(history...)
	s := r.store()
	for i := range n - 1 {
		a, b := fmt.Sprint("c", i), fmt.Sprint("c", i+1)
		want := r.Git("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", a, b)
		got := raw(collect(t, s, r.OID(a+"^{tree}"), r.OID(b+"^{tree}")))
		if diff := cmp.Diff(strings.Split(want, "\x00"), strings.Split(got, "\x00")); diff != "" {
			t.Errorf("%s to %s (-git +ours):\n%s", a, b, diff)
		}
	}
	// From nothing, to nothing, and from nothing to nothing.
	tree := r.OID("c1^{tree}")
	all := collect(t, s, git.OID{}, tree)
	if want := len(strings.Fields(r.Git("ls-tree", "-r", "--format=%(objectname)", "c1"))); len(all) != want || all[0].Old.Mode != 0 {
		t.Errorf("%d changes from nothing, want %d additions", len(all), want)
	}
	if gone := collect(t, s, tree, git.OID{}); len(gone) != len(all) || gone[0].New.Mode != 0 {
		t.Errorf("%d changes to nothing, want %d deletions", len(gone), len(all))
	}
	if none := collect(t, s, git.OID{}, git.OID{}); len(none) != 0 {
		t.Errorf("%d changes from nothing to nothing", len(none))
	}
	// A caller may leave early.
	for range diff.Trees(t.Context(), s, git.OID{}, tree) {
		break
	}
}

// memory is a store of what tests put in, which counts what is read.
type memory struct {
	objects map[git.OID]git.Object
	reads   int
}

func newMemory() *memory { return &memory{objects: map[git.OID]git.Object{}} }

func (m *memory) put(k git.Kind, data []byte) git.OID {
	o := git.Hash(k, data)
	m.objects[o] = git.Object{Kind: k, Data: data}
	return o
}

func (m *memory) Read(o git.OID) (git.Object, error) {
	m.reads++
	obj, ok := m.objects[o]
	if !ok {
		return obj, fmt.Errorf("no object %s: %w", o, errkind.NotFound)
	}
	return obj, nil
}

func (m *memory) Stat(o git.OID) (git.Kind, int64, error) {
	obj, ok := m.objects[o]
	if !ok {
		return 0, 0, fmt.Errorf("no object %s: %w", o, errkind.NotFound)
	}
	return obj.Kind, int64(len(obj.Data)), nil
}

func (m *memory) tree(entries ...git.Entry) git.OID {
	var data []byte
	for _, e := range entries {
		data = git.AppendEntry(data, e)
	}
	return m.put(git.Tree, data)
}

func entry(mode git.Mode, name string, o git.OID) git.Entry {
	return git.Entry{Mode: mode, Name: []byte(name), OID: o}
}

// TestTreesReadsOnlyWhatDiffers: of a large tree with one change, only the way to it is read.
func TestTreesReadsOnlyWhatDiffers(t *testing.T) {
	m := newMemory()
	one, two := m.put(git.Blob, []byte("1")), m.put(git.Blob, []byte("2"))
	build := func(leaf git.OID) git.OID {
		at := m.tree(entry(git.ModeFile, "f", leaf))
		for range 10 {
			at = m.tree(entry(git.ModeDir, "a", m.tree(entry(git.ModeFile, "x", one))), entry(git.ModeDir, "b", at))
		}
		return at
	}
	a, b := build(one), build(two)
	n := 0
	for c, err := range diff.TreesOf(t.Context(), m, a, b) {
		if err != nil || c.New.Path != "b/b/b/b/b/b/b/b/b/b/f" {
			t.Errorf("change %v, %v", c, err)
		}
		n++
	}
	if n != 1 || m.reads != 22 {
		t.Errorf("%d changes, %d reads; want 1 and 22", n, m.reads)
	}
}

func TestTreesRefusesBadTrees(t *testing.T) {
	m := newMemory()
	blob := m.put(git.Blob, []byte("x"))
	deep := m.tree(entry(git.ModeFile, "f", blob))
	for range 5000 {
		deep = m.tree(entry(git.ModeDir, "d", deep))
	}
	tests := []struct {
		name string
		tree git.OID
		want errkind.Kind
	}{
		{"missing", git.Hash(git.Tree, []byte("?")), errkind.NotFound},
		{"a blob", blob, errkind.Invalid},
		{"cut short", m.put(git.Tree, []byte("100644 f\x00short")), errkind.Invalid},
		{"too deep", deep, errkind.TooLarge},
		{"missing below", m.tree(entry(git.ModeDir, "d", git.Hash(git.Tree, []byte("?")))), errkind.NotFound},
	}
	for _, tt := range tests {
		for _, sides := range [][2]git.OID{{tt.tree, {}}, {{}, tt.tree}} {
			var last error
			for _, err := range diff.TreesOf(t.Context(), m, sides[0], sides[1]) {
				last = err
			}
			if last == nil || errkind.Of(last) != tt.want {
				t.Errorf("%s: %v, want %v", tt.name, last, tt.want)
			}
		}
	}
	// A tree whose directories name one tree again and again has more paths than time: the context ends it.
	wide := m.tree(entry(git.ModeFile, "f", blob))
	for range 40 {
		wide = m.tree(entry(git.ModeDir, "a", wide), entry(git.ModeDir, "b", wide))
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	for _, err := range diff.TreesOf(ctx, m, git.OID{}, wide) {
		if n++; n == 1000 {
			cancel()
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if n > 2000 {
			t.Fatal("a cancelled walk goes on")
		}
	}
	cancel()
}
