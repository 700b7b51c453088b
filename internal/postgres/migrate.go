package postgres

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skep-dev/skep/internal/migration"
)

const (
	// migrationLock is the advisory lock that a migrating node holds. The number says "skep".
	migrationLock = 0x736b6570
	// migrationWait is how long a node that starts waits for another one that is migrating.
	migrationWait = 2 * time.Minute
	// migrationLimit bounds one step. A step that takes longer is not one that can be done while nodes serve.
	migrationLimit = 10 * time.Minute
)

// The lock is waited for with its own limit; what the step itself locks is taken soon or not at all, since all who come
// after it wait as well.
const (
	setWait = "SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', '0', true)"
	setStep = "SELECT set_config('lock_timeout', '30s', true), set_config('idle_in_transaction_session_timeout', '0', true)"

	defaultVersions = "skep_schema"

	versionTable = `CREATE TABLE IF NOT EXISTS %s (
		version BIGINT NOT NULL PRIMARY KEY,
		name    TEXT COLLATE "C" NOT NULL,
		applied TIMESTAMPTZ NOT NULL DEFAULT now()
	)`
	selectVersion = "SELECT COALESCE(max(version), 0) FROM %s"
	insertVersion = "INSERT INTO %s (version, name) VALUES ($1, $2)"
)

// migrate applies the migrations that the database has not had. Nodes that start at once take turns, step by step, and each
// looks again, once it has the lock, what is left to do. The step and its number are one transaction.
func (db *DB) migrate(ctx context.Context, migrations fs.FS) error {
	steps, err := migration.Read(migrations)
	if err != nil {
		return err
	}
	version, err := db.version(ctx) // without the lock: most starts have nothing to do
	if err != nil {
		return err
	}
	for {
		pending, err := migration.Pending(steps, version)
		if err != nil {
			return err
		}
		if len(pending) == 0 {
			return nil
		}
		if version, err = db.step(ctx, version, pending[0]); err != nil {
			return fmt.Errorf("apply %s: %w", pending[0].Name, err)
		}
	}
}

// step applies a step if the database still has the version before it, and returns the version that it has now.
func (db *DB) step(ctx context.Context, before int, s migration.Step) (version int, err error) {
	ctx, cancel := context.WithTimeout(ctx, migrationLimit)
	defer cancel()
	conn, err := db.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	// The default isolation: after the wait for the lock, the version has to be what the other node left.
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, setWait, fmt.Sprint(migrationWait.Milliseconds())); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return fmt.Errorf("wait for another node that migrates: %w", err)
		}
		if _, err := tx.Exec(ctx, setStep); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, db.onVersions(versionTable)); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, db.onVersions(selectVersion)).Scan(&version); err != nil || version != before {
			return err
		}
		if _, err := tx.Conn().PgConn().Exec(ctx, s.SQL).ReadAll(); err != nil {
			return err
		}
		version = s.Number
		_, err := tx.Exec(ctx, db.onVersions(insertVersion), s.Number, s.Name)
		return err
	})
	if err != nil {
		return 0, classify(err, conn.Conn().IsClosed())
	}
	return version, nil
}

// onVersions is a statement on the table of versions.
func (db *DB) onVersions(query string) string {
	table := db.opts.Versions
	if table == "" {
		table = defaultVersions
	}
	return fmt.Sprintf(query, table)
}

// version is how many migrations the database has had.
func (db *DB) version(ctx context.Context) (version int, err error) {
	err = db.Read(ctx, func(c *Conn) error {
		_, err := c.First(db.onVersions(selectVersion), func(r *Row) { version = r.Int(0) })
		return err
	})
	if stateOf(err) == undefinedTable {
		return 0, nil
	}
	return version, err
}
