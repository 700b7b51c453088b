package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// Limits of what is submitted.
const (
	// MaxBatch is how many requests a batch has: they become records of one append.
	MaxBatch = oplog.MaxAppendRecords
	// maxQueued is how many batches wait. Who comes later is told to come again.
	maxQueued = 10_000
	// maxRetries is how often an append is tried again since another process was faster. Each time some process gets on.
	maxRetries = 100
	// commitTimeout is how long an append may take. It does not end with a caller's request, since others' batches are in it.
	commitTimeout = 30 * time.Second
)

// Batch is what an actor wants done, all or nothing.
type Batch struct {
	Actor    config.Actor
	Requests []config.Request
	// Foreign are operations that another copy of the document made, instead of Requests.
	Foreign []*config.Op
	// Guard is asked about each operation before it counts; nil permits all. It must not use the Document.
	Guard func(s *config.State, op *config.Op) error
	// DryRun works everything out and writes nothing.
	DryRun bool
}

// Result is what became of a request.
type Result struct {
	Op  *config.Op
	Seq uint64 // the operation's record; 0 if there was nothing to write
}

// submission is a batch that waits for its turn.
type submission struct {
	Batch
	results []Result
	err     error
	ready   chan bool // true: lead the next group; false: done
}

// queue has the batches that wait. There is no goroutine that writes: whoever comes first leads, writes for all who came meanwhile, and hands on.
type queue struct {
	mu      sync.Mutex
	waiting []*submission // guarded by mu
	led     bool          // guarded by mu
}

// Submit has a batch done. The results are those of its requests, in order.
func (d *Document) Submit(ctx context.Context, b Batch) ([]Result, error) {
	if n := len(b.Requests) + len(b.Foreign); n > MaxBatch {
		return nil, fmt.Errorf("submit: a batch has at most %d operations, and this one has %d: %w", MaxBatch, n, errkind.TooLarge)
	}
	sub := &submission{Batch: b, ready: make(chan bool, 1)}
	if b.DryRun {
		d.mu.RLock()
		defer d.mu.RUnlock()
		_, err := d.plan(d.state.Draft(), sub)
		return sub.results, err
	}
	q := &d.queue
	q.mu.Lock()
	if len(q.waiting) >= maxQueued {
		q.mu.Unlock()
		return nil, fmt.Errorf("submit: %d batches wait already: %w", maxQueued, errkind.Unavailable)
	}
	q.waiting = append(q.waiting, sub)
	lead := !q.led
	q.led = true
	q.mu.Unlock()
	if lead || <-sub.ready {
		d.lead(context.WithoutCancel(ctx), sub)
	}
	return sub.results, sub.err
}

// lead writes one group, which has the leader's own batch as its first, and makes the next one that waits the leader.
func (d *Document) lead(ctx context.Context, own *submission) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	d.writing.Lock()
	q := &d.queue
	q.mu.Lock()
	group := q.waiting[:groupSize(q.waiting)]
	q.waiting = q.waiting[len(group):]
	q.mu.Unlock()
	d.commit(ctx, group)
	d.writing.Unlock()

	q.mu.Lock()
	if len(q.waiting) > 0 {
		q.waiting[0].ready <- true
	} else {
		q.led, q.waiting = false, nil
	}
	q.mu.Unlock()
	for _, sub := range group {
		if sub != own {
			sub.ready <- false
		}
	}
}

// groupSize returns how many batches fit into one append by their count of operations.
func groupSize(waiting []*submission) int {
	n := 0
	for i, sub := range waiting {
		if n += len(sub.Requests) + len(sub.Foreign); i > 0 && n > oplog.MaxAppendRecords {
			return i
		}
	}
	return len(waiting)
}

