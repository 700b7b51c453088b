package bare

import (
	"os"
	"path/filepath"
	"testing"
)

// Tables are neither written through a link, nor where somebody else may write.
func TestFoldersOfTables(t *testing.T) {
	kept := func(dir string) bool {
		keepTable(filepath.Join(dir, "pack-1"), []byte("i"), []byte("t"))
		return exists(filepath.Join(dir, "pack-1.table"))
	}
	own := filepath.Join(t.TempDir(), "info", "skep")
	if !kept(own) || !ownFolder(own) {
		t.Error("no table is kept in a folder of this user")
	}
	elsewhere, link := t.TempDir(), filepath.Join(t.TempDir(), "skep")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	if kept(link) || ownFolder(link) {
		t.Error("a table is kept through a link")
	}
	shared := t.TempDir()
	if err := os.Chmod(shared, 0o777); err != nil { //nolint:gosec // what the test is about
		t.Fatal(err)
	}
	if kept(shared) || ownFolder(shared) {
		t.Error("a table is kept where everybody may write")
	}
}
