package pack

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// maxFuzzed bounds what a fuzzed input may make, so that the fuzzer's time goes into inputs.
const maxFuzzed = 1 << 20

// refused fails unless err is one that input can cause.
func refused(t *testing.T, err error) {
	t.Helper()
	switch errkind.Of(err) {
	case errkind.Invalid, errkind.TooLarge, errkind.Unsupported:
	default:
		t.Errorf("error %v is no kind that input may cause", err)
	}
}

func FuzzEntryHeader(f *testing.F) {
	f.Add([]byte("\x95\x0a"))
	f.Add([]byte("\x65\x81\x00"))
	f.Add(append([]byte("\xf5\x0a"), make([]byte, 20)...))
	f.Add([]byte("\xbf\xff\xff\xff\xff\xff\xff\xff\xff\x07"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseEntryHeader(b)
		if err != nil {
			refused(t, err)
			return
		}
		if h.size < 0 || h.n > len(b) || h.n > maxEntryHeader || (h.kind == ofsDelta && h.baseDistance <= 0) {
			t.Fatalf("parseEntryHeader(%x) = %+v", b, h)
		}
		// Sizes may have zeros in front, which are not written again.
		again := appendEntryHeader(nil, h)
		back, err := parseEntryHeader(again)
		h.n = len(again)
		if err != nil || back != h {
			t.Fatalf("parseEntryHeader(%x) = %+v, %v, want %+v", again, back, err, h)
		}
	})
}

func FuzzDelta(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), []byte("\x10\x05\x91\x02\x04\x01!"))
	f.Add([]byte(""), []byte("\x00\x00"))
	f.Add(make([]byte, 0x10000), []byte("\x80\x80\x04\x80\x80\x08\x80\x80"))
	f.Add([]byte("base"), []byte("\x04\xff\xff\xff\x7f\x90\x04"))
	f.Fuzz(func(t *testing.T, base, delta []byte) {
		got, err := applyBoth(t, base, delta, maxFuzzed)
		if err != nil {
			refused(t, err)
			return
		}
		_, size, _, err := deltaSizes(delta)
		if err != nil || int64(len(got)) != size {
			t.Fatalf("applyDelta makes %d bytes, the delta says %d, %v", len(got), size, err)
		}
	})
}

func FuzzInflate(f *testing.F) {
	for level := range 10 {
		f.Add(zlibOf(f, level, bytes.Repeat([]byte("some text "), level)), 10*level)
	}
	f.Add([]byte("\x78\xbb\x00\x00\x00\x01\x03\x00\x00\x00\x00\x01"), 0)
	f.Fuzz(func(t *testing.T, src []byte, size int) {
		size &= maxFuzzed - 1
		dst := make([]byte, size)
		n, err := inflate(dst, src)
		want, rest, wantErr := stdInflate(src)
		if err != nil {
			refused(t, err)
			if wantErr == nil && len(want) == size {
				t.Fatalf("inflate(%x) = %v, but it inflates to %d bytes", src, err, size)
			}
			return
		}
		if wantErr != nil || !bytes.Equal(dst, want) || n != len(src)-rest {
			t.Fatalf("inflate(%x) = %d, want %d bytes of %d, %v", src, n, len(src)-rest, len(want), wantErr)
		}
		// What is read in pieces from a file comes to the same.
		again := make([]byte, size)
		if m, err := inflateAt(again, bytes.NewReader(src), 0, int64(len(src))); err != nil || m != int64(n) || !bytes.Equal(again, dst) {
			t.Fatalf("inflateAt(%x) = %d, %v, want %d", src, m, err, n)
		}
	})
}

// stdInflate is the standard library's inflate. rest is what it leaves.
func stdInflate(src []byte) (data []byte, rest int, err error) {
	if len(src) > 1 && src[1]&zlibHasDict != 0 {
		return nil, 0, zlib.ErrDictionary // git knows no dictionaries, while an empty one would fit
	}
	r := bytes.NewReader(src)
	z, err := zlib.NewReader(r)
	if err != nil {
		return nil, 0, err
	}
	data, err = io.ReadAll(io.LimitReader(z, 2*maxFuzzed))
	return data, r.Len(), err
}

func FuzzPackIndex(f *testing.F) {
	f.Add(indexOf(nil, git.OID{}))
	f.Add(indexOf([]indexRow{{git.OID{1}, 1, 12}, {git.OID{2}, 2, 1 << 31}, {git.OID{2, 1}, 3, 1 << 40}}, git.OID{9}))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := parseIndex(b)
		if err != nil {
			refused(t, err)
			return
		}
		rows := make([]indexRow, x.n)
		for i := range rows {
			rows[i] = indexRow{x.oid(i), x.crc(i), x.offset(i)}
			if rows[i].offset < 0 {
				t.Fatalf("offset %d is %d", i, rows[i].offset)
			}
			x.find(rows[i].oid)
		}
		x.find(x.packSum())
		if err := x.verify(); err != nil {
			refused(t, err)
			return
		}
		for i, r := range rows {
			if at, ok := x.find(r.oid); !ok || at != i {
				t.Fatalf("find(%s) = %d, %v, want %d", r.oid, at, ok, i)
			}
		}
		// Long offsets may be in an order of their own; without them there is one index for these rows.
		if x.long() == len(b)-idxTrailerSize && !bytes.Equal(indexOf(rows, x.packSum()), b) {
			t.Fatal("the index, written again, is another one")
		}
	})
}

