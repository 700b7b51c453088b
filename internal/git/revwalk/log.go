package revwalk

import (
	"context"
	"iter"
	"time"

	"github.com/skep-dev/skep/internal/git"
)

// LogOptions narrow a Log.
type LogOptions struct {
	Not          []git.OID // and what is reachable from these is left out
	Path         string    // only commits that change this path, with git's default history simplification
	FirstParent  bool
	Since, Until time.Time // zero: no bound
}

// Log yields the commits reachable from tips as git log does: by date, newest first, no parent before its children of
// the same date. It walks no further than the caller reads; only with Not does it begin with a walk to what is left out.
// A commit older than Since ends the walk there, as in git.
func (g *Graph) Log(ctx context.Context, tips []git.OID, opts LogOptions) iter.Seq2[git.OID, error] {
	return func(yield func(git.OID, error) bool) {
		l, err := g.newLogger(ctx, tips, opts)
		for err == nil && l.queue.len() > 0 {
			var c uint32
			var show bool
			if c, show, err = l.next(ctx); err == nil && show && !yield(g.oid(c), nil) {
				return
			}
		}
		if err != nil {
			yield(git.OID{}, err)
		}
	}
}

// logger is one running Log.
type logger struct {
	g     *Graph
	opts  LogOptions
	marks []uint8 // markQueued: was in the queue; markHave: left out; markStale: one of opts.Not itself
	queue queue
	paths *pathFinder // nil without opts.Path
	steps int
}

func (g *Graph) newLogger(ctx context.Context, tips []git.OID, opts LogOptions) (*logger, error) {
	from, err := g.commits(tips)
	if err != nil {
		return nil, err
	}
	not, err := g.commits(opts.Not)
	if err != nil {
		return nil, err
	}
	l := &logger{g: g, opts: opts}
	if len(not) > 0 {
		if l.marks, err = g.leftOut(ctx, from, not); err != nil {
			return nil, err
		}
	} else {
		l.marks = make([]uint8, g.Len())
	}
	if opts.Path != "" {
		l.paths = newPathFinder(g, opts.Path)
	}
	for _, c := range from {
		l.push(c)
	}
	return l, nil
}

// leftOut marks with markHave what is reachable from not, as far as a walk from the tips can meet it.
func (g *Graph) leftOut(ctx context.Context, from, not []uint32) ([]uint8, error) {
	p := g.newPainter(wanted)
	p.markAll(from, markWant)
	p.markAll(not, markHave)
	if _, err := p.missing(ctx); err != nil {
		return nil, err
	}
	for i, m := range p.marks {
		p.marks[i] = m & markHave
	}
	for _, c := range not {
		p.marks[c] |= markStale
	}
	return p.marks, nil
}

func (l *logger) push(c uint32) {
	if l.marks[c]&(markQueued|markHave) == 0 {
		l.marks[c] |= markQueued
		l.queue.push(l.g.when[c], c)
	}
}

// next takes one commit, puts the parents to follow into the queue, and says whether the commit is to be shown.
func (l *logger) next(ctx context.Context) (c uint32, show bool, err error) {
	if l.steps++; l.steps%checkEvery == 0 && ctx.Err() != nil {
		return 0, false, ctx.Err()
	}
	c = l.queue.pop()
	if !l.opts.Since.IsZero() && l.g.when[c] < l.opts.Since.Unix() {
		return c, false, nil
	}
	follow := l.g.parents(c)
	if l.opts.FirstParent && len(follow) > 1 {
		follow = follow[:1]
	}
	show = true
	if l.paths != nil {
		if err := ctx.Err(); err != nil {
			return 0, false, err // a step that reads trees is a long one
		}
		if follow, show, err = l.simplify(c, follow); err != nil {
			return 0, false, err
		}
	}
	for _, p := range follow {
		l.push(p)
	}
	if !l.opts.Until.IsZero() && l.g.when[c] > l.opts.Until.Unix() {
		show = false
	}
	return c, show, nil
}

// simplify is git's default history simplification (git-log(1)): a commit that leaves the path as one of its parents has it
// is not shown, and of its parents only that one is followed. Parents that are left out by Not, and are not themselves
// what Not names, can be no such witness, unless the commit has no other parents.
func (l *logger) simplify(c uint32, parents []uint32) (follow []uint32, changed bool, err error) {
	here, err := l.paths.at(c)
	if err != nil {
		return nil, false, err
	}
	if len(parents) == 0 {
		return nil, here != entry{}, nil
	}
	var relevant int
	var relevantChange, otherChange bool
	for i, p := range parents {
		counts := l.marks[p]&(markHave|markStale) != markHave
		there, err := l.paths.at(p)
		switch {
		case err != nil:
			return nil, false, err
		case there == here && counts:
			return parents[i : i+1], false, nil
		case counts:
			relevantChange = true
		case there != here:
			otherChange = true
		}
		if counts {
			relevant++
		}
	}
	if relevant > 0 {
		return parents, relevantChange, nil
	}
	return parents, otherChange, nil
}
