package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/errkind"
)

// fault is what an append comes to.
type fault int

const (
	works        fault = iota
	refuses            // with an error that says nothing; nothing is kept
	keepsAndErrs       // as if the connection was lost before the answer
	keepsAndLies       // as if something below tried again, and met what it had kept itself
	liesConflict       // nothing is kept, and nobody was faster
	keepsLater         // an error now, and the records are there before the next append
	faults
)

var errLost = errors.New("the connection was lost")

// faulty is a log whose appends go wrong as next says.
type faulty struct {
	oplog.Log
	next func() fault

	mu    sync.Mutex
	later func() // guarded by mu
}

func (l *faulty) Append(ctx context.Context, prev oplog.Head, records []oplog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.later != nil {
		l.later()
		l.later = nil
	}
	switch l.next() {
	case refuses:
		return errLost
	case keepsAndErrs:
		if err := l.Log.Append(ctx, prev, records); err != nil {
			return err
		}
		return errLost
	case keepsAndLies:
		if err := l.Log.Append(ctx, prev, records); err != nil {
			return err
		}
		return fmt.Errorf("others were faster: %w", errkind.Conflict)
	case liesConflict:
		return fmt.Errorf("others were faster: %w", errkind.Conflict)
	case keepsLater:
		l.later = func() { _ = l.Log.Append(context.WithoutCancel(ctx), prev, records) }
		return errLost
	default:
		return l.Log.Append(ctx, prev, records)
	}
}

