package odb

import (
	"iter"
	"math/bits"
	"slices"

	"github.com/skep-dev/skep/internal/git/pack"
)

// Set is a set of a store's objects: a bit for each entry of each pack. Places in a set are canonical ones, as Find
// returns them. It is not safe for concurrent use while it changes.
//
// A set belongs to the store it was made for, and serves as well with every store that only has more packs at the end.
type Set struct {
	packs []*pack.Pack
	bits  []bitmap // a pack's is nil until something of it is added
	count []int    // by pack
	total int
}

// NewSet makes an empty set of a store's objects.
func NewSet(s *Store) *Set {
	return &Set{packs: s.packs, bits: make([]bitmap, len(s.packs)), count: make([]int, len(s.packs))}
}

// Add puts an object into the set. It returns false when it was there.
func (t *Set) Add(at Place) bool {
	b := t.bits[at.Pack]
	if b == nil {
		b = newBitmap(t.packs[at.Pack].Len())
		t.bits[at.Pack] = b
	}
	if b.has(at.Pos) {
		return false
	}
	b.set(at.Pos)
	t.count[at.Pack]++
	t.total++
	return true
}

// Remove takes an object out of the set. It returns false when it was not there.
func (t *Set) Remove(at Place) bool {
	if !t.Has(at) {
		return false
	}
	t.bits[at.Pack].clear(at.Pos)
	t.count[at.Pack]--
	t.total--
	return true
}

// Has reports whether the set has the object at a place. A nil Set has nothing.
func (t *Set) Has(at Place) bool {
	if t == nil || at.Pack >= len(t.bits) {
		return false
	}
	b := t.bits[at.Pack]
	return b != nil && b.has(at.Pos)
}

// Len returns how many objects the set has. A nil Set has none.
func (t *Set) Len() int {
	if t == nil {
		return 0
	}
	return t.total
}

// AddAll adds every object of the store, those that several packs have once: at their canonical places.
func (t *Set) AddAll(s *Store) {
	t.grow(s.packs)
	for i := range s.packs {
		t.addPack(i, s.doublesOf(i))
	}
}

// addPack adds every object of a pack that no earlier pack has.
func (t *Set) addPack(i int, d *doubles) {
	n := t.packs[i].Len()
	if n == d.count {
		return
	}
	b := t.bits[i]
	if b == nil {
		b = newBitmap(n)
		t.bits[i] = b
	}
	b.fill(n)
	if d.bits != nil {
		b.andNot(d.bits)
	}
	t.recount(i)
}

// All yields the objects in order of pack and position: the order in which WritePack sends them. The set must not change
// meanwhile.
func (t *Set) All() iter.Seq[Place] {
	return func(yield func(Place) bool) {
		for i := range t.bits {
			for at := range t.InPack(i) {
				if !yield(Place{Pack: i, Pos: at}) {
					return
				}
			}
		}
	}
}

// InPack yields the positions of one pack's objects, in order. The set must not change meanwhile.
func (t *Set) InPack(i int) iter.Seq[pack.Pos] {
	return func(yield func(pack.Pos) bool) {
		for from, to := range t.bits[i].runs() {
			for at := from; at < to; at++ {
				if !yield(at) {
					return
				}
			}
		}
	}
}

// PackLen returns how many objects of one pack the set has.
func (t *Set) PackLen(i int) int { return t.count[i] }

// Clone returns a copy that may change independently.
func (t *Set) Clone() *Set {
	c := &Set{packs: t.packs, bits: make([]bitmap, len(t.bits)), count: slices.Clone(t.count), total: t.total}
	for i, b := range t.bits {
		c.bits[i] = slices.Clone(b)
	}
	return c
}

// Or adds all objects of another set of the same store.
func (t *Set) Or(u *Set) {
	t.grow(u.packs)
	for i, b := range u.bits {
		switch {
		case b == nil:
		case t.bits[i] == nil:
			t.bits[i] = slices.Clone(b)
		default:
			t.bits[i].or(b)
		}
		t.recount(i)
	}
}

// And keeps only what another set of the same store has as well.
func (t *Set) And(u *Set) {
	for i, b := range t.bits {
		switch {
		case b == nil:
		case i >= len(u.bits) || u.bits[i] == nil:
			t.bits[i] = nil
		default:
			b.and(u.bits[i])
		}
		t.recount(i)
	}
}

// AndNot takes out what another set of the same store has.
func (t *Set) AndNot(u *Set) {
	for i, b := range u.bits[:min(len(u.bits), len(t.bits))] {
		if b == nil || t.bits[i] == nil {
			continue
		}
		t.bits[i].andNot(b)
		t.recount(i)
	}
}

// grow makes room for the packs that a later store has at the end.
func (t *Set) grow(packs []*pack.Pack) {
	if more := len(packs) - len(t.packs); more > 0 {
		t.packs = packs
		t.bits = append(t.bits, make([]bitmap, more)...)
		t.count = append(t.count, make([]int, more)...)
	}
}

func (t *Set) recount(i int) {
	n := t.bits[i].count()
	t.total += n - t.count[i]
	t.count[i] = n
}

// bitmap is a bit for each entry of a pack, in pack order. The bits behind the last entry are always 0.
type bitmap []uint64

func newBitmap(n int) bitmap { return make(bitmap, (n+63)/64) }

func (b bitmap) has(at pack.Pos) bool { return b[at/64]&(1<<(at%64)) != 0 }
func (b bitmap) set(at pack.Pos)      { b[at/64] |= 1 << (at % 64) }
func (b bitmap) clear(at pack.Pos)    { b[at/64] &^= 1 << (at % 64) }

// fill sets the first n bits.
func (b bitmap) fill(n int) {
	for i := range b {
		b[i] = ^uint64(0)
	}
	if n%64 != 0 {
		b[len(b)-1] = 1<<(n%64) - 1
	}
}

func (b bitmap) or(c bitmap) {
	for i, w := range c {
		b[i] |= w
	}
}

func (b bitmap) and(c bitmap) {
	for i, w := range c {
		b[i] &= w
	}
}

func (b bitmap) andNot(c bitmap) {
	for i, w := range c {
		b[i] &^= w
	}
}

func (b bitmap) count() (n int) {
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// runs yields the longest ranges [from, to) of set bits, in order.
func (b bitmap) runs() iter.Seq2[pack.Pos, pack.Pos] {
	return func(yield func(from, to pack.Pos) bool) {
		for at := b.next(0, 0); at < len(b)*64; {
			end := b.next(at, ^uint64(0))
			if !yield(pack.Pos(at), pack.Pos(end)) {
				return
			}
			at = b.next(end, 0)
		}
	}
}

// next finds the first bit at or after from that is 1 (with flip 0) or 0 (with flip all ones). It returns the number of
// bits if there is none.
func (b bitmap) next(from int, flip uint64) int {
	i := from / 64
	if i >= len(b) {
		return len(b) * 64
	}
	if w := (b[i] ^ flip) >> (from % 64); w != 0 {
		return from + bits.TrailingZeros64(w)
	}
	for i++; i < len(b); i++ {
		if w := b[i] ^ flip; w != 0 {
			return i*64 + bits.TrailingZeros64(w)
		}
	}
	return len(b) * 64
}
