package odb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// How a set becomes a pack. Entries go out in order of pack and position, each in one of four ways:
//
//	run     entries that lie one after the other, each whole or a delta whose base is in the set and in the same pack:
//	        bytes as they lie. An ofs-delta names its base by distance, so where an entry before it was left out or has
//	        another length, its first bytes are written anew.
//	ref     a delta whose base counts in an earlier pack, or is known to the receiver (opts.Given): the delta's bytes as
//	        they lie, with the base's ID before them.
//	whole   a delta whose base the receiver lacks: inflated and deflated again, on all cores, ahead of the output.
//	stream  the same for what is too big to be held in memory, one at a time.
//
// Invariants: each object of the set is written exactly once. A base is written before an ofs-delta of it. Between packs
// deltas point to earlier packs only, and within a pack as they do in the stored one: no cycle is possible. Memory is
// bounded whatever the set: by maxAhead items, maxAheadBytes inflated, and maxShifts pieces of the offset table.

const (
	// maxAhead bounds the entries that are planned but not yet written.
	maxAhead = 4096
	// maxAheadBytes bounds the objects that are inflated ahead of the output. A worker holds an object about three times
	// (its base, itself, and deflated again), which leaves a stream well below 32 MiB.
	maxAheadBytes = 4 << 20
	// maxWholeBytes is up to which size (its own and of all its delta bases) an object is deflated in memory.
	maxWholeBytes = 2 << 20
	// runStep is how many entries are copied between two looks at ctx and the progress.
	runStep = 16 << 10
	// progressEvery keeps progress from costing more than what it reports.
	progressEvery = 100 * time.Millisecond
)

// WriteOptions say what the receiver of a pack can take.
type WriteOptions struct {
	OfsDelta bool
	// Given are objects the receiver has already: deltas against them are sent as they are (a thin pack). May be nil.
	Given    *Set
	Progress func(done, total int)

	// runStep and maxShifts when they are not 0: tests set them, to see with few objects what happens with millions.
	step   pack.Pos
	shifts int
}

// WritePack writes the objects of set as one pack, in order of pack and position. Compressed bytes are copied as they
// lie; only a delta whose base the receiver lacks is inflated and deflated again. Memory is bounded whatever the set.
func (s *Store) WritePack(ctx context.Context, w io.Writer, set *Set, opts WriteOptions) (git.OID, error) {
	snd := &sender{store: s, set: set, opts: opts, total: set.Len()}
	snd.step = cmp.Or(opts.step, runStep)
	snd.shifts.limit = cmp.Or(opts.shifts, maxShifts)
	if p := snd.onlyPack(); p != nil {
		return snd.verbatim(ctx, w, p)
	}
	return snd.write(ctx, w)
}

// sender is one run of WritePack.
type sender struct {
	store *Store
	set   *Set
	opts  WriteOptions
	step  pack.Pos
	out   *pack.Writer

	index  int // of the pack at hand
	pack   *pack.Pack
	shifts shifts // of the pack at hand
	ahead  ahead  // what is planned and not yet written

	done, total int
	reported    time.Time
}

// onlyPack returns the pack that is exactly the set, if there is one.
func (snd *sender) onlyPack() *pack.Pack {
	for i, p := range snd.store.packs[:len(snd.set.count)] {
		if n := snd.set.PackLen(i); n > 0 {
			if n == snd.total && n == p.Len() && snd.opts.OfsDelta {
				return p
			}
			return nil
		}
	}
	return nil
}

// verbatim sends a stored pack as it lies, trailer included.
func (snd *sender) verbatim(ctx context.Context, w io.Writer, p *pack.Pack) (git.OID, error) {
	size := p.Size()
	watch := &watcher{ctx: ctx, w: w, wrote: func(sent int64) {
		snd.done = int(float64(snd.total) * (float64(sent) / float64(size)))
		snd.progress(false)
	}}
	if _, err := p.WriteTo(watch); err != nil {
		return git.OID{}, err
	}
	snd.done = snd.total
	snd.progress(true)
	return p.Checksum(), nil
}

