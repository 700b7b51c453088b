package bare

import (
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// incoming is the quarantine of one push: a folder of objects beside the others, which join them all at once or never
// (git-receive-pack(1), "Quarantine Environment").
type incoming struct {
	repo    *Repo
	objects string // where they go to
	dir     string
	moved   bool
}

// defaultUnpackLimit is from how many objects on git keeps a pack.
const defaultUnpackLimit = 100

func newIncoming(r *Repo) (*incoming, error) {
	objects := r.objectsDir()
	dir, err := os.MkdirTemp(objects, "incoming-")
	if err != nil {
		return nil, fmt.Errorf("unable to create temporary object directory: %w", err)
	}
	in := &incoming{repo: r, objects: objects, dir: dir}
	if err := os.Mkdir(filepath.Join(dir, "pack"), 0o777); err != nil { //nolint:gosec // as git: the umask decides
		in.drop()
		return nil, err
	}
	return in, nil
}

// unpackLimit is below how many objects a push is unpacked into loose ones.
func (r *Repo) unpackLimit() int64 {
	limit := r.config.Int("transfer.unpacklimit", defaultUnpackLimit)
	return r.config.Int("receive.unpacklimit", limit)
}

// env is how hooks and git programs see the quarantine.
func (in *incoming) env() []string {
	others := in.objects
	if v := os.Getenv("GIT_ALTERNATE_OBJECT_DIRECTORIES"); v != "" {
		others = v + string(filepath.ListSeparator) + others
	}
	return []string{"GIT_OBJECT_DIRECTORY=" + in.dir, "GIT_ALTERNATE_OBJECT_DIRECTORIES=" + others, "GIT_QUARANTINE_PATH=" + in.dir}
}

func (in *incoming) drop() {
	_ = os.RemoveAll(in.dir) // git gc removes what is left
}

// write puts received objects into the quarantine: few as loose objects, many or large ones as a pack.
func (in *incoming) write(q *pack.Received, limit int64) error {
	if q.Pack.Len() == 0 {
		return nil
	}
	if int64(q.Pack.Len()) < limit && fitsLoose(q.Pack) {
		return in.unpack(q.Pack)
	}
	base := filepath.Join(in.dir, "pack", "pack-"+q.Pack.Checksum().String())
	err := writeNew(base+".pack", func(w io.Writer) error {
		_, err := q.Pack.WriteTo(w)
		return err
	})
	if err != nil {
		return err
	}
	return writeNew(base+".idx", func(w io.Writer) error {
		_, err := w.Write(q.Idx)
		return err
	})
}

// fitsLoose says whether objects may be loose, which each request inflates: else a small push of large objects, which cost nothing to
// deflate, would cost each that follows much.
func fitsLoose(p *pack.Pack) bool {
	left := int64(maxLooseInMemory)
	for at := range pack.Pos(p.Len() - p.Appended()) {
		if left -= p.ObjectSize(at); left < 0 {
			return false
		}
	}
	return true
}

// writeNew makes a file that nobody changes any more, and has it on disk.
func writeNew(path string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444) //nolint:gosec // as git: everybody may read objects
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Sync(), f.Close())
}

// unpack writes each object as a file.
func (in *incoming) unpack(p *pack.Pack) error {
	for at := range pack.Pos(p.Len() - p.Appended()) {
		obj, err := p.Read(at, nil)
		if err != nil {
			return err
		}
		if err := in.loose(p.OID(at), obj); err != nil {
			return err
		}
	}
	return nil
}

func (in *incoming) loose(id git.OID, obj git.Object) error {
	if exists(loosePath(in.objects, id)) {
		return nil
	}
	path := loosePath(in.dir, id)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil { //nolint:gosec // as git: the umask decides
		return err
	}
	return writeNew(path, func(w io.Writer) error {
		z := zlib.NewWriter(w)
		_, err := z.Write(git.AppendHeader(nil, obj.Kind, int64(len(obj.Data))))
		if err == nil {
			_, err = z.Write(obj.Data)
		}
		return errors.Join(err, z.Close())
	})
}

// migrate moves the objects to where they stay: loose ones first and, of a pack, the index last, so that a program that sees an object
// can read it.
func (in *incoming) migrate() error {
	if in.moved {
		return nil
	}
	entries, err := os.ReadDir(in.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == "pack" {
			continue
		}
		if err := in.migrateDir(e.Name(), ""); err != nil {
			return err
		}
	}
	for _, suffix := range []string{".keep", ".pack", ".rev", ".idx"} {
		if err := in.migrateDir("pack", suffix); err != nil {
			return err
		}
	}
	in.moved = true
	in.drop()
	return nil
}

func (in *incoming) migrateDir(name, suffix string) error {
	entries, err := os.ReadDir(filepath.Join(in.dir, name))
	if err != nil {
		return err
	}
	to := filepath.Join(in.objects, name)
	if err := os.MkdirAll(to, 0o777); err != nil { //nolint:gosec // as git: the umask decides
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		if err := os.Rename(filepath.Join(in.dir, name, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
