// Package pack reads, writes, indexes and verifies packfiles.
//
// A Pack is a stored packfile open for reading: its bytes, its version 2 index, and its table, a side file that says what
// the packfile itself only says after inflating (docs/spec/pack-table.md). Receive makes all three from a stream; Writer
// makes a new packfile, mostly out of stored entries copied as they lie.
//
//	p, err := pack.Open(file, size, idx, table, nil)
//	at, ok := p.Find(oid)
//	obj, err := p.Read(at, nil)
//
// Invariants that callers may rely on: a Pack never changes; a delta's base is in the delta's own pack; no size that a
// file claims is allocated before it is known to be plausible and within a limit; chains of deltas are followed with a
// loop, at most maxDeltaDepth far.
package pack

import (
	"fmt"
	"io"
	"iter"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// MaxReadBytes is the largest object that Read returns: bigger ones, nearly always binary files, are streamed, so that
// one request never holds more than a few times this much.
const MaxReadBytes = 64 << 20

// Pos is an object's place in pack order: 0 is the entry right after the pack's header.
type Pos uint32

// Pack is one immutable packfile with its index and its table, open for reading. It is safe for concurrent use, never
// allocates by what a header claims, and holds nothing but what it was opened with.
type Pack struct {
	data io.ReaderAt
	size int64
	idx  index
	tab  table
	room *Room
}

// Open checks that idx (a version 2 index) and table belong together and to a pack of size bytes. It does not read the
// pack's entries, nor hash anything: Verify does. It keeps idx and table, which must not change. room is where objects that
// are too big for memory are made of deltas; nil is os.TempDir.
func Open(data io.ReaderAt, size int64, idx, table []byte, room *Room) (*Pack, error) {
	p := &Pack{data: data, size: size, room: room}
	var err error
	if p.idx, err = parseIndex(idx); err != nil {
		return nil, err
	}
	if p.tab, err = parseTable(table); err != nil {
		return nil, err
	}
	if p.idx.n != p.tab.n || p.idx.packSum() != p.tab.packSum() {
		return nil, fmt.Errorf("pack index of %s and pack table of %s do not belong together: %w",
			p.idx.packSum(), p.tab.packSum(), errkind.Invalid)
	}
	return p, p.checkOffsets()
}

// checkOffsets sees that the entries follow each other from the header to the trailer, so that extents are sane.
func (p *Pack) checkOffsets() error {
	next := int64(packHeaderSize)
	for i := range p.tab.n {
		o := p.offset(Pos(i))
		if (i == 0 && o != next) || o < next {
			return fmt.Errorf("pack's entry %d starts at %d, before %d: %w", i, o, next, errkind.Invalid)
		}
		next = o + minEntrySize
	}
	if end := p.size - packTrailerSize; end < next || (p.tab.n == 0 && end != next) {
		return fmt.Errorf("pack of %d bytes does not fit its index: %w", p.size, errkind.Invalid)
	}
	return nil
}

// Len is the number of objects.
func (p *Pack) Len() int { return p.tab.n }

// Size is the packfile's size in bytes.
func (p *Pack) Size() int64 { return p.size }

// Checksum is the packfile's trailer, which is its name.
func (p *Pack) Checksum() git.OID { return p.tab.packSum() }

// ReaderAt returns the packfile's bytes.
func (p *Pack) ReaderAt() io.ReaderAt { return p.data }

// Find returns an object's position.
func (p *Pack) Find(o git.OID) (Pos, bool) {
	i, ok := p.idx.find(o)
	if !ok {
		return 0, false
	}
	return p.tab.pos(uint32(i)), true
}

// FindPrefix returns the IDs that start with the hexadecimal digits, in order, but not more than most of them.
func (p *Pack) FindPrefix(hexPrefix string, most int) []git.OID {
	if hexPrefix == "" || len(hexPrefix) > 2*git.OIDSize {
		return nil
	}
	// The first and the last ID that there can be.
	var low, high [2 * git.OIDSize]byte
	for i := range low {
		low[i], high[i] = '0', 'f'
	}
	copy(low[:], hexPrefix)
	copy(high[:], hexPrefix)
	from, err := git.ParseOID(low[:])
	if err != nil {
		return nil
	}
	to, err := git.ParseOID(high[:])
	if err != nil {
		return nil
	}
	var found []git.OID
	for i := p.idx.lowerBound(from); i < p.idx.n && len(found) < most; i++ {
		o := p.idx.oid(i)
		if o.Compare(to) > 0 {
			break
		}
		found = append(found, o)
	}
	return found
}

// OID is the object's ID.
func (p *Pack) OID(at Pos) git.OID { return p.idx.oid(int(p.tab.idxPos(at))) }

// Kind is the object's kind: the resolved one, never a delta.
func (p *Pack) Kind(at Pos) git.Kind { return p.tab.kindOf(at) }

// ObjectSize is the object's size: inflated, deltas applied.
func (p *Pack) ObjectSize(at Pos) int64 { return p.tab.sizeOf(at) }

// Base is the base of an entry that is a delta. It is always in the same pack, mostly but not always before the delta.
func (p *Pack) Base(at Pos) (Pos, bool) {
	base := p.tab.baseOf(at)
	return base, base != noBase
}

// IsRefDelta reports whether the entry is a delta that names its base by ID, which holds wherever the base lies.
func (p *Pack) IsRefDelta(at Pos) bool { return p.tab.isRefDelta(at) }

// Extent is where the entry lies in the packfile, its header included.
func (p *Pack) Extent(at Pos) (offset, length int64) {
	offset = p.offset(at)
	return offset, p.end(at) - offset
}

func (p *Pack) offset(at Pos) int64 { return p.idx.offset(int(p.tab.idxPos(at))) }

// end is where the entry ends: where the next one starts.
func (p *Pack) end(at Pos) int64 {
	if int(at)+1 < p.tab.n {
		return p.offset(at + 1)
	}
	return p.size - packTrailerSize
}

// Commits yields what history walks need of every commit, in pack order, from the table: nothing is inflated.
func (p *Pack) Commits() iter.Seq[Commit] {
	return func(yield func(Commit) bool) {
		var parents []git.OID
		for i := range p.tab.commitCount {
			c := p.tab.commit(i, parents)
			parents = c.Parents
			if !yield(c) {
				return
			}
		}
	}
}

// CommitCount is how many commits Commits yields.
func (p *Pack) CommitCount() int { return p.tab.commitCount }

// Commit is a commit's row in a pack's table.
type Commit struct {
	Pos     Pos
	Tree    git.OID
	When    int64     // committer time, seconds since 1970
	Parents []git.OID // valid until the next row
}

// Roots yields the positions of the objects that no other object of the pack names, in order.
func (p *Pack) Roots() iter.Seq[Pos] {
	return func(yield func(Pos) bool) {
		for i := range p.tab.rootCount {
			if !yield(p.tab.root(i)) {
				return
			}
		}
	}
}

// Appended is how many of the last entries are there only as delta bases, to complete a pack that came thin: copies of
// what was in the store already. What they name counts neither for Roots nor for Outside.
func (p *Pack) Appended() int { return p.tab.appended }

// Outside yields the objects that the pack's objects name but the pack does not have, in order, each once.
func (p *Pack) Outside() iter.Seq[git.OID] {
	return func(yield func(git.OID) bool) {
		for i := range p.tab.outsideCount {
			if !yield(git.OID(p.tab.outsideID(i))) {
				return
			}
		}
	}
}

// WriteTo writes the whole packfile as it lies, trailer included: nothing is hashed.
func (p *Pack) WriteTo(w io.Writer) (int64, error) {
	buf := getBuffer()
	defer putBuffer(buf)
	var done int64
	for done < p.size {
		part := buf[:min(p.size-done, int64(len(buf)))]
		if err := readFullAt(p.data, part, done); err != nil {
			return done, fmt.Errorf("read pack %s: %w", p.Checksum(), err)
		}
		n, err := w.Write(part)
		done += int64(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// BaseCache keeps inflated objects by pack and position. Data that is in it, or came from it, is never changed.
type BaseCache interface {
	Get(p *Pack, at Pos) (git.Object, bool)
	Put(p *Pack, at Pos, o git.Object)
}