// watcher stops a copy when ctx ends.
type watcher struct {
	ctx   context.Context //nolint:containedctx // a writer that lives as long as one call, whose ctx it is
	w     io.Writer
	sent  int64
	wrote func(sent int64)
}

func (wt *watcher) Write(b []byte) (int, error) {
	if err := wt.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := wt.w.Write(b)
	wt.sent += int64(n)
	wt.wrote(wt.sent)
	return n, err
}

// write sends the set entry by entry.
func (snd *sender) write(ctx context.Context, w io.Writer) (sum git.OID, err error) {
	ctx, cancel := context.WithCancel(ctx)
	snd.ahead.start(ctx, snd.store)
	defer func() {
		cancel()
		snd.ahead.stop()
	}()
	if snd.out, err = pack.NewWriter(w, uint32(snd.total)); err != nil {
		return git.OID{}, err
	}
	for i, p := range snd.store.packs[:len(snd.set.count)] {
		if snd.set.PackLen(i) == 0 {
			continue
		}
		snd.index, snd.pack = i, p
		snd.shifts.reset()
		if err := snd.writePack(ctx); err != nil {
			return git.OID{}, fmt.Errorf("send objects of pack %s: %w", p.Checksum(), err)
		}
	}
	snd.progress(true)
	return snd.out.Close()
}

// writePack sends the set's objects of the pack at hand.
func (snd *sender) writePack(ctx context.Context) error {
	if snd.set.PackLen(snd.index) == snd.pack.Len() {
		// Every base is there too. What a run means is then true of the pack as one run.
		if err := snd.plan(ctx, item{way: run, from: 0, to: pack.Pos(snd.pack.Len())}); err != nil {
			return err
		}
		return snd.drain(ctx)
	}
	for from, to := range snd.set.bits[snd.index].runs() {
		start := from
		for at := from; at < to; at++ {
			it := snd.choose(at)
			if it.way == run {
				continue
			}
			if err := snd.plan(ctx, item{way: run, from: start, to: at}); err != nil {
				return err
			}
			if err := snd.plan(ctx, it); err != nil {
				return err
			}
			start = at + 1
		}
		if err := snd.plan(ctx, item{way: run, from: start, to: to}); err != nil {
			return err
		}
	}
	return snd.drain(ctx)
}

// choose finds the way in which one entry of the pack at hand goes out.
func (snd *sender) choose(at pack.Pos) item {
	base, isDelta := snd.pack.Base(at)
	if !isDelta || snd.set.Has(Place{Pack: snd.index, Pos: base}) {
		return item{way: run}
	}
	place := Place{Pack: snd.index, Pos: base}
	oid := snd.pack.OID(base)
	if earlier, ok := snd.store.findBefore(oid, snd.index); ok {
		place = earlier
	}
	if snd.set.Has(place) || snd.opts.Given.Has(place) {
		return item{way: ref, from: at, to: at + 1, base: oid}
	}
	cost := snd.cost(at)
	if cost > maxWholeBytes {
		return item{way: stream, from: at, to: at + 1}
	}
	return item{way: whole, from: at, to: at + 1, cost: cost, pack: snd.pack}
}

// cost is the size of the biggest object that must be in memory to read one. A small delta may stand on a huge base.
func (snd *sender) cost(at pack.Pos) int64 {
	most := snd.pack.ObjectSize(at)
	for base, ok := snd.pack.Base(at); ok && most <= maxWholeBytes; base, ok = snd.pack.Base(base) {
		most = max(most, snd.pack.ObjectSize(base))
	}
	return most
}

// plan appends an item to what is ahead, then writes what is ready or, when too much is ahead, what must be waited for.
func (snd *sender) plan(ctx context.Context, it item) error {
	if it.from == it.to {
		return nil
	}
	if it.way == stream { // takes the memory that others would
		if err := snd.drain(ctx); err != nil {
			return err
		}
	}
	if it.way != whole && snd.ahead.empty() {
		return snd.send(ctx, it)
	}
	snd.ahead.push(it)
	return snd.pop(ctx, false)
}

// drain writes everything that is ahead.
func (snd *sender) drain(ctx context.Context) error { return snd.pop(ctx, true) }

