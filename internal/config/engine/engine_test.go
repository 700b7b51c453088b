package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/errkind"
)

func set(entity, field string, v any) config.Request {
	return config.Request{Kind: config.SetField, Entity: entity, Field: field, Value: v}
}

// memory returns a document in memory, and its log.
func memory(t *testing.T) (*engine.Document, oplog.Log) {
	t.Helper()
	store := oplog.NewMemory()
	if err := store.Create(t.Context(), "bench"); err != nil {
		t.Fatal(err)
	}
	log, err := store.Open(t.Context(), "bench")
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, log)
	submit(t, d, config.Request{Kind: config.ChangeSchema, Text: schemaText})
	return d, log
}

func open(t *testing.T, log oplog.Log) *engine.Document {
	t.Helper()
	d, err := engine.Open(t.Context(), "bench", log, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func submit(t *testing.T, d *engine.Document, requests ...config.Request) []engine.Result {
	t.Helper()
	results, err := d.Submit(t.Context(), engine.Batch{Actor: config.Actor{ID: "zara", Class: config.Human}, Requests: requests})
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func snapshot(t *testing.T, d *engine.Document) string {
	t.Helper()
	var text []byte
	err := d.View(func(s *config.State) (err error) { text, err = s.Snapshot(); return err })
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestBatchIsAllOrNothing(t *testing.T) {
	d, _ := memory(t)
	before := snapshot(t, d)
	_, err := d.Submit(t.Context(), engine.Batch{Requests: []config.Request{set("service.a", "weight", int64(1)), set("service.a", "weight", "heavy")}})
	if !errors.Is(err, errkind.Invalid) {
		t.Errorf("a batch with a bad request: %v, want it invalid", err)
	}
	if after := snapshot(t, d); after != before || d.Head().Seq != 1 {
		t.Errorf("the refused batch left %s", after)
	}
	results := submit(t, d, set("service.a", "weight", int64(1)), set("service.a", "weight", int64(2)), config.Request{Kind: config.RemoveEntity, Entity: "service.a"})
	if len(results) != 3 || results[2].Seq != 4 {
		t.Errorf("results %+v, want three, the last in record 4", results)
	}
}

func TestGuardIsAskedBeforeAnythingCounts(t *testing.T) {
	d, _ := memory(t)
	_, err := d.Submit(t.Context(), engine.Batch{
		Requests: []config.Request{set("service.a", "weight", int64(1))},
		Guard:    func(int, *config.State, *config.Op) error { return fmt.Errorf("not you: %w", errkind.Forbidden) },
	})
	if !errors.Is(err, errkind.Forbidden) || d.Head().Seq != 1 {
		t.Errorf("got %v and head %d, want forbidden and nothing written", err, d.Head().Seq)
	}
}

// Two processes that have the same document open lose nothing, and end up equal.
func TestTwoWritersOfOneLog(t *testing.T) {
	d, log := memory(t)
	other := open(t, log)
	var wg sync.WaitGroup
	for i, doc := range []*engine.Document{d, other} {
		wg.Go(func() {
			for n := range 50 {
				_, err := doc.Submit(context.Background(), engine.Batch{
					Actor: config.Actor{ID: fmt.Sprint(i)}, Requests: []config.Request{{Kind: config.SetField, Entity: "service.a", Field: "tags", Add: []any{fmt.Sprintf("%d-%d", i, n)}}},
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, doc := range []*engine.Document{d, other} {
		if err := doc.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := snapshot(t, d), snapshot(t, other); a != b {
		t.Errorf("the two differ:\n%s\n%s", a, b)
	}
	_ = d.View(func(s *config.State) error {
		r, err := s.Get("service.a", "tags", "")
		if list, ok := r.Value.([]any); err != nil || !ok || len(list) != 100 {
			t.Errorf("tags = %v, %v, want 100 of them", r.Value, err)
		}
		return nil
	})
}

// Who watches gets every operation once and in order, whether it is from before or comes while watching.
func TestWatchHasNoGaps(t *testing.T) {
	d, log := memory(t)
	for i := range 10 {
		submit(t, d, set("service.a", "weight", int64(i)))
	}
	for name, doc := range map[string]*engine.Document{"the one that wrote": d, "one opened later": open(t, log)} {
		last := uint64(0)
		err := doc.Watch(t.Context(), 0, func(e engine.Event) error {
			if e.Seq != last+1 {
				t.Errorf("%s: event %d after %d", name, e.Seq, last)
			}
			if last = e.Seq; last > 1 && (len(e.Changes) == 0 || e.Changes[0].Entity != "service.a") {
				t.Errorf("%s: event %d has changes %+v", name, e.Seq, e.Changes)
			}
			if last == doc.Head().Seq {
				if last >= 15 {
					return errDone
				}
				submit(t, doc, set("service.a", "weight", int64(last)))
			}
			return nil
		})
		if !errors.Is(err, errDone) {
			t.Errorf("%s: %v", name, err)
		}
		if err := doc.Watch(t.Context(), 1000, nil); !errors.Is(err, errkind.Invalid) {
			t.Errorf("%s: a cursor from nowhere: %v, want it invalid", name, err)
		}
	}
}

var errDone = errors.New("done")

// A document that is opened again is as it was, from a snapshot as from the log alone.
func TestReopen(t *testing.T) {
	d, log := memory(t)
	submit(t, d, set("service.a", "weight", int64(1)), set("service.a", "replicas", int64(3)))
	if err := d.Snapshot(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if seq, _, err := log.Snapshot(t.Context()); err != nil || seq != 3 {
		t.Fatalf("the snapshot is of record %d, %v, want 3", seq, err)
	}
	submit(t, d, set("service.b", "weight", int64(2)))
	again := open(t, log)
	if a, b := snapshot(t, d), snapshot(t, again); a != b {
		t.Errorf("opened again:\n%s\nwant\n%s", b, a)
	}
	if again.Node() != d.Node() {
		t.Errorf("the copy is called %s, and was %s", again.Node(), d.Node())
	}
}

// tampered is a log of which somebody changed a record.
type tampered struct {
	oplog.Log
	seq uint64
}

func (l tampered) Read(ctx context.Context, from uint64, limit int, fn func(oplog.Record) error) error {
	return l.Log.Read(ctx, from, limit, func(r oplog.Record) error {
		if r.Seq == l.seq {
			r.Data = append([]byte(nil), r.Data...)
			r.Data[len(r.Data)/2] ^= 1
		}
		return fn(r)
	})
}

func TestChangedRecordIsFound(t *testing.T) {
	d, log := memory(t)
	submit(t, d, set("service.a", "weight", int64(1)), set("service.a", "weight", int64(2)))
	for seq := uint64(1); seq <= 3; seq++ {
		if _, err := engine.Open(t.Context(), "bench", tampered{log, seq}, engine.Options{}); err == nil {
			t.Errorf("record %d was changed, and the document opens", seq)
		}
	}
	if _, err := engine.Open(t.Context(), "other", log, engine.Options{}); err == nil {
		t.Error("the log opens as that of another document")
	}
}
