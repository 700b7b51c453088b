package revwalk_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

func some(rng *rand.Rand, list []git.OID, most int) []git.OID {
	list = slices.Clone(list)
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:min(len(list), 1+rng.IntN(most))]
}

func plan(tb testing.TB, g *revwalk.Graph, r revwalk.Request) *revwalk.Plan {
	tb.Helper()
	p, err := g.Plan(tb.Context(), r)
	if err != nil {
		tb.Fatalf("Plan(%+v): %v", r, err)
	}
	return p
}

func TestPlanSendsWhatIsMissingAndNoMore(t *testing.T) {
	sent, gits := 0, 0
	for seed := range uint64(6) {
		r, rng := history(t, seed, 60), rngOf(seed)
		s := r.store(1 + int(seed%4))
		g := graphOf(t, s)
		commits, tips := r.OIDs("", "rev-list", "--all"), r.OIDs("", "for-each-ref", "--format=%(objectname)")
		for range 12 {
			haves := some(rng, commits, 3)
			wants := some(rng, append(slices.Clone(tips), some(rng, commits, 3)...), 4)
			p := plan(t, g, revwalk.Request{Wants: wants, Haves: haves, Thin: true})
			send, given := members(s, p.Send), members(s, p.Given)
			wanted, had := closure(t, s, wants, nil), closure(t, s, haves, nil)

			for _, o := range minus(wanted, had) {
				if !send[o] {
					t.Fatalf("seed %d: wants %v haves %v: %s is neither had nor sent", seed, wants, haves, o)
				}
			}
			if extra := minus(send, wanted); len(extra) > 0 {
				t.Errorf("seed %d: sent without being asked for: %v", seed, extra)
			}
			if wrong := minus(given, had); len(wrong) > 0 {
				t.Errorf("seed %d: wants %v haves %v: given, but not had: %v", seed, wants, haves, wrong)
			}
			for o := range given {
				if send[o] {
					t.Errorf("seed %d: %s is both given and sent", seed, o)
				}
			}
			list := setOf(r.OIDs(hexes(wants, "")+hexes(haves, "^"), "rev-list", "--objects", "--no-object-names", "--stdin"))
			if extra := minus(send, list); len(extra) > 0 {
				t.Logf("seed %d: wants %v haves %v: git does not send %v", seed, wants, haves, extra)
			}
			sent, gits = sent+len(send), gits+len(list)
			if p.Everything || len(p.Shallow)+len(p.Unshallow) > 0 {
				t.Errorf("seed %d: %+v says what was not asked", seed, p)
			}
		}
	}
	t.Logf("sent %d objects, git %d", sent, gits)
	if sent > gits+gits/100 {
		t.Errorf("sent %d objects, git %d", sent, gits)
	}
}

func TestPlanWithoutHavesIsReachability(t *testing.T) {
	for seed := range uint64(seeds) {
		r, rng := history(t, seed, 60), rngOf(seed)
		s := r.store(3)
		g := graphOf(t, s)
		tips := r.OIDs("", "for-each-ref", "--format=%(objectname)")
		for range 8 {
			wants := some(rng, tips, 5)
			p := plan(t, g, revwalk.Request{Wants: wants})
			got, want := members(s, p.Send), closure(t, s, wants, nil)
			if len(minus(got, want))+len(minus(want, got)) > 0 {
				t.Errorf("seed %d: wants %v: too many %v, missing %v", seed, wants, minus(got, want), minus(want, got))
			}
			all, err := g.Reachable(t.Context(), wants)
			if err != nil || all.Len() != len(want) {
				t.Errorf("Reachable has %d objects, %v, want %d", all.Len(), err, len(want))
			}
			// Who has it all gets nothing.
			if again := plan(t, g, revwalk.Request{Wants: wants, Haves: append(slices.Clone(wants), minus(want, nil)...)}); again.Send.Len() > 0 {
				t.Errorf("seed %d: wants %v: sent again: %v", seed, wants, minus(members(s, again.Send), nil))
			}
		}
	}
}

