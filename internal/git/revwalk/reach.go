package revwalk

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// IsAncestor reports whether a is b or reachable from b. Tags stand for the commits that they name.
func (g *Graph) IsAncestor(ctx context.Context, a, b git.OID) (bool, error) {
	list, err := g.commits([]git.OID{a, b})
	if err != nil {
		return false, err
	}
	return g.reaches(ctx, list[1:], list[0])
}

// reaches reports whether any of from is target or leads to it. A commit's ancestors come lower than it in the order, so that
// nothing at or below the target's own place is looked into.
func (g *Graph) reaches(ctx context.Context, from []uint32, target uint32) (bool, error) {
	seen := make([]uint64, (g.Len()+63)/64)
	stack := slices.Clone(from)
	for steps := 1; len(stack) > 0; steps++ {
		if steps%checkEvery == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		c := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if c == target {
			return true, nil
		}
		if g.order[c] <= g.order[target] || seen[c/64]&(1<<(c%64)) != 0 {
			continue
		}
		seen[c/64] |= 1 << (c % 64)
		stack = append(stack, g.parents(c)...)
	}
	return false, nil
}

// MergeBases returns the best common ancestors, newest first, as git merge-base --all.
func (g *Graph) MergeBases(ctx context.Context, a, b git.OID) ([]git.OID, error) {
	list, err := g.commits([]git.OID{a, b})
	if err != nil {
		return nil, err
	}
	p := g.newPainter(fresh)
	p.mark(list[0], markWant)
	p.mark(list[1], markHave)
	var bases []uint32
	for p.waiting > 0 {
		c, err := p.next(ctx)
		if err != nil {
			return nil, err
		}
		if !apart(p.marks[c]) {
			if fresh(p.marks[c]) {
				bases = append(bases, c)
			}
			p.marks[c] |= markStale // what is below is no better
		}
		p.pass(c)
	}
	slices.SortStableFunc(bases, func(x, y uint32) int { return cmp.Compare(g.when[y], g.when[x]) })
	return g.oids(bases), nil
}

// AheadBehind counts the commits that only a has, and that only b has.
func (g *Graph) AheadBehind(ctx context.Context, a, b git.OID) (ahead, behind int, err error) {
	list, err := g.commits([]git.OID{a, b})
	if err != nil {
		return 0, 0, err
	}
	p := g.newPainter(apart)
	p.mark(list[0], markWant)
	p.mark(list[1], markHave)
	for p.waiting > 0 {
		c, err := p.next(ctx)
		if err != nil {
			return 0, 0, err
		}
		switch p.marks[c] & marksBoth {
		case markWant:
			ahead++
		case markHave:
			behind++
		}
		p.pass(c)
	}
	return ahead, behind, nil
}

// Satisfied reports whether every want is, or has among its ancestors, one of the haves or, as in git, a parent of one: the end of a
// negotiation. History
// says nothing about wants that are no commits: they do not count. Haves that are no commits say nothing either.
func (g *Graph) Satisfied(ctx context.Context, wants, haves []git.OID) (bool, error) {
	const (
		unknown uint8 = iota
		no
		yes
	)
	known := make([]uint8, g.Len())
	lowest, some := int64(math.MaxInt64), false
	for _, o := range haves {
		if c, err := g.commit(o); err == nil {
			known[c], lowest, some = yes, min(lowest, g.order[c]), true
			for _, p := range g.parents(c) { // which whoever has the commit has too
				known[p], lowest = yes, min(lowest, g.order[p])
			}
		}
	}
	if !some {
		return false, nil
	}
	steps := 0
	for _, o := range wants {
		c, err := g.commit(o)
		switch {
		case errors.Is(err, errkind.Invalid):
			continue // not a commit
		case err != nil:
			return false, err
		}
		path := []uint32{c}
		for len(path) > 0 && known[c] != yes {
			if steps++; steps%checkEvery == 0 && ctx.Err() != nil {
				return false, ctx.Err()
			}
			top := path[len(path)-1]
			down, found := top, false
			for _, p := range g.parents(top) {
				if known[p] == yes {
					found = true
					break
				}
				if known[p] == unknown && g.order[p] >= lowest {
					down = p
				}
			}
			switch {
			case found:
				for _, c := range path {
					known[c] = yes
				}
			case down != top:
				path = append(path, down)
			default:
				known[top] = no
				path = path[:len(path)-1]
			}
		}
		if known[c] != yes {
			return false, nil
		}
	}
	return true, nil
}
