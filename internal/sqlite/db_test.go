package sqlite_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/sqlite"
)

func schema(files ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i, text := range files {
		fsys["000"+string(rune('1'+i))+"_step.sql"] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

const things = "CREATE TABLE thing (name TEXT PRIMARY KEY, n INTEGER NOT NULL, data BLOB) STRICT, WITHOUT ROWID;"

func open(t *testing.T, path string, fsys fstest.MapFS, opts sqlite.Options) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), path, fsys, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func count(t *testing.T, db *sqlite.DB) (n int) {
	t.Helper()
	err := db.Read(t.Context(), func(c *sqlite.Conn) error {
		_, err := c.First("SELECT count(*) FROM thing", func(r *sqlite.Row) { n = r.Int(0) })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var modes = []struct {
	name string
	opts sqlite.Options
}{
	{"shared", sqlite.Options{}},
	{"readers", sqlite.Options{Readers: 2}},
	{"exclusive", sqlite.Options{Exclusive: true}},
}

func TestWriteThenRead(t *testing.T) {
	type name string
	type hash [4]byte
	for _, tt := range modes {
		t.Run(tt.name, func(t *testing.T) {
			db := open(t, filepath.Join(t.TempDir(), "a.db"), schema(things), tt.opts)
			err := db.Write(t.Context(), func(c *sqlite.Conn) error {
				if err := c.Exec("INSERT INTO thing VALUES (?, ?, ?)", name("a"), uint8(7), hash{1, 2, 3, 4}); err != nil {
					return err
				}
				if c.Changes() != 1 {
					t.Errorf("Changes() = %d, want 1", c.Changes())
				}
				return c.Exec("INSERT INTO thing VALUES (?, ?, ?)", "b", time.UnixMicro(42), nil)
			})
			if err != nil {
				t.Fatal(err)
			}
			err = db.Read(t.Context(), func(c *sqlite.Conn) error {
				found, err := c.First("SELECT name, n, data FROM thing WHERE name = ?", func(r *sqlite.Row) {
					if r.Text(0) != "a" || r.Int(1) != 7 || string(r.Bytes(2)) != "\x01\x02\x03\x04" {
						t.Errorf("row a = %q, %d, %x", r.Text(0), r.Int(1), r.Bytes(2))
					}
				}, "a")
				if !found || err != nil {
					t.Errorf("row a: found %v, error %v", found, err)
				}
				found, err = c.First("SELECT n, data FROM thing WHERE name = ?", func(r *sqlite.Row) {
					if !r.Time(0).Equal(time.UnixMicro(42)) || !r.IsNull(1) || r.Bytes(1) != nil {
						t.Errorf("row b = %v, %x", r.Time(0), r.Bytes(1))
					}
				}, "b")
				if !found || err != nil {
					t.Errorf("row b: found %v, error %v", found, err)
				}
				found, err = c.First("SELECT n FROM thing WHERE name = ?", func(*sqlite.Row) {}, "c")
				if found || err != nil {
					t.Errorf("row c: found %v, error %v", found, err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestFailedWriteLeavesNothing(t *testing.T) {
	for _, tt := range modes {
		t.Run(tt.name, func(t *testing.T) {
			db := open(t, filepath.Join(t.TempDir(), "a.db"), schema(things), tt.opts)
			boom := errors.New("boom")
			insert := func(c *sqlite.Conn) error { return c.Exec("INSERT INTO thing VALUES ('a', 1, NULL)") }

			err := db.Write(t.Context(), func(c *sqlite.Conn) error { return errors.Join(insert(c), boom) })
			if !errors.Is(err, boom) || count(t, db) != 0 {
				t.Errorf("after an error: %v, %d rows", err, count(t, db))
			}

			func() {
				defer func() { _ = recover() }()
				_ = db.Write(t.Context(), func(c *sqlite.Conn) error { _ = insert(c); panic("boom") })
			}()
			if count(t, db) != 0 {
				t.Errorf("after a panic: %d rows", count(t, db))
			}

			ctx, cancel := context.WithCancel(t.Context())
			err = db.Write(ctx, func(c *sqlite.Conn) error { cancel(); return errors.Join(insert(c), insert(c)) })
			if !errors.Is(err, context.Canceled) || count(t, db) != 0 {
				t.Errorf("after a cancelled write: %v, %d rows", err, count(t, db))
			}

			if err := db.Write(t.Context(), insert); err != nil || count(t, db) != 1 {
				t.Errorf("afterwards: %v, %d rows", err, count(t, db))
			}
			if err := db.Write(t.Context(), insert); !errors.Is(err, errkind.Exists) {
				t.Errorf("a key that is taken: %v, want Exists", err)
			}
		})
	}
}

func TestReadCannotWrite(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"), schema(things), sqlite.Options{Readers: 1})
	err := db.Read(t.Context(), func(c *sqlite.Conn) error { return c.Exec("INSERT INTO thing VALUES ('a', 1, NULL)") })
	if err == nil {
		t.Error("a reader wrote")
	}
}

func TestReadersSeeOneState(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"), schema(things), sqlite.Options{Readers: 2})
	n := func(c *sqlite.Conn) (n int) {
		if _, err := c.First("SELECT count(*) FROM thing", func(r *sqlite.Row) { n = r.Int(0) }); err != nil {
			t.Error(err)
		}
		return n
	}
	err := db.Read(t.Context(), func(c *sqlite.Conn) error {
		before := n(c)
		err := db.Write(t.Context(), func(c *sqlite.Conn) error { return c.Exec("INSERT INTO thing VALUES ('a', 1, NULL)") })
		if after := n(c); before != 0 || after != 0 {
			t.Errorf("one read saw %d rows, then %d", before, after)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if count(t, db) != 1 {
		t.Errorf("a later read saw %d rows", count(t, db))
	}
}

func TestConcurrentUse(t *testing.T) {
	for _, tt := range modes {
		t.Run(tt.name, func(t *testing.T) {
			db := open(t, filepath.Join(t.TempDir(), "a.db"), schema(things, "INSERT INTO thing VALUES ('sum', 0, NULL);"), tt.opts)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 10 {
						err := db.Write(t.Context(), func(c *sqlite.Conn) error {
							var n int
							_, err := c.First("SELECT n FROM thing WHERE name = 'sum'", func(r *sqlite.Row) { n = r.Int(0) })
							return errors.Join(err, c.Exec("UPDATE thing SET n = ? WHERE name = 'sum'", n+1))
						})
						if err != nil {
							t.Error(err)
						}
						count(t, db)
					}
				})
			}
			wg.Wait()
			err := db.Read(t.Context(), func(c *sqlite.Conn) error {
				_, err := c.First("SELECT n FROM thing", func(r *sqlite.Row) {
					if r.Int(0) != 80 {
						t.Errorf("sum = %d, want 80", r.Int(0))
					}
				})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestMigrations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	insert := "INSERT INTO thing VALUES ('a', 1, NULL); INSERT INTO thing VALUES ('b', 1, NULL);\n"
	for _, steps := range [][]string{{things}, {things, insert}, {things, insert}} {
		db, err := sqlite.Open(t.Context(), path, schema(steps...), sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := count(t, db), 2*(len(steps)-1); got != want {
			t.Errorf("%d rows after %d steps, want %d", got, len(steps), want)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sqlite.Open(t.Context(), path, schema(things), sqlite.Options{}); !errors.Is(err, errkind.Unsupported) {
		t.Errorf("open with an older program: %v, want Unsupported", err)
	}
	if _, err := sqlite.Open(t.Context(), path, schema(things, insert, insert), sqlite.Options{}); err == nil {
		t.Error("a migration that fails was taken")
	}
	gap := fstest.MapFS{"0002_x.sql": {Data: []byte(things)}}
	if _, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "b.db"), gap, sqlite.Options{}); err == nil {
		t.Error("migrations with a gap were taken")
	}
}

// TestMigrateTogether: processes that open a database at once apply each step once.
func TestMigrateTogether(t *testing.T) {
	insert := "INSERT INTO thing VALUES ('a', 1, NULL); INSERT INTO thing VALUES ('b', 1, NULL);\n"
	for round := range 10 {
		path := filepath.Join(t.TempDir(), strconv.Itoa(round)+".db")
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				db, err := sqlite.Open(t.Context(), path, schema(things, insert), sqlite.Options{})
				if err != nil {
					t.Error(err)
					return
				}
				if got := count(t, db); got != 2 {
					t.Errorf("%d rows, want 2", got)
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func TestMustExist(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	if _, err := sqlite.Open(t.Context(), path, nil, sqlite.Options{MustExist: true}); !errors.Is(err, errkind.NotFound) {
		t.Errorf("open of nothing: %v, want NotFound", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the refused open made a file")
	}
}

func TestCheckpointAndCloseEmptyTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := sqlite.Open(t.Context(), path, schema(things), sqlite.Options{Readers: 1})
	if err != nil {
		t.Fatal(err)
	}
	count(t, db)
	if err := db.Checkpoint(t.Context()); err != nil {
		t.Error(err)
	}
	if fi, err := os.Stat(path + "-wal"); err != nil || fi.Size() != 0 {
		t.Errorf("log after a checkpoint: %v, %v", fi, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path + "-wal"); err == nil {
		t.Error("the log is there after Close")
	}
	if err := db.Read(t.Context(), func(*sqlite.Conn) error { return nil }); !errors.Is(err, errkind.Unavailable) {
		t.Errorf("read after Close: %v, want Unavailable", err)
	}
}

func TestExclusiveHasNoSharedMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := open(t, path, schema(things), sqlite.Options{Exclusive: true})
	count(t, db)
	if _, err := os.Stat(path + "-shm"); err == nil {
		t.Error("there is a -shm file")
	}
}
