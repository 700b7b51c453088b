package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/postgres"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

func schema(files ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i, text := range files {
		fsys[fmt.Sprintf("%04d_step.sql", i+1)] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

const things = `CREATE TABLE thing (name TEXT COLLATE "C" PRIMARY KEY, n BIGINT NOT NULL, data BYTEA);`

func open(tb testing.TB, address string, fsys fstest.MapFS) *postgres.DB {
	tb.Helper()
	db, err := postgres.Open(tb.Context(), address, fsys, postgres.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

func insert(name string, n int) func(*postgres.Conn) error {
	return func(c *postgres.Conn) error { return c.Exec("INSERT INTO thing (name, n) VALUES (?, ?)", name, n) }
}

func count(tb testing.TB, db *postgres.DB) (n int) {
	tb.Helper()
	err := db.Read(tb.Context(), func(c *postgres.Conn) error {
		_, err := c.First("SELECT count(*) FROM thing", func(r *postgres.Row) { n = r.Int(0) })
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func wantKind(tb testing.TB, what string, err error, want errkind.Kind) {
	tb.Helper()
	if err == nil || errkind.Of(err) != want {
		tb.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func TestWriteThenRead(t *testing.T) {
	type name string
	type hash [4]byte
	db := open(t, postgrestest.New(t), schema(things))
	err := db.Write(t.Context(), func(c *postgres.Conn) error {
		if err := c.Exec("INSERT INTO thing VALUES (?, ?, ?)", name("a?"), uint8(7), hash{1, 2, 3, 4}); err != nil {
			return err
		}
		if err := c.Exec("INSERT INTO thing VALUES (?1, ?3, ?2), ('it''s ?', ?3, ?2) -- why?", "b", nil, time.UnixMicro(42)); err != nil {
			return err
		}
		if c.Changes() != 2 {
			t.Errorf("Changes() = %d, want 2", c.Changes())
		}
		return c.Exec("INSERT INTO thing VALUES (?, ?, ?)", "true", true, []byte{})
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = db.Read(t.Context(), func(c *postgres.Conn) error {
		for r, err := range c.Query("SELECT name, n, data FROM thing ORDER BY name") {
			if err != nil {
				return err
			}
			// A loop's body asks as well, even the same.
			if ok, err := c.First("SELECT name, n, data FROM thing ORDER BY name", func(*postgres.Row) {}); !ok || err != nil {
				t.Errorf("a query inside of another = %v, %v", ok, err)
			}
			var buf [4]byte
			n := r.Copy(2, buf[:])
			got = append(got, fmt.Sprintf("%s %d %t %d %x %t %t",
				r.Text(0), r.Int64(1), r.Bool(1), r.Time(1).UnixMicro(), buf[:n], r.IsNull(2), r.Bytes(2) == nil))
		}
		return nil
	})
	want := []string{
		"a? 7 true 7 01020304 false false",
		"b 42 true 42  true true",
		"it's ? 42 true 42  true true",
		"true 1 true 1  false false",
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("rows (-want +got): %v\n%s", err, diff)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	db := open(t, postgrestest.New(t), schema(things))
	broken := errors.New("broken")
	err := db.Write(t.Context(), func(c *postgres.Conn) error { return errors.Join(insert("a", 1)(c), broken) })
	if !errors.Is(err, broken) {
		t.Errorf("Write = %v, want %v", err, broken)
	}
	func() {
		defer func() { _ = recover() }()
		_ = db.Write(t.Context(), func(c *postgres.Conn) error {
			_ = insert("b", 1)(c)
			panic("fn")
		})
	}()
	// A function that goes on after a statement has failed commits nothing.
	err = db.Write(t.Context(), func(c *postgres.Conn) error {
		_ = insert("c", 1)(c)
		_ = c.Exec("INSERT INTO thing (name) VALUES ('d')")
		return nil
	})
	wantKind(t, "a statement that failed, unseen", err, errkind.Conflict)
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows were left", n)
	}
	err = db.Read(t.Context(), insert("e", 1))
	wantKind(t, "a write in Read", err, errkind.Unavailable)
}

func TestKinds(t *testing.T) {
	db := open(t, postgrestest.New(t), schema(things+"CREATE TABLE part (name TEXT COLLATE \"C\" REFERENCES thing (name), n BIGINT CHECK (n > 0));"))
	if err := db.Write(t.Context(), insert("a", 1)); err != nil {
		t.Fatal(err)
	}
	exec := func(query string, args ...any) error {
		return db.Write(t.Context(), func(c *postgres.Conn) error { return c.Exec(query, args...) })
	}
	wantKind(t, "unique", db.Write(t.Context(), insert("a", 2)), errkind.Exists)
	wantKind(t, "foreign key", exec("INSERT INTO part VALUES ('x', 1)"), errkind.Conflict)
	wantKind(t, "check", exec("INSERT INTO part VALUES ('a', 0)"), errkind.Conflict)
	wantKind(t, "not null", exec("INSERT INTO thing (name) VALUES ('x')"), errkind.Conflict)
	wantKind(t, "NUL", exec("INSERT INTO thing (name, n) VALUES (?, 1)", "a\x00"), errkind.Invalid)
	wantKind(t, "no UTF-8", exec("INSERT INTO thing (name, n) VALUES (?, 1)", "\xff"), errkind.Invalid)
	wantKind(t, "slow statement", db.Read(t.Context(), func(c *postgres.Conn) error {
		if err := c.Exec("SET LOCAL statement_timeout = 10"); err != nil {
			return err
		}
		return c.Exec("SELECT pg_sleep(60)")
	}), errkind.Unavailable)
	wantKind(t, "no table", exec("INSERT INTO nothing VALUES (1)"), errkind.Internal)

	// The pool is as good as new after all of that.
	if n := count(t, db); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

// TestWritersDoNotOverlap: each reads, then writes what follows from it. None may have read what another one changed.
func TestWritersDoNotOverlap(t *testing.T) {
	address := postgrestest.New(t)
	nodes := []*postgres.DB{open(t, address, schema(things)), open(t, address, schema(things))}
	if err := nodes[0].Write(t.Context(), insert("sum", 0)); err != nil {
		t.Fatal(err)
	}
	const each = 10
	var wg sync.WaitGroup
	for _, db := range append(nodes, nodes...) {
		wg.Go(func() {
			for range each {
				err := db.Write(t.Context(), func(c *postgres.Conn) error {
					var n int
					if _, err := c.First("SELECT n FROM thing WHERE name = 'sum'", func(r *postgres.Row) { n = r.Int(0) }); err != nil {
						return err
					}
					return c.Exec("UPDATE thing SET n = ? WHERE name = 'sum'", n+1)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var n int
	err := nodes[1].Read(t.Context(), func(c *postgres.Conn) error {
		_, err := c.First("SELECT n FROM thing", func(r *postgres.Row) { n = r.Int(0) })
		return err
	})
	if err != nil || n != 4*each {
		t.Errorf("the sum is %d, %v, want %d", n, err, 4*each)
	}
}

// TestLoserLooksAgain: two find a name free. The one that loses runs again, and sees that it is taken.
func TestLoserLooksAgain(t *testing.T) {
	db := open(t, postgrestest.New(t), schema(things))
	runs := 0
	err := db.Write(t.Context(), func(c *postgres.Conn) error {
		runs++
		taken, err := c.First("SELECT 1 FROM thing WHERE name = 'a'", func(*postgres.Row) {})
		if err != nil {
			return err
		}
		if taken {
			return fmt.Errorf("a is taken: %w", errkind.Exists)
		}
		if err := db.Write(t.Context(), insert("a", 1)); err != nil { // the winner
			t.Fatal(err)
		}
		return insert("a", 2)(c)
	})
	if wantKind(t, "loser", err, errkind.Exists); runs != 2 || err.Error() != "a is taken: already exists" {
		t.Errorf("after %d runs: %v", runs, err)
	}
}

func TestGivesUpAfterSomeAttempts(t *testing.T) {
	db := open(t, postgrestest.New(t), schema(things))
	runs := 0
	err := db.Write(t.Context(), func(c *postgres.Conn) error {
		runs++
		return c.Exec("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = 'serialization_failure'; END $$")
	})
	if wantKind(t, "always in the way", err, errkind.Unavailable); runs != 10 {
		t.Errorf("it ran %d times, want 10", runs)
	}
}

func TestCancelledContext(t *testing.T) {
	db := open(t, postgrestest.New(t), schema(things))
	ctx, cancel := context.WithCancel(t.Context())
	err := db.Write(ctx, func(c *postgres.Conn) error {
		time.AfterFunc(10*time.Millisecond, cancel)
		return c.Exec("SELECT pg_sleep(60)")
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Write = %v, want context.Canceled", err)
	}
	if err := db.Read(ctx, func(*postgres.Conn) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Read = %v, want context.Canceled", err)
	}
	// Who goes away once all is said does not stop the commit.
	ctx, cancel = context.WithCancel(t.Context())
	if err := db.Write(ctx, func(c *postgres.Conn) error {
		defer cancel()
		return insert("a", 1)(c)
	}); err != nil || count(t, db) != 1 {
		t.Errorf("a commit that the caller did not wait for: %v", err)
	}
}

func TestMigrateStepByStep(t *testing.T) {
	address := postgrestest.New(t)
	second := "ALTER TABLE thing ADD COLUMN more BIGINT NOT NULL DEFAULT 5; INSERT INTO thing (name, n) VALUES ('by step 2', 1);"
	if _, err := postgres.Open(t.Context(), address, schema(things), postgres.Options{MustExist: true}); errkind.Of(err) != errkind.NotFound {
		t.Errorf("an empty database that must exist: %v", err)
	}
	open(t, address, schema(things))

	// A step that breaks in its middle leaves the step before it.
	_, err := postgres.Open(t.Context(), address, schema(things, second+"nonsense"), postgres.Options{})
	if err == nil || !strings.Contains(err.Error(), "apply 0002_step.sql") {
		t.Errorf("a broken step: %v", err)
	}
	// Nodes that start at once apply it once.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			db, err := postgres.Open(t.Context(), address, schema(things, second), postgres.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if n := count(t, db); n != 1 {
				t.Errorf("%d rows, want the one of step 2", n)
			}
			_ = db.Close()
		})
	}
	wg.Wait()
	_, err = postgres.Open(t.Context(), address, schema(things), postgres.Options{})
	if wantKind(t, "a newer database", err, errkind.Unsupported); !strings.Contains(err.Error(), "its schema 2 is newer than this program, which knows 1") {
		t.Error(err)
	}
}

// TestErrorsAreShortAndKeepSecrets: whatever is wrong with an address or behind it, the error is one line without the password.
func TestErrorsAreShortAndKeepSecrets(t *testing.T) {
	socket := postgrestest.New(t)
	rest := strings.TrimPrefix(socket, "postgres:///")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := free.Addr().String()
	_ = free.Close()
	const pw = "pa99Word"
	tests := []struct {
		address, want string
		kind          errkind.Kind
	}{
		{"mysql://u:" + pw + "@h/db", "does not begin with postgres://", errkind.Invalid},
		{"postgres://u:" + pw + "@" + closed + "/db", "u@" + closed + "/db: connect: dial tcp " + closed + ": connect: connection refused", errkind.Unavailable},
		{"postgres://u:" + pw + "/x@h/db", "malformed", errkind.Invalid},
		{"postgres://u:" + pw + "#x@h/db", "malformed", errkind.Invalid},
		{"postgres://u:" + pw + "?x@h/db", "malformed", errkind.Invalid},
		{"postgres://u:12/" + pw + "@h/db", "malformed", errkind.Invalid},
		{"postgres://u:12?" + pw + "@h/db", "malformed", errkind.Invalid},
		{"postgres://u:%zz" + pw + "@h/db", "malformed", errkind.Invalid},
		{"postgres://u:" + pw + "@h:port/db", "malformed", errkind.Invalid},
		{"postgres://u:" + pw + "@h/db?sslmode=" + pw, "malformed", errkind.Invalid},
		{"postgres://u:" + pw + "@h/db?sslmode=maybe", "sslmode", errkind.Invalid},
		{"postgres://u:" + pw + "@h/db?pool_max_conns=many", "malformed", errkind.Invalid},
		{"postgres://nobody:" + pw + "@/" + rest[:strings.Index(rest, "?")] + "?host=" + socketDir(), `role "nobody" does not exist`, errkind.Unavailable},
		{"postgres://skep:" + pw + "@/nowhere?host=" + socketDir(), `database "nowhere" does not exist`, errkind.Unavailable},
	}
	for _, tt := range tests {
		_, err := postgres.Open(t.Context(), tt.address, schema(things), postgres.Options{})
		if err == nil {
			t.Errorf("Open(%q) works", tt.address)
			continue
		}
		text := err.Error()
		if strings.Contains(text, pw) || strings.ContainsAny(text, "\n\t") || !strings.Contains(text, tt.want) || errkind.Of(err) != tt.kind {
			t.Errorf("Open(%q) = %q (%v), want one line with %q, kind %v", tt.address, text, errkind.Of(err), tt.want, tt.kind)
		}
	}
}

func socketDir() string { return strings.TrimSuffix(postgrestest.Socket(), "/.s.PGSQL.5432") }

// TestPasswords: they come from where psql takes them, and are in no error.
func TestPasswords(t *testing.T) {
	address := postgrestest.New(t)
	const pw = "s3cr/t@pw"
	database := strings.TrimPrefix(address[:strings.Index(address, "?")], "postgres:///")
	err := postgrestest.Exec(t.Context(), address, "CREATE ROLE "+postgrestest.Locked+" LOGIN PASSWORD '"+pw+"'; ALTER DATABASE "+database+" OWNER TO "+postgrestest.Locked)
	if err != nil {
		t.Fatal(err)
	}
	bare := "postgres://" + postgrestest.Locked + "@/" + database + "?host=" + socketDir()
	with := func(password string) string {
		return strings.Replace(bare, "@", ":"+url.QueryEscape(password)+"@", 1)
	}
	refused := func(what, address string) {
		t.Helper()
		_, err := postgres.Open(t.Context(), address, schema(things), postgres.Options{})
		if err == nil || strings.Contains(err.Error(), "s3cr") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", what, err)
		}
	}
	accepted := func(what, address string) {
		t.Helper()
		db, err := postgres.Open(t.Context(), address, schema(things), postgres.Options{})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		_ = db.Close()
	}
	refused("no password", bare)
	refused("the wrong one", with(pw+"x"))
	accepted("in the address", with(pw))
	file := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(file, []byte("*:*:*:"+postgrestest.Locked+":"+pw+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGPASSFILE", file)
	accepted("in the password file", bare)
	t.Setenv("PGPASSFILE", "")
	t.Setenv("PGPASSWORD", pw)
	accepted("in PGPASSWORD", bare)
}

// TestServerGoesAndComes: without the server everything is refused as unavailable, at once or after a bounded time; once it
// is back, everything works.
func TestServerGoesAndComes(t *testing.T) {
	address := postgrestest.New(t)
	line := postgrestest.NewLine(t)
	db := open(t, line.Address(address), schema(things))
	line.Cut()
	wantKind(t, "read without a server", db.Read(t.Context(), func(c *postgres.Conn) error { return c.Exec("SELECT 1") }), errkind.Unavailable)
	wantKind(t, "write without a server", db.Write(t.Context(), insert("a", 1)), errkind.Unavailable)
	line.Mend()
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows, want none", n)
	}
	// Cut in the middle of a transaction.
	err := db.Write(t.Context(), func(c *postgres.Conn) error {
		if err := insert("a", 1)(c); err != nil {
			return err
		}
		line.Cut()
		return nil
	})
	wantKind(t, "commit without a server", err, errkind.Unavailable)
	line.Mend()
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows, want none", n)
	}
}

// TestDeadConnections: the pool's connections have ended while nobody used them. Who comes next does not notice.
func TestDeadConnections(t *testing.T) {
	line := postgrestest.NewLine(t)
	db := open(t, line.Address(postgrestest.New(t)), schema(things))
	const conns = 5
	together := make(chan struct{})
	var wg, begun sync.WaitGroup
	begun.Add(conns)
	for range conns {
		wg.Go(func() {
			err := db.Read(t.Context(), func(*postgres.Conn) error {
				begun.Done()
				<-together
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	begun.Wait()
	close(together)
	wg.Wait()
	line.Cut()
	line.Mend()
	for range conns {
		if n := count(t, db); n != 0 {
			t.Errorf("%d rows, want none", n)
		}
	}
}

func TestClosed(t *testing.T) {
	db, err := postgres.Open(t.Context(), postgrestest.New(t), nil, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	wantKind(t, "after Close", db.Read(t.Context(), func(*postgres.Conn) error { return nil }), errkind.Unavailable)
}
