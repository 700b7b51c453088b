package cell

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/sqlite"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// migrations is the schema as package sqlite wants it.
func migrations() fs.FS {
	sub, err := fs.Sub(schemaFiles, "schema")
	if err != nil {
		panic("bug: " + err.Error())
	}
	return sub
}

// sqlStore is a store in one SQLite file. The cell that opened it is its only user: what the cell has in memory is what
// the file has.
type sqlStore struct {
	db *sqlite.DB
}

func openSQL(ctx context.Context, path string) (*sqlStore, error) {
	db, err := sqlite.Open(ctx, path, migrations(), sqlite.Options{Exclusive: true, MustExist: true})
	if err != nil {
		return nil, err
	}
	return &sqlStore{db}, nil
}

func (s *sqlStore) close() error { return s.db.Close() }

// size counts pages, and not the file: what was written last is in the log beside it.
func (s *sqlStore) size(ctx context.Context) (n int64, err error) {
	err = s.db.Read(ctx, func(c *sqlite.Conn) error {
		_, err := c.First("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", func(r *sqlite.Row) { n = r.Int64(0) })
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("measure cell: %w", err)
	}
	return n, nil
}

const (
	selectRepo  = "SELECT version, head, settings FROM repo"
	selectRefs  = "SELECT name, oid, peeled FROM ref ORDER BY name"
	selectRoots = "SELECT oid, loose FROM root"
	selectPacks = "SELECT id, checksum, size, objects, aside, idx, tbl FROM pack ORDER BY id"
)

func (s *sqlStore) load(ctx context.Context) (*snapshot, error) {
	snap := &snapshot{}
	err := s.db.Read(ctx, func(c *sqlite.Conn) error {
		var settings string
		found, err := c.First(selectRepo, func(r *sqlite.Row) {
			snap.version = r.Int64(0)
			snap.head = git.RefName(r.Bytes(1))
			settings = r.Text(2)
		})
		switch {
		case err != nil:
			return err
		case !found:
			return errors.New("the database has no repository")
		}
		if err := json.Unmarshal([]byte(settings), &snap.settings); err != nil {
			return fmt.Errorf("read settings: %w", err)
		}
		return errors.Join(loadRefs(c, snap), loadRoots(c, snap), loadPacks(c, snap))
	})
	if err != nil {
		return nil, fmt.Errorf("load cell: %w", err)
	}
	return snap, nil
}

func loadRefs(c *sqlite.Conn, snap *snapshot) error {
	for r, err := range c.Query(selectRefs) {
		if err != nil {
			return err
		}
		ref := git.Ref{Name: git.RefName(r.Bytes(0))}
		if err := readOID(r, 1, &ref.OID); err != nil {
			return fmt.Errorf("reference %s: %w", ref.Name, err)
		}
		if !r.IsNull(2) {
			if err := readOID(r, 2, &ref.Peeled); err != nil {
				return fmt.Errorf("reference %s: %w", ref.Name, err)
			}
		}
		snap.refs = append(snap.refs, ref)
	}
	return nil
}

func loadRoots(c *sqlite.Conn, snap *snapshot) error {
	for r, err := range c.Query(selectRoots) {
		if err != nil {
			return err
		}
		var o git.OID
		if err := readOID(r, 0, &o); err != nil {
			return fmt.Errorf("root: %w", err)
		}
		snap.roots = append(snap.roots, o)
		if at := r.Time(1); !at.IsZero() && (snap.loosest.IsZero() || at.Before(snap.loosest)) {
			snap.loosest = at
		}
	}
	return nil
}

func loadPacks(c *sqlite.Conn, snap *snapshot) error {
	for r, err := range c.Query(selectPacks) {
		if err != nil {
			return err
		}
		p := packRow{
			id:      r.Int64(0),
			size:    r.Int64(2),
			objects: r.Int(3),
			aside:   r.Time(4),
			hot:     !r.IsNull(5),
			idx:     r.Bytes(5),
			table:   r.Bytes(6),
		}
		if err := readOID(r, 1, &p.checksum); err != nil {
			return fmt.Errorf("pack %d: %w", p.id, err)
		}
		snap.packs = append(snap.packs, p)
	}
	return nil
}

func readOID(r *sqlite.Row, col int, o *git.OID) error {
	if n := r.Copy(col, o[:]); n != len(o) {
		return fmt.Errorf("object ID of %d bytes", n)
	}
	return nil
}

const selectHotPack = "SELECT idx, tbl, data FROM pack WHERE id = ?"

func (s *sqlStore) hotPack(ctx context.Context, id int64) (idx, table, data []byte, err error) {
	err = s.db.Read(ctx, func(c *sqlite.Conn) error {
		_, err := c.First(selectHotPack, func(r *sqlite.Row) { idx, table, data = r.Bytes(0), r.Bytes(1), r.Bytes(2) }, id)
		return err
	})
	if err == nil && data == nil {
		err = errors.New("it has no bytes")
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read pack %d: %w", id, err)
	}
	return idx, table, data, nil
}

const updateVersion = "UPDATE repo SET version = version + 1 WHERE version = ?"

func (s *sqlStore) commit(ctx context.Context, version int64, changes []change) error {
	return s.db.Write(ctx, func(c *sqlite.Conn) error {
		if err := expectOne(c, updateVersion, version); err != nil {
			return err
		}
		for i := range changes {
			if err := apply(c, &changes[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

const (
	updateHead     = "UPDATE repo SET head = ?"
	updateSettings = "UPDATE repo SET settings = ?"
	insertPack     = "INSERT INTO pack (id, checksum, size, objects, aside, idx, tbl, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
	deletePack     = "DELETE FROM pack WHERE id = ?"
	deleteRoot     = "DELETE FROM root WHERE oid = ?"
	insertRoot     = "INSERT INTO root (oid, loose) VALUES (?, 0)"
	updateRoot     = "UPDATE root SET loose = ? WHERE oid = ?"
	insertLog      = "INSERT INTO reflog (at, actor, message, name, old, new) VALUES (?, ?, ?, ?, ?, ?)"
	deleteLog      = "DELETE FROM reflog WHERE at < ?"
)

func apply(c *sqlite.Conn, ch *change) error {
	if ch.head != "" {
		if err := c.Exec(updateHead, []byte(ch.head)); err != nil {
			return err
		}
	}
	if ch.settings != nil {
		text, err := json.Marshal(ch.settings)
		if err != nil {
			return err
		}
		if err := c.Exec(updateSettings, string(text)); err != nil {
			return err
		}
	}
	// Packs are dropped before others are added: a merged pack takes the place, and so the id, of the first it replaces.
	for _, id := range ch.dropPacks {
		if err := expectOne(c, deletePack, id); err != nil {
			return err
		}
	}
	for i := range ch.addPacks {
		if err := addPack(c, &ch.addPacks[i]); err != nil {
			return err
		}
	}
	for i := range ch.refs {
		if err := moveRef(c, &ch.refs[i]); err != nil {
			return err
		}
	}
	for i := range ch.log {
		e := &ch.log[i]
		if err := c.Exec(insertLog, e.At, e.Actor, e.Message, []byte(e.Name), e.Old[:], e.New[:]); err != nil {
			return err
		}
	}
	if !ch.forgetLog.IsZero() {
		if err := c.Exec(deleteLog, ch.forgetLog); err != nil {
			return err
		}
	}
	return applyRoots(c, ch)
}

func addPack(c *sqlite.Conn, p *packRow) error {
	var idx, table, data any
	if p.hot {
		idx, table, data = p.idx, p.table, p.data
	}
	return c.Exec(insertPack, p.id, p.checksum[:], p.size, p.objects, p.aside, idx, table, data)
}

func applyRoots(c *sqlite.Conn, ch *change) error {
	for i := range ch.dropRoots {
		if err := expectOne(c, deleteRoot, ch.dropRoots[i][:]); err != nil {
			return err
		}
	}
	for i := range ch.addRoots {
		if err := c.Exec(insertRoot, ch.addRoots[i][:]); err != nil {
			return err
		}
	}
	for i := range ch.loose {
		if err := expectOne(c, updateRoot, ch.looseAt, ch.loose[i][:]); err != nil {
			return err
		}
	}
	for i := range ch.tied {
		if err := expectOne(c, updateRoot, time.Time{}, ch.tied[i][:]); err != nil {
			return err
		}
	}
	return nil
}

const (
	insertRef = "INSERT INTO ref (name, oid, peeled) VALUES (?, ?, ?)"
	updateRef = "UPDATE ref SET oid = ?, peeled = ? WHERE name = ? AND oid = ?"
	deleteRef = "DELETE FROM ref WHERE name = ? AND oid = ?"
)

// moveRef compares and sets. The cell has compared already, in memory; this is for stores that others write to as well.
func moveRef(c *sqlite.Conn, r *refChange) error {
	var peeled any
	if !r.Peeled.IsZero() {
		peeled = r.Peeled[:]
	}
	name := []byte(r.Name)
	switch {
	case r.old.IsZero():
		return c.Exec(insertRef, name, r.OID[:], peeled)
	case r.OID.IsZero():
		return expectOne(c, deleteRef, name, r.old[:])
	}
	return expectOne(c, updateRef, r.OID[:], peeled, name, r.old[:])
}

// expectOne runs a statement that must change one row.
func expectOne(c *sqlite.Conn, query string, args ...any) error {
	if err := c.Exec(query, args...); err != nil {
		return err
	}
	if n := c.Changes(); n != 1 {
		return fmt.Errorf("run %q: it met %d rows: %w", query, n, errkind.Conflict)
	}
	return nil
}

const selectLoose = "SELECT oid, loose FROM root WHERE loose <> 0"

func (s *sqlStore) looseRoots(ctx context.Context) (map[git.OID]time.Time, error) {
	loose := map[git.OID]time.Time{}
	err := s.db.Read(ctx, func(c *sqlite.Conn) error {
		for r, err := range c.Query(selectLoose) {
			if err != nil {
				return err
			}
			var o git.OID
			if err := readOID(r, 0, &o); err != nil {
				return err
			}
			loose[o] = r.Time(1)
		}
		return nil
	})
	return loose, err
}

const (
	selectLog     = "SELECT at, actor, message, name, old, new FROM reflog ORDER BY id DESC LIMIT ?"
	selectLogName = "SELECT at, actor, message, name, old, new FROM reflog WHERE name = ? ORDER BY id DESC LIMIT ?"
)

func (s *sqlStore) refLog(ctx context.Context, name git.RefName, most int) (log []RefLogEntry, err error) {
	query, args := selectLog, []any{most}
	if name != "" {
		query, args = selectLogName, []any{[]byte(name), most}
	}
	err = s.db.Read(ctx, func(c *sqlite.Conn) error {
		for r, err := range c.Query(query, args...) {
			if err != nil {
				return err
			}
			e := RefLogEntry{At: r.Time(0), Actor: r.Text(1), Message: r.Text(2), Name: git.RefName(r.Bytes(3))}
			if err := errors.Join(readOID(r, 4, &e.Old), readOID(r, 5, &e.New)); err != nil {
				return err
			}
			log = append(log, e)
		}
		return nil
	})
	return log, err
}
