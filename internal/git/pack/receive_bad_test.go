package pack_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// insertDelta makes a delta that inserts its whole result, of up to 127 bytes.
func insertDelta(base int, result []byte) []byte {
	d := pack.AppendDeltaSize(pack.AppendDeltaSize(nil, int64(base)), int64(len(result)))
	return append(append(d, byte(len(result))), result...)
}

// resum sets a pack's trailer right.
func resum(packfile []byte) []byte {
	n := len(packfile) - git.OIDSize
	sum := sha1.Sum(packfile[:n])
	return append(packfile[:n:n], sum[:]...)
}

// recount has a pack's header say another number of objects.
func recount(packfile []byte, n uint32) []byte {
	b := bytes.Clone(packfile)
	binary.BigEndian.PutUint32(b[8:], n)
	return resum(b)
}

func TestReceiveRefusesBadPacks(t *testing.T) {
	t.Parallel()
	content := []byte("some content that is long enough to be a delta's base")
	blob := pack.RawEntry(git.Blob, int64(len(content)), content)
	id := git.Hash(git.Blob, content)
	good := byHand(t, blob)
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[(at+len(b))%len(b)] ^= 0x55
		return b
	}
	delta := insertDelta(len(content), []byte("result"))
	other := git.Hash(git.Blob, []byte("result"))
	treeOf := func(mode, name string) []byte {
		data := append([]byte(mode+" "+name+"\x00"), id[:]...)
		return pack.RawEntry(git.Tree, int64(len(data)), data)
	}
	manyDeltas := func(n int) []byte {
		entries, base := [][]byte{blob}, len(content)
		for i := range n {
			result := fmt.Appendf(nil, "version %d", i)
			entries = append(entries, pack.RawDelta(insertDelta(base, result), int64(len(entries[i])), git.OID{}))
			base = len(result)
		}
		return byHand(t, entries...)
	}
	// A delta that makes a megabyte of nothing but copies, and a hundred such.
	bomb := pack.AppendDeltaSize(pack.AppendDeltaSize(nil, int64(len(content))), int64(20000*len(content)))
	for range 20000 {
		bomb = append(bomb, 0x90, byte(len(content)))
	}
	tests := []struct {
		name     string
		packfile []byte
		opts     pack.ReceiveOptions
		kind     errkind.Kind
		want     string
	}{
		{"nothing", nil, pack.ReceiveOptions{}, errkind.Invalid, "cut short after 0 bytes"},
		{"not a pack", bytes.Repeat([]byte("x"), 100), pack.ReceiveOptions{}, errkind.Invalid, "not a pack"},
		{"version 4", resum(append([]byte("PACK\x00\x00\x00\x04"), good[8:]...)), pack.ReceiveOptions{}, errkind.Invalid, "version 4 is unknown"},
		{"too few objects", recount(good, 2), pack.ReceiveOptions{}, errkind.Invalid, "entry 1 at offset"},
		{"too many objects", recount(byHand(t, blob, treeOf("100644", "a")), 1), pack.ReceiveOptions{}, errkind.Invalid, "pack's checksum is"},
		{"wrong trailer", flip(good, -1), pack.ReceiveOptions{}, errkind.Invalid, "pack's checksum is"},
		{"wrong byte", flip(good, 20), pack.ReceiveOptions{}, errkind.Invalid, "entry 0 at offset 12"},
		{"kind 0", byHand(t, pack.RawEntry(0, 1, []byte("x"))), pack.ReceiveOptions{}, errkind.Invalid, "reserved kind 0"},
		{"kind 5", byHand(t, pack.RawEntry(5, 1, []byte("x"))), pack.ReceiveOptions{}, errkind.Invalid, "reserved kind 5"},
		{"size without end", byHand(t, bytes.Repeat([]byte{0xbf}, 40)), pack.ReceiveOptions{}, errkind.Invalid, "63 bits"},
		{"less than announced", byHand(t, pack.RawEntry(git.Blob, 100, content)), pack.ReceiveOptions{}, errkind.Invalid, "compressed data ends before"},
		{"more than announced", byHand(t, pack.RawEntry(git.Blob, 10, content)), pack.ReceiveOptions{}, errkind.Invalid, "compressed data goes on after"},
		{"big and less than announced", byHand(t, pack.RawEntry(git.Blob, 5<<20, content)), pack.ReceiveOptions{}, errkind.Invalid, "compressed data ends before"},
		{"big and more than announced", byHand(t, pack.RawEntry(git.Blob, 5<<20, make([]byte, 6<<20))), pack.ReceiveOptions{}, errkind.Invalid, "compressed data goes on after"},
		{"the same object twice", byHand(t, blob, blob), pack.ReceiveOptions{}, errkind.Invalid, fmt.Sprintf("object %s appears twice", id)},
		{"the same object as a delta", byHand(t, blob, pack.RawDelta(insertDelta(len(content), content), int64(len(blob)), git.OID{})), pack.ReceiveOptions{}, errkind.Invalid, "appears twice"},
		{"base before the pack", byHand(t, pack.RawDelta(delta, 100, git.OID{})), pack.ReceiveOptions{}, errkind.Invalid, "where no entry starts"},
		{"base in the header", byHand(t, pack.RawDelta(delta, 12, git.OID{})), pack.ReceiveOptions{}, errkind.Invalid, "where no entry starts"},
		{"base in mid-entry", byHand(t, blob, pack.RawDelta(delta, int64(len(blob)-1), git.OID{})), pack.ReceiveOptions{}, errkind.Invalid, "where no entry starts"},
		{"missing base", byHand(t, blob, pack.RawDelta(delta, 0, git.OID{1})), pack.ReceiveOptions{}, errkind.Invalid, "the base 0100000000000000000000000000000000000000 of the one at"},
		{"cycle", byHand(t, pack.RawDelta(insertDelta(6, content), 0, other), pack.RawDelta(delta, 0, id)), pack.ReceiveOptions{}, errkind.Invalid, "2 unresolved deltas"},
		{"delta on itself", byHand(t, pack.RawDelta(insertDelta(6, []byte("result")), 0, other)), pack.ReceiveOptions{}, errkind.Invalid, "1 unresolved delta"},
		{"delta for another base", byHand(t, blob, pack.RawDelta(insertDelta(5, []byte("result")), int64(len(blob)), git.OID{})), pack.ReceiveOptions{}, errkind.Invalid, "delta is for a base of 5 bytes"},
		{"delta without a header", byHand(t, blob, pack.RawDelta([]byte{0x80}, int64(len(blob)), git.OID{})), pack.ReceiveOptions{}, errkind.Invalid, "delta's header"},
		{"delta that makes too little", byHand(t, blob, pack.RawDelta(delta[:len(delta)-7], int64(len(blob)), git.OID{})), pack.ReceiveOptions{}, errkind.Invalid, "does not make the size"},
		{"delta that copies from nowhere", byHand(t, blob, pack.RawDelta([]byte{byte(len(content)), 4, 0x91, 200, 4}, int64(len(blob)), git.OID{})), pack.ReceiveOptions{}, errkind.Invalid, "outside its base"},
		{"too many for the limit", byHand(t, blob, treeOf("100644", "a")), pack.ReceiveOptions{MaxObjects: 1}, errkind.TooLarge, "pack has 2 objects, the limit is 1"},
		{"pack too large", good, pack.ReceiveOptions{MaxPackBytes: 30}, errkind.TooLarge, "the limit is 30"},
		{"object too large", good, pack.ReceiveOptions{MaxObjectBytes: 20}, errkind.TooLarge, "the limit is 20"},
		{"object that claims too much", byHand(t, pack.RawEntry(git.Blob, 1<<40, content)), pack.ReceiveOptions{}, errkind.TooLarge, "the limit is"},
		{"tree that claims too much", byHand(t, pack.RawEntry(git.Tree, 100<<20, content)), pack.ReceiveOptions{}, errkind.TooLarge, "tree has 104857600 bytes"},
		{"delta that makes too much", byHand(t, blob, pack.RawDelta(bomb, int64(len(blob)), git.OID{})), pack.ReceiveOptions{MaxObjectBytes: 1000000}, errkind.TooLarge, "delta makes 1060000 bytes"},
		{"all objects too large together", byHand(t, blob, pack.RawDelta(bomb, int64(len(blob)), git.OID{})), pack.ReceiveOptions{MaxTotalBytes: 1000000}, errkind.TooLarge, "more than 1000000 bytes together"},
		{"chain too long", manyDeltas(11), pack.ReceiveOptions{MaxDeltaDepth: 10}, errkind.TooLarge, "chain of more than 10 deltas"},
		{"tree that is none", byHand(t, pack.RawEntry(git.Tree, int64(len(content)), content)), pack.ReceiveOptions{}, errkind.Invalid, "tree"},
		{"commit that is none", byHand(t, pack.RawEntry(git.Commit, int64(len(content)), content)), pack.ReceiveOptions{}, errkind.Invalid, "unterminatedHeader"},
		{"tag that is none", byHand(t, pack.RawEntry(git.Tag, int64(len(content)), content)), pack.ReceiveOptions{}, errkind.Invalid, "tag"},
		{".git in a tree", byHand(t, blob, treeOf("100644", ".git")), pack.ReceiveOptions{}, errkind.Invalid, "hasDotgit"},
		{".. in a tree", byHand(t, blob, treeOf("100644", "..")), pack.ReceiveOptions{}, errkind.Invalid, "hasDotdot"},
		{"bad mode", byHand(t, blob, treeOf("100999", "a")), pack.ReceiveOptions{}, errkind.Invalid, "tree"},
	}
	for _, tt := range tests {
		for _, limit := range []int64{1, 1 << 30} {
			for where, opts := range places(tt.opts) {
				t.Run(fmt.Sprintf("%s/%d/%s", tt.name, limit, where), func(t *testing.T) {
					t.Parallel()
					opts.Dir, opts.MemoryPack = t.TempDir(), limit
					_, err := pack.Receive(t.Context(), bufio.NewReader(bytes.NewReader(tt.packfile)), opts)
					if errkind.Of(err) != tt.kind || !strings.Contains(fmt.Sprint(err), tt.want) {
						t.Errorf("Receive() = %v, want %v with %q", err, tt.kind, tt.want)
					}
					wantNoFiles(t, opts.Dir)
				})
			}
		}
	}
	// The limits are reached, not passed.
	for name, tt := range map[string]struct {
		packfile []byte
		opts     pack.ReceiveOptions
	}{
		"chain of the longest": {manyDeltas(10), pack.ReceiveOptions{MaxDeltaDepth: 10}},
		"largest object":       {good, pack.ReceiveOptions{MaxObjectBytes: int64(len(content)), MaxObjects: 1, MaxPackBytes: int64(len(good))}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkReceived(t, receive(t, tt.packfile, tt.opts))
		})
	}
}

