// Package replica keeps copies of a document equal.
//
//	r := replica.New(doc, transport, peers, replica.Options{})
//	err := r.Run(ctx)
//	reply, err := r.Handle(ctx, message)   // for what comes from peers
//	differ, err := r.Hear(ctx, notice)     // for what somebody told all
//
// Every copy accepts writes, whether it reaches the others or not, and numbers what it makes: so a version, the numbers up to which somebody has each
// copy's operations, says what that one lacks. Run tells all peers of new operations at once, and from time to time compares versions with
// a random one, both ways, until neither lacks anything. Messages may be lost, come twice or in any order.
//
// An operation whose clock is further ahead than the document allows is put aside and tried again; Status counts these. What is not one is refused
// and counted. Neither keeps the others from coming in.
//
// A copy that was put back to an earlier state would number new operations like some that the others have already. It notices when a peer knows more
// of it than itself, and takes a new name. If it has written before it met a peer, both have different operations of one name; this is noticed by
// the times of the last ones that both have, and the two exchange nothing until somebody decides: Status says Forked. So a document that
// is put back while it has peers is to be opened with a new name at once (engine.Options.Node).
package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// Limits.
const (
	// MaxOps and MaxBytes are what one message brings. MaxBytes is below that of an append; one operation alone may have more.
	MaxOps   = 500
	MaxBytes = 3 << 20
	// MaxAside is how many operations are put aside. Others that are ahead are asked for again later.
	MaxAside = 10_000
)

// Message is what copies send each other. It is its own answer: whoever gets one returns one.
type Message struct {
	Document string    `json:"document"`
	Node     string    `json:"node"`    // who sends it
	Version  crdt.Dots `json:"version"` // what that one has
	// Ops are operations' texts, of which the sender believes that the other lacks them.
	Ops []json.RawMessage `json:"ops,omitempty"`
	// Marks are, in an answer, the times of the last operations of each copy that both have: those of one name must be the same.
	Marks map[crdt.Dot]crdt.HLC `json:"marks,omitempty"`
}

// Transport brings a message to a peer, and its answer back. It lets through only those who may write to the document: what a peer sends is not
// checked for whether its actor may do that, which the copy did where it was made.
type Transport interface {
	Exchange(ctx context.Context, peer string, m *Message) (*Message, error)
}

// Options of a Replica. The zero Options works.
type Options struct {
	Every   time.Duration // between comparisons with a random peer; 0: 5 s
	Timeout time.Duration // of an exchange; 0: 30 s
	MaxWait time.Duration // how long a peer that fails is left alone, at most; 0: 1 min
	Logger  *slog.Logger
}

// Status is how a copy does.
type Status struct {
	Aside    int               `json:"aside"`              // operations that are too far ahead of this clock, for now
	Refused  uint64            `json:"refused"`            // operations that are none
	Taken    uint64            `json:"taken"`              // operations that came from others
	Renamed  []string          `json:"renamed,omitempty"`  // names that this copy had before others knew more of them than it did
	Forked   string            `json:"forked,omitempty"`   // the name of which two copies have different operations
	Failures map[string]string `json:"failures,omitempty"` // of peers, the last ones
}

// Replica is one copy of a document among its peers. It is safe for concurrent use.
type Replica struct {
	doc       *engine.Document
	transport Transport
	peers     func() []string
	opts      Options

	mu     sync.Mutex
	aside  map[crdt.Dot]*config.Op // guarded by mu, as all that follows
	status Status
	wait   map[string]backoff // of peers that failed
}

type backoff struct {
	until time.Time
	pause time.Duration
}

// New makes a Replica. peers returns the names of the others by which the transport knows them; they may change. Both may be nil: such a copy is
// reached by other ways only (TryOver).
func New(doc *engine.Document, transport Transport, peers func() []string, opts Options) *Replica {
	for _, d := range []struct {
		at *time.Duration
		is time.Duration
	}{{&opts.Every, 5 * time.Second}, {&opts.Timeout, 30 * time.Second}, {&opts.MaxWait, time.Minute}} {
		if *d.at == 0 {
			*d.at = d.is
		}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if peers == nil {
		peers = func() []string { return nil }
	}
	return &Replica{
		doc: doc, transport: transport, peers: peers, opts: opts, aside: map[crdt.Dot]*config.Op{}, wait: map[string]backoff{},
		status: Status{Failures: map[string]string{}},
	}
}

// Status returns how the copy does.
func (r *Replica) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Aside, s.Renamed, s.Failures = len(r.aside), slices.Clone(s.Renamed), maps.Clone(s.Failures)
	return s
}

