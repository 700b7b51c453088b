package pack

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

func TestEntryHeadersComeBack(t *testing.T) {
	t.Parallel()
	sizes := []int64{0, 1, 15, 16, 2047, 2048, 1 << 20, math.MaxInt32, 1 << 32, math.MaxInt64}
	distances := []int64{1, 127, 128, 16511, 16512, 1 << 20, math.MaxInt32, 1 << 40, math.MaxInt64}
	var headers []entryHeader
	for _, size := range sizes {
		for k := git.Commit; k <= git.Tag; k++ {
			headers = append(headers, entryHeader{kind: k, size: size})
		}
		headers = append(headers, entryHeader{kind: refDelta, size: size, baseOID: git.OID{1, 2, 19: 3}})
		for _, d := range distances {
			headers = append(headers, entryHeader{kind: ofsDelta, size: size, baseDistance: d})
		}
	}
	for _, h := range headers {
		b := appendEntryHeader(nil, h)
		h.n = len(b)
		if len(b) > maxEntryHeader {
			t.Errorf("header %+v has %d bytes, more than maxEntryHeader", h, len(b))
		}
		got, err := parseEntryHeader(append(b, 0xff, 0xff))
		if err != nil || got != h {
			t.Errorf("parseEntryHeader(%x) = %+v, %v, want %+v", b, got, err, h)
		}
		for cut := range b {
			if _, err := parseEntryHeader(b[:cut]); !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, errkind.Invalid) {
				t.Errorf("parseEntryHeader(%x) = %v, want cut off", b[:cut], err)
			}
		}
	}
}

func TestEntryHeaderRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in string }{
		{"kind 0", "\x05"},
		{"kind 5", "\x55"},
		{"size of 64 bits", "\xbf\xff\xff\xff\xff\xff\xff\xff\xff\x0f"},
		{"size of endless zeros", "\xb0" + strings.Repeat("\x80", 20) + "\x00"},
		{"distance 0", "\x65\x00"},
		{"distance of 64 bits", "\x65" + strings.Repeat("\xff", 9) + "\x7f"},
	}
	for _, tt := range tests {
		if h, err := parseEntryHeader([]byte(tt.in)); errkind.Of(err) != errkind.Invalid || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: parseEntryHeader(%x) = %+v, %v, want errkind.Invalid", tt.name, tt.in, h, err)
		}
	}
}

// applyBoth applies a delta in memory and as a stream, which must come to the same.
func applyBoth(tb testing.TB, base, delta []byte, limit int64) ([]byte, error) {
	tb.Helper()
	got, err := applyDelta(nil, base, delta, limit)
	var b bytes.Buffer
	n, streamErr := streamDelta(&b, bytes.NewReader(base), int64(len(base)), bufio.NewReaderSize(bytes.NewReader(delta), 256), limit)
	if errkind.Of(err) != errkind.Of(streamErr) || (err == nil) != (streamErr == nil) {
		tb.Errorf("applyDelta(%x, %x) = %v, but streamDelta = %v", base, delta, err, streamErr)
	}
	if err == nil && (!bytes.Equal(got, b.Bytes()) || n != int64(len(got))) {
		tb.Errorf("applyDelta(%x, %x) = %x, but streamDelta gives %x and says %d", base, delta, got, b.Bytes(), n)
	}
	if n != int64(b.Len()) {
		tb.Errorf("streamDelta says %d bytes, but gives %d", n, b.Len())
	}
	return got, err
}

func TestApplyDelta(t *testing.T) {
	t.Parallel()
	const base = "0123456789abcdef"
	long := strings.Repeat("x", 0x10000+5)
	size := func(base, result int64, ops string) string {
		return string(binary.AppendUvarint(binary.AppendUvarint(nil, uint64(base)), uint64(result))) + ops
	}
	tests := []struct {
		name, base, delta, want string
		kind                    errkind.Kind // when it fails
	}{
		{"insert", base, size(16, 3, "\x03abc"), "abc", 0},
		{"copy", base, size(16, 4, "\x91\x02\x04"), "2345", 0},
		{"copy from the start", base, size(16, 4, "\x90\x04"), "0123", 0},
		{"copy everything, then insert", base, size(16, 17, "\x90\x10\x01!"), base + "!", 0},
		{"copy 64 KiB by no size", long, size(0x10005, 0x10000, "\x81\x05"), long[5:], 0},
		{"nothing", base, size(16, 0, ""), "", 0},
		{"nothing of nothing", "", size(0, 0, ""), "", 0},
		{"no header", base, "", "", errkind.Invalid},
		{"half a header", base, "\x10", "", errkind.Invalid},
		{"header over 63 bits", base, strings.Repeat("\xff", 9) + "\x01\x00", "", errkind.Invalid},
		{"other base", base, size(15, 3, "\x03abc"), "", errkind.Invalid},
		{"reserved", base, size(16, 3, "\x03abc\x00"), "", errkind.Invalid},
		{"insert cut off", base, size(16, 3, "\x03ab"), "", errkind.Invalid},
		{"copy cut off", base, size(16, 3, "\x91\x02"), "", errkind.Invalid},
		{"copy beyond the end", base, size(16, 4, "\x91\x0d\x04"), "", errkind.Invalid},
		{"copy from beyond the end", base, size(16, 1, "\x9f\xff\xff\xff\xff\x01"), "", errkind.Invalid},
		{"less than said", base, size(16, 4, "\x03abc"), "", errkind.Invalid},
		{"more than said", base, size(16, 2, "\x03abc"), "", errkind.Invalid},
		{"more than said, copied", base, size(16, 2, "\x90\x03"), "", errkind.Invalid},
		{"bomb that is none", base, size(16, 1<<19, "\x03abc"), "", errkind.Invalid},
		{"over the limit", base, size(16, 1<<20+1, "\x03abc"), "", errkind.TooLarge},
	}
	for _, tt := range tests {
		got, err := applyBoth(t, []byte(tt.base), []byte(tt.delta), 1<<20)
		if string(got) != tt.want || (err != nil) != (tt.kind != 0) || (err != nil && errkind.Of(err) != tt.kind) {
			t.Errorf("%s: applyDelta = %q, %v, want %q, %v", tt.name, got, err, tt.want, tt.kind)
		}
	}
}

