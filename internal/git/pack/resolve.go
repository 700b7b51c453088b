package pack

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/skep-dev/skep/internal/errkind"
)

const (
	// baseCacheBytes is what inflated bases may take while deltas on them wait; beyond it, those that are needed last are
	// dropped and made again (git's core.deltaBaseCacheLimit is 96 MiB; a receive as a whole has 256).
	baseCacheBytes = 32 << 20
	// scratchBytes is the same for bases in scratch files, as a multiple of the largest object allowed.
	scratchObjects = 4
	// heavyBytes is where base and result together are heavy, and maxHeavy how many workers may be at such at once:
	// otherwise every worker could hold several objects of maxHeld.
	heavyBytes = 4 << 20
	maxHeavy   = 2
	// inlineDeltas is how many deltas are resolved without starting workers: a small push is done before they run.
	inlineDeltas = 64
)

// resolver makes objects of deltas. It goes from bases to what is built on them, depth first, so that few bases are in
// memory at any time; workers share one stack of bases, each taking the next delta of the base on top. Nothing recurses:
// a chain may be as long as MaxDeltaDepth.
//
// Invariants: a base is on the stack while it has deltas that nobody has claimed. It keeps its content while it is on
// the stack or a claimed delta is at work, if the cache allows; content that was dropped is made again from the nearest
// ancestor that has some, which is why a base knows its parent.
type resolver struct {
	rc  *receiver
	t   *objects
	own int // how many objects the pack has without those appended

	mu      sync.Mutex
	wake    *sync.Cond // on mu: the stack grew, content came, a worker went idle, or all is over
	stack   []*base    // guarded by mu; the last is the top
	cold    int        // guarded by mu; stack[:cold] has no content that could be dropped
	root    int32      // guarded by mu; the next object to look at as a root
	active  int        // guarded by mu; claimed deltas
	heavy   int        // guarded by mu; heavy ones among them
	held    int64      // guarded by mu; bytes of content in memory
	scratch int64      // guarded by mu; bytes of content in files
	err     error      // guarded by mu; the first

	bufs     bufferPool
	reported atomic.Int64
	telling  atomic.Bool // a worker is calling Progress
}

// base is an object that deltas are built on.
type base struct {
	num    int32
	depth  int32
	parent *base // nil of a root
	at     int   // its place on the stack, while it is there: while child is not none
	child  int32 // the next delta to claim, or none; guarded by the resolver's mu

	busy    int  // claimed deltas that are not done; guarded by the resolver's mu
	users   int  // who reads content now; guarded by the resolver's mu
	loading bool // somebody is making the content; guarded by the resolver's mu
	content content
}

// wanted reports whether content is of any more use. The caller holds the resolver's mu.
func (b *base) wanted() bool { return b.child != none || b.busy > 0 || b.users > 0 }

// resolveWorker is what one worker owns.
type resolveWorker struct {
	judge *judge
	raw   []byte  // an entry as it lies in the pack
	delta []byte  // the same, inflated
	chain []*base // of bases to make anew
}

func newResolver(rc *receiver) *resolver {
	r := &resolver{rc: rc, t: rc.t, own: rc.t.len()}
	r.wake = sync.NewCond(&r.mu)
	return r
}

// resolve makes objects of all deltas of the pack.
func (rc *receiver) resolve(ctx context.Context) error {
	defer rc.t.releaseChildren()
	if err := rc.t.linkChildren(); err != nil {
		return err
	}
	r := newResolver(rc)
	defer r.dropAll()
	if err := r.run(ctx, rc.opts.Workers); err != nil {
		return err
	}
	if int(rc.resolved.Load()) < rc.deltas {
		if err := r.complete(ctx); err != nil {
			return err
		}
	}
	if int(r.reported.Load()) < rc.deltas {
		rc.progress("Resolving deltas", rc.deltas, rc.deltas)
	}
	return nil
}

