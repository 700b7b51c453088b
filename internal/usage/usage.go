// Package usage counts what tenants use, in memory, and hands it on as sums for each hour.
//
//	m := usage.New(control, usage.Options{})
//	go m.Run(ctx)
//	m.Count(usage.Key{Tenant: t, Repo: r}, usage.Use{Op: usage.Fetch, Out: 4096, Took: time.Millisecond})
//
// What callers may rely on:
//   - Count and SetStorage wait for no database. They share a lock with one repository in shards, for some tens of nanoseconds.
//   - What was counted is added to the store once, also when a commit failed without anybody knowing whether it is on disk:
//     batches are numbered, and the store takes each number once.
//   - A crash loses what was counted since the last flush: FlushEvery, some seconds. An ordered end loses nothing.
//   - Memory is bounded: past MaxKeys the store is asked to take what there is, and past twice as many keys, as when it does not
//     answer for long, what comes under further keys is lost, and counted as lost.
package usage

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skep-dev/skep/internal/id"
)

// Key is who uses: a repository, or a tenant as such if Repo is empty.
type Key struct {
	Tenant id.Tenant
	Repo   id.Repo
}

// Use is one operation.
type Use struct {
	Op      Kind // one of those that IsOperation; None: its bytes and time count, and nothing else
	In, Out int64
	Took    time.Duration
}

// Record is how much of a kind was used in an hour. Of Storage, Amount is what was there at the end; of the others it is to be
// added.
type Record struct {
	Key
	Hour   time.Time // its beginning, UTC
	Kind   Kind
	Amount int64
}

// Batch is records that go into a store together, once.
type Batch struct {
	Meter   string // which meter made it
	Number  int64  // counts up from 1 for each meter
	Records []Record
}

// store takes what was counted.
type store interface {
	// AddUsage adds a batch in one transaction, unless it has had that number of that meter already.
	AddUsage(ctx context.Context, b Batch) error
	// PruneUsage removes some of what is too old, and reports whether there may be more of it.
	PruneUsage(ctx context.Context) (more bool, err error)
}

// Options are a Meter's settings. The zero Options works.
type Options struct {
	FlushEvery time.Duration // 0: 5 s
	MaxKeys    int           // repositories and hours between two flushes before one is made early; 0: 50,000, which take some 15 MiB
	Flushed    func()        // called after each flush that left nothing behind; nil: nobody is told
	Log        *slog.Logger
}

const (
	defaultFlushEvery = 5 * time.Second
	defaultMaxKeys    = 50_000
	// maxBatch is how many records a transaction takes: some ten milliseconds of the one writer that SQLite has.
	maxBatch = 500
	// lastFlush is how long the flush at the end may take.
	lastFlush = 10 * time.Second
	// pruneEvery is how often the store is asked for what is too old.
	pruneEvery = time.Hour
	// shards is how many locks there are.
	shards = 64
)

// Meter counts. It is safe for concurrent use.
type Meter struct {
	store store
	opts  Options
	name  string
	seed  maphash.Seed
	now   func() time.Time

	shards [shards]shard
	keys   atomic.Int64  // in all shards
	full   chan struct{} // has a value when a flush is wanted early

	flushing sync.Mutex // held by Flush, also across its I/O: it is no lock on what Count needs
	pending  []Batch    // collected and not yet stored; guarded by flushing
	number   int64      // of the last batch; guarded by flushing

	lost, failures atomic.Int64
}

// shard is the counts of the keys whose hash falls into it.
type shard struct {
	mu     sync.Mutex
	counts map[entry]*counts // guarded by mu
	_      [48]byte          // a cache line of its own
}

type entry struct {
	Key
	hour int64 // since 1970
}

type counts struct {
	amounts [Storage]int64 // by Kind
	storage int64          // -1: not measured
}