// A pack that ends early is refused wherever it ends, and so is one with any byte changed.
func TestReceiveRefusesEveryCutAndEveryChange(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.versions(3)
	packfile := src.packAll("--delta-base-offset")
	for i := range packfile {
		for where, opts := range places(pack.ReceiveOptions{}) {
			if _, err := pack.Receive(t.Context(), bytes.NewReader(packfile[:i]), opts); errkind.Of(err) != errkind.Invalid {
				t.Fatalf("Receive() of the first %d bytes with %s = %v, want errkind.Invalid", i, where, err)
			}
		}
		for _, mask := range []byte{0x01, 0x80, 0xff} {
			bad := bytes.Clone(packfile)
			bad[i] ^= mask
			if _, err := pack.Receive(t.Context(), bytes.NewReader(bad), pack.ReceiveOptions{}); err == nil ||
				errkind.Of(err) != errkind.Invalid && errkind.Of(err) != errkind.TooLarge {
				t.Fatalf("Receive() with byte %d changed = %v, want errkind.Invalid", i, err)
			}
		}
	}
}

// An error of the store is not the client's fault, and neither is a store that gives another object than it was asked for.
func TestReceiveDistrustsBase(t *testing.T) {
	t.Parallel()
	content := []byte("the base of a thin pack's delta")
	id := git.Hash(git.Blob, content)
	thin := byHand(t, pack.RawDelta(insertDelta(len(content), []byte("result")), 0, id))
	broken := errors.New("disk on fire")
	tests := []struct {
		name string
		base func(git.OID) (git.Object, bool, error)
		kind errkind.Kind
	}{
		{"absent", func(git.OID) (git.Object, bool, error) { return git.Object{}, false, nil }, errkind.Invalid},
		{"broken", func(git.OID) (git.Object, bool, error) { return git.Object{}, false, broken }, errkind.Internal},
		{"another", func(git.OID) (git.Object, bool, error) {
			return git.Object{Kind: git.Blob, Data: []byte("something")}, true, nil
		}, errkind.Internal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for where, opts := range places(pack.ReceiveOptions{Dir: t.TempDir(), MemoryPack: 1, Base: tt.base}) {
				if _, err := pack.Receive(t.Context(), bytes.NewReader(thin), opts); err == nil || errkind.Of(err) != tt.kind {
					t.Errorf("Receive() with %s = %v, want %v", where, err, tt.kind)
				}
				wantNoFiles(t, opts.Dir)
			}
		})
	}
}

