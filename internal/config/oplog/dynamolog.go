package oplog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/skep-dev/skep/internal/errkind"
)

// dynamoLog is a document's log on DynamoDB.
type dynamoLog struct {
	store  *dynamoStore
	doc    string
	g      string // the document's partition
	closed atomic.Bool

	mu sync.Mutex
	// known is what this Log itself has made the head, whose Append is quicker then: it need not be read. Guarded by mu.
	known *dynamoHead
}

// dynamoHead is the item of the head, with the last block.
type dynamoHead struct {
	Head
	block dynamoBlock // empty in an empty log
}

// dynamoBlock is a block as an item has it.
type dynamoBlock struct {
	first uint64
	id    string // which Append it was
	data  []byte // nil if it is in parts
	parts uint64
}

func blockOf(first uint64, it item) dynamoBlock {
	return dynamoBlock{first, it.text("a"), it.bytes("d"), it.number("k")}
}

// into adds the block to an item.
func (b dynamoBlock) into(it item) item {
	it["a"] = text(b.id)
	if b.parts > 0 {
		it["k"] = number(b.parts)
	} else {
		it["d"] = binaries(b.data)
	}
	return it
}

// head reads a partition's head, nil if there is none.
func (s *dynamoStore) head(ctx context.Context, g string) (*dynamoHead, error) {
	it, err := s.get(ctx, g, headKey)
	if err != nil || it == nil {
		return nil, err
	}
	h := &dynamoHead{Head: Head{Seq: it.number("n")}, block: blockOf(it.number("f"), it)}
	copy(h.Hash[:], it.bytes("h"))
	return h, nil
}

// head reads the head. It comes before all else: without it there is no document.
func (l *dynamoLog) head(ctx context.Context) (*dynamoHead, error) {
	if l.closed.Load() {
		return nil, errClosed(l.doc)
	}
	h, err := l.store.head(ctx, l.g)
	if err == nil && h == nil {
		err = errNoDocument(l.doc)
	}
	return h, err
}

// Head returns the number and the hash of the last record.
func (l *dynamoLog) Head(ctx context.Context) (Head, error) {
	h, err := l.head(ctx)
	if err != nil {
		return Head{}, err
	}
	return h.Head, nil
}

// Append adds records that follow prev. Its steps, and what a crash after each of them leaves:
//
//  1. Look whether prev is the head, unless this Log knows: nothing.
//  2. Write what is too long for an item in parts: parts that nothing leads to.
//  3. Write the head's block as an item: what the head has, twice.
//  4. Put the new block into the head, if it is still prev: all is done.
func (l *dynamoLog) Append(ctx context.Context, prev Head, records []Record) error {
	if err := checkAppend(prev, records); err != nil {
		return err
	}
	now, err := l.knownHead(ctx, prev)
	if err != nil {
		return err
	}
	if now.Head != prev {
		return errMoved(prev, now.Head)
	}
	next := &dynamoHead{headAfter(records), dynamoBlock{first: records[0].Seq, id: draw(), data: pack(records)}}
	if len(next.block.data) > itemBytes {
		next.block.parts, err = l.store.putParts(ctx, l.g, "d", next.block.first, next.block.id, next.block.data)
		if err != nil {
			return fmt.Errorf("append %d records: %w", len(records), err)
		}
		next.block.data = nil
	}
	if now.Seq > 0 {
		it := now.block.into(key(l.g, numbered("b", now.block.first)))
		if err := l.store.put(ctx, it, "", nil); err != nil {
			return fmt.Errorf("append %d records: %w", len(records), err)
		}
	}
	if err := l.move(ctx, prev, next); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil || l.known.Seq < next.Seq {
		l.known = next
	}
	return nil
}

// knownHead is the head, from memory if that is prev. If it has moved on since, that shows when it is to move.
func (l *dynamoLog) knownHead(ctx context.Context, prev Head) (*dynamoHead, error) {
	l.mu.Lock()
	known := l.known
	l.mu.Unlock()
	if known != nil && known.Head == prev && !l.closed.Load() {
		return known, nil
	}
	return l.head(ctx)
}

// move makes next the head if prev is.
func (l *dynamoLog) move(ctx context.Context, prev Head, next *dynamoHead) error {
	it := next.block.into(key(l.g, headKey))
	it["n"], it["h"], it["f"] = number(next.Seq), binaries(next.Hash[:]), number(next.block.first)
	err := l.store.put(ctx, it, "n = :n AND h = :h", item{":n": number(prev.Seq), ":h": binaries(prev.Hash[:])})
	if !failedCondition(err) {
		return err
	}
	// It may be that an attempt before has moved it and only its answer was lost: then the block that follows prev is this one.
	now, err := l.head(ctx)
	if err == nil {
		var b dynamoBlock
		b, err = l.blockWith(ctx, now, next.block.first)
		switch {
		case err == nil && b.id == next.block.id:
			return nil
		case err == nil || errors.Is(err, errkind.NotFound):
			err = errMoved(prev, now.Head)
		}
	}
	if next.block.parts > 0 && errkind.Of(err) != errkind.Unavailable {
		err = errors.Join(err, l.store.removeParts(ctx, l.g, "d", next.block.first, next.block.id))
	}
	return err
}

