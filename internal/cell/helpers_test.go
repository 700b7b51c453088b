package cell_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/bucket"
	"github.com/skep-dev/skep/internal/cell"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/git/revwalk"
)

const (
	main  git.RefName = "refs/heads/main"
	topic git.RefName = "refs/heads/topic"
)

// home is where a test's cell lives on disk.
type home struct {
	dir   string
	files *bucket.Bucket
	opts  cell.Options
}

const folder = "packs/ten_a/repo_b"

// newHome makes an empty repository.
func newHome(t *testing.T) *home {
	t.Helper()
	h := homeIn(t, t.TempDir())
	if err := cell.NewImages(h.opts.TempDir).Create(context.Background(), h.path(), main); err != nil {
		t.Fatal(err)
	}
	return h
}

// homeIn finds what is below dir.
func homeIn(t *testing.T, dir string) *home {
	t.Helper()
	tmp := filepath.Join(dir, "tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := bucket.Open(filepath.Join(dir, "files"))
	if err != nil {
		t.Fatal(err)
	}
	return &home{dir: dir, files: files, opts: cell.Options{TempDir: tmp, Objects: odb.NewCache(8 << 20)}}
}

func (h *home) path() string { return filepath.Join(h.dir, "cell.db") }

// open opens the cell until the test ends, or closes it before.
func (h *home) open(t *testing.T) *cell.Cell {
	t.Helper()
	c, err := cell.Open(context.Background(), h.path(), h.files, folder, h.opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		// Nothing temporary is left by whatever was done.
		left, err := os.ReadDir(h.opts.TempDir)
		if err != nil {
			t.Error(err)
		}
		for _, f := range left {
			t.Errorf("temporary file %s is left", f.Name())
		}
	})
	return c
}

// reopen closes the cell, as a restart does, and opens it again.
func (h *home) reopen(t *testing.T, c *cell.Cell) *cell.Cell {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return h.open(t)
}

func verify(t *testing.T, c *cell.Cell) {
	t.Helper()
	if err := c.Verify(context.Background(), nil); err != nil {
		t.Errorf("Verify: %v", err)
	}
}

// repo is a bare repository of real git, where tests make objects and compare results.
type repo struct {
	t    *testing.T
	dir  string
	tick int
}

func newRepo(t *testing.T) *repo {
	t.Helper()
	r := &repo{t: t, dir: t.TempDir()}
	r.git("init", "-q", "--bare", "-b", "main")
	return r
}

func (r *repo) git(args ...string) string { r.t.Helper(); return r.gitIn("", args...) }

func (r *repo) gitIn(stdin string, args ...string) string {
	r.t.Helper()
	return strings.TrimSuffix(string(r.gitRaw(stdin, args...)), "\n")
}

func (r *repo) gitRaw(stdin string, args ...string) []byte {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	date := fmt.Sprintf("%d +0000", 1700000000+r.tick)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE="+date,
		"GIT_COMMITTER_NAME=C", "GIT_COMMITTER_EMAIL=c@example.com", "GIT_COMMITTER_DATE="+date)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

func (r *repo) oid(args ...string) git.OID { r.t.Helper(); return git.MustParseOID(r.git(args...)) }

func (r *repo) blob(content string) git.OID {
	r.t.Helper()
	return git.MustParseOID(r.gitIn(content, "hash-object", "-w", "--stdin"))
}

// commit makes a commit with one file.
func (r *repo) commit(content string, parents ...git.OID) git.OID {
	r.t.Helper()
	r.tick++
	tree := r.gitIn(fmt.Sprintf("100644 blob %s\tfile\n", r.blob(content)), "mktree")
	args := []string{"commit-tree", tree, "-m", fmt.Sprint("commit ", r.tick)}
	for _, p := range parents {
		args = append(args, "-p", p.String())
	}
	return r.oid(args...)
}

// tag makes an annotated tag.
func (r *repo) tag(name string, of git.OID) git.OID {
	r.t.Helper()
	kind := r.git("cat-file", "-t", of.String())
	return git.MustParseOID(r.gitIn(fmt.Sprintf("object %s\ntype %s\ntag %s\ntagger T <t@example.com> 1700000000 +0000\n\nnote\n", of, kind, name), "mktag"))
}