// fuzzTable is a table with something in each of its parts.
func fuzzTable() []byte {
	t := newTableBuilder(4)
	t.set(0, tableEntry{kind: git.Commit, size: 200, base: noBase, idx: 3})
	t.set(1, tableEntry{kind: git.Blob, size: 10, base: noBase, idx: 0})
	t.set(2, tableEntry{kind: git.Blob, size: 1 << 33, base: 1, idx: 2})
	t.set(3, tableEntry{kind: git.Commit, size: 5, base: 0, refDelta: true, idx: 1})
	t.commit(0, git.OID{1}, 5, []git.OID{{2}, {3}})
	t.commit(3, git.OID{4}, 6, nil)
	t.root(0)
	t.root(2)
	t.name(git.OID{5})
	t.name(git.OID{5, 1})
	t.appended = 1
	return t.finish(git.OID{42})
}

func FuzzPackTable(f *testing.F) {
	f.Add(newTableBuilder(0).finish(git.OID{}))
	f.Add(fuzzTable())
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := parseTable(b)
		if err != nil {
			refused(t, err)
			return
		}
		again := newTableBuilder(x.n)
		again.appended = x.appended
		for i := range x.n {
			at := Pos(i)
			if x.sizeOf(at) < 0 {
				t.Fatalf("size of %d is %d", at, x.sizeOf(at))
			}
			again.set(at, tableEntry{x.kindOf(at), x.isRefDelta(at), x.sizeOf(at), x.baseOf(at), x.idxPos(at)})
		}
		for i := range x.commitCount {
			c := x.commit(i, nil)
			again.commit(c.Pos, c.Tree, c.When, c.Parents)
		}
		for i := range x.rootCount {
			again.root(x.root(i))
		}
		for i := range x.outsideCount {
			again.name(git.OID(x.outsideID(i)))
		}
		if x.verify() == nil && !bytes.Equal(again.finish(x.packSum()), b) {
			t.Fatal("the table, written again, is another one")
		}
	})
}

// FuzzPackRead changes the bytes under a sound index and table: whatever the entries become, reading them ends, with
// memory bounded by the table.
func FuzzPackRead(f *testing.F) {
	text := bytes.Repeat([]byte("some text "), 30)
	whole := deflate(appendEntryHeader(nil, entryHeader{kind: git.Blob, size: 300}), text)
	delta := binary.AppendUvarint(binary.AppendUvarint(nil, 300), 303)
	delta = append(delta, 3, 'n', 'e', 'w', 0xb0, 300&255, 300>>8)
	second := deflate(appendEntryHeader(nil, entryHeader{kind: ofsDelta, size: int64(len(delta)), baseDistance: int64(len(whole))}), delta)
	offsets := []int64{packHeaderSize, packHeaderSize + int64(len(whole))}
	size := offsets[1] + int64(len(second)) + packTrailerSize
	idx := indexOf([]indexRow{{oid: git.OID{1}, offset: offsets[0]}, {oid: git.OID{2}, offset: offsets[1]}}, git.OID{})
	b := newTableBuilder(2)
	b.set(0, tableEntry{kind: git.Blob, size: 300, base: noBase, idx: 0})
	b.set(1, tableEntry{kind: git.Blob, size: 303, base: 0, idx: 1})
	table := b.finish(git.OID{})
	f.Add(append(bytes.Clone(whole), second...))
	f.Add(append(bytes.Clone(second), whole...))
	f.Fuzz(func(t *testing.T, entries []byte) {
		data := make([]byte, size)
		copy(data[packHeaderSize:], entries)
		p, err := Open(bytes.NewReader(data), size, idx, table, nil)
		if err != nil {
			t.Fatalf("Open = %v", err)
		}
		for at := range Pos(2) {
			o, err := p.Read(at, nil)
			if err != nil {
				refused(t, err)
			} else if int64(len(o.Data)) != p.ObjectSize(at) {
				t.Fatalf("Read(%d) has %d bytes, the table says %d", at, len(o.Data), p.ObjectSize(at))
			}
			r, openErr := p.OpenObject(t.Context(), at, nil)
			if (err == nil) != (openErr == nil) {
				t.Fatalf("Read(%d) = %v, but OpenObject = %v", at, err, openErr)
			}
			if openErr == nil {
				r.Close()
			}
		}
	})
}
