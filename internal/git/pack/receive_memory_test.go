package pack_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// manyObjects makes a pack of so many commits, each with a tree of its own that has nine blobs of its own. Two of the
// blobs are deltas on another one: one by its offset, one by its ID.
func manyObjects(t *testing.T, commits int) []byte {
	t.Helper()
	var entries [][]byte
	at := int64(12)
	add := func(e []byte) {
		entries = append(entries, e)
		at += int64(len(e))
	}
	var parent string
	for i := range commits {
		first, firstAt := fmt.Appendf(nil, "blob 0 of %d", i), at
		tree := git.AppendEntry(nil, git.Entry{Mode: git.ModeFile, Name: []byte("0"), OID: git.Hash(git.Blob, first)})
		add(pack.Stored(git.Blob, first, 0, git.OID{}))
		for k := 1; k < 9; k++ {
			blob := fmt.Appendf(nil, "blob %d of %d", k, i)
			switch k {
			case 7:
				add(pack.Stored(0, insertDelta(len(first), blob), at-firstAt, git.OID{}))
			case 8:
				add(pack.Stored(0, insertDelta(len(first), blob), 0, git.Hash(git.Blob, first)))
			default:
				add(pack.Stored(git.Blob, blob, 0, git.OID{}))
			}
			tree = git.AppendEntry(tree, git.Entry{Mode: git.ModeFile, Name: []byte{byte('0' + k)}, OID: git.Hash(git.Blob, blob)})
		}
		add(pack.Stored(git.Tree, tree, 0, git.OID{}))
		const who = "A <a@example.com> 1700000000 +0000"
		commit := fmt.Appendf(nil, "tree %s\n%sauthor %s\ncommitter %s\n\n", git.Hash(git.Tree, tree), parent, who, who)
		add(pack.Stored(git.Commit, commit, 0, git.OID{}))
		parent = fmt.Sprintf("parent %s\n", git.Hash(git.Commit, commit))
	}
	return byHand(t, entries...)
}

// Given a pack of more objects than arrays on the heap may have, then next to nothing is on the heap for each of them: what
// a receive of any size takes there is bounded.
func TestReceiveManyObjectsInLittleMemory(t *testing.T) {
	const (
		commits = 10_000
		objects = 11 * commits
		most    = 48 // bytes of an object, for which a few more buffers look; with arrays on the heap it is 114
	)
	opts := pack.ReceiveOptions{Dir: t.TempDir(), MemoryPack: 1, Workers: 1}.ArraysInFilesAfter(1000)
	// inUse receives a pack and returns the most heap that is in use at the end of a stage.
	inUse := func(packfile []byte) int64 {
		var before, now runtime.MemStats
		peak := uint64(0)
		look := func() {
			runtime.GC()
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapAlloc)
		}
		runtime.GC()
		runtime.ReadMemStats(&before)
		opts.Progress = func(_ string, done, total int) {
			if done == total {
				look()
			}
		}
		q, err := pack.Receive(t.Context(), bufio.NewReader(bytes.NewReader(packfile)), opts)
		if err != nil {
			t.Fatal(err)
		}
		look()
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		wantNoFiles(t, opts.Dir)
		return int64(peak) - int64(before.HeapAlloc)
	}
	few, all := inUse(manyObjects(t, commits/10)), inUse(manyObjects(t, commits))
	if perObject := (all - few) / (objects - objects/10); perObject > most {
		t.Errorf("Receive() has %d bytes of heap for each object more, want at most %d", perObject, most)
	}
}

// Given a disk that is full at any one of the times when room is taken on it, then the receive fails, with nothing left.
func TestReceiveOnAFullDisk(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(6)
	thin := src.PackObjects("main\n^main~2\n", "--thin")
	// Bases are looked up once: the test receives the pack some hundred times.
	bases := map[git.OID]git.Object{}
	for _, o := range index(t, src.packAll()).objects {
		bases[o.OID] = git.Object{Kind: o.Kind, Data: o.Data}
	}
	for full := int64(1); ; full++ {
		var asked atomic.Int64
		opts := pack.ReceiveOptions{Dir: t.TempDir(), MemoryPack: 1, Base: func(o git.OID) (git.Object, bool, error) {
			obj, ok := bases[o]
			return obj, ok, nil
		}}.ArraysInFiles().BeforeReserve(func(int64) error {
			if asked.Add(1) == full {
				return syscall.ENOSPC
			}
			return nil
		})
		q, err := pack.Receive(t.Context(), bytes.NewReader(thin), opts)
		if asked.Load() < full {
			if err != nil {
				t.Fatalf("Receive() with room enough = %v", err)
			}
			if full < 20 {
				t.Errorf("room was taken %d times only: the test tests nothing", full-1)
			}
			if q.Appended == 0 {
				t.Error("the pack was not thin: the test tests less than it says")
			}
			q.Close()
			return
		}
		if !errors.Is(err, syscall.ENOSPC) || errkind.Of(err) != errkind.Internal {
			t.Fatalf("Receive() on a disk that is full the time %d = %v, want ENOSPC, and no fault of the client", full, err)
		}
		wantNoFiles(t, opts.Dir)
	}
}

// What memory keeps of a pack for each root and each parent is bounded as well.
func TestReceiveBoundsRootsAndParents(t *testing.T) {
	t.Parallel()
	var blobs []git.Object
	for i := range 5 {
		blobs = append(blobs, git.Object{Kind: git.Blob, Data: fmt.Append(nil, i)})
	}
	tree := git.Object{Kind: git.Tree}
	who := "A <a@example.com> 1700000000 +0000"
	merge := func(parents int) git.Object {
		lines := strings.Repeat(fmt.Sprintf("parent %040d\n", 1), parents)
		return git.Object{Kind: git.Commit, Data: fmt.Appendf(nil, "tree %s\n%sauthor %s\ncommitter %s\n\n", git.Hash(tree.Kind, nil), lines, who, who)}
	}
	tests := []struct {
		name     string
		packfile []byte
		opts     pack.ReceiveOptions
		want     string // in the error; "" when it is fine
	}{
		{"as many roots as there may be", packOf(t, blobs...), pack.ReceiveOptions{MaxRoots: 5}, ""},
		{"too many roots", packOf(t, blobs...), pack.ReceiveOptions{MaxRoots: 4}, "more than 4 objects that none of its objects names"},
		{"as many parents as there may be", packOf(t, tree, merge(8)), pack.ReceiveOptions{MaxObjects: 2}, ""},
		{"too many parents", packOf(t, tree, merge(9)), pack.ReceiveOptions{MaxObjects: 2}, "more than 8 parents together"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.want == "" {
				checkReceived(t, receive(t, tt.packfile, tt.opts))
				return
			}
			tt.opts.Dir = t.TempDir()
			_, err := pack.Receive(t.Context(), bytes.NewReader(tt.packfile), tt.opts)
			if errkind.Of(err) != errkind.TooLarge || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Receive() = %v, want errkind.TooLarge with %q", err, tt.want)
			}
			wantNoFiles(t, tt.opts.Dir)
		})
	}
}
