package control

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/postgres"
	"github.com/skep-dev/skep/internal/sqlite"
)

// The steps of the schema have the same numbers on both databases: each is a change to the data, written twice.
//
//go:embed migrations
var migrations embed.FS

const (
	// readers is how many look-ups run at a time on SQLite. They are short, and nearly all are answered from memory.
	readers = 4
	// cacheKiB is each SQLite connection's page cache: the upper levels of the indexes of a million repositories.
	cacheKiB = 4096
)

// database is what a control plane needs of one. A query is written once, in the subset of SQL that package postgres
// describes. A function that writes may run several times before it commits.
type database interface {
	Read(ctx context.Context, fn func(conn) error) error
	Write(ctx context.Context, fn func(conn) error) error
	Close() error
}

// conn is a connection inside one transaction.
type conn interface {
	Exec(query string, args ...any) error
	Changes() int
	Query(query string, args ...any) iter.Seq2[row, error]
	First(query string, scan func(row), args ...any) (bool, error)
}

// row is one row of a result. It is valid until the next one.
type row interface {
	Text(col int) string
	Int64(col int) int64
	Bool(col int) bool
	Bytes(col int) []byte
	Copy(col int, buf []byte) int
	Time(col int) time.Time
	IsNull(col int) bool
}

// OnPostgres reports whether where is the address of a PostgreSQL database and not a file's path.
func OnPostgres(where string) bool { return postgres.IsAddress(where) }

// openDatabase opens the database at where: a file's path, or the address of a PostgreSQL database. Other nodes may use the
// latter too; pulse is then a connection of its own for looking at what they do, so that no crowd of requests is in its way.
func openDatabase(ctx context.Context, where string, mustExist bool) (db, pulse database, err error) {
	if !OnPostgres(where) {
		file, err := sqlite.Open(ctx, where, steps("sqlite"), sqlite.Options{Readers: readers, CacheKiB: cacheKiB, MustExist: mustExist})
		if err != nil {
			return nil, nil, err
		}
		return adapted[*sqlite.Conn, *sqlite.Row]{file}, nil, nil
	}
	server, err := postgres.Open(ctx, where, steps("postgres"), postgres.Options{MustExist: mustExist, Turn: auditTurn})
	if err != nil {
		return nil, nil, err
	}
	beside, err := postgres.Open(ctx, where, nil, postgres.Options{Conns: 1})
	if err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	return adapted[*postgres.Conn, *postgres.Row]{server}, adapted[*postgres.Conn, *postgres.Row]{beside}, nil
}

func steps(of string) fs.FS {
	folder, err := fs.Sub(migrations, "migrations/"+of)
	if err != nil {
		panic("bug: " + err.Error())
	}
	return folder
}

// adapted is a package's DB as a database. Its methods differ in the types of their functions' parameters only.
type adapted[C connOf[R], R row] struct {
	db interface {
		Read(ctx context.Context, fn func(C) error) error
		Write(ctx context.Context, fn func(C) error) error
		Close() error
	}
}

// connOf is a package's Conn.
type connOf[R row] interface {
	Exec(query string, args ...any) error
	Changes() int
	Query(query string, args ...any) iter.Seq2[R, error]
}

// Read is the DB's.
func (a adapted[C, R]) Read(ctx context.Context, fn func(conn) error) error {
	return a.db.Read(ctx, func(c C) error { return fn(adaptedConn[R]{c}) })
}

// Write is the DB's.
func (a adapted[C, R]) Write(ctx context.Context, fn func(conn) error) error {
	return a.db.Write(ctx, func(c C) error { return fn(adaptedConn[R]{c}) })
}

// Close is the DB's.
func (a adapted[C, R]) Close() error { return a.db.Close() }

// observed is a database whose transactions somebody watches.
type observed struct {
	database
	tell func(write bool, took time.Duration, err error)
}

// Read is the database's.
func (o observed) Read(ctx context.Context, fn func(conn) error) error {
	started := time.Now()
	err := o.database.Read(ctx, fn)
	o.tell(false, time.Since(started), err)
	return err
}

// Write is the database's.
func (o observed) Write(ctx context.Context, fn func(conn) error) error {
	started := time.Now()
	err := o.database.Write(ctx, fn)
	o.tell(true, time.Since(started), err)
	return err
}

type adaptedConn[R row] struct{ c connOf[R] }

// Exec is the Conn's.
func (a adaptedConn[R]) Exec(query string, args ...any) error {
	if err := checkText(args); err != nil {
		return err
	}
	return a.c.Exec(query, args...)
}

// Changes is the Conn's.
func (a adaptedConn[R]) Changes() int { return a.c.Changes() }

// Query is the Conn's.
func (a adaptedConn[R]) Query(query string, args ...any) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		if err := checkText(args); err != nil {
			yield(nil, err)
			return
		}
		for r, err := range a.c.Query(query, args...) {
			if !yield(r, err) {
				return
			}
		}
	}
}

// First is the Conn's.
func (a adaptedConn[R]) First(query string, scan func(row), args ...any) (bool, error) {
	for r, err := range a.Query(query, args...) {
		if err != nil {
			return false, err
		}
		scan(r)
		return true, nil
	}
	return false, nil
}

// errNoText is of what PostgreSQL could not hold. SQLite could, but a control plane can move from one to the other.
var errNoText = fmt.Errorf("text has a NUL byte or is no UTF-8: %w", errkind.Invalid)

func checkText(args []any) error {
	for _, a := range args {
		s, ok := a.(string)
		if v := reflect.ValueOf(a); !ok && v.Kind() == reflect.String {
			s = v.String()
		}
		if !utf8.ValidString(s) || strings.Contains(s, "\x00") {
			return errNoText
		}
	}
	return nil
}

// exists reports whether a query has a row.
func exists(q conn, query string, args ...any) (bool, error) {
	return q.First(query, func(row) {}, args...)
}

// find hands the one row of a query to scan, or says that there is no such thing as what: errkind.NotFound. Nothing has an
// identifier or a name that is no text.
func find(q conn, what, query string, scan func(row), args ...any) error {
	ok, err := q.First(query, scan, args...)
	if err == nil && !ok || errors.Is(err, errNoText) {
		return notFound(what)
	}
	return err
}

func notFound(what string) error { return fmt.Errorf("find %s: %w", what, errkind.NotFound) }
