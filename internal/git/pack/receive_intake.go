package pack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

const (
	// batchBytes is the memory of one batch, and so the largest object that is judged beside the stream. Larger ones are
	// rare: a blob is hashed as it streams by, a tree is judged on the spot.
	batchBytes = 1 << 20
	// batchObjects bounds a batch of small objects, so that a worker does not wait long for its first.
	batchObjects = 1024
	// maxHeld is the largest object that is held in memory. Larger blobs pass through files; larger commits, trees and
	// tags are refused, since they are checked in memory. A tree of this size has some 400,000 entries.
	maxHeld = 16 << 20
	// streamAfter is how many bytes of an entry may be in view, yet not all: then it is inflated as it comes instead of
	// again from its start when there is more.
	streamAfter = 16 << 10
	// trustedEntries is the number of entries for which memory is taken because the header says so.
	trustedEntries = 4 << 10
)

// intake is the pass over the stream: it splits the pack into entries, inflates each once, and has whole objects judged.
// Deltas wait for the resolver, since their bases may be anywhere.
//
//	window ─ entry ─ inflate ┬ whole object ─ batch ─ workers: judge
//	   │                     └ delta: its sizes and its base are noted
//	   └ spill: memory or file, pack checksum
type intake struct {
	rc      *receiver
	w       *window
	t       *objects
	judge   *judge // of this goroutine
	cur     *batch
	workers *errgroup.Group
	work    chan *batch // to the workers; nil until there is work for others
	judged  chan *batch // back from the workers, which never wait for room in it
}

// batch is some whole objects on the way to a judge.
type batch struct {
	mem   []byte
	items []batchItem
}

type batchItem struct {
	num      int32
	kind     git.Kind
	from, to int     // its content in mem
	oid      git.OID // once it is judged
}

// The buffers of small pushes, of which there are many.
var (
	batchPool  = sync.Pool{New: func() any { return &batch{mem: make([]byte, 0, batchBytes)} }}
	windowPool = sync.Pool{New: func() any { b := make([]byte, windowSize); return &b }}
)

// run reads the pack up to and with its trailer.
func (in *intake) run(ctx context.Context) error {
	in.cur = takeBatch()
	outer := ctx
	in.workers, ctx = errgroup.WithContext(ctx)
	err := in.entries(ctx)
	if in.work != nil {
		close(in.work)
	}
	if werr := in.workers.Wait(); werr != nil && outer.Err() == nil {
		err = werr // it ended the entries: their error is only that they were cancelled
	}
	if in.work != nil {
		close(in.judged)
		for b := range in.judged {
			in.keep(b)
			b.release()
		}
	}
	in.cur.release()
	return err
}

func (in *intake) entries(ctx context.Context) error {
	n, err := in.header()
	if err != nil {
		return err
	}
	step := progressStep(n)
	for i := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := in.t.room(n); err != nil {
			return err
		}
		in.w.after = int64(n-i-1)*minEntrySize + packTrailerSize
		off := in.w.offset()
		if err := in.entry(ctx); err != nil {
			return fmt.Errorf("entry %d at offset %d: %w", i, off, err)
		}
		if (i+1)%step == 0 || i+1 == n {
			in.rc.links.allow(i + 1)
			in.rc.progress("Receiving objects", i+1, n)
		}
	}
	if err := in.judgeHere(); err != nil {
		return err
	}
	return in.trailer()
}

// header reads the pack's header and returns the number of objects.
func (in *intake) header() (int, error) {
	in.w.after = packTrailerSize
	if err := in.w.need(packHeaderSize); err != nil {
		return 0, err
	}
	h := in.w.view()
	if string(h[:4]) != "PACK" {
		return 0, fmt.Errorf("not a pack: it starts with %q: %w", h[:4], errkind.Invalid)
	}
	if v := binary.BigEndian.Uint32(h[4:]); v != 2 && v != 3 {
		return 0, fmt.Errorf("pack version %d is unknown: %w", v, errkind.Invalid)
	}
	n := binary.BigEndian.Uint32(h[8:])
	if n > in.rc.opts.MaxObjects {
		return 0, fmt.Errorf("pack has %d objects, the limit is %d: %w", n, in.rc.opts.MaxObjects, errkind.TooLarge)
	}
	in.w.pos += packHeaderSize
	return int(n), nil
}