// version returns what this copy has, with what is put aside: that need not be sent again as long as it is here.
func (r *Replica) version() (v crdt.Dots) {
	_ = r.doc.View(func(s *config.State) error {
		v = s.Version()
		return nil
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for dot := range r.aside {
		v.Add(dot)
	}
	return v
}

// Run tells peers of what is new and compares versions, until ctx ends.
func (r *Replica) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	news := make(chan struct{}, 1)
	wg.Go(func() {
		// An error other than ctx's is that the log was put back, of which whoever writes is told.
		_ = r.doc.Watch(ctx, r.doc.Head().Seq, func(engine.Event) error {
			select {
			case news <- struct{}{}:
			default: // there is news already
			}
			return nil
		})
	})
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-news:
			for _, peer := range r.peers() {
				r.TryOver(ctx, r.transport, peer)
			}
		case <-timer.C:
			timer.Reset(r.opts.Every/2 + rand.N(r.opts.Every)) //nolint:gosec // it spreads load and is no secret
			if err := r.Retry(ctx); err != nil && ctx.Err() == nil {
				r.opts.Logger.Warn("could not take operations that were put aside", "document", r.doc.Name(), "error", err)
			}
			if peers := r.peers(); len(peers) > 0 {
				r.TryOver(ctx, r.transport, peers[rand.IntN(len(peers))]) //nolint:gosec // as above
			}
		}
	}
}

// TryOver is SyncOver, unless the peer has just failed. Status says what came of it.
func (r *Replica) TryOver(ctx context.Context, way Transport, peer string) {
	r.mu.Lock()
	rests := time.Now().Before(r.wait[peer].until)
	r.mu.Unlock()
	if rests {
		return
	}
	err := r.SyncOver(ctx, way, peer)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.wait, peer)
		delete(r.status.Failures, peer)
		return
	}
	if ctx.Err() != nil {
		return
	}
	pause := min(max(2*r.wait[peer].pause, r.opts.Every/4), r.opts.MaxWait)
	r.wait[peer] = backoff{time.Now().Add(pause/2 + rand.N(pause/2+1)), pause} //nolint:gosec // as above
	r.status.Failures[peer] = err.Error()
}

// Forget drops what is remembered of the failures of a peer that is not one any more.
func (r *Replica) Forget(peer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.wait, peer)
	delete(r.status.Failures, peer)
}

// Sync exchanges operations with a peer until neither has any that the other lacks, or what is left is put aside or refused.
func (r *Replica) Sync(ctx context.Context, peer string) error {
	return r.SyncOver(ctx, r.transport, peer)
}

// SyncOver is Sync with a peer that another transport knows.
func (r *Replica) SyncOver(ctx context.Context, way Transport, peer string) error {
	theirs := r.version() // so that the first message brings nothing: what the peer has is not known
	for before := ""; ; {
		m, err := r.message(ctx, &theirs)
		if err != nil {
			return err
		}
		// Each exchange has its time, and not all of them: who was away for long has many.
		limited, cancel := context.WithTimeout(ctx, r.opts.Timeout)
		answer, err := way.Exchange(limited, peer, m)
		cancel()
		if err != nil {
			return fmt.Errorf("replicate document %s with %s: %w", r.doc.Name(), peer, err)
		}
		if err := r.take(ctx, answer); err != nil {
			return err
		}
		theirs = answer.Version
		ours := r.version()
		now := ours.String() + "\n" + theirs.String()
		if now == before || len(answer.Ops) == 0 && theirs.Covers(&ours) {
			return nil
		}
		before = now
	}
}

// message makes one for somebody who has a version.
func (r *Replica) message(ctx context.Context, theirs *crdt.Dots) (*Message, error) {
	m := &Message{Document: r.doc.Name(), Node: r.doc.Node(), Version: r.version()}
	texts, err := r.doc.Missing(ctx, theirs, MaxOps, MaxBytes)
	for _, text := range texts {
		m.Ops = append(m.Ops, text)
	}
	return m, err
}

// Handle takes a message of a peer, and returns the answer.
func (r *Replica) Handle(ctx context.Context, m *Message) (*Message, error) {
	if err := r.take(ctx, m); err != nil {
		return nil, err
	}
	answer, err := r.message(ctx, &m.Version)
	if err != nil {
		return nil, err
	}
	answer.Marks = map[crdt.Dot]crdt.HLC{}
	for _, node := range m.Version.Nodes() {
		dot := crdt.Dot{Node: node, Seq: min(m.Version.Last(node), answer.Version.Last(node))}
		if dot.Seq == 0 {
			continue
		}
		op, err := r.doc.Op(ctx, dot)
		if err != nil {
			return nil, err
		}
		if op != nil {
			answer.Marks[dot] = op.Time
		}
	}
	return answer, nil
}

