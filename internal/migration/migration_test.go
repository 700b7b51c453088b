package migration_test

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/migration"
)

func folder(names ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for _, n := range names {
		fsys[n] = &fstest.MapFile{Data: []byte("-- " + n)}
	}
	return fsys
}

func TestRead(t *testing.T) {
	steps, err := migration.Read(folder("0002_b.sql", "0001_a.sql", "README.md"))
	want := []migration.Step{{1, "0001_a.sql", "-- 0001_a.sql"}, {2, "0002_b.sql", "-- 0002_b.sql"}}
	if diff := cmp.Diff(want, steps); diff != "" || err != nil {
		t.Errorf("steps (-want +got): %v\n%s", err, diff)
	}
	for _, bad := range []fstest.MapFS{folder("0002_b.sql"), folder("0001_a.sql", "0003_c.sql"), folder("0001_a.sql", "0001_b.sql"), folder("a.sql")} {
		if steps, err := migration.Read(bad); err == nil {
			t.Errorf("Read(%v) = %v, want an error", bad, steps)
		}
	}
}

func TestPending(t *testing.T) {
	steps, err := migration.Read(folder("0001_a.sql", "0002_b.sql"))
	if err != nil {
		t.Fatal(err)
	}
	for version := range 3 {
		rest, err := migration.Pending(steps, version)
		if err != nil || len(rest) != 2-version {
			t.Errorf("Pending(%d) = %v, %v", version, rest, err)
		}
	}
	if _, err := migration.Pending(steps, 3); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("a newer database: %v, want %v", err, errkind.Unsupported)
	}
}