// run works until no delta is left whose base is known.
func (r *resolver) run(ctx context.Context, workers int) error {
	if r.rc.deltas-int(r.rc.resolved.Load()) <= inlineDeltas {
		workers = 1
	}
	for len(r.rc.judges) < workers {
		r.rc.newJudge()
	}
	stop := context.AfterFunc(ctx, func() { r.fail(ctx.Err()) })
	defer stop()
	if workers == 1 {
		return r.worker(&resolveWorker{judge: r.rc.judges[0]})
	}
	var g errgroup.Group
	for i := range workers {
		g.Go(func() error { return r.worker(&resolveWorker{judge: r.rc.judges[i]}) })
	}
	return g.Wait()
}

func (r *resolver) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
	r.wake.Broadcast()
}

func (r *resolver) worker(w *resolveWorker) error {
	for {
		b, num, heavy, err := r.claim()
		if err != nil || b == nil {
			return err
		}
		if err := r.child(w, b, num); err != nil {
			r.fail(fmt.Errorf("delta at offset %d: %w", r.t.off[num], err))
		}
		r.done(b, heavy)
		if heavy {
			w.raw, w.delta = nil, nil
		}
		r.tell()
	}
}

// claim waits for a delta to work on. It returns no base when there is none left.
func (r *resolver) claim() (b *base, num int32, heavy bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case r.err != nil:
			return nil, 0, false, r.err
		case len(r.stack) > 0 || r.nextRoot():
			b = r.stack[len(r.stack)-1]
			num = b.child
			heavy = int64(r.t.size[b.num])+int64(r.t.size[num]) > heavyBytes
			if heavy && r.heavy >= maxHeavy {
				r.wake.Wait()
				continue
			}
			if heavy {
				r.heavy++
			}
			r.active++
			b.busy++
			if b.child = r.t.next[num]; b.child == none {
				r.stack[len(r.stack)-1] = nil
				r.stack = r.stack[:len(r.stack)-1]
				r.cold = min(r.cold, len(r.stack))
			}
			return b, num, heavy, nil
		case r.active == 0:
			r.wake.Broadcast()
			return nil, 0, false, nil
		}
		r.wake.Wait()
	}
}

// nextRoot puts the next whole object that has deltas onto the stack.
func (r *resolver) nextRoot() bool {
	for ; int(r.root) < r.t.len(); r.root++ {
		if r.t.base[r.root] != none || !r.t.kind[r.root].Valid() { // in this order: a base is set before the kind changes
			continue
		}
		if b := r.newBase(r.root, nil); b != nil {
			r.root++
			r.push(b)
			return true
		}
	}
	return false
}

// newBase makes a base of an object whose ID is known, or returns nil when no delta is built on it. The caller holds mu.
func (r *resolver) newBase(num int32, parent *base) *base {
	r.t.claimRefs(num)
	if r.t.first[num] == none {
		return nil
	}
	b := &base{num: num, parent: parent, child: r.t.first[num]}
	if parent != nil {
		b.depth = parent.depth + 1
	}
	return b
}

// child makes the object of a delta on b.
func (r *resolver) child(w *resolveWorker, b *base, num int32) error {
	if int(b.depth) >= r.rc.opts.MaxDeltaDepth {
		return fmt.Errorf("it ends a chain of more than %d deltas: %w", r.rc.opts.MaxDeltaDepth, errkind.TooLarge)
	}
	if err := r.rc.spend(int64(r.t.size[num]), r.rc.packBytes); err != nil {
		return err
	}
	if err := r.acquire(w, b); err != nil {
		return err
	}
	kind := r.t.kind[b.num]
	c, o, err := r.make(w, &b.content, num, kind, true)
	r.release(b)
	if err != nil {
		return err
	}
	r.t.oid[num], r.t.kind[num] = o, kind
	r.rc.resolved.Add(1)

	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.newBase(num, b)
	if n == nil {
		c.drop(&r.bufs)
		return nil
	}
	r.push(n)
	r.put(n, c)
	r.shrink()
	r.wake.Broadcast()
	return nil
}

