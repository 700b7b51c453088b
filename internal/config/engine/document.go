// Package engine runs a document: it admits operations, makes them durable, and tells who watches.
//
//	doc, err := engine.Open(ctx, "shop", log, engine.Options{})
//	results, err := doc.Submit(ctx, engine.Batch{Actor: actor, Requests: []config.Request{…}})
//	err = doc.View(func(s *config.State) error { … })
//	err = doc.Watch(ctx, results[0].Seq, func(e engine.Event) error { … })
//
// What callers may rely on:
//   - Submit returns without an error when what it was given is durable, and only then can it be seen.
//   - The requests of one batch all count, or none does. Batches of several callers are written together, by one append to the log.
//   - Each record's hash covers the one before it: in a log that Verify passes nothing was changed, left out or put in, and a log
//     whose end was cut off does not have the head that somebody noted elsewhere, as milestones do.
//   - Several processes may have one document open. Each sees what the others wrote when it writes itself, and otherwise soon.
package engine

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// Options of a document. The zero Options works.
type Options struct {
	Node          string           // this copy's name among the document's; "": the one that its log remembers, or a new one
	Now           func() time.Time // nil: time.Now
	Drift         time.Duration    // how far ahead other copies' clocks may be; 0: 500 ms
	Poll          time.Duration    // how often Run looks for what other processes wrote; 0: 500 ms
	SnapshotEvery int              // records after which Run keeps a snapshot; 0: 50,000
	Logger        *slog.Logger     // nil: none
}