// trailer checks the pack's checksum.
func (in *intake) trailer() error {
	in.t.end(in.w.offset())
	if err := in.w.flush(); err != nil {
		return err
	}
	in.w.after = 0
	if err := in.w.need(packTrailerSize); err != nil {
		return err
	}
	if size := in.w.offset() + packTrailerSize; size > in.rc.opts.MaxPackBytes {
		return fmt.Errorf("pack has %d bytes, the limit is %d: %w", size, in.rc.opts.MaxPackBytes, errkind.TooLarge)
	}
	claimed := git.OID(in.w.view()[:packTrailerSize])
	if err := in.rc.spill.drain(); err != nil {
		return err
	}
	if sum := in.rc.spill.checksum(); sum != claimed {
		return fmt.Errorf("pack's checksum is %s, its trailer says %s: %w", sum, claimed, errkind.Invalid)
	}
	in.rc.sum = claimed
	in.w.pos += packTrailerSize
	in.w.sunk = in.w.pos // the trailer is written at the end, when it is known whether the pack is completed
	return in.w.close()
}

func (in *intake) entry(ctx context.Context) error {
	in.w.startEntry()
	off := in.w.offset()
	h, err := in.entryHeader()
	if err != nil {
		return err
	}
	if h.size > in.rc.opts.MaxObjectBytes {
		return fmt.Errorf("it has %d bytes, the limit is %d: %w", h.size, in.rc.opts.MaxObjectBytes, errkind.TooLarge)
	}
	if !h.isDelta() { // deltas are counted when they are resolved
		if err := in.rc.spend(h.size, off); err != nil {
			return err
		}
	}
	num := in.t.add(off, h.kind, uint32(h.size))
	switch {
	case h.kind == ofsDelta:
		base, ok := in.t.at(off - h.baseDistance)
		if !ok {
			return fmt.Errorf("delta's base is at offset %d, where no entry starts: %w", off-h.baseDistance, errkind.Invalid)
		}
		in.t.base[num] = base
		err = in.delta(ctx, num, h.size)
	case h.kind == refDelta:
		if err = in.t.addRef(num, h.baseOID); err == nil {
			err = in.delta(ctx, num, h.size)
		}
	case h.size <= batchBytes:
		err = in.small(num, h.kind, int(h.size))
	case h.kind == git.Blob:
		err = in.bigBlob(ctx, num, h.size)
	default:
		err = in.bigOther(ctx, num, h.kind, h.size)
	}
	in.t.crc[num] = in.w.endEntry()
	return err
}

func (in *intake) entryHeader() (entryHeader, error) {
	for {
		h, err := parseEntryHeader(in.w.view())
		if err == nil {
			in.w.pos += h.n
			return h, nil
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			return h, err
		}
		if err := in.w.fill(); err != nil {
			return h, err
		}
	}
}

// small inflates an object into the current batch.
func (in *intake) small(num int32, kind git.Kind, size int) error {
	b, err := in.room(size)
	if err != nil {
		return err
	}
	from := len(b.mem)
	if err := in.inflate(b.mem[from : from+size]); err != nil {
		return err
	}
	b.mem = b.mem[:from+size]
	b.items = append(b.items, batchItem{num: num, kind: kind, from: from, to: from + size})
	return nil
}

