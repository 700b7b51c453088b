package odb

import (
	"context"
	"fmt"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// maxLookedInto is the part of a store that Reached may look into, as a divisor: beyond it, a walk that compares trees with
// those of their parents is faster.
const maxLookedInto = 4

// Reached returns all objects that tips lead to. It knows most of that without reading one: an object's links lie in its own
// pack or in earlier ones, since each pack was complete with what was there when it came, and packs are only ever joined
// with their neighbours. So it goes through the packs from the last to the first, with what the later ones name of each:
//
//   - nothing: then nothing of the pack is reached;
//   - all its roots: then all of it is, and what the pack names outside;
//   - something else, or earlier packs have some of its objects, other than those appended to a thin pack: then its own
//     trees must be read.
//
// It returns false if that would be more than a part of the store, or if packs are not as said: then the caller walks.
func (s *Store) Reached(ctx context.Context, tips []git.OID) (*Set, bool, error) {
	return s.reached(ctx, tips, s.total/maxLookedInto)
}

func (s *Store) reached(ctx context.Context, tips []git.OID, limit int) (*Set, bool, error) {
	r := reach{store: s, named: NewSet(s), set: NewSet(s), limit: limit}
	for _, o := range tips {
		if err := r.name(o, len(s.packs)-1); err != nil {
			return nil, false, err
		}
	}
	for i := len(s.packs) - 1; i >= 0 && !r.odd; i-- {
		if err := r.pack(ctx, i); err != nil {
			return nil, false, err
		}
	}
	return r.set, !r.odd, nil
}

// reach is one run of Reached. Places are canonical ones: another copy of an object is not looked at.
type reach struct {
	store *Store
	named *Set // by tips, or by objects of later packs that are reached
	set   *Set // what is reached

	limit      int  // of lookedInto
	lookedInto int  // entries of packs
	odd        bool // it does not work out
}

// name notes that something of pack from, or a tip, leads to o.
func (r *reach) name(o git.OID, from int) error {
	at, ok := r.store.Find(o)
	if !ok {
		return fmt.Errorf("object %s is not in the store", o)
	}
	r.named.Add(at)
	r.odd = r.odd || at.Pack > from
	return nil
}

func (r *reach) pack(ctx context.Context, i int) error {
	p, doubles := r.store.packs[i], r.store.doublesOf(i)
	switch {
	case r.named.PackLen(i) == 0:
		return nil
	case !onlyAppended(p, doubles) || !r.allRoots(i):
		if r.lookedInto += p.Len(); r.lookedInto > r.limit {
			r.odd = true
			return nil
		}
		return r.lookInto(ctx, i)
	}
	r.set.addPack(i, doubles)
	for o := range p.Outside() {
		if err := r.name(o, i-1); err != nil {
			return err
		}
	}
	return r.nameAppended(i)
}

// onlyAppended reports whether the objects of a pack that earlier ones have too are just those that were appended to it.
func onlyAppended(p *pack.Pack, d *doubles) bool {
	if d.count != p.Appended() {
		return false
	}
	for at := p.Len() - p.Appended(); at < p.Len(); at++ {
		if !d.has(pack.Pos(at)) {
			return false
		}
	}
	return true
}

// allRoots reports whether all roots of a pack are named. Appended objects are none of its own.
func (r *reach) allRoots(i int) bool {
	p := r.store.packs[i]
	for at := range p.Roots() {
		if int(at) < p.Len()-p.Appended() && !r.named.Has(Place{Pack: i, Pos: at}) {
			return false
		}
	}
	return true
}

// nameAppended names the appended objects of a pack that is reached, if one of its own objects names them.
func (r *reach) nameAppended(i int) error {
	p := r.store.packs[i]
	at := pack.Pos(p.Len() - p.Appended())
	for root := range p.Roots() {
		for ; at < root; at++ {
			if err := r.name(p.OID(at), i-1); err != nil {
				return err
			}
		}
		at = max(at, root+1)
	}
	for ; int(at) < p.Len(); at++ {
		if err := r.name(p.OID(at), i-1); err != nil {
			return err
		}
	}
	return nil
}

// lookInto adds what the named objects of a pack lead to.
func (r *reach) lookInto(ctx context.Context, i int) error {
	p, doubles := r.store.packs[i], r.store.doublesOf(i)
	var stack []pack.Pos
	add := func(at pack.Pos) {
		if r.set.Add(Place{Pack: i, Pos: at}) && p.Kind(at) != git.Blob {
			stack = append(stack, at)
		}
	}
	for at := range r.named.InPack(i) {
		add(at)
	}
	for steps := 0; len(stack) > 0; steps++ {
		if steps%64 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		obj, err := r.store.ReadAt(Place{Pack: i, Pos: at})
		if err != nil {
			return err
		}
		for o, err := range git.Links(obj.Kind, obj.Data) {
			if err != nil {
				return fmt.Errorf("%s %s: %w", obj.Kind, p.OID(at), err)
			}
			if to, ok := p.Find(o); ok && !doubles.has(to) {
				add(to)
			} else if err := r.name(o, i-1); err != nil {
				return err
			}
		}
	}
	return nil
}
