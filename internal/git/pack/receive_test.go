package pack_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// tail stands for what follows a pack in its stream: whatever Receive does, it must stay there.
const tail = "0000 what the protocol says next"

// places are where the arrays of a receive can lie: whatever is right for one is right for the other.
func places(opts pack.ReceiveOptions) map[string]pack.ReceiveOptions {
	return map[string]pack.ReceiveOptions{"arrays on the heap": opts, "arrays in files": opts.ArraysInFiles()}
}

// receive receives a pack with its arrays on the heap, and sees that with arrays in files the same comes out.
func receive(t *testing.T, packfile []byte, opts pack.ReceiveOptions) *pack.Received {
	t.Helper()
	q := receiveOnce(t, packfile, opts)
	if opts.Progress != nil {
		return q // it shall not hear of everything twice
	}
	same := receiveOnce(t, packfile, opts.ArraysInFiles())
	if !bytes.Equal(packBytes(t, q), packBytes(t, same)) || !bytes.Equal(q.Idx, same.Idx) || !bytes.Equal(q.Table, same.Table) {
		t.Error("pack, index or table is another one with arrays in files")
	}
	if !slices.Equal(q.Roots, same.Roots) || q.Appended != same.Appended {
		t.Errorf("with arrays in files Roots are %v, Appended %d; want %v, %d", same.Roots, same.Appended, q.Roots, q.Appended)
	}
	// Which of several objects is said to name one is left to chance.
	if !slices.EqualFunc(q.Outside, same.Outside, func(a, b pack.Link) bool { return a.OID == b.OID && a.Kind == b.Kind }) {
		t.Errorf("with arrays in files Outside is %v, want %v", same.Outside, q.Outside)
	}
	return q
}

// receiveOnce receives a pack from a stream that goes on after it, into a directory of its own.
func receiveOnce(t *testing.T, packfile []byte, opts pack.ReceiveOptions) *pack.Received {
	t.Helper()
	opts.Dir = t.TempDir()
	r := bufio.NewReader(io.MultiReader(bytes.NewReader(packfile), strings.NewReader(tail)))
	q, err := pack.Receive(t.Context(), r, opts)
	if err != nil {
		t.Fatalf("Receive() = %v", err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
		wantNoFiles(t, opts.Dir)
	})
	if rest, err := io.ReadAll(r); err != nil || string(rest) != tail {
		t.Errorf("after Receive the stream has %q, %v, want %q", rest, err, tail)
	}
	return q
}

// wantNoFiles sees that nothing is left in a directory: no file, and none that is still open or mapped.
func wantNoFiles(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	if runtime.GOOS != "linux" {
		return // no other system says what is open
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, dir+"/") {
			t.Errorf("left mapped: %s", line)
		}
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		// Others close and open files meanwhile.
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(name, dir+"/") {
			t.Errorf("left open: %s", name)
		}
	}
}

