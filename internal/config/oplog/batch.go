package oplog

import (
	"bytes"
	"fmt"
	"math"

	"github.com/skep-dev/skep/internal/errkind"
)

// A batch of records is what Read gets from a store at a time, so that no transaction is open and no lock is held while fn runs.
const (
	// batchRecords makes the cost of a transaction small against that of its records.
	batchRecords = 1000
	// batchBytes bounds the memory of a Read; a batch has one record at least, however big.
	batchBytes = 1 << 20
)

// batch is some records whose data is in one piece of memory, which is used again.
type batch struct {
	records []Record
	data    []byte
}

// reset empties the batch. What it gave is not valid any more.
func (b *batch) reset() { b.records, b.data = b.records[:0], b.data[:0] }

// add copies a record to the batch. It reports whether there is room for more.
func (b *batch) add(seq uint64, hash [32]byte, data []byte) bool {
	start := len(b.data)
	b.data = append(b.data, data...)
	// If append has moved the data, the records before still have theirs in the memory from before.
	b.records = append(b.records, Record{seq, hash, b.data[start:len(b.data):len(b.data)]})
	return len(b.data) < batchBytes && len(b.records) < batchRecords
}

// readPages calls fn with what page finds, batch by batch. page adds the records from number from on, at most limit of them, until the
// batch is full or they are all.
func readPages(from uint64, limit int, fn func(Record) error, page func(from uint64, limit int, b *batch) error) error {
	if err := checkRead(limit); err != nil {
		return err
	}
	from = max(from, 1)
	var b batch
	for left := limit; from <= math.MaxInt64 && (limit == 0 || left > 0); {
		b.reset()
		most := batchRecords
		if limit > 0 {
			most = min(most, left)
		}
		if err := page(from, most, &b); err != nil {
			return fmt.Errorf("read records from %d: %w", from, err)
		}
		if len(b.records) == 0 {
			return nil
		}
		for _, r := range b.records {
			if r.Seq != from {
				return fmt.Errorf("read records: %d is in the place of %d", r.Seq, from)
			}
			if err := fn(r); err != nil {
				return err
			}
			from++
		}
		left -= len(b.records)
	}
	return nil
}

// gathered is what Get has found so far.
type gathered struct {
	records map[uint64]Record
	bytes   int
}

// add takes a record, which is the caller's from then on.
func (g *gathered) add(r Record) error {
	if g.records == nil {
		g.records = map[uint64]Record{}
	}
	g.records[r.Seq] = r
	return g.count(r)
}

func (g *gathered) count(r Record) error {
	if g.bytes += len(r.Data); g.bytes > MaxGetBytes {
		return fmt.Errorf("get records: they have more than %d bytes; get fewer: %w", MaxGetBytes, errkind.TooLarge)
	}
	return nil
}

// inOrder returns the records in the order of seqs. What is asked for twice has its data twice.
func (g *gathered) inOrder(seqs []uint64) ([]Record, error) {
	out := make([]Record, 0, len(seqs))
	taken := make(map[uint64]bool, len(seqs))
	for _, seq := range seqs {
		r, ok := g.records[seq]
		if !ok {
			return nil, errNoRecord(seq)
		}
		if taken[seq] {
			if err := g.count(r); err != nil {
				return nil, err
			}
			r.Data = bytes.Clone(r.Data)
		}
		taken[seq] = true
		out = append(out, r)
	}
	return out, nil
}
