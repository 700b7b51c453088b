package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/skep-dev/skep/internal/errkind"
)

const (
	// defaultConns suits PostgreSQL's own default of 100 connections, shared by a few nodes.
	defaultConns = 10
	// maxWriters of a process run at a time. Serialisable transactions that meet are run again, so more of them at once
	// only make more that meet.
	maxWriters = 4

	// maxAttempts is how often a writing transaction is begun at most. With the pauses between them it takes about a second
	// to give up, and then there is more to do than the database can.
	maxAttempts = 10
	// maxReplays is how often a transaction is run again after it broke a constraint. Once is enough: then it sees what it
	// had raced with.
	maxReplays = 1
	firstPause = 2 * time.Millisecond
	maxPause   = 200 * time.Millisecond

	// acquireTimeout is how long a transaction waits for its turn and a connection.
	acquireTimeout = 5 * time.Second
	// transactTimeout bounds a transaction on this side too: when the network is gone no server ends anything.
	transactTimeout = 15 * time.Second
	// finishTimeout bounds a commit or a rollback, which a caller who goes away does not end.
	finishTimeout = 5 * time.Second
)

// DB is an open database. It is safe for concurrent use.
type DB struct {
	pool    *pgxpool.Pool
	opts    Options
	name    string        // for errors: without a password
	writers chan struct{} // a place for each writer
}

// Options tune a database. The zero Options works.
type Options struct {
	// Conns is how many connections there may be; they are opened at need. 0: 10, or pool_max_conns of the address.
	Conns int
	// MustExist refuses a database that has had no migrations: errkind.NotFound.
	MustExist bool
	// Turn, if not empty, is a table that each Write locks before anything else, so that they run one after the other, those of
	// other processes too. For a database all of whose writers meet at one row: one that waits is quicker than one that runs again.
	Turn string
	// Versions is the table that says which migrations the database has had; "": skep_schema. Each schema in a database has one of
	// its own.
	Versions string
}

// Open connects to the database at address, a postgres:// URL, and brings its schema up to date with migrations, which may
// be nil. What the URL does not say comes from the environment and the password file, as with psql.
func Open(ctx context.Context, address string, migrations fs.FS, opts Options) (*DB, error) {
	config, err := parse(address, opts)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", oneLine(err))
	}
	db := &DB{pool: pool, opts: opts, name: nameOf(config.ConnConfig), writers: make(chan struct{}, maxWriters)}
	if err := db.start(ctx, migrations); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open database %s: %w", db.name, err)
	}
	return db, nil
}

// start connects for the first time: who starts a server wants to know now that the password is wrong.
func (db *DB) start(ctx context.Context, migrations fs.FS) error {
	conn, err := db.acquire(ctx)
	if err != nil {
		return err
	}
	conn.Release()
	if migrations == nil {
		return nil
	}
	if db.opts.MustExist {
		version, err := db.version(ctx)
		if err != nil {
			return err
		}
		if version == 0 {
			return fmt.Errorf("it has no schema of skep: %w", errkind.NotFound)
		}
	}
	return db.migrate(ctx, migrations)
}

// Close waits for running transactions and closes all connections. Call it once.
func (db *DB) Close() error {
	db.pool.Close()
	return nil
}

// Read runs fn in a transaction that sees one state of the database and cannot change it.
func (db *DB) Read(ctx context.Context, fn func(*Conn) error) error {
	return db.transact(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, fn)
}

