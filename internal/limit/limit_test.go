package limit_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/limit"
)

// limiter is what a Window and a Bucket have in common.
type limiter interface {
	Take(k limit.Key) limit.Verdict
	Peek(k limit.Key) limit.Verdict
	SetClock(now func() time.Duration)
}

// model is the plain truth about one key: when events were let through.
type model struct {
	admitted []time.Duration
}

// counted is how many of them are younger than age.
func (m *model) counted(now, age time.Duration) int {
	n := 0
	for i := len(m.admitted) - 1; i >= 0 && m.admitted[i] > now-age; i-- {
		n++
	}
	return n
}

// quotas of every shape: one event, slices that do not divide, more events than fit between clock ticks.
var quotas = []limit.Quota{
	{1, time.Second}, {3, 7 * time.Nanosecond * 1e6}, {10, time.Second}, {30, 3 * time.Minute}, {1000, time.Second}, {7, 999_999_937},
}

// random makes a reproducible source, and says how to get it back.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// step is a random time to the next event: none, a little, about what the quota allows, or long enough to forget.
func step(rnd *rand.Rand, q limit.Quota) time.Duration {
	switch rnd.IntN(5) {
	case 0:
		return 0
	case 1:
		return time.Duration(rnd.Int64N(int64(q.Per)/int64(q.Events)/4 + 2))
	case 2:
		return time.Duration(rnd.Int64N(2*int64(q.Per)/int64(q.Events) + 2))
	case 3:
		return time.Duration(rnd.Int64N(int64(q.Per)/4 + 2))
	}
	if rnd.IntN(20) > 0 {
		return 1
	}
	return time.Duration(rnd.Int64N(3 * int64(q.Per)))
}

// TestWindow: never more than N in any span of the length; refused only when N came in a span that is a slice longer;
// remaining, retry and reset say what will be.
func TestWindow(t *testing.T) {
	rnd := random(t)
	for _, q := range quotas {
		t.Run(q.String(), func(t *testing.T) {
			now := time.Duration(rnd.Int64N(int64(time.Hour)))
			w := limit.NewWindow(q, limit.Options{})
			w.SetClock(func() time.Duration { return now })
			key := limit.KeyOf("a")
			var m model
			for range 5000 {
				now += step(rnd, q)
				peeked, v := w.Peek(key), w.Take(key)
				if peeked != v {
					t.Fatalf("Peek says %+v, Take %+v", peeked, v)
				}
				if v.Allowed {
					m.admitted = append(m.admitted, now)
					if n := m.counted(now, q.Per); n > q.Events {
						t.Fatalf("%d events in %v, want at most %d", n, q.Per, q.Events)
					}
				} else if n := m.counted(now, q.Per+2*w.Slack()); n < q.Events {
					t.Fatalf("refused after %d events in %v, want at least %d", n, q.Per+2*w.Slack(), q.Events)
				}
				if least, most := q.Events-m.counted(now, q.Per+2*w.Slack()), q.Events-m.counted(now, q.Per); v.Remaining < least || v.Remaining > most {
					t.Fatalf("remaining %d, want %d to %d", v.Remaining, least, most)
				}
				checkTimes(t, w, q, key, v, &now)
			}
		})
	}
}

// TestBucket: exactly a bucket that leaks evenly: never more than N + t×rate in any span of t.
func TestBucket(t *testing.T) {
	rnd := random(t)
	for _, q := range quotas {
		t.Run(q.String(), func(t *testing.T) {
			start := time.Duration(rnd.Int64N(int64(time.Hour)))
			now := start
			b := limit.NewBucket(q, limit.Options{})
			b.SetClock(func() time.Duration { return now })
			key := limit.KeyOf("a")
			var m model
			var level time.Duration // of the oracle: what it takes to leak what is in the bucket
			full := b.Each() * time.Duration(q.Events)
			for range 1500 {
				d := step(rnd, q)
				now += d
				level = max(level-d, 0)
				want := level+b.Each() <= full
				peeked, v := b.Peek(key), b.Take(key)
				if peeked != v || v.Allowed != want {
					t.Fatalf("Peek says %+v, Take %+v, want allowed %v", peeked, v, want)
				}
				if v.Allowed {
					level += b.Each()
					m.admitted = append(m.admitted, now)
				}
				if left := int((full - level) / b.Each()); v.Remaining != left || v.Reset != level {
					t.Fatalf("remaining %d, reset %v, want %d, %v", v.Remaining, v.Reset, left, level)
				}
				checkTimes(t, b, q, key, v, &now)
			}
			m.checkRate(t, q)
		})
	}
}

