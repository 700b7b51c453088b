package odb_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
)

// Whatever packs a history came in, thin or with doubles, Reached is what git rev-list says.
func TestReachedIsWhatTipsLeadTo(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		repo := newGitRepo(t)
		rng := rngOf(seed)
		repo.history(rng, 80)
		s := repo.split(rng, 3+int(seed)*2)
		commits := repo.OIDs("", "rev-list", "--all")
		for range 12 {
			var tips []git.OID
			var revs []string
			for range 1 + rng.IntN(3) {
				// Mostly young ones, as people leave behind.
				o := commits[int(rng.ExpFloat64()*8)%len(commits)]
				tips, revs = append(tips, o), append(revs, o.String())
			}
			set, ok, err := s.ReachedAnyway(t.Context(), tips)
			if err != nil || !ok {
				t.Fatalf("seed %d: Reached(%v) = %v, %v", seed, revs, ok, err)
			}
			for at := range set.All() {
				if canonical, _ := s.Find(s.OID(at)); canonical != at {
					t.Errorf("seed %d: %s is in the set at %v, not at %v", seed, s.OID(at), at, canonical)
				}
			}
			if got, want := members(s, set), repo.reachable(revs...); !slices.Equal(got, want) {
				t.Errorf("seed %d: Reached(%v) has %d objects, git says %d", seed, revs, len(got), len(want))
			}
		}
	}
}

// A branch that was pushed and left behind is a pack that nothing names: nothing of it is read.
func TestReachedLeavesOutPacksUnread(t *testing.T) {
	t.Parallel()
	repo := newGitRepo(t)
	repo.history(rngOf(1), 60)
	repo.FastImport("commit refs/heads/topic\ncommitter C <c@d> 1 +0000\ndata 1\nx\nfrom refs/heads/main^0\nM 644 inline new\ndata 1\nx\n")
	s := emptyStore()
	var blind []*pack.Pack // packs of which only index and table can be read
	for _, revs := range []string{"main\nside\n", "topic\n^main\n"} {
		q, err := s.Receive(t.Context(), bytes.NewReader(repo.PackObjects(revs, "--thin")), pack.ReceiveOptions{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { q.Close() })
		p, err := pack.Open(unreadable{}, q.Pack.Size(), q.Idx, q.Table, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, blind = q.Store, append(blind, p)
	}
	b := odb.NewStore(blind, s.Roots(), nil)
	for _, revs := range [][]string{{"main", "side"}, {"topic", "side"}} {
		var tips []git.OID
		for _, r := range revs {
			tips = append(tips, repo.OID(r))
		}
		set, ok, err := b.Reached(t.Context(), tips)
		if err != nil || !ok || !slices.Equal(members(b, set), repo.reachable(revs...)) {
			t.Errorf("Reached(%v) has %d objects, %v, %v; git says %d", revs, set.Len(), ok, err, len(repo.reachable(revs...)))
		}
	}
}

// unreadable is a packfile that nobody may read.
type unreadable struct{}

func (unreadable) ReadAt([]byte, int64) (int, error) { return 0, errors.New("the packfile was read") }