// done ends the work on a claimed delta of b.
func (r *resolver) done(b *base, heavy bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.busy--
	r.active--
	if heavy {
		r.heavy--
	}
	if !b.wanted() {
		r.drop(b)
	}
	if heavy || r.active == 0 || r.err != nil {
		r.wake.Broadcast()
	}
}

// acquire sees to it that b has content, and keeps it there until release.
func (r *resolver) acquire(w *resolveWorker, b *base) error {
	w.chain = w.chain[:0]
	r.mu.Lock()
	a := b
	for ; a != nil && !a.content.there(); a = a.parent {
		w.chain = append(w.chain, a)
	}
	if a != nil {
		a.users++
	}
	r.mu.Unlock()
	for _, next := range slices.Backward(w.chain) {
		err := r.load(w, next, a)
		if a != nil {
			r.release(a)
		}
		if err != nil {
			return err
		}
		a = next
	}
	return nil
}

func (r *resolver) release(b *base) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b.users--
	r.warm(b)
	if !b.wanted() {
		r.drop(b)
	}
}

// load makes b's content anew, from that of its parent, which the caller has acquired, or from the pack.
func (r *resolver) load(w *resolveWorker, b, parent *base) error {
	r.mu.Lock()
	for b.loading && r.err == nil {
		r.wake.Wait()
	}
	if err := r.err; err != nil {
		r.mu.Unlock()
		return err
	}
	if b.content.there() {
		b.users++
		r.mu.Unlock()
		return nil
	}
	b.loading = true
	r.mu.Unlock()

	var c content
	err := r.rc.spend(int64(r.t.size[b.num]), r.rc.packBytes)
	switch {
	case err != nil:
	case parent == nil:
		c, err = r.whole(w, b.num)
	default:
		c, _, err = r.make(w, &parent.content, b.num, r.t.kind[b.num], false)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	b.loading = false
	r.wake.Broadcast()
	if err != nil {
		return err
	}
	b.users++
	r.put(b, c)
	r.shrink()
	return nil
}

// put gives b its content. The caller holds mu.
func (r *resolver) put(b *base, c content) {
	b.content = c
	if c.file != nil {
		r.scratch += c.size
	} else {
		r.held += int64(cap(c.mem))
	}
	r.warm(b)
}

// warm notes that b may have content that could be dropped. The caller holds mu.
func (r *resolver) warm(b *base) {
	if b.child != none {
		r.cold = min(r.cold, b.at)
	}
}

// push puts b onto the stack. The caller holds mu.
func (r *resolver) push(b *base) {
	b.at = len(r.stack)
	r.stack = append(r.stack, b)
}

// drop takes b's content away. The caller holds mu.
func (r *resolver) drop(b *base) {
	if b.content.file != nil {
		r.scratch -= b.content.size
	} else {
		r.held -= int64(cap(b.content.mem))
	}
	b.content.drop(&r.bufs)
}

// shrink drops what is needed last until the rest is within its limits. The caller holds mu.
func (r *resolver) shrink() {
	for over := r.over; over() && r.cold < len(r.stack)-1; r.cold++ {
		if b := r.stack[r.cold]; b.users == 0 && b.content.there() {
			r.drop(b)
		}
	}
}

func (r *resolver) over() bool {
	return r.held > baseCacheBytes || r.scratch > scratchObjects*r.rc.opts.MaxObjectBytes
}

// dropAll closes what an error left open.
func (r *resolver) dropAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.stack {
		r.drop(b)
	}
}

// tell calls Progress from time to time.
func (r *resolver) tell() {
	done := r.rc.resolved.Load()
	if r.rc.opts.Progress == nil || done < r.reported.Load()+int64(progressStep(r.rc.deltas)) && int(done) < r.rc.deltas {
		return
	}
	if r.telling.CompareAndSwap(false, true) {
		if done > r.reported.Load() {
			r.reported.Store(done)
			r.rc.progress("Resolving deltas", int(done), r.rc.deltas)
		}
		r.telling.Store(false)
	}
}