// take takes in what a message brings.
func (r *Replica) take(ctx context.Context, m *Message) error {
	if m.Document != r.doc.Name() {
		return fmt.Errorf("replicate document %s: the message is about %.80q: %w", r.doc.Name(), m.Document, errkind.Invalid)
	}
	if len(m.Ops) > MaxOps {
		return fmt.Errorf("replicate document %s: the message has %d operations, and %d are allowed: %w", r.doc.Name(), len(m.Ops), MaxOps, errkind.TooLarge)
	}
	if err := r.checkMarks(ctx, m.Node, m.Marks); err != nil {
		return err
	}
	if err := r.checkName(ctx, m); err != nil {
		return err
	}
	return r.submit(ctx, r.decode(m.Node, m.Ops))
}

// decode reads operations. Those that are none are counted, and left out.
func (r *Replica) decode(peer string, texts []json.RawMessage) []*config.Op {
	var ops []*config.Op
	for _, text := range texts {
		op, err := config.DecodeOp(text)
		if err != nil {
			r.mu.Lock()
			r.status.Refused++
			r.mu.Unlock()
			r.opts.Logger.Warn("a peer sent what is no operation", "document", r.doc.Name(), "peer", peer, "error", err)
			continue
		}
		ops = append(ops, op)
	}
	return ops
}

// checkMarks finds out whether two copies have different operations of one name.
func (r *Replica) checkMarks(ctx context.Context, peer string, marks map[crdt.Dot]crdt.HLC) error {
	for dot, at := range marks {
		op, err := r.doc.Op(ctx, dot)
		if err != nil {
			return err
		}
		if op != nil && op.Time != at {
			r.mu.Lock()
			r.status.Forked = dot.Node
			r.mu.Unlock()
			return fmt.Errorf("replicate document %s: operation %s is another one at %s: a copy was put back to an earlier state and written to under its "+
				"old name: export what it has of its own, and make it anew from another copy: %w", r.doc.Name(), dot, peer, errkind.Conflict)
		}
	}
	return nil
}

// checkName finds out whether others know more of this copy than itself, or have its name.
func (r *Replica) checkName(ctx context.Context, m *Message) error {
	node := r.doc.Node()
	if m.Node == node {
		return fmt.Errorf("replicate document %s: the peer is called %s as well: it is this one, has the same log, or a copy of it: leave it out of the "+
			"peers, or open it with a new name: %w", r.doc.Name(), node, errkind.Conflict)
	}
	more, err := r.knowsMore(ctx, crdt.Dot{Node: node, Seq: m.Version.Last(node)})
	if err != nil || !more {
		return err
	}
	return r.rename(ctx, m.Node, node)
}

// rename gives this copy a new name, since a peer knows of operations of the old one that it has not made.
func (r *Replica) rename(ctx context.Context, peer, old string) error {
	if r.doc.Node() != old {
		return nil // another message has said so, too
	}
	name, err := r.doc.Rename(ctx)
	if err != nil {
		return err
	}
	r.opts.Logger.Warn("a copy takes a new name, since others know operations of it that it has not", "document", r.doc.Name(), "was", old, "is", name, "peer", peer)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Renamed = append(r.status.Renamed, old)
	return nil
}

// submit makes operations count, and puts those aside that are too far ahead.
func (r *Replica) submit(ctx context.Context, ops []*config.Op) error {
	var now []*config.Op
	r.mu.Lock()
	before := len(r.aside)
	for _, op := range ops {
		if !r.doc.Ahead(op.Time) {
			now = append(now, op)
		} else if len(r.aside) < MaxAside {
			r.aside[op.ID] = op
		}
	}
	first := before == 0 && len(r.aside) > 0
	r.mu.Unlock()
	if first {
		r.opts.Logger.Warn("operations are ahead of this clock, and are put aside until it is their time", "document", r.doc.Name())
	}
	if len(now) == 0 {
		return nil
	}
	results, err := r.doc.Submit(ctx, engine.Batch{Foreign: now})
	if errors.Is(err, errkind.TooLarge) && len(now) > 1 {
		if err := r.submit(ctx, now[:len(now)/2]); err != nil {
			return err
		}
		return r.submit(ctx, now[len(now)/2:])
	}
	if err != nil {
		return fmt.Errorf("replicate document %s: %w", r.doc.Name(), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, result := range results {
		if result.Seq > 0 {
			r.status.Taken++
		}
		delete(r.aside, now[i].ID)
	}
	return nil
}

// Retry takes in what was put aside and is not too far ahead any more.
func (r *Replica) Retry(ctx context.Context) error {
	r.mu.Lock()
	var ops []*config.Op
	for _, op := range r.aside {
		if !r.doc.Ahead(op.Time) && len(ops) < engine.MaxBatch {
			ops = append(ops, op)
		}
	}
	r.mu.Unlock()
	return r.submit(ctx, ops)
}
