package bare

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// Loose objects are all there, however few bytes of them may be in memory. A damaged one is missing.
func TestLooseObjectsOfAnySize(t *testing.T) {
	dir := filepath.Join(newRepository(t, ""), "objects")
	var want []git.OID
	for i, size := range []int{0, 1, 100, 5000, 70000} {
		path := filepath.Join(t.TempDir(), "blob")
		if err := os.WriteFile(path, bytes.Repeat([]byte{byte(i)}, size), 0o600); err != nil {
			t.Fatal(err)
		}
		id, err := git.ParseOID(runGit(t, filepath.Dir(dir), "hash-object", "-w", path))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, id)
	}
	damaged := want[3]
	if err := os.Remove(loosePath(dir, damaged)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(loosePath(dir, want[2]), loosePath(dir, damaged)); err != nil {
		t.Fatal(err)
	}
	for _, most := range []int64{0, 100, 1 << 20} {
		o := &objects{}
		p, err := o.openLooseWithin(context.Background(), dir, most, most)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range want {
			if _, ok := p.Find(id); ok == (id == damaged) {
				t.Errorf("with %d bytes in memory, %s is there: %v", most, id, ok)
			}
		}
		o.close()
	}
}

// A push of few but large objects stays a pack, whatever the limit says.
func TestLargeObjectsStayPacked(t *testing.T) {
	for _, tt := range []struct {
		size  int
		packs int
	}{{100, 0}, {maxLooseInMemory + 1, 1}} {
		r, err := Open(newRepository(t, ""), true)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		w, err := pack.NewWriter(&b, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Object(git.Object{Kind: git.Blob, Data: make([]byte, tt.size)}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		q, err := pack.Receive(context.Background(), &b, pack.ReceiveOptions{Check: anything})
		if err != nil {
			t.Fatal(err)
		}
		in, err := newIncoming(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := in.write(q, defaultUnpackLimit); err != nil {
			t.Fatal(err)
		}
		packs, err := filepath.Glob(filepath.Join(in.dir, "pack", "*.pack"))
		if err != nil || len(packs) != tt.packs {
			t.Errorf("an object of %d bytes makes %d packs (%v), want %d", tt.size, len(packs), err, tt.packs)
		}
		in.drop()
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