func TestPlanOfEverythingTakesNoWalk(t *testing.T) {
	r := history(t, 3, 40)
	s := r.store(3)
	g := graphOf(t, s)
	tips := r.OIDs("", "for-each-ref", "--format=%(objectname)")
	everything := closure(t, s, tips, nil)

	p := plan(t, g, revwalk.Request{Wants: tips, Thin: true})
	if !p.Everything || p.Send.Len() != len(everything) || p.Given != nil {
		t.Errorf("everything %v, %d objects, given %v, want true, %d, none", p.Everything, p.Send.Len(), p.Given, len(everything))
	}
	// Tags that come along are as good as asked for.
	var wants []git.OID
	var tags []git.Ref
	for _, ref := range r.refs().List() {
		if ref.Peeled.IsZero() || !g.Has(ref.Peeled) {
			wants = append(wants, ref.OID)
		} else {
			tags = append(tags, ref)
			wants = append(wants, ref.Peeled)
		}
	}
	if p = plan(t, g, revwalk.Request{Wants: wants, IncludeTag: tags}); !p.Everything || p.Send.Len() != len(everything) {
		t.Errorf("with include-tag: everything %v, %d objects, want true, %d", p.Everything, p.Send.Len(), len(everything))
	}
	// A root that nobody asks for: the same objects, found by a walk.
	if p = plan(t, g, revwalk.Request{Wants: slices.DeleteFunc(slices.Clone(tips), func(o git.OID) bool { return o == s.Roots()[0] })}); p.Everything {
		t.Error("everything is sent though not all was asked for")
	}
	unknown := graphOf(t, odb.NewStore(s.Packs(), nil, odb.NewCache(1<<20)))
	if p = plan(t, unknown, revwalk.Request{Wants: tips}); p.Everything || p.Send.Len() != len(everything) {
		t.Errorf("without known roots: everything %v, %d objects, want false, %d", p.Everything, p.Send.Len(), len(everything))
	}
}

func TestPlanIncludesTags(t *testing.T) {
	r := newGitRepo(t)
	r.FastImport("commit refs/heads/main\ncommitter C <c@d> 1 +0000\ndata 0\nM 644 inline f\ndata 1\n1\n" +
		"commit refs/heads/main\ncommitter C <c@d> 2 +0000\ndata 0\nM 644 inline f\ndata 1\n2\n")
	r.Git("tag", "-a", "-m", "x", "old", "main~1")
	r.Git("tag", "-a", "-m", "x", "new", "main")
	r.Git("tag", "-a", "-m", "x", "newer", "new")
	s := r.store(1)
	g := graphOf(t, s)
	send := members(s, plan(t, g, revwalk.Request{
		Wants: []git.OID{r.OID("main")}, Haves: []git.OID{r.OID("main~1")}, IncludeTag: r.refs().List(),
	}).Send)
	for _, o := range []git.OID{r.OID("new"), r.OID("newer"), r.OID("main")} {
		if !send[o] {
			t.Errorf("%s is not sent", o)
		}
	}
	if send[r.OID("old")] {
		t.Error("a tag of something that is there already is sent")
	}
}

// What we plan, real git takes: as a thin pack, on top of what it had.
func TestGitTakesWhatIsPlanned(t *testing.T) {
	for seed := range uint64(2) {
		r, rng := history(t, seed, 60), rngOf(seed)
		s := r.store(3)
		g := graphOf(t, s)
		commits, tips := r.OIDs("", "rev-list", "--all"), r.OIDs("", "for-each-ref", "--format=%(objectname)")
		client := newGitRepo(t)
		for i := range 5 {
			haves := client.OIDs("", "for-each-ref", "--format=%(objectname)")
			wants := some(rng, append(slices.Clone(tips), some(rng, commits, 3)...), 3)
			p := plan(t, g, revwalk.Request{Wants: wants, Haves: haves, Thin: true, IncludeTag: r.refs().List()})
			var packfile bytes.Buffer
			if _, err := s.WritePack(t.Context(), &packfile, p.Send, odb.WriteOptions{OfsDelta: true, Given: p.Given}); err != nil {
				t.Fatal(err)
			}
			client.GitIn(packfile.String(), "index-pack", "--stdin", "--fix-thin", "--strict")
			for j, o := range wants {
				client.Git("update-ref", fmt.Sprintf("refs/x/%d-%d", i, j), o.String())
			}
			client.Git("fsck", "--strict", "--connectivity-only")
		}
	}
}