// delta inflates a delta, to find its end and to see its sizes.
func (in *intake) delta(ctx context.Context, num int32, size int64) error {
	in.rc.deltas++
	var head []byte
	if size <= batchBytes {
		b, err := in.room(int(size))
		if err != nil {
			return err
		}
		head = b.mem[len(b.mem) : len(b.mem)+int(size)]
		if err := in.inflate(head); err != nil {
			return err
		}
	} else {
		err := in.inflateTo(ctx, size, func(p []byte) error {
			if head == nil {
				head = append(head, p[:min(len(p), maxDeltaHeader)]...)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	_, result, _, err := deltaSizes(head)
	if err != nil {
		return err
	}
	if result > in.rc.opts.MaxObjectBytes {
		return fmt.Errorf("delta makes %d bytes, the limit is %d: %w", result, in.rc.opts.MaxObjectBytes, errkind.TooLarge)
	}
	in.t.size[num] = uint32(result)
	return nil
}

// bigBlob hashes a blob as it comes.
func (in *intake) bigBlob(ctx context.Context, num int32, size int64) error {
	in.judge.startHash(git.Blob, size)
	err := in.inflateTo(ctx, size, func(p []byte) error {
		in.judge.hash.Write(p)
		return nil
	})
	if err != nil {
		return err
	}
	in.t.oid[num], err = in.judge.endHash()
	return err
}

// bigOther judges a large commit, tree or tag.
func (in *intake) bigOther(ctx context.Context, num int32, kind git.Kind, size int64) error {
	if size > maxHeld {
		return fmt.Errorf("%s has %d bytes, the limit is %d: %w", kind, size, maxHeld, errkind.TooLarge)
	}
	var data []byte
	err := in.inflateTo(ctx, size, func(p []byte) error {
		data = append(data, p...) // grows with what comes, not with what was announced
		return nil
	})
	if err != nil {
		return err
	}
	in.t.oid[num], err = in.judge.see(num, kind, data, nil)
	return err
}

// inflate inflates an entry that makes just what fits into dst.
func (in *intake) inflate(dst []byte) error {
	for {
		n, err := inflate(dst, in.w.view())
		switch {
		case err == nil:
			in.w.pos += n
			return nil
		case !errors.Is(err, io.ErrUnexpectedEOF):
			return err
		case len(in.w.view()) > streamAfter:
			f := getInflater(in.w)
			defer putInflater(f)
			return f.fill(dst)
		}
		if err := in.w.fill(); err != nil {
			return err
		}
	}
}

// inflateTo hands an entry's content to f, piece by piece.
func (in *intake) inflateTo(ctx context.Context, size int64, f func([]byte) error) error {
	z := getInflater(in.w)
	defer putInflater(z)
	mem := getBuffer()
	defer putBuffer(mem)
	for left := size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := z.Read(mem[:min(left, ioBufferSize)])
		if n > 0 {
			if err := f(mem[:n]); err != nil {
				return err
			}
			left -= int64(n)
		}
		if left > 0 && errors.Is(err, io.EOF) {
			return errInflateShort
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return z.fill(nil)
}

// room returns a batch with room for size bytes.
func (in *intake) room(size int) (*batch, error) {
	b := in.cur
	if cap(b.mem)-len(b.mem) >= size && len(b.items) < batchObjects || len(b.items) == 0 {
		return b, nil
	}
	if in.work == nil {
		in.startWorkers()
	}
	select {
	case in.work <- b:
	default: // all have enough to do: rather than wait, help
		return b, in.judgeHere()
	}
	select {
	case in.cur = <-in.judged:
		in.keep(in.cur)
	default:
		in.cur = takeBatch()
	}
	return in.cur, nil
}

func (in *intake) startWorkers() {
	n := max(1, in.rc.opts.Workers-1)
	in.work = make(chan *batch, n)
	in.judged = make(chan *batch, 2*n+1) // as many as there can be besides the current one
	for range n {
		j := in.rc.newJudge()
		in.workers.Go(func() error {
			var err error
			for b := range in.work {
				if err == nil {
					err = b.judge(j)
				}
				in.judged <- b
			}
			return err
		})
	}
}

// judgeHere judges the current batch without the workers.
func (in *intake) judgeHere() error {
	err := in.cur.judge(in.judge)
	in.keep(in.cur)
	return err
}

// keep takes over what was found out about a batch's objects, and empties it. The table grows while workers run, so it
// is theirs neither to read nor to write.
func (in *intake) keep(b *batch) {
	for i := range b.items {
		in.t.oid[b.items[i].num] = b.items[i].oid
	}
	b.mem, b.items = b.mem[:0], b.items[:0]
}

func (b *batch) judge(j *judge) (err error) {
	for i := range b.items {
		it := &b.items[i]
		if it.oid, err = j.see(it.num, it.kind, b.mem[it.from:it.to:it.to], nil); err != nil {
			return err
		}
	}
	return nil
}

func takeBatch() *batch {
	return batchPool.Get().(*batch) //nolint:errcheck,forcetypeassert // the pool has nothing else
}

func (b *batch) release() {
	b.mem, b.items = b.mem[:0], b.items[:0]
	batchPool.Put(b)
}
