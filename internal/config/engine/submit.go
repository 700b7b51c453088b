package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
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
	// askTimeout is how long the log may take to say what became of an append that failed.
	askTimeout = 10 * time.Second
	// commitTimeout is how long an append may take. It does not end with a caller's request, since others' batches are in it.
	commitTimeout = 30 * time.Second
)

// Batch is what an actor wants done, all or nothing.
type Batch struct {
	Actor    config.Actor
	Requests []config.Request
	// Foreign are operations that other copies of the document made, instead of Requests, in any order and as often as they come. One that is there
	// already is left out. One that names this copy and is not there is refused with errkind.Exists, see Node.
	Foreign []*config.Op
	// Guard is asked about each operation that is made of a request, the i-th, before it counts; nil permits all. It is asked again where a batch
	// is planned again. It must not use the Document.
	Guard func(i int, s *config.State, op *config.Op) error
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
	results  []Result
	err      error
	panicked string    // what the planning of the batch panicked with: its own submitter goes on with that, and nobody else
	ready    chan bool // true: lead the next group; false: done
}

// queue has the batches that wait. There is no goroutine that writes: whoever comes first leads, writes for all who came meanwhile, and hands on.
type queue struct {
	mu      sync.Mutex
	waiting []*submission // guarded by mu
	led     bool          // guarded by mu
	next    *submission   // guarded by mu: who was told to lead, and is the first that waits
}

// join puts a batch in. It reports whether its submitter leads.
func (q *queue) join(sub *submission) (lead bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= maxQueued {
		return false, fmt.Errorf("submit: %d batches wait already: %w", maxQueued, errkind.Unavailable)
	}
	q.waiting = append(q.waiting, sub)
	lead, q.led = !q.led, true
	return lead, nil
}

// leave takes a batch out again. It reports false if it is too late: the batch is being written, or its submitter was told to lead.
func (q *queue) leave(sub *submission) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, sub)
	if i < 0 || q.next == sub {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true
}

// take returns the group that is written next.
func (q *queue) take() []*submission {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.next = nil
	n := groupSize(q.waiting)
	group := slices.Clone(q.waiting[:n])
	clear(q.waiting[:n])
	q.waiting = q.waiting[n:]
	return group
}

// handOn makes the next one that waits the leader.
func (q *queue) handOn() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.led, q.waiting = false, nil
		return
	}
	q.next = q.waiting[0]
	q.next.ready <- true
}

// Submit has a batch done. The results are those of its requests, in order.
//
// After an error of kind Unavailable or Internal nobody can say whether the batch will count: the log did not answer. After any other error, and
// if ctx ended first, it does not.
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
	if ctx.Err() != nil {
		return nil, fmt.Errorf("submit: %w", ctx.Err())
	}
	lead, err := d.queue.join(sub)
	if err != nil {
		return nil, err
	}
	if !lead {
		select {
		case lead = <-sub.ready:
		case <-ctx.Done():
			if d.queue.leave(sub) {
				return nil, fmt.Errorf("submit: %w", ctx.Err())
			}
			lead = <-sub.ready
		}
	}
	if lead {
		d.lead(context.WithoutCancel(ctx), sub)
	}
	if sub.panicked != "" {
		panic(sub.panicked)
	}
	return sub.results, sub.err
}

// errLeft is that of a group whose leader did not get to the end.
var errLeft = fmt.Errorf("submit: whoever wrote for this one, too, broke off: %w", errkind.Unavailable)

