package sqlite

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// migrate applies the migrations that the database has not had, each in a transaction of its own together with the new
// user_version: a crash in between leaves whole steps only.
func (db *DB) migrate(ctx context.Context, migrations fs.FS) error {
	scripts, err := readMigrations(migrations)
	if err != nil {
		return err
	}
	version, err := db.version(ctx)
	if err != nil {
		return err
	}
	if version > len(scripts) {
		return fmt.Errorf("its schema %d is newer than this program, which knows %d: %w", version, len(scripts), errkind.Unsupported)
	}
	for i := version; i < len(scripts); i++ {
		err := db.Write(ctx, func(c *Conn) error {
			if err := c.script(scripts[i].text); err != nil {
				return err
			}
			return c.script("PRAGMA user_version=" + strconv.Itoa(i+1))
		})
		if err != nil {
			return fmt.Errorf("apply %s: %w", scripts[i].name, err)
		}
	}
	return nil
}

func (db *DB) version(ctx context.Context) (version int, err error) {
	c, err := db.takeWriter(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { db.writer <- c }()
	_, err = c.First("PRAGMA user_version", func(r *Row) { version = r.Int(0) })
	return version, err
}

type migration struct{ name, text string }

// readMigrations reads NNNN_what.sql files. Their numbers count from 1 without a gap: a step that is missing from the
// program is a mistake to find before it meets data.
func readMigrations(fsys fs.FS) ([]migration, error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, err
	}
	out := make([]migration, 0, len(names))
	for i, name := range names { // Glob sorts
		number, _, _ := strings.Cut(name, "_")
		if n, err := strconv.Atoi(number); err != nil || n != i+1 {
			return nil, fmt.Errorf("migration %s is not number %d", name, i+1)
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		out = append(out, migration{name, string(text)})
	}
	return out, nil
}
