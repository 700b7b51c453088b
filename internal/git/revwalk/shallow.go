package revwalk

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// Infinite is a Depth without bound: what git fetch --unshallow asks for.
const Infinite = math.MaxInt32

// deepens reports whether the client asks for other shallow boundaries than it has.
func (pl *planner) deepens() bool {
	return pl.r.Depth > 0 && (pl.r.Depth < Infinite || len(pl.r.Shallow) > 0 || len(pl.g.cut) > 0) || !pl.r.Since.IsZero() || len(pl.r.Not) > 0
}

// boundaries works out at which commits the answer's history ends. It fills in the plan's Shallow and Unshallow, and
// returns where walks from the wants end because of them.
func (pl *planner) boundaries(ctx context.Context) (cut []uint32, err error) {
	var inside bitset // commits whose parents the client is to have
	switch {
	case !pl.deepens():
		return nil, nil
	case pl.r.Depth >= Infinite && len(pl.g.cut) == 0:
		inside = nil // all of them
	case pl.r.Depth > 0 && pl.r.DeepenRelative:
		cut, inside, err = pl.g.within(ctx, pl.clientShallow(), pl.r.Depth)
	case pl.r.Depth > 0:
		cut, inside, err = pl.g.within(ctx, pl.commits, pl.r.Depth-1)
	default:
		cut, inside, err = pl.selected(ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, c := range pl.clientShallow() {
		if inside == nil || inside.has(c) {
			pl.unshallow = append(pl.unshallow, c)
		}
	}
	pl.plan.Unshallow = pl.g.oids(pl.unshallow)
	// What the client calls shallow already need not be said.
	known := map[git.OID]bool{}
	for _, o := range pl.r.Shallow {
		known[o] = true
	}
	for _, c := range cut {
		if o := pl.g.oid(c); !known[o] {
			pl.plan.Shallow = append(pl.plan.Shallow, o)
		}
	}
	return cut, nil
}

// clientShallow returns the client's shallow commits that the graph has, each once.
func (pl *planner) clientShallow() []uint32 {
	var list []uint32
	for _, o := range pl.r.Shallow {
		if c, ok := pl.g.find(o); ok {
			list = append(list, c)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// within finds the commits whose shortest way from one of tips has exactly depth steps, and those that are nearer. A root
// commit at that depth counts as cut like any other, as in git, and so does one at which the store's own history ends.
func (g *Graph) within(ctx context.Context, tips []uint32, depth int) (at []uint32, nearer bitset, err error) {
	seen := g.newBitset()
	nearer = g.newBitset()
	var level []uint32
	for _, c := range tips {
		if seen.add(c) {
			level = append(level, c)
		}
	}
	for ; depth > 0 && len(level) > 0; depth-- {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		var next []uint32
		for _, c := range level {
			if g.cut[g.oid(c)] {
				at = append(at, c)
				continue
			}
			nearer.add(c)
			for _, p := range g.parents(c) {
				if seen.add(p) {
					next = append(next, p)
				}
			}
		}
		level = next
	}
	return append(at, level...), nearer, nil
}

// selected is the history that Since and Not leave: what is reachable from the wants, and neither from Not nor from a
// commit older than Since. Its commits with a parent outside are the boundary.
func (pl *planner) selected(ctx context.Context) (border []uint32, inside bitset, err error) {
	not, err := pl.g.commits(pl.r.Not)
	if err != nil {
		return nil, nil, err
	}
	p := pl.g.newPainter(wanted)
	p.markAll(pl.commits, markWant)
	p.markAll(not, markHave)
	var list []uint32
	for p.waiting > 0 {
		c, err := p.next(ctx)
		if err != nil {
			return nil, nil, err
		}
		if !pl.r.Since.IsZero() && pl.g.when[c] < pl.r.Since.Unix() {
			p.marks[c] |= markHave
		}
		if wanted(p.marks[c]) {
			list = append(list, c)
		}
		p.pass(c)
	}
	if len(list) == 0 {
		return nil, nil, fmt.Errorf("no commits selected for shallow requests: %w", errkind.Invalid)
	}
	inside = pl.g.newBitset()
	for _, c := range list {
		if slices.ContainsFunc(pl.g.parents(c), func(p0 uint32) bool { return !wanted(p.marks[p0]) }) {
			border = append(border, c)
		} else {
			inside.add(c)
		}
	}
	return border, inside, nil
}