// A base in the pack is found before the store is asked, wherever in the pack it is; an object that the store has as
// well is no reason to append it.
func TestReceivePrefersBasesInThePack(t *testing.T) {
	t.Parallel()
	content := []byte("the base, which comes last")
	id := git.Hash(git.Blob, content)
	middle := []byte("in between")
	packfile := byHand(
		t,
		pack.RawDelta(insertDelta(len(middle), []byte("result")), 0, git.Hash(git.Blob, middle)),
		pack.RawDelta(insertDelta(len(content), middle), 0, id),
		pack.RawEntry(git.Blob, int64(len(content)), content),
	)
	q := receive(t, packfile, pack.ReceiveOptions{Base: func(o git.OID) (git.Object, bool, error) {
		t.Errorf("asked for %s", o)
		return git.Object{}, false, nil
	}})
	checkReceived(t, q)
}

// The two blocks of https://shattered.io are known to the hash, so an attack of that kind does not pass.
func TestCollisionsAreDetected(t *testing.T) {
	t.Parallel()
	attack, err := os.ReadFile("testdata/shattered-1.bin")
	if err != nil {
		t.Fatal(err)
	}
	if err := pack.CollisionSum(attack); errkind.Of(err) != errkind.Invalid {
		t.Errorf("sum of a collision = %v, want errkind.Invalid", err)
	}
	attack[300] ^= 1
	if err := pack.CollisionSum(attack[:100]); err != nil {
		t.Errorf("sum of anything else = %v", err)
	}
}

