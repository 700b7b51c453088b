package pack

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sort"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// none is no object where an object's number is stored.
const none = -1

// objects is what is known of a pack's objects, by their number: their position in the pack. Arrays instead of records
// keep it at 49 bytes an object (and 28 more for a ref-delta), and let large ones lie in files, since it is held for all
// objects at once.
//
// A number's elements belong to the goroutine that works on that object; what is shared is said below.
type objects struct {
	mem *arena // of all arrays

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

	refs   []refChild // ref-deltas, by number
	byBase *idOrder   // of refs; nil until all entries are known, and when there are none
	isRef  bitset     // of objects: whether the entry is a ref-delta
}

// refChild is a ref-delta that waits for its base.
type refChild struct {
	base git.OID
	num  int32
}

func (t *objects) len() int { return len(t.kind) }

// room sees to it that there is room for one more entry of n in all. It doubles what there is, up to n: the header's count
// is not trusted with more.
func (t *objects) room(n int) error {
	if len(t.kind) < cap(t.kind) {
		return nil
	}
	return t.grow(min(n-len(t.kind), max(len(t.kind), trustedEntries)))
}

func (t *objects) grow(n int) error {
	return cmp.Or(
		grow(t.mem, &t.off, n+1),
		grow(t.mem, &t.crc, n),
		grow(t.mem, &t.kind, n),
		grow(t.mem, &t.size, n),
		grow(t.mem, &t.base, n),
		grow(t.mem, &t.oid, n),
	)
}

// releaseChildren gives back what only the resolver needs.
func (t *objects) releaseChildren() {
	release(t.mem, t.first)
	release(t.mem, t.next)
	release(t.mem, t.refs)
	if t.byBase != nil {
		release(t.mem, t.byBase.nums)
	}
	t.first, t.next, t.refs, t.byBase = nil, nil, nil, nil
}

// add notes the next entry, for which there is room. Its end is set by the next call, or by end.
func (t *objects) add(off int64, kind git.Kind, size uint32) int32 {
	t.off = append(t.off, off)
	t.crc = append(t.crc, 0)
	t.kind = append(t.kind, kind)
	t.size = append(t.size, size)
	t.base = append(t.base, none)
	t.oid = append(t.oid, git.OID{})
	return int32(len(t.kind) - 1)
}

// end notes where the last entry ends.
func (t *objects) end(off int64) { t.off = append(t.off, off) }

// addRef notes that an entry is a ref-delta.
func (t *objects) addRef(num int32, base git.OID) error {
	return push(t.mem, &t.refs, refChild{base: base, num: num})
}

// append notes an object after the last entry, which ends at end.
func (t *objects) append(o git.OID, kind git.Kind, size, crc uint32, end int64) (int32, error) {
	if len(t.kind) == cap(t.kind) {
		// A thin pack lacks few bases, compared with what it has.
		more := len(t.kind)/8 + 16
		if err := cmp.Or(t.grow(more), grow(t.mem, &t.first, more), grow(t.mem, &t.next, more)); err != nil {
			return 0, err
		}
	}
	num := t.add(end, kind, size)
	t.oid[num], t.crc[num] = o, crc
	t.first = append(t.first, none)
	t.next = append(t.next, none)
	return num, nil
}

// extent is where an entry lies; it needs the end of the last to be in off.
func (t *objects) extent(i int32) (off int64, n int) { return t.off[i], int(t.off[i+1] - t.off[i]) }

// at returns the object whose entry starts at an offset.
func (t *objects) at(off int64) (int32, bool) {
	i, ok := slices.BinarySearch(t.off[:t.len()], off)
	return int32(i), ok
}

// linkChildren builds the lists of ofs-deltas and sorts the ref-deltas.
func (t *objects) linkChildren() error {
	n := t.len()
	if err := cmp.Or(grow(t.mem, &t.first, cap(t.kind)), grow(t.mem, &t.next, cap(t.kind))); err != nil {
		return err
	}
	t.first, t.next = t.first[:n], t.next[:n]
	for i := range t.first {
		t.first[i], t.next[i] = none, none
	}
	for i := int32(n - 1); i >= 0; i-- { // backwards, so that lists ascend: reads then go forward in the file
		if b := t.base[i]; b != none {
			t.next[i], t.first[b] = t.first[b], i
		}
	}
	if len(t.refs) == 0 {
		return nil
	}
	t.isRef = newBitset(n)
	for _, r := range t.refs {
		t.isRef.set(r.num)
	}
	var err error
	t.byBase, err = sortIDs(t.mem, len(t.refs), func(k int32) *git.OID { return &t.refs[k].base })
	return err
}

// refsOn returns the positions in refs of the ref-deltas on an object.
func (t *objects) refsOn(o *git.OID) []int32 {
	if t.byBase == nil {
		return nil
	}
	b := t.byBase.bucket(o)
	from := sort.Search(len(b), func(i int) bool { return bytes.Compare(t.refs[b[i]].base[:], o[:]) >= 0 })
	to := from
	for to < len(b) && t.refs[b[to]].base == *o {
		to++
	}
	return b[from:to]
}

// claimRefs links the ref-deltas on object i, whose ID is known now. Those that another copy of it has are left alone:
// the double is found when IDs are sorted.
func (t *objects) claimRefs(i int32) {
	for _, k := range slices.Backward(t.refsOn(&t.oid[i])) {
		if c := t.refs[k].num; t.base[c] == none {
			t.base[c] = i
			t.next[c], t.first[i] = t.first[i], c
		}
	}
}

// sorted returns the objects' numbers in the order of their IDs. An ID that is there twice is refused, as git index-pack
// --strict does: which copy counts would depend on the reader.
func (t *objects) sorted() ([]int32, error) {
	order, err := sortIDs(t.mem, t.len(), func(num int32) *git.OID { return &t.oid[num] })
	if err != nil {
		return nil, err
	}
	for i, num := range order.nums {
		if i > 0 && t.oid[order.nums[i-1]] == t.oid[num] {
			return nil, fmt.Errorf("the same object %s appears twice in the pack: %w", t.oid[num], errkind.Invalid)
		}
	}
	return order.nums, nil
}

// bitset is a set of numbers. An empty one, of nothing, is nil.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) set(i int32) { b[i/64] |= 1 << (i % 64) }

func (b bitset) has(i int32) bool { return int(i/64) < len(b) && b[i/64]&(1<<(i%64)) != 0 }
