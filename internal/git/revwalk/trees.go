package revwalk

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
)

// treeWalk adds trees and blobs to a set. Its unit of work is a tree together with trees that are known to be covered: each
// of their objects is in the set, will be, or is with the receiver already. Only entries that differ from what every
// covered tree has under the same name are looked at. For a commit, its parents' trees are covered, so that a walk over
// history costs what changed and not what there is.
type treeWalk struct {
	store  *odb.Store
	set    *odb.Set
	had    *odb.Set // what the receiver has is not added; may be nil
	filter Filter
	// depths has how deep each tree was when it was walked. Only with filter.HasDepth: a tree that is met again further up
	// is walked again, as more of it passes.
	depths map[odb.Place]int
	// entered has the trees that were walked and where. Only with filter.Sparse: in another place other blobs pass.
	entered map[treeAt]struct{}
	// passed has the trees that were walked. Only with filter.NoTrees, when the set does not say it.
	passed *odb.Set
	here   treeJob // that is being walked

	// replaced are objects that covered trees had where something else came: what deltas are made against. Only with
	// noteReplaced. Those from commits of the receiver go to had as well.
	noteReplaced bool
	replaced     []odb.Place
	replacedSet  *odb.Set
	gone         []git.OID // those of them that are directories without a successor

	work  []treeJob
	olds  []oldEntry // used by compare
	steps int
}

// treeJob is one tree to walk.
type treeJob struct {
	tree    git.OID
	covered []coveredTree
	depth   int // of the tree's entries

	// Only with filter.Sparse.
	path   string // of the tree, with a slash behind it; "" is the root
	wanted byte   // which lists let a blob pass that no pattern decides
}

// treeAt is a tree in its place.
type treeAt struct {
	tree odb.Place
	path string
}

type coveredTree struct {
	oid git.OID
	had bool // by the receiver, and not merely sent
}

func (g *Graph) newTreeWalk(set, had *odb.Set, f Filter) *treeWalk {
	w := &treeWalk{store: g.store, set: set, had: had, filter: f, replacedSet: odb.NewSet(g.store)}
	switch {
	case f.Sparse != nil:
		w.entered = map[treeAt]struct{}{}
	case f.HasDepth:
		w.depths = map[odb.Place]int{}
	case f.NoTrees:
		w.passed = odb.NewSet(g.store)
	}
	return w
}

// root walks the tree of a commit.
func (w *treeWalk) root(ctx context.Context, tree git.OID, covered []coveredTree) error {
	if slices.ContainsFunc(covered, func(c coveredTree) bool { return c.oid == tree }) {
		return nil
	}
	w.here = treeJob{} // above the root
	if err := w.addTree(git.Entry{OID: tree}, covered, 0); err != nil {
		return err
	}
	if w.noteReplaced {
		for _, c := range covered {
			if err := w.replace(c.oid, c.had); err != nil {
				return err
			}
		}
	}
	return w.run(ctx)
}

// asked walks a tree that was asked for by itself: no filter keeps it back, and its entries count as depth 0, as in git.
func (w *treeWalk) asked(ctx context.Context, tree git.OID, covered []coveredTree) error {
	at, err := w.find(tree)
	if err != nil {
		return err
	}
	if w.had.Has(at) || slices.ContainsFunc(covered, func(c coveredTree) bool { return c.oid == tree }) {
		return nil
	}
	switch {
	case w.depths != nil:
		w.depths[at] = -1
	case w.entered != nil || w.passed != nil:
	case w.set.Has(at):
		return nil
	}
	w.set.Add(at)
	w.work = append(w.work, treeJob{tree: tree, covered: covered})
	return w.run(ctx)
}

// run works until nothing is left. The work is a stack and not a recursion: trees may be nested as deeply as they like.
func (w *treeWalk) run(ctx context.Context) error {
	for len(w.work) > 0 {
		if w.steps++; w.steps%64 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		job := w.work[len(w.work)-1]
		w.work = w.work[:len(w.work)-1]
		if err := w.walk(ctx, job); err != nil {
			return fmt.Errorf("tree %s: %w", job.tree, err)
		}
	}
	return nil
}

