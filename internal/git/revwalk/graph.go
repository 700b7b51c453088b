package revwalk

import (
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
)

// Graph is the commits of a store with their parents, dates and order, in memory (about 60 bytes a commit). It is
// immutable and safe for concurrent use.
//
// A commit is known inside the package by its number: commits count in order of pack and position, so that a graph that
// grows by a pack keeps the numbers it has given.
type Graph struct {
	store *odb.Store
	from  []uint32 // by pack, and one more: the number of its first commit

	// One element for each commit. A graph made from this one may use the same arrays behind the last of these elements.
	when      []int64
	order     []int64 // see addOrder
	pos       []pack.Pos
	tree      []git.OID
	parentEnd []uint32 // where the commit's parents end in edges, and the next one's start
	edges     []uint32

	ids   *idTable
	grown *growth

	cut   map[git.OID]bool   // commits whose parents the store does not have: see NewShallowGraph
	lacks map[uint32]git.OID // commits of such a store that lack a parent all the same; nil: none may
}

// growth says which graph is the one that may append to the arrays that it shares with earlier graphs: the longest.
type growth struct {
	mu sync.Mutex
	n  int // guarded by mu
}

// NewGraph builds the graph from the packs' tables; no commit is inflated. prev, which may be nil, is the graph of an
// earlier state of the same repository: when the new store only adds packs to it, only those are read.
func NewGraph(s *odb.Store, prev *Graph) (*Graph, error) {
	g, old := &Graph{store: s, from: []uint32{0}, ids: newIDTable(), grown: &growth{}}, 0
	if prev != nil && samePacks(prev.store.Packs(), s.Packs()) {
		old = len(prev.store.Packs())
		g.inherit(prev)
	}
	if err := g.build(old); err != nil {
		return nil, err
	}
	return g, nil
}

// build adds the packs from old on.
func (g *Graph) build(old int) error {
	first, more := g.Len(), 0
	packs := g.store.Packs()[old:]
	for _, p := range packs {
		more += p.CommitCount()
	}
	g.reserve(more)
	for i, p := range packs {
		g.addCommits(old+i, p)
	}
	for i, p := range packs {
		if err := g.addParents(old+i, p); err != nil {
			return err
		}
	}
	return g.addOrder(first)
}

// NewShallowGraph is NewGraph for a store whose history may end: at the commits of cut, which then have no parents. Another
// commit may lack a parent too, as those do that nothing leads to and that git has begun to remove; a plan that has to send such a
// one fails.
func NewShallowGraph(s *odb.Store, cut map[git.OID]bool) (*Graph, error) {
	g := &Graph{store: s, from: []uint32{0}, ids: newIDTable(), grown: &growth{}, cut: cut, lacks: map[uint32]git.OID{}}
	return g, g.build(0)
}

// samePacks reports whether the new list of packs starts with the old one.
func samePacks(old, list []*pack.Pack) bool {
	return len(old) <= len(list) && slices.EqualFunc(old, list[:len(old)], func(a, b *pack.Pack) bool {
		return a == b || a.Checksum() == b.Checksum() && a.Len() == b.Len()
	})
}

// inherit takes over what prev knows. Only one graph may go on in prev's arrays; any other starts with copies.
func (g *Graph) inherit(prev *Graph) {
	mine := *prev
	mine.store = g.store
	mine.from = slices.Clip(prev.from)
	prev.grown.mu.Lock()
	defer prev.grown.mu.Unlock()
	if prev.grown.n != prev.Len() {
		mine.when = slices.Clip(mine.when)
		mine.order = slices.Clip(mine.order)
		mine.pos = slices.Clip(mine.pos)
		mine.tree = slices.Clip(mine.tree)
		mine.parentEnd = slices.Clip(mine.parentEnd)
		mine.edges = slices.Clip(mine.edges)
		mine.ids = prev.ids.copyOf(prev)
		mine.grown = &growth{n: prev.Len()}
	}
	// Nobody else may go on from prev, even if this build fails half-way.
	mine.grown.n = -1
	*g = mine
}

// reserve makes room for so many more commits.
func (g *Graph) reserve(more int) {
	g.when = slices.Grow(g.when, more)
	g.pos = slices.Grow(g.pos, more)
	g.tree = slices.Grow(g.tree, more)
	g.parentEnd = slices.Grow(g.parentEnd, more)
	g.reserveIDs(g.Len() + more)
}

// addCommits numbers a pack's commits. A commit that an earlier pack has already keeps its number.
func (g *Graph) addCommits(i int, p *pack.Pack) {
	for row := range p.Commits() {
		if !g.number(p.OID(row.Pos)) {
			continue
		}
		g.when = append(g.when, row.When)
		g.pos = append(g.pos, row.Pos)
		g.tree = append(g.tree, row.Tree)
	}
	g.from = append(g.from[:i+1], uint32(g.Len()))
}

