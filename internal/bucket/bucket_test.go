package bucket_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/bucket"
	"github.com/skep-dev/skep/internal/errkind"
)

func newBucket(t *testing.T) (*bucket.Bucket, func(content string) string) {
	t.Helper()
	dir := t.TempDir()
	b, err := bucket.Open(filepath.Join(dir, "bucket"))
	if err != nil {
		t.Fatal(err)
	}
	return b, func(content string) string {
		f, err := os.CreateTemp(dir, "new-*")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(content); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
}

func TestPutOpenDelete(t *testing.T) {
	b, temp := newBucket(t)
	one, two := temp("one"), temp("")
	if err := b.Put(t.Context(), bucket.Upload{Key: "packs/a/1.pack", Path: one}, bucket.Upload{Key: "packs/a/1.idx", Path: two}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(one); err == nil {
		t.Error("the file was copied, not moved")
	}
	f, err := b.Open("packs/a/1.pack")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Delete("packs/a/1.pack", "packs/a/none"); err != nil {
		t.Fatal(err)
	}
	if has, err := b.Has("packs/a/1.pack"); has || err != nil {
		t.Errorf("Has after Delete = %v, %v", has, err)
	}
	if _, err := b.Open("packs/a/1.pack"); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Open after Delete: %v, want NotFound", err)
	}
	// The file that is open stays readable.
	if data, err := f.Bytes(); string(data) != "one" || err != nil || f.Size() != 3 {
		t.Errorf("Bytes of the open file = %q, %v", data, err)
	}
	part := make([]byte, 2)
	if _, err := f.ReadAt(part, 1); string(part) != "ne" || err != nil {
		t.Errorf("ReadAt = %q, %v", part, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}

	empty, err := b.Open("packs/a/1.idx")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := empty.Bytes(); len(data) != 0 || err != nil {
		t.Errorf("Bytes of an empty file = %q, %v", data, err)
	}
	if err := empty.Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.Open("packs/a"); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Open of a folder: %v, want NotFound", err)
	}
}

func TestList(t *testing.T) {
	b, temp := newBucket(t)
	for _, key := range []string{"b/x", "a/y/z", "a/x", "top"} {
		if err := b.Put(t.Context(), bucket.Upload{Key: key, Path: temp(key)}); err != nil {
			t.Fatal(err)
		}
	}
	list := func(dir string) (keys []string) {
		for e, err := range b.List(dir) {
			if err != nil {
				t.Error(err)
			}
			if e.Size != int64(len(e.Key)) {
				t.Errorf("size of %s = %d", e.Key, e.Size)
			}
			keys = append(keys, e.Key)
		}
		return keys
	}
	if got, want := list(""), []string{"a/x", "a/y/z", "b/x", "top"}; !slices.Equal(got, want) {
		t.Errorf("List() = %v, want %v", got, want)
	}
	if got, want := list("a"), []string{"a/x", "a/y/z"}; !slices.Equal(got, want) {
		t.Errorf("List(a) = %v, want %v", got, want)
	}
	if got := list("none"); got != nil {
		t.Errorf("List(none) = %v", got)
	}
	if err := b.DeleteAll("a"); err != nil {
		t.Fatal(err)
	}
	if got, want := list(""), []string{"b/x", "top"}; !slices.Equal(got, want) {
		t.Errorf("List() after DeleteAll = %v, want %v", got, want)
	}
}

func TestKeysDoNotClimb(t *testing.T) {
	b, temp := newBucket(t)
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", ".git", "a/.b", "a\\b", "a\x00b", "ä", "a b", "a:b",
		strings.Repeat("a/", 8) + "a", strings.Repeat("a", 513),
	} {
		if err := b.Put(t.Context(), bucket.Upload{Key: key, Path: temp("x")}); !errors.Is(err, errkind.Invalid) {
			t.Errorf("Put(%.20q): %v, want Invalid", key, err)
		}
		if _, err := b.Open(key); !errors.Is(err, errkind.Invalid) {
			t.Errorf("Open(%.20q): %v, want Invalid", key, err)
		}
		if err := b.DeleteAll(key); !errors.Is(err, errkind.Invalid) {
			t.Errorf("DeleteAll(%.20q): %v, want Invalid", key, err)
		}
	}
}
