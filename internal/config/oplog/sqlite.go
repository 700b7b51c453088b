package oplog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/sqlite"
)

const (
	// fileSuffix ends the name of a document's file.
	fileSuffix = ".db"
	// lockName is a database with nothing in it. Who makes or deletes a document holds its write lock, which ends with the process.
	lockName = "documents.lock"

	// fileReaders is how many readings of a document run at a time.
	fileReaders = 2
	// fileCacheKiB is the page cache of each connection; the log's end is all that is written, and the kernel's cache is behind it.
	fileCacheKiB = 512
)

// A statement is stopped when the batch is full, so the query needs no limit in bytes.
const sqlitePage = "SELECT seq, hash, data FROM config_record WHERE document = ? AND seq >= ? ORDER BY seq LIMIT ?"

// selectDocument finds the one document of a file.
const selectDocument = "SELECT document FROM config_head LIMIT 1"

// errGone is that of a file whose document was deleted, or not made to the end.
var errGone = fmt.Errorf("it has no document: %w", errkind.NotFound)

// sqliteStore has a folder with a database for each document.
type sqliteStore struct {
	dir  string
	lock *sqlite.DB
}

// OpenDir opens a store on SQLite: the files DIR/DOCUMENT.db. It makes the folder if there is none. Several processes may use it.
func OpenDir(ctx context.Context, dir string) (Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open a store of documents: %w", err)
	}
	lock, err := sqlite.Open(ctx, filepath.Join(dir, lockName), nil, sqlite.Options{})
	if err != nil {
		return nil, fmt.Errorf("open a store of documents: %w", err)
	}
	return &sqliteStore{dir, lock}, nil
}

// OpenFile opens the one document of a file, and makes it if there is none. Several processes may use it.
func OpenFile(ctx context.Context, path string) (Log, error) {
	name := strings.TrimSuffix(filepath.Base(path), fileSuffix)
	log, err := openFile(ctx, path, name, sqlite.Options{})
	if !errors.Is(err, errkind.NotFound) {
		return log, err
	}
	if err := makeFile(ctx, path); err != nil {
		return nil, err
	}
	return openFile(ctx, path, name, sqlite.Options{})
}

// openFile opens a document's file. What leaves it without a document: it was not made to the end, or is being deleted.
func openFile(ctx context.Context, path, doc string, opts sqlite.Options) (Log, error) {
	opts.Readers, opts.CacheKiB = fileReaders, fileCacheKiB
	db, err := sqlite.Open(ctx, path, steps("sqlite"), opts)
	if err != nil {
		return nil, err
	}
	l := &sqlLog[*sqlite.Conn, *sqlite.Row]{db: db, doc: doc, page: sqlitePage, release: db.Close}
	err = db.Read(ctx, func(c *sqlite.Conn) error {
		found, err := c.First(selectDocument, func(r *sqlite.Row) { l.document = r.Int64(0) })
		if err == nil && !found {
			err = errGone
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return l, nil
}

// makeFile makes the document of a file, if it has none.
func makeFile(ctx context.Context, path string) error {
	db, err := sqlite.Open(ctx, path, steps("sqlite"), sqlite.Options{})
	if err != nil {
		return err
	}
	err = db.Write(ctx, func(c *sqlite.Conn) error {
		found, err := c.First(selectDocument, func(*sqlite.Row) {})
		if err != nil || found {
			return err
		}
		return c.Exec(insertDocument, random(), Head{}.Hash)
	})
	return errors.Join(err, db.Close(), syncDir(filepath.Dir(path)))
}

// syncDir makes what is named in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *sqliteStore) path(doc string) string { return filepath.Join(s.dir, doc+fileSuffix) }

// alone runs fn while no other process makes or deletes a document.
func (s *sqliteStore) alone(ctx context.Context, fn func() error) error {
	return s.lock.Write(ctx, func(*sqlite.Conn) error { return fn() })
}

// Create makes an empty document. A file without one is what a process that was killed has left: it goes first.
func (s *sqliteStore) Create(ctx context.Context, doc string) error {
	if err := checkDocument(doc); err != nil {
		return err
	}
	return s.alone(ctx, func() error {
		l, err := s.Open(ctx, doc)
		switch {
		case err == nil:
			return errors.Join(errDocumentExists(doc), l.Close())
		case !errors.Is(err, errkind.NotFound):
			return err
		}
		if err := s.remove(doc); err != nil {
			return err
		}
		if err := makeFile(ctx, s.path(doc)); err != nil {
			return fmt.Errorf("make document %s: %w", doc, err)
		}
		return nil
	})
}

// Open opens a document.
func (s *sqliteStore) Open(ctx context.Context, doc string) (Log, error) {
	if err := checkDocument(doc); err != nil {
		return nil, err
	}
	l, err := openFile(ctx, s.path(doc), doc, sqlite.Options{MustExist: true})
	if errors.Is(err, errkind.NotFound) {
		return nil, errNoDocument(doc)
	}
	return l, err
}

// List returns the names that come after the given one. What a process that was killed in Delete has left is among them.
func (s *sqliteStore) List(ctx context.Context, after string, limit int) ([]string, error) {
	limit, err := checkPage(limit)
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list documents: %w", err)
	}
	names := map[string]bool{}
	for _, f := range files {
		if doc, ok := strings.CutSuffix(f.Name(), fileSuffix); ok && checkDocument(doc) == nil {
			names[doc] = true
		}
	}
	return namesAfter(maps.Keys(names), "", after, limit), nil
}

// Delete removes a document. The database says that it is gone before its files go: whoever has them open sees that.
func (s *sqliteStore) Delete(ctx context.Context, doc string) error {
	if err := checkDocument(doc); err != nil {
		return err
	}
	return s.alone(ctx, func() error {
		l, err := s.Open(ctx, doc)
		if errors.Is(err, errkind.NotFound) {
			return errors.Join(err, s.remove(doc))
		}
		if err != nil {
			return err
		}
		log, ok := l.(*sqlLog[*sqlite.Conn, *sqlite.Row])
		if !ok {
			panic("bug: a document on SQLite is no sqlLog")
		}
		err = log.write(ctx, func(c *sqlite.Conn, _ Head) error { return c.Exec(deleteHead, log.document) })
		if err := errors.Join(err, l.Close()); err != nil {
			return fmt.Errorf("delete document %s: %w", doc, err)
		}
		return s.remove(doc)
	})
}

// remove removes a document's files. The database goes first: its log without it says nothing.
func (s *sqliteStore) remove(doc string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(s.path(doc) + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove document %s: %w", doc, err)
		}
	}
	return syncDir(s.dir)
}

// Close releases what the Store holds.
func (s *sqliteStore) Close() error { return s.lock.Close() }