// checkRate checks every span between two events that were let through.
func (m *model) checkRate(t *testing.T, q limit.Quota) {
	t.Helper()
	for i := range m.admitted {
		for j := i; j < len(m.admitted); j++ {
			n, span := j-i+1, m.admitted[j]-m.admitted[i]
			if float64(n-q.Events)*float64(q.Per) > float64(span)*float64(q.Events)*(1+1e-9) {
				t.Fatalf("%d events in %v, want at most %d and %v of them", n, span, q.Events, float64(span)/float64(q.Per))
			}
		}
	}
}

// checkTimes moves the clock to the moments that a verdict names, and back: it is refused until then, and allowed then.
func checkTimes(t *testing.T, l limiter, q limit.Quota, key limit.Key, v limit.Verdict, now *time.Duration) {
	t.Helper()
	at := *now
	defer func() { *now = at }()
	if v.Allowed != (v.Retry == 0) {
		t.Fatalf("verdict %+v contradicts itself", v)
	}
	// Peek may not move a key's state on: what it sees in the future must not count now.
	if !v.Allowed {
		*now = at + v.Retry - 1
		if l.Peek(key).Allowed {
			t.Fatalf("allowed before its retry time %v", v.Retry)
		}
		*now = at + v.Retry
		if !l.Peek(key).Allowed {
			t.Fatalf("refused after its retry time %v", v.Retry)
		}
	}
	*now = at + v.Reset
	if p := l.Peek(key); p.Remaining != q.Events-1 {
		t.Fatalf("%d remain after its reset time %v, want %d", p.Remaining, v.Reset, q.Events-1)
	}
}

// TestFlood: in a table that is much too small, no key ever gets more than its quota, however the others come and go.
func TestFlood(t *testing.T) {
	q := limit.Quota{Events: 5, Per: time.Second}
	for name, l := range map[string]limiter{"window": limit.NewWindow(q, limit.Options{Keys: 16}), "bucket": limit.NewBucket(q, limit.Options{Keys: 16})} {
		t.Run(name, func(t *testing.T) {
			rnd := random(t)
			var now time.Duration
			l.SetClock(func() time.Duration { return now })
			logs := map[int]*model{}
			for range 60_000 {
				now += time.Duration(rnd.Int64N(int64(20 * time.Millisecond)))
				who := rnd.IntN(64)
				if rnd.IntN(3) == 0 {
					who = rnd.IntN(3) // some are busier than others
				}
				if l.Take(limit.KeyOf(who)).Allowed {
					if logs[who] == nil {
						logs[who] = &model{}
					}
					logs[who].admitted = append(logs[who].admitted, now)
				}
			}
			for who, m := range logs {
				if name == "bucket" {
					m.checkRate(t, q)
					continue
				}
				for i, at := range m.admitted {
					if n := (&model{m.admitted[:i+1]}).counted(at, q.Per); n > q.Events {
						t.Fatalf("key %d: %d events in %v", who, n, q.Per)
					}
				}
			}
			if len(logs) < 64 {
				t.Errorf("%d keys of 64 ever got through", len(logs))
			}
		})
	}
}

// TestChurn is an attack: whoever is at its limit brings in new keys, by the hundred thousand, so that its own is forgotten.
func TestChurn(t *testing.T) {
	q := limit.Quota{Events: 10, Per: time.Minute}
	for name, l := range map[string]limiter{"window": limit.NewWindow(q, limit.Options{}), "bucket": limit.NewBucket(q, limit.Options{})} {
		t.Run(name, func(t *testing.T) {
			var now time.Duration
			l.SetClock(func() time.Duration { return now })
			hot := limit.KeyOf("hot")
			for range q.Events {
				l.Take(hot)
			}
			for i := range 500_000 { // thirty times what is remembered
				l.Take(limit.KeyOf(i))
				if i%1000 == 0 && l.Take(hot).Allowed {
					t.Fatalf("let off after %d other keys", i)
				}
			}
			now += 2 * q.Per
			if v := l.Take(hot); !v.Allowed || v.Remaining != q.Events-1 {
				t.Errorf("after the flood: %+v, want all of the quota", v)
			}
		})
	}
}

// TestFloodLeavesRoom: a flood of keys that use little takes little from those that come during it.
func TestFloodLeavesRoom(t *testing.T) {
	q := limit.Quota{Events: 100, Per: time.Minute}
	b := limit.NewBucket(q, limit.Options{})
	b.SetClock(func() time.Duration { return 0 })
	for i := range 100_000 { // six times what is remembered, all at once
		b.Take(limit.KeyOf(i))
	}
	for i := range 1000 {
		if v := b.Take(limit.KeyOf(-1 - i)); v.Remaining < q.Events*8/10 {
			t.Fatalf("a newcomer has %d of %d left", v.Remaining, q.Events)
		}
	}
}

