package protocol

import (
	"context"
	"crypto/sha256"
	"sync"
	"sync/atomic"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

// Memo keeps what requests find out about one view. It lives as long as the view does, and is bounded by it: a map of
// the references' values, two long listings of them, and two sets of a bit for each object. The zero Memo is ready; it is safe for concurrent use.
type Memo struct {
	lookups atomic.Int32 // how often tips were asked for without the map
	tips    sync.Once
	tipSet  map[git.OID]struct{}

	tagsOnce sync.Once
	tags     tagList

	listMu   sync.Mutex
	lists    [2]keptList // what a clone asks for, and what a fetch asks for
	nextList int

	// The references without hidden ones, and what is found out about them; only where some are hidden.
	shownOnce sync.Once
	shown     *git.Refs
	ofShown   *Memo

	// mu is held while a set is computed: whoever else needs it would otherwise compute the same.
	mu        sync.Mutex
	uncovered *odb.Set
	reachable *odb.Set
}

// keptList is a long answer to ls-refs, about 70 bytes a reference; without text it was asked for once.
type keptList struct {
	key  string
	text []byte
}

// tagList is the annotated tags of a view and a digest of what an answer with include-tag depends on.
type tagList struct {
	refs   []git.Ref
	digest [sha256.Size]byte
}

// scansBeforeMap is how many requests look through the references before a map is made of them: a map of 100,000
// references takes longer than that many scans, and the next push makes it worthless.
const scansBeforeMap = 8

// isTip returns a test for being the value, or the peeled value, of a reference, good for the given candidates.
func (v View) isTip(candidates []git.OID) func(git.OID) bool {
	m := v.Memo
	refs := v.givers()
	if m == nil || (m.lookups.Add(1) <= scansBeforeMap && len(candidates) < refs.Len()) {
		found := v.tipsAmong(candidates)
		return func(o git.OID) bool { return found[o] }
	}
	m.tips.Do(func() {
		m.tipSet = make(map[git.OID]struct{}, refs.Len())
		for _, r := range refs.List() {
			m.tipSet[r.OID] = struct{}{}
			if !r.Peeled.IsZero() {
				m.tipSet[r.Peeled] = struct{}{}
			}
		}
	})
	return func(o git.OID) bool { _, ok := m.tipSet[o]; return ok }
}

// tipsAmong finds the candidates that are a reference's value in one pass over the references.
func (v View) tipsAmong(candidates []git.OID) map[git.OID]bool {
	found := make(map[git.OID]bool, len(candidates))
	for _, o := range candidates {
		found[o] = false
	}
	// A table of first bytes keeps most references away from the map.
	var first [256]bool
	for _, o := range candidates {
		first[o[0]] = true
	}
	mark := func(o git.OID) {
		if first[o[0]] {
			if _, ok := found[o]; ok {
				found[o] = true
			}
		}
	}
	for _, r := range v.givers().List() {
		mark(r.OID)
		if !r.Peeled.IsZero() {
			mark(r.Peeled)
		}
	}
	return found
}

// annotated returns the view's annotated tags.
func (v View) annotated() tagList {
	if v.Memo == nil {
		return v.listTags()
	}
	v.Memo.tagsOnce.Do(func() { v.Memo.tags = v.listTags() })
	return v.Memo.tags
}

func (v View) listTags() tagList {
	var l tagList
	h := sha256.New()
	for _, r := range v.Refs.Prefix("refs/tags/") {
		if !r.Peeled.IsZero() {
			l.refs = append(l.refs, r)
			h.Write(r.OID[:])
		}
	}
	h.Sum(l.digest[:0])
	return l
}

// refused returns the first want that a client may not have: one that the store lacks, or that no reference leads to.
// With tipsOnly, what is not itself a reference's value is refused. Where any object may be asked for, only what is not there is.
func (v View) refused(ctx context.Context, wants []git.OID, tipsOnly bool) (git.OID, bool, error) {
	anyWant := v.config().anyWant
	var seen []bool
	if !anyWant {
		var err error
		if seen, err = v.visible(ctx, wants, tipsOnly); err != nil {
			return git.OID{}, false, err
		}
	}
	for i := range wants {
		if anyWant && !v.Objects.Has(wants[i]) || !anyWant && !seen[i] {
			return wants[i], true, nil
		}
	}
	return git.OID{}, false, nil
}

// Visible says of each object whether a reference leads to it. Only what is visible may be shown to anybody.
func (v View) Visible(ctx context.Context, objects ...git.OID) ([]bool, error) {
	return v.forUpload().visible(ctx, objects, false)
}

// visible says of each object whether a reference leads to it. Objects may outlive the references that led to them (a
// deleted branch, a forced push), and must not be handed out then; but a partial clone asks for any blob or tree by its
// ID, so that reachability is judged without walking history wherever that can be:
//
//  1. A reference's value is reachable.
//  2. Everything in the store is reachable from its roots. When each root is a reference's value, so is everything.
//  3. Otherwise, what the other roots lead to and a client that has every reference would still have to be sent is
//     suspect. That is a walk over the difference. What is not suspect is reachable.
//  4. Suspects may be reachable all the same: the difference is not minimal where an old tree comes back. Only for them
//     is all of history walked.
func (v View) visible(ctx context.Context, objects []git.OID, tipsOnly bool) ([]bool, error) {
	out := make([]bool, len(objects))
	isTip := v.isTip(objects)
	var suspects []int
	for i, o := range objects {
		if out[i] = isTip(o); !out[i] && !tipsOnly && v.Objects.Has(o) {
			suspects = append(suspects, i)
		}
	}
	if len(suspects) == 0 {
		return out, nil
	}
	for _, stage := range []func(context.Context) (*odb.Set, bool, error){v.notCovered, v.covered} {
		set, means, err := stage(ctx)
		if err != nil {
			return nil, err
		}
		rest := suspects[:0]
		for _, i := range suspects {
			at, _ := v.Objects.Find(objects[i])
			if in := set != nil && set.Has(at); in == means {
				out[i] = true
			} else {
				rest = append(rest, i)
			}
		}
		if suspects = rest; len(suspects) == 0 {
			break
		}
	}
	return out, nil
}

// notCovered returns the objects of stage 3 above. Not to be in the set means to be reachable.
func (v View) notCovered(ctx context.Context) (*odb.Set, bool, error) {
	return v.remember(func(m *Memo) **odb.Set { return &m.uncovered }, false, func() (*odb.Set, error) {
		roots := v.Objects.Roots()
		if roots == nil && v.Objects.Len() > 0 { // not known: everything is suspect
			all := odb.NewSet(v.Objects)
			all.AddAll(v.Objects)
			return all, nil
		}
		isTip := v.isTip(roots)
		var loose []git.OID
		for _, r := range roots {
			if !isTip(r) {
				loose = append(loose, r)
			}
		}
		if len(loose) == 0 {
			return odb.NewSet(v.Objects), nil
		}
		g, err := v.Graph()
		if err != nil {
			return nil, err
		}
		plan, err := g.Plan(ctx, revwalk.Request{Wants: loose, Haves: v.tipValues()})
		if err != nil {
			return nil, err
		}
		return plan.Send, nil
	})
}

// covered returns everything that the references lead to.
func (v View) covered(ctx context.Context) (*odb.Set, bool, error) {
	return v.remember(func(m *Memo) **odb.Set { return &m.reachable }, true, func() (*odb.Set, error) {
		g, err := v.Graph()
		if err != nil {
			return nil, err
		}
		return g.Reachable(ctx, v.tipValues())
	})
}

func (v View) remember(slot func(*Memo) **odb.Set, means bool, find func() (*odb.Set, error)) (*odb.Set, bool, error) {
	if v.Memo == nil {
		s, err := find()
		return s, means, err
	}
	v.Memo.mu.Lock()
	defer v.Memo.mu.Unlock()
	at := slot(v.Memo)
	if *at == nil {
		s, err := find()
		if err != nil {
			return nil, means, err
		}
		*at = s
	}
	return *at, means, nil
}

// tipValues returns what the references name, each once.
func (v View) tipValues() []git.OID {
	refs := v.givers()
	seen := make(map[git.OID]struct{}, refs.Len())
	out := make([]git.OID, 0, refs.Len())
	for _, r := range refs.List() {
		if _, ok := seen[r.OID]; !ok {
			seen[r.OID] = struct{}{}
			if !v.Objects.Has(r.OID) {
				continue // a plain repository may be damaged
			}
			out = append(out, r.OID)
		}
	}
	return out
}