// intents verifies a document and returns how often each intent is in its log.
func intents(t *testing.T, d *engine.Document) map[string]int {
	t.Helper()
	count := map[string]int{}
	_, err := d.Verify(t.Context(), func(op *config.Op, _ uint64) error {
		count[op.Intent]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// However appends go wrong: what was acknowledged is there once, what was refused for good is not there, and nothing is there twice.
func TestAppendsThatGoWrong(t *testing.T) {
	_, log := memory(t)
	bad := &faulty{Log: log, next: func() fault { return fault(rand.IntN(int(faults))) }}
	docs := []*engine.Document{open(t, bad), open(t, bad)}
	var mu sync.Mutex
	acknowledged, unsure := map[string]bool{}, map[string]bool{}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for n := range 60 {
				intent := fmt.Sprintf("%d-%d", g, n)
				_, err := docs[g%2].Submit(context.Background(), engine.Batch{Requests: []config.Request{
					{Kind: config.SetField, Entity: fmt.Sprintf("service.s%d", g), Field: "weight", Value: int64(n + 1), Intent: intent},
				}})
				mu.Lock()
				switch kind := errkind.Of(err); {
				case err == nil:
					acknowledged[intent] = true
				case kind == errkind.Internal || kind == errkind.Unavailable:
					unsure[intent] = true
				default:
					t.Errorf("%s: %v", intent, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	again := open(t, log)
	count := intents(t, again)
	for intent := range acknowledged {
		if count[intent] != 1 {
			t.Errorf("%s was acknowledged and is there %d times", intent, count[intent])
		}
	}
	for intent, n := range count {
		if intent != "" && n > 1 {
			t.Errorf("%s is there %d times", intent, n)
		}
	}
	if len(acknowledged) == 0 || len(unsure) == 0 {
		t.Errorf("%d acknowledged and %d unsure: nothing was tested", len(acknowledged), len(unsure))
	}
	for _, d := range docs {
		if err := d.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a, b := snapshot(t, d), snapshot(t, again); a != b {
			t.Errorf("one that met errors has\n%s\nwant\n%s", a, b)
		}
	}
}

// An append whose records were kept is a success, whatever its error said; one whose records were not kept is none.
func TestErrorOfAppend(t *testing.T) {
	tests := []struct {
		name string
		is   fault
		want error
		seq  uint64
	}{
		{"kept, and an error", keepsAndErrs, nil, 2},
		{"kept, and said to conflict", keepsAndLies, nil, 2},
		{"not kept", refuses, errLost, 1},
		{"not kept, and said to conflict", liesConflict, nil, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, log := memory(t)
			left := []fault{tt.is}
			d := open(t, &faulty{Log: log, next: func() fault {
				if len(left) == 0 {
					return works
				}
				left = nil
				return tt.is
			}})
			results, err := d.Submit(t.Context(), engine.Batch{Requests: []config.Request{set("service.a", "weight", int64(1))}})
			if !errors.Is(err, tt.want) || err == nil && results[0].Seq != 2 {
				t.Errorf("got %+v, %v, want %v", results, err, tt.want)
			}
			if head := d.Head(); head.Seq != tt.seq {
				t.Errorf("head is %d, want %d", head.Seq, tt.seq)
			}
			if head, err := log.Head(t.Context()); err != nil || head != d.Head() {
				t.Errorf("the log ends with %v, %v, the document with %v", head, err, d.Head())
			}
		})
	}
}

// stuck is a log whose appends wait.
type stuck struct {
	oplog.Log
	entered, release chan struct{}
}

func (l stuck) Append(ctx context.Context, prev oplog.Head, records []oplog.Record) error {
	l.entered <- struct{}{}
	<-l.release
	return l.Log.Append(ctx, prev, records)
}

// Who gives up while waiting is out of the queue, its batch is not done, and the others' are.
func TestWaitingIsGivenUp(t *testing.T) {
	_, log := memory(t)
	s := stuck{log, make(chan struct{}, 10), make(chan struct{})}
	d := open(t, s)
	var wg sync.WaitGroup
	write := func(ctx context.Context, intent string) error {
		_, err := d.Submit(ctx, engine.Batch{Requests: []config.Request{{Kind: config.SetField, Entity: "service." + intent, Field: "weight", Value: int64(1), Intent: intent}}})
		return err
	}
	submitLater := func(ctx context.Context, intent string, want error) {
		waiting := engine.Waiting(d)
		wg.Go(func() {
			if err := write(ctx, intent); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", intent, err, want)
			}
		})
		for engine.Waiting(d) == waiting {
			if len(s.entered) > 0 {
				break // it is being written
			}
			runtime.Gosched()
		}
	}
	submitLater(t.Context(), "first", nil)
	<-s.entered
	ctx, cancel := context.WithCancel(t.Context())
	submitLater(ctx, "second", context.Canceled)
	submitLater(t.Context(), "third", nil)
	cancel()
	for engine.Waiting(d) != 1 {
		runtime.Gosched()
	}
	close(s.release)
	wg.Wait()
	if count := intents(t, d); count["first"] != 1 || count["second"] != 0 || count["third"] != 1 {
		t.Errorf("the log has %v", count)
	}
}

// A panic in planning a batch is that of its submitter alone, and the document goes on.
func TestPanicHarmsNobodyElse(t *testing.T) {
	d, _ := memory(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for n := range 20 {
				func() {
					defer func() {
						if p := recover(); (p != nil) != (g%4 == 0) {
							t.Errorf("submitter %d: %v", g, p)
						}
					}()
					_, err := d.Submit(context.Background(), engine.Batch{
						Requests: []config.Request{{Kind: config.SetField, Entity: fmt.Sprintf("service.s%d", g), Field: "weight", Value: int64(n + 1), Intent: "x"}},
						Guard: func(int, *config.State, *config.Op) error {
							if g%4 == 0 {
								panic("guard")
							}
							return nil
						},
					})
					if err != nil {
						t.Error(err)
					}
				}()
			}
		})
	}
	wg.Wait()
	if n := intents(t, d)["x"]; n != 6*20 {
		t.Errorf("%d operations are there, want %d", n, 6*20)
	}
}

// A batch that is too large for an append is refused alone.
func TestTooLargeIsRefusedAlone(t *testing.T) {
	_, log := memory(t)
	s := stuck{log, make(chan struct{}, 10), make(chan struct{})}
	d := open(t, s)
	large := make([]config.Request, 40)
	for i := range large {
		v := make([]byte, 200_000)
		for j := range v {
			v[j] = 'x'
		}
		large[i] = set(fmt.Sprintf("service.l%d", i), "image", string(v))
	}
	var wg sync.WaitGroup
	for i, requests := range [][]config.Request{{set("service.a", "weight", int64(1))}, large, {set("service.b", "weight", int64(1))}} {
		wg.Go(func() {
			_, err := d.Submit(t.Context(), engine.Batch{Requests: requests})
			if want := i == 1; errors.Is(err, errkind.TooLarge) != want || !want && err != nil {
				t.Errorf("batch %d: %v", i, err)
			}
		})
	}
	close(s.release)
	wg.Wait()
	if d.Head().Seq != 3 {
		t.Errorf("head is %d, want 3", d.Head().Seq)
	}
}

// What another copy made comes once, in any order, and not in the name of this one.
func TestForeign(t *testing.T) {
	d, log := memory(t)
	results := submit(t, d, set("service.a", "weight", int64(1)), set("service.a", "weight", int64(2)))
	other, _ := memory(t)
	var ops []*config.Op
	if _, err := d.Verify(t.Context(), func(op *config.Op, _ uint64) error { ops = append(ops, op); return nil }); err != nil {
		t.Fatal(err)
	}
	ops = []*config.Op{ops[2], ops[0], ops[2], ops[1]}
	got, err := other.Submit(t.Context(), engine.Batch{Foreign: ops})
	if err != nil || len(got) != 4 || got[2].Seq != 0 || got[3].Seq != 4 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got, err = other.Submit(t.Context(), engine.Batch{Foreign: ops}); err != nil || got[0].Seq != 0 || other.Head().Seq != 4 {
		t.Errorf("again: %+v, %v, head %d", got, err, other.Head().Seq)
	}
	text, err := results[1].Op.Encode()
	if err != nil {
		t.Fatal(err)
	}
	forged, err := config.DecodeOp(text)
	if err != nil {
		t.Fatal(err)
	}
	forged.ID.Seq = 99
	if _, err := d.Submit(t.Context(), engine.Batch{Foreign: []*config.Op{forged}}); !errors.Is(err, errkind.Exists) {
		t.Errorf("an operation in this copy's name: %v, want it refused", err)
	}
	if head, err := log.Head(t.Context()); err != nil || head.Seq != 3 {
		t.Errorf("head is %v, %v", head, err)
	}
}
