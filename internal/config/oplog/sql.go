package oplog

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"strings"
	"sync/atomic"
)

// The steps of the schema have the same numbers on both databases: each is a change to the data, written twice.
//
//go:embed migrations
var migrations embed.FS

func steps(of string) fs.FS {
	folder, err := fs.Sub(migrations, "migrations/"+of)
	if err != nil {
		panic("bug: " + err.Error())
	}
	return folder
}

// sqlDatabase is what a document's log needs of a database, whose connections are of type C.
type sqlDatabase[C any] interface {
	Read(ctx context.Context, fn func(C) error) error
	Write(ctx context.Context, fn func(C) error) error
}

// sqlConn is a connection inside one transaction, whose rows are of type R.
type sqlConn[R sqlRow] interface {
	Exec(query string, args ...any) error
	Changes() int
	Query(query string, args ...any) iter.Seq2[R, error]
	First(query string, scan func(R), args ...any) (bool, error)
}

// sqlRow is one row of a result.
type sqlRow interface {
	Text(col int) string
	Int64(col int) int64
	Bytes(col int) []byte
	Copy(col int, buf []byte) int
}

// sqlLog is a document's log on SQLite or PostgreSQL: a query is written once, in the subset of SQL that package postgres describes.
// All tables but that of the names begin with the document's number. Its row in config_head is what makes it exist, so each
// transaction looks at that row first.
type sqlLog[C sqlConn[R], R sqlRow] struct {
	db       sqlDatabase[C]
	doc      string
	document int64
	page     string // the query for a batch of records
	release  func() error
	closed   atomic.Bool
}

// random is a number that nobody else has drawn.
func random() int64 { return rand.Int64() } //nolint:gosec // it keeps two apart and is no secret

const (
	insertDocument = "INSERT INTO config_head (document, seq, hash) VALUES (?, 0, ?)"
	selectHead     = "SELECT seq, hash FROM config_head WHERE document = ?"
	deleteHead     = "DELETE FROM config_head WHERE document = ?"
	moveHead       = "UPDATE config_head SET seq = ?, hash = ? WHERE document = ? AND seq = ? AND hash = ?"

	insertRecord = "INSERT INTO config_record (document, seq, hash, data) VALUES (?, ?, ?, ?)"
	selectSeqs   = "SELECT seq, hash, data FROM config_record WHERE document = ? AND seq IN (?"

	selectSnapshot = "SELECT seq, save, parts FROM config_snapshot WHERE document = ?"
	upsertSnapshot = "INSERT INTO config_snapshot (document, seq, save, parts) VALUES (?1, ?2, ?3, ?4) " +
		"ON CONFLICT (document) DO UPDATE SET seq = ?2, save = ?3, parts = ?4"
	selectPart     = "SELECT data FROM config_snapshot_part WHERE document = ? AND seq = ? AND save = ? AND part = ?"
	insertPart     = "INSERT INTO config_snapshot_part (document, seq, save, part, data) VALUES (?, ?, ?, ?, ?)"
	deleteParts    = "DELETE FROM config_snapshot_part WHERE document = ? AND seq = ? AND save = ?"
	deleteOldParts = "DELETE FROM config_snapshot_part WHERE document = ? AND seq < ?"

	selectMeta = "SELECT value FROM config_meta WHERE document = ? AND key = ?"
	upsertMeta = "INSERT INTO config_meta (document, key, value) VALUES (?1, ?2, ?3) ON CONFLICT (document, key) DO UPDATE SET value = ?3"
	deleteMeta = "DELETE FROM config_meta WHERE document = ? AND key = ?"
	listMeta   = "SELECT key, value FROM config_meta WHERE document = ?1 AND key >= ?2 AND key < ?3 AND key > ?4 ORDER BY key LIMIT ?5"
)

const (
	// insertAtOnce is how many records one statement adds at most. Fewer are added by statements for a power of two of records each,
	// so that there are few texts for a connection to prepare.
	insertAtOnce = 256
	// getAtOnce is how many records one statement finds. PostgreSQL's answers are read as a whole, and each may have MaxAppendBytes.
	getAtOnce = 16
	// partBytes is the size of a snapshot's parts.
	partBytes = 1 << 20
)

func (l *sqlLog[C, R]) read(ctx context.Context, fn func(C, Head) error) error {
	return l.use(ctx, l.db.Read, fn)
}

func (l *sqlLog[C, R]) write(ctx context.Context, fn func(C, Head) error) error {
	return l.use(ctx, l.db.Write, fn)
}

// use runs fn in a transaction if the document exists.
func (l *sqlLog[C, R]) use(ctx context.Context, transact func(context.Context, func(C) error) error, fn func(C, Head) error) error {
	if l.closed.Load() {
		return errClosed(l.doc)
	}
	return transact(ctx, func(c C) error {
		head, found, err := headOf[C, R](c, l.document)
		if err != nil {
			return err
		}
		if !found {
			return errNoDocument(l.doc)
		}
		return fn(c, head)
	})
}

