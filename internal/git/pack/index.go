package pack

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the index format's own checksum
	"encoding/binary"
	"fmt"
	"math"
	"sort"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// A version 2 index (https://git-scm.com/docs/gitformat-pack):
//
//	"\377tOc", version 2
//	fanout   256 × u32: how many objects have a first byte up to this one
//	IDs      n × 20, ascending
//	CRC-32   n × u32, of each entry as it lies in the pack
//	offsets  n × u32; with the highest bit set, a position among the long offsets
//	long     u64 each
//	the pack's checksum, then the SHA-1 of everything before it
const (
	idxHeaderSize  = 8
	idxFanoutSize  = 256 * 4
	idxOIDs        = idxHeaderSize + idxFanoutSize
	idxTrailerSize = 2 * git.OIDSize
	idxRowSize     = git.OIDSize + 4 + 4
	idxLongOffset  = 1 << 31
)

const idxMagic = "\377tOc\x00\x00\x00\x02"

// indexSize is an index's size for so many objects, without long offsets.
func indexSize(n int) int { return idxOIDs + n*idxRowSize + idxTrailerSize }

// writeIndex writes the version 2 index of objects, whose numbers come in the order of their IDs, for the pack whose
// checksum is packSum. The bytes are those that git index-pack writes.
func writeIndex(w *sideWriter, t *objects, order []int32, packSum git.OID) error {
	w.text(idxMagic)
	var fanout [256]uint32
	for i := range order {
		fanout[t.oid[i][0]]++
	}
	at := uint32(0)
	for _, n := range fanout {
		at += n
		w.u32(at)
	}
	for _, num := range order {
		w.bytes(t.oid[num][:])
	}
	for _, num := range order {
		w.u32(t.crc[num])
	}
	long := uint32(0)
	for _, num := range order {
		v := uint32(t.off[num])
		if t.off[num] >= idxLongOffset {
			v = idxLongOffset | long
			long++
		}
		w.u32(v)
	}
	if long > 0 {
		for _, num := range order {
			if t.off[num] >= idxLongOffset {
				w.u64(uint64(t.off[num]))
			}
		}
	}
	w.bytes(packSum[:])
	return nil
}

// index reads an index in place. All positions in it are below n.
type index struct {
	b []byte
	n int
}

// parseIndex checks what keeps every later read inside b: lengths, fanout, long offsets. Order and checksum are checked
// by verify, which costs a pass over all of b.
func parseIndex(b []byte) (index, error) {
	if len(b) < idxOIDs+idxTrailerSize || string(b[:idxHeaderSize]) != idxMagic {
		return index{}, fmt.Errorf("not a version 2 pack index: %w", errkind.Invalid)
	}
	last := uint32(0)
	for i := range 256 {
		v := binary.BigEndian.Uint32(b[idxHeaderSize+4*i:])
		if v < last {
			return index{}, fmt.Errorf("pack index's fanout goes down at %d: %w", i, errkind.Invalid)
		}
		last = v
	}
	long := int64(len(b)) - (idxOIDs + idxTrailerSize) - int64(last)*idxRowSize
	if long < 0 || long%8 != 0 || long/8 > int64(last) {
		return index{}, fmt.Errorf("pack index of %d objects has a length of %d: %w", last, len(b), errkind.Invalid)
	}
	x := index{b: b, n: int(last)}
	offsets := b[x.offsets():x.long()]
	for i := range x.n {
		v := binary.BigEndian.Uint32(offsets[4*i:])
		if v&idxLongOffset == 0 {
			continue
		}
		k := int64(v &^ idxLongOffset)
		if k >= long/8 {
			return index{}, fmt.Errorf("pack index lacks long offset %d: %w", k, errkind.Invalid)
		}
		if o := binary.BigEndian.Uint64(b[x.long()+8*int(k):]); o > math.MaxInt64 {
			return index{}, fmt.Errorf("pack index's long offset %d does not fit 63 bits: %w", k, errkind.Invalid)
		}
	}
	return x, nil
}