func TestApplyDeltaUsesMemoryItIsGiven(t *testing.T) {
	t.Parallel()
	buf := make([]byte, 0, 10)
	got, err := applyDelta(buf, []byte("base"), []byte("\x04\x08\x90\x04\x90\x04"), 100)
	if err != nil || string(got) != "basebase" || &got[0] != &buf[:1][0] {
		t.Errorf("applyDelta = %q, %v, in other memory", got, err)
	}
}

func zlibOf(tb testing.TB, level int, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	z, err := zlib.NewWriterLevel(&b, level)
	if err == nil {
		_, err = z.Write(data)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestInflateWantsExactlyWhatWasSaid(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	noise := make([]byte, 200_000)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	for _, data := range [][]byte{nil, []byte("a"), bytes.Repeat([]byte("some text "), 30_000), noise} {
		for level := range 10 {
			z := zlibOf(t, level, data)
			behind := append(slices.Clone(z), "what follows"...)
			dst := make([]byte, len(data))
			if n, err := inflate(dst, behind); err != nil || n != len(z) || !bytes.Equal(dst, data) {
				t.Fatalf("inflate of %d bytes at level %d = %d, %v, want %d", len(data), level, n, err, len(z))
			}
			for _, length := range []int{len(z), len(behind)} {
				clear(dst)
				n, err := inflateAt(dst, bytes.NewReader(append([]byte("before"), behind...)), 6, int64(length))
				if err != nil || n != int64(len(z)) || !bytes.Equal(dst, data) {
					t.Fatalf("inflateAt of %d bytes at level %d = %d, %v, want %d", len(data), level, n, err, len(z))
				}
			}
			if _, err := inflate(make([]byte, len(data)+1), z); !errors.Is(err, errInflateShort) {
				t.Errorf("inflate into one byte more = %v", err)
			}
			if len(data) > 0 {
				if _, err := inflate(dst[1:], z); !errors.Is(err, errInflateLong) {
					t.Errorf("inflate into one byte less = %v", err)
				}
			}
			if _, err := inflate(dst, z[:len(z)-1]); !errors.Is(err, errInflateCut) {
				t.Errorf("inflate of a cut stream = %v", err)
			}
			z[len(z)-1] ^= 1
			if _, err := inflate(dst, z); !errors.Is(err, errInflateSum) {
				t.Errorf("inflate with a wrong checksum = %v", err)
			}
		}
	}
}

func TestInflateRefusesOtherStreams(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"", "\x78", "\x78\x9d", "\x79\x9c", // nothing, half a header, wrong check, wrong method
		"\x78\xbb\x00\x00\x00\x01\x03\x00\x00\x00\x00\x01", // a dictionary
		"\x78\x9c\x07", // a reserved block
	} {
		if _, err := inflate(nil, []byte(in)); errkind.Of(err) != errkind.Invalid {
			t.Errorf("inflate(%x) = %v, want errkind.Invalid", in, err)
		}
	}
}

func TestDeflateComesBack(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("some text "), 1000)
	z := deflate([]byte("before"), data)
	got := make([]byte, len(data))
	if n, err := inflate(got, z[6:]); err != nil || n != len(z)-6 || !bytes.Equal(got, data) || string(z[:6]) != "before" {
		t.Errorf("inflate(deflate()) = %d of %d, %v", n, len(z)-6, err)
	}
}

func TestIndexHasLongOffsets(t *testing.T) {
	t.Parallel()
	rows := []indexRow{
		{git.OID{1}, 1, 12}, {git.OID{1, 2}, 2, 1<<31 - 1}, {git.OID{3}, 3, 1 << 31}, {git.OID{255, 1}, 4, 1 << 40},
	}
	x, err := parseIndex(indexOf(rows, git.OID{9}))
	if err != nil || x.n != len(rows) || x.verify() != nil || x.packSum() != (git.OID{9}) {
		t.Fatalf("parseIndex = %d rows, %v", x.n, err)
	}
	for i, want := range rows {
		if got := (indexRow{x.oid(i), x.crc(i), x.offset(i)}); got != want {
			t.Errorf("row %d = %+v, want %+v", i, got, want)
		}
		if at, ok := x.find(want.oid); !ok || at != i {
			t.Errorf("find(%s) = %d, %v, want %d", want.oid, at, ok, i)
		}
	}
}

