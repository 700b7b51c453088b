package archive_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/archive"
	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
)

// gitRepo is the oracle.
type gitRepo struct{ gittest.Repo }

func newGitRepo(tb testing.TB) gitRepo {
	tb.Helper()
	return gitRepo{gittest.New(tb)}
}

func (r gitRepo) store() *odb.Store {
	r.TB.Helper()
	packfile := r.PackObjects("", "--all")
	s := odb.NewStore(nil, nil, odb.NewCache(8<<20))
	q, err := s.Receive(r.TB.Context(), bytes.NewReader(packfile), pack.ReceiveOptions{Dir: r.TB.TempDir()})
	if err != nil {
		r.TB.Fatal(err)
	}
	r.TB.Cleanup(func() { q.Close() })
	return q.Store
}

// file is one entry of a commit that write makes.
type file struct{ mode, path, data string }

// write commits files, whose paths may be any bytes.
func (r gitRepo) write(files []file) {
	r.TB.Helper()
	var in strings.Builder
	fmt.Fprintf(&in, "commit refs/heads/main\ncommitter Cy <cy@example.org> 1700000001 +0000\ndata 1\nx\n")
	for _, f := range files {
		in.WriteString(gittest.Modify(f.mode, f.path, f.data))
	}
	r.FastImport(in.String())
}

// odd is every kind of entry, and names of every awkward length and spelling.
func odd() []file {
	files := []file{
		{"100644", "README", "hello\n"},
		{"100755", "bin/run", "#!/bin/sh\n"},
		{"120000", "bin/link", "run"},
		{"120000", "longlink", strings.Repeat("t", 100) + "/../" + strings.Repeat("u", 100)},
		{"160000", "sub", strings.Repeat("12", 20)},
		{"160000", "a/sub", strings.Repeat("12", 20)},
		{"100644", "empty", ""},
		{"100644", "bad\xff\xfename", "bytes"},
		{"100644", "ünïcode/näme", "utf-8"},
		{"100644", "with blank\tand\ttab", "x"},
		{"100644", "new\nline", "x"},
		{"100644", `quote"back\slash`, "x"},
		{"100644", "a.b", "sorts before a/"},
		{"100644", "a/b", "x"},
		{"100644", "-rf", "x"},
		{"100644", "block", strings.Repeat("x", 512)},
		{"100644", "block1", strings.Repeat("x", 513)},
	}
	for _, n := range []int{85, 90, 91, 92, 93, 99, 100, 101, 150, 160, 250} {
		name := strings.Repeat("n", n)
		files = append(files, file{"100644", name, name}, file{"100644", "d" + name + "/" + name[1:], "in " + name})
	}
	files = append(files,
		file{"100644", strings.Repeat("deep/", 80) + "f", "x"},
		file{"120000", strings.Repeat("deep/", 80) + "l", strings.Repeat("../", 50)},
		file{"100644", strings.Repeat("d", 154) + "/f", "x"},
		file{"100644", strings.Repeat("e", 155) + "/f", "x"},
		file{"100644", strings.Repeat("f", 156) + "/f", "x"},
	)
	return files
}

func options(r gitRepo, prefix string) archive.Options {
	return archive.Options{Prefix: prefix, Commit: r.OID("main"), When: time.Unix(1700000001, 0)}
}

func write(t *testing.T, s *odb.Store, tree git.OID, f archive.Format, opts archive.Options) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := archive.Write(t.Context(), &out, s, tree, f, opts); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gunzip(t *testing.T, b []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	tar, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return tar
}

// TestTarIsGits: the tar has the bytes that git archive writes.
func TestTarIsGits(t *testing.T) {
	r := newGitRepo(t)
	r.write(odd())
	s := r.store()
	for _, prefix := range []string{"", "demo-v1/", "demo", strings.Repeat("p", 60) + "/", strings.Repeat("p", 160) + "/"} {
		want := r.Git("archive", "--format=tar", "--prefix="+prefix, "main")
		got := gunzip(t, write(t, s, r.OID("main^{tree}"), archive.TarGz, options(r, prefix)))
		if string(got) != want {
			i := 0
			for i < len(got) && i < len(want) && got[i] == want[i] {
				i++
			}
			t.Errorf("prefix %q: %d bytes, want %d; they differ at %d:\n got %q\nwant %q", prefix, len(got), len(want), i,
				got[i/512*512:min(len(got), i/512*512+512)], want[i/512*512:min(len(want), i/512*512+512)])
		}
	}
}

