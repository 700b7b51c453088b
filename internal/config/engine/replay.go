package engine

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/oplog"
)

// replayBatch is how many records are decoded and applied at a time: so many that handing them over costs nothing, and so few that several
// batches fit in memory.
const replayBatch = 512

// decodeAll reads the records after a head, checks their chain, and calls fn with their operations, batch by batch, in order. Decoding takes most
// of the time, and goes on all cores.
func decodeAll(ctx context.Context, log oplog.Log, after oplog.Head, fn func([]decoded) error) error {
	group, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	type job struct {
		data  [][]byte
		heads []oplog.Head
		out   chan []decoded
	}
	jobs := make(chan *job, workers)
	ordered := make(chan *job, 2*workers)
	group.Go(func() error {
		defer close(jobs)
		defer close(ordered)
		j := &job{out: make(chan []decoded, 1)}
		flush := func() error {
			for _, to := range []chan *job{jobs, ordered} {
				select {
				case to <- j:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			j = &job{out: make(chan []decoded, 1)}
			return nil
		}
		head := after
		err := log.Read(ctx, after.Seq+1, 0, func(r oplog.Record) error {
			if err := checkLink(head, r); err != nil {
				return err
			}
			head = oplog.Head{Seq: r.Seq, Hash: r.Hash}
			j.data = append(j.data, slices.Clone(r.Data))
			j.heads = append(j.heads, head)
			if len(j.data) < replayBatch {
				return nil
			}
			return flush()
		})
		if err == nil && len(j.data) > 0 {
			err = flush()
		}
		return err
	})
	for range workers {
		group.Go(func() error {
			for j := range jobs {
				batch := make([]decoded, len(j.data))
				for i, data := range j.data {
					op, err := config.DecodeOp(data)
					if err != nil {
						return fmt.Errorf("record %d: %w", j.heads[i].Seq, err)
					}
					batch[i] = decoded{op, j.heads[i]}
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

// Verify reads the whole log and checks that each record follows the one before it. It returns the log's end.
func (d *Document) Verify(ctx context.Context, fn func(op *config.Op, seq uint64) error) (oplog.Head, error) {
	end := oplog.Head{Hash: genesis(d.name)}
	err := decodeAll(ctx, d.log, end, func(batch []decoded) error {
		for _, r := range batch {
			end = r.head
			if err := fn(r.op, r.head.Seq); err != nil {
				return err
			}
		}
		return nil
	})
	return end, err
}

// StateAt returns the state after a record, as it was then.
func (d *Document) StateAt(ctx context.Context, include func(op *config.Op, seq uint64) bool) (*config.State, error) {
	s := config.NewState()
	err := decodeAll(ctx, d.log, oplog.Head{Hash: genesis(d.name)}, func(batch []decoded) error {
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