func (x index) crcs() int    { return idxOIDs + x.n*git.OIDSize }
func (x index) offsets() int { return idxOIDs + x.n*(git.OIDSize+4) }
func (x index) long() int    { return idxOIDs + x.n*idxRowSize }

// oidBytes is the i-th ID, in place.
func (x index) oidBytes(i int) []byte {
	at := idxOIDs + i*git.OIDSize
	return x.b[at : at+git.OIDSize : at+git.OIDSize]
}

func (x index) oid(i int) git.OID { return git.OID(x.oidBytes(i)) }

func (x index) crc(i int) uint32 { return binary.BigEndian.Uint32(x.b[x.crcs()+4*i:]) }

// offset is where the i-th object's entry starts in the pack.
func (x index) offset(i int) int64 {
	v := binary.BigEndian.Uint32(x.b[x.offsets()+4*i:])
	if v&idxLongOffset == 0 {
		return int64(v)
	}
	return int64(binary.BigEndian.Uint64(x.b[x.long()+8*int(v&^idxLongOffset):]))
}

// packSum is the checksum of the pack that the index belongs to.
func (x index) packSum() git.OID { return git.OID(x.b[len(x.b)-idxTrailerSize:][:git.OIDSize]) }

// bucket is the range of positions whose IDs start with first.
func (x index) bucket(first byte) (lo, hi int) {
	at := idxHeaderSize + 4*int(first)
	if first > 0 {
		lo = int(binary.BigEndian.Uint32(x.b[at-4:]))
	}
	return lo, int(binary.BigEndian.Uint32(x.b[at:]))
}

// find returns o's position.
func (x index) find(o git.OID) (int, bool) {
	i := x.lowerBound(o)
	return i, i < x.n && git.OID(x.oidBytes(i)) == o
}

// lowerBound returns the first position whose ID is not below o.
func (x index) lowerBound(o git.OID) int {
	lo, hi := x.bucket(o[0])
	// IDs are spread evenly, so a guess by the next four bytes lands within a few rows. As somebody could make IDs that
	// are not, only the first steps guess.
	const guesses = 4
	key := binary.BigEndian.Uint32(o[1:])
	from, to := uint64(0), uint64(1)<<32 // the bounds of the keys in lo..hi
	for range guesses {
		if hi-lo < 8 {
			break
		}
		mid := lo + int((uint64(key)-from)*uint64(hi-lo)/(to-from))
		mid = min(max(mid, lo), hi-1)
		row := x.oidBytes(mid)
		if bytes.Compare(row, o[:]) < 0 {
			lo, from = mid+1, min(uint64(binary.BigEndian.Uint32(row[1:])), uint64(key))
		} else {
			hi, to = mid, max(uint64(binary.BigEndian.Uint32(row[1:])), uint64(key))+1
		}
	}
	return lo + sort.Search(hi-lo, func(i int) bool { return bytes.Compare(x.oidBytes(lo+i), o[:]) >= 0 })
}

// verify checks what parseIndex leaves out: IDs ascending, each once and under its fanout, and the checksum.
func (x index) verify() error {
	sum := sha1.Sum(x.b[:len(x.b)-git.OIDSize]) //nolint:gosec // see the import
	if !bytes.Equal(sum[:], x.b[len(x.b)-git.OIDSize:]) {
		return fmt.Errorf("pack index's checksum is wrong: %w", errkind.Invalid)
	}
	for first := range 256 {
		lo, hi := x.bucket(byte(first))
		for i := lo; i < hi; i++ {
			row := x.oidBytes(i)
			if int(row[0]) != first {
				return fmt.Errorf("pack index's fanout does not fit ID %d: %w", i, errkind.Invalid)
			}
			if i > 0 && bytes.Compare(x.oidBytes(i-1), row) >= 0 {
				return fmt.Errorf("pack index's IDs do not ascend at %d: %w", i, errkind.Invalid)
			}
		}
	}
	return nil
}
