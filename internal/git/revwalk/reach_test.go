package revwalk_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

const seeds = 2

func TestGraphHasWhatGitHas(t *testing.T) {
	for seed := range uint64(seeds) {
		r := history(t, seed, 80)
		g := graphOf(t, r.store(1+int(seed)))
		commits := r.OIDs("", "rev-list", "--all")
		if g.Len() != len(commits) {
			t.Errorf("%d commits, want %d", g.Len(), len(commits))
		}
		for l := range strings.Lines(r.Git("log", "--all", "--format=%H %T %ct %P")) {
			f := strings.Fields(l)
			o := git.MustParseOID(f[0])
			tree, ok := g.Tree(o)
			if !ok || tree.String() != f[1] || !g.Has(o) {
				t.Errorf("Tree(%s) = %s, %v, want %s", o, tree, ok, f[1])
			}
			if when, _ := g.When(o); fmt.Sprint(when) != f[2] {
				t.Errorf("When(%s) = %d, want %s", o, when, f[2])
			}
			parents, _ := g.Parents(o)
			if got := strings.Fields(hexes(parents, "")); !slices.Equal(got, f[3:]) {
				t.Errorf("Parents(%s) = %v, want %v", o, got, f[3:])
			}
		}
		if o := r.OID("main^{tree}"); g.Has(o) || g.Has(git.ZeroOID) {
			t.Errorf("a tree counts as commit")
		}
	}
}

func TestReachabilityIsGits(t *testing.T) {
	for seed := range uint64(seeds) {
		r, rng := history(t, seed, 60), rngOf(seed)
		g := graphOf(t, r.store(2))
		commits := r.OIDs("", "rev-list", "--all")
		for range 25 {
			a, b := commits[rng.IntN(len(commits))], commits[rng.IntN(len(commits))]
			_, err := r.TryGit("merge-base", "--is-ancestor", a.String(), b.String())
			if got, errGot := g.IsAncestor(t.Context(), a, b); errGot != nil || got != (err == nil) {
				t.Errorf("seed %d: IsAncestor(%s, %s) = %v, %v", seed, a, b, got, errGot)
			}
			out, _ := r.TryGit("merge-base", "--all", a.String(), b.String())
			bases, err := g.MergeBases(t.Context(), a, b)
			if got, want := sorted(hexes(bases, "")), sorted(out); err != nil || !slices.Equal(got, want) {
				t.Errorf("seed %d: MergeBases(%s, %s) = %v, %v, want %v", seed, a, b, got, err, want)
			}
			want := strings.TrimSpace(r.Git("rev-list", "--left-right", "--count", a.String()+"..."+b.String()))
			ahead, behind, err := g.AheadBehind(t.Context(), a, b)
			if got := fmt.Sprintf("%d\t%d", ahead, behind); err != nil || got != want {
				t.Errorf("seed %d: AheadBehind(%s, %s) = %s, %v, want %s", seed, a, b, got, err, want)
			}
			haves := commits[rng.IntN(len(commits)):][:1]
			satisfied := true
			for _, w := range []git.OID{a, b} {
				parents, _ := g.Parents(haves[0])
				satisfied = satisfied && slices.ContainsFunc(append(parents, haves[0]), func(o git.OID) bool {
					_, err := r.TryGit("merge-base", "--is-ancestor", o.String(), w.String())
					return err == nil
				})
			}
			got, err := g.Satisfied(t.Context(), []git.OID{a, b}, haves)
			if err != nil || got != satisfied {
				t.Errorf("seed %d: Satisfied(%s %s, %s) = %v, %v, want %v", seed, a, b, haves, got, err, satisfied)
			}
		}
	}
}

func TestReachabilityOfOtherKinds(t *testing.T) {
	r := history(t, 1, 30)
	g := graphOf(t, r.store(1))
	tag, main, tree := r.OID("ttt"), r.OID("main"), r.OID("root")
	if ok, err := g.IsAncestor(t.Context(), tag, tag); err != nil || !ok {
		t.Errorf("IsAncestor(tag, tag) = %v, %v: tags stand for their commits", ok, err)
	}
	if _, err := g.IsAncestor(t.Context(), tree, main); !errors.Is(err, errkind.Invalid) {
		t.Errorf("IsAncestor(tree, commit) = %v, want errkind.Invalid", err)
	}
	if _, err := g.MergeBases(t.Context(), main, git.OID{1}); !errors.Is(err, errkind.NotFound) {
		t.Errorf("MergeBases(commit, unknown) = %v, want errkind.NotFound", err)
	}
	for _, tt := range []struct {
		name         string
		wants, haves []git.OID
		want         bool
	}{
		{"no haves", []git.OID{main}, nil, false},
		{"a have that is no commit", []git.OID{main}, []git.OID{tree}, false},
		{"a want that is no commit", []git.OID{main, tree}, []git.OID{main}, true},
		{"a tag", []git.OID{tag}, []git.OID{r.OID("ttt^{}")}, true},
	} {
		if got, err := g.Satisfied(t.Context(), tt.wants, tt.haves); err != nil || got != tt.want {
			t.Errorf("%s: Satisfied = %v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
}

func sorted(lines string) []string {
	list := strings.Fields(lines)
	slices.Sort(list)
	return list
}
