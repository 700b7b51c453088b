package usage_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/usage"
)

// sums is a store as it must be: it adds, and takes each number once.
type sums struct {
	mu     sync.Mutex
	seen   map[string]int64
	totals map[usage.Record]int64
	fail   func() (before, after bool) // the transaction, or only its answer
	prunes int
}

func newSums() *sums {
	return &sums{seen: map[string]int64{}, totals: map[usage.Record]int64{}, fail: func() (bool, bool) { return false, false }}
}

var errDown = errors.New("the database does not answer")

func (s *sums) AddUsage(_ context.Context, b usage.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, after := s.fail()
	if before {
		return errDown
	}
	if b.Number > s.seen[b.Meter] {
		s.seen[b.Meter] = b.Number
		for _, r := range b.Records {
			n := r.Amount
			r.Amount = 0
			if r.Kind == usage.Storage {
				s.totals[r] = n
			} else {
				s.totals[r] += n
			}
		}
	}
	if after {
		return errDown
	}
	return nil
}

func (s *sums) PruneUsage(context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prunes++
	return false, nil
}

func key(n int) usage.Key {
	return usage.Key{Tenant: id.Tenant(fmt.Sprint("ten_", n%7)), Repo: id.Repo(fmt.Sprint("repo_", n))}
}

// TestAnyInterleavingSumsUp: whatever is counted in whatever order, by many at once, with flushes in between that fail before
// or after the store has committed, over the turn of hours: the store ends with the sums of a model.
func TestAnyInterleavingSumsUp(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			store := newSums()
			store.fail = func() (bool, bool) { return random.IntN(4) == 0, random.IntN(4) == 0 } // called under its lock
			m := usage.New(store, usage.Options{MaxKeys: 1000})
			var clock atomic.Int64
			clock.Store(1_700_000_000)
			m.SetClock(func() time.Time { return time.Unix(clock.Load(), 0) })

			const workers, each = 4, 500
			want := map[usage.Record]int64{}
			for range 3 { // hours: the clock stands still while workers count
				hour := time.Unix(clock.Load(), 0).UTC().Truncate(time.Hour)
				var model [workers]map[usage.Record]int64
				var wg sync.WaitGroup
				for w := range workers {
					model[w] = map[usage.Record]int64{}
					mine := rand.New(rand.NewPCG(seed, uint64(w)+2))
					wg.Go(func() {
						for range each {
							k, op := key(mine.IntN(50)), usage.Kind(mine.IntN(int(usage.BytesIn)))
							u := usage.Use{Op: op, In: mine.Int64N(100), Out: mine.Int64N(1000), Took: time.Duration(mine.IntN(1000)) * time.Microsecond}
							m.Count(k, u)
							for kind, n := range map[usage.Kind]int64{op: 1, usage.BytesIn: u.In, usage.BytesOut: u.Out, usage.Compute: u.Took.Microseconds()} {
								if kind != usage.None && n != 0 {
									model[w][usage.Record{Key: k, Hour: hour, Kind: kind}] += n
								}
							}
							if mine.IntN(50) == 0 {
								_ = m.Flush(t.Context()) // also when it fails, nothing is lost
							}
						}
					})
				}
				wg.Wait()
				for _, part := range model {
					for r, n := range part {
						want[r] += n
					}
				}
				k := key(random.IntN(50))
				m.SetStorage(k, 1)
				m.SetStorage(k, 77) // the last one counts
				want[usage.Record{Key: k, Hour: hour, Kind: usage.Storage}] = 77
				clock.Add(3600)
			}
			for m.Flush(t.Context()) != nil {
				continue // it fails now and then
			}
			if diff := cmp.Diff(want, store.totals); diff != "" {
				t.Errorf("sums (-model +store):\n%s", diff)
			}
			if m.Lost() != 0 {
				t.Errorf("%d operations are lost", m.Lost())
			}
		})
	}
}

func TestManyKeysFlushEarlyAndMemoryHasALimit(t *testing.T) {
	const most = 100
	store := newSums()
	flushed := make(chan struct{}, 1)
	m := usage.New(store, usage.Options{MaxKeys: most, FlushEvery: time.Hour, Flushed: func() {
		select {
		case flushed <- struct{}{}:
		default:
		}
	}})
	// Given nobody who flushes, what is over twice the limit is lost, and said to be.
	for i := range 3 * most {
		m.Count(key(i), usage.Use{Op: usage.Push})
	}
	if m.Lost() != most {
		t.Errorf("%d operations are lost, want %d", m.Lost(), most)
	}
	// What has its key already is counted all the same.
	m.Count(key(0), usage.Use{Op: usage.Push})

	// When somebody flushes, he does not wait for the hour.
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	<-flushed
	m.Count(key(most*5), usage.Use{Op: usage.Fetch})
	cancel()
	// The end flushes what came last.
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	stored := map[usage.Kind]int64{}
	for r, n := range store.totals {
		stored[r.Kind] += n
	}
	if stored[usage.Push] != 2*most+1 || stored[usage.Fetch] != 1 {
		t.Errorf("stored %v, want %d pushes and a fetch", stored, 2*most+1)
	}
	if store.prunes == 0 {
		t.Error("nobody was asked to remove what is old")
	}
}

func TestBatchesAreBounded(t *testing.T) {
	store := &largest{}
	m := usage.New(store, usage.Options{})
	for i := range 1000 {
		m.Count(key(i), usage.Use{Op: usage.Fetch, In: 1, Out: 1, Took: time.Millisecond})
	}
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if store.records != 4000 || store.most > usage.MaxBatch {
		t.Errorf("stored %d records, at most %d at a time; want 4000, at most %d", store.records, store.most, usage.MaxBatch)
	}
}

type largest struct{ records, most int }

func (l *largest) AddUsage(_ context.Context, b usage.Batch) error {
	l.records += len(b.Records)
	l.most = max(l.most, len(b.Records))
	return nil
}

func (l *largest) PruneUsage(context.Context) (bool, error) { return false, nil }

func TestKindsHaveNames(t *testing.T) {
	for _, k := range usage.Kinds() {
		if got, err := usage.ParseKind(k.String()); err != nil || got != k {
			t.Errorf("ParseKind(%q) = %v, %v", k, got, err)
		}
	}
	for _, s := range []string{"", "none", "Fetch", "x"} {
		if _, err := usage.ParseKind(s); err == nil {
			t.Errorf("ParseKind(%q) is no error", s)
		}
	}
}

// BenchmarkCount shows what a request pays, alone and against all others, on keys of many and of one.
func BenchmarkCount(b *testing.B) {
	for _, keys := range []int{1, 10_000} {
		b.Run(fmt.Sprint("keys=", keys), func(b *testing.B) {
			m := usage.New(newSums(), usage.Options{})
			list := make([]usage.Key, keys)
			for i := range list {
				list[i] = key(i)
				m.Count(list[i], usage.Use{})
			}
			u := usage.Use{Op: usage.Fetch, In: 1, Out: 2, Took: time.Millisecond}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				i := rand.IntN(keys)
				for pb.Next() {
					m.Count(list[i%keys], u)
					i++
				}
			})
		})
	}
}
