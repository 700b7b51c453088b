package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/skep-dev/skep/internal/errkind"
)

// busyTimeout is how long a statement waits for another process to let go of the database. Inside this process writers
// queue on DB.writer and never meet.
const busyTimeout = 5 * time.Second

// busyPause is between two attempts where SQLite does not wait by itself.
const busyPause = time.Millisecond

// defaultCacheKiB is small because many databases are open at a time, and the kernel's page cache is behind it.
const defaultCacheKiB = 64

// DB is an open database. It is safe for concurrent use.
type DB struct {
	path   string
	opts   Options
	writer chan *Conn // the one writing connection, when it is free
	idle   chan *Conn // reading connections that are free, nil for those not opened yet; nil when reads share the writer
	closed chan struct{}
}

// Options tune a database. The zero Options works.
type Options struct {
	// Readers is how many reading connections there may be; they are opened at need. 0: reads take turns with the writer
	// on its connection, which is right for a database that one owner reads once and then only writes.
	Readers int
	// Exclusive takes the file for this connection alone: no shared-memory file, one system call less in each
	// transaction. It rules out Readers.
	Exclusive bool
	// CacheKiB is each connection's page cache; 0: 64.
	CacheKiB int
	// MustExist refuses to make a database that is not there: errkind.NotFound.
	MustExist bool
}

// Open opens or makes the database at path and brings its schema up to date with migrations, which may be nil.
func Open(ctx context.Context, path string, migrations fs.FS, opts Options) (*DB, error) {
	if opts.Exclusive && opts.Readers > 0 {
		panic("bug: an exclusive database has no readers")
	}
	db := &DB{
		path:   path,
		opts:   opts,
		writer: make(chan *Conn, 1),
		closed: make(chan struct{}),
	}
	if opts.Readers > 0 {
		db.idle = make(chan *Conn, opts.Readers)
		for range opts.Readers {
			db.idle <- nil
		}
	}
	c, err := db.connect(true)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db.writer <- c
	if migrations != nil {
		if err := db.migrate(ctx, migrations); err != nil {
			return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), db.Close())
		}
	}
	return db, nil
}

// connect opens a connection. The first one makes the file and sets what is kept in it.
func (db *DB) connect(first bool) (*Conn, error) {
	flags := sqlite.OpenReadWrite
	if first && !db.opts.MustExist {
		flags |= sqlite.OpenCreate
	}
	sc, err := sqlite.OpenConn(db.path, flags)
	if err != nil {
		if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultCantOpen && db.opts.MustExist {
			return nil, fmt.Errorf("%w: %w", err, errkind.NotFound)
		}
		return nil, err
	}
	sc.SetBusyTimeout(busyTimeout)
	c := &Conn{c: sc}
	cache := db.opts.CacheKiB
	if cache == 0 {
		cache = defaultCacheKiB
	}
	var pragmas []string
	if db.opts.Exclusive {
		pragmas = append(pragmas, "PRAGMA locking_mode=EXCLUSIVE") // before the first access: then there is no -shm file
	}
	pragmas = append(pragmas,
		fmt.Sprintf("PRAGMA cache_size=-%d", cache),
		"PRAGMA synchronous=FULL", // as it is by default, whatever a build of SQLite may think of that
		"PRAGMA foreign_keys=ON",
	)
	if !first {
		pragmas = append(pragmas, "PRAGMA query_only=ON")
	}
	for _, p := range pragmas {
		if err := c.script(p); err != nil {
			return nil, errors.Join(err, sc.Close())
		}
	}
	if first {
		if err := c.useWAL(); err != nil {
			return nil, errors.Join(err, sc.Close())
		}
	}
	return c, nil
}

// useWAL sets the write-ahead log. Processes that make the same file at once meet here, and SQLite does not wait for the others
// by itself: both may hold what the other one needs. https://www.sqlite.org/c3ref/busy_handler.html
func (c *Conn) useWAL() error {
	for deadline := time.Now().Add(busyTimeout); ; time.Sleep(busyPause) {
		err := c.script("PRAGMA journal_mode=WAL")
		if sqlite.ErrCode(err).ToPrimary() != sqlite.ResultBusy || time.Now().After(deadline) {
			return err
		}
	}
}

// Write runs fn in a transaction and commits it, unless fn fails. Writers queue; the transaction holds the database's
// write lock from its start, so what fn reads cannot change before it commits. fn must not call Write or Read of the
// same DB.
func (db *DB) Write(ctx context.Context, fn func(*Conn) error) error {
	c, err := db.takeWriter(ctx)
	if err != nil {
		return err
	}
	defer func() { db.writer <- c }()
	return c.transact(ctx, "BEGIN IMMEDIATE", fn)
}

// Read runs fn in a transaction that sees one state of the database and cannot change it.
func (db *DB) Read(ctx context.Context, fn func(*Conn) error) error {
	if db.idle == nil {
		c, err := db.takeWriter(ctx)
		if err != nil {
			return err
		}
		defer func() { db.writer <- c }()
		return c.transact(ctx, "BEGIN", fn)
	}
	c, err := db.takeReader(ctx)
	if err != nil {
		return err
	}
	defer func() { db.idle <- c }()
	return c.transact(ctx, "BEGIN", fn)
}

func (db *DB) takeWriter(ctx context.Context) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case <-db.closed:
		return nil, errClosed
	default:
	}
	select {
	case c := <-db.writer:
		return c, nil
	case <-db.closed:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (db *DB) takeReader(ctx context.Context) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case <-db.closed:
		return nil, errClosed
	default:
	}
	select {
	case c := <-db.idle:
		if c != nil {
			return c, nil
		}
		c, err := db.connect(false)
		if err != nil {
			db.idle <- nil
			return nil, fmt.Errorf("open reader of %s: %w", db.path, err)
		}
		return c, nil
	case <-db.closed:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var errClosed = fmt.Errorf("database is closed: %w", errkind.Unavailable)

// Checkpoint moves what is in the write-ahead log to the database file. SQLite does so by itself every thousand pages;
// call it before the file is copied.
func (db *DB) Checkpoint(ctx context.Context) error {
	c, err := db.takeWriter(ctx)
	if err != nil {
		return err
	}
	defer func() { db.writer <- c }()
	var busy int
	_, err = c.First("PRAGMA wal_checkpoint(TRUNCATE)", func(r *Row) { busy = r.Int(0) })
	if err == nil && busy != 0 {
		err = fmt.Errorf("a reader is in the way: %w", errkind.Unavailable)
	}
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", db.path, err)
	}
	return nil
}

// Close waits for running transactions and closes all connections; the write-ahead log is gone after it. Call it once.
func (db *DB) Close() error {
	close(db.closed)
	var errs []error
	for range cap(db.idle) {
		if c := <-db.idle; c != nil {
			errs = append(errs, c.c.Close())
		}
	}
	c := <-db.writer
	return errors.Join(append(errs, c.c.Close())...)
}
