package e2e

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKillWhileImporting kills the server in the middle of an import, with no warning. It comes up again, nothing is wrong
// with what it has, the repository is absent, empty or whole, and importing it once more works.
func TestKillWhileImporting(t *testing.T) {
	const packBytes = 12 << 20 // and a little more
	source := newWorld(t)
	source.noise("source.git", packBytes)
	source.git("source.git", "push", "-q", "--mirror", source.remote("source"))
	source.publish("source")
	tests := []struct {
		name    string
		after   int64    // bytes of the pack, until the source says no more; 0: it says all
		folders []string // of the data, where the kill waits for so many bytes
		bytes   int64
		never   bool // what was imported cannot be there
	}{
		{name: "before the pack comes", after: 1, folders: []string{"cells"}, bytes: 1, never: true},
		{name: "in the middle of the pack", after: packBytes / 2, folders: []string{"tmp"}, bytes: packBytes / 4, never: true},
		{name: "when the pack has come", folders: []string{"tmp", "files"}, bytes: packBytes},
		{name: "when the pack is in its place", folders: []string{"files"}, bytes: packBytes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			g := newGate(t, source.url, tt.after)
			if tt.after == 0 {
				g.open()
			}
			imported := make(chan error, 1)
			go func() {
				_, err := w.skep("import", g.url+"/default/source.git", "default/demo")
				imported <- err
			}()
			select {
			case <-g.reached:
			case err := <-imported:
				t.Fatalf("skep import ended before its fetch: %v", err)
			}
			w.awaitBytes(tt.bytes, tt.folders...)
			w.kill()
			g.open()
			err := <-imported

			if out, err := w.skep("doctor", w.server.dir); err != nil {
				t.Errorf("skep doctor: %v\n%s", err, out)
			}
			if err := w.start(); err != nil {
				t.Fatal(err)
			}
			if left := bytesBelow(w.path("data/tmp")); left > 0 {
				t.Errorf("%d bytes of what was being received are left", left)
			}
			whole := w.isWhole("demo", source.git("source.git", "for-each-ref", "--format=%(objectname)\t%(refname)"))
			if err == nil && !whole || whole && tt.never {
				t.Errorf("skep import ended with %v, the repository is whole: %v", err, whole)
			}
			if out, err := w.skep("import", source.url+"/default/source.git", "default/demo"); (err != nil) != whole {
				t.Errorf("the second import, where the repository is whole: %v, ended with %v\n%s", whole, err, out)
			}
			w.git(".", "clone", "-q", "--mirror", w.remote("demo"), "clone.git")
			w.git("clone.git", "fsck", "--strict", "--full")
			if !w.isWhole("demo", w.git("clone.git", "for-each-ref", "--format=%(objectname)\t%(refname)")) {
				t.Error("the clone is not what the server has")
			}
		})
	}
}

// isWhole reports whether a repository has all of the references, of which "git ls-remote" says the same. If it does not,
// it has none, or is not there.
func (w *world) isWhole(name, refs string) bool {
	w.t.Helper()
	out, err := w.try(".", nil, "ls-remote", "--refs", w.remote(name))
	switch out = strings.TrimSpace(out); {
	case err == nil && out == refs:
		return true
	case err == nil && out == "", err != nil && strings.Contains(out, "not found"):
		return false
	}
	w.t.Fatalf("half a repository: %v\n%s\nwant\n%s", err, out, refs)
	return false
}

// awaitBytes waits until folders of the data have files of so many bytes.
func (w *world) awaitBytes(least int64, folders ...string) {
	w.t.Helper()
	for late := time.Now().Add(time.Minute); ; {
		var sum int64
		for _, f := range folders {
			sum += bytesBelow(filepath.Join(w.server.dir, f))
		}
		if sum >= least {
			return
		}
		if time.Now().After(late) {
			w.t.Fatalf("%v have only %d bytes, not %d", folders, sum, least)
		}
	}
}

// bytesBelow adds up the files of a folder, which may change meanwhile.
func bytesBelow(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // it has gone
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}
