package cell

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/trace"
)

const (
	// maxPending bounds the queue of updates; each has a quarantine that takes memory and disk.
	maxPending = 256
	// maxBatch bounds what one transaction takes, and so how long its first caller waits.
	maxBatch = 64
)

// push is one Update in the queue.
type push struct {
	q       *odb.Quarantine
	updates []git.RefUpdate
	opts    protocol.UpdateOptions
	born    bool // HEAD may move to the first branch that is born

	restored *odb.Quarantine         // q, if it came out of what was set aside
	values   map[git.OID]value       // of what references shall name, looked up before the turn
	refused  map[git.RefUpdate]error // by a rule that needs no turn

	errs []error // the result, once done is closed
	err  error
	done chan struct{}
}

// value is what is known of an object that a reference shall name.
type value struct {
	kind   git.Kind
	peeled git.OID
	err    error
}

// Update moves references and takes the quarantined pack in: see protocol.Receiver. The caller closes q.
func (c *Cell) Update(ctx context.Context, q *odb.Quarantine, updates []git.RefUpdate, opts protocol.UpdateOptions) ([]error, error) {
	defer c.Hold()()
	return c.update(ctx, &push{q: q, updates: updates, opts: opts, born: true})
}

func (c *Cell) update(ctx context.Context, p *push) (errs []error, err error) {
	ctx, span := trace.Start(ctx, trace.CellCommit)
	defer func() { span.End(err) }()
	defer func() {
		if p.restored == nil {
			return
		}
		if dropErr := p.restored.Close(); dropErr != nil { // the update is done or not done all the same
			c.opts.Log.Warn("temporary files of a push not removed", "folder", c.folder, "error", dropErr)
		}
	}()
	if err := c.prepare(ctx, p); err != nil {
		return nil, err
	}
	if p.opts.Made != nil {
		defer func() { p.opts.Made(context.WithoutCancel(ctx)) }()
	}
	if p.opts.Log != nil {
		begun := p.accepted()
		undone, err := p.opts.Log(ctx, begun, p.opts)
		if err != nil {
			return nil, err
		}
		defer func() { p.logUndone(begun, errs, err, undone) }()
	}
	p.done = make(chan struct{})
	if err := c.enqueue(p); err != nil {
		return nil, err
	}
	select {
	case <-p.done: // another caller took it along
	case <-ctx.Done():
		if c.withdraw(p) {
			return nil, ctx.Err()
		}
		<-p.done // too late: it is being written
	case c.turn <- struct{}{}:
		for !closed(p.done) {
			c.commitPending(context.WithoutCancel(ctx)) // others depend on it
		}
		<-c.turn
	}
	return p.errs, p.err
}

func closed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// prepare does what needs no turn: it looks at the objects that references shall name.
func (c *Cell) prepare(ctx context.Context, p *push) (err error) {
	st := c.state.Load()
	objects := st.objects
	if p.q != nil {
		objects = p.q.Store
	}
	missing := p.lookUp(objects)
	if missing && p.q == nil && len(st.aside) > 0 {
		if p.restored, err = c.restore(ctx, p.updates); err != nil {
			return err
		}
		if p.q = p.restored; p.q != nil {
			objects = p.q.Store
			p.lookUp(objects)
		}
	}
	p.refused = map[git.RefUpdate]error{}
	if st.settings.DenyNonFastForward || p.opts.May != nil {
		if err := p.checkMoves(ctx, st, objects); err != nil {
			return err
		}
	}
	if p.opts.Judge != nil {
		for _, u := range p.accepted() {
			if v := p.values[u.New]; v.err == nil { // else the draft says what is wrong
				if err := p.opts.Judge(ctx, u, objects); err != nil {
					p.refused[u] = err
				}
			}
		}
	}
	return nil
}

// accepted are the updates that no rule has refused.
func (p *push) accepted() []git.RefUpdate {
	if len(p.refused) == 0 {
		return p.updates
	}
	return slices.DeleteFunc(slices.Clone(p.updates), func(u git.RefUpdate) bool { return p.refused[u] != nil })
}

// logUndone says which of the updates that were begun were not done: one that was refused later, or that came too late.
func (p *push) logUndone(begun []git.RefUpdate, errs []error, err error, undone func([]git.RefUpdate, error)) {
	if err != nil {
		undone(begun, err)
		return
	}
	for i, u := range p.updates {
		if errs[i] != nil && p.refused[u] == nil {
			undone([]git.RefUpdate{u}, errs[i])
		}
	}
}

// hasPack reports whether the push has objects.
func (p *push) hasPack() bool { return p.q != nil && p.q.Pack.Len() > 0 }

// lookUp finds out what the references shall name. It reports whether some of it is missing.
func (p *push) lookUp(objects *odb.Store) (missing bool) {
	p.values = make(map[git.OID]value, len(p.updates))
	for _, u := range p.updates {
		if _, known := p.values[u.New]; !known && !u.New.IsZero() {
			v := lookUp(objects, u.New)
			p.values[u.New] = v
			missing = missing || errors.Is(v.err, errkind.NotFound)
		}
	}
	return missing
}

func lookUp(objects *odb.Store, o git.OID) (v value) {
	v.kind, _, v.err = objects.Stat(o)
	if v.err == nil && v.kind == git.Tag {
		v.peeled, _, v.err = objects.Peel(o)
	}
	return v
}