// packBytes is the packfile that was received.
func packBytes(t *testing.T, q *pack.Received) []byte {
	t.Helper()
	if q.Path == "" {
		return q.Data
	}
	b, err := os.ReadFile(q.Path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkReceived compares what Receive made with what git index-pack makes of the same pack, and with links that are
// computed in the plainest way.
func checkReceived(t *testing.T, q *pack.Received) {
	t.Helper()
	checkReceivedAs(t, q, index(t, packBytes(t, q)))
}

func checkReceivedAs(t *testing.T, q *pack.Received, g *gitPack) {
	t.Helper()
	if !bytes.Equal(q.Idx, g.idx) {
		t.Errorf("index is not the one that git index-pack writes")
	}
	if !bytes.Equal(q.Table, pack.TableOf(t, g.data, g.objects, q.Appended)) {
		t.Errorf("table is not the one that git's answers make")
	}
	kinds := map[git.OID]git.Kind{}
	for _, o := range g.objects {
		kinds[o.OID] = o.Kind
	}
	named, outside := map[git.OID]bool{}, map[git.OID]git.Kind{}
	for i, o := range g.objects {
		for _, l := range linksWithKinds(t, o) {
			if i < len(g.objects)-q.Appended {
				named[l.OID] = true
			}
			if kinds[l.OID] == 0 {
				outside[l.OID] = l.Kind
			}
		}
	}
	var roots []git.OID
	for o := range kinds {
		if !named[o] {
			roots = append(roots, o)
		}
	}
	slices.SortFunc(roots, git.OID.Compare)
	if diff := gocmp.Diff(roots, q.Roots); diff != "" {
		t.Errorf("Roots (-want +got):\n%s", diff)
	}
	if !slices.IsSortedFunc(q.Outside, func(a, b pack.Link) int { return a.OID.Compare(b.OID) }) {
		t.Error("Outside is not sorted")
	}
	got := map[git.OID]git.Kind{}
	for _, l := range q.Outside {
		got[l.OID] = l.Kind
		if kinds[l.From] == 0 {
			t.Errorf("%s is said to be named by %s, which is not in the pack", l.OID, l.From)
		}
	}
	if diff := gocmp.Diff(outside, got); diff != "" || len(got) != len(q.Outside) {
		t.Errorf("Outside (-want +got):\n%s", diff)
	}
	if q.Pack.Len() != len(g.objects) || q.Pack.Size() != int64(len(g.data)) {
		t.Errorf("Pack has %d objects in %d bytes, want %d in %d", q.Pack.Len(), q.Pack.Size(), len(g.objects), len(g.data))
	}
	if err := q.Pack.Verify(t.Context(), nil); err != nil {
		t.Errorf("Verify() = %v", err)
	}
}

func linksWithKinds(t *testing.T, o pack.GitObject) (links []pack.Link) {
	t.Helper()
	switch o.Kind {
	case git.Commit:
		c, err := git.ParseCommit(o.Data)
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, pack.Link{OID: c.Tree, Kind: git.Tree})
		for _, p := range c.Parents {
			links = append(links, pack.Link{OID: p, Kind: git.Commit})
		}
	case git.Tag:
		c, err := git.ParseTag(o.Data)
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, pack.Link{OID: c.Object, Kind: c.Kind})
	case git.Tree:
		for e, err := range git.TreeEntries(o.Data) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Mode != git.ModeGitlink {
				links = append(links, pack.Link{OID: e.OID, Kind: e.Mode.Kind()})
			}
		}
	case git.Blob:
	}
	return links
}

// Every shape of pack that git writes is received with what git index-pack makes of it.
func TestReceiveMakesWhatGitMakes(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(150)
	src.Git("tag", "-a", "-m", "tag of a blob", "v4", "main:text/file")
	src.Git("tag", "-a", "-m", "tag of a tag of a tag", "v5", "v2")
	src.octopus()
	deep := newOracle(t)
	deep.versions(4500)
	flat := newOracle(t)
	flat.wideTree(50_000)
	tests := []struct {
		name     string
		packfile []byte
	}{
		{"offset deltas", src.packAll("--delta-base-offset")},
		{"reference deltas", src.packAll()},
		{"no deltas", src.packAll("--depth=0")},
		{"level 0", src.packAll("--compression=0")},
		{"deepest chains", deep.packAll("--delta-base-offset", "--depth=4095", "--window=2")},
		{"50,000 files in one tree", flat.packAll("--delta-base-offset")},
		{"empty", src.PackOnly("")},
		{"one object", src.PackOnly(src.Git("rev-parse", "main:text/file"))},
		{"without blobs", src.packAll("--filter=blob:none")},
	}
	for _, tt := range tests {
		g := index(t, tt.packfile)
		for _, opts := range []struct {
			name string
			pack.ReceiveOptions
		}{
			{"in memory", pack.ReceiveOptions{MemoryPack: 1 << 30}},
			{"in a file", pack.ReceiveOptions{MemoryPack: 1}},
			{"one worker", pack.ReceiveOptions{MemoryPack: 1, Workers: 1}},
			{"many workers", pack.ReceiveOptions{Workers: 8}},
		} {
			t.Run(tt.name+"/"+opts.name, func(t *testing.T) {
				t.Parallel()
				q := receive(t, tt.packfile, opts.ReceiveOptions)
				if !bytes.Equal(packBytes(t, q), tt.packfile) {
					t.Error("the pack is not kept as it came")
				}
				if inMemory := q.Path == ""; inMemory != (opts.MemoryPack == 1<<30) && opts.MemoryPack != 0 {
					t.Errorf("pack of %d bytes is in memory: %v", len(tt.packfile), inMemory)
				}
				checkReceivedAs(t, q, g)
			})
		}
	}
}

