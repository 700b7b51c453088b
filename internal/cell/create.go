package cell

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skep-dev/skep/internal/cache"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/sqlite"
)

// Images makes the databases of new cells. SQLite takes several syncs to make a database and its tables; a copy of one
// that is empty takes two. It keeps an image for each of the few names that people give to their first branch.
type Images struct {
	tempDir string
	images  *cache.LRU[git.RefName, []byte]
}

// imageCache has room for about 30 images of 28 KiB.
const imageCache = 1 << 20

// NewImages makes a source of empty cells. tempDir is on the same file system as the cells.
func NewImages(tempDir string) *Images {
	return &Images{tempDir: tempDir, images: cache.NewLRU[git.RefName, []byte](imageCache)}
}

// Create makes the database of an empty repository at path, whose folder exists. When it returns nil, the repository
// survives a crash. errkind.Exists when there is one already.
func (im *Images) Create(ctx context.Context, path string, head git.RefName) error {
	if !head.IsBranch() {
		return fmt.Errorf("HEAD cannot name %s: %w", head, errkind.Invalid)
	}
	image, err := im.images.Load(ctx, head, func(ctx context.Context) ([]byte, int64, error) {
		b, err := im.build(ctx, head)
		return b, int64(len(b)), err
	})
	if err != nil {
		return fmt.Errorf("create cell: %w", err)
	}
	if err := im.place(path, image); err != nil {
		return fmt.Errorf("create cell: %w", err)
	}
	return nil
}

// place writes the image under a temporary name, makes it durable, and only then gives it its name.
func (im *Images) place(path string, image []byte) (err error) {
	f, err := os.CreateTemp(im.tempDir, "cell-*.db")
	if err != nil {
		return err
	}
	defer func() {
		if rmErr := os.Remove(f.Name()); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
	}()
	_, err = f.Write(image)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	// A hard link, unlike a rename, fails when the name is taken.
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", filepath.Base(path), errkind.Exists)
	} else if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

const insertRepo = "INSERT INTO repo (one, version, head, settings) VALUES (1, 0, ?, '{}')"

// build makes an empty database by way of SQLite and reads it back.
func (im *Images) build(ctx context.Context, head git.RefName) (image []byte, err error) {
	dir, err := os.MkdirTemp(im.tempDir, "image-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "cell.db")
	db, err := sqlite.Open(ctx, path, migrations(), sqlite.Options{Exclusive: true})
	if err != nil {
		return nil, err
	}
	err = db.Write(ctx, func(c *sqlite.Conn) error { return c.Exec(insertRepo, []byte(head)) })
	if err := errors.Join(err, db.Close()); err != nil { // Close moves the log into the file
		return nil, err
	}
	return os.ReadFile(path)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
