package router_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/router"
)

const main git.RefName = "refs/heads/main"

var tenant = id.NewTenant()

// open opens a data directory until the test ends.
func open(tb testing.TB, dir string, opts router.Options) *router.Router {
	tb.Helper()
	r, err := router.Open(context.Background(), dir, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

func create(tb testing.TB, r *router.Router) id.Repo {
	tb.Helper()
	repo := id.NewRepo()
	if err := r.Create(context.Background(), tenant, repo, main); err != nil {
		tb.Fatal(err)
	}
	return repo
}

func use(tb testing.TB, r *router.Router, repo id.Repo) *router.Repo {
	tb.Helper()
	h, err := r.Repo(context.Background(), tenant, repo)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

func commit(tb testing.TB, h *router.Repo, content string) git.OID {
	tb.Helper()
	o, err := tryCommit(h, content)
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

func tryCommit(h *router.Repo, content string) (git.OID, error) {
	who := git.Signature{Name: []byte("A"), Email: []byte("a@example.com"), When: time.Unix(1700000000, 0)}
	return h.Commit(context.Background(), router.CommitRequest{
		Branch: main, Author: who, Committer: who, Message: "m\n",
		Changes: changes(content),
	})
}

func changes(content string) []odb.Change {
	return []odb.Change{{Path: "file", Data: []byte(content)}}
}

func tip(h *router.Repo) git.OID {
	ref, _ := h.View().Refs.Get(main)
	return ref.OID
}

func TestCreateUseRestart(t *testing.T) {
	dir := t.TempDir()
	r, err := router.Open(t.Context(), dir, router.Options{})
	if err != nil {
		t.Fatal(err)
	}
	repo := create(t, r)
	if err := r.Create(t.Context(), tenant, repo, main); !errors.Is(err, errkind.Exists) {
		t.Errorf("Create again: %v, want Exists", err)
	}
	h := use(t, r, repo)
	if h.View().Refs.Head != main {
		t.Errorf("HEAD names %s", h.View().Refs.Head)
	}
	o := commit(t, h, "one")
	h.Release()
	h.Release() // does nothing
	if _, err := r.Repo(t.Context(), tenant, id.NewRepo()); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Repo of nothing: %v, want NotFound", err)
	}
	if _, err := r.Repo(t.Context(), tenant, "repo_../../../etc/passwd"); !errors.Is(err, errkind.Invalid) {
		t.Errorf("Repo that climbs: %v, want Invalid", err)
	}
	if _, err := router.Open(t.Context(), dir, router.Options{}); !errors.Is(err, errkind.Unavailable) {
		t.Errorf("second Open of the directory: %v, want Unavailable", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Repo(t.Context(), tenant, repo); !errors.Is(err, errkind.Unavailable) {
		t.Errorf("Repo after Close: %v, want Unavailable", err)
	}

	r = open(t, dir, router.Options{})
	h = use(t, r, repo)
	defer h.Release()
	if tip(h) != o {
		t.Errorf("main is %s after a restart, want %s", tip(h), o)
	}
	if err := r.Verify(t.Context(), tenant, repo, nil); err != nil {
		t.Error(err)
	}
	var all []id.Repo
	for c, err := range r.Cells() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	if !slices.Equal(all, []id.Repo{repo}) {
		t.Errorf("Cells() = %v", all)
	}
}

func TestEmptyRepositoryIsSmall(t *testing.T) {
	dir := t.TempDir()
	r, err := router.Open(t.Context(), dir, router.Options{})
	if err != nil {
		t.Fatal(err)
	}
	use(t, r, create(t, r)).Release()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	var sum int64
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		sum += fi.Size()
		return err
	})
	if err != nil || sum > 64<<10 {
		t.Errorf("an empty repository takes %d bytes: %v", sum, err)
	}
	t.Logf("an empty repository takes %d bytes", sum)
}

func TestOpenCellsAreBounded(t *testing.T) {
	r := open(t, t.TempDir(), router.Options{MaxOpenCells: 2})
	a, b, c := create(t, r), create(t, r), create(t, r)
	ha, hb := use(t, r, a), use(t, r, b)
	if _, err := r.Repo(t.Context(), tenant, c); !errors.Is(err, errkind.Unavailable) {
		t.Errorf("third cell in use: %v, want Unavailable", err)
	}
	cell := ha.Cell
	ha.Release()
	hc := use(t, r, c) // closes a
	hc.Release()
	hb.Release()
	ha = use(t, r, a)
	defer ha.Release()
	if ha.Cell == cell {
		t.Error("the cell was not closed to make room")
	}
	commit(t, ha, "x")
}

// waitForFiles waits until no more than so many files are open.
func waitForFiles(t *testing.T, most int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); openFiles(t) > most; {
		if time.Now().After(deadline) {
			t.Fatalf("idle cells hold files: %d open, want %d", openFiles(t), most)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestIdleCellsAreClosed(t *testing.T) {
	r := open(t, t.TempDir(), router.Options{IdleAfter: time.Millisecond})
	repo := create(t, r)
	before := openFiles(t)
	h := use(t, r, repo)
	commit(t, h, "x")
	old := h.Cell
	h.Release()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	waitForFiles(t, before)
	h = use(t, r, repo)
	if h.Cell == old {
		t.Error("the cell is still open")
	}
	// One that is in use stays, while another that became idle later is closed.
	inUse := openFiles(t)
	other := use(t, r, create(t, r))
	commit(t, other, "z")
	other.Release()
	waitForFiles(t, inUse)
	commit(t, h, "y")
	h.Release()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// openFiles counts file descriptors.
func openFiles(tb testing.TB) int {
	tb.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Skipf("no /proc on %s: file descriptors cannot be counted", runtime.GOOS)
	}
	return len(list)
}

func TestDeleteWhileInUse(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, router.Options{})
	repo := create(t, r)
	h := use(t, r, repo)
	o := commit(t, h, "one")
	big := commit(t, h, strings.Repeat("some more\n", 1<<20)+noise(2<<20))
	clone(t, h, big)
	if err := r.Delete(t.Context(), tenant, repo); err != nil {
		t.Fatal(err)
	}
	waitForNoFiles(t, filepath.Join(dir, "cache"))
	clone(t, h, big)
	if _, err := r.Repo(t.Context(), tenant, repo); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Repo after Delete: %v, want NotFound", err)
	}
	for _, want := range []git.OID{o, big} {
		if _, err := h.View().Objects.Read(want); err != nil {
			t.Errorf("read under way: %v", err)
		}
	}
	if _, err := tryCommit(h, "two"); !errors.Is(err, errkind.Unavailable) {
		t.Errorf("commit after Delete: %v, want Unavailable", err)
	}
	h.Release()
	waitForNoFiles(t, filepath.Join(dir, "cache"))
	if err := r.Delete(t.Context(), tenant, repo); err != nil {
		t.Errorf("Delete again: %v", err)
	}
	for _, sub := range []string{"cells", "files"} {
		for _, path := range filesBelow(t, filepath.Join(dir, sub)) {
			t.Errorf("%s is left", path)
		}
	}
}

// clone fetches a commit, by an answer that is kept.
func clone(t *testing.T, h *router.Repo, want git.OID) {
	t.Helper()
	var in strings.Builder
	for _, line := range []string{"command=fetch", "", "want " + want.String(), "done"} {
		if line == "" {
			in.WriteString("0001")
			continue
		}
		fmt.Fprintf(&in, "%04x%s", 4+len(line), line)
	}
	in.WriteString("0000")
	var out bytes.Buffer
	err := h.UploadPack(t.Context(), strings.NewReader(in.String()), &out, protocol.UploadOptions{Version: protocol.V2, Stateless: true})
	if err != nil || !bytes.Contains(out.Bytes(), []byte("PACK")) {
		t.Errorf("clone: %d bytes, %v", out.Len(), err)
	}
}

func filesBelow(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return paths
}

// waitForNoFiles gives what makes an answer the time to notice that nobody wants it.
func waitForNoFiles(t *testing.T, dir string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); len(filesBelow(t, dir)) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("files are left: %v", filesBelow(t, dir))
		}
	}
}