// New makes a meter that fills a store.
func New(s store, opts Options) *Meter {
	if opts.FlushEvery == 0 {
		opts.FlushEvery = defaultFlushEvery
	}
	if opts.MaxKeys == 0 {
		opts.MaxKeys = defaultMaxKeys
	}
	if opts.Flushed == nil {
		opts.Flushed = func() {}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	m := &Meter{store: s, opts: opts, name: newName(), seed: maphash.MakeSeed(), now: time.Now, full: make(chan struct{}, 1)}
	for i := range m.shards {
		m.shards[i].counts = map[entry]*counts{}
	}
	return m
}

// newName tells a meter's batches from those of all others.
func newName() string {
	var b [16]byte
	for i := range b {
		b[i] = byte(rand.Uint32()) //nolint:gosec // it must be unlike others, and is no secret
	}
	return hex.EncodeToString(b[:])
}

// Count adds one operation.
func (m *Meter) Count(k Key, u Use) {
	m.with(k, func(c *counts) {
		if u.Op != None {
			c.amounts[u.Op]++
		}
		c.amounts[BytesIn] += u.In
		c.amounts[BytesOut] += u.Out
		c.amounts[Compute] += u.Took.Microseconds()
	})
}

// SetStorage says how many bytes a repository takes now.
func (m *Meter) SetStorage(k Key, bytes int64) {
	m.with(k, func(c *counts) { c.storage = bytes })
}

func (m *Meter) with(k Key, add func(*counts)) {
	e := entry{k, m.now().Unix() / int64(time.Hour/time.Second)}
	s := &m.shards[maphash.Comparable(m.seed, k)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts[e]
	if c == nil {
		switch n := m.keys.Add(1); {
		case n > 2*int64(m.opts.MaxKeys):
			m.keys.Add(-1)
			m.lost.Add(1)
			return
		case n >= int64(m.opts.MaxKeys):
			select {
			case m.full <- struct{}{}:
			default: // it is wanted already
			}
		}
		c = &counts{storage: -1}
		s.counts[e] = c
	}
	add(c)
}

// Lost is how many operations were counted for nobody, because there were too many keys.
func (m *Meter) Lost() int64 { return m.lost.Load() }

// Failures is how many flushes the store did not take.
func (m *Meter) Failures() int64 { return m.failures.Load() }

// Run flushes until ctx ends, and then once more.
func (m *Meter) Run(ctx context.Context) error {
	tick := time.NewTicker(m.opts.FlushEvery)
	defer tick.Stop()
	var pruned time.Time
	for {
		select {
		case <-ctx.Done():
			return m.end(ctx)
		case <-m.full:
		case <-tick.C:
		}
		if err := m.Flush(ctx); err != nil && ctx.Err() == nil {
			m.opts.Log.Warn("usage not stored; it is tried again", "error", err)
		}
		if time.Since(pruned) > pruneEvery {
			more, err := m.store.PruneUsage(ctx)
			if err != nil && ctx.Err() == nil {
				m.opts.Log.Warn("old usage not removed", "error", err)
			}
			if !more {
				pruned = time.Now()
			}
		}
	}
}

func (m *Meter) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
	defer cancel()
	if err := m.Flush(ctx); err != nil {
		return fmt.Errorf("store usage at the end: %w", err)
	}
	return nil
}

// Flush stores what was counted before it was called. What the store does not take is tried again by the next Flush, before
// anything newer.
func (m *Meter) Flush(ctx context.Context) error {
	m.flushing.Lock()
	defer m.flushing.Unlock()
	// What is pending already may be on disk: it goes as it is, under its number. Nothing newer is collected before it has
	// gone, so that there is never more in memory than what the shards hold, twice.
	if err := m.drain(ctx); err != nil {
		return err
	}
	m.collect()
	if err := m.drain(ctx); err != nil {
		return err
	}
	m.opts.Flushed()
	return nil
}

func (m *Meter) drain(ctx context.Context) error {
	for len(m.pending) > 0 {
		if err := m.store.AddUsage(ctx, m.pending[0]); err != nil {
			m.failures.Add(1)
			return err
		}
		m.pending = m.pending[1:]
	}
	return nil
}

// collect empties the shards into batches.
func (m *Meter) collect() {
	var list []Record
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		taken := s.counts // from here on nobody else has it
		s.counts = make(map[entry]*counts, len(taken))
		m.keys.Add(-int64(len(taken)))
		s.mu.Unlock()
		for e, c := range taken {
			list = append(list, c.records(e)...)
		}
	}
	for len(list) > 0 {
		n := min(len(list), maxBatch)
		m.number++
		m.pending = append(m.pending, Batch{Meter: m.name, Number: m.number, Records: list[:n:n]})
		list = list[n:]
	}
}

func (c *counts) records(e entry) (out []Record) {
	hour := time.Unix(e.hour*int64(time.Hour/time.Second), 0).UTC()
	for k, n := range c.amounts {
		if n != 0 {
			out = append(out, Record{e.Key, hour, Kind(k), n})
		}
	}
	if c.storage >= 0 {
		out = append(out, Record{e.Key, hour, Storage, c.storage})
	}
	return out
}
