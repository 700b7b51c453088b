package cell

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// state is one immutable state of a cell.
type state struct {
	version  int64
	settings Settings
	config   *protocol.Config // what settings.Git says
	refs     *git.Refs
	packs    []*livePack // those of objects, in the same order
	objects  *odb.Store
	aside    []packRow // packs that no view has
	graph    *lazyGraph
	memo     *protocol.Memo

	loosest   time.Time // since when a root is known to be named by no reference, the oldest; zero: none is
	backwards bool      // references moved so that there may be a root more
}

func (st *state) view() protocol.View {
	return protocol.View{Refs: st.refs, Objects: st.objects, Graph: st.graph.get, Memo: st.memo, Config: st.config}
}

// nextID is the catalogue's id for the next pack.
func (st *state) nextID() int64 {
	next := int64(1)
	for _, p := range st.packs {
		next = max(next, p.row.id+1)
	}
	for i := range st.aside {
		next = max(next, st.aside[i].id+1)
	}
	return next
}

// newState makes the state of a snapshot. Packs that old has open are taken over; those of old that are not needed any
// more come back.
func (c *Cell) newState(snap *snapshot, old *state) (st *state, unused []*livePack, err error) {
	st = &state{
		version: snap.version, settings: snap.settings, refs: git.NewRefs(snap.head, snap.refs),
		memo: &protocol.Memo{}, loosest: snap.loosest,
	}
	if st.config, err = protocol.ParseConfig(snap.settings.Git); err != nil {
		return nil, nil, err
	}
	var opened []*livePack
	defer func() {
		if err != nil {
			closePacks(opened)
		}
	}()
	for _, row := range snap.packs {
		if !row.aside.IsZero() {
			row.idx, row.table = nil, nil
			st.aside = append(st.aside, row)
			continue
		}
		p := old.open(row)
		if p == nil {
			if p, err = c.openPack(row); err != nil {
				return nil, nil, err
			}
			opened = append(opened, p)
		}
		st.packs = append(st.packs, p)
	}
	st.objects = odb.NewStore(gitPacks(st.packs), snap.roots, c.opts.Objects)
	st.graph = &lazyGraph{store: st.objects}
	if old != nil {
		for _, p := range old.packs {
			if !slices.Contains(st.packs, p) {
				unused = append(unused, p)
			}
		}
	}
	return st, unused, nil
}

// open finds an open pack.
func (st *state) open(row packRow) *livePack {
	if st == nil {
		return nil
	}
	for _, p := range st.packs {
		if p.row.id == row.id && p.row.checksum == row.checksum {
			return p
		}
	}
	return nil
}

func gitPacks(list []*livePack) []*pack.Pack {
	out := make([]*pack.Pack, len(list))
	for i, p := range list {
		out[i] = p.pack
	}
	return out
}

// lazyGraph builds the commit graph of a store when it is first asked for.
type lazyGraph struct {
	store *odb.Store
	prev  *revwalk.Graph // of an earlier state of the same packs; may be nil

	mu    sync.Mutex // held while the graph is built: who needs it meanwhile would only build it as well
	built atomic.Pointer[revwalk.Graph]
}

func (l *lazyGraph) get() (*revwalk.Graph, error) {
	if g := l.built.Load(); g != nil {
		return g, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.built.Load(); g != nil {
		return g, nil
	}
	g, err := revwalk.NewGraph(l.store, l.prev)
	if err != nil {
		return nil, fmt.Errorf("build commit graph: %w", err)
	}
	l.built.Store(g)
	return g, nil
}

// next is the graph of a store that has the same packs and more.
func (l *lazyGraph) next(s *odb.Store) *lazyGraph {
	if g := l.built.Load(); g != nil {
		return &lazyGraph{store: s, prev: g}
	}
	return &lazyGraph{store: s, prev: l.prev}
}