func (w *treeWalk) walk(ctx context.Context, job treeJob) error {
	if w.entered != nil {
		w.here = job
	}
	data, err := readTree(w.store, job.tree)
	if err != nil {
		return err
	}
	if len(job.covered) == 0 {
		return w.walkNew(ctx, data, job.depth)
	}
	if w.skipsAll(job.depth) {
		return nil
	}
	covered := make([]cursor, len(job.covered))
	for i, c := range job.covered {
		covered[i].had = c.had
		if covered[i].rest, err = readTree(w.store, c.oid); err != nil {
			return err
		}
	}
	for {
		data = passSame(data, covered)
		if len(data) == 0 {
			break
		}
		e, n, err := git.NextEntry(data)
		if err != nil {
			return err
		}
		raw := data[:n]
		data = data[n:]
		if err := w.compare(ctx, e, raw, covered, job.depth); err != nil {
			return err
		}
	}
	if w.noteReplaced && len(covered) == 1 {
		return w.passOver(&covered[0], nil, true)
	}
	return nil
}

// walkNew is walk without covered trees.
func (w *treeWalk) walkNew(ctx context.Context, data []byte, depth int) error {
	if w.skipsAll(depth) {
		return nil
	}
	for len(data) > 0 {
		e, n, err := git.NextEntry(data)
		if err != nil {
			return err
		}
		data = data[n:]
		if err := w.add(ctx, e, nil, depth); err != nil {
			return err
		}
	}
	return nil
}

func (w *treeWalk) skipsAll(depth int) bool { return w.filter.HasDepth && depth >= w.filter.TreeDepth }

// cursor is how far a covered tree is read.
type cursor struct {
	rest []byte
	had  bool
}

// oldEntry is what a covered tree has where the walked tree has something else.
type oldEntry struct {
	coveredTree
	dir bool
}

// passSame passes over the entries that come next in all trees alike, and returns what is left of data. Nearly all entries
// are such, so they are not parsed, only measured. It goes by windows: where one tree differs everywhere, the others are not
// compared to their ends again and again.
func passSame(data []byte, covered []cursor) []byte {
	for {
		n := sameEntries(data, covered)
		if n == 0 {
			return data
		}
		data = data[n:]
		for i := range covered {
			covered[i].rest = covered[i].rest[n:]
		}
	}
}

// sameEntries returns how many bytes the entries have that come next in all trees alike, up to a window.
func sameEntries(data []byte, covered []cursor) int {
	const window = 4096
	same := min(len(data), window)
	for i := range covered {
		same = commonPrefix(data[:same], covered[i].rest)
	}
	const beforeNUL = len("40000 a") // no entry has its NUL earlier
	n := 0
	for n+beforeNUL < same {
		nul := bytes.IndexByte(data[n+beforeNUL:same], 0)
		end := n + beforeNUL + nul + 1 + git.OIDSize
		if nul < 0 || end > same {
			break
		}
		n = end
	}
	return n
}

// commonPrefix returns how many bytes a and b have in common at their starts.
func commonPrefix(a, b []byte) int {
	n, most := 0, min(len(a), len(b))
	const block = 256
	for n+block <= most && bytes.Equal(a[n:n+block], b[n:n+block]) {
		n += block
	}
	for n+8 <= most {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
		n += 8
	}
	for n < most && a[n] == b[n] {
		n++
	}
	return n
}

// compare adds e unless one of the covered trees has the very same entry.
func (w *treeWalk) compare(ctx context.Context, e git.Entry, raw []byte, covered []cursor, depth int) error {
	same := false
	w.olds = w.olds[:0]
	for i := range covered {
		c := &covered[i]
		if bytes.HasPrefix(c.rest, raw) {
			c.rest = c.rest[len(raw):]
			same = true
			continue
		}
		if err := w.passOver(c, &e, len(covered) == 1); err != nil {
			return err
		}
		old, ok, err := c.take(e)
		switch {
		case err != nil:
			return err
		case !ok:
		case old.OID == e.OID && old.Mode.Kind() == e.Mode.Kind():
			same = true
		case old.Mode != git.ModeGitlink:
			w.olds = append(w.olds, oldEntry{coveredTree{old.OID, c.had}, old.Mode == git.ModeDir})
		}
	}
	if same {
		return nil
	}
	var below []coveredTree
	for _, old := range w.olds {
		if old.dir && e.Mode == git.ModeDir {
			below = append(below, old.coveredTree)
		}
		if w.noteReplaced {
			if err := w.replace(old.oid, old.had); err != nil {
				return err
			}
		}
	}
	return w.add(ctx, e, below, depth)
}

