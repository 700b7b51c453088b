package oplog

import (
	"context"
	"fmt"
	"strconv"

	"github.com/skep-dev/skep/internal/postgres"
)

// purgeRecords is how many records of a deleted document one transaction removes. All at once could take longer than a transaction may.
const purgeRecords = 10_000

// postgresPage counts the bytes before each record, since an answer is read as a whole.
var postgresPage = `SELECT seq, hash, data FROM (
	SELECT seq, hash, data, sum(length(data)) OVER (ORDER BY seq) - length(data) AS before FROM (
		SELECT seq, hash, data FROM config_record WHERE document = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3
	) AS page
) AS sized WHERE before < ` + strconv.Itoa(batchBytes) + ` ORDER BY seq`

const (
	selectName = "SELECT document FROM config_document WHERE name = ?"
	insertName = "INSERT INTO config_document (name, document) VALUES (?, ?)"
	deleteName = "DELETE FROM config_document WHERE name = ?"
	listNames  = "SELECT name FROM config_document WHERE name > ? ORDER BY name LIMIT ?"

	insertDeleted = "INSERT INTO config_deleted (document) VALUES (?)"
	selectDeleted = "SELECT document FROM config_deleted ORDER BY document LIMIT 1"
	deleteRecords = "DELETE FROM config_record WHERE document = ?1 AND seq IN " +
		"(SELECT seq FROM config_record WHERE document = ?1 ORDER BY seq LIMIT ?2)"
)

// deletions end the purge of a document whose records are gone.
var deletions = []string{
	"DELETE FROM config_snapshot WHERE document = ?",
	"DELETE FROM config_snapshot_part WHERE document = ?",
	"DELETE FROM config_meta WHERE document = ?",
	"DELETE FROM config_deleted WHERE document = ?",
}

// postgresStore has all documents in one database.
type postgresStore struct {
	db *postgres.DB
}

// OpenPostgres opens a store on PostgreSQL, at a postgres:// URL. Other nodes may use it, and the control plane may be in the same
// database.
func OpenPostgres(ctx context.Context, address string) (Store, error) {
	db, err := postgres.Open(ctx, address, steps("postgres"), postgres.Options{Versions: "config_schema"})
	if err != nil {
		return nil, fmt.Errorf("open a store of documents: %w", err)
	}
	return &postgresStore{db}, nil
}

// Create makes an empty document.
func (s *postgresStore) Create(ctx context.Context, doc string) error {
	if err := checkDocument(doc); err != nil {
		return err
	}
	document := random()
	return s.db.Write(ctx, func(c *postgres.Conn) error {
		found, err := c.First(selectName, func(*postgres.Row) {}, doc)
		if err != nil {
			return err
		}
		if found {
			return errDocumentExists(doc)
		}
		if err := c.Exec(insertName, doc, document); err != nil {
			return err
		}
		return c.Exec(insertDocument, document, Head{}.Hash)
	})
}

// Open opens a document.
func (s *postgresStore) Open(ctx context.Context, doc string) (Log, error) {
	if err := checkDocument(doc); err != nil {
		return nil, err
	}
	l := &sqlLog[*postgres.Conn, *postgres.Row]{db: s.db, doc: doc, page: postgresPage, release: func() error { return nil }}
	err := s.db.Read(ctx, func(c *postgres.Conn) error {
		found, err := c.First(selectName, func(r *postgres.Row) { l.document = r.Int64(0) }, doc)
		if err == nil && !found {
			err = errNoDocument(doc)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// List returns the names that come after the given one.
func (s *postgresStore) List(ctx context.Context, after string, limit int) (names []string, err error) {
	limit, err = checkPage(limit)
	if err != nil {
		return nil, err
	}
	err = s.db.Read(ctx, func(c *postgres.Conn) error {
		names = nil // this may run again
		for r, err := range c.Query(listNames, after, limit) {
			if err != nil {
				return err
			}
			names = append(names, r.Text(0))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list documents: %w", err)
	}
	return names, nil
}

// Delete removes a document: first its name and its head, with which it is gone for everybody, then all else. What a process that was
// killed has left to remove is removed with it.
func (s *postgresStore) Delete(ctx context.Context, doc string) error {
	if err := checkDocument(doc); err != nil {
		return err
	}
	err := s.db.Write(ctx, func(c *postgres.Conn) error {
		var document int64
		found, err := c.First(selectName, func(r *postgres.Row) { document = r.Int64(0) }, doc)
		if err != nil {
			return err
		}
		if !found {
			return errNoDocument(doc)
		}
		if err := c.Exec(deleteName, doc); err != nil {
			return err
		}
		if err := c.Exec(deleteHead, document); err != nil {
			return err
		}
		return c.Exec(insertDeleted, document)
	})
	if err != nil {
		return err
	}
	for left := true; left && err == nil; {
		left, err = s.purge(ctx)
	}
	if err != nil {
		return fmt.Errorf("remove what document %s had: %w", doc, err)
	}
	return nil
}

// purge removes something of a deleted document. It reports whether there was one.
func (s *postgresStore) purge(ctx context.Context) (found bool, err error) {
	err = s.db.Write(ctx, func(c *postgres.Conn) error {
		var document int64
		found, err = c.First(selectDeleted, func(r *postgres.Row) { document = r.Int64(0) })
		if err != nil || !found {
			return err
		}
		if err := c.Exec(deleteRecords, document, purgeRecords); err != nil || c.Changes() == purgeRecords {
			return err
		}
		for _, query := range deletions {
			if err := c.Exec(query, document); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

// Close releases what the Store holds.
func (s *postgresStore) Close() error { return s.db.Close() }
