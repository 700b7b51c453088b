package bare

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/pack"
)

const (
	// maxAlternates bounds how far object stores borrow from each other; git's own bound.
	maxAlternates = 5
	// keepTableFrom is from what size on a pack's table is kept on disk: making one costs as much as git index-pack does.
	keepTableFrom = 256 << 10
	// cacheBytes is what one request keeps of inflated objects.
	cacheBytes = 64 << 20
	// maxStoredPack bounds a pack that is in a repository already: what the file system holds.
	maxStoredPack = 1 << 42
)

// objects are a repository's objects, open for reading.
type objects struct {
	store  *odb.Store
	opened []io.Closer
}

func (o *objects) close() {
	for _, c := range o.opened {
		_ = c.Close() // only read from
	}
}

// anything is the check of objects that are in a repository already.
func anything(git.Kind, git.OID, []byte) error { return nil }

// objectDirs are the folders with objects that the repository may read: its own and, recursively, those it borrows from.
func (r *Repo) objectDirs() []string {
	own := r.objectsDir()
	dirs := []string{own}
	for _, d := range splitAlternates(os.Getenv("GIT_ALTERNATE_OBJECT_DIRECTORIES")) {
		if abs, err := filepath.Abs(d); err == nil {
			dirs = appendDir(dirs, abs, 0)
		}
	}
	return borrowed(dirs, own, 0)
}

func splitAlternates(s string) []string {
	return strings.FieldsFunc(s, func(c rune) bool { return c == filepath.ListSeparator })
}

// borrowed adds what dir borrows from (objects/info/alternates).
func borrowed(dirs []string, dir string, depth int) []string {
	b, err := readFile(filepath.Join(dir, "info", "alternates"), maxListFile)
	if err != nil || depth > maxAlternates {
		return dirs
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '"' {
			if s, err := strconv.Unquote(line); err == nil {
				line = s
			}
		}
		if !filepath.IsAbs(line) {
			line = filepath.Join(dir, line)
		}
		dirs = appendDir(dirs, filepath.Clean(line), depth)
	}
	return dirs
}

func appendDir(dirs []string, dir string, depth int) []string {
	if !isDir(dir) || slices.Contains(dirs, dir) {
		return dirs
	}
	return borrowed(append(dirs, dir), dir, depth+1)
}

// open opens all objects. Those that are borrowed come first: they are older.
func (r *Repo) open(ctx context.Context) (o *objects, err error) {
	o = &objects{}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	dirs := r.objectDirs()
	slices.Reverse(dirs)
	var packs []*pack.Pack
	for _, dir := range dirs {
		if packs, err = o.addDir(ctx, packs, dir); err != nil {
			return nil, err
		}
	}
	o.store = odb.NewStore(packs, nil, odb.NewCache(cacheBytes))
	return o, nil
}

func (o *objects) addDir(ctx context.Context, packs []*pack.Pack, dir string) ([]*pack.Pack, error) {
	names, err := filepath.Glob(filepath.Join(escapeGlob(dir), "pack", "pack-*.pack"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p, err := o.openPack(ctx, dir, name)
		if notThere(err) {
			continue // git has repacked meanwhile
		}
		if errors.Is(err, errkind.Invalid) || errors.Is(err, errkind.TooLarge) {
			continue // a damaged pack has no objects, to git as well
		}
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		packs = append(packs, p)
	}
	loose, err := o.openLoose(ctx, dir)
	if err != nil || loose == nil {
		return packs, err
	}
	return append(packs, loose), nil
}

// escapeGlob keeps a folder's name from being a pattern.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// openPack opens one packfile: with its index and a table that was kept, or by reading it whole once.
func (o *objects) openPack(ctx context.Context, dir, name string) (*pack.Pack, error) {
	idx := strings.TrimSuffix(name, ".pack") + ".idx"
	if _, err := os.Stat(idx); err != nil {
		return nil, err
	}
	f, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	o.opened = append(o.opened, f)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	side := filepath.Join(dir, "info", "skep", strings.TrimSuffix(filepath.Base(name), ".pack"))
	if ownFolder(filepath.Dir(side)) {
		if p := openWithTable(f, info.Size(), idx, side); p != nil {
			return p, nil
		}
	}
	q, err := pack.Receive(ctx, bufio.NewReaderSize(f, 1<<20), pack.ReceiveOptions{
		Check: anything, MaxPackBytes: maxStoredPack, MaxObjectBytes: 1<<32 - 1, MaxTotalBytes: maxStoredPack, MemoryPack: keepTableFrom,
	})
	if err != nil {
		return nil, err
	}
	if q.Data != nil {
		o.opened = append(o.opened, q)
		return q.Pack, nil
	}
	keepTable(side, q.Idx, q.Table)
	p, err := pack.Open(f, info.Size(), bytes.Clone(q.Idx), bytes.Clone(q.Table), nil)
	return p, errors.Join(err, q.Close())
}

// openWithTable opens a pack whose table was kept.
func openWithTable(f *os.File, size int64, idx, side string) *pack.Pack {
	table, err := os.ReadFile(side + ".table")
	if err != nil {
		return nil
	}
	index, err := os.ReadFile(idx)
	if err != nil {
		return nil
	}
	if p, err := pack.Open(f, size, index, table, nil); err == nil {
		return p
	}
	if index, err = os.ReadFile(side + ".idx"); err != nil { // git's own is of version 1
		return nil
	}
	p, err := pack.Open(f, size, index, table, nil)
	if err != nil {
		return nil
	}
	return p
}

// ownFolder reports whether a folder is one, no link to one, into which only this user writes: tables are believed.
func ownFolder(dir string) bool {
	info, err := os.Lstat(dir)
	return err == nil && info.IsDir() && info.Mode().Perm()&0o022 == 0 && owned(dir)
}

// keepTable writes a table down for the requests that follow, where this user may write and nobody else. Without it all is correct and
// slower.
func keepTable(side string, idx, table []byte) {
	if err := os.MkdirAll(filepath.Dir(side), 0o755); err != nil || !ownFolder(filepath.Dir(side)) { //nolint:gosec // others may read
		return
	}
	for _, f := range []struct {
		suffix string
		data   []byte
	}{{".idx", idx}, {".table", table}} {
		tmp, err := os.CreateTemp(filepath.Dir(side), "tmp_*")
		if err != nil {
			return
		}
		_, err = tmp.Write(f.data)
		if err = errors.Join(err, tmp.Chmod(0o444), tmp.Close()); err == nil {
			err = os.Rename(tmp.Name(), side+f.suffix)
		}
		if err != nil {
			_ = os.Remove(tmp.Name()) // what is left is a file that nobody names
			return
		}
	}
}
