package pack_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// fuzzLimits keep a fuzzed receive small; MemoryPack makes both ways of keeping the pack happen.
func fuzzLimits(f func(git.OID) (git.Object, bool, error)) pack.ReceiveOptions {
	return pack.ReceiveOptions{MaxObjectBytes: 1 << 20, MaxTotalBytes: 8 << 20, MaxObjects: 1000, MemoryPack: 500, Base: f}
}

// checkFuzzed receives whatever it is. A refusal is the client's fault; what is accepted is sound, and what follows it
// in the stream is still there.
func checkFuzzed(t *testing.T, packfile []byte) {
	t.Helper()
	known := git.Object{Kind: git.Blob, Data: []byte("an object that thin packs may build on")}
	id := git.Hash(known.Kind, known.Data)
	opts := fuzzLimits(func(o git.OID) (git.Object, bool, error) { return known, o == id, nil })
	opts.Dir = t.TempDir()
	defer wantNoFiles(t, opts.Dir)
	r := bufio.NewReader(bytes.NewReader(packfile))
	q, err := pack.Receive(t.Context(), r, opts)
	if err != nil {
		if k := errkind.Of(err); k != errkind.Invalid && k != errkind.TooLarge {
			t.Errorf("Receive() = %v, want errkind.Invalid or errkind.TooLarge", err)
		}
		return
	}
	defer q.Close()
	if err := q.Pack.Verify(t.Context(), nil); err != nil {
		t.Errorf("Verify() of an accepted pack = %v", err)
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if taken := len(packfile) - len(rest); q.Appended == 0 && int64(taken) != q.Pack.Size() {
		t.Errorf("Receive() took %d bytes for a pack of %d", taken, q.Pack.Size())
	}
}

// FuzzReceive takes packs as they are, and with a right trailer, so that changes reach what is behind it.
func FuzzReceive(f *testing.F) {
	content := []byte("an object that thin packs may build on")
	blob := pack.RawEntry(git.Blob, int64(len(content)), content)
	empty := byHand(f)
	f.Add(empty)
	f.Add(byHand(f, blob))
	f.Add(byHand(f, blob, pack.RawDelta(insertDelta(len(content), []byte("result")), int64(len(blob)), git.OID{})))
	f.Add(byHand(f, pack.RawDelta(insertDelta(len(content), []byte("result")), 0, git.Hash(git.Blob, content))))
	src := newOracle(f)
	src.versions(3)
	f.Add(src.packAll("--delta-base-offset"))
	f.Add(src.packAll())
	f.Fuzz(func(t *testing.T, packfile []byte) {
		checkFuzzed(t, packfile)
		if len(packfile) >= git.OIDSize {
			checkFuzzed(t, resum(packfile))
		}
	})
}

// FuzzReceiveEntries makes well-formed packs of ill-formed objects and deltas. Its input is a list of entries: a kind, a
// number whose meaning depends on it, and a length with that much content.
func FuzzReceiveEntries(f *testing.F) {
	content := []byte("an object that thin packs may build on")
	id := git.Hash(git.Blob, content)
	entry := func(kind git.Kind, number uint16, content []byte) []byte {
		b := binary.LittleEndian.AppendUint16([]byte{byte(kind)}, number)
		return append(binary.LittleEndian.AppendUint16(b, uint16(len(content))), content...)
	}
	tree := git.AppendEntry(nil, git.Entry{Mode: git.ModeFile, Name: []byte("a"), OID: id})
	delta := insertDelta(len(content), []byte("result"))
	f.Add(entry(git.Blob, 0, content))
	f.Add(append(entry(git.Blob, 0, content), entry(git.Tree, 0, tree)...))
	f.Add(append(entry(git.Blob, 0, content), entry(6, 1, delta)...))
	f.Add(append(entry(git.Blob, 0, content), entry(7, 0, delta)...))
	f.Add(entry(7, 999, delta))
	f.Fuzz(func(t *testing.T, program []byte) {
		var entries [][]byte
		var offsets []int64
		var contents [][]byte
		at := int64(12)
		for len(program) >= 5 && len(entries) < 50 {
			kind, number := git.Kind(program[0]&7), int(binary.LittleEndian.Uint16(program[1:]))
			n := min(int(binary.LittleEndian.Uint16(program[3:])), len(program)-5)
			content := program[5 : 5+n]
			program = program[5+n:]
			var e []byte
			switch kind {
			case 6: // number: how many entries back
				distance := int64(number)
				if number > 0 && number <= len(offsets) {
					distance = at - offsets[len(offsets)-number]
				}
				e = pack.RawDelta(content, max(distance, 1), git.OID{})
			case 7: // number: of the entry, else the outside object
				base := id
				if number < len(contents) {
					base = git.Hash(git.Blob, contents[number])
				}
				e = pack.RawDelta(content, 0, base)
			default:
				e = pack.RawEntry(kind, int64(n)+int64(number>>12), content)
			}
			entries, offsets, contents = append(entries, e), append(offsets, at), append(contents, content)
			at += int64(len(e))
		}
		checkFuzzed(t, byHand(t, entries...))
	})
}
