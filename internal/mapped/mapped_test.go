package mapped_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/skep-dev/skep/internal/mapped"
)

// Given a file, its content is there after the file was closed, and what is written to it is in the file.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := mapped.File(f, 5, true)
	if err != nil || f.Close() != nil || string(b) != "conte" {
		t.Fatalf("File = %q, %v", b, err)
	}
	b[0] = 'C'
	if err := mapped.Release(b); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || mapped.Real && string(text) != "Content" {
		t.Errorf("the file has %q, %v", text, err)
	}
	closed, _ := os.Open(path)
	closed.Close()
	if _, err := mapped.File(closed, 5, false); err == nil {
		t.Error("a file that is closed was mapped")
	}
}