func (o *Options) fill() {
	if o.Drift == 0 {
		o.Drift = 500 * time.Millisecond
	}
	if o.Poll == 0 {
		o.Poll = 500 * time.Millisecond
	}
	if o.SnapshotEvery == 0 {
		o.SnapshotEvery = 50_000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Document is an open document. It is safe for concurrent use.
type Document struct {
	name  string
	node  atomic.Pointer[string]
	log   oplog.Log
	opts  Options
	clock crdt.Clock

	queue queue
	// writing is held by whoever appends to the log or reads on in it. It comes before mu.
	writing sync.Mutex
	unsure  bool // guarded by writing: an append failed, and may have been kept all the same

	base     atomic.Pointer[string] // the base environment's name, by the schema in force
	saved    atomic.Uint64          // the record of the last snapshot
	watchers atomic.Int64

	mu      sync.RWMutex
	state   *config.State       // guarded by mu, as all that follows
	head    oplog.Head          // the last record that the state has
	index   map[string][]uint64 // the records that write to each entity
	places  places              // the records of the operations
	recent  events              // the last ones since the document was opened, with no gap up to head
	opened  bool
	changed chan struct{} // closed when head moves
}

// Open reads a document's log and returns what it comes to. The Document does not close the log.
func Open(ctx context.Context, name string, log oplog.Log, opts Options) (*Document, error) {
	opts.fill()
	d := &Document{
		name: name, log: log, opts: opts, clock: crdt.Clock{Now: opts.Now}, state: config.NewState(),
		head: oplog.Head{Hash: Genesis(name)}, index: map[string][]uint64{}, places: places{}, changed: make(chan struct{}),
	}
	node, err := nodeName(ctx, log, opts.Node)
	if err != nil {
		return nil, fmt.Errorf("open document %s: %w", name, err)
	}
	d.node.Store(&node)
	if err := d.restore(ctx); err != nil {
		return nil, fmt.Errorf("open document %s: %w", name, err)
	}
	if err := d.catchUp(ctx); err != nil {
		return nil, fmt.Errorf("open document %s: %w", name, err)
	}
	d.opened = true
	d.noteBase()
	return d, nil
}

// metaNode is where a log remembers the name of its copy.
const metaNode = "node"

func nodeName(ctx context.Context, log oplog.Log, want string) (string, error) {
	if want != "" {
		return want, crdt.CheckNode(want)
	}
	for {
		name, err := log.Meta(ctx, metaNode)
		if err == nil {
			return string(name), nil
		}
		if !errors.Is(err, errkind.NotFound) {
			return "", err
		}
		// 60 bits: copies are told apart by nothing else.
		made := strings.ToLower(rand.Text()[:12])
		if err := log.SwapMeta(ctx, metaNode, nil, []byte(made)); err != nil && !errors.Is(err, errkind.Conflict) {
			return "", err
		}
	}
}

// Name returns the document's name.
func (d *Document) Name() string { return d.name }

// Node returns the name of this copy. Operations are named by it and a number that counts up: two copies that write must never have the same
// name. A log that was put back to an earlier state, from a backup, has forgotten what it gave out since: while other copies may know
// of that, the document is opened with a new name (Options.Node), and the lost operations come back from the others.
func (d *Document) Node() string { return *d.node.Load() }

// Meta gives access to the document's small named values.
func (d *Document) Meta() oplog.Metadata { return d.log }

// Base returns the name of the base environment. Unlike View, which must not be called in a View, it waits for nobody.
func (d *Document) Base() string { return *d.base.Load() }

// noteBase notes the base's name. The caller holds mu, or nobody else has the document yet.
func (d *Document) noteBase() {
	if base := d.state.Schema().Base(); d.base.Load() == nil || *d.base.Load() != base {
		d.base.Store(&base)
	}
}

// View calls fn with the state, which must not be kept. fn must not write to the document.
func (d *Document) View(fn func(s *config.State) error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return fn(d.state)
}

// ViewAt is View, with the last record that the state has.
func (d *Document) ViewAt(fn func(s *config.State, head oplog.Head) error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return fn(d.state, d.head)
}

// Head returns the last record that the state has. Its hash vouches for all that were before it.
func (d *Document) Head() oplog.Head {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.head
}

// Refresh takes in what other processes wrote.
func (d *Document) Refresh(ctx context.Context) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	return d.catchUp(ctx)
}

// Run takes in what other processes write and keeps snapshots, until ctx ends. Nothing else of a Document needs it.
func (d *Document) Run(ctx context.Context) error {
	tick := time.NewTicker(d.opts.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := d.refreshInTime(ctx); err != nil && ctx.Err() == nil {
			d.opts.Logger.Warn("could not read on in the log of a document", "document", d.name, "error", err)
			continue
		}
		if err := d.Snapshot(ctx, d.opts.SnapshotEvery); err != nil && ctx.Err() == nil {
			d.opts.Logger.Warn("could not keep a snapshot of a document", "document", d.name, "error", err)
		}
	}
}

// refreshInTime takes in what others wrote, as far as it comes: who writes must not wait long for a log that does not answer.
func (d *Document) refreshInTime(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	return d.Refresh(ctx)
}

// Genesis is what the first record's hash follows: no record of one document can be the first of another.
func Genesis(name string) [32]byte { return sha256.Sum256([]byte("skep config log v1\n" + name)) }

// Chain returns the hash of the record that has this data and follows prev. A log is checked by it without a Document too.
func Chain(prev oplog.Head, data []byte) [32]byte {
	h := sha256.New()
	h.Write(prev.Hash[:])
	h.Write(binary.BigEndian.AppendUint64(nil, prev.Seq+1))
	h.Write(data)
	return [32]byte(h.Sum(nil))
}

// checkLink checks that a record follows a head.
func checkLink(prev oplog.Head, r oplog.Record) error {
	if r.Seq != prev.Seq+1 || r.Hash != Chain(prev, r.Data) {
		return fmt.Errorf("record %d does not follow the one before it: the log was changed or damaged, or put back to an earlier state and written to since", r.Seq)
	}
	return nil
}

// catchUp applies what the log has after head. The caller holds writing, or nobody else has the document yet.
func (d *Document) catchUp(ctx context.Context) error {
	head, err := d.log.Head(ctx)
	if err != nil {
		return err
	}
	if head.Seq < d.head.Seq || head.Seq == d.head.Seq && head.Seq > 0 && head.Hash != d.head.Hash {
		return fmt.Errorf("the log ends at record %d, and has had %d: it was put back to an earlier state: start again to go on from there", head.Seq, d.head.Seq)
	}
	if head.Seq == d.head.Seq {
		d.unsure = false
		return nil
	}
	at := d.head
	err = decodeAll(ctx, d.log, at, 0, func(batch []decoded) error {
		d.publish(batch)
		return nil
	})
	if err != nil {
		return err
	}
	d.unsure = false
	return nil
}

// decoded is a record and the operation in it.
type decoded struct {
	op   *config.Op
	head oplog.Head // of the log that ends with it
	size int        // of its text
}

// publish applies operations that are durable, and tells who watches.
func (d *Document) publish(batch []decoded) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range batch {
		d.clock.Resume(r.op.Time)
		d.state.Apply(r.op)
		d.head = r.head
		d.places.add(r.op.ID, r.head.Seq)
		for i := range r.op.Writes {
			d.indexed(r.op.Writes[i].Entity, r.head.Seq)
		}
	}
	d.state.Settle()
	d.noteBase()
	if d.opened {
		d.remember(batch)
	}
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *Document) indexed(entity string, seq uint64) {
	list := d.index[entity]
	if len(list) == 0 || list[len(list)-1] != seq {
		d.index[entity] = append(list, seq)
	}
}