// Write runs fn in a transaction and commits it, unless fn fails. What fn reads cannot change before it commits: if it would,
// fn runs again, up to maxAttempts times; then Write gives up, errkind.Unavailable. fn must not call Write or Read.
func (db *DB) Write(ctx context.Context, fn func(*Conn) error) error {
	waiting, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	select {
	case db.writers <- struct{}{}:
		defer func() { <-db.writers }()
	case <-waiting.Done():
		if err := ctx.Err(); err != nil {
			return err
		}
		return fmt.Errorf("wait for %d other writers: %w", maxWriters, errkind.Unavailable)
	}
	if db.opts.Turn != "" {
		fn = inTurn(db.opts.Turn, fn)
	}
	began, replays := time.Now(), 0
	for attempt := 1; ; attempt++ {
		err := db.transact(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable}, fn)
		switch met := metOther(err); {
		case met == no:
			return err
		case met == atConstraint && replays == maxReplays:
			return err
		case met == atConstraint:
			replays++
		case attempt == maxAttempts || time.Since(began) > transactTimeout:
			return fmt.Errorf("meet other writers %d times: %w: %w", attempt, errkind.Unavailable, err)
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// inTurn is fn after the table is locked. That comes before the transaction's snapshot is taken, so that fn sees what those before
// it have done: https://www.postgresql.org/docs/current/sql-lock.html.
func inTurn(table string, fn func(*Conn) error) func(*Conn) error {
	return func(c *Conn) error {
		if err := c.Exec("LOCK TABLE " + table + " IN EXCLUSIVE MODE"); err != nil {
			return err
		}
		return fn(c)
	}
}

// pause waits before the next attempt, at random, so that those who met do not meet again.
func pause(ctx context.Context, attempt int) error {
	most := min(firstPause<<attempt, maxPause)
	t := time.NewTimer(time.Duration(rand.Int64N(int64(most))))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// transact runs fn between BEGIN and COMMIT, once.
func (db *DB) transact(caller context.Context, mode pgx.TxOptions, fn func(*Conn) error) (err error) {
	ctx, cancel := context.WithTimeout(caller, transactTimeout)
	defer cancel()
	pc, tx, err := db.begin(ctx, mode)
	if err != nil {
		return ended(caller, err)
	}
	defer pc.Release() // it closes a connection that is not as it was
	done := false
	defer func() { // also when fn panics
		if !done {
			rollback(caller, tx)
		}
	}()
	c := &Conn{ctx: ctx, tx: tx}
	if err := fn(c); err != nil {
		// A function may hide what happened to its transaction; whether it may run again depends on that.
		if c.failed != nil && metOther(err) == no && metOther(c.failed) == atAnother {
			err = c.failed
		}
		return ended(caller, err)
	}
	// A caller who goes away ends a long query, but never a commit: that would leave it open whether it was done.
	finish, cancelFinish := context.WithTimeout(context.WithoutCancel(caller), finishTimeout)
	defer cancelFinish()
	done = true
	if err := tx.Commit(finish); err != nil {
		if c.failed != nil && errors.Is(err, pgx.ErrTxCommitRollback) {
			err = c.failed // fn went on after a statement had failed
		}
		return fmt.Errorf("commit: %w", classify(err, pc.Conn().IsClosed()))
	}
	return nil
}

// begin begins a transaction on a connection of the pool. One that turns out to have ended, as all have after the server was away for
// a moment, has done nothing yet: another is tried, until one was made anew.
func (db *DB) begin(ctx context.Context, mode pgx.TxOptions) (*pgxpool.Conn, pgx.Tx, error) {
	for tries := db.pool.Stat().MaxConns(); ; tries-- {
		pc, err := db.acquire(ctx)
		if err != nil {
			return nil, nil, err
		}
		tx, err := pc.BeginTx(ctx, mode)
		if err == nil {
			return pc, tx, nil
		}
		dead := pc.Conn().IsClosed()
		err = fmt.Errorf("begin: %w", classify(err, dead))
		pc.Release()
		if !dead || tries <= 0 || ctx.Err() != nil {
			return nil, nil, err
		}
	}
}

// rollback ends a transaction. If it cannot, the connection is closed, which ends it as well.
func rollback(caller context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(caller), finishTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// ended prefers to say that the caller has gone away over what came of that.
func ended(caller context.Context, err error) error {
	if caller.Err() != nil {
		return caller.Err()
	}
	return err
}

// acquire takes a connection from the pool, or makes one.
func (db *DB) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	waiting, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	conn, err := db.pool.Acquire(waiting)
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("connect: %w: %w", oneLine(err), errkind.Unavailable)
}
