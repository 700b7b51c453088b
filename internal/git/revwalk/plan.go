package revwalk

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
)

// Request is what a client asks of a fetch.
type Request struct {
	Wants []git.OID // objects of any kind, all in the store
	Haves []git.OID // objects that both sides have; unknown ones are left out by the caller

	Shallow        []git.OID // commits whose parents the client lacks; unknown ones do not matter
	Depth          int       // 0: no deepen; Infinite for all
	DeepenRelative bool      // Depth counts from Shallow, not from Wants
	Since          time.Time // zero: no deepen-since
	Not            []git.OID // deepen-not, resolved

	Filter     Filter
	Thin       bool
	IncludeTag []git.Ref // annotated tags to add when what they name is sent
}

// Plan is the answer: what to say of shallow boundaries, and what to send.
type Plan struct {
	Shallow, Unshallow []git.OID
	Send               *odb.Set
	Given              *odb.Set // objects the client surely has; only with Thin
	// Everything says that Send is the whole store.
	Everything bool
}

const (
	// maxCovered bounds with how many trees one tree is compared. Leaving out some costs nothing but objects sent in vain,
	// and only real octopus merges come near.
	maxCovered = 16
	// maxTagChain bounds tags of tags, as odb.Store.Peel does. People make chains of one or two.
	maxTagChain = 1000
)

// planner is one Plan in the making.
type planner struct {
	g    *Graph
	r    Request
	plan *Plan

	// The wants by kind, annotated tags resolved. Trees and blobs here were asked for one by one: filters spare them.
	commits      []uint32
	trees, blobs []git.OID
	tags         []odb.Place

	haves    []uint32 // that are commits
	sorted   []uint32 // haves by order: see nearTrees
	hadTrees []git.OID
	// had is what the client is known to have besides its commits' trees.
	had       *odb.Set
	unshallow []uint32

	painter *painter
	send    []uint32 // commits, latest first
}

// Plan finds what is missing and no more. Wants that the filter would drop are sent all the same, as git does.
//
// It goes from coarse to fine. Whoever has nothing is mostly answered by whole packs, without a walk. Otherwise marks flow from wants and haves through the
// graph until it is known which commits are missing; then each missing commit's tree is compared with those of its
// parents, and only what differs is looked into.
func (g *Graph) Plan(ctx context.Context, r Request) (*Plan, error) {
	if s := r.Filter.Sparse; s != nil && len(s.names) > 0 {
		panic("bug: a filter's sparse:oid was not resolved")
	}
	pl := &planner{g: g, r: r, plan: &Plan{Send: odb.NewSet(g.store)}, had: odb.NewSet(g.store)}
	if pl.asksForRoots() {
		return pl.everything()
	}
	if err := pl.resolve(); err != nil {
		return nil, err
	}
	done, err := pl.byPacks(ctx)
	if err != nil || done {
		return pl.plan, err
	}
	if err := pl.findCommits(ctx); err != nil {
		return nil, err
	}
	if err := pl.addObjects(ctx); err != nil {
		return nil, err
	}
	return pl.plan, pl.includeTags()
}

// Reachable marks everything that tips lead to. It is what a repack keeps.
func (g *Graph) Reachable(ctx context.Context, tips []git.OID) (*odb.Set, error) {
	plan, err := g.Plan(ctx, Request{Wants: tips})
	if err != nil {
		return nil, err
	}
	return plan.Send, nil
}

// resolve sorts wants and haves by kind.
func (pl *planner) resolve() error {
	for _, o := range pl.r.Wants {
		target, err := pl.followTags(o, func(at odb.Place) { pl.tags = append(pl.tags, at) })
		if err != nil {
			return fmt.Errorf("want %s: %w", o, err)
		}
		switch at, _ := pl.g.store.Find(target); pl.g.store.Kind(at) {
		case git.Tree:
			pl.trees = append(pl.trees, target)
		case git.Blob:
			pl.blobs = append(pl.blobs, target)
		default:
			c, err := pl.g.commit(target)
			if err != nil {
				return fmt.Errorf("want %s: %w", o, err)
			}
			pl.commits = append(pl.commits, c)
		}
	}
	for _, o := range pl.r.Haves {
		if c, ok := pl.g.find(o); ok {
			pl.haves = append(pl.haves, c)
			continue
		}
		target, err := pl.followTags(o, func(at odb.Place) { pl.had.Add(at) })
		if err != nil {
			return fmt.Errorf("have %s: %w", o, err)
		}
		switch at, _ := pl.g.store.Find(target); pl.g.store.Kind(at) {
		case git.Tree:
			pl.hadTrees = append(pl.hadTrees, target)
		case git.Blob:
			pl.had.Add(at)
		default:
			c, err := pl.g.commit(target)
			if err != nil {
				return fmt.Errorf("have %s: %w", o, err)
			}
			pl.haves = append(pl.haves, c)
		}
	}
	return nil
}