// snapshot is a state, and what else cannot be had without reading the whole log.
type snapshot struct {
	Document string          `json:"document"`
	Hash     [32]byte        `json:"hash"` // of the record that it is of
	State    json.RawMessage `json:"state"`
	Index    json.RawMessage `json:"index"`
	Places   json.RawMessage `json:"places"`
}

// Snapshot keeps the state if there were so many records since the last time, so that the next Open need not read them.
func (d *Document) Snapshot(ctx context.Context, after int) error {
	head, k, err := d.picture(after)
	if err != nil || head.Seq == 0 {
		return err
	}
	text, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	return d.log.SaveSnapshot(ctx, head.Seq, text)
}

// picture makes a snapshot, if there were so many records since the last one. Who reads goes on meanwhile, and who writes waits.
func (d *Document) picture(after int) (head oplog.Head, k snapshot, err error) {
	d.writing.Lock()
	defer d.writing.Unlock()
	if d.head.Seq < d.saved.Load()+uint64(after) { //nolint:gosec // not negative
		return oplog.Head{}, k, nil
	}
	d.saved.Store(d.head.Seq) // also if it fails: the next one is tried after as many records again
	k = snapshot{Document: d.name, Hash: d.head.Hash}
	if k.State, err = d.state.Snapshot(); err != nil {
		return oplog.Head{}, k, err
	}
	// As text, since the maps change as soon as somebody writes.
	if k.Index, err = json.Marshal(d.index); err != nil {
		return oplog.Head{}, k, fmt.Errorf("encode snapshot: %w", err)
	}
	if k.Places, err = json.Marshal(d.places); err != nil {
		return oplog.Head{}, k, fmt.Errorf("encode snapshot: %w", err)
	}
	return d.head, k, nil
}

// restore starts from the snapshot, if there is one that this code can use.
func (d *Document) restore(ctx context.Context) error {
	seq, text, err := d.log.Snapshot(ctx)
	if errors.Is(err, errkind.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	records, err := d.log.Get(ctx, []uint64{seq})
	if err != nil && !errors.Is(err, errkind.NotFound) {
		return err
	}
	var k snapshot
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	if err == nil && (k.Hash != records[0].Hash || k.Document != d.name) {
		err = errors.New("it is of another log")
	}
	var index map[string][]uint64
	var at places
	if err == nil {
		err = errors.Join(json.Unmarshal(k.Index, &index), json.Unmarshal(k.Places, &at))
	}
	if err == nil && (index == nil || at == nil) {
		err = errors.New("it has not all that is to be known")
	}
	var state *config.State
	if err == nil {
		state, err = config.RestoreState(k.State)
	}
	if err != nil {
		d.opts.Logger.Warn("a snapshot cannot be used, and the whole log is read", "document", d.name, "error", err)
		return nil
	}
	d.state, d.head = state, oplog.Head{Seq: seq, Hash: k.Hash}
	d.saved.Store(seq)
	d.index, d.places = index, at
	d.clock.Resume(state.Latest())
	return nil
}