// commit plans a group's batches, each on top of the ones before it, appends what comes out, and publishes it.
func (d *Document) commit(ctx context.Context, group []*submission) {
	for range maxRetries {
		if d.unsure {
			if err := d.catchUp(ctx); err != nil {
				fail(group, fmt.Errorf("submit: %w: %w", err, errkind.Unavailable))
				return
			}
		}
		batch, records, rest := d.prepare(group)
		if len(records) == 0 {
			return
		}
		prev := d.head
		if prev.Seq == 0 {
			prev = oplog.Head{} // what the first record follows is in no log
		}
		err := d.log.Append(ctx, prev, records)
		switch {
		case err == nil:
			d.publish(batch)
			if len(rest) == 0 {
				return
			}
			group = rest
		case errors.Is(err, errkind.Conflict):
			d.unsure = true // another process was faster: plan again, on top of what it wrote
		default:
			d.unsure = errkind.Of(err) != errkind.TooLarge && errkind.Of(err) != errkind.Invalid
			fail(group, fmt.Errorf("submit: %w", err))
			return
		}
	}
	fail(group, fmt.Errorf("submit: others wrote %d times meanwhile: %w", maxRetries, errkind.Unavailable))
}

func fail(group []*submission, err error) {
	for _, sub := range group {
		if sub.err == nil {
			sub.results, sub.err = nil, err
		}
	}
}

// prepare makes records of a group's batches. rest are those for which there was no room.
func (d *Document) prepare(group []*submission) (batch []decoded, records []oplog.Record, rest []*submission) {
	draft := d.state.Draft()
	head, size := d.head, 0
	for i, sub := range group {
		sub.results, sub.err = nil, nil
		texts, err := d.plan(draft, sub)
		if err != nil {
			sub.results, sub.err = nil, err
			continue
		}
		n := 0
		for _, text := range texts {
			n += len(text)
		}
		if len(records) > 0 && size+n > oplog.MaxAppendBytes {
			return batch, records, group[i:]
		}
		size += n
		at := 0
		for j := range sub.results {
			if len(sub.results[j].Op.Writes) == 0 && sub.results[j].Op.Schema == nil {
				continue
			}
			hash := chain(head, texts[at])
			head = oplog.Head{Seq: head.Seq + 1, Hash: hash}
			sub.results[j].Seq = head.Seq
			records = append(records, oplog.Record{Seq: head.Seq, Hash: hash, Data: texts[at]})
			batch = append(batch, decoded{sub.results[j].Op, head})
			at++
		}
	}
	return batch, records, nil
}

// plan works out a batch on a draft, and leaves the draft alone if the batch is refused. It returns the texts of the operations that do something.
func (d *Document) plan(draft *config.State, sub *submission) (texts [][]byte, err error) {
	ops := sub.Foreign
	if len(ops) == 0 {
		on := draft
		if len(sub.Requests) > 1 {
			draft.Settle()
			on = draft.Draft()
		}
		if ops, err = d.planRequests(on, sub); err != nil {
			return nil, err
		}
	}
	for _, op := range ops {
		result := Result{Op: op}
		if sub.Foreign != nil {
			if err := d.clock.Observe(op.Time, d.opts.Drift); err != nil {
				return nil, fmt.Errorf("operation %s: %w", op.ID, err)
			}
			if draft.Has(op.ID) {
				result.Op = &config.Op{ID: op.ID}
			}
		}
		sub.results = append(sub.results, result)
		if len(result.Op.Writes) == 0 && result.Op.Schema == nil {
			continue
		}
		text, err := op.Encode()
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	for _, r := range sub.results {
		if len(r.Op.Writes) > 0 || r.Op.Schema != nil {
			draft.Apply(r.Op)
		}
	}
	return texts, nil
}

// planRequests works out requests one after the other. The draft is used up.
func (d *Document) planRequests(draft *config.State, sub *submission) ([]*config.Op, error) {
	ops := make([]*config.Op, len(sub.Requests))
	for i := range sub.Requests {
		op, err := draft.Plan(&sub.Requests[i], crdt.Dot{Node: d.node, Seq: draft.Last(d.node) + 1})
		if err != nil {
			return nil, inBatch(err, i, len(ops))
		}
		op.Actor = sub.Actor
		if sub.Guard != nil {
			if err := sub.Guard(draft, op); err != nil {
				return nil, inBatch(err, i, len(ops))
			}
		}
		if ops[i] = op; len(op.Writes) == 0 && op.Schema == nil {
			continue
		}
		op.Time = d.clock.Next()
		if len(ops) > 1 {
			draft.Apply(op)
		}
	}
	return ops, nil
}

func inBatch(err error, i, n int) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("operation %d of %d: %w", i+1, n, err)
}
