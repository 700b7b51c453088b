package revwalk

import (
	"context"
	"fmt"
	"slices"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
)

// A client that has nothing gets what its wants lead to. When they are all the roots of the store, that is everything.
// When some roots are left over (of a branch that was deleted, or that is not asked for), odb.Store.Reached mostly knows the
// answer by packs.

// hasNothing reports whether wants alone decide what is sent.
func (pl *planner) hasNothing() bool {
	return pl.g.store.Roots() != nil && len(pl.r.Haves) == 0 && len(pl.r.Shallow) == 0 && !pl.deepens()
}

// asksForRoots is the plain clone: not even a tag need be read.
func (pl *planner) asksForRoots() bool {
	return pl.hasNothing() && pl.r.Filter.IsZero() && len(pl.uncovered()) == 0
}

func (pl *planner) everything() (*Plan, error) {
	for _, o := range pl.r.Wants {
		if !pl.g.store.Has(o) {
			return nil, fmt.Errorf("want %s: %w", o, errkind.NotFound)
		}
	}
	pl.plan.Send.AddAll(pl.g.store)
	pl.plan.Everything = true
	return pl.plan, nil
}

// byPacks answers without a walk through trees, if it can. A filter is then a question of kinds and sizes.
func (pl *planner) byPacks(ctx context.Context) (done bool, err error) {
	r, s := pl.r, pl.g.store
	if !pl.hasNothing() || r.Filter.HasDepth && r.Filter.TreeDepth > 0 || r.Filter.Sparse != nil {
		return false, nil
	}
	tags, all, err := pl.includedRoots(ctx)
	if err != nil {
		return false, err
	}
	if all && r.Filter.IsZero() {
		_, err := pl.everything()
		return true, err
	}
	set := odb.NewSet(s)
	if all {
		set.AddAll(s)
	} else {
		var known bool
		if set, known, err = s.Reached(ctx, slices.Concat(r.Wants, tags)); err != nil || !known {
			return false, err
		}
	}
	if !r.Filter.IsZero() {
		pl.filter(set)
	}
	pl.plan.Send = set
	if err := pl.addAsked(ctx, pl.g.newTreeWalk(set, nil, r.Filter)); err != nil {
		return false, err
	}
	return true, pl.includeTags()
}

// filter takes out of a set what the request's filter drops. It is one that asks neither for depths above 0 nor for paths.
func (pl *planner) filter(set *odb.Set) {
	f := &pl.r.Filter
	var kept [git.Tag + 1]bool
	for k := range kept {
		kept[k] = !f.drops(git.Kind(k))
	}
	if f.HasDepth {
		kept[git.Tree], kept[git.Blob] = false, false
	}
	for i, p := range pl.g.store.Packs() {
		for at := range pack.Pos(p.Len()) {
			k := p.Kind(at)
			if !kept[k] || k == git.Blob && f.HasLimit && p.ObjectSize(at) >= f.BlobLimit {
				set.Remove(odb.Place{Pack: i, Pos: at})
			}
		}
	}
	if f.NoCommits {
		for _, c := range pl.commits {
			set.Add(pl.g.place(c))
		}
	}
}

// uncovered returns the roots that are not asked for.
func (pl *planner) uncovered() []git.OID {
	asked := make(map[git.OID]bool, len(pl.r.Wants))
	for _, o := range pl.r.Wants {
		asked[o] = true
	}
	return slices.DeleteFunc(slices.Clone(pl.g.store.Roots()), func(o git.OID) bool { return asked[o] })
}

// includedRoots returns the roots that are tags of commits asked for, and will come with them, and whether that is all that
// are not asked for themselves.
func (pl *planner) includedRoots(ctx context.Context) (tags []git.OID, all bool, err error) {
	left := pl.uncovered()
	if len(left) == 0 || len(pl.r.IncludeTag) == 0 {
		return nil, len(left) == 0, nil
	}
	seen, err := pl.g.reachable(ctx, pl.commits)
	if err != nil {
		return nil, false, err
	}
	include := make(map[git.OID]git.OID, len(pl.r.IncludeTag))
	for _, r := range pl.r.IncludeTag {
		include[r.OID] = r.Peeled
	}
	for _, o := range left {
		if peeled, ok := include[o]; ok {
			if c, ok := pl.g.find(peeled); ok && seen.has(c) {
				tags = append(tags, o)
			}
		}
	}
	return tags, len(tags) == len(left), nil
}