// IDs that someone chose to lie close together are found as well.
func TestIndexFindsCrowdedIDs(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 6))
	seen := map[git.OID]bool{}
	for len(seen) < 3000 {
		o := git.OID{7}
		for k := 1 + len(seen)%13; k < 20; k++ {
			o[k] = byte(rnd.Uint32()) & 3
		}
		seen[o] = true
	}
	var rows []indexRow
	for o := range seen {
		rows = append(rows, indexRow{oid: o})
	}
	slices.SortFunc(rows, func(a, b indexRow) int { return a.oid.Compare(b.oid) })
	x, err := parseIndex(indexOf(rows, git.OID{}))
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rows {
		if at, ok := x.find(r.oid); !ok || at != i {
			t.Fatalf("find(%s) = %d, %v, want %d", r.oid, at, ok, i)
		}
		no := r.oid
		no[19] ^= 0x80
		if at, ok := x.find(no); ok {
			t.Fatalf("find(%s) = %d, want nothing", no, at)
		}
	}
}

func TestTableComesBack(t *testing.T) {
	t.Parallel()
	entries := []tableEntry{
		{kind: git.Commit, size: 200, base: noBase, idx: 3},
		{kind: git.Blob, size: 1<<31 - 1, base: noBase, idx: 0},
		{kind: git.Blob, size: 1 << 31, base: 1, idx: 2},
		{kind: git.Commit, size: 5, base: 5, refDelta: true, idx: 4},
		{kind: git.Blob, size: 1 << 40, base: 2, refDelta: true, idx: 1},
		{kind: git.Commit, size: 0, base: noBase, idx: 5},
	}
	commits := []Commit{
		{Pos: 0, Tree: git.OID{1}, When: -5, Parents: []git.OID{{2}, {3}}},
		{Pos: 3, Tree: git.OID{4}, When: 1 << 40},
		{Pos: 5, Tree: git.OID{5}, When: 1, Parents: []git.OID{{6}}},
	}
	b := newTableBuilder(len(entries))
	for _, i := range []int{5, 0, 4, 1, 3, 2} {
		b.set(Pos(i), entries[i])
	}
	for _, i := range []int{2, 0, 1} {
		b.commit(commits[i].Pos, commits[i].Tree, commits[i].When, commits[i].Parents)
	}
	b.root(4)
	b.root(1)
	b.appended = 2
	outside := []git.OID{{6}, {7}, {7, 1}}
	for _, o := range outside {
		b.name(o)
	}
	x, err := parseTable(b.finish(git.OID{42}))
	if err != nil {
		t.Fatalf("parseTable = %v", err)
	}
	if x.verify() != nil || x.packSum() != (git.OID{42}) || x.rootCount != 2 || x.root(0) != 1 || x.root(1) != 4 {
		t.Errorf("table has roots %d, %d of %d, or another checksum", x.root(0), x.root(1), x.rootCount)
	}
	for i, want := range entries {
		at := Pos(i)
		got := tableEntry{kind: x.kindOf(at), refDelta: x.isRefDelta(at), size: x.sizeOf(at), base: x.baseOf(at), idx: x.idxPos(at)}
		if got != want || x.pos(want.idx) != at {
			t.Errorf("entry %d = %+v, want %+v", i, got, want)
		}
	}
	for i, want := range commits {
		got := x.commit(i, nil)
		if got.Pos != want.Pos || got.Tree != want.Tree || got.When != want.When || !slices.Equal(got.Parents, want.Parents) {
			t.Errorf("commit %d = %+v, want %+v", i, got, want)
		}
	}
	p := Pack{tab: x}
	if got := slices.Collect(p.Outside()); !slices.Equal(got, outside) || p.Appended() != 2 {
		t.Errorf("Outside() = %v, want %v; Appended() = %d, want 2", got, outside, p.Appended())
	}
}

// Who reads a stream as it comes in may try with what is there: a part of a sound stream is cut off, never damaged.
func TestInflateKnowsWhatIsCutOff(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(7, 8))
	for _, size := range []int{0, 1, 10, 100, 1000, 5000} {
		for _, letters := range []int{1, 2, 20, 256} {
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(rnd.IntN(letters))
			}
			for _, level := range []int{zlib.HuffmanOnly, 0, 1, 6, 9} {
				z := zlibOf(t, level, data)
				dst := make([]byte, size)
				for cut := range z {
					if _, err := inflate(dst, z[:cut]); !errors.Is(err, errInflateCut) {
						t.Fatalf("inflate of %d bytes of %d at level %d = %v, want cut off", cut, len(z), level, err)
					}
				}
				if n, err := inflate(dst, z); err != nil || n != len(z) || !bytes.Equal(dst, data) {
					t.Fatalf("inflate of %d bytes at level %d = %d, %v", size, level, n, err)
				}
			}
		}
	}
}