// take reads the entry that stands where e does, if there is one.
func (c *cursor) take(e git.Entry) (git.Entry, bool, error) {
	if len(c.rest) == 0 {
		return git.Entry{}, false, nil
	}
	old, n, err := git.NextEntry(c.rest)
	if err != nil || git.CompareEntries(old.Name, old.Mode, e.Name, e.Mode) != 0 {
		return git.Entry{}, false, err
	}
	c.rest = c.rest[n:]
	return old, true, nil
}

// passOver goes to the first entry that does not come before e, or to the end when e is nil. The entries on the way are
// gone from the new tree. That is worth a note if no other tree is compared: in a merge, one side mostly knows better.
func (w *treeWalk) passOver(c *cursor, e *git.Entry, note bool) error {
	for len(c.rest) > 0 {
		old, n, err := git.NextEntry(c.rest)
		if err != nil {
			return err
		}
		if e != nil && git.CompareEntries(old.Name, old.Mode, e.Name, e.Mode) >= 0 {
			return nil
		}
		c.rest = c.rest[n:]
		if !w.noteReplaced || !note || old.Mode == git.ModeGitlink {
			continue
		}
		if err := w.replace(old.OID, c.had); err != nil {
			return err
		}
		if old.Mode == git.ModeDir {
			w.gone = append(w.gone, old.OID)
		}
	}
	return nil
}

func (w *treeWalk) replace(o git.OID, had bool) error {
	at, err := w.find(o)
	if err != nil {
		return err
	}
	if had {
		w.had.Add(at)
	}
	if w.replacedSet.Add(at) {
		w.replaced = append(w.replaced, at)
	}
	return nil
}

// add puts what an entry names into the set, and a tree's entries into the work.
func (w *treeWalk) add(ctx context.Context, e git.Entry, covered []coveredTree, depth int) error {
	if w.entered != nil && ctx.Err() != nil {
		return ctx.Err() // an entry may be compared with many patterns
	}
	switch e.Mode.Kind() {
	case git.Commit:
		return nil // a submodule's commit is in another repository
	case git.Tree:
		return w.addTree(e, covered, depth)
	default:
		return w.addBlob(e, depth)
	}
}

func (w *treeWalk) addBlob(e git.Entry, depth int) error {
	if w.filter.BlobNone {
		return nil
	}
	if s := w.filter.Sparse; s != nil && !s.passes(w.here.path+string(e.Name), string(e.Name), w.here.wanted) {
		return nil
	}
	at, err := w.find(e.OID)
	if err != nil {
		return err
	}
	if !w.had.Has(at) && w.filter.passes(true, depth, func() int64 { return w.store.Size(at) }) {
		w.set.Add(at)
	}
	return nil
}

func (w *treeWalk) addTree(e git.Entry, covered []coveredTree, depth int) error {
	if w.filter.HasDepth && depth >= w.filter.TreeDepth {
		return nil
	}
	at, err := w.find(e.OID)
	if err != nil || w.had.Has(at) {
		return err
	}
	fresh := !w.filter.NoTrees && w.set.Add(at)
	switch {
	case w.entered != nil:
		w.enter(e, at, covered, depth)
		return nil
	case w.depths != nil:
		before, walked := w.depths[at]
		if fresh = !walked || depth < before; fresh {
			w.depths[at] = depth
		}
	case w.passed != nil:
		fresh = w.passed.Add(at)
	}
	if fresh {
		w.work = append(w.work, treeJob{tree: e.OID, covered: covered, depth: depth + 1})
	}
	return nil
}

// enter is the end of addTree where paths matter.
func (w *treeWalk) enter(e git.Entry, at odb.Place, covered []coveredTree, depth int) {
	key := treeAt{at, w.here.path + string(e.Name)}
	if _, before := w.entered[key]; before {
		return
	}
	w.entered[key] = struct{}{}
	job := treeJob{tree: e.OID, covered: covered, depth: depth + 1, path: key.path}
	if job.path != "" {
		job.path += "/"
	}
	job.wanted = w.filter.Sparse.below(key.path, string(e.Name), w.here.wanted)
	w.work = append(w.work, job)
}

func (w *treeWalk) find(o git.OID) (odb.Place, error) {
	at, ok := w.store.Find(o)
	if !ok {
		return at, fmt.Errorf("object %s is not in the store", o)
	}
	return at, nil
}

func readTree(s *odb.Store, o git.OID) ([]byte, error) {
	obj, err := s.Read(o)
	if err != nil {
		return nil, err
	}
	if obj.Kind != git.Tree {
		return nil, fmt.Errorf("%s is a %s, not a tree", o, obj.Kind)
	}
	return obj.Data, nil
}