// octopus adds a merge of five branches.
func (o oracle) octopus() {
	o.TB.Helper()
	args := []string{"commit-tree", "-m", "octopus", "main^{tree}", "-p", "main"}
	for i := range 4 {
		tip := o.Git("commit-tree", "-m", fmt.Sprint("arm", i), "main^{tree}", "-p", fmt.Sprint("main~", i+2))
		args = append(args, "-p", strings.TrimSpace(tip))
	}
	o.Git("update-ref", "refs/heads/octopus", strings.TrimSpace(o.Git(args...)))
}

// wideTree makes two commits of a tree with many files.
func (o oracle) wideTree(files int) {
	o.TB.Helper()
	var b bytes.Buffer
	for i := range 2 {
		fmt.Fprintf(&b, "commit refs/heads/main\ncommitter C <c@example.com> 1700000000 +0000\ndata 0\n")
		for f := range files {
			if i == 0 || f%1000 == 0 {
				data := fmt.Sprintf("file %d version %d", f%100, i)
				fmt.Fprintf(&b, "M 100644 inline file-%06d\ndata %d\n%s\n", f, len(data), data)
			}
		}
	}
	o.FastImport(b.String())
}

// A thin pack is completed with the bases it lacks, as git index-pack --fix-thin completes it.
func TestReceiveCompletesThinPacks(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(150)
	for _, args := range [][]string{{"--delta-base-offset"}, {}} {
		for _, from := range []string{"main~1", "main~20", "main~100"} {
			t.Run(fmt.Sprint(from, args), func(t *testing.T) {
				t.Parallel()
				thin := src.PackObjects("main\n^"+from+"\n", append([]string{"--thin"}, args...)...)
				opts := pack.ReceiveOptions{}
				if _, err := pack.Receive(t.Context(), bytes.NewReader(thin), opts); errkind.Of(err) != errkind.Invalid {
					t.Errorf("Receive() of a thin pack without Base = %v, want errkind.Invalid", err)
				}
				asked := map[git.OID]bool{}
				opts.Base = func(o git.OID) (git.Object, bool, error) {
					asked[o] = true
					return src.Read(o)[0], true, nil
				}
				q := receive(t, thin, opts)
				if q.Appended == 0 || q.Appended != len(asked) {
					t.Errorf("Appended = %d, asked for %d", q.Appended, len(asked))
				}
				checkReceived(t, q)
				for i := range q.Appended {
					if o := q.Pack.OID(pack.Pos(q.Pack.Len() - 1 - i)); !asked[o] {
						t.Errorf("%s is among the last entries, but was not asked for", o)
					}
				}
				for _, l := range q.Outside {
					src.Git("cat-file", "-e", l.OID.String())
				}
			})
		}
	}
}

