package sqlite

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/skep-dev/skep/internal/migration"
)

// migrate applies the migrations that the database has not had, each in a transaction of its own together with the new
// user_version: a crash in between leaves whole steps only.
func (db *DB) migrate(ctx context.Context, migrations fs.FS) error {
	steps, err := migration.Read(migrations)
	if err != nil {
		return err
	}
	version, err := db.version(ctx)
	if err != nil {
		return err
	}
	pending, err := migration.Pending(steps, version)
	if err != nil {
		return err
	}
	for _, step := range pending {
		err := db.Write(ctx, func(c *Conn) error {
			if version, err := userVersion(c); err != nil || version >= step.Number { // another process has been here first
				return err
			}
			if err := c.script(step.SQL); err != nil {
				return err
			}
			return c.script("PRAGMA user_version=" + strconv.Itoa(step.Number))
		})
		if err != nil {
			return fmt.Errorf("apply %s: %w", step.Name, err)
		}
	}
	return nil
}

func (db *DB) version(ctx context.Context) (int, error) {
	c, err := db.takeWriter(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { db.writer <- c }()
	return userVersion(c)
}

func userVersion(c *Conn) (version int, err error) {
	_, err = c.First("PRAGMA user_version", func(r *Row) { version = r.Int(0) })
	return version, err
}