// pack is a thin pack of what new ones lead to and old ones do not, as git push sends it.
func (r *repo) pack(news, olds []git.OID) []byte {
	r.t.Helper()
	var in strings.Builder
	for _, o := range news {
		fmt.Fprintln(&in, o)
	}
	for _, o := range olds {
		fmt.Fprintf(&in, "^%s\n", o)
	}
	return r.gitRaw(in.String(), "pack-objects", "--revs", "--stdout", "--thin", "--delta-base-offset", "-q")
}

// push sends what the updates need to the cell, and fails the test if an update is refused.
func (r *repo) push(c *cell.Cell, updates ...git.RefUpdate) {
	r.t.Helper()
	errs, err := r.tryPush(c, updates...)
	if err != nil {
		r.t.Fatalf("push: %v", err)
	}
	for i, err := range errs {
		if err != nil {
			r.t.Fatalf("push %s: %v", updates[i].Name, err)
		}
	}
}

func (r *repo) tryPush(c *cell.Cell, updates ...git.RefUpdate) ([]error, error) {
	r.t.Helper()
	return r.pushWith(c, protocol.UpdateOptions{Writer: protocol.Writer{Actor: "usr_x"}, Message: "push"}, updates...)
}

func (r *repo) pushWith(c *cell.Cell, opts protocol.UpdateOptions, updates ...git.RefUpdate) ([]error, error) {
	r.t.Helper()
	defer c.Hold()()
	var news, olds []git.OID
	for _, u := range updates {
		if !u.New.IsZero() {
			news = append(news, u.New)
		}
	}
	for _, ref := range c.View().Refs.List() {
		olds = append(olds, ref.OID)
	}
	if len(news) == 0 {
		return c.Update(context.Background(), nil, updates, opts)
	}
	q, err := c.Quarantine(context.Background(), bytes.NewReader(r.pack(news, olds)), nil)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := q.Close(); err != nil {
			r.t.Error(err)
		}
	}()
	return c.Update(context.Background(), q, updates, opts)
}

// create is an update that makes a reference.
func create(name git.RefName, o git.OID) git.RefUpdate { return git.RefUpdate{Name: name, New: o} }

func move(name git.RefName, from, to git.OID) git.RefUpdate {
	return git.RefUpdate{Name: name, Old: from, New: to}
}

// export clones the cell into a repository of real git: what a client would get that asks for every reference.
func export(t *testing.T, c *cell.Cell) *repo {
	t.Helper()
	defer c.Hold()()
	v := c.View()
	out := newRepo(t)
	if v.Refs.Len() == 0 {
		return out
	}
	g, err := v.Graph()
	if err != nil {
		t.Fatal(err)
	}
	var wants []git.OID
	var refs strings.Builder
	for _, r := range v.Refs.List() {
		wants = append(wants, r.OID)
		fmt.Fprintf(&refs, "create %s %s\n", r.Name, r.OID)
	}
	plan, err := g.Plan(t.Context(), revwalk.Request{Wants: wants})
	if err != nil {
		t.Fatal(err)
	}
	var pack bytes.Buffer
	if _, err := v.Objects.WritePack(t.Context(), &pack, plan.Send, odb.WriteOptions{OfsDelta: true}); err != nil {
		t.Fatal(err)
	}
	out.gitIn(pack.String(), "index-pack", "--stdin", "--strict")
	out.gitIn(refs.String(), "update-ref", "--stdin")
	out.git("symbolic-ref", "HEAD", string(v.Refs.Head))
	return out
}

// objects lists what all references lead to, sorted.
func (r *repo) objects() string {
	r.t.Helper()
	lines := strings.Split(r.git("rev-list", "--objects", "--all", "--no-object-names"), "\n")
	return strings.Join(sorted(lines), "\n")
}

func (r *repo) refs() string { r.t.Helper(); return r.git("for-each-ref") }

// same compares a cell with a repository of real git that was given the same pushes.
func same(t *testing.T, c *cell.Cell, want *repo) {
	t.Helper()
	got := export(t, c)
	if g, w := got.refs(), want.refs(); g != w {
		t.Errorf("references:\n%s\nwant:\n%s", g, w)
	}
	if g, w := got.objects(), want.objects(); g != w {
		t.Errorf("%d objects, want %d", strings.Count(g, "\n"), strings.Count(w, "\n"))
	}
	got.git("fsck", "--strict", "--no-dangling")
	// A clone holds nothing that no reference leads to.
	held := sorted(strings.Split(got.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)"), "\n"))
	if g, w := strings.Join(held, "\n"), want.objects(); g != w {
		t.Errorf("the clone holds %d objects, want %d", strings.Count(g, "\n"), strings.Count(w, "\n"))
	}
}
