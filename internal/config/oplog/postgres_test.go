package oplog_test

import (
	"os"
	"testing"
	"testing/fstest"

	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/oplog/oplogtest"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/postgres"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

func TestPostgres(t *testing.T) {
	oplogtest.Run(t, func(tb testing.TB) func() oplog.Store {
		tb.Helper()
		address := postgrestest.New(tb)
		return func() oplog.Store { return openPostgres(tb, address) }
	})
}

func openPostgres(tb testing.TB, address string) oplog.Store {
	tb.Helper()
	s, err := oplog.OpenPostgres(tb.Context(), address)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestPostgresDelete: nothing is left of a document that had more than one transaction removes, and of one whose removal was left off.
func TestPostgresDelete(t *testing.T) {
	ctx, address := t.Context(), postgrestest.New(t)
	s := openPostgres(t, address)
	defer s.Close()
	for _, doc := range []string{"shop", "fair", "kept"} {
		log := filled(t, s, doc, 11)
		if err := log.SaveSnapshot(ctx, 7, []byte("state")); err != nil {
			t.Fatal(err)
		}
		if err := log.SetMeta(ctx, "k", []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	leaveOff := "INSERT INTO config_deleted SELECT document FROM config_document WHERE name = 'fair'; " +
		"DELETE FROM config_head WHERE document IN (SELECT document FROM config_deleted); DELETE FROM config_document WHERE name = 'fair'"
	if err := postgrestest.Exec(ctx, address, leaveOff); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, "shop"); err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]int{
		"config_document": 1, "config_head": 1, "config_record": 11_000, "config_snapshot": 1, "config_snapshot_part": 1, "config_meta": 1,
		"config_deleted": 0,
	} {
		if got := query(t, address, "SELECT count(*) FROM "+table); got[0] != want {
			t.Errorf("%s has %d rows, want %d", table, got[0], want)
		}
	}
}

// filled makes a document with thousands of records.
func filled(t *testing.T, s oplog.Store, doc string, thousands int) oplog.Log {
	t.Helper()
	if err := s.Create(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
	log, err := s.Open(t.Context(), doc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	var head oplog.Head
	for range thousands {
		records := oplogtest.Chain(head, 1000, func(int) int { return 10 })
		if err := log.Append(t.Context(), head, records); err != nil {
			t.Fatal(err)
		}
		head = oplogtest.After(records)
	}
	return log
}

// query is the numbers in the first column of what a query finds.
func query(t *testing.T, address, text string) (out []int) {
	t.Helper()
	db, err := postgres.Open(t.Context(), address, nil, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Read(t.Context(), func(c *postgres.Conn) error {
		for r, err := range c.Query(text) {
			if err != nil {
				return err
			}
			out = append(out, r.Int(0))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPostgresBesideOthers: the database may have other tables of skep's, whose versions count for themselves.
func TestPostgresBesideOthers(t *testing.T) {
	address := postgrestest.New(t)
	other := fstest.MapFS{
		"0001_a.sql": {Data: []byte("CREATE TABLE a (n BIGINT PRIMARY KEY)")},
		"0002_b.sql": {Data: []byte("CREATE TABLE b (n BIGINT PRIMARY KEY)")},
	}
	for range 2 {
		db, err := postgres.Open(t.Context(), address, other, postgres.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_ = db.Close()
		_ = openPostgres(t, address).Close()
	}
	if got := query(t, address, "SELECT max(version) FROM config_schema"); got[0] != 1 {
		t.Errorf("version %d, want 1", got[0])
	}
}

// TestPostgresKeys: the document's number leads each key of what belongs to a document, so that it can become a distribution column.
func TestPostgresKeys(t *testing.T) {
	address := postgrestest.New(t)
	_ = openPostgres(t, address).Close()
	wrong := query(t, address, `SELECT count(*) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
		JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
		WHERE n.nspname = 'public' AND a.attname <> 'document' AND t.relname NOT IN ('config_schema', 'config_document')`)
	if wrong[0] != 0 {
		t.Errorf("%d keys begin with something else", wrong[0])
	}
}

// TestPostgresGoesAndComes: without the server all is refused as unavailable, and nothing is half there when it is back.
func TestPostgresGoesAndComes(t *testing.T) {
	ctx, address := t.Context(), postgrestest.New(t)
	line := postgrestest.NewLine(t)
	s := openPostgres(t, line.Address(address))
	defer s.Close()
	log := filled(t, s, "shop", 1)
	head, err := log.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	more := oplogtest.Chain(head, 10, func(int) int { return 10 })
	line.Cut()
	for what, err := range map[string]error{
		"append": log.Append(ctx, head, more),
		"read":   log.Read(ctx, 1, 0, func(oplog.Record) error { return nil }),
		"create": s.Create(ctx, "other"),
	} {
		if errkind.Of(err) != errkind.Unavailable {
			t.Errorf("%s without a server: %v", what, err)
		}
	}
	line.Mend()
	if now, err := log.Head(ctx); err != nil || now != head {
		t.Errorf("head is %v, %v, want %v", now, err, head)
	}
	if err := log.Append(ctx, head, more); err != nil {
		t.Errorf("append when the server is back: %v", err)
	}
}
