package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
)

// latencies counts durations in buckets of 10 µs, up to 10 s.
type latencies struct{ buckets [1_000_000]atomic.Uint32 }

func (l *latencies) add(d time.Duration) {
	l.buckets[min(int(d/(10*time.Microsecond)), len(l.buckets)-1)].Add(1)
}

// report gives the median and the 99th percentile in milliseconds.
func (l *latencies) report(b *testing.B) {
	b.Helper()
	total := 0
	for i := range l.buckets {
		total += int(l.buckets[i].Load())
	}
	for _, p := range []float64{0.50, 0.99} {
		seen := 0
		for i := range l.buckets {
			if seen += int(l.buckets[i].Load()); float64(seen) >= p*float64(total) {
				b.ReportMetric(float64(i+1)/100, fmt.Sprintf("ms-p%.0f", p*100))
				break
			}
		}
	}
}

// Reading a field as an environment has it, while eight writers write without a pause. A run of 100,000 reads: -benchtime 100000x.
func BenchmarkReadWhileWriting(b *testing.B) {
	d := openSQLite(b, filepath.Join(b.TempDir(), "db"))
	ctx, cancel := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for ctx.Err() == nil {
				_, err := d.Submit(ctx, engine.Batch{Requests: []config.Request{set(fmt.Sprintf("service.s%d", rand.IntN(1000)), "weight", rand.Int64())}})
				if err != nil && !errors.Is(err, context.Canceled) {
					b.Error(err)
					return
				}
			}
		})
	}
	times := make([]time.Duration, 0, 1<<20)
	for b.Loop() {
		start := time.Now()
		_ = d.View(func(s *config.State) error {
			_, _ = s.Get(fmt.Sprintf("service.s%d", rand.IntN(1000)), "weight", "staging")
			return nil
		})
		times = append(times, time.Since(start))
	}
	cancel()
	writers.Wait()
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "µs-p99")
}

// From the call of Submit to the events of a thousand who watch. An iteration is one operation: -benchtime 500x is ten seconds at 50 in a second.
func BenchmarkWatch(b *testing.B) {
	const watchers = 1000
	for _, rate := range []int{50, 500} {
		b.Run(fmt.Sprintf("watchers=%d/rate=%d", watchers, rate), func(b *testing.B) {
			d := openSQLite(b, filepath.Join(b.TempDir(), "db"))
			first := d.Head().Seq
			sent := make([]time.Time, b.N)
			var took latencies
			var watching sync.WaitGroup
			for range watchers {
				watching.Go(func() {
					err := d.Watch(context.Background(), first, func(e engine.Event) error {
						i, _ := e.Op.Writes[len(e.Op.Writes)-1].Value.(int64)
						took.add(time.Since(sent[i]))
						if e.Seq == first+uint64(b.N) {
							return errDone
						}
						return nil
					})
					if !errors.Is(err, errDone) {
						b.Error(err)
					}
				})
			}
			b.ResetTimer()
			tick := time.NewTicker(time.Second / time.Duration(rate))
			defer tick.Stop()
			var writing sync.WaitGroup
			for i := range b.N {
				<-tick.C
				sent[i] = time.Now()
				writing.Go(func() {
					// The entities differ, so that each operation changes something.
					_, err := d.Submit(context.Background(), engine.Batch{Requests: []config.Request{set(fmt.Sprintf("service.s%d", i%1000), "weight", int64(i))}})
					if err != nil {
						b.Error(err)
					}
				})
			}
			writing.Wait()
			watching.Wait()
			took.report(b)
		})
	}
}
