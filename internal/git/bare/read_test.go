package bare

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
)

// A pipe that nobody writes to, a device and an endless file do not keep a request.
func TestFilesThatAreNone(t *testing.T) {
	dir := newRepository(t, "")
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readFile(pipe, 10); !errors.Is(err, errkind.Invalid) {
		t.Errorf("readFile of a pipe = %v, want %v", err, errkind.Invalid)
	}
	if _, err := readFile("/dev/zero", 10); !errors.Is(err, errkind.Invalid) {
		t.Errorf("readFile of a device = %v, want %v", err, errkind.Invalid)
	}
	if _, err := readFile(filepath.Join(dir, "config"), 10); !errors.Is(err, errkind.TooLarge) {
		t.Errorf("readFile of a long file = %v, want %v", err, errkind.TooLarge)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "refs", "heads", "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.readRefs(); err != nil {
		t.Errorf("readRefs beside a pipe: %v", err)
	}
}

// Files that each include the next four times would be read a million times.
func TestConfigThatIncludesTooMuch(t *testing.T) {
	dir := newRepository(t, "")
	for i := range maxIncludes - 2 {
		text := strings.Repeat(fmt.Sprintf("[include]\n\tpath = c%d\n", i+1), 4)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("c%d", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte("[include]\n\tpath = c0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, true); !errors.Is(err, errkind.TooLarge) {
		t.Errorf("Open = %v, want %v", err, errkind.TooLarge)
	}
}

func TestPatternsOfFolders(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"/srv/a.git", "/srv/a.git", true},
		{"/srv/*.git", "/srv/a.git", true},
		{"/srv/*.git", "/srv/b/a.git", false},
		{"/srv/**", "/srv/b/a.git", true},
		{"/srv/a.git/**", "/srv/a.git", false},
		{"**/a.git", "/srv/b/a.git", true},
		{"**/b/**", "/srv/b/a.git", true},
		{"**/c/**", "/srv/b/a.git", false},
		{"/srv/**/a.git", "/srv/a.git", true},
		{"/**/b/**/d/e", "/b/x/d/y/d/e", true},
		{strings.Repeat("**/a/", 5000) + "b", "/" + strings.Repeat("a/", 5000), false},
	} {
		if got := matchPath(tt.pattern, tt.name); got != tt.want {
			t.Errorf("matchPath(%.40q, %.40q) = %v, want %v", tt.pattern, tt.name, got, tt.want)
		}
	}
}
