package pack

import (
	"bytes"
	"encoding/binary"
	"hash/adler32"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/skep-dev/skep/internal/git"
)

// Constants and functions that tests of the exported API measure against.
const (
	MaxStreamMemory = maxStreamMemory
	MaxDeltaDepth   = maxDeltaDepth
)

// RawDelta makes a pack entry of a delta, for packs made by hand: an ofs-delta if distance is not 0, else a ref-delta.
func RawDelta(delta []byte, distance int64, base git.OID) []byte {
	h := entryHeader{kind: refDelta, size: int64(len(delta)), baseOID: base}
	if distance != 0 {
		h.kind, h.baseDistance = ofsDelta, distance
	}
	return deflate(appendEntryHeader(nil, h), delta)
}

// RawEntry makes a pack entry whose header claims a kind and a size, whatever its content.
func RawEntry(k git.Kind, size int64, content []byte) []byte {
	return deflate(appendEntryHeader(nil, entryHeader{kind: k, size: size}), content)
}

// Stored makes a pack entry of a sound object, or of a delta if there is a distance or a base, without compression: that
// would take longer than all else in a test with many objects.
func Stored(k git.Kind, content []byte, distance int64, base git.OID) []byte {
	h := entryHeader{kind: k, size: int64(len(content)), baseDistance: distance, baseOID: base}
	switch {
	case distance != 0:
		h.kind = ofsDelta
	case !base.IsZero():
		h.kind = refDelta
	}
	b := append(appendEntryHeader(nil, h), 0x78, 0x01, 1) // zlib's header, and that of a last block that is stored
	b = binary.LittleEndian.AppendUint16(b, uint16(len(content)))
	b = binary.LittleEndian.AppendUint16(b, ^uint16(len(content)))
	b = append(b, content...)
	return binary.BigEndian.AppendUint32(b, adler32.Checksum(content))
}

// AppendDeltaSize appends one of the two sizes that a delta starts with.
func AppendDeltaSize(b []byte, size int64) []byte {
	return binary.AppendUvarint(b, uint64(size))
}

// GitObject is what the oracle, git, says of one object of a pack.
type GitObject struct {
	OID    git.OID
	Kind   git.Kind
	Data   []byte
	Offset int64
}

// IndexCRCs returns the CRCs of an index that git wrote, by ID, so that a test can write the same index.
func IndexCRCs(tb testing.TB, idx []byte) map[git.OID]uint32 {
	tb.Helper()
	x, err := parseIndex(idx)
	if err != nil {
		tb.Fatalf("parse git's index: %v", err)
	}
	crcs := map[git.OID]uint32{}
	for i := range x.n {
		crcs[x.oid(i)] = x.crc(i)
	}
	return crcs
}

// WriteIndexOf writes an index by what git says of the objects.
func WriteIndexOf(objects []GitObject, crcs map[git.OID]uint32, packSum git.OID) []byte {
	rows := make([]indexRow, len(objects))
	for i, o := range sortedByOID(objects) {
		rows[i] = indexRow{oid: o.OID, crc: crcs[o.OID], offset: o.Offset}
	}
	return indexOf(rows, packSum)
}

// indexRow is one object of an index to write.
type indexRow struct {
	oid    git.OID
	crc    uint32
	offset int64
}

// indexOf returns the index of rows, which are sorted by ID.
func indexOf(rows []indexRow, packSum git.OID) []byte {
	t, order := &objects{}, make([]int32, len(rows))
	for i, r := range rows {
		t.oid, t.crc, t.off = append(t.oid, r.oid), append(t.crc, r.crc), append(t.off, r.offset)
		order[i] = int32(i)
	}
	var b bytes.Buffer
	if err := withSideWriter(&b, func(w *sideWriter) error { return writeIndex(w, t, order, packSum) }); err != nil {
		panic(err) // no write to a buffer fails
	}
	return b.Bytes()
}

// TableOf builds a pack's table from what git says of its objects, which are in pack order. The last ones are appended.
func TableOf(tb testing.TB, packfile []byte, objects []GitObject, appended int) []byte {
	tb.Helper()
	byOffset, byOID, idx := map[int64]Pos{}, map[git.OID]Pos{}, map[git.OID]uint32{}
	for i, o := range objects {
		byOffset[o.Offset], byOID[o.OID] = Pos(i), Pos(i)
	}
	for i, o := range sortedByOID(objects) {
		idx[o.OID] = uint32(i)
	}
	named := map[git.OID]bool{}
	t := newTableBuilder(len(objects))
	t.appended = appended
	for i, o := range objects {
		h, err := parseEntryHeader(packfile[o.Offset:])
		if err != nil {
			tb.Fatalf("parse entry header of %s at %d: %v", o.OID, o.Offset, err)
		}
		e := tableEntry{kind: o.Kind, size: int64(len(o.Data)), base: noBase, idx: idx[o.OID]}
		switch h.kind {
		case ofsDelta:
			e.base = byOffset[o.Offset-h.baseDistance]
		case refDelta:
			e.base, e.refDelta = byOID[h.baseOID], true
		default:
		}
		t.set(Pos(i), e)
		if o.Kind == git.Commit {
			tree, parents, when, err := git.CommitLinks(o.Data, nil)
			if err != nil {
				tb.Fatalf("read commit %s: %v", o.OID, err)
			}
			t.commit(Pos(i), tree, when, parents)
		}
		if i < len(objects)-appended {
			for _, l := range linksOf(tb, o) {
				named[l] = true
			}
		}
	}
	for i, o := range objects {
		if !named[o.OID] {
			t.root(Pos(i))
		}
	}
	for _, o := range slices.SortedFunc(maps.Keys(named), git.OID.Compare) {
		if _, inside := byOID[o]; !inside {
			t.name(o)
		}
	}
	return t.finish(git.OID(packfile[len(packfile)-git.OIDSize:]))
}

func linksOf(tb testing.TB, o GitObject) (links []git.OID) {
	tb.Helper()
	switch o.Kind {
	case git.Commit:
		tree, parents, _, _ := git.CommitLinks(o.Data, nil)
		links = append(parents, tree)
	case git.Tag:
		named, _, _ := git.TagLink(o.Data)
		links = append(links, named)
	case git.Tree:
		for e := range git.TreeEntries(o.Data) {
			if e.Mode != git.ModeGitlink {
				links = append(links, e.OID)
			}
		}
	case git.Blob:
	}
	return links
}

func sortedByOID(objects []GitObject) []GitObject {
	return slices.SortedFunc(slices.Values(objects), func(a, b GitObject) int { return a.OID.Compare(b.OID) })
}

// inflateAt is inflate in pieces, as objects are that are too big for memory: of a stream that lies in r at offset and must
// end within length bytes.
func inflateAt(dst []byte, r io.ReaderAt, offset, length int64) (int64, error) {
	s := getSection(r, offset, length)
	defer putSection(s)
	f := getInflater(s.buf)
	defer putInflater(f)
	if err := f.fill(dst); err != nil {
		return 0, err
	}
	return s.consumed(), nil
}
