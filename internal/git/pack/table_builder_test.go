package pack

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"encoding/binary"
	"slices"

	"github.com/skep-dev/skep/internal/git"
)

// tableEntry is what a table says of one entry.
type tableEntry struct {
	kind     git.Kind // resolved: one of the four
	refDelta bool     // stored as a ref-delta; with a base and without this, as an ofs-delta
	size     int64    // of the object, deltas applied
	base     Pos      // the delta's base, or noBase
	idx      uint32   // the object's position in the index
}

// tableBuilder makes a table of what is said of its entries one by one, in another way than writeTable, and of any sizes.
// One set for each entry, in any order; commits and roots in any order.
type tableBuilder struct {
	b        []byte // header and entry rows, in their final form
	n        int
	appended int // how many of the last entries only complete a thin pack

	big     []bigSize
	commits []byte // rows without the last field, then that of the parents: start and count
	parents []byte
	roots   []Pos
	outside []byte // IDs, ascending
}

type bigSize struct {
	at   Pos
	size int64
}

// newTableBuilder makes a builder for a pack of that many objects; completed thin packs count what was appended.
func newTableBuilder(objects int) *tableBuilder {
	return &tableBuilder{b: make([]byte, tableHeaderSize+objects*tableRowSize), n: objects}
}

// set says what the entry at is.
func (t *tableBuilder) set(at Pos, e tableEntry) {
	x := tableOf(t.b, t.n)
	i := int(at)
	put := binary.BigEndian.PutUint32
	put(t.b[x.order+4*i:], e.idx)
	put(t.b[x.rank+4*int(e.idx):], uint32(at))
	put(t.b[x.base+4*i:], uint32(e.base))
	kind := byte(e.kind)
	if e.refDelta {
		kind |= tableRefDelta
	}
	t.b[x.kind+i] = kind
	if e.size < tableBigSize {
		put(t.b[x.size+4*i:], uint32(e.size))
		return
	}
	t.big = append(t.big, bigSize{at, e.size})
}

// commit adds what a commit object says.
func (t *tableBuilder) commit(at Pos, tree git.OID, when int64, parents []git.OID) {
	t.commits = binary.BigEndian.AppendUint32(t.commits, uint32(at))
	t.commits = append(t.commits, tree[:]...)
	t.commits = binary.BigEndian.AppendUint64(t.commits, uint64(when))
	t.commits = binary.BigEndian.AppendUint32(t.commits, uint32(len(t.parents)/git.OIDSize))
	t.commits = binary.BigEndian.AppendUint32(t.commits, uint32(len(parents)))
	for i := range parents {
		t.parents = append(t.parents, parents[i][:]...)
	}
}

// root says that no object of the pack names the one at.
func (t *tableBuilder) root(at Pos) {
	t.roots = append(t.roots, at)
}

// name says that objects of the pack, other than those appended, name one that is not in it. The IDs come in ascending order, each once.
func (t *tableBuilder) name(o git.OID) { t.outside = append(t.outside, o[:]...) }

// finish returns the table for the pack whose checksum is packSum. The builder is spent.
func (t *tableBuilder) finish(packSum git.OID) []byte {
	const row = tableCommitSize + 4
	commits := make([][]byte, 0, len(t.commits)/row)
	for i := 0; i < len(t.commits); i += row {
		commits = append(commits, t.commits[i:i+row])
	}
	slices.SortFunc(commits, func(a, b []byte) int { return bytes.Compare(a[:4], b[:4]) })
	slices.SortFunc(t.big, func(a, b bigSize) int { return cmp.Compare(a.at, b.at) })
	slices.Sort(t.roots)
	b := t.b
	x := tableOf(b, t.n)
	copy(b, tableMagic)
	put := binary.BigEndian.PutUint32
	put(b[4:], tableVersion)
	put(b[8:], uint32(t.n))
	put(b[12:], uint32(len(commits)))
	put(b[16:], uint32(len(t.parents)/git.OIDSize))
	put(b[20:], uint32(len(t.roots)))
	put(b[24:], uint32(len(t.big)))
	put(b[28:], uint32(len(t.outside)/git.OIDSize))
	copy(b[32:], packSum[:])
	put(b[52:], uint32(t.appended))
	for i, s := range t.big {
		put(b[x.size+4*int(s.at):], tableBigSize|uint32(i))
	}
	b = slices.Grow(b, len(t.big)*8+len(commits)*tableCommitSize+len(t.parents)+len(t.roots)*4+len(t.outside)+tableTrailerSize)
	for _, s := range t.big {
		b = binary.BigEndian.AppendUint64(b, uint64(s.size))
	}
	end := uint32(0)
	for _, c := range commits {
		end += binary.BigEndian.Uint32(c[row-4:])
		b = append(b, c[:row-8]...)
		b = binary.BigEndian.AppendUint32(b, end)
	}
	for _, c := range commits {
		start, n := binary.BigEndian.Uint32(c[row-8:]), binary.BigEndian.Uint32(c[row-4:])
		b = append(b, t.parents[int(start)*git.OIDSize:int(start+n)*git.OIDSize]...)
	}
	for _, at := range t.roots {
		b = binary.BigEndian.AppendUint32(b, uint32(at))
	}
	b = append(b, t.outside...)
	sum := sha1.Sum(b) //nolint:gosec // see the import
	return append(b, sum[:]...)
}