// TestTarOfATree: without a commit there is no comment, as git does for a tree.
func TestTarOfATree(t *testing.T) {
	r := newGitRepo(t)
	r.write(odd())
	s := r.store()
	with := gunzip(t, write(t, s, r.OID("main^{tree}"), archive.TarGz, options(r, "")))
	without := gunzip(t, write(t, s, r.OID("main^{tree}"), archive.TarGz, archive.Options{When: time.Unix(1700000001, 0)}))
	const comment = 1024 // a header and a record
	if end := bytes.TrimRight(with[comment:], "\x00"); !bytes.HasPrefix(without, end) || len(without)%10240 != 0 {
		t.Errorf("the tar of a tree is not that of its commit less the comment")
	}
}

func TestTarUnpacks(t *testing.T) {
	r := newGitRepo(t)
	r.write(odd())
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "tar", "-xz", "-C", dir)
	cmd.Stdin = bytes.NewReader(write(t, r.store(), r.OID("main^{tree}"), archive.TarGz, options(r, "demo/")))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	for _, f := range odd() {
		name := dir + "/demo/" + f.path
		var got string
		switch f.mode {
		case "160000":
			if st, err := os.Lstat(name); err != nil || !st.IsDir() {
				t.Errorf("submodule %q is no directory", f.path)
			}
			continue
		case "120000":
			got, _ = os.Readlink(name)
		default:
			b, _ := os.ReadFile(name)
			got = string(b)
			if st, err := os.Stat(name); err != nil || (st.Mode()&0o100 != 0) != (f.mode == "100755") {
				t.Errorf("%q has mode %v, want %s", f.path, st, f.mode)
			}
		}
		if got != f.data {
			t.Errorf("%q = %q, want %q", f.path, got, f.data)
		}
	}
}

// TestZipIsGits: the zip has the entries, modes and contents of git's, in its order.
func TestZipIsGits(t *testing.T) {
	r := newGitRepo(t)
	r.write(odd())
	s := r.store()
	for _, prefix := range []string{"", "demo-v1/"} {
		want := listZip(t, []byte(r.Git("archive", "--format=zip", "--prefix="+prefix, "main")))
		got := listZip(t, write(t, s, r.OID("main^{tree}"), archive.Zip, options(r, prefix)))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("prefix %q (-git +ours):\n%s", prefix, diff)
		}
	}
}

func listZip(t *testing.T, b []byte) []string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	out := []string{"comment " + z.Comment}
	for _, f := range z.File {
		rc, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(rc)
		if err != nil {
			t.Fatalf("%q: %v", f.Name, err)
		}
		kind := "file"
		switch {
		case f.Mode()&fs.ModeSymlink != 0:
			kind = "link"
		case strings.HasSuffix(f.Name, "/"):
			kind = "dir"
		case f.Mode()&0o100 != 0:
			kind = "exec"
		}
		out = append(out, fmt.Sprintf("%s %q %q %d", kind, f.Name, data, f.Modified.Unix()))
	}
	return out
}

func TestEqualInputGivesEqualBytes(t *testing.T) {
	r := newGitRepo(t)
	r.write(odd())
	s := r.store()
	for _, f := range []archive.Format{archive.TarGz, archive.Zip} {
		opts := options(r, "demo/")
		first := write(t, s, r.OID("main^{tree}"), f, opts)
		opts.When = opts.When.In(time.FixedZone("far", 9*3600))
		if !bytes.Equal(first, write(t, s, r.OID("main^{tree}"), f, opts)) {
			t.Errorf("%s: two archives of the same tree differ", f)
		}
	}
}

func TestLargeFileIsStreamed(t *testing.T) {
	r := newGitRepo(t)
	data := strings.Repeat("0123456789abcdef", 5<<20/16) + "end"
	r.write([]file{{"100644", "large", data}})
	s := r.store()
	want := r.Git("archive", "--format=tar", "main")
	if got := gunzip(t, write(t, s, r.OID("main^{tree}"), archive.TarGz, options(r, ""))); string(got) != want {
		t.Error("the tar of a large file differs from git's")
	}
	if got := listZip(t, write(t, s, r.OID("main^{tree}"), archive.Zip, options(r, ""))); !strings.Contains(got[1], data) {
		t.Error("the zip of a large file does not have its content")
	}
}

