package pack_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// Every kind of pack that git writes reads as git reads it, object by object.
func TestPackReadsAsGit(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(120)
	deep := newOracle(t)
	deep.versions(4500)
	tests := []struct {
		name     string
		packfile []byte
		depth    int // at least, of the longest chain
	}{
		{"offset deltas", src.packAll("--delta-base-offset"), 20},
		{"reference deltas", src.packAll(), 20},
		{"no deltas", src.packAll("--depth=0"), 0},
		{"level 0", src.packAll("--compression=0"), 0},
		{"deep chains", deep.packAll("--delta-base-offset", "--depth=4095", "--window=2"), 500},
		{"deepest chain", chain(t, 4095), 4095},
		{"empty", src.PackOnly(""), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := index(t, tt.packfile)
			p := g.open(t)
			checkPack(t, g, p)
			if got := longestChain(p); got < tt.depth {
				t.Errorf("longest chain = %d, the test wants %d", got, tt.depth)
			}
			if err := p.Verify(t.Context(), nil); err != nil {
				t.Errorf("Verify() = %v", err)
			}
		})
	}
}

// versions makes a tree of n blobs that are much alike.
func (o oracle) versions(n int) {
	o.TB.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "commit refs/heads/main\ncommitter C <c@example.com> 1700000000 +0000\ndata 0\n")
	for i := range n {
		text := version(i)
		fmt.Fprintf(&b, "M 100644 inline f%d\ndata %d\n%s\n", i, len(text), text)
	}
	o.FastImport(b.String())
}

func version(i int) []byte {
	return fmt.Appendf(bytes.Repeat([]byte("0123456789abcdef\n"), 10), "%09d\n", i)
}

// chain makes a packfile of one blob and a chain of n deltas, each the base of the next.
func chain(tb testing.TB, n int) []byte {
	tb.Helper()
	whole, err := pack.AppendEntry(nil, git.Object{Kind: git.Blob, Data: version(0)})
	if err != nil {
		tb.Fatal(err)
	}
	entries := [][]byte{whole}
	for i := range n {
		text := version(i + 1)
		delta := pack.AppendDeltaSize(pack.AppendDeltaSize(nil, int64(len(text))), int64(len(text)))
		delta = appendCopy(delta, 0, len(text)-10)
		delta = append(append(delta, 10), text[len(text)-10:]...)
		entries = append(entries, pack.RawDelta(delta, int64(len(entries[i])), git.OID{}))
	}
	return byHand(tb, entries...)
}

func longestChain(p *pack.Pack) (longest int) {
	depth := make([]int, p.Len())
	for at := range depth { // git puts bases first
		if base, ok := p.Base(pack.Pos(at)); ok {
			depth[at] = depth[base] + 1
			longest = max(longest, depth[at])
		}
	}
	return longest
}

// checkPack compares everything that a Pack says with what git says.
func checkPack(t *testing.T, g *gitPack, p *pack.Pack) {
	t.Helper()
	if p.Len() != len(g.objects) || p.Size() != int64(len(g.data)) {
		t.Fatalf("Len(), Size() = %d, %d, want %d, %d", p.Len(), p.Size(), len(g.objects), len(g.data))
	}
	cache := mapCache{}
	for i, want := range g.objects {
		at := pack.Pos(i)
		if got, ok := p.Find(want.OID); !ok || got != at {
			t.Fatalf("Find(%s) = %d, %v, want %d", want.OID, got, ok, at)
		}
		offset, length := p.Extent(at)
		end := int64(len(g.data) - git.OIDSize)
		if i+1 < len(g.objects) {
			end = g.objects[i+1].Offset
		}
		if p.OID(at) != want.OID || p.Kind(at) != want.Kind || p.ObjectSize(at) != int64(len(want.Data)) ||
			offset != want.Offset || offset+length != end {
			t.Fatalf("entry %d = %s %s %d at %d..%d, want %s %s %d at %d..%d", i, p.OID(at), p.Kind(at), p.ObjectSize(at),
				offset, offset+length, want.OID, want.Kind, len(want.Data), want.Offset, end)
		}
		if i%(1+len(g.objects)/300) != 0 && i != len(g.objects)-1 {
			continue // without a cache, deep chains take quadratic time
		}
		for _, bases := range []pack.BaseCache{nil, cache} {
			got, err := p.Read(at, bases)
			if err != nil || got.Kind != want.Kind || !bytes.Equal(got.Data, want.Data) {
				t.Fatalf("Read(%d) = %s of %d bytes, %v, want %s of %d bytes", at, got.Kind, len(got.Data), err, want.Kind, len(want.Data))
			}
		}
		if got := readAll(t, p, at); !bytes.Equal(got, want.Data) {
			t.Fatalf("OpenObject(%d) has %d bytes, want %d", at, len(got), len(want.Data))
		}
	}
	checkCommits(t, g, p)
}