func headOf[C sqlConn[R], R sqlRow](c C, document int64) (head Head, found bool, err error) {
	found, err = c.First(selectHead, func(r R) {
		head.Seq = uint64(r.Int64(0)) //nolint:gosec // never negative
		r.Copy(1, head.Hash[:])
	}, document)
	return head, found, err
}

// Head returns the number and the hash of the last record.
func (l *sqlLog[C, R]) Head(ctx context.Context) (head Head, err error) {
	err = l.read(ctx, func(_ C, h Head) error {
		head = h
		return nil
	})
	return head, err
}

// Append adds records that follow prev. The head moves first: who has moved it holds its row's lock until all is committed.
func (l *sqlLog[C, R]) Append(ctx context.Context, prev Head, records []Record) error {
	if err := checkAppend(prev, records); err != nil {
		return err
	}
	if l.closed.Load() {
		return errClosed(l.doc)
	}
	last := headAfter(records)
	return l.db.Write(ctx, func(c C) error {
		if err := c.Exec(moveHead, int64(last.Seq), last.Hash, l.document, int64(prev.Seq), prev.Hash); err != nil { //nolint:gosec // checkAppend has looked
			return err
		}
		if c.Changes() == 0 {
			return l.whyNot(c, prev)
		}
		for left := records; len(left) > 0; {
			n := insertAtOnce
			for n > len(left) {
				n /= 2
			}
			args := make([]any, 0, 4*n)
			for _, r := range left[:n] {
				args = append(args, l.document, int64(r.Seq), r.Hash, r.Data) //nolint:gosec // checkAppend has looked
			}
			if err := c.Exec(insertRecord+strings.Repeat(", (?, ?, ?, ?)", n-1), args...); err != nil {
				return err
			}
			left = left[n:]
		}
		return nil
	})
}

// whyNot says why the head did not move.
func (l *sqlLog[C, R]) whyNot(c C, prev Head) error {
	head, found, err := headOf[C, R](c, l.document)
	switch {
	case err != nil:
		return err
	case !found:
		return errNoDocument(l.doc)
	}
	return errMoved(prev, head)
}

// Read calls fn with the records from number from on.
func (l *sqlLog[C, R]) Read(ctx context.Context, from uint64, limit int, fn func(Record) error) error {
	return readPages(from, limit, fn, func(from uint64, limit int, b *batch) error {
		return l.read(ctx, func(c C, head Head) error {
			b.reset() // this may run again
			if from > head.Seq {
				return nil
			}
			for r, err := range c.Query(l.page, l.document, int64(from), limit) { //nolint:gosec // readPages has looked
				if err != nil {
					return err
				}
				if seq, hash, data := record(r); !b.add(seq, hash, data) {
					break
				}
			}
			return nil
		})
	})
}

// record is what a row of seq, hash and data says.
func record(r sqlRow) (seq uint64, hash [32]byte, data []byte) {
	r.Copy(1, hash[:])
	return uint64(r.Int64(0)), hash, r.Bytes(2) //nolint:gosec // never negative
}