// Any reader will do, and none is read too far: one that has all at once, one that comes byte by byte, one that
// returns an error along with the last bytes.
func TestReceiveReadsNoByteTooMany(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(40)
	packs := map[string][]byte{
		"some":  src.packAll("--delta-base-offset"),
		"empty": src.PackOnly(""),
		"one":   src.PackOnly(src.Git("rev-parse", "main:noise")),
	}
	readers := map[string]func(io.Reader) io.Reader{
		"plain":       func(r io.Reader) io.Reader { return struct{ io.Reader }{r} },
		"one byte":    iotest.OneByteReader,
		"half":        iotest.HalfReader,
		"small bufio": func(r io.Reader) io.Reader { return bufio.NewReaderSize(r, 16) },
		"bufio":       func(r io.Reader) io.Reader { return bufio.NewReader(r) },
		"big bufio":   func(r io.Reader) io.Reader { return bufio.NewReaderSize(r, 1<<20) },
		"data err":    func(r io.Reader) io.Reader { return bufio.NewReader(iotest.DataErrReader(r)) },
	}
	for name, packfile := range packs {
		for how, wrap := range readers {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				r := wrap(io.MultiReader(bytes.NewReader(packfile), strings.NewReader(tail)))
				q, err := pack.Receive(t.Context(), r, pack.ReceiveOptions{Dir: t.TempDir()})
				if err != nil {
					t.Fatalf("Receive() = %v", err)
				}
				defer q.Close()
				if !bytes.Equal(packBytes(t, q), packfile) {
					t.Error("the pack is not what was sent")
				}
				if rest, err := io.ReadAll(r); err != nil || string(rest) != tail {
					t.Errorf("the stream goes on with %q, %v, want %q", rest, err, tail)
				}
				if err := q.Pack.Verify(t.Context(), nil); err != nil {
					t.Errorf("Verify() = %v", err)
				}
			})
		}
	}
}

// Given a stream that says nothing after the pack, as a client on SSH does until it gets its report.
func TestReceiveDoesNotWaitForMore(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(40)
	packfile := src.packAll()
	for _, buffered := range []bool{true, false} {
		pr, pw := io.Pipe()
		go pw.Write(packfile)
		var r io.Reader = pr
		if buffered {
			r = bufio.NewReader(pr)
		}
		q, err := pack.Receive(t.Context(), r, pack.ReceiveOptions{Dir: t.TempDir()})
		if err != nil {
			t.Fatalf("Receive() = %v", err)
		}
		q.Close()
	}
}

// What objects name of others decides over Outside: a kind that cannot be is refused.
func TestReceiveChecksKindsOfLinks(t *testing.T) {
	t.Parallel()
	blob := git.Object{Kind: git.Blob, Data: []byte("content")}
	blobID := git.Hash(blob.Kind, blob.Data)
	tree := func(m git.Mode, name string, o git.OID) git.Object {
		return git.Object{Kind: git.Tree, Data: git.AppendEntry(nil, git.Entry{Mode: m, Name: []byte(name), OID: o})}
	}
	sig := "A <a@example.com> 1700000000 +0000"
	commit := func(tree git.OID, parents ...git.OID) git.Object {
		data := fmt.Sprintf("tree %s\n", tree)
		for _, p := range parents {
			data += fmt.Sprintf("parent %s\n", p)
		}
		return git.Object{Kind: git.Commit, Data: []byte(data + "author " + sig + "\ncommitter " + sig + "\n\nmessage\n")}
	}
	tag := func(o git.OID, kind string) git.Object {
		return git.Object{Kind: git.Tag, Data: fmt.Appendf(nil, "object %s\ntype %s\ntag v1\ntagger %s\n\nmessage\n", o, kind, sig)}
	}
	id := func(o git.Object) git.OID { return git.Hash(o.Kind, o.Data) }
	good := tree(git.ModeFile, "a", blobID)
	other := git.OID{1, 2, 3}
	tests := []struct {
		name    string
		objects []git.Object
		want    string // in the error; "" when it is fine
	}{
		{"all is well", []git.Object{commit(id(good)), good, blob, tag(blobID, "blob")}, ""},
		{"gitlinks name nothing", []git.Object{tree(git.ModeGitlink, "a", blobID), blob}, ""},
		{"a blob as a directory", []git.Object{tree(git.ModeDir, "a", blobID), blob}, "is a blob, but is named as a tree"},
		{"a tree as a file", []git.Object{tree(git.ModeFile, "a", id(good)), good, blob}, "is a tree, but is named as a blob"},
		{"a commit's tree is a blob", []git.Object{commit(blobID), blob}, "is a blob, but is named as a tree"},
		{"a parent is a tree", []git.Object{commit(id(good), id(good)), good, blob}, "is named both as a tree and as a commit"},
		{"a tag lies", []git.Object{tag(blobID, "commit"), blob}, "is a blob, but is named as a commit"},
		{"two opinions on an outside object", []git.Object{tag(other, "commit"), tag(other, "tree")}, "is named both as a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			q, err := pack.Receive(t.Context(), bytes.NewReader(packOf(t, tt.objects...)), pack.ReceiveOptions{Dir: dir})
			if tt.want == "" {
				if err != nil {
					t.Fatalf("Receive() = %v", err)
				}
				defer q.Close()
				checkReceived(t, q)
				return
			}
			if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Receive() = %v, want errkind.Invalid with %q", err, tt.want)
			}
		})
	}
}

