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

// When every root of the store is asked for and the client has nothing, each object of the store is asked for: nothing need
// be walked.

// onlyRoots reports whether wants alone decide what is sent.
func (pl *planner) onlyRoots() bool {
	return pl.g.store.Roots() != nil && len(pl.r.Haves) == 0 && len(pl.r.Shallow) == 0 && !pl.deepens()
}

// asksForRoots is the plain clone: not even a tag need be read.
func (pl *planner) asksForRoots() bool {
	return pl.onlyRoots() && pl.r.Filter.IsZero() && len(pl.uncovered()) == 0
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

// fromRoots answers without a walk through trees, if it can. A filter is then a question of kinds and sizes.
func (pl *planner) fromRoots(ctx context.Context) (done bool, err error) {
	r, s := pl.r, pl.g.store
	if !pl.onlyRoots() || r.Filter.HasDepth && r.Filter.TreeDepth > 0 {
		return false, nil
	}
	if covered, err := pl.coversRoots(ctx); !covered || err != nil {
		return false, err
	}
	set := pl.plan.Send
	if r.Filter.IsZero() {
		_, err := pl.everything()
		return true, err
	}
	for i, p := range s.Packs() {
		for at := range p.Len() {
			place := odb.Place{Pack: i, Pos: pack.Pos(at)}
			k := p.Kind(place.Pos)
			if k == git.Commit || k == git.Tag || r.Filter.passes(k == git.Blob, 0, func() int64 { return p.ObjectSize(place.Pos) }) {
				set.Add(place)
			}
		}
	}
	if len(s.Packs()) > 1 {
		once := odb.NewSet(s)
		once.AddAll(s)
		set.And(once)
	}
	return true, pl.addAsked(ctx, pl.g.newTreeWalk(set, nil, r.Filter))
}

// uncovered returns the roots that are not asked for.
func (pl *planner) uncovered() []git.OID {
	asked := make(map[git.OID]bool, len(pl.r.Wants))
	for _, o := range pl.r.Wants {
		asked[o] = true
	}
	return slices.DeleteFunc(slices.Clone(pl.g.store.Roots()), func(o git.OID) bool { return asked[o] })
}

// coversRoots reports whether every root is asked for, or is a tag to include with what is asked for.
func (pl *planner) coversRoots(ctx context.Context) (bool, error) {
	include := make(map[git.OID]git.OID, len(pl.r.IncludeTag))
	for _, r := range pl.r.IncludeTag {
		include[r.OID] = r.Peeled
	}
	var tagged []git.OID
	for _, o := range pl.uncovered() {
		peeled, ok := include[o]
		if !ok {
			return false, nil
		}
		tagged = append(tagged, peeled)
	}
	if len(tagged) == 0 {
		return true, nil
	}
	seen, err := pl.g.reachable(ctx, pl.commits)
	if err != nil {
		return false, err
	}
	for _, o := range tagged {
		if c, ok := pl.g.find(o); !ok || !seen.has(c) {
			return false, nil
		}
	}
	return true, nil
}