// bigText is a file of that many bytes that compresses well, whose versions differ in one place.
func bigText(size int64, version int) io.Reader {
	line := bytes.Repeat([]byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n"), 1<<10)
	mark := fmt.Appendf(nil, "version %10d\n", version)
	readers := []io.Reader{bytes.NewReader(mark)}
	for left := size - int64(len(mark)); left > 0; left -= int64(len(line)) {
		readers = append(readers, bytes.NewReader(line[:min(left, int64(len(line)))]))
	}
	return io.MultiReader(readers...)
}

// Given a large file, further versions of it as deltas, one of them a small file again, then memory stays small.
func TestReceiveLargeFilesInLittleMemory(t *testing.T) {
	const (
		size    = 80 << 20
		markLen = 19
		most    = 48 << 20 // far less than one version
	)
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "large.pack"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := pack.NewWriter(f, 4)
	if err != nil {
		t.Fatal(err)
	}
	start := w.Offset()
	if err := w.Stream(git.Blob, size, bigText(size, 0)); err != nil {
		t.Fatal(err)
	}
	for version := 1; version <= 3; version++ {
		result := int64(size)
		if version == 3 {
			result = 1000
		}
		mark := fmt.Appendf(nil, "version %10d\n", version)
		d := pack.AppendDeltaSize(pack.AppendDeltaSize(nil, size), result)
		d = append(append(d, markLen), mark...)
		for at := int64(markLen); at < result; at += 0xffffff {
			d = appendCopy(d, int(at), int(min(0xffffff, result-at)))
		}
		next := w.Offset()
		if err := w.Entry(pack.RawDelta(d, next-start, git.OID{})); err != nil {
			t.Fatal(err)
		}
		start = next
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"whole", "thin"} {
		t.Run(how, func(t *testing.T) {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			scratch := t.TempDir()
			opts := pack.ReceiveOptions{Dir: scratch, Workers: 2}
			var in io.Reader = f
			if how == "thin" {
				in = bytes.NewReader(thinOf(t, size))
				opts.Base = func(git.OID) (git.Object, bool, error) {
					return git.Object{}, false, fmt.Errorf("read it at once: %w", errkind.TooLarge)
				}
				opts.OpenBase = func(context.Context, git.OID) (git.Kind, int64, io.ReadCloser, error) {
					return git.Blob, size, io.NopCloser(bigText(size, 0)), nil
				}
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			q, err := pack.Receive(t.Context(), bufio.NewReader(in), opts)
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatalf("Receive() = %v", err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > most {
				t.Errorf("Receive() of versions of %d bytes allocates %d, want at most %d", size, got, most)
			}
			g := newOracle(t)
			path := filepath.Join(g.Dir, "objects", "pack", "pack-1.pack")
			if err := os.WriteFile(path, packBytes(t, q), 0o600); err != nil {
				t.Fatal(err)
			}
			g.Git("index-pack", path)
			if want, err := os.ReadFile(strings.TrimSuffix(path, ".pack") + ".idx"); err != nil || !bytes.Equal(q.Idx, want) {
				t.Errorf("index is not the one that git index-pack writes (%v)", err)
			}
			if err := q.Close(); err != nil {
				t.Errorf("Close() = %v", err)
			}
			wantNoFiles(t, scratch)
		})
	}
}

// thinOf makes a thin pack of one delta on version 0 of a big text.
func thinOf(t *testing.T, size int64) []byte {
	t.Helper()
	h := sha1.New()
	h.Write(git.AppendHeader(nil, git.Blob, size))
	if _, err := io.Copy(h, bigText(size, 0)); err != nil {
		t.Fatal(err)
	}
	d := pack.AppendDeltaSize(pack.AppendDeltaSize(nil, size), 1000)
	return byHand(t, pack.RawDelta(appendCopy(d, 5, 1000), 0, git.OID(h.Sum(nil))))
}

// Given many bases that are needed again much later, more than memory may hold, they are made again.
func TestReceiveDropsBasesAndMakesThemAgain(t *testing.T) {
	const (
		bases = 40
		size  = 3 << 20 // 120 MB in all
		most  = 150 << 20
	)
	// A chain of large versions; each has a second delta on it, which is resolved when the chain's end is reached.
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	whole := pack.RawEntry(git.Blob, size, content)
	entries := [][]byte{whole}
	offsets := []int64{12}
	add := func(b []byte) {
		offsets = append(offsets, offsets[len(offsets)-1]+int64(len(entries[len(entries)-1])))
		entries = append(entries, b)
	}
	version := func(base int64, n, result int) []byte {
		d := pack.AppendDeltaSize(pack.AppendDeltaSize(nil, size), int64(result))
		d = append(append(d, 8), fmt.Sprintf("%08d", n)...)
		d = appendCopy(d, 8, result-8)
		at := offsets[len(offsets)-1] + int64(len(entries[len(entries)-1]))
		return pack.RawDelta(d, at-base, git.OID{})
	}
	base := offsets[0]
	var chain []int64
	for i := range bases {
		add(version(base, i, size))
		base = offsets[len(offsets)-1]
		chain = append(chain, base)
	}
	for i, b := range chain {
		add(version(b, 1000+i, 100))
	}
	packfile := byHand(t, entries...)
	for _, workers := range []int{1, 2} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		q := receiveOnce(t, packfile, pack.ReceiveOptions{Workers: workers})
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > most {
			t.Errorf("Receive() allocates %d bytes, want at most %d", got, most)
		}
		checkReceived(t, q)
	}
}