// packOf makes a packfile of whole objects.
func packOf(tb testing.TB, objects ...git.Object) []byte {
	tb.Helper()
	var entries [][]byte
	for _, o := range objects {
		entries = append(entries, pack.RawEntry(o.Kind, int64(len(o.Data)), o.Data))
	}
	return byHand(tb, entries...)
}

// Any repository that git makes goes through Receive in any packing that git makes of it, and comes out the same.
func TestReceiveAnyRepository(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 0))
			src := newOracle(t)
			src.randomHistory(rnd, 10+rnd.IntN(60))
			args := []string{fmt.Sprintf("--window=%d", 1+rnd.IntN(50)), fmt.Sprintf("--depth=%d", rnd.IntN(200)), fmt.Sprintf("--compression=%d", rnd.IntN(10))}
			if rnd.IntN(2) == 0 {
				args = append(args, "--delta-base-offset")
			}
			q := receive(t, src.packAll(args...), pack.ReceiveOptions{MemoryPack: int64(rnd.IntN(1 << 20)), Workers: 1 + rnd.IntN(4)})
			checkReceived(t, q)

			dst := newOracle(t)
			dst.GitIn(string(packBytes(t, q)), "unpack-objects", "-q", "--strict")
			want := src.Git("rev-list", "--objects", "--all")
			for line := range strings.Lines(src.Git("for-each-ref", "--format=%(objectname) %(refname)")) {
				id, ref, _ := strings.Cut(strings.TrimSpace(line), " ")
				dst.Git("update-ref", ref, id)
			}
			if got := dst.Git("rev-list", "--objects", "--all"); got != want {
				t.Error("rev-list --objects --all differs")
			}
			dst.Git("fsck", "--strict")
		})
	}
}

// randomHistory makes branches that fork, merge, and change files of all sorts.
func (o oracle) randomHistory(rnd *rand.Rand, commits int) {
	o.TB.Helper()
	var b bytes.Buffer
	texts := map[string][]string{}
	for i := 1; i <= commits; i++ {
		fmt.Fprintf(&b, "commit refs/heads/b%d\nmark :%d\ncommitter C <c@example.com> %d -0330\ndata 4\nmsg\n\n", rnd.IntN(3), i, 1600000000+rnd.IntN(1e8))
		if i > 1 {
			fmt.Fprintf(&b, "from :%d\n", 1+rnd.IntN(i-1))
		}
		for p := 1; p < i && rnd.IntN(4) == 0; p++ {
			fmt.Fprintf(&b, "merge :%d\n", p)
		}
		for range 1 + rnd.IntN(5) {
			name := fmt.Sprintf("d%d/e%d/f%d", rnd.IntN(3), rnd.IntN(3), rnd.IntN(6))
			switch rnd.IntN(12) {
			case 0:
				fmt.Fprintf(&b, "M 160000 %040x sub%d\n", 1+rnd.Uint64(), rnd.IntN(3))
				continue
			case 1:
				fmt.Fprintf(&b, "D d%d\n", rnd.IntN(3))
				continue
			}
			lines := texts[name]
			for range 1 + rnd.IntN(40) {
				lines = slices.Insert(slices.Clone(lines), rnd.IntN(len(lines)+1), fmt.Sprintf("%x %x", rnd.Uint64(), rnd.Uint32()))
			}
			texts[name] = lines
			data := strings.Join(lines, "\n")
			mode := cmp.Or([]string{"100644", "100755", "120000"}[rnd.IntN(3)], "")
			fmt.Fprintf(&b, "M %s inline %s\ndata %d\n%s\n", mode, name, len(data), data)
		}
	}
	fmt.Fprintf(&b, "tag v1\nfrom :1\ntagger T <t@example.com> 1700000000 +0000\ndata 1\nt\n")
	o.FastImport(b.String())
}