// followTags calls found for each annotated tag from o on, and returns what the last one names.
func (pl *planner) followTags(o git.OID, found func(odb.Place)) (git.OID, error) {
	s := pl.g.store
	for range maxTagChain {
		at, ok := s.Find(o)
		switch {
		case !ok:
			return git.OID{}, fmt.Errorf("object %s: %w", o, errkind.NotFound)
		case s.Kind(at) != git.Tag:
			return o, nil
		}
		found(at)
		obj, err := s.ReadAt(at)
		if err != nil {
			return git.OID{}, err
		}
		if o, _, err = git.TagLink(obj.Data); err != nil {
			return git.OID{}, err
		}
	}
	return git.OID{}, fmt.Errorf("a chain of more than %d tags: %w", maxTagChain, errkind.TooLarge)
}

// findCommits works out the shallow boundaries and the commits to send.
func (pl *planner) findCommits(ctx context.Context) error {
	p := pl.g.newPainter(wanted)
	wants := slices.Clone(pl.commits)
	cut, err := pl.boundaries(ctx)
	if err != nil {
		return err
	}
	for _, c := range cut {
		p.marks[c] |= cutWant
	}
	for _, o := range pl.r.Shallow {
		if c, ok := pl.g.find(o); ok {
			p.marks[c] |= cutHave | cutWant
		}
	}
	for _, c := range pl.unshallow {
		p.marks[c] &^= cutWant
		wants = append(wants, pl.g.parents(c)...)
	}
	p.markAll(wants, markWant)
	// The client has the commits that were its boundary, whatever it said of them.
	pl.haves = append(pl.haves, pl.unshallow...)
	p.markAll(pl.haves, markHave)
	pl.painter = p
	if pl.send, err = p.missing(ctx); err != nil || len(pl.g.lacks) == 0 {
		return err
	}
	for _, c := range pl.send {
		if parent, ok := pl.g.lacks[c]; ok && p.marks[c]&cutWant == 0 {
			return fmt.Errorf("commit %s has no parent %s in the store", pl.g.oid(c), parent)
		}
	}
	return nil
}

// addObjects adds the commits, their trees and blobs, and what was asked for one by one.
func (pl *planner) addObjects(ctx context.Context) error {
	set := pl.plan.Send
	list := pl.send
	if pl.r.Filter.NoCommits {
		list = pl.asked()
	}
	for _, c := range list {
		set.Add(pl.g.place(c))
	}
	if err := pl.addHadTrees(ctx); err != nil {
		return err
	}
	if f := pl.r.Filter; f.NoTrees && f.BlobNone {
		return pl.addAsked(ctx, pl.g.newTreeWalk(set, pl.had, f)) // nothing that trees lead to passes
	}
	w := pl.g.newTreeWalk(set, pl.had, pl.r.Filter)
	// A client that filters may lack what its commits lead to: then nothing is known of what it has.
	w.noteReplaced = len(pl.haves) > 0 && pl.r.Filter.IsZero()
	// Oldest first: what a commit replaces is known as had when a later one brings it back.
	for _, c := range slices.Backward(pl.send) {
		if err := w.root(ctx, pl.g.tree[c], pl.coveredTrees(c)); err != nil {
			return fmt.Errorf("commit %s: %w", pl.g.oid(c), err)
		}
	}
	if err := pl.addAsked(ctx, w); err != nil {
		return err
	}
	var given *odb.Set
	if w.noteReplaced {
		var err error
		if given, err = w.tighten(ctx); err != nil {
			return err
		}
		for _, at := range pl.boundary() {
			given.Add(at)
		}
		given.Or(pl.had)
	}
	if pl.r.Thin {
		pl.plan.Given = given
	}
	return nil
}

