package bare

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// lockWaits are how long git waits for locks of references and of packed-refs.
const (
	refLockWait    = 100 // milliseconds
	packedLockWait = 1000
	lockRetry      = 5 * time.Millisecond
)

// lockFile is NAME.lock beside a file: who makes it may replace the file, as all git programs have it.
type lockFile struct {
	path string // of the file
	f    *os.File
}

// lock makes the lock file, for which it waits.
func lock(path string, waitMS int64) (*lockFile, error) {
	end := time.Now().Add(time.Duration(waitMS) * time.Millisecond)
	for {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil { //nolint:gosec // as git: the umask decides
			return nil, err
		}
		f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // as above
		if err == nil {
			return &lockFile{path: path, f: f}, nil
		}
		if notThere(err) {
			continue // somebody removed the folder, as it was empty
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if waitMS >= 0 && time.Now().After(end) {
			return nil, fmt.Errorf("unable to create '%s.lock': File exists: %w", path, errkind.Conflict)
		}
		time.Sleep(lockRetry)
	}
}

// drop gives the lock up and leaves the file as it is.
func (l *lockFile) drop() {
	_ = l.f.Close() // nothing of it is kept
	_ = os.Remove(l.path + ".lock")
}

// commit puts the lock file in the place of the file.
func (l *lockFile) commit() error {
	if err := l.f.Close(); err != nil {
		return err
	}
	err := os.Rename(l.path+".lock", l.path)
	if err != nil && isDirectoryInTheWay(err) {
		// Folders of references that are gone may be left, empty.
		if removeEmpty(l.path) == nil {
			err = os.Rename(l.path+".lock", l.path)
		}
	}
	return err
}

// removeEmpty removes a folder with nothing but folders in it.
func removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			return fmt.Errorf("%s is not empty: %w", dir, errkind.Conflict)
		}
		if err := removeEmpty(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.Remove(dir)
}

// removeEmptyParents removes the folders of a reference that is gone, up to refs/heads and the like.
func removeEmptyParents(root, path string) {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		rel, err := filepath.Rel(root, dir)
		if err != nil || !filepath.IsLocal(rel) || filepath.Dir(rel) == "." || filepath.Dir(filepath.Dir(rel)) == "." {
			return // refs, refs/heads
		}
		if os.Remove(dir) != nil {
			return
		}
	}
}