// addParents runs when all commits have numbers: a parent may come later than its child.
func (g *Graph) addParents(i int, p *pack.Pack) error {
	next := g.from[i]
	for row := range p.Commits() {
		if next == g.from[i+1] || g.pos[next] != row.Pos {
			continue // it counts in an earlier pack
		}
		next++
		if g.cut[p.OID(row.Pos)] {
			row.Parents = nil
		}
		for _, o := range row.Parents {
			parent, ok := g.find(o)
			if !ok && g.lacks != nil {
				g.lacks[next-1] = o
				continue
			}
			if !ok {
				return fmt.Errorf("commit %s has no parent %s in the store", p.OID(row.Pos), o)
			}
			g.edges = append(g.edges, parent)
		}
		g.parentEnd = append(g.parentEnd, uint32(len(g.edges)))
	}
	return nil
}

// latest is the latest date that counts for the order (in the year 36812): a bound that no clock reaches, so that adding to
// it cannot overflow.
const latest = 1 << 40

// addOrder gives each commit from first on its place in the order by which walks go, and makes the graph one that may
// grow. The order is a commit's date, but always later than its parents': git's "corrected commit date"
// (gitformat-commit-graph, GDA2). So an ancestor always comes lower than its descendants, whatever their clocks said, and
// commits of about one time lie near each other, whatever branch they are on: walks end early.
func (g *Graph) addOrder(first int) error {
	g.order = append(g.order, make([]int64, g.Len()-first)...)
	var path []uint32 // from a child to the ancestor that comes next: never longer than there are commits
	for c := g.Len() - 1; c >= first; c-- {
		if g.order[c] != 0 {
			continue
		}
		for path = append(path[:0], uint32(c)); len(path) > 0; {
			top := path[len(path)-1]
			order, open := max(1, min(g.when[top], latest)), false
			for _, p := range g.parents(top) {
				if g.order[p] == 0 {
					path, open = append(path, p), true
					break
				}
				order = max(order, g.order[p]+1)
			}
			switch {
			case !open:
				g.order[top] = order
				path = path[:len(path)-1]
			case len(path) > g.Len():
				return fmt.Errorf("commit %s is its own ancestor", g.oid(top))
			}
		}
	}
	g.grown.mu.Lock()
	defer g.grown.mu.Unlock()
	g.grown.n = g.Len()
	return nil
}

// Store returns the store whose commits these are.
func (g *Graph) Store() *odb.Store { return g.store }

// Len returns how many commits there are.
func (g *Graph) Len() int { return len(g.when) }

// Has reports whether o is a commit of the graph.
func (g *Graph) Has(o git.OID) bool {
	_, ok := g.find(o)
	return ok
}

// Tree returns a commit's tree.
func (g *Graph) Tree(o git.OID) (git.OID, bool) {
	c, ok := g.find(o)
	if !ok {
		return git.OID{}, false
	}
	return g.tree[c], true
}

// When returns a commit's committer time in seconds since 1970.
func (g *Graph) When(o git.OID) (int64, bool) {
	c, ok := g.find(o)
	if !ok {
		return 0, false
	}
	return g.when[c], true
}

// Parents returns a commit's parents, in order.
func (g *Graph) Parents(o git.OID) ([]git.OID, bool) {
	c, ok := g.find(o)
	if !ok {
		return nil, false
	}
	return g.oids(g.parents(c)), true
}

// find returns the number of a commit.
func (g *Graph) find(o git.OID) (uint32, bool) { return g.ids.find(g, o) }

// commit is find for what a caller named: tags are followed, and anything else is an error.
func (g *Graph) commit(o git.OID) (uint32, error) {
	if c, ok := g.find(o); ok {
		return c, nil
	}
	target, kind, err := g.store.Peel(o)
	if err != nil {
		return 0, err
	}
	c, ok := g.find(target)
	if !ok {
		return 0, fmt.Errorf("%s is a %s, not a commit: %w", o, kind, errkind.Invalid)
	}
	return c, nil
}

func (g *Graph) commits(list []git.OID) ([]uint32, error) {
	out := make([]uint32, len(list))
	for i, o := range list {
		var err error
		if out[i], err = g.commit(o); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (g *Graph) parents(c uint32) []uint32 {
	start := uint32(0)
	if c > 0 {
		start = g.parentEnd[c-1]
	}
	return g.edges[start:g.parentEnd[c]]
}

func (g *Graph) place(c uint32) odb.Place {
	i := sort.Search(len(g.from), func(i int) bool { return g.from[i] > c }) - 1
	return odb.Place{Pack: i, Pos: g.pos[c]}
}

func (g *Graph) oid(c uint32) git.OID { return g.store.OID(g.place(c)) }

func (g *Graph) oids(list []uint32) []git.OID {
	out := make([]git.OID, len(list))
	for i, c := range list {
		out[i] = g.oid(c)
	}
	return out
}
