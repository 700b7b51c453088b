package revwalk_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// checkGraph compares a graph with one that is built from nothing.
func checkGraph(t *testing.T, g *revwalk.Graph, s *odb.Store, commits []git.OID) {
	t.Helper()
	fresh := graphOf(t, s)
	if g.Len() != fresh.Len() || g.Store() != s {
		t.Errorf("%d commits of %p, want %d of %p", g.Len(), g.Store(), fresh.Len(), s)
	}
	for _, o := range commits {
		tree, ok := g.Tree(o)
		wantTree, want := fresh.Tree(o)
		parents, _ := g.Parents(o)
		wantParents, _ := fresh.Parents(o)
		if ok != want || tree != wantTree || fmt.Sprint(parents) != fmt.Sprint(wantParents) {
			t.Errorf("%s: %v %s %v, want %v %s %v", o, ok, tree, parents, want, wantTree, wantParents)
		}
	}
}

// Graphs grow from one another while others read them; what grows from the same graph twice does not meet; and packs that
// are replaced make a new graph.
func TestGraphGrowsByPacks(t *testing.T) {
	r := history(t, 1, 120)
	s := r.store(12)
	commits := r.OIDs("", "rev-list", "--all")
	var g *revwalk.Graph
	var wg sync.WaitGroup
	for n := range len(s.Packs()) + 1 {
		part := odb.NewStore(s.Packs()[:n], nil, nil)
		next, err := revwalk.NewGraph(part, g)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			wg.Go(func() { checkGraph(t, next, part, commits) })
		}
		if n > 2 && n < len(s.Packs()) {
			// Another push, that lost: its pack came after the same ones.
			other := odb.NewStore(append(s.Packs()[:n:n], s.Packs()[n]), nil, nil)
			lost, err := revwalk.NewGraph(other, next)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { checkGraph(t, lost, other, commits) })
		}
		g = next
	}
	wg.Wait()

	packed := receive(t, odb.NewStore(nil, nil, nil), r.PackObjects("", "--all"))
	g, err := revwalk.NewGraph(packed, g)
	if err != nil {
		t.Fatal(err)
	}
	checkGraph(t, g, packed, commits)
}

func TestGraphCountsDoublesOnce(t *testing.T) {
	r := history(t, 2, 40)
	s := r.store(3)
	twice := receive(t, s, r.PackObjects("", "--all"))
	checkGraph(t, graphOf(t, twice), twice, r.OIDs("", "rev-list", "--all"))
	if got, want := graphOf(t, twice).Len(), graphOf(t, s).Len(); got != want {
		t.Errorf("%d commits, want %d", got, want)
	}
}

func TestGraphRefusesAStoreThatLacksAParent(t *testing.T) {
	r := history(t, 2, 40)
	s := r.store(3)
	if _, err := revwalk.NewGraph(odb.NewStore(s.Packs()[1:], nil, nil), nil); err == nil {
		t.Error("a graph of commits without their parents is built")
	}
}

func TestPlanOfBigAndDeepTrees(t *testing.T) {
	w := odb.NewStore(nil, nil, odb.NewCache(1<<20)).NewWriter()
	put := func(k git.Kind, data []byte) git.OID {
		o, err := w.Put(k, data)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	const wide, deep = 50_000, 5_000
	sig := "A <a@b> 1 +0000\n"
	commit := func(tree git.OID, parents ...git.OID) git.OID {
		return put(git.Commit, []byte("tree "+tree.String()+"\n"+hexes(parents, "parent ")+"author "+sig+"committer "+sig+"\n"))
	}
	entries := make([]git.Entry, wide)
	for i := range entries {
		entries[i] = git.Entry{Mode: git.ModeFile, Name: fmt.Appendf(nil, "%06d", i), OID: put(git.Blob, fmt.Append(nil, i))}
	}
	tree := func() (data []byte) {
		for _, e := range entries {
			data = git.AppendEntry(data, e)
		}
		return data
	}
	first := commit(put(git.Tree, tree()))
	entries[wide/2].OID = put(git.Blob, []byte("changed"))
	second := commit(put(git.Tree, tree()), first)
	nested := put(git.Tree, git.AppendEntry(nil, entries[0]))
	for range deep {
		nested = put(git.Tree, git.AppendEntry(nil, git.Entry{Mode: git.ModeDir, Name: []byte("d"), OID: nested}))
	}
	third := commit(nested, second)
	q, err := w.Finish(t.Context(), pack.ReceiveOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	g := graphOf(t, odb.NewStore(q.Store.Packs(), nil, odb.NewCache(64<<20)))

	for _, tt := range []struct {
		name       string
		want, have git.OID
		objects    int
		given      bool
	}{
		{"all", third, git.ZeroOID, 3 + 2 + wide + 1 + deep + 1, false},
		{"one of many files", second, first, 3, true},
		{"deep", third, second, 1 + deep + 1, true},
	} {
		r := revwalk.Request{Wants: []git.OID{tt.want}, Thin: true}
		if !tt.have.IsZero() {
			r.Haves = []git.OID{tt.have}
		}
		p := plan(t, g, r)
		if p.Send.Len() != tt.objects || (p.Given.Len() > 0) != tt.given {
			t.Errorf("%s: %d objects, %d given, want %d", tt.name, p.Send.Len(), p.Given.Len(), tt.objects)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Plan(ctx, revwalk.Request{Wants: []git.OID{third}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Plan after the end of its context: %v", err)
	}
}

func TestPlanRefusesWhatItDoesNotKnow(t *testing.T) {
	r := history(t, 1, 20)
	g := graphOf(t, r.store(1))
	for _, q := range []revwalk.Request{
		{Wants: []git.OID{{1}}},
		{Wants: []git.OID{r.OID("main")}, Haves: []git.OID{{1}}},
		{Wants: []git.OID{r.OID("main")}, Not: []git.OID{{1}}},
	} {
		if p, err := g.Plan(t.Context(), q); err == nil || !strings.Contains(err.Error(), "not found") {
			t.Errorf("Plan(%+v) = %+v, %v", q, p, err)
		}
	}
	if _, err := g.Plan(t.Context(), revwalk.Request{Wants: []git.OID{r.OID("main")}, Shallow: []git.OID{{1}}}); err != nil {
		t.Errorf("a shallow commit that nobody knows: %v", err)
	}
}
