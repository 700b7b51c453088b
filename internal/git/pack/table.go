package pack

import (
	"bytes"
	"cmp"
	"crypto/sha1" //nolint:gosec // a checksum against damage; nobody else writes tables
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// A table is the side file of a pack: docs/spec/pack-table.md has it byte by byte.
const (
	tableMagic       = "SKPT"
	tableVersion     = 2
	tableHeaderSize  = 56
	tableRowSize     = 4 + 4 + 4 + 4 + 1 // order, rank, base, size, kind
	tableCommitSize  = 4 + git.OIDSize + 8 + 4
	tableTrailerSize = git.OIDSize

	// noBase is the base of an entry that is no delta.
	noBase = Pos(math.MaxUint32)

	tableBigSize  = 1 << 31 // in a size: the rest is a position among the big sizes
	tableKindMask = 7
	tableRefDelta = 8 // in a kind: the entry is stored as a ref-delta
)

// tableEntry is what a table says of one entry.
type tableEntry struct {
	kind     git.Kind // resolved: one of the four
	refDelta bool     // stored as a ref-delta; with a base and without this, as an ofs-delta
	size     int64    // of the object, deltas applied
	base     Pos      // the delta's base, or noBase
	idx      uint32   // the object's position in the index
}

// tableBuilder makes a table. One set for each entry, in any order; commits and roots in any order.
type tableBuilder struct {
	b        []byte // header and entry rows, in their final form
	n        int
	appended int // how many of the last entries only complete a thin pack

	mu      sync.Mutex
	big     []bigSize // guarded by mu
	commits []byte    // rows without the last field, then that of the parents: start and count; guarded by mu
	parents []byte    // guarded by mu
	roots   []Pos     // guarded by mu
	outside []byte    // IDs, ascending
}

type bigSize struct {
	at   Pos
	size int64
}

// newTableBuilder makes a builder for a pack of that many objects; completed thin packs count what was appended.
func newTableBuilder(objects int) *tableBuilder {
	return &tableBuilder{b: make([]byte, tableHeaderSize+objects*tableRowSize), n: objects}
}

// set says what the entry at is. Different entries may be set at the same time.
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
	t.mu.Lock()
	defer t.mu.Unlock()
	t.big = append(t.big, bigSize{at, e.size})
}

// commit adds what a commit object says. It may be called from several goroutines.
func (t *tableBuilder) commit(at Pos, tree git.OID, when int64, parents []git.OID) {
	t.mu.Lock()
	defer t.mu.Unlock()
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
	t.mu.Lock()
	defer t.mu.Unlock()
	t.roots = append(t.roots, at)
}

// name says that objects of the pack, other than those appended, name one that is not in it. The IDs come in ascending order, each once.
func (t *tableBuilder) name(o git.OID) { t.outside = append(t.outside, o[:]...) }

// finish returns the table for the pack whose checksum is packSum. The builder is spent.
func (t *tableBuilder) finish(packSum git.OID) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
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

// table reads a table in place. Its fields are where each part starts.
type table struct {
	b                             []byte
	n, commitCount, rootCount     int
	outsideCount, appended        int
	order, rank, base, size, kind int
	big, commits, parents, roots  int
	outside                       int
}

// tableOf lays out the parts up to the kinds.
func tableOf(b []byte, n int) table {
	x := table{b: b, n: n, order: tableHeaderSize}
	x.rank = x.order + 4*n
	x.base = x.rank + 4*n
	x.size = x.base + 4*n
	x.kind = x.size + 4*n
	x.big = x.kind + n
	return x
}

// parseTable checks everything that keeps later reads inside b and makes them mean something: lengths, that order and
// rank are each other's inverse, kinds, bases, sizes, commits ascending with their parents. The checksum is left to
// verify. Whether chains of bases end is left to who follows them.
func parseTable(b []byte) (table, error) {
	if len(b) < tableHeaderSize+tableTrailerSize || string(b[:4]) != tableMagic {
		return table{}, fmt.Errorf("not a pack table: %w", errkind.Invalid)
	}
	u32 := binary.BigEndian.Uint32
	if v := u32(b[4:]); v != tableVersion {
		return table{}, fmt.Errorf("pack table of version %d, not %d: %w", v, tableVersion, errkind.Unsupported)
	}
	n, commits, parents, roots, big, outside := u32(b[8:]), u32(b[12:]), u32(b[16:]), u32(b[20:]), u32(b[24:]), u32(b[28:])
	if want := tableHeaderSize + uint64(n)*tableRowSize + uint64(big)*8 + uint64(commits)*tableCommitSize +
		uint64(parents)*git.OIDSize + uint64(roots)*4 + uint64(outside)*git.OIDSize + tableTrailerSize; uint64(len(b)) != want {
		return table{}, fmt.Errorf("pack table of %d objects has a length of %d, not %d: %w", n, len(b), want, errkind.Invalid)
	}
	x := tableOf(b, int(n))
	x.commitCount, x.rootCount, x.outsideCount = int(commits), int(roots), int(outside)
	if x.appended = int(u32(b[52:])); x.appended > x.n {
		return table{}, fmt.Errorf("pack table of %d objects has %d appended: %w", n, x.appended, errkind.Invalid)
	}
	x.commits = x.big + 8*int(big)
	x.parents = x.commits + tableCommitSize*int(commits)
	x.roots = x.parents + git.OIDSize*int(parents)
	x.outside = x.roots + 4*int(roots)
	if err := x.checkEntries(big); err != nil {
		return table{}, err
	}
	return x, x.checkLists(parents)
}