func checkCommits(t *testing.T, g *gitPack, p *pack.Pack) {
	t.Helper()
	var commits []pack.Commit
	for c := range p.Commits() {
		c.Parents = slices.Clone(c.Parents)
		commits = append(commits, c)
	}
	if len(commits) != p.CommitCount() {
		t.Errorf("Commits() yields %d, CommitCount() = %d", len(commits), p.CommitCount())
	}
	for i, want := range g.objects {
		if want.Kind != git.Commit {
			continue
		}
		tree, parents, when, err := git.CommitLinks(want.Data, nil)
		if err != nil || len(commits) == 0 {
			t.Fatalf("commit %s is not among the rows: %v", want.OID, err)
		}
		c := commits[0]
		commits = commits[1:]
		if c.Pos != pack.Pos(i) || c.Tree != tree || c.When != when || !slices.Equal(c.Parents, parents) {
			t.Fatalf("Commits() yields %+v for %s", c, want.OID)
		}
	}
	if len(commits) != 0 {
		t.Errorf("Commits() yields %d too many", len(commits))
	}
}

func readAll(t *testing.T, p *pack.Pack, at pack.Pos) []byte {
	t.Helper()
	r, err := p.OpenObject(t.Context(), at, nil)
	if err != nil {
		t.Fatalf("OpenObject(%d) = %v", at, err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read object %d: %v", at, err)
	}
	if err := r.Close(); err != nil {
		t.Fatalf("close object %d: %v", at, err)
	}
	return data
}

func TestPackFindsWhatIsThereAndNothingElse(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(60)
	g := index(t, src.packAll())
	p := g.open(t)
	for _, o := range g.objects {
		for _, change := range []int{0, 1, 10, 19} {
			no := o.OID
			no[change] ^= 1
			if at, ok := p.Find(no); ok {
				t.Errorf("Find(%s) = %d, but there is only %s", no, at, o.OID)
			}
		}
		for _, digits := range []int{1, 4, 5, 39, 40} {
			prefix := o.OID.String()[:digits]
			var want []git.OID
			for _, other := range g.objects {
				if strings.HasPrefix(other.OID.String(), prefix) {
					want = append(want, other.OID)
				}
			}
			slices.SortFunc(want, git.OID.Compare)
			if got := p.FindPrefix(prefix, 1000); !slices.Equal(got, want) {
				t.Errorf("FindPrefix(%q) = %v, want %v", prefix, got, want)
			}
			if got := p.FindPrefix(prefix, 1); !slices.Equal(got, want[:1]) {
				t.Errorf("FindPrefix(%q, 1) = %v, want %v", prefix, got, want[:1])
			}
		}
	}
	for _, o := range []git.OID{{}, {255, 255, 255, 255, 255, 255}} {
		if at, ok := p.Find(o); ok {
			t.Errorf("Find(%s) = %d, want nothing", o, at)
		}
	}
	for _, bad := range []string{"", "x", "ABCD", strings.Repeat("0", 41)} {
		if got := p.FindPrefix(bad, 10); got != nil {
			t.Errorf("FindPrefix(%q) = %v, want nothing", bad, got)
		}
	}
}

// Git can be made to write long offsets for small packs.
func TestPackReadsLongOffsets(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(10)
	g := index(t, src.packAll(), "--index-version=2,0x100")
	checkPack(t, g, g.open(t))
}

func TestIndexIsThatOfGit(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(60)
	for _, packfile := range [][]byte{src.packAll(), src.PackOnly("")} {
		g := index(t, packfile)
		got := pack.WriteIndexOf(g.objects, pack.IndexCRCs(t, g.idx), git.OID(packfile[len(packfile)-git.OIDSize:]))
		if !bytes.Equal(got, g.idx) {
			t.Errorf("index of %d objects is not what git index-pack writes", len(g.objects))
		}
	}
}

func TestPackRootsAreWhatNothingNames(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(30)
	p := index(t, src.packAll()).open(t)
	var got []string
	for at := range p.Roots() {
		got = append(got, p.OID(at).String())
	}
	want := strings.Fields(src.Git("rev-parse", "main", "v2", "v3"))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("Roots() = %v, want %v", got, want)
	}
}

