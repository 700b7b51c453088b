package odb

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// Store is the objects of one repository at one moment: an immutable list of packs. An object that several packs have
// counts in the first of them; since a delta's base is in its own pack, bases never lie in a later pack, and the copies
// that a pack writer chooses can make no cycle. It is safe for concurrent use.
type Store struct {
	packs []*pack.Pack
	roots []git.OID
	cache *Cache
	total int // entries of all packs

	doubles []*doubles // one for each pack, counted at first use
}

const (
	// minPrefix is the shortest abbreviation of an ID that is looked up: git's own minimum.
	minPrefix = 4
	// maxTagDepth bounds chains of annotated tags that name tags. People write one or two links; a chain that is longer
	// than this is an attack on whoever must follow it.
	maxTagDepth = 1000
)

// NewStore makes a store. packs are oldest (base pack) first. roots are all the objects that no object of any pack names:
// everything in the store is reachable from them. nil roots mean not known. cache may be nil: nothing is kept then.
func NewStore(packs []*pack.Pack, roots []git.OID, cache *Cache) *Store {
	s := &Store{packs: packs, roots: roots, cache: cache, doubles: make([]*doubles, len(packs))}
	for i, p := range packs {
		s.total += p.Len()
		s.doubles[i] = &doubles{}
	}
	return s
}

// With is the store that s becomes by one more pack. It keeps what s has counted already.
func (s *Store) With(p *pack.Pack, roots []git.OID) *Store {
	return &Store{
		packs:   append(slices.Clip(s.packs), p),
		roots:   roots,
		cache:   s.cache,
		total:   s.total + p.Len(),
		doubles: append(slices.Clip(s.doubles), &doubles{}),
	}
}

// Packs returns the packs, oldest first. The caller does not change the slice.
func (s *Store) Packs() []*pack.Pack { return s.packs }

// Roots returns the objects that no object of the store names, or nil if they are not known. The caller does not change
// the slice.
func (s *Store) Roots() []git.OID { return s.roots }

// Len returns how many entries all packs have, doubles included.
func (s *Store) Len() int { return s.total }

// Place is where an object lies.
type Place struct {
	Pack int
	Pos  pack.Pos
}

// Find returns an object's canonical place: in the first pack that has it.
func (s *Store) Find(o git.OID) (Place, bool) { return s.findBefore(o, len(s.packs)) }

// findBefore is Find in the first n packs.
func (s *Store) findBefore(o git.OID, n int) (Place, bool) {
	for i, p := range s.packs[:n] {
		if at, ok := p.Find(o); ok {
			return Place{Pack: i, Pos: at}, true
		}
	}
	return Place{}, false
}

// Has reports whether the store has an object.
func (s *Store) Has(o git.OID) bool {
	_, ok := s.Find(o)
	return ok
}

// OID returns the ID of the object at a place.
func (s *Store) OID(at Place) git.OID { return s.packs[at.Pack].OID(at.Pos) }

// Kind returns the kind of the object at a place.
func (s *Store) Kind(at Place) git.Kind { return s.packs[at.Pack].Kind(at.Pos) }

// Size returns the size of the object at a place, inflated.
func (s *Store) Size(at Place) int64 { return s.packs[at.Pack].ObjectSize(at.Pos) }

// Stat returns an object's kind and size without inflating it.
func (s *Store) Stat(o git.OID) (git.Kind, int64, error) {
	at, err := s.find(o)
	if err != nil {
		return 0, 0, err
	}
	return s.Kind(at), s.Size(at), nil
}

// Read returns an object, or an error that wraps errkind.NotFound. It refuses what is over pack.MaxReadBytes.
func (s *Store) Read(o git.OID) (git.Object, error) {
	at, err := s.find(o)
	if err != nil {
		return git.Object{}, err
	}
	return s.ReadAt(at)
}

// ReadAt is Read for an object whose place is known.
func (s *Store) ReadAt(at Place) (git.Object, error) {
	p := s.packs[at.Pack]
	if s.cache == nil {
		return p.Read(at.Pos, nil)
	}
	if o, ok := s.cache.Get(p, at.Pos); ok {
		return o, nil
	}
	o, err := p.Read(at.Pos, s.cache)
	if err == nil {
		s.cache.Put(p, at.Pos, o)
	}
	return o, err
}