func (x *table) checkEntries(big uint32) error {
	n := uint32(x.n)
	bigSeen := uint32(0)
	commits := 0
	for i := range x.n {
		at := Pos(i)
		if o := x.idxPos(at); o >= n || uint32(x.pos(o)) != uint32(i) {
			return fmt.Errorf("pack table's order is wrong at %d: %w", i, errkind.Invalid)
		}
		kind := x.b[x.kind+i]
		base := x.baseOf(at)
		switch {
		case !git.Kind(kind&tableKindMask).Valid() || kind&^(tableKindMask|tableRefDelta) != 0:
			return fmt.Errorf("pack table has kind %#x at %d: %w", kind, i, errkind.Invalid)
		case base == noBase && kind&tableRefDelta != 0:
			return fmt.Errorf("pack table has a delta without a base at %d: %w", i, errkind.Invalid)
		case base == noBase:
		case uint32(base) >= n || base == at || (base > at && kind&tableRefDelta == 0):
			return fmt.Errorf("pack table has base %d at %d: %w", base, i, errkind.Invalid)
		case x.kindOf(base) != x.kindOf(at):
			return fmt.Errorf("pack table has a base of another kind at %d: %w", i, errkind.Invalid)
		}
		if x.kindOf(at) == git.Commit {
			commits++
		}
		if v := binary.BigEndian.Uint32(x.b[x.size+4*i:]); v >= tableBigSize {
			if v != tableBigSize|bigSeen || bigSeen >= big {
				return fmt.Errorf("pack table has a wrong big size at %d: %w", i, errkind.Invalid)
			}
			bigSeen++
			if s := x.sizeOf(at); s < tableBigSize {
				return fmt.Errorf("pack table has a big size of %d at %d: %w", s, i, errkind.Invalid)
			}
		}
	}
	if bigSeen != big || commits != x.commitCount {
		return fmt.Errorf("pack table's counts do not fit its rows: %w", errkind.Invalid)
	}
	return nil
}

func (x *table) checkLists(parents uint32) error {
	end := uint32(0)
	last := int64(-1)
	for i := range x.commitCount {
		row := x.b[x.commits+i*tableCommitSize:]
		at, e := binary.BigEndian.Uint32(row), binary.BigEndian.Uint32(row[tableCommitSize-4:])
		if int64(at) <= last || at >= uint32(x.n) || x.kindOf(Pos(at)) != git.Commit || e < end || e > parents {
			return fmt.Errorf("pack table's commit %d is wrong: %w", i, errkind.Invalid)
		}
		last, end = int64(at), e
	}
	if end != parents {
		return fmt.Errorf("pack table has parents of no commit: %w", errkind.Invalid)
	}
	last = -1
	for i := range x.rootCount {
		at := x.root(i)
		if int64(at) <= last || int(at) >= x.n {
			return fmt.Errorf("pack table's root %d is wrong: %w", i, errkind.Invalid)
		}
		last = int64(at)
	}
	for i := 1; i < x.outsideCount; i++ {
		if bytes.Compare(x.outsideID(i-1), x.outsideID(i)) >= 0 {
			return fmt.Errorf("pack table's outside object %d is wrong: %w", i, errkind.Invalid)
		}
	}
	return nil
}

// verify checks what parseTable leaves out: the checksum.
func (x *table) verify() error {
	end := len(x.b) - tableTrailerSize
	sum := sha1.Sum(x.b[:end]) //nolint:gosec // see the import
	if !bytes.Equal(sum[:], x.b[end:]) {
		return fmt.Errorf("pack table's checksum is wrong: %w", errkind.Invalid)
	}
	return nil
}

func (x *table) packSum() git.OID { return git.OID(x.b[32 : 32+git.OIDSize]) }

// idxPos is the place in the index of the entry at; pos is its inverse.
func (x *table) idxPos(at Pos) uint32 { return binary.BigEndian.Uint32(x.b[x.order+4*int(at):]) }

func (x *table) pos(idx uint32) Pos { return Pos(binary.BigEndian.Uint32(x.b[x.rank+4*int(idx):])) }

func (x *table) baseOf(at Pos) Pos { return Pos(binary.BigEndian.Uint32(x.b[x.base+4*int(at):])) }

func (x *table) kindOf(at Pos) git.Kind { return git.Kind(x.b[x.kind+int(at)] & tableKindMask) }

func (x *table) isRefDelta(at Pos) bool { return x.b[x.kind+int(at)]&tableRefDelta != 0 }

func (x *table) sizeOf(at Pos) int64 {
	v := binary.BigEndian.Uint32(x.b[x.size+4*int(at):])
	if v < tableBigSize {
		return int64(v)
	}
	// A size over 63 bits comes out negative, which parseTable refuses.
	return int64(binary.BigEndian.Uint64(x.b[x.big+8*int(v&^tableBigSize):]))
}

// commit returns the i-th commit's row; its parents are put into parents' memory.
func (x *table) commit(i int, parents []git.OID) Commit {
	at := x.commits + i*tableCommitSize
	row := x.b[at : at+tableCommitSize]
	start := uint32(0)
	if i > 0 {
		start = binary.BigEndian.Uint32(x.b[at-4:])
	}
	end := binary.BigEndian.Uint32(row[tableCommitSize-4:])
	parents = parents[:0]
	for k := start; k < end; k++ {
		parents = append(parents, git.OID(x.b[x.parents+int(k)*git.OIDSize:][:git.OIDSize]))
	}
	return Commit{
		Pos:     Pos(binary.BigEndian.Uint32(row)),
		Tree:    git.OID(row[4 : 4+git.OIDSize]),
		When:    int64(binary.BigEndian.Uint64(row[4+git.OIDSize:])),
		Parents: parents,
	}
}

func (x *table) root(i int) Pos { return Pos(binary.BigEndian.Uint32(x.b[x.roots+4*i:])) }

func (x *table) outsideID(i int) []byte { return x.b[x.outside+git.OIDSize*i:][:git.OIDSize] }