// TestKeysAreApart: what one key uses up is not missed by another.
func TestKeysAreApart(t *testing.T) {
	b := limit.NewBucket(limit.Quota{Events: 2, Per: time.Hour}, limit.Options{Keys: 1 << 16})
	for i := range 1000 {
		for want := range 2 {
			if v := b.Take(limit.KeyOf(fmt.Sprint(i))); !v.Allowed || v.Remaining != 1-want {
				t.Fatalf("key %d: %+v", i, v)
			}
		}
		if b.Take(limit.KeyOf(fmt.Sprint(i))).Allowed {
			t.Fatalf("key %d: a third event was allowed", i)
		}
	}
}

// TestConcurrent: however many ask at once, as many as may are let through.
func TestConcurrent(t *testing.T) {
	q := limit.Quota{Events: 1000, Per: time.Hour}
	for name, l := range map[string]limiter{"window": limit.NewWindow(q, limit.Options{}), "bucket": limit.NewBucket(q, limit.Options{})} {
		l.SetClock(func() time.Duration { return 0 })
		var allowed [4]atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range 8000 {
					if l.Take(limit.KeyOf(i % len(allowed))).Allowed {
						allowed[i%len(allowed)].Add(1)
					}
				}
			})
		}
		wg.Wait()
		for i := range allowed {
			if n := allowed[i].Load(); n != int64(q.Events) {
				t.Errorf("%s: key %d: %d allowed, want %d", name, i, n, q.Events)
			}
		}
	}
}

// TestClock: the real clock moves, and its time comes from the monotonic one, which synctest's bubble shows.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := limit.NewBucket(limit.Quota{Events: 1, Per: time.Minute}, limit.Options{})
		if !b.Take(1).Allowed || b.Take(1).Allowed {
			t.Error("want one event, and no second")
		}
		time.Sleep(time.Minute)
		if !b.Take(1).Allowed {
			t.Error("refused a minute later")
		}
	})
}

func TestParseQuota(t *testing.T) {
	for in, want := range map[string]limit.Quota{
		"off": {}, "30/3m": {30, 3 * time.Minute}, "1/s": {1, time.Second}, "6000/1m0s": {6000, time.Minute}, "5/h": {5, time.Hour}, "9/250ms": {9, 250 * time.Millisecond},
	} {
		got, err := limit.ParseQuota(in)
		if err != nil || got != want {
			t.Errorf("ParseQuota(%q) = %v, %v, want %v", in, got, err, want)
		}
		if again, err := limit.ParseQuota(got.String()); err != nil || again != got {
			t.Errorf("ParseQuota(%q) = %v, %v, want %v", got, again, err, got)
		}
	}
	for _, in := range []string{"", "30", "/m", "30/", "0/m", "-1/m", "x/m", "30/x", "30/0s", "30/-1m", "2000000000/m", "1/2000h", "1/1ns", "1 /m"} {
		if q, err := limit.ParseQuota(in); !errors.Is(err, errkind.Invalid) {
			t.Errorf("ParseQuota(%q) = %v, %v, want errkind.Invalid", in, q, err)
		}
	}
}

// BenchmarkTake: what a request pays for a limit, from all cores at once, and how long they waited for each other's locks.
func BenchmarkTake(b *testing.B) {
	q := limit.Quota{Events: 1 << 20, Per: time.Second}
	for name, l := range map[string]limiter{"window": limit.NewWindow(q, limit.Options{}), "bucket": limit.NewBucket(q, limit.Options{})} {
		for _, keys := range []int{1, 1000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/keys=%d", name, keys), func(b *testing.B) {
				waited := mutexWait()
				b.SetParallelism(8)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for i := rand.IntN(keys); pb.Next(); i++ {
						l.Take(limit.KeyOf(i % keys))
					}
				})
				b.ReportMetric((mutexWait()-waited)*1e9/float64(b.N), "lockwait-ns/op")
			})
		}
	}
}

// BenchmarkAt10k: ten thousand events a second of one key on all cores: how much of the time is spent waiting for its lock.
func BenchmarkAt10k(b *testing.B) {
	l := limit.NewBucket(limit.Quota{Events: 1 << 20, Per: time.Second}, limit.Options{})
	const workers = 10 // each a thousand times a second
	waited, started := mutexWait(), time.Now()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for range b.N/workers + 1 {
				<-tick.C
				l.Take(1)
			}
		})
	}
	wg.Wait()
	b.ReportMetric((mutexWait()-waited)/time.Since(started).Seconds()*100, "lockwait-%")
}

// mutexWait is how many seconds all goroutines of the process have waited for locks.
func mutexWait() float64 {
	s := []metrics.Sample{{Name: "/sync/mutex/wait/total:seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64()
}
