package diff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
)

// Trees yields what differs between two trees (either may be zero: empty), in order of path, without directories. A path
// that is a file on one side and a directory on the other is a deletion and additions. Equal subtrees are not read.
func Trees(ctx context.Context, s *odb.Store, a, b git.OID) iter.Seq2[Change, error] {
	return trees(ctx, s, a, b)
}

func trees(ctx context.Context, s objects, a, b git.OID) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		w := treeWalk{ctx: ctx, s: s, yield: yield}
		if err := w.walk(a, b, 0); err != nil && !errors.Is(err, errStopped) {
			yield(Change{}, err)
		}
	}
}

// errStopped says that the caller of Trees left its loop.
var errStopped = errors.New("the caller has stopped")

// treeWalk is one run of Trees; it lives as long as the caller's loop.
type treeWalk struct {
	ctx   context.Context //nolint:containedctx // an argument of every step, not kept beyond the walk
	s     objects
	yield func(Change, error) bool
	path  []byte // of the directory walk is in, with its slash
}

// walk goes through both trees side by side, in the order that trees have.
func (w *treeWalk) walk(a, b git.OID, depth int) error {
	if a == b {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("compare trees: they are deeper than %d: %w", maxDepth, errkind.TooLarge)
	}
	if err := w.ctx.Err(); err != nil {
		return err
	}
	old, err := readTree(w.s, a)
	if err != nil {
		return err
	}
	cur, err := readTree(w.s, b)
	if err != nil {
		return err
	}
	left, right := cursor{rest: old}, cursor{rest: cur}
	for {
		if err := errors.Join(left.load(), right.load()); err != nil {
			return fmt.Errorf("compare trees %s and %s: %w", a, b, err)
		}
		if !left.some && !right.some {
			return nil
		}
		var x, y git.Entry // of mode 0: not there
		switch c := compareCursors(&left, &right); {
		case c < 0:
			x, left.some = left.at, false
		case c > 0:
			y, right.some = right.at, false
		default:
			x, y = left.at, right.at
			left.some, right.some = false, false
		}
		if err := w.pair(x, y, depth); err != nil {
			return err
		}
	}
}

// pair handles one name: what it is on either side, of which at most one is missing. Both are directories or neither is.
func (w *treeWalk) pair(x, y git.Entry, depth int) error {
	if x.Mode == y.Mode && x.OID == y.OID {
		return nil
	}
	name := x.Name
	if x.Mode == 0 {
		name = y.Name
	}
	if x.Mode == git.ModeDir || y.Mode == git.ModeDir {
		keep := len(w.path)
		w.path = append(append(w.path, name...), '/')
		err := w.walk(x.OID, y.OID, depth+1)
		w.path = w.path[:keep]
		return err
	}
	path := string(append(slices.Clip(w.path), name...))
	c := Change{Old: Side{x.Mode, x.OID, path}, New: Side{y.Mode, y.OID, path}}
	if x.Mode == 0 {
		c.Old = Side{}
	}
	if y.Mode == 0 {
		c.New = Side{}
	}
	if !w.yield(c, nil) {
		return errStopped
	}
	return nil
}

// cursor is a place in a tree's entries.
type cursor struct {
	rest []byte
	at   git.Entry
	some bool // at is to be handled
}

// load reads the next entry, unless at is still to be handled.
func (c *cursor) load() error {
	if c.some || len(c.rest) == 0 {
		return nil
	}
	e, n, err := git.NextEntry(c.rest)
	if err != nil {
		return err
	}
	c.at, c.some, c.rest = e, true, c.rest[n:]
	return nil
}

// compareCursors orders the next entries. Of two with one name, of which one is a directory, the file comes first.
func compareCursors(a, b *cursor) int {
	switch {
	case !b.some:
		return -1
	case !a.some:
		return 1
	}
	if bytes.Equal(a.at.Name, b.at.Name) && (a.at.Mode == git.ModeDir) == (b.at.Mode == git.ModeDir) {
		return 0
	}
	return git.CompareEntries(a.at.Name, a.at.Mode, b.at.Name, b.at.Mode)
}
