package odb_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
)

// The roots that a store carries along, push by push, are those that its objects say.
func TestRootsAreWhatNothingNames(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rngOf(seed)
			repo := newGitRepo(t)
			repo.history(rng, 60)
			s := repo.split(rng, 1+int(seed))
			want := rootsOf(t, s)
			got := slices.SortedFunc(slices.Values(s.Roots()), git.OID.Compare)
			if !slices.Equal(got, want) {
				t.Errorf("roots %v, want %v", got, want)
			}
		})
	}
}

// rootsOf reads every object of a store and returns those that no other names.
func rootsOf(t *testing.T, s *odb.Store) (roots []git.OID) {
	t.Helper()
	all := odb.NewSet(s)
	all.AddAll(s)
	named := map[git.OID]bool{}
	for at := range all.All() {
		obj, err := s.ReadAt(at)
		if err != nil {
			t.Fatal(err)
		}
		switch obj.Kind {
		case git.Commit:
			c, err := git.ParseCommit(obj.Data)
			if err != nil {
				t.Fatal(err)
			}
			named[c.Tree] = true
			for _, p := range c.Parents {
				named[p] = true
			}
		case git.Tree:
			for e := range git.TreeEntries(obj.Data) {
				if e.Mode != git.ModeGitlink {
					named[e.OID] = true
				}
			}
		case git.Tag:
			o, _, _ := git.TagLink(obj.Data)
			named[o] = true
		case git.Blob:
		}
	}
	for at := range all.All() {
		if o := s.OID(at); !named[o] {
			roots = append(roots, o)
		}
	}
	slices.SortFunc(roots, git.OID.Compare)
	return roots
}

func TestQuarantineTellsWhatBecomesOfRoots(t *testing.T) {
	repo := newGitRepo(t)
	repo.history(rngOf(9), 5)
	s := receive(t, emptyStore(), repo.PackObjects("main~2"))
	if got, want := s.Roots(), []git.OID{repo.OID("main~2")}; !slices.Equal(got, want) {
		t.Fatalf("roots %v, want %v", got, want)
	}
	q, err := s.Receive(t.Context(), bytes.NewReader(repo.PackObjects("main\n^main~2", "--thin")), pack.ReceiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if want := []git.OID{repo.OID("main~2")}; !slices.Equal(q.Covers, want) {
		t.Errorf("Covers %v, want %v", q.Covers, want)
	}
	if want := []git.OID{repo.OID("main")}; !slices.Equal(q.NewRoots, want) || !slices.Equal(q.Store.Roots(), want) {
		t.Errorf("NewRoots %v, the store's %v, want %v", q.NewRoots, q.Store.Roots(), want)
	}
	if s.Has(repo.OID("main")) || len(s.Packs()) != 1 {
		t.Error("the quarantine changed the store")
	}

	// The same pack when somebody else was faster: nothing is new.
	if err := q.Rebase(q.Store); err != nil || len(q.Covers) != 0 || len(q.NewRoots) != 0 {
		t.Errorf("after a rebase onto itself: covers %v, new roots %v, %v", q.Covers, q.NewRoots, err)
	}
	// And when what it stands on has gone.
	if err := q.Rebase(emptyStore()); !errors.Is(err, errkind.Invalid) {
		t.Errorf("rebase onto nothing: %v, want errkind.Invalid", err)
	}
}

func TestRootsThatAreNotKnownStaySo(t *testing.T) {
	repo := newGitRepo(t)
	repo.history(rngOf(9), 5)
	s := receive(t, emptyStore(), repo.PackObjects("main~2"))
	s = odb.NewStore(s.Packs(), nil, nil)
	s = receive(t, s, repo.PackObjects("main\n^main~2"))
	if s.Roots() != nil {
		t.Errorf("roots %v, want nil", s.Roots())
	}
}

func TestEmptyPackChangesNothing(t *testing.T) {
	repo := newGitRepo(t)
	repo.history(rngOf(9), 5)
	s := receive(t, emptyStore(), repo.PackObjects("main"))
	q, err := s.Receive(t.Context(), bytes.NewReader(repo.PackObjects("main\n^main")), pack.ReceiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if q.Store != s || q.Pack.Len() != 0 {
		t.Error("an empty pack made another store")
	}
}

// A pack whose objects name what neither it nor the store has is refused, and leaves nothing behind.
func TestPackWithMissingLinksIsRefused(t *testing.T) {
	repo := newGitRepo(t)
	repo.history(rngOf(6), 6)
	base := emptyStore()
	onParent := receive(t, base, repo.PackObjects("main~1"))
	commit, parent, tree := repo.OID("main"), repo.OID("main~1"), repo.OID("main^{tree}")
	var subtree git.OID
	for line := range strings.Lines(repo.Git("ls-tree", "main")) {
		f := strings.Fields(line)
		if f[1] == "tree" && !onParent.Has(git.MustParseOID(f[2])) {
			subtree = git.MustParseOID(f[2])
		}
	}
	without := func(missing git.OID) []byte {
		var list strings.Builder
		for _, o := range repo.reachable("main", "^main~1") {
			if o != missing {
				fmt.Fprintln(&list, o)
			}
		}
		// Objects that main~1 has as well are listed by none of the above.
		for _, o := range repo.reachable("main^{tree}") {
			if o != missing {
				fmt.Fprintln(&list, o)
			}
		}
		return repo.PackOnly(list.String())
	}
	tests := []struct {
		name string
		on   *odb.Store
		miss git.OID
		want string
	}{
		{"parent", base, git.OID{}, fmt.Sprintf("missing object %s, which commit %s names", parent, commit)},
		{"tree", base, tree, "missing object "},
		{"tree of a commit", onParent, tree, fmt.Sprintf("missing object %s, which commit %s names", tree, commit)},
		{"subtree", onParent, subtree, fmt.Sprintf("missing object %s, which tree ", subtree)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			q, err := tt.on.Receive(t.Context(), bytes.NewReader(without(tt.miss)), pack.ReceiveOptions{Dir: dir, MemoryPack: 1})
			if err == nil {
				q.Close()
			}
			if !errors.Is(err, errkind.Invalid) || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("Receive: %v, want errkind.Invalid and %q", err, tt.want)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("%d files are left behind: %s", len(left), left[0].Name())
			}
		})
	}
}

