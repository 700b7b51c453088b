package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/crdt"
)

// How many records are decoded and applied at a time, whichever is less: so many that handing them over costs nothing, and so few that several
// batches fit in memory.
const (
	replayBatch = 512
	replayBytes = 1 << 20
)

// job is a batch of records to be decoded.
type job struct {
	data  []byte // of all records, one after the other
	sizes []int
	heads []oplog.Head
	out   chan []decoded
}

func newJob() *job { return &job{out: make(chan []decoded, 1)} }

func (j *job) add(head oplog.Head, data []byte) (full bool) {
	j.data, j.sizes, j.heads = append(j.data, data...), append(j.sizes, len(data)), append(j.heads, head)
	return len(j.heads) >= replayBatch || len(j.data) >= replayBytes
}

func (j *job) decode() ([]decoded, error) {
	batch := make([]decoded, len(j.heads))
	rest := j.data
	for i, head := range j.heads {
		op, err := config.DecodeOp(rest[:j.sizes[i]])
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", head.Seq, err)
		}
		batch[i], rest = decoded{op, head, j.sizes[i]}, rest[j.sizes[i]:]
	}
	return batch, nil
}

// decodeAll reads the records after a head, at most limit of them (0: all), checks their chain, and calls fn with their operations, batch by batch, in
// order. Decoding takes most of the time, and goes on all cores.
func decodeAll(ctx context.Context, log oplog.Log, after oplog.Head, limit int, fn func([]decoded) error) error {
	group, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	jobs := make(chan *job, workers)
	ordered := make(chan *job, 2*workers)
	group.Go(func() error {
		defer close(jobs)
		defer close(ordered)
		return readJobs(ctx, log, after, limit, jobs, ordered)
	})
	for range workers {
		group.Go(func() error {
			for j := range jobs {
				batch, err := j.decode()
				if err != nil {
					return err
				}
				j.out <- batch
			}
			return nil
		})
	}
	group.Go(func() error {
		for j := range ordered {
			select {
			case batch := <-j.out:
				if err := fn(batch); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return group.Wait()
}

// readJobs sends the records after a head to those who decode them, and in order to who waits for that.
func readJobs(ctx context.Context, log oplog.Log, after oplog.Head, limit int, jobs, ordered chan<- *job) error {
	j := newJob()
	flush := func() error {
		for _, to := range []chan<- *job{jobs, ordered} {
			select {
			case to <- j:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		j = newJob()
		return nil
	}
	err := log.Read(ctx, after.Seq+1, limit, func(r oplog.Record) error {
		if err := checkLink(after, r); err != nil {
			return err
		}
		after = oplog.Head{Seq: r.Seq, Hash: r.Hash}
		if j.add(after, r.Data) {
			return flush()
		}
		return nil
	})
	if err == nil && len(j.heads) > 0 {
		err = flush()
	}
	return err
}

// Verify reads the whole log and calls fn with each operation. It checks that each record follows the one before it, and that the document's state,
// which may have begun with a snapshot, is what the operations come to. It returns the log's end, which is to be compared with one that somebody
// noted: a log whose end was cut off, and everything else that was made by who can make records, is whole in itself.
func (d *Document) Verify(ctx context.Context, fn func(op *config.Op, seq uint64) error) (oplog.Head, error) {
	end := oplog.Head{Hash: Genesis(d.name)}
	fold := config.NewState()
	take := func(batch []decoded) error {
		for _, r := range batch {
			end = r.head
			fold.Apply(r.op)
			if err := fn(r.op, r.head.Seq); err != nil {
				return err
			}
		}
		return nil
	}
	if err := decodeAll(ctx, d.log, end, 0, take); err != nil {
		return end, err
	}
	// What came meanwhile is read while this process writes nothing, and then the state is that of the end.
	d.writing.Lock()
	defer d.writing.Unlock()
	if err := d.catchUp(ctx); err != nil {
		return end, err
	}
	if n := d.head.Seq - end.Seq; d.head.Seq > end.Seq {
		if err := decodeAll(ctx, d.log, end, int(n), take); err != nil { //nolint:gosec // a log has no 2^63 records
			return end, err
		}
	}
	if end != d.head {
		return end, fmt.Errorf("the log ends with record %d, and had %d: it was changed or damaged", end.Seq, d.head.Seq)
	}
	return end, d.equals(fold)
}

// equals checks that the state is another one. The caller holds writing.
func (d *Document) equals(fold *config.State) error {
	fold.Settle()
	want, err := fold.Snapshot()
	if err != nil {
		return err
	}
	have, err := d.state.Snapshot()
	if err != nil {
		return err
	}
	if !bytes.Equal(want, have) {
		return errors.New("the state is not what the log's operations come to: the snapshot that it began with was changed or damaged")
	}
	return nil
}

// Record is an operation as the log has it.
type Record struct {
	Op   *config.Op
	Data []byte // its text, of which Hash is
	Seq  uint64
	Prev [32]byte
	Hash [32]byte
}

// Records calls fn with the log's records from number from on, in order, and checks that each follows the one before it. Data is valid only
// during the call.
func (d *Document) Records(ctx context.Context, from uint64, fn func(r *Record) error) error {
	head := oplog.Head{Hash: Genesis(d.name)}
	if from > 1 {
		before, err := d.log.Get(ctx, []uint64{from - 1})
		if err != nil {
			return err
		}
		head = oplog.Head{Seq: from - 1, Hash: before[0].Hash}
	}
	return d.log.Read(ctx, from, 0, func(r oplog.Record) error {
		if err := checkLink(head, r); err != nil {
			return err
		}
		op, err := config.DecodeOp(r.Data)
		if err != nil {
			return fmt.Errorf("record %d: %w", r.Seq, err)
		}
		prev := head.Hash
		head = oplog.Head{Seq: r.Seq, Hash: r.Hash}
		return fn(&Record{Op: op, Data: r.Data, Seq: r.Seq, Prev: prev, Hash: r.Hash})
	})
}

// Since returns the operations up to a record that are not in a version, the newest first. It reads the log from its end as far back as
// there can be any.
func (d *Document) Since(ctx context.Context, version *crdt.Dots, upTo uint64) iter.Seq2[*config.Op, error] {
	return func(yield func(*config.Op, error) bool) {
		missing := upTo - min(upTo, version.Len()) // each record is one operation
		err := d.Backward(ctx, "", upTo+1, func(op *config.Op, _ uint64) (bool, error) {
			if missing == 0 {
				return false, ctx.Err()
			}
			if version.Has(op.ID) {
				return true, ctx.Err()
			}
			missing--
			return yield(op, nil), ctx.Err()
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// StateAt returns the state after a record, as it was then.
func (d *Document) StateAt(ctx context.Context, include func(op *config.Op, seq uint64) bool) (*config.State, error) {
	s := config.NewState()
	err := decodeAll(ctx, d.log, oplog.Head{Hash: Genesis(d.name)}, 0, func(batch []decoded) error {
		for _, r := range batch {
			if include(r.op, r.head.Seq) {
				s.Apply(r.op)
			}
		}
		return nil
	})
	s.Settle()
	return s, err
}

// Backward calls fn with operations from the newest to the oldest, until it returns false: those that write to an entity, or all if that is "",
// with a smaller number than before, or all if that is 0.
func (d *Document) Backward(ctx context.Context, entity string, before uint64, fn func(op *config.Op, seq uint64) (bool, error)) error {
	d.mu.RLock()
	end, seqs := d.head.Seq+1, d.index[entity]
	d.mu.RUnlock()
	if before > 0 {
		end = min(end, before)
	}
	if entity != "" {
		at, _ := slices.BinarySearch(seqs, end)
		seqs = seqs[:at]
	}
	for {
		var page []oplog.Record
		var err error
		switch {
		case entity != "":
			from := max(0, len(seqs)-backwardPage)
			page, err = d.log.Get(ctx, seqs[from:])
			seqs = seqs[:from]
		case end > 1:
			from := max(1, end-min(end, backwardPage))
			err = d.log.Read(ctx, from, int(end-from), func(r oplog.Record) error { //nolint:gosec // at most a page
				r.Data = slices.Clone(r.Data)
				page = append(page, r)
				return nil
			})
			end = from
		}
		if err != nil || len(page) == 0 {
			return err
		}
		for _, r := range slices.Backward(page) {
			op, err := config.DecodeOp(r.Data)
			if err != nil {
				return fmt.Errorf("record %d: %w", r.Seq, err)
			}
			if more, err := fn(op, r.Seq); err != nil || !more {
				return err
			}
		}
	}
}

// backwardPage is how many records Backward reads at a time.
const backwardPage = 500