// blockWith finds the block that has a record. h is the head, read before.
func (l *dynamoLog) blockWith(ctx context.Context, h *dynamoHead, seq uint64) (dynamoBlock, error) {
	switch {
	case seq > h.Seq:
		return dynamoBlock{}, errNoRecord(seq)
	case seq >= h.block.first:
		return h.block, nil
	}
	it, err := l.store.last(ctx, l.g, numbered("b", 1), numbered("b", seq))
	if err != nil {
		return dynamoBlock{}, err
	}
	if it == nil {
		return dynamoBlock{}, l.lost(ctx, seq)
	}
	return blockFrom(it)
}

func blockFrom(it item) (dynamoBlock, error) {
	var first uint64
	if _, err := fmt.Sscanf(it.text("s"), "b#%d", &first); err != nil {
		return dynamoBlock{}, fmt.Errorf("block %q: %w", it.text("s"), err)
	}
	return blockOf(first, it), nil
}

// lost says why a record is not there that the head says is: the document is deleted meanwhile, or somebody has changed the table.
func (l *dynamoLog) lost(ctx context.Context, seq uint64) error {
	if _, err := l.head(ctx); err != nil {
		return err
	}
	return fmt.Errorf("record %d is lost", seq)
}

// records returns a block's records.
func (l *dynamoLog) records(ctx context.Context, b dynamoBlock) ([]Record, error) {
	if b.parts > 0 {
		data, all, err := l.store.getParts(ctx, l.g, "d", b.first, b.id, b.parts)
		if err != nil {
			return nil, err
		}
		if !all {
			return nil, l.lost(ctx, b.first)
		}
		b.data = data
	}
	return unpack(b.first, b.data)
}

// Read calls fn with the records from number from on, block by block.
func (l *dynamoLog) Read(ctx context.Context, from uint64, limit int, fn func(Record) error) error {
	if err := checkRead(limit); err != nil {
		return err
	}
	h, err := l.head(ctx)
	if err != nil {
		return err
	}
	from = max(from, 1)
	if from > h.Seq {
		return nil
	}
	to := h.Seq
	if limit > 0 {
		to = min(to, from-1+uint64(limit))
	}
	b, err := l.blockWith(ctx, h, from)
	if err != nil {
		return err
	}
	if from, err = l.readBlock(ctx, b, from, to, fn); err != nil {
		return err
	}
	if from <= to && from < h.block.first {
		for it, err := range l.store.query(ctx, l.g, numbered("b", from), numbered("b", min(to, h.block.first-1))) {
			if err != nil {
				return err
			}
			if b, err = blockFrom(it); err != nil {
				return err
			}
			if from, err = l.readBlock(ctx, b, from, to, fn); err != nil {
				return err
			}
		}
	}
	if from <= to {
		_, err = l.readBlock(ctx, h.block, from, to, fn)
	}
	return err
}

// readBlock calls fn with a block's records from one number to another one, and returns which comes next.
func (l *dynamoLog) readBlock(ctx context.Context, b dynamoBlock, from, to uint64, fn func(Record) error) (uint64, error) {
	records, err := l.records(ctx, b)
	if err != nil {
		return 0, err
	}
	next := b.first + uint64(len(records))
	if from < b.first || from >= next {
		return 0, l.lost(ctx, from)
	}
	for _, r := range records[from-b.first:] {
		if r.Seq > to {
			break
		}
		if err := fn(r); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// Get returns the records with these numbers. Those of one block are found at once.
func (l *dynamoLog) Get(ctx context.Context, seqs []uint64) ([]Record, error) {
	if err := checkGet(seqs); err != nil {
		return nil, err
	}
	h, err := l.head(ctx)
	if err != nil {
		return nil, err
	}
	var found gathered
	var b dynamoBlock
	var records []Record
	for _, seq := range slices.Compact(slices.Sorted(slices.Values(seqs))) {
		if len(records) == 0 || seq >= b.first+uint64(len(records)) {
			if b, err = l.blockWith(ctx, h, seq); err != nil {
				return nil, err
			}
			if records, err = l.records(ctx, b); err != nil {
				return nil, err
			}
			if seq >= b.first+uint64(len(records)) {
				return nil, l.lost(ctx, seq)
			}
		}
		r := records[seq-b.first]
		r.Data = bytes.Clone(r.Data) // so that the block's memory is free when the caller has what it wants
		if err := found.add(r); err != nil {
			return nil, err
		}
	}
	return found.inOrder(seqs)
}

// Close ends the use of the document by this Log.
func (l *dynamoLog) Close() error {
	l.closed.Store(true)
	return nil
}