// checkMoves finds the updates that the writer, or the repository's settings, do not allow.
func (p *push) checkMoves(ctx context.Context, st *state, objects *odb.Store) error {
	for _, u := range p.updates {
		if u.Old == u.New || !st.settings.DenyNonFastForward && !u.New.IsZero() && p.mayAll(u.Name) {
			continue // mostly: what the move is need not be found out
		}
		how, err := moveOf(ctx, st, objects, u)
		if err != nil {
			return err
		}
		switch {
		case how == protocol.Force && st.settings.DenyNonFastForward && u.Name.IsBranch():
			p.refused[u] = fmt.Errorf("non-fast-forward: %w", errkind.Forbidden)
		case p.opts.May != nil:
			if err := p.opts.May(u.Name, how); err != nil {
				p.refused[u] = err
			}
		}
	}
	return nil
}

// mayAll reports whether the writer may move a reference forward and by force.
func (p *push) mayAll(name git.RefName) bool {
	return p.opts.May(name, protocol.Forward) == nil && p.opts.May(name, protocol.Force) == nil
}

// moveOf says what an update does. A tag is meant to stay where it is, so that to git any move of one is forced; and only
// commits have ancestors.
func moveOf(ctx context.Context, st *state, objects *odb.Store, u git.RefUpdate) (protocol.Move, error) {
	switch {
	case u.New.IsZero():
		return protocol.Delete, nil
	case u.Old.IsZero():
		return protocol.Forward, nil
	case u.Name.IsTag():
		return protocol.Force, nil
	}
	graph, err := st.graph.next(objects).get()
	if err != nil {
		return 0, err
	}
	if !graph.Has(u.New) || !graph.Has(u.Old) {
		return protocol.Force, nil
	}
	forward, err := graph.IsAncestor(ctx, u.Old, u.New)
	if err != nil || !forward {
		return protocol.Force, err
	}
	return protocol.Forward, nil
}

func (c *Cell) enqueue(p *push) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) >= maxPending {
		return fmt.Errorf("%d updates of the repository wait already: %w", maxPending, errkind.Unavailable)
	}
	c.pending = append(c.pending, p)
	return nil
}

// withdraw takes a push out of the queue. It reports whether it was still there.
func (c *Cell) withdraw(p *push) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.pending, p)
	if i < 0 {
		return false
	}
	c.pending = slices.Delete(c.pending, i, i+1)
	return true
}

func (c *Cell) takePending() []*push {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.pending), maxBatch)
	batch := slices.Clone(c.pending[:n])
	c.pending = slices.Delete(c.pending, 0, n)
	return batch
}

// commitPending brings what is queued into one transaction: steps 2 to 5 of a push in the package comment. The caller has
// the turn.
func (c *Cell) commitPending(ctx context.Context) {
	batch := c.takePending()
	if len(batch) == 0 {
		return
	}
	err := c.write(ctx, func(d *draft) error {
		for _, p := range batch {
			p.errs, p.err = d.take(ctx, p)
		}
		return nil
	})
	for _, p := range batch {
		if err != nil && p.err == nil {
			p.errs, p.err = nil, err
		}
		close(p.done)
	}
}

// write runs fn on a draft of the next state, commits what it changed, and publishes it. The caller has the turn.
func (c *Cell) write(ctx context.Context, fn func(*draft) error) (err error) {
	if c.gone.Load() {
		return fmt.Errorf("repository is deleted or being closed: %w", errkind.Unavailable)
	}
	if c.suspect {
		if err := c.reload(ctx); err != nil {
			return fmt.Errorf("recover from a failed commit: %w: %w", err, errkind.Unavailable)
		}
	}
	d := c.newDraft()
	defer func() {
		if err != nil {
			closePacks(d.opened)
		}
	}()
	if err := fn(d); err != nil {
		return err
	}
	if len(d.changes) == 0 {
		return nil
	}
	if err := c.opts.fault("commit"); err != nil {
		return err
	}
	s, err := c.database()
	if err != nil {
		return err
	}
	if err := s.commit(ctx, d.version, d.changes); err != nil {
		// The disk may have it or not: ask the disk, before the next write. Files that no row names are swept then.
		c.suspect = true
		return fmt.Errorf("commit: %w", err)
	}
	d.version++
	if err := c.opts.fault("committed"); err != nil {
		c.suspect = true
		return err
	}
	next := d.state // a copy: the draft has the bytes of packs
	next.memo = &protocol.Memo{}
	c.state.Store(&next)
	c.users.retire(d.retired)
	return nil
}

func (c *Cell) database() (store, error) {
	s := c.db.Load()
	if s == nil {
		return nil, fmt.Errorf("repository is closed: %w", errkind.Unavailable)
	}
	return *s, nil
}

// lock takes the turn for something that is no push.
func (c *Cell) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case c.turn <- struct{}{}:
		return func() { <-c.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// SetSettings changes the repository's switches.
func (c *Cell) SetSettings(ctx context.Context, s Settings) error {
	config, err := protocol.ParseConfig(s.Git)
	if err != nil {
		return err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return c.write(context.WithoutCancel(ctx), func(d *draft) error {
		d.settings, d.config = s, config
		d.changes = append(d.changes, change{settings: &s})
		return nil
	})
}

// SetHead makes HEAD name another branch, which must exist unless the repository has none at all.
func (c *Cell) SetHead(ctx context.Context, branch git.RefName) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return c.write(context.WithoutCancel(ctx), func(d *draft) error {
		if !branch.IsBranch() {
			return fmt.Errorf("HEAD cannot name %s, which is no branch: %w", branch, errkind.Invalid)
		}
		if _, ok := d.refs.Get(branch); !ok && d.hasBranches() {
			return fmt.Errorf("branch %s: %w", branch.Short(), errkind.NotFound)
		}
		d.setHead(branch)
		return nil
	})
}

// now is cut to what the store keeps.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
