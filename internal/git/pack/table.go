package pack

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // a checksum against damage; nobody else writes tables
	"encoding/binary"
	"fmt"
	"math"

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

// tableParts is what a table is made of.
type tableParts struct {
	*objects
	order    []int32 // the objects' numbers, which are their positions, in the order of their IDs
	commits  *commitLog
	roots    []int32 // ascending
	outside  []Link  // ascending, each ID once
	appended int     // how many of the last entries only complete a thin pack
}

// length is the table's length without big sizes.
func (p *tableParts) length() int {
	return tableHeaderSize + len(p.order)*tableRowSize + len(p.commits.rows)*tableCommitSize +
		len(p.commits.parents)*git.OIDSize + len(p.roots)*4 + len(p.outside)*git.OIDSize + tableTrailerSize
}

// writeTable writes the table of the pack whose checksum is packSum.
func writeTable(w *sideWriter, p *tableParts, packSum git.OID) error {
	p.commits.sort()
	n, big := len(p.order), 0
	for _, size := range p.size {
		if size >= tableBigSize {
			big++
		}
	}
	w.text(tableMagic)
	for _, v := range []int{tableVersion, n, len(p.commits.rows), len(p.commits.parents), len(p.roots), big, len(p.outside)} {
		w.u32(uint32(v))
	}
	w.bytes(packSum[:])
	w.u32(uint32(p.appended))
	if err := p.writeOrder(w); err != nil {
		return err
	}
	for _, base := range p.base {
		w.u32(uint32(base)) // none is noBase
	}
	p.writeSizes(w)
	p.writeCommits(w)
	for _, num := range p.roots {
		w.u32(uint32(num))
	}
	for i := range p.outside {
		w.bytes(p.outside[i].OID[:])
	}
	return nil
}

// writeOrder writes order and rank, which are each other's inverse.
func (p *tableParts) writeOrder(w *sideWriter) error {
	inverse, err := newArray[uint32](p.mem, len(p.order))
	if err != nil {
		return err
	}
	defer release(p.mem, inverse)
	for i, num := range p.order {
		inverse[num] = uint32(i)
	}
	for _, i := range inverse {
		w.u32(i)
	}
	for _, num := range p.order {
		w.u32(uint32(num))
	}
	return nil
}

// writeSizes writes sizes, kinds and big sizes.
func (p *tableParts) writeSizes(w *sideWriter) {
	big := uint32(0)
	for _, size := range p.size {
		if size >= tableBigSize {
			size = tableBigSize | big
			big++
		}
		w.u32(size)
	}
	for i, kind := range p.kind {
		if p.isRef.has(int32(i)) {
			kind |= tableRefDelta
		}
		w.u8(byte(kind))
	}
	if big == 0 {
		return
	}
	for _, size := range p.size {
		if size >= tableBigSize {
			w.u64(uint64(size))
		}
	}
}

// writeCommits writes the commits' rows, then their parents.
func (p *tableParts) writeCommits(w *sideWriter) {
	end := uint32(0)
	for i := range p.commits.rows {
		c := &p.commits.rows[i]
		end += c.parents
		w.u32(uint32(c.num))
		w.bytes(c.tree[:])
		w.u64(uint64(c.when))
		w.u32(end)
	}
	for i := range p.commits.rows {
		for _, parent := range p.commits.parentsOf(&p.commits.rows[i]) {
			w.bytes(parent[:])
		}
	}
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