func (snd *sender) pop(ctx context.Context, drain bool) error {
	for next := snd.ahead.pop(drain); next != nil; next = snd.ahead.pop(drain) {
		if err := ctx.Err(); err != nil { // then a worker may still have it
			return err
		}
		if err := snd.send(ctx, *next); err != nil {
			return err
		}
	}
	return nil
}

// send writes one item.
func (snd *sender) send(ctx context.Context, it item) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch it.way {
	case run:
		return snd.sendRun(ctx, it.from, it.to)
	case ref:
		snd.note(it.from)
		err = snd.out.Copy(snd.pack, it.from, pack.Base{OID: it.base})
	case whole:
		snd.note(it.from)
		err = snd.sendWhole(it)
	case stream:
		snd.note(it.from)
		err = snd.sendStream(ctx, it.from)
	}
	snd.done++
	snd.progress(false)
	return err
}

// sendRun writes the entries [from, to), of which every delta's base is in the set and in this pack.
func (snd *sender) sendRun(ctx context.Context, from, to pack.Pos) error {
	p := snd.pack
	start, shift := from, snd.note(from)
	for at := from; at < to; {
		if at-start == snd.step {
			if err := snd.copyRange(ctx, start, at); err != nil {
				return err
			}
			start = at
		}
		end := min(to, start+snd.step)
		if at = snd.asTheyLie(at, end); at == end {
			continue
		}
		base, _ := p.Base(at)
		was, known := snd.shifts.at(base)
		if snd.opts.OfsDelta && known && was == shift {
			at++
			continue
		}
		if err := snd.copyRange(ctx, start, at); err != nil {
			return err
		}
		snd.note(at)
		as := pack.Base{OID: p.OID(base)}
		if snd.opts.OfsDelta && known {
			offset, _ := p.Extent(base)
			as = pack.Base{Offset: offset + was}
		}
		if err := snd.out.Copy(p, at, as); err != nil {
			return err
		}
		snd.done++
		at++
		if start = at; at < to {
			shift = snd.note(at)
		}
	}
	return snd.copyRange(ctx, start, to)
}

// asTheyLie returns the first entry in [at, to) whose bytes may not do, given that those before it are copied as they lie:
// an ofs-delta whose base is not among what was written with the present shift.
func (snd *sender) asTheyLie(at, to pack.Pos) pack.Pos {
	if snd.opts.OfsDelta {
		return snd.pack.Run(snd.shifts.last().from, at, to)
	}
	for ; at < to; at++ {
		if _, isDelta := snd.pack.Base(at); isDelta && !snd.pack.IsRefDelta(at) {
			break
		}
	}
	return at
}

// copyRange writes the entries [from, to) as they lie.
func (snd *sender) copyRange(ctx context.Context, from, to pack.Pos) error {
	if from == to {
		return nil
	}
	if err := ctx.Err(); err != nil { // a run may be long
		return err
	}
	if err := snd.out.CopyRange(snd.pack, from, to); err != nil {
		return err
	}
	snd.done += int(to - from)
	snd.progress(false)
	return nil
}

// note remembers how far the entry that comes next moves from its place in the stored pack.
func (snd *sender) note(at pack.Pos) int64 {
	offset, _ := snd.pack.Extent(at)
	shift := snd.out.Offset() - offset
	snd.shifts.note(at, shift)
	return shift
}

func (snd *sender) sendWhole(it item) error {
	if it.err != nil {
		return it.err
	}
	err := snd.out.Entry(*it.raw)
	rawPool.Put(it.raw)
	return err
}

func (snd *sender) sendStream(ctx context.Context, at pack.Pos) error {
	r, err := snd.store.openAt(ctx, Place{Pack: snd.index, Pos: at})
	if err != nil {
		return err
	}
	return errors.Join(snd.out.Stream(snd.pack.Kind(at), snd.pack.ObjectSize(at), r), r.Close())
}

func (snd *sender) progress(now bool) {
	if snd.opts.Progress == nil {
		return
	}
	if t := time.Now(); now || t.Sub(snd.reported) >= progressEvery {
		snd.reported = t
		snd.opts.Progress(snd.done, snd.total)
	}
}