func TestWriteRefuses(t *testing.T) {
	r := newGitRepo(t)
	r.write([]file{{"100644", "f", "x"}})
	s, tree := r.store(), r.OID("main^{tree}")
	tests := []struct {
		name string
		tree git.OID
		f    archive.Format
		opts archive.Options
		want errkind.Kind
	}{
		{"unknown format", tree, "rar", archive.Options{}, errkind.Unsupported},
		{"no such tree", git.Hash(git.Tree, []byte("x")), archive.Zip, archive.Options{}, errkind.NotFound},
		{"a blob", r.OID("main:f"), archive.TarGz, archive.Options{}, errkind.Invalid},
		{"a commit", r.OID("main"), archive.TarGz, archive.Options{}, errkind.Invalid},
		{"absolute prefix", tree, archive.Zip, archive.Options{Prefix: "/etc/"}, errkind.Invalid},
		{"climbing prefix", tree, archive.Zip, archive.Options{Prefix: "../x/"}, errkind.Invalid},
		{"climbing prefix", tree, archive.Zip, archive.Options{Prefix: ".."}, errkind.Invalid},
		{"climbing prefix", tree, archive.TarGz, archive.Options{Prefix: "a/../../x/"}, errkind.Invalid},
		{"odd prefix", tree, archive.TarGz, archive.Options{Prefix: "a//b/"}, errkind.Invalid},
		{"NUL in prefix", tree, archive.TarGz, archive.Options{Prefix: "a\x00/"}, errkind.Invalid},
		{"long prefix", tree, archive.TarGz, archive.Options{Prefix: strings.Repeat("a", 5000) + "/"}, errkind.Invalid},
	}
	for _, tt := range tests {
		err := archive.Write(t.Context(), io.Discard, s, tt.tree, tt.f, tt.opts)
		if err == nil || errkind.Of(err) != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := archive.Write(ctx, io.Discard, s, tree, archive.Zip, archive.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	full := errors.New("the client has gone")
	for _, f := range []archive.Format{archive.TarGz, archive.Zip} {
		if err := archive.Write(t.Context(), failing{full}, s, tree, f, archive.Options{}); !errors.Is(err, full) {
			t.Errorf("%s to a broken writer: %v", f, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestPlainTarLevelsAndPaths: what git archive can besides, with git as the oracle.
func TestPlainTarLevelsAndPaths(t *testing.T) {
	r := newGitRepo(t)
	r.write(odd())
	s, tree := r.store(), r.OID("main^{tree}")
	for _, paths := range [][]string{nil, {"README"}, {"a"}, {"a/b", "bin"}, {"deep", "sub"}, {"a/b", "a"}} {
		opts := options(r, "demo/")
		opts.Paths = paths
		want := r.Git(append([]string{"archive", "--format=tar", "--prefix=demo/", "main", "--"}, paths...)...)
		if got := write(t, s, tree, archive.Tar, opts); string(got) != want {
			t.Errorf("paths %q: the tar has %d bytes, want %d", paths, len(got), len(want))
		}
	}
	plain := write(t, s, tree, archive.Tar, options(r, ""))
	for _, level := range []int{archive.Stored, 1, 9} {
		opts := options(r, "")
		opts.Level = level
		zipped := write(t, s, tree, archive.TarGz, opts)
		if !bytes.Equal(gunzip(t, zipped), plain) {
			t.Errorf("level %d: the tar inside is another", level)
		}
		if big := len(zipped) > len(plain); big != (level == archive.Stored) {
			t.Errorf("level %d: %d bytes of %d", level, len(zipped), len(plain))
		}
		if diff := cmp.Diff(listZip(t, write(t, s, tree, archive.Zip, options(r, ""))), listZip(t, write(t, s, tree, archive.Zip, opts))); diff != "" {
			t.Errorf("level %d: the zip holds something else:\n%s", level, diff)
		}
	}
	var told []string
	opts := archive.Options{Paths: []string{"a/b"}, Each: func(path string) { told = append(told, path) }}
	write(t, s, tree, archive.Tar, opts)
	if diff := cmp.Diff([]string{"a/", "a/b"}, told); diff != "" {
		t.Errorf("told of (-want +got):\n%s", diff)
	}
	for _, path := range []string{"none", "README/x", "a/none", "a//b", ""} {
		err := archive.Write(t.Context(), io.Discard, s, tree, archive.Tar, archive.Options{Paths: []string{path}})
		if !errors.Is(err, errkind.NotFound) {
			t.Errorf("path %q: %v", path, err)
		}
	}
	if err := archive.Write(t.Context(), io.Discard, s, tree, archive.Tar, archive.Options{Level: 10}); !errors.Is(err, errkind.Invalid) {
		t.Errorf("level 10: %v", err)
	}
}