// asked returns the commits to send that were asked for themselves.
func (pl *planner) asked() []uint32 {
	asked := pl.g.newBitset()
	for _, c := range pl.commits {
		asked.add(c)
	}
	return slices.DeleteFunc(slices.Clone(pl.send), func(c uint32) bool { return !asked.has(c) })
}

// addAsked adds what was asked for one by one.
func (pl *planner) addAsked(ctx context.Context, w *treeWalk) error {
	for _, at := range pl.tags {
		if !pl.had.Has(at) {
			w.set.Add(at)
		}
	}
	for _, o := range pl.blobs {
		if at, ok := pl.g.store.Find(o); ok && !pl.had.Has(at) {
			w.set.Add(at)
		}
	}
	var near []coveredTree
	if w.noteReplaced {
		near = pl.nearTrees(math.MaxInt64)
	}
	for _, o := range pl.trees {
		if err := w.asked(ctx, o, near); err != nil {
			return err
		}
	}
	return nil
}

// coveredTrees returns the trees that a commit's tree is compared with: those of the parents that are sent or had. When a
// shallow boundary cuts off all parents, what the client has nearby comes closest.
func (pl *planner) coveredTrees(c uint32) []coveredTree {
	var trees []coveredTree
	parents := pl.g.parents(c)
	for _, p := range parents {
		if m := pl.painter.marks[p]; m&marksBoth != 0 && len(trees) < maxCovered {
			trees = append(trees, coveredTree{oid: pl.g.tree[p], had: m&markHave != 0})
		}
	}
	if len(trees) > 0 || len(parents) == 0 || len(pl.haves) == 0 {
		return trees
	}
	return pl.nearTrees(pl.g.order[c])
}

// nearTrees returns the trees of the client's commits that are nearest in the order, one on each side.
func (pl *planner) nearTrees(order int64) (trees []coveredTree) {
	if pl.sorted == nil {
		pl.sorted = slices.SortedFunc(slices.Values(pl.haves), func(a, b uint32) int { return cmp.Compare(pl.g.order[a], pl.g.order[b]) })
	}
	i, _ := slices.BinarySearchFunc(pl.sorted, order, func(h uint32, o int64) int { return cmp.Compare(pl.g.order[h], o) })
	for _, h := range pl.sorted[max(0, i-1):min(i+1, len(pl.sorted))] {
		trees = append(trees, coveredTree{oid: pl.g.tree[h], had: true})
	}
	return trees
}

// boundary returns the commits that the client has and that those sent name as parents.
func (pl *planner) boundary() []odb.Place {
	var list []odb.Place
	for _, c := range pl.send {
		for _, p := range pl.g.parents(c) {
			if pl.painter.marks[p]&markHave != 0 {
				list = append(list, pl.g.place(p))
			}
		}
	}
	return list
}

// addHadTrees notes what the client's trees lead to, as far as it named them, and those of the commits whose parents are
// sent now: history that grows at its old end has much in common with what the client has, but no tree of a parent to
// compare with.
func (pl *planner) addHadTrees(ctx context.Context) error {
	trees := pl.hadTrees
	for _, c := range pl.unshallow {
		trees = append(trees, pl.g.tree[c])
	}
	if !pl.r.Filter.IsZero() {
		return nil
	}
	w := pl.g.newTreeWalk(pl.had, nil, Filter{})
	for _, o := range trees {
		if err := w.root(ctx, o, nil); err != nil {
			return err
		}
	}
	return nil
}

// includeTags adds the annotated tags that name something sent.
func (pl *planner) includeTags() error {
	for _, r := range pl.r.IncludeTag {
		at, ok := pl.g.store.Find(r.Peeled)
		if tag, known := pl.g.store.Find(r.OID); !ok || !pl.plan.Send.Has(at) || known && pl.plan.Send.Has(tag) {
			continue
		}
		_, err := pl.followTags(r.OID, func(at odb.Place) {
			if !pl.had.Has(at) {
				pl.plan.Send.Add(at)
			}
		})
		if err != nil {
			return fmt.Errorf("tag %s: %w", r.Name, err)
		}
	}
	return nil
}