// Given an object that is too big for memory, and others that are deltas of it or have it as a delta's result.
func TestOpenObjectStreamsWhatReadRefuses(t *testing.T) {
	t.Parallel()
	const size = pack.MaxReadBytes + 12345
	big := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	copy(big[5000:], "a mark that is not elsewhere")
	whole, err := pack.AppendEntry(nil, git.Object{Kind: git.Blob, Data: big})
	if err != nil {
		t.Fatal(err)
	}
	// The second object is the first one with other bytes in front; the third a few bytes out of the second.
	other := append([]byte("front"), big...)
	delta := pack.AppendDeltaSize(pack.AppendDeltaSize(nil, size), size+5)
	delta = append(append(delta, 5), "front"...)
	for at := 0; at < size; at += 0xffffff {
		delta = appendCopy(delta, at, min(0xffffff, size-at))
	}
	small := pack.AppendDeltaSize(pack.AppendDeltaSize(nil, size+5), 100)
	small = appendCopy(small, 5000, 100)
	second, third := pack.RawDelta(delta, int64(len(whole)), git.OID{}), pack.RawDelta(small, 0, git.Hash(git.Blob, other))

	g := index(t, byHand(t, whole, second, third))
	dir := t.TempDir()
	p := g.openIn(t, pack.NewRoom(dir, 3*size, time.Minute))
	wants := [][]byte{big, other, other[5000:5100]}
	for i, want := range wants {
		at := pack.Pos(i)
		r, err := p.OpenObject(t.Context(), at, nil)
		if err != nil {
			t.Fatalf("OpenObject(%d) = %v", at, err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("OpenObject(%d) gives %d bytes, %v, want %d", at, len(got), err, len(want))
		}
		if err := r.Close(); err != nil {
			t.Errorf("close object %d: %v", at, err)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
			t.Errorf("OpenObject(%d) leaves %v, %v", at, files, err)
		}
	}
	for at := range pack.Pos(2) {
		if _, err := p.Read(at, nil); errkind.Of(err) != errkind.TooLarge {
			t.Errorf("Read(%d) of a big object = %v, want errkind.TooLarge", at, err)
		}
	}
	if got, err := p.Read(2, nil); err != nil || !bytes.Equal(got.Data, wants[2]) {
		t.Errorf("Read(2) = %q, %v, want %q", got.Data, err, wants[2])
	}
	if err := p.Verify(t.Context(), nil); err != nil {
		t.Errorf("Verify() = %v", err)
	}
	// All of it was done in the room, and nowhere else.
	p = g.openIn(t, pack.NewRoom(filepath.Join(dir, "missing"), 3*size, time.Minute))
	_, openErr := p.OpenObject(t.Context(), 1, nil)
	_, readErr := p.Read(2, nil)
	for what, err := range map[string]error{"OpenObject": openErr, "Read": readErr, "Verify": p.Verify(t.Context(), nil)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s() without the room's folder = %v, want fs.ErrNotExist", what, err)
		}
	}
}

