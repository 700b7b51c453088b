package odb_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/skep-dev/skep/internal/git/odb"
)

// A Set is a map from places to nothing, only smaller: any sequence of operations leaves both the same.
func TestSetIsASetOfPlaces(t *testing.T) {
	repo := newGitRepo(t)
	rng := rngOf(3)
	repo.history(rng, 50)
	s := repo.split(rng, 4)
	var places []odb.Place
	for _, o := range repo.All() {
		at, _ := s.Find(o)
		places = append(places, at)
	}

	type pair struct {
		set  *odb.Set
		want map[odb.Place]bool
	}
	var pairs []pair
	for range 4 {
		pairs = append(pairs, pair{odb.NewSet(s), map[odb.Place]bool{}})
	}
	for step := range 3000 {
		p, q := &pairs[rng.IntN(4)], pairs[rng.IntN(4)]
		at := places[rng.IntN(len(places))]
		switch op := rng.IntN(100); {
		case op < 60:
			if got := p.set.Add(at); got == p.want[at] {
				t.Fatalf("step %d: Add = %v", step, got)
			}
			p.want[at] = true
		case op < 80:
			if got := p.set.Remove(at); got != p.want[at] {
				t.Fatalf("step %d: Remove = %v", step, got)
			}
			delete(p.want, at)
		case op < 85:
			p.set.Or(q.set)
			maps.Copy(p.want, q.want)
		case op < 87:
			p.set.And(q.set)
			maps.DeleteFunc(p.want, func(at odb.Place, _ bool) bool { return !q.want[at] })
		case op < 90:
			other := maps.Clone(q.want)
			p.set.AndNot(q.set)
			maps.DeleteFunc(p.want, func(at odb.Place, _ bool) bool { return other[at] })
		case op < 95:
			*p = pair{q.set.Clone(), maps.Clone(q.want)}
		case op < 96:
			p.set.AddAll(s)
			for _, at := range places {
				p.want[at] = true
			}
		case op < 97:
			*p = pair{odb.NewSet(s), map[odb.Place]bool{}}
		}
		if p.set.Len() != len(p.want) || p.set.Has(at) != p.want[at] {
			t.Fatalf("step %d: %d objects, want %d", step, p.set.Len(), len(p.want))
		}
		if step%50 == 0 {
			want := slices.SortedFunc(maps.Keys(p.want), func(a, b odb.Place) int {
				if a.Pack != b.Pack {
					return a.Pack - b.Pack
				}
				return int(a.Pos) - int(b.Pos)
			})
			if got := slices.Collect(p.set.All()); !slices.Equal(got, want) {
				t.Fatalf("step %d: All = %v, want %v", step, got, want)
			}
		}
	}
}

// A set that was made before a push serves after it.
func TestSetOutlivesItsStore(t *testing.T) {
	repo := newGitRepo(t)
	repo.history(rngOf(4), 30)
	s := receive(t, emptyStore(), repo.PackObjects("main~10"))
	old := odb.NewSet(s)
	old.AddAll(s)

	s = receive(t, s, repo.PackObjects("main\n^main~10", "--thin"))
	for _, o := range repo.reachable("main") {
		at, _ := s.Find(o)
		if old.Has(at) != (at.Pack == 0) {
			t.Fatalf("Has(%v) = %v", at, old.Has(at))
		}
	}
	all := old.Clone()
	all.AddAll(s)
	if want := len(repo.reachable("main")); all.Len() != want {
		t.Errorf("%d objects, want %d", all.Len(), want)
	}
	all.AndNot(old)
	if want := len(repo.reachable("main")) - len(repo.reachable("main~10")); all.Len() != want || all.PackLen(0) != 0 {
		t.Errorf("%d objects are new, want %d", all.Len(), want)
	}
}

func TestNilSetHasNothing(t *testing.T) {
	var set *odb.Set
	if set.Has(odb.Place{}) || set.Len() != 0 {
		t.Error("a nil set has something")
	}
}