// Open streams an object of any size. The caller closes the reader. errkind.Unavailable when a big one has to wait too long
// for room to be put together: see pack.Room.
func (s *Store) Open(ctx context.Context, o git.OID) (git.Kind, int64, io.ReadCloser, error) {
	at, err := s.find(o)
	if err != nil {
		return 0, 0, nil, err
	}
	r, err := s.openAt(ctx, at)
	if err != nil {
		return 0, 0, nil, err
	}
	return s.Kind(at), s.Size(at), r, nil
}

func (s *Store) openAt(ctx context.Context, at Place) (io.ReadCloser, error) {
	return s.packs[at.Pack].OpenObject(ctx, at.Pos, s.bases())
}

// bases returns the cache as what packs take: a nil interface when there is none.
func (s *Store) bases() pack.BaseCache {
	if s.cache == nil {
		return nil
	}
	return s.cache
}

func (s *Store) find(o git.OID) (Place, error) {
	at, ok := s.Find(o)
	if !ok {
		return Place{}, fmt.Errorf("object %s: %w", o, errkind.NotFound)
	}
	return at, nil
}

// ResolvePrefix finds the one object whose ID starts with hex digits: errkind.NotFound, or Invalid when there are several.
func (s *Store) ResolvePrefix(hex string) (git.OID, error) {
	if len(hex) < minPrefix || len(hex) > 2*git.OIDSize {
		return git.OID{}, fmt.Errorf("abbreviated object ID of %d digits, not %d to %d: %w",
			len(hex), minPrefix, 2*git.OIDSize, errkind.Invalid)
	}
	if i := strings.IndexFunc(hex, notHex); i >= 0 {
		return git.OID{}, fmt.Errorf("abbreviated object ID %q is not hexadecimal: %w", hex, errkind.Invalid)
	}
	hex = strings.ToLower(hex)
	var found git.OID
	for _, p := range s.packs {
		for _, o := range p.FindPrefix(hex, 2) {
			if !found.IsZero() && o != found {
				return git.OID{}, fmt.Errorf("abbreviated object ID %s is ambiguous: %w", hex, errkind.Invalid)
			}
			found = o
		}
	}
	if found.IsZero() {
		return git.OID{}, fmt.Errorf("object %s: %w", hex, errkind.NotFound)
	}
	return found, nil
}

func notHex(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'f') && (r < 'A' || r > 'F')
}

// Peel follows annotated tags to what they name in the end.
func (s *Store) Peel(o git.OID) (git.OID, git.Kind, error) {
	first := o
	for range maxTagDepth {
		at, err := s.find(o)
		if err != nil {
			return git.OID{}, 0, err
		}
		if k := s.Kind(at); k != git.Tag {
			return o, k, nil
		}
		tag, err := s.ReadAt(at)
		if err != nil {
			return git.OID{}, 0, err
		}
		if o, _, err = git.TagLink(tag.Data); err != nil {
			return git.OID{}, 0, fmt.Errorf("peel %s: %w", first, err)
		}
	}
	return git.OID{}, 0, fmt.Errorf("peel %s: chain of more than %d tags: %w", first, maxTagDepth, errkind.TooLarge)
}

// doubles are a pack's entries that an earlier pack has as well. Counting them takes a look-up for each entry of each
// pack but the first, so it happens once, when somebody first wants everything.
type doubles struct {
	once  sync.Once
	bits  bitmap // nil when there are none
	count int
}

func (d *doubles) has(at pack.Pos) bool { return d.bits != nil && d.bits.has(at) }

func (s *Store) doublesOf(i int) *doubles {
	d := s.doubles[i]
	d.once.Do(func() {
		if i == 0 {
			return
		}
		p := s.packs[i]
		for at := range pack.Pos(p.Len()) {
			if _, ok := s.findBefore(p.OID(at), i); !ok {
				continue
			}
			if d.bits == nil {
				d.bits = newBitmap(p.Len())
			}
			d.bits.set(at)
			d.count++
		}
	})
	return d
}
