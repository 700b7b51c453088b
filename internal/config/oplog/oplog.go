// Package oplog keeps the records of a document's operations, in order, and never changes one.
//
// A Store has documents by name, a Log is one document's records:
//
//	store, err := oplog.OpenStore(ctx, "sqlite:/var/lib/skep/config")
//	err = store.Create(ctx, "shop")
//	log, err := store.Open(ctx, "shop")
//	head, err := log.Head(ctx)
//	err = log.Append(ctx, head, []oplog.Record{{Seq: head.Seq + 1, Hash: hash, Data: data}})
//
// Besides its records a document has one snapshot, which is the state after some record and can be made again from the records,
// and small named values.
//
// There are four kinds of store: in memory, on SQLite (a file for each document), on PostgreSQL and on DynamoDB. All pass the
// suite of package oplogtest. What callers may rely on:
//   - When Append returns nil, its records are durable. When it returns an error of kind Conflict, NotFound, Invalid or TooLarge,
//     none of them is kept. After any other error nobody can say: all of them are kept or none is, and Head tells which.
//   - Who reads sees all that was acknowledged before, by any process or node.
//   - Records are never changed, and their numbers have no gaps.
//   - Nothing is left half-done by a process that is killed, whenever that is.
package oplog

import (
	"context"
)

// Record is one operation as it is kept. The store looks at neither Hash nor Data.
type Record struct {
	Seq  uint64   // begins with 1 and has no gaps
	Hash [32]byte // chains the record to the one before it; whoever appends makes it, and whoever reads checks it
	Data []byte   // not empty
}

// Head names the last record of a log. The zero Head is that of an empty one.
type Head struct {
	Seq  uint64
	Hash [32]byte
}

// The limits of what is kept. What passes one is refused: errkind.TooLarge.
const (
	// MaxAppendRecords is how many records one Append takes. It bounds how long others wait for it.
	MaxAppendRecords = 1000
	// MaxAppendBytes is how much data one Append takes, all records together, and so also the size of a record.
	MaxAppendBytes = 4 << 20
	// MaxGet is how many records one Get returns.
	MaxGet = 1000
	// MaxGetBytes is how much data one Get returns.
	MaxGetBytes = 64 << 20
	// MaxSnapshotBytes is the size of a snapshot: it is read as a whole.
	MaxSnapshotBytes = 256 << 20
	// MaxMetaBytes is the size of one named value.
	MaxMetaBytes = 64 << 10
	// MaxMetaKey is the length of a value's name.
	MaxMetaKey = 200
	// MaxList is how many documents or named values one page of a list has.
	MaxList = 1000
	// MaxDocumentName is the length of a document's name.
	MaxDocumentName = 64
)

// Store has documents by name: 1 to 64 lower-case letters, digits, hyphens and underscores. It is safe for concurrent use.
type Store interface {
	// Create makes an empty document. If there is one of that name: errkind.Exists.
	Create(ctx context.Context, doc string) error
	// Open opens a document: errkind.NotFound if there is none. Close the Log before the Store.
	Open(ctx context.Context, doc string) (Log, error)
	// List returns the names that come after the given one, in the order of their bytes, at most limit of them (0: MaxList).
	List(ctx context.Context, after string, limit int) ([]string, error)
	// Delete removes a document and all that it has: errkind.NotFound if there is none. Whoever has it open gets
	// errkind.NotFound from then on, also when another of the same name is made.
	Delete(ctx context.Context, doc string) error
	// Close releases what the Store holds. Call it once.
	Close() error
}

// Log is one document's records. It is safe for concurrent use, and others may have the same document open, in this process or
// (SQLite, PostgreSQL and DynamoDB) elsewhere.
type Log interface {
	// Head returns the number and the hash of the last record.
	Head(ctx context.Context) (Head, error)
	// Append adds records that follow prev, all or none, and returns when they are durable. If the log's head is another one:
	// errkind.Conflict. The records' numbers continue prev's: errkind.Invalid if not.
	Append(ctx context.Context, prev Head, records []Record) error
	// Read calls fn with the records from number from on, in order, at most limit of them (0: all). A record's Data is valid only
	// during the call. fn may use the Log. An error of fn ends Read, which returns it as it is. Whether Read comes to records that
	// are appended meanwhile is open.
	Read(ctx context.Context, from uint64, limit int, fn func(Record) error) error
	// Get returns the records with these numbers, in the order of seqs: errkind.NotFound if one is missing.
	Get(ctx context.Context, seqs []uint64) ([]Record, error)

	// SaveSnapshot keeps data as the state after record seq, which must be there: errkind.Invalid if not. It takes the place of the
	// snapshot before. If that one is of a later record, it stays, and data is dropped without an error.
	SaveSnapshot(ctx context.Context, seq uint64, data []byte) error
	// Snapshot returns the snapshot: errkind.NotFound if there is none.
	Snapshot(ctx context.Context) (seq uint64, data []byte, err error)

	Metadata
	// Close releases what the Log holds. Call it once.
	Close() error
}

// Metadata is a document's small named values. A name is 1 to 200 printable characters of ASCII without space; a value is 1 to
// 65,536 bytes.
type Metadata interface {
	// Meta returns a value: errkind.NotFound if there is none.
	Meta(ctx context.Context, key string) ([]byte, error)
	// SetMeta keeps a value in place of the one before.
	SetMeta(ctx context.Context, key string, value []byte) error
	// SwapMeta keeps a value if the one before is old, else errkind.Conflict. Empty, they say that there is none before or after.
	SwapMeta(ctx context.Context, key string, old, value []byte) error
	// DeleteMeta removes a value. That there is none is no error.
	DeleteMeta(ctx context.Context, key string) error
	// ListMeta returns the values whose names begin with prefix and come after the given name, in the order of their bytes, at most
	// limit of them (0: MaxList).
	ListMeta(ctx context.Context, prefix, after string, limit int) ([]Meta, error)
}

// Meta is a named value.
type Meta struct {
	Key   string
	Value []byte
}
