package pack

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/mapped"
)

func testArena(t *testing.T, after int) *arena {
	t.Helper()
	a := newArena(t.TempDir(), after, reserveBlocks)
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Errorf("close() = %v", err)
		}
	})
	return a
}

// An array keeps what is in it when it grows, from the heap into a file and from there into a larger one; what is new in
// it is zero.
func TestArenaGrows(t *testing.T) {
	t.Parallel()
	a := testArena(t, 100)
	var s []int32
	for i := range int32(5000) {
		if err := push(a, &s, i+1); err != nil {
			t.Fatal(err)
		}
	}
	for i, v := range s[:cap(s)] {
		if want := int32(i + 1); i < 5000 && v != want || i >= 5000 && v != 0 {
			t.Fatalf("element %d of %d is %d", i, len(s), v)
		}
	}
	if !mapped.Real {
		return
	}
	if len(a.maps) != 1 {
		t.Errorf("%d files are mapped for one array, want 1", len(a.maps))
	}
	release(a, s)
	release(a, make([]int32, 10)) // of the heap: nothing to do
	release[int32](a, nil)
	if len(a.maps) != 0 {
		t.Errorf("%d files are mapped after release, want none", len(a.maps))
	}
}

// The parts of an array lie where the whole would.
func TestArenaTakesPartsAsAWhole(t *testing.T) {
	t.Parallel()
	a := testArena(t, 1000)
	for _, tt := range []struct{ n, parts, files int }{{1000, 1, 0}, {1001, 1, 1}, {100, 10, 0}, {101, 10, 1}} {
		s, err := newPart[uint64](a, tt.n, tt.parts)
		if err != nil || len(s) != tt.n {
			t.Fatalf("newPart(%d, %d) has %d elements, %v", tt.n, tt.parts, len(s), err)
		}
		if mapped.Real && len(a.maps) != tt.files {
			t.Errorf("newPart(%d, %d) maps %d files, want %d", tt.n, tt.parts, len(a.maps), tt.files)
		}
		release(a, s)
	}
}

// An array whose file finds no room stays as it was.
func TestArenaOnAFullDisk(t *testing.T) {
	t.Parallel()
	if !mapped.Real {
		return // there are no files
	}
	full := false
	a := newArena(t.TempDir(), 10, func(f *os.File, size int64) error {
		if full {
			return syscall.ENOSPC
		}
		return reserveBlocks(f, size)
	})
	var s []int32
	if err := grow(a, &s, 20); err != nil {
		t.Fatal(err)
	}
	s = append(s, 7)
	full = true
	if err := grow(a, &s, 100); !errors.Is(err, syscall.ENOSPC) || len(s) != 1 || s[0] != 7 || len(a.maps) != 1 {
		t.Errorf("grow() = %v, the array is %v in %d files", err, s, len(a.maps))
	}
	if err := a.close(); err != nil || len(a.maps) != 0 {
		t.Errorf("close() = %v, %d files are mapped", err, len(a.maps))
	}
}

// IDs are sorted as they compare, however they are spread; equal ones by their numbers.
func TestSortIDs(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(9, 10))
	for _, n := range []int{0, 1, 2, 255, 256, 257, 1000, 70_000} {
		for _, free := range []int{20, 18, 1} { // so many last bytes of an ID differ
			ids := make([]git.OID, n)
			for i := range ids {
				for k := range free {
					ids[i][19-k] = byte(rnd.Uint32())
				}
			}
			x, err := sortIDs(testArena(t, 100), n, func(i int32) *git.OID { return &ids[i] })
			if err != nil {
				t.Fatal(err)
			}
			want := make([]int32, n)
			for i := range want {
				want[i] = int32(i)
			}
			slices.SortStableFunc(want, func(a, b int32) int { return ids[a].Compare(ids[b]) })
			if !slices.Equal(x.nums, want) {
				t.Errorf("%d IDs that differ in %d bytes are not sorted", n, free)
			}
			for i := range min(n, 1000) {
				if !slices.Contains(x.bucket(&ids[i]), int32(i)) {
					t.Fatalf("%d IDs that differ in %d bytes: %s is not in its bucket", n, free, ids[i])
				}
			}
		}
	}
}

// A table with something in each of its parts, sizes of more than 31 bits among it, is the one that its parts make one by
// one.
func TestWriteTable(t *testing.T) {
	t.Parallel()
	mem := testArena(t, 2)
	p := &tableParts{
		objects: &objects{
			mem:  mem,
			kind: []git.Kind{git.Commit, git.Blob, git.Blob, git.Commit, git.Blob},
			size: []uint32{200, 1<<31 - 1, 1 << 31, 5, 1<<32 - 1},
			base: []int32{none, none, 1, 0, 2},
			oid:  []git.OID{{9}, {1}, {7}, {3}, {2}},
		},
		order:    []int32{1, 4, 3, 2, 0},
		commits:  &commitLog{mem: mem, most: 10},
		roots:    []int32{0, 4},
		outside:  []Link{{OID: git.OID{5}}, {OID: git.OID{5, 1}}},
		appended: 1,
	}
	p.isRef = newBitset(5)
	p.isRef.set(3)
	b := newTableBuilder(5)
	b.appended = 1
	for i, num := range p.order {
		e := tableEntry{kind: p.kind[num], size: int64(p.size[num]), base: Pos(p.base[num]), idx: uint32(i), refDelta: num == 3}
		b.set(Pos(num), e)
	}
	for _, c := range []Commit{{Pos: 3, Tree: git.OID{4}, When: -6}, {Pos: 0, Tree: git.OID{1}, When: 5, Parents: []git.OID{{2}, {3}}}} {
		if err := p.commits.add(int32(c.Pos), c.Tree, c.When, c.Parents); err != nil {
			t.Fatal(err)
		}
		b.commit(c.Pos, c.Tree, c.When, c.Parents)
	}
	b.root(0)
	b.root(4)
	b.name(git.OID{5})
	b.name(git.OID{5, 1})
	var got bytes.Buffer
	if err := withSideWriter(&got, func(w *sideWriter) error { return writeTable(w, p, git.OID{42}) }); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), b.finish(git.OID{42})) {
		t.Error("writeTable writes another table")
	}
	if _, err := parseTable(got.Bytes()); err != nil {
		t.Errorf("parseTable = %v", err)
	}
}
