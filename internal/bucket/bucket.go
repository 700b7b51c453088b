// Package bucket keeps immutable files by key, on local disk.
//
// A key is a slash-separated path such as packs/ten_x/repo_y/0123.pack. A file appears under its key whole or not at
// all, never changes, and stays readable for those who have it open after it is deleted:
//
//	err := b.Put(ctx, bucket.Upload{Key: key, Path: tmp}) // tmp is gone, the file is on disk
//	f, err := b.Open(key)
//	defer f.Close()
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/trace"
)

// Bucket is a directory of files. It is safe for concurrent use.
type Bucket struct {
	root string
}

// Open opens or makes the bucket in dir.
func Open(dir string) (*Bucket, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	return &Bucket{root: dir}, nil
}

// Upload is a file to take in: Path, on the same file system as the bucket, becomes Key.
type Upload struct {
	Key  string
	Path string
}

// Put moves finished files into the bucket. When it returns nil, they survive a crash. An error may leave some of them
// there, as complete files. What a key had before is replaced; since files are immutable, it was the same.
func (b *Bucket) Put(ctx context.Context, uploads ...Upload) (err error) {
	ctx, span := trace.Start(ctx, trace.BucketPut)
	span.Number(trace.Files, int64(len(uploads)))
	defer func() { span.End(err) }()
	var dirs []string
	for _, u := range uploads {
		if err := ctx.Err(); err != nil {
			return err
		}
		dst, err := b.path(u.Key)
		if err != nil {
			return err
		}
		// The content reaches the disk before the name does: a name after a crash always has its content.
		if err := syncPath(u.Path); err != nil {
			return fmt.Errorf("put %s: %w", u.Key, err)
		}
		dir := filepath.Dir(dst)
		if err := b.makeDir(dir); err != nil {
			return fmt.Errorf("put %s: %w", u.Key, err)
		}
		if err := os.Rename(u.Path, dst); err != nil {
			return fmt.Errorf("put %s: %w", u.Key, err)
		}
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := syncPath(dir); err != nil {
			return fmt.Errorf("put: %w", err)
		}
	}
	return nil
}

// makeDir makes dir and its parents up to the root, each durable in its own parent.
func (b *Bucket) makeDir(dir string) error {
	err := os.Mkdir(dir, 0o750)
	if errors.Is(err, fs.ErrNotExist) && dir != b.root {
		if err := b.makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o750)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return syncPath(filepath.Dir(dir))
}

// Has reports whether there is a file of this key.
func (b *Bucket) Has(key string) (bool, error) {
	p, err := b.path(key)
	if err != nil {
		return false, err
	}
	_, err = os.Stat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Open opens a file for reading, or returns an error that wraps errkind.NotFound.
func (b *Bucket) Open(key string) (*File, error) {
	p, err := b.path(key)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", key, errkind.NotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", key, err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("open %s: it is no file: %w", key, errkind.NotFound)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &File{f: f, size: fi.Size()}, nil
}

// Delete removes files. What is not there counts as deleted. Those who have one open keep reading it.
func (b *Bucket) Delete(keys ...string) error {
	var errs []error
	for _, key := range keys {
		p, err := b.path(key)
		if err == nil {
			err = os.Remove(p)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// DeleteAll removes every file whose key starts with the folder dir.
func (b *Bucket) DeleteAll(dir string) error {
	p, err := b.path(dir)
	if err != nil {
		return err
	}
	return os.RemoveAll(p)
}

// Entry is a file's key and size.
type Entry struct {
	Key  string
	Size int64
}

// List yields the files below the folder dir ("" for all), in order of key. A folder that is not there is empty.
func (b *Bucket) List(dir string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		p := b.root
		if dir != "" {
			var err error
			if p, err = b.path(dir); err != nil {
				yield(Entry{}, err)
				return
			}
		}
		err := filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // deleted meanwhile, or never there
			}
			if err != nil {
				return err
			}
			if !d.Type().IsRegular() {
				return nil
			}
			fi, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(b.root, path)
			if err != nil {
				return err
			}
			if !yield(Entry{filepath.ToSlash(rel), fi.Size()}, nil) {
				return filepath.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Entry{}, fmt.Errorf("list %s: %w", dir, err))
		}
	}
}

const (
	maxKey   = 512 // bytes: far below what any file system or S3 takes
	maxParts = 8
)

// path turns a key into a path below the root. Keys are made by this program, from checked identifiers; the check here
// is the second lock on the door.
func (b *Bucket) path(key string) (string, error) {
	bad := fmt.Errorf("bucket key %.100q: %w", key, errkind.Invalid)
	if len(key) > maxKey || strings.Count(key, "/") >= maxParts {
		return "", bad
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part[0] == '.' || strings.ContainsFunc(part, notInKey) {
			return "", bad
		}
	}
	return filepath.Join(b.root, filepath.FromSlash(key)), nil
}

func notInKey(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_', r == '-':
		return false
	}
	return true
}

// syncPath makes a file's content, or a folder's names, durable.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
