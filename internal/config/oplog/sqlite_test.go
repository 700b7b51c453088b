package oplog_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/oplog/oplogtest"
	"github.com/skep-dev/skep/internal/errkind"
)

func TestSQLite(t *testing.T) {
	oplogtest.Run(t, func(tb testing.TB) func() oplog.Store {
		tb.Helper()
		dir := filepath.Join(tb.TempDir(), "config")
		return func() oplog.Store { return openDir(tb, dir) }
	})
}

func openDir(tb testing.TB, dir string) oplog.Store {
	tb.Helper()
	s, err := oplog.OpenDir(tb.Context(), dir)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestOpenFile: whoever comes first makes the document, also when several come at once, and all have the same one.
func TestOpenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	logs := make([]oplog.Log, 4)
	var wg sync.WaitGroup
	for i := range logs {
		wg.Go(func() {
			var err error
			if logs[i], err = oplog.OpenFile(t.Context(), path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	want := oplogtest.Chain(oplog.Head{}, 3, func(int) int { return 20 })
	if err := logs[0].Append(t.Context(), oplog.Head{}, want); err != nil {
		t.Fatal(err)
	}
	for _, log := range logs {
		if head, err := log.Head(t.Context()); err != nil || head != oplogtest.After(want) {
			t.Errorf("head is %v, %v", head, err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestFilesOfOthers: what else is in the folder is no document, and is left alone.
func TestFilesOfOthers(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	defer s.Close()
	for name, text := range map[string]string{"Notes.db": "", "notes.txt": "hello", "image.db": "this is no database, and long enough that SQLite says so"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Create(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	got, err := s.List(t.Context(), "", 0)
	if diff := cmp.Diff([]string{"image", "shop"}, got); err != nil || diff != "" {
		t.Errorf("list: %v\n%s", err, diff)
	}
	if _, err := s.Open(t.Context(), "image"); err == nil || errkind.Of(err) != errkind.Internal {
		t.Errorf("open what is no database: %v", err)
	}
	for what, err := range map[string]error{"create": s.Create(t.Context(), "image"), "delete": s.Delete(t.Context(), "image")} {
		if err == nil {
			t.Errorf("%s what is no database: no error", what)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "image.db")); err != nil || len(text) < 40 {
		t.Errorf("the file is gone: %q, %v", text, err)
	}
}

// TestHalfMade: a file without a document, as a process that was killed leaves it, is no document, and in nobody's way.
func TestHalfMade(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	defer s.Close()
	if err := os.WriteFile(filepath.Join(dir, "shop.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), "shop"); errkind.Of(err) != errkind.NotFound {
		t.Errorf("open: %v", err)
	}
	if err := s.Create(t.Context(), "shop"); err != nil {
		t.Errorf("create: %v", err)
	}
	if err := s.Create(t.Context(), "shop"); errkind.Of(err) != errkind.Exists {
		t.Errorf("create again: %v", err)
	}
}
