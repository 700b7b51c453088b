package pack

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// none is no object where an object's number is stored.
const none = -1

// objects is what is known of a pack's objects, by their number: their position in the pack. Arrays instead of records
// keep it at 50 bytes an object (and 24 more for a ref-delta), since it is held for all of them at once.
//
// A number's elements belong to the goroutine that works on that object; what is shared is said below.
type objects struct {
	off  []int64    // where the entry starts; one more than there are objects: the end of the last
	crc  []uint32   // of the entry
	kind []git.Kind // of the object; of a delta that is not resolved yet, ofsDelta or refDelta
	size []uint32   // of the object, inflated and with deltas applied; maxObjectBytes fits
	base []int32    // the delta's base, or none
	oid  []git.OID

	// Children of an object are the deltas on it: first[i], then next of that. For ref-deltas they are linked when their
	// base is resolved; first and next are then guarded by the resolver's mu.
	first []int32
	next  []int32
	refs  []refChild // ref-deltas, sorted by base and number once all entries are known

	refBits []uint64 // a bit for each entry that is a ref-delta; nil when there is none
}

// refChild is a ref-delta that waits for its base.
type refChild struct {
	base git.OID
	num  int32
}

func (t *objects) len() int { return len(t.kind) }

// room sees to it that there is room for one more entry of n in all. It doubles what there is, up to n: the header's count
// is not trusted with more.
func (t *objects) room(n int) {
	if len(t.kind) == cap(t.kind) {
		t.grow(min(n-len(t.kind), max(len(t.kind), trustedEntries)))
	}
}

func (t *objects) grow(n int) {
	t.off = slices.Grow(t.off, n+1)
	t.crc = slices.Grow(t.crc, n)
	t.kind = slices.Grow(t.kind, n)
	t.size = slices.Grow(t.size, n)
	t.base = slices.Grow(t.base, n)
	t.oid = slices.Grow(t.oid, n)
}

// add notes the next entry. Its end is set by the next call, or by end.
func (t *objects) add(off int64, kind git.Kind, size uint32) int32 {
	t.off = append(t.off, off)
	t.crc = append(t.crc, 0)
	t.kind = append(t.kind, kind)
	t.size = append(t.size, size)
	t.base = append(t.base, none)
	t.oid = append(t.oid, git.OID{})
	return int32(len(t.kind) - 1)
}

// append notes an object after the last entry, which ends at end.
func (t *objects) append(o git.OID, kind git.Kind, size, crc uint32, end int64) int32 {
	num := int32(t.len())
	t.off = append(t.off, end)
	t.crc = append(t.crc, crc)
	t.kind = append(t.kind, kind)
	t.size = append(t.size, size)
	t.base = append(t.base, none)
	t.oid = append(t.oid, o)
	t.first = append(t.first, none)
	t.next = append(t.next, none)
	return num
}

// extent is where an entry lies; it needs the end of the last to be in off.
func (t *objects) extent(i int32) (off int64, n int) { return t.off[i], int(t.off[i+1] - t.off[i]) }

// at returns the object whose entry starts at an offset.
func (t *objects) at(off int64) (int32, bool) {
	i, ok := slices.BinarySearch(t.off[:t.len()], off)
	return int32(i), ok
}

// linkChildren builds the lists of ofs-deltas and sorts the ref-deltas.
func (t *objects) linkChildren() {
	t.first = slices.Repeat([]int32{none}, t.len())
	t.next = slices.Repeat([]int32{none}, t.len())
	for i := int32(t.len() - 1); i >= 0; i-- { // backwards, so that lists ascend: reads then go forward in the file
		if b := t.base[i]; b != none {
			t.next[i], t.first[b] = t.first[b], i
		}
	}
	if len(t.refs) > 0 {
		t.refBits = make([]uint64, t.len()/64+1)
	}
	for _, r := range t.refs {
		t.refBits[r.num/64] |= 1 << (r.num % 64)
	}
	slices.SortFunc(t.refs, func(a, b refChild) int {
		return cmp.Or(bytes.Compare(a.base[:], b.base[:]), cmp.Compare(a.num, b.num))
	})
}

// claimRefs links the ref-deltas on object i, whose ID is known now. Those that another copy of it has are left alone:
// the double is found when IDs are sorted.
func (t *objects) claimRefs(i int32) {
	o := t.oid[i]
	from := sort.Search(len(t.refs), func(k int) bool { return bytes.Compare(t.refs[k].base[:], o[:]) >= 0 })
	to := from
	for to < len(t.refs) && t.refs[to].base == o {
		to++
	}
	for k := to - 1; k >= from; k-- {
		if c := t.refs[k].num; t.base[c] == none {
			t.base[c] = i
			t.next[c], t.first[i] = t.first[i], c
		}
	}
}

// isRef reports whether a resolved object's entry is a ref-delta. It needs linkChildren.
func (t *objects) isRef(i int32) bool {
	return int(i/64) < len(t.refBits) && t.refBits[i/64]&(1<<(i%64)) != 0
}

// sorted returns the objects' numbers in the order of their IDs. An ID that is there twice is refused, as git index-pack
// --strict does: which copy counts would depend on the reader.
func (t *objects) sorted() ([]int32, error) {
	type key struct {
		prefix uint64
		num    int32
	}
	keys := make([]key, t.len())
	for i := range keys {
		keys[i] = key{binary.BigEndian.Uint64(t.oid[i][:]), int32(i)}
	}
	slices.SortFunc(keys, func(a, b key) int {
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		return bytes.Compare(t.oid[a.num][8:], t.oid[b.num][8:])
	})
	out := make([]int32, len(keys))
	for i, k := range keys {
		out[i] = k.num
		if i > 0 && t.oid[out[i-1]] == t.oid[k.num] {
			return nil, fmt.Errorf("the same object %s appears twice in the pack: %w", t.oid[k.num], errkind.Invalid)
		}
	}
	return out, nil
}
