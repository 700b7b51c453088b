package control

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skep-dev/skep/internal/audit"
)

// Several nodes may share a database, and each remembers what requests look up. What one of them revokes, the others must
// refuse within a second. So:
//
//  1. A change to what nodes remember counts the epoch of its kind up, in its own transaction.
//  2. Each node reads the epochs every pollInterval, and forgets the kinds that have changed.
//  3. What is remembered counts for maxStale after the beginning of the last reading that succeeded, and then not at all:
//     requests go to the database, and are refused if it cannot be reached.
//
// A reading that began after a change was committed sees it; so nothing that was changed longer than maxStale ago is
// used, however slow, late or broken the readings are.
const (
	pollInterval = 250 * time.Millisecond
	// pollTimeout leaves room for another reading within maxStale when one is lost.
	pollTimeout = 400 * time.Millisecond
	// maxStale is the promised second less what a look-up may take between the cache and the decision.
	maxStale = 800 * time.Millisecond
)

// kind is a kind of thing that nodes remember.
type kind string

const (
	lineageKind   kind = "lineage"
	principalKind kind = "principal"
	repoKind      kind = "repo"
)

// change runs fn in a transaction that changes something, and that says in the audit log what. If nodes remember what is changed, its
// kinds are named. Once it is done, forget, if not nil, drops that here, also after an error: nobody knows for certain
// whether a commit that failed is on disk.
func (c *Control) change(ctx context.Context, fn func(*txn) error, forget func(), kinds ...kind) error {
	if forget != nil {
		defer forget()
	}
	return c.db.Write(ctx, func(tx conn) error {
		q := &txn{conn: tx, at: c.timestamp(), origin: audit.From(ctx)}
		if err := fn(q); err != nil {
			return err
		}
		if err := q.finish(); err != nil {
			return err
		}
		for _, k := range slices.Concat(kinds, q.kinds) {
			if err := q.Exec("UPDATE epoch SET changes = changes + 1 WHERE kind = ?", k); err != nil {
				return err
			}
		}
		return nil
	})
}

// gate says whether what is remembered may be used.
type gate struct {
	checked atomic.Pointer[time.Time] // when the last successful reading of the epochs began; nil before the first
}

// isOpen is true at any time for no gate: then no other process uses the database.
func (g *gate) isOpen() bool {
	if g == nil {
		return true
	}
	at := g.checked.Load()
	if at == nil {
		return false
	}
	now := time.Now()
	// The monotonic clock stands still while a machine sleeps; the other one may be set. Both must agree.
	wall := now.Round(0).Sub(at.Round(0))
	return now.Sub(*at) <= maxStale && 0 <= wall && wall <= maxStale
}

// headInterval is how often Run logs where the audit log ends, so that it is written down somewhere else.
const headInterval = time.Hour

// Run watches what other nodes change, and logs the head of the audit log, until ctx ends. Without it, and where the database is a
// file of this process alone, everything works: the first does without caches, the second has nothing to watch.
func (c *Control) Run(ctx context.Context) error {
	background := c.begin(ctx)
	defer background()
	hourly := time.NewTicker(headInterval)
	defer hourly.Stop()
	var watch <-chan time.Time
	w := watcher{c: c, known: map[kind]int64{}}
	if c.pulse != nil {
		tick := time.NewTicker(pollInterval)
		defer tick.Stop()
		watch = tick.C
		w.look(ctx)
	}
	c.logHead(ctx)
	for {
		select {
		case <-watch:
			w.look(ctx)
		case <-hourly.C:
			c.logHead(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// begin starts what must not keep Run from watching. end waits for it, once ctx has ended.
func (c *Control) begin(ctx context.Context) (end func()) {
	var wg sync.WaitGroup
	wg.Go(func() { c.runFetches(ctx) })
	wg.Go(func() { c.runUses(ctx) })
	return wg.Wait
}

// watcher looks at the epochs.
type watcher struct {
	c       *Control
	known   map[kind]int64
	failing bool
}

func (w *watcher) look(ctx context.Context) {
	err := w.c.poll(ctx, w.known)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && !w.failing:
		w.c.log.Warn("control database does not answer; nothing remembered is used until it does", "error", err)
	case err == nil && w.failing:
		w.c.log.Info("control database answers again")
	}
	w.failing = err != nil
}

// poll forgets what has changed since what is known, and brings that up to date.
func (c *Control) poll(ctx context.Context, known map[kind]int64) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	start := time.Now()
	now := map[kind]int64{}
	err := c.pulse.Read(ctx, func(q conn) error {
		for r, err := range q.Query("SELECT kind, changes FROM epoch") {
			if err != nil {
				return err
			}
			now[kind(r.Text(0))] = r.Int64(1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k, n := range now {
		// Also if it went back, as after a restore.
		if before, ok := known[k]; !ok || n != before {
			c.cache.forget(k)
			known[k] = n
		}
	}
	c.gate.checked.Store(&start) // last: what has changed is forgotten by now
	return nil
}