// lead writes one group, which has the leader's own batch as its first, and makes the next one that waits the leader. It does so whatever happens:
// a panic that some server recovers from must not leave the others waiting.
func (d *Document) lead(ctx context.Context, own *submission) {
	var group []*submission
	finished := false
	defer func() {
		d.queue.handOn()
		for _, sub := range group {
			if sub != own {
				sub.ready <- false
			}
		}
	}()
	d.writing.Lock()
	defer d.writing.Unlock()
	defer func() {
		if !finished {
			d.unsure = true
			fail(group, errLeft)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	group = d.queue.take()
	d.commit(ctx, group)
	finished = true
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
	for tries := 0; tries < maxRetries; tries++ {
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
		switch err := d.append(ctx, batch, records); {
		case err == nil && len(rest) == 0:
			return
		case err == nil:
			group, tries = rest, -1
		case !errors.Is(err, errkind.Conflict):
			fail(group, fmt.Errorf("submit: %w", err))
			return
		}
	}
	fail(group, fmt.Errorf("submit: others wrote %d times meanwhile: %w", maxRetries, errkind.Unavailable))
}

// append makes a batch durable and publishes it. An error of kind Conflict says that others were faster: to plan again, on top of what they wrote.
func (d *Document) append(ctx context.Context, batch []decoded, records []oplog.Record) error {
	prev := d.head
	if prev.Seq == 0 {
		prev = oplog.Head{} // what the first record follows is in no log
	}
	err := d.log.Append(ctx, prev, records)
	if err == nil {
		d.publish(batch)
		return nil
	}
	// The connection may have been lost after the records were kept, and what tried again may then have found that "others" were faster. Only
	// the log can say.
	d.unsure = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	last := batch[len(batch)-1].head
	kept, known := d.kept(ctx, last)
	switch kind := errkind.Of(err); {
	case known && kept:
		return nil
	case !known:
		return fmt.Errorf("whether it was kept is not known: %w: %w", err, errkind.Unavailable)
	case kind == errkind.TooLarge || kind == errkind.Invalid || kind == errkind.NotFound:
		return err
	case kind != errkind.Conflict && d.head.Seq >= last.Seq:
		return fmt.Errorf("%w: %w", errkind.Conflict, err) // others have its place, so it cannot be kept any more
	}
	return err
}

// kept reads on in the log, and reports whether records are there up to last, which this process made.
func (d *Document) kept(ctx context.Context, last oplog.Head) (kept, known bool) {
	if err := d.catchUp(ctx); err != nil {
		d.opts.Logger.Warn("could not read on in the log of a document after an error", "document", d.name, "error", err)
		return false, false
	}
	if d.head.Seq <= last.Seq {
		return d.head == last, true
	}
	found, err := d.log.Get(ctx, []uint64{last.Seq})
	if err != nil {
		d.unsure = true
		return false, false
	}
	return found[0].Hash == last.Hash, true
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
		texts, err := d.planOne(draft, sub)
		n := 0
		for _, text := range texts {
			n += len(text)
		}
		if err == nil && n > oplog.MaxAppendBytes {
			err = fmt.Errorf("submit: the batch has %d bytes, and %d are allowed: %w", n, oplog.MaxAppendBytes, errkind.TooLarge)
		}
		if err != nil {
			sub.results, sub.err = nil, err
			continue
		}
		if len(records) > 0 && size+n > oplog.MaxAppendBytes {
			return batch, records, group[i:]
		}
		size += n
		for j, text := range texts {
			if text == nil {
				continue
			}
			op := sub.results[j].Op
			draft.Apply(op)
			head = oplog.Head{Seq: head.Seq + 1, Hash: Chain(head, text)}
			sub.results[j].Seq = head.Seq
			records = append(records, oplog.Record{Seq: head.Seq, Hash: head.Hash, Data: text})
			batch = append(batch, decoded{op, head, len(text)})
		}
	}
	return batch, records, nil
}

// planOne works out one batch of a group. A panic is kept for who submitted it.
func (d *Document) planOne(draft *config.State, sub *submission) (texts [][]byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			sub.panicked = fmt.Sprintf("bug: plan a batch: %v\n%s", p, debug.Stack())
			texts, err = nil, errLeft
		}
	}()
	sub.results, sub.err = nil, nil
	if sub.panicked != "" {
		return nil, errLeft
	}
	return d.plan(draft, sub)
}

// plan works out a batch on a draft, which it leaves alone. It returns the texts of the operations, nil for one that does nothing.
func (d *Document) plan(draft *config.State, sub *submission) (texts [][]byte, err error) {
	if sub.Foreign != nil {
		err = d.planForeign(draft, sub)
	} else {
		err = d.planRequests(draft, sub)
	}
	if err != nil {
		sub.results = nil
		return nil, err
	}
	texts = make([][]byte, len(sub.results))
	for i, r := range sub.results {
		if r.Op.Time == 0 {
			continue
		}
		if texts[i], err = r.Op.Encode(); err != nil {
			sub.results = nil
			return nil, err
		}
	}
	return texts, nil
}

// planForeign looks at what other copies made. Of one that does nothing here only the ID is left.
func (d *Document) planForeign(draft *config.State, sub *submission) error {
	taken := map[crdt.Dot]bool{}
	for _, op := range sub.Foreign {
		if taken[op.ID] || draft.Has(op.ID) {
			sub.results = append(sub.results, Result{Op: &config.Op{ID: op.ID}})
			continue
		}
		if op.ID.Node == d.Node() {
			return fmt.Errorf("operation %s: it names this copy as its maker, which has not made it: was the copy put back to an earlier state? "+
				"it needs a new name then: %w", op.ID, errkind.Exists)
		}
		if err := d.clock.Observe(op.Time, d.opts.Drift); err != nil {
			return fmt.Errorf("operation %s: %w", op.ID, err)
		}
		taken[op.ID] = true
		sub.results = append(sub.results, Result{Op: op})
	}
	return nil
}

// planRequests works out requests one after the other. Of one that does nothing the operation has no time.
func (d *Document) planRequests(draft *config.State, sub *submission) error {
	many := len(sub.Requests) > 1
	if many {
		draft.Settle()
		draft = draft.Draft()
	}
	node := d.Node()
	sub.results = make([]Result, len(sub.Requests))
	for i := range sub.Requests {
		op, err := draft.Plan(&sub.Requests[i], crdt.Dot{Node: node, Seq: draft.Last(node) + 1})
		if err != nil {
			return inBatch(err, i, len(sub.Requests))
		}
		op.Actor = sub.Actor
		if sub.Guard != nil {
			if err := sub.Guard(i, draft, op); err != nil {
				return inBatch(err, i, len(sub.Requests))
			}
		}
		sub.results[i].Op = op
		if len(op.Writes) == 0 && op.Schema == nil {
			continue
		}
		op.Time = d.clock.Next()
		if many {
			draft.Apply(op)
		}
	}
	return nil
}

func inBatch(err error, i, n int) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("operation %d of %d: %w", i+1, n, err)
}
