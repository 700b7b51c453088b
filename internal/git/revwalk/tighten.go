package revwalk

import (
	"context"
	"encoding/binary"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
)

// maxTighten bounds the search for moved files: a fetch of more objects than this is no small one, and some that the client
// has already make no difference to it.
const maxTighten = 1 << 16

// tighten takes out of the set what the client has under another name: files and directories that were moved or copied, or
// came back. It looks at the trees that were compared, and into directories that are gone. It returns the replaced objects
// that are not sent: the client has them.
//
// That they are had follows from how the walk works: what a compared tree leads to is either sent or had.
func (w *treeWalk) tighten(ctx context.Context) (had *odb.Set, err error) {
	had = odb.NewSet(w.store)
	if w.set.Len() <= maxTighten {
		if err := w.dropMoved(ctx, had); err != nil {
			return nil, err
		}
	}
	for _, at := range w.replaced {
		if !w.set.Has(at) {
			had.Add(at)
		}
	}
	return had, nil
}

func (w *treeWalk) dropMoved(ctx context.Context, had *odb.Set) error {
	sent := newOIDSet(w.set.Len())
	for at := range w.set.All() {
		if k := w.store.Kind(at); k == git.Tree || k == git.Blob {
			sent.add(w.store.OID(at), at)
		}
	}
	for _, at := range w.replaced {
		if w.had.Has(at) {
			if err := w.drop(at, sent, had); err != nil {
				return err
			}
		}
	}
	scanned := odb.NewSet(w.store)
	scan := func(at odb.Place, deep bool) error {
		stack := []odb.Place{at}
		for len(stack) > 0 {
			at := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if w.set.Has(at) && !w.had.Has(at) || !scanned.Add(at) {
				continue
			}
			if w.steps++; w.steps%64 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			err := w.eachEntry(at, func(e git.Entry) error {
				if moved, ok := sent.find(e.OID); ok && w.set.Has(moved) {
					return w.drop(moved, sent, had)
				}
				if deep && e.Mode == git.ModeDir {
					below, err := w.find(e.OID)
					stack = append(stack, below)
					return err
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	for _, o := range w.gone {
		at, err := w.find(o)
		if err != nil {
			return err
		}
		if err := scan(at, true); err != nil {
			return err
		}
	}
	for _, at := range w.replaced {
		if w.store.Kind(at) != git.Tree {
			continue
		}
		if err := scan(at, false); err != nil {
			return err
		}
	}
	return nil
}

// drop takes an object out of the set, and if it is a tree, what it leads to.
func (w *treeWalk) drop(at odb.Place, sent *oidSet, had *odb.Set) error {
	stack := []odb.Place{at}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !w.set.Remove(at) {
			continue
		}
		had.Add(at)
		if w.store.Kind(at) != git.Tree {
			continue
		}
		err := w.eachEntry(at, func(e git.Entry) error {
			if below, ok := sent.find(e.OID); ok {
				stack = append(stack, below)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *treeWalk) eachEntry(tree odb.Place, f func(git.Entry) error) error {
	obj, err := w.store.ReadAt(tree)
	if err != nil {
		return err
	}
	for e, err := range git.TreeEntries(obj.Data) {
		if err != nil {
			return err
		}
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

// oidSet finds few objects among many: most questions end at a bit.
type oidSet struct {
	bits   [1 << 10]uint64
	places map[git.OID]odb.Place
}

func newOIDSet(size int) *oidSet { return &oidSet{places: make(map[git.OID]odb.Place, size)} }

func (s *oidSet) add(o git.OID, at odb.Place) {
	h := binary.BigEndian.Uint16(o[:])
	s.bits[h/64] |= 1 << (h % 64)
	s.places[o] = at
}

func (s *oidSet) find(o git.OID) (odb.Place, bool) {
	h := binary.BigEndian.Uint16(o[:])
	if s.bits[h/64]&(1<<(h%64)) == 0 {
		return odb.Place{}, false
	}
	at, ok := s.places[o]
	return at, ok
}