func appendCopy(delta []byte, offset, size int) []byte {
	delta = append(delta, 0xff)
	delta = binary.LittleEndian.AppendUint32(delta, uint32(offset))
	return append(delta, byte(size), byte(size>>8), byte(size>>16))
}

// Deltas that name each other in a circle do not hang a reader: their chain is too long.
func TestReadRefusesCycles(t *testing.T) {
	t.Parallel()
	a, b := []byte("the first of two objects"), []byte("the second of two objects")
	delta := func(base, result []byte) []byte {
		d := pack.AppendDeltaSize(pack.AppendDeltaSize(nil, int64(len(base))), int64(len(result)))
		return append(append(d, byte(len(result))), result...)
	}
	oidA, oidB := git.Hash(git.Blob, a), git.Hash(git.Blob, b)
	first := pack.RawDelta(delta(b, a), 0, oidB)
	packfile := byHand(t, first, pack.RawDelta(delta(a, b), 0, oidA))
	g := &gitPack{data: packfile, objects: []pack.GitObject{
		{OID: oidA, Kind: git.Blob, Data: a, Offset: 12},
		{OID: oidB, Kind: git.Blob, Data: b, Offset: int64(12 + len(first))},
	}}
	g.idx = pack.WriteIndexOf(g.objects, nil, git.OID(packfile[len(packfile)-git.OIDSize:]))
	p := g.open(t)
	if _, err := p.Read(0, nil); errkind.Of(err) != errkind.Invalid {
		t.Errorf("Read() in a cycle = %v, want errkind.Invalid", err)
	}
	if _, err := p.OpenObject(t.Context(), 1, mapCache{}); errkind.Of(err) != errkind.Invalid {
		t.Errorf("OpenObject() in a cycle = %v, want errkind.Invalid", err)
	}
	if err := p.Verify(t.Context(), nil); errkind.Of(err) != errkind.Invalid {
		t.Errorf("Verify() of a cycle = %v, want errkind.Invalid", err)
	}
}

// A header may claim any size; the table's is what counts, and what cannot be is not allocated.
func TestReadRefusesSizesThatLie(t *testing.T) {
	t.Parallel()
	data := []byte("some bytes")
	tests := []struct {
		name  string
		entry []byte
		size  int // what the table says
	}{
		{"header says less than there is", pack.RawEntry(git.Blob, 5, data), 5},
		{"header says more than there is", pack.RawEntry(git.Blob, 50, data), 50},
		{"header and table differ", pack.RawEntry(git.Blob, 10, data), 11},
		{"size that cannot be", pack.RawEntry(git.Blob, 60<<20, data), 60 << 20},
		{"stream that cannot be", pack.RawEntry(git.Blob, 100<<20, data), 100 << 20},
		{"kind of its own", pack.RawEntry(git.Tree, 10, data), 10},
		{"bytes between entries", append(pack.RawEntry(git.Blob, 10, data), 0), 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			packfile := byHand(t, tt.entry)
			g := &gitPack{data: packfile, objects: []pack.GitObject{
				{OID: git.Hash(git.Blob, data), Kind: git.Blob, Data: make([]byte, tt.size), Offset: 12},
			}}
			g.idx = pack.WriteIndexOf(g.objects, nil, git.OID(packfile[len(packfile)-git.OIDSize:]))
			p := g.open(t)
			if o, err := p.Read(0, nil); errkind.Of(err) != errkind.Invalid && errkind.Of(err) != errkind.TooLarge {
				t.Errorf("Read() = %d bytes, %v, want errkind.Invalid", len(o.Data), err)
			}
			r, err := p.OpenObject(t.Context(), 0, nil)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
			if errkind.Of(err) != errkind.Invalid {
				t.Errorf("OpenObject() = %v, want errkind.Invalid", err)
			}
		})
	}
}