func noise(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

func TestDeleteOfWhatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, router.Options{})
	repo := create(t, r)
	path := filepath.Join(dir, "cells", string(repo)[len(repo)-2:], string(repo)+".db")
	if err := os.WriteFile(path, []byte(strings.Repeat("junk", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Repo(t.Context(), tenant, repo); err == nil || errkind.Of(err) != errkind.Internal {
		t.Errorf("Repo of junk: %v, want Internal", err)
	}
	if err := r.Delete(t.Context(), tenant, repo); err != nil {
		t.Error(err)
	}
	if _, err := r.Repo(t.Context(), tenant, repo); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Repo after Delete: %v, want NotFound", err)
	}
}

func TestBackgroundCompaction(t *testing.T) {
	r := open(t, t.TempDir(), router.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	repo := create(t, r)
	most := 0
	for i := range 200 {
		h := use(t, r, repo)
		commit(t, h, fmt.Sprint(i))
		most = max(most, h.Stats().Packs)
		h.Release()
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if most > 100 {
		t.Errorf("up to %d packs: nothing is compacted", most)
	}
	if err := r.Verify(t.Context(), tenant, repo, nil); err != nil {
		t.Error(err)
	}
}

// Everything at once, with room for fewer cells than there are.
func TestManyUsers(t *testing.T) {
	before := runtime.NumGoroutine()
	r, err := router.Open(t.Context(), t.TempDir(), router.Options{MaxOpenCells: 4, IdleAfter: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	var repos []id.Repo
	for range 8 {
		repos = append(repos, create(t, r))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	commits := map[id.Repo]int{}
	for w := range 6 {
		wg.Go(func() {
			for i := range 40 {
				repo := repos[(w*7+i*3)%len(repos)]
				h, err := r.Repo(t.Context(), tenant, repo)
				if errors.Is(err, errkind.Unavailable) {
					continue
				}
				if err != nil {
					t.Error(err)
					continue
				}
				if _, err := tryCommit(h, fmt.Sprint(w, i)); err != nil {
					t.Error(err)
				} else {
					mu.Lock()
					commits[repo]++
					mu.Unlock()
				}
				h.Release()
			}
		})
	}
	wg.Wait()
	for _, repo := range repos {
		if err := r.Verify(t.Context(), tenant, repo, nil); err != nil {
			t.Error(err)
		}
		h := use(t, r, repo)
		log, err := h.RefLog(t.Context(), main, 1000)
		if err != nil || len(log) != commits[repo] {
			t.Errorf("%d entries in the log of %d commits: %v", len(log), commits[repo], err)
		}
		h.Release()
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}

func TestCloseWhileInUse(t *testing.T) {
	dir := t.TempDir()
	r, err := router.Open(t.Context(), dir, router.Options{})
	if err != nil {
		t.Fatal(err)
	}
	repo := create(t, r)
	h := use(t, r, repo)
	o := commit(t, h, noise(2<<20))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.View().Objects.Read(o); err != nil {
		t.Errorf("read after Close: %v", err)
	}
	if _, err := tryCommit(h, "x"); !errors.Is(err, errkind.Unavailable) {
		t.Errorf("commit after Close: %v, want Unavailable", err)
	}
	h.Release()
	h = use(t, open(t, dir, router.Options{}), repo)
	defer h.Release()
	if tip(h) != o {
		t.Errorf("main is %s, want %s", tip(h), o)
	}
}