// Get returns the records with these numbers.
func (l *sqlLog[C, R]) Get(ctx context.Context, seqs []uint64) (records []Record, err error) {
	if err := checkGet(seqs); err != nil {
		return nil, err
	}
	var found gathered
	err = l.read(ctx, func(c C, head Head) error {
		found = gathered{} // this may run again
		for left := seqs; len(left) > 0; left = left[min(len(left), getAtOnce):] {
			args := []any{l.document}
			for i := range getAtOnce { // the last one fills up what is left
				args = append(args, int64(left[min(i, len(left)-1)])) //nolint:gosec // checkGet has looked
			}
			for r, err := range c.Query(selectSeqs+strings.Repeat(", ?", getAtOnce-1)+")", args...) {
				if err != nil {
					return err
				}
				seq, hash, data := record(r)
				if err := found.add(Record{seq, hash, data}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("get records: %w", err)
	}
	return found.inOrder(seqs)
}

// Close ends the use of the document by this Log.
func (l *sqlLog[C, R]) Close() error {
	l.closed.Store(true)
	return l.release()
}

// snapshot is a row of config_snapshot.
type snapshot struct{ seq, save, parts int64 }

func (l *sqlLog[C, R]) snapshot(c C) (s snapshot, err error) {
	_, err = c.First(selectSnapshot, func(r R) { s = snapshot{r.Int64(0), r.Int64(1), r.Int64(2)} }, l.document)
	return s, err
}

// SaveSnapshot keeps data as the state after record seq. All parts but the last are written one by one. The last one makes them
// the snapshot, and takes away the one before and what others have left half-done: a snapshot of an earlier record, which cannot
// become one any more.
func (l *sqlLog[C, R]) SaveSnapshot(ctx context.Context, seq uint64, data []byte) error {
	if err := checkSnapshot(seq, data); err != nil {
		return err
	}
	s := snapshot{int64(seq), random(), 0} //nolint:gosec // checkSnapshot has looked
	for last := false; !last; s.parts++ {
		part := data[:min(len(data), partBytes)]
		data = data[len(part):]
		last = len(data) == 0
		late := false
		err := l.write(ctx, func(c C, head Head) error {
			if seq > head.Seq {
				return errAhead(seq)
			}
			before, err := l.snapshot(c)
			if err != nil {
				return err
			}
			if late = before.seq > s.seq; late {
				return c.Exec(deleteParts, l.document, s.seq, s.save)
			}
			if err := c.Exec(insertPart, l.document, s.seq, s.save, s.parts, part); err != nil || !last {
				return err
			}
			return l.complete(c, before, snapshot{s.seq, s.save, s.parts + 1})
		})
		if err != nil {
			return fmt.Errorf("save the snapshot of record %d: %w", seq, err)
		}
		if late {
			return nil
		}
	}
	return nil
}

// complete makes parts the snapshot.
func (l *sqlLog[C, R]) complete(c C, before, s snapshot) error {
	if err := c.Exec(upsertSnapshot, l.document, s.seq, s.save, s.parts); err != nil {
		return err
	}
	if err := c.Exec(deleteOldParts, l.document, s.seq); err != nil {
		return err
	}
	return c.Exec(deleteParts, l.document, before.seq, before.save)
}

// Snapshot returns the snapshot.
func (l *sqlLog[C, R]) Snapshot(ctx context.Context) (seq uint64, data []byte, err error) {
	err = l.read(ctx, func(c C, _ Head) error {
		s, err := l.snapshot(c)
		if err != nil {
			return err
		}
		if s.seq == 0 {
			return errNoSnapshot()
		}
		seq, data = uint64(s.seq), nil //nolint:gosec // never negative
		for part := range s.parts {
			found, err := c.First(selectPart, func(r R) { data = append(data, r.Bytes(0)...) }, l.document, s.seq, s.save, part)
			if err != nil {
				return err
			}
			if !found {
				return fmt.Errorf("snapshot of record %d: part %d of %d is missing", s.seq, part, s.parts)
			}
		}
		return nil
	})
	if err != nil {
		return 0, nil, err
	}
	return seq, data, nil
}

// Meta returns a named value.
func (l *sqlLog[C, R]) Meta(ctx context.Context, key string) (value []byte, err error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	err = l.read(ctx, func(c C, _ Head) error {
		value, err = l.value(c, key)
		if err == nil && value == nil {
			err = errNoMeta(key)
		}
		return err
	})
	return value, err
}

// value is a named value, nil if there is none.
func (l *sqlLog[C, R]) value(c C, key string) (value []byte, err error) {
	_, err = c.First(selectMeta, func(r R) { value = r.Bytes(0) }, l.document, key)
	return value, err
}

// SetMeta keeps a named value.
func (l *sqlLog[C, R]) SetMeta(ctx context.Context, key string, value []byte) error {
	if err := checkSet(key, value); err != nil {
		return err
	}
	return l.write(ctx, func(c C, _ Head) error { return c.Exec(upsertMeta, l.document, key, value) })
}

// SwapMeta keeps a named value if the one before is old.
func (l *sqlLog[C, R]) SwapMeta(ctx context.Context, key string, old, value []byte) error {
	if err := checkSwap(key, old, value); err != nil {
		return err
	}
	return l.write(ctx, func(c C, _ Head) error {
		now, err := l.value(c, key)
		switch {
		case err != nil:
			return err
		case !bytes.Equal(now, old):
			return errSwapped(key)
		case len(value) == 0:
			return c.Exec(deleteMeta, l.document, key)
		}
		return c.Exec(upsertMeta, l.document, key, value)
	})
}

// DeleteMeta removes a named value.
func (l *sqlLog[C, R]) DeleteMeta(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return l.write(ctx, func(c C, _ Head) error { return c.Exec(deleteMeta, l.document, key) })
}

// ListMeta returns the values whose names begin with prefix.
func (l *sqlLog[C, R]) ListMeta(ctx context.Context, prefix, after string, limit int) (list []Meta, err error) {
	limit, err = checkListMeta(prefix, after, limit)
	if err != nil {
		return nil, err
	}
	err = l.read(ctx, func(c C, _ Head) error {
		list = nil // this may run again
		for r, err := range c.Query(listMeta, l.document, prefix, prefix+afterAll, after, limit) {
			if err != nil {
				return err
			}
			list = append(list, Meta{r.Text(0), r.Bytes(1)})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list values: %w", err)
	}
	return list, nil
}