// A link must lead to the kind of object that the link says.
func TestPackWithLinksToTheWrongKindIsRefused(t *testing.T) {
	w := emptyStore().NewWriter()
	blob, err := w.Put(git.Blob, []byte("no tree"))
	if err != nil {
		t.Fatal(err)
	}
	q := finish(t, w)

	w = q.Store.NewWriter()
	commit, err := w.Put(git.Commit, fmt.Appendf(nil, "tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nm\n", blob))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("object %s is a blob, but commit %s names it as a tree", blob, commit)
	if _, err := w.Finish(t.Context(), pack.ReceiveOptions{}); !errors.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), want) {
		t.Errorf("Finish: %v, want errkind.Invalid and %q", err, want)
	}
}

// A gitlink names a commit of another repository, which nobody has here.
func TestGitlinksNameNothing(t *testing.T) {
	w := emptyStore().NewWriter()
	tree, err := w.Edit(git.OID{}, []odb.Change{{Path: "sub", Mode: git.ModeGitlink, OID: git.OID{7}}})
	if err != nil {
		t.Fatal(err)
	}
	if q := finish(t, w); !slices.Equal(q.Store.Roots(), []git.OID{tree}) {
		t.Errorf("roots %v, want the tree %s", q.Store.Roots(), tree)
	}
}

func TestThinPackNeedsItsBases(t *testing.T) {
	repo := newGitRepo(t)
	repo.history(rngOf(8), 30)
	thin := repo.PackObjects("main\n^main~12", "--thin")
	if _, err := emptyStore().Receive(t.Context(), bytes.NewReader(thin), pack.ReceiveOptions{}); !errors.Is(err, errkind.Invalid) {
		t.Errorf("Receive: %v, want errkind.Invalid", err)
	}
	s := receive(t, emptyStore(), repo.PackObjects("main~12"))
	q, err := s.Receive(t.Context(), bytes.NewReader(thin), pack.ReceiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if q.Appended == 0 {
		t.Error("the pack was not thin: the test shows nothing")
	}
}

func finish(t *testing.T, w *odb.Writer) *odb.Quarantine {
	t.Helper()
	q, err := w.Finish(t.Context(), pack.ReceiveOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatalf("finish: %v", err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}