func TestReceiveReportsProgress(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(60)
	last := map[string]int{}
	total := map[string]int{}
	var stages []string
	q := receive(t, src.packAll(), pack.ReceiveOptions{Workers: 1, Progress: func(stage string, done, of int) {
		if !slices.Contains(stages, stage) {
			stages = append(stages, stage)
		}
		if done < last[stage] || done > of || total[stage] != 0 && total[stage] != of {
			t.Errorf("Progress(%q, %d, %d) after %d of %d", stage, done, of, last[stage], total[stage])
		}
		last[stage], total[stage] = done, of
	}})
	if diff := gocmp.Diff([]string{"Receiving objects", "Resolving deltas"}, stages); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
	if got := last["Receiving objects"]; got != q.Pack.Len() || total["Receiving objects"] != got {
		t.Errorf("received %d objects of %d, want %d", got, total["Receiving objects"], q.Pack.Len())
	}
	if got := last["Resolving deltas"]; got == 0 || got != total["Resolving deltas"] {
		t.Errorf("resolved %d of %d", got, total["Resolving deltas"])
	}
}

// A receive that is cancelled ends with the context's error and leaves nothing, at whatever stage it is.
func TestReceiveIsCancelled(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(150)
	packfile := src.packAll("--delta-base-offset")
	for _, stage := range []string{"", "Receiving objects", "Resolving deltas"} {
		for where, opts := range places(pack.ReceiveOptions{Dir: t.TempDir(), MemoryPack: 1}) {
			ctx, cancel := context.WithCancelCause(t.Context())
			if stage == "" {
				cancel(nil)
			}
			opts.Progress = func(s string, done, _ int) {
				if s == stage && done > 20 {
					cancel(nil)
				}
			}
			if _, err := pack.Receive(ctx, bytes.NewReader(packfile), opts); !errors.Is(err, context.Canceled) {
				t.Errorf("Receive() cancelled in %q, %s = %v, want context.Canceled", stage, where, err)
			}
			wantNoFiles(t, opts.Dir)
			cancel(nil)
		}
	}
}

// A stream that breaks is the client's or the network's doing: its error comes through.
func TestReceivePassesOnReadErrors(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(20)
	packfile := src.packAll()
	broken := errors.New("connection reset")
	for _, at := range []int{0, 5, 12, 20, len(packfile) / 2, len(packfile) - 5} {
		for where, opts := range places(pack.ReceiveOptions{Dir: t.TempDir(), MemoryPack: 1}) {
			r := io.MultiReader(bytes.NewReader(packfile[:at]), iotest.ErrReader(broken))
			if _, err := pack.Receive(t.Context(), r, opts); !errors.Is(err, broken) {
				t.Errorf("Receive() of a stream that breaks at %d, %s = %v, want %v", at, where, err, broken)
			}
			wantNoFiles(t, opts.Dir)
		}
	}
}

// Close leaves the files alone that the caller has moved to their places.
func TestReceivedFilesCanBeMoved(t *testing.T) {
	t.Parallel()
	src := newOracle(t)
	src.history(5)
	packfile := src.packAll()
	dir := t.TempDir()
	q, err := pack.Receive(t.Context(), bytes.NewReader(packfile), pack.ReceiveOptions{Dir: dir, MemoryPack: 1})
	if err != nil {
		t.Fatal(err)
	}
	place := t.TempDir()
	want := map[string][]byte{q.Path: packfile, q.IdxPath: bytes.Clone(q.Idx), q.TablePath: bytes.Clone(q.Table)}
	for path := range want {
		if err := os.Rename(path, filepath.Join(place, filepath.Base(path))); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Errorf("Close() after the files were moved = %v", err)
	}
	for path, want := range want {
		if got, err := os.ReadFile(filepath.Join(place, filepath.Base(path))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("moved %s has %d bytes, %v, want %d", filepath.Base(path), len(got), err, len(want))
		}
	}
	wantNoFiles(t, dir)
}
