package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/errkind"
)

// model is what a document should be: the operations that were acknowledged, folded one by one.
type model struct {
	log  oplog.Log
	docs [2]*engine.Document
	fold *config.State
	head uint64
	seen [2]uint64 // cursors of who watches each
}

func newModel(t *rapid.T) *model {
	ctx := context.Background()
	store := oplog.NewMemory()
	if err := store.Create(ctx, "bench"); err != nil {
		t.Fatal(err)
	}
	log, err := store.Open(ctx, "bench")
	if err != nil {
		t.Fatal(err)
	}
	m := &model{log: log, fold: config.NewState()}
	m.reopen(t, 0)
	m.reopen(t, 1)
	m.submit(t, 0, []config.Request{{Kind: config.ChangeSchema, Text: schemaText}}, nil, true)
	return m
}

func (m *model) reopen(t *rapid.T, i int) {
	d, err := engine.Open(context.Background(), "bench", m.log, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m.docs[i] = d
}

func (m *model) submit(t *rapid.T, i int, requests []config.Request, guard func(int, *config.State, *config.Op) error, good bool) {
	if err := m.docs[i].Refresh(context.Background()); err != nil { // so that what is refused is known beforehand
		t.Fatal(err)
	}
	results, err := m.docs[i].Submit(context.Background(), engine.Batch{Requests: requests, Guard: guard})
	if (err == nil) != good {
		t.Fatalf("a batch of %d: %v, want it done: %v", len(requests), err, good)
	}
	for _, r := range results {
		if r.Seq == 0 {
			continue
		}
		if m.head++; r.Seq != m.head || !m.fold.Apply(r.Op) {
			t.Fatalf("operation %s is record %d, want %d", r.Op.ID, r.Seq, m.head)
		}
	}
}

func (m *model) request(t *rapid.T) config.Request {
	entity := fmt.Sprintf("service.s%d", rapid.IntRange(0, 3).Draw(t, "entity"))
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		return config.Request{Kind: config.SetField, Entity: entity, Field: "tags", Add: []any{rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "tag")}}
	case 1:
		return config.Request{Kind: config.SetField, Entity: entity, Field: "replicas", Value: rapid.Int64Range(0, 9).Draw(t, "replicas"), Override: rapid.Bool().Draw(t, "override")}
	case 2:
		return config.Request{Kind: config.SetField, Entity: entity, Field: "weight", Value: rapid.Int64Range(0, 9).Draw(t, "weight"), Env: "staging"}
	default:
		return config.Request{Kind: config.SetField, Entity: entity, Field: "weight", Value: rapid.Int64Range(0, 9).Draw(t, "weight")}
	}
}

// Whatever is submitted, refused, kept and opened again, by two who have one log open: both are what the acknowledged operations come to.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		handle := rapid.IntRange(0, 1)
		t.Repeat(map[string]func(*rapid.T){
			"submit": func(t *rapid.T) {
				requests := make([]config.Request, rapid.IntRange(1, 5).Draw(t, "n"))
				for i := range requests {
					requests[i] = m.request(t)
				}
				good := true
				if rapid.IntRange(0, 3).Draw(t, "bad") == 0 {
					requests[rapid.IntRange(0, len(requests)-1).Draw(t, "which")], good = set("service.s0", "weight", "heavy"), false
				}
				m.submit(t, handle.Draw(t, "handle"), requests, nil, good)
			},
			"forbidden": func(t *rapid.T) {
				guard := func(int, *config.State, *config.Op) error { return errkind.Forbidden }
				m.submit(t, handle.Draw(t, "handle"), []config.Request{m.request(t), m.request(t)}, guard, false)
			},
			"reopen": func(t *rapid.T) { m.reopen(t, handle.Draw(t, "handle")) },
			"snapshot": func(t *rapid.T) {
				if err := m.docs[handle.Draw(t, "handle")].Snapshot(context.Background(), 1); err != nil {
					t.Fatal(err)
				}
			},
			"watch": func(t *rapid.T) {
				i := handle.Draw(t, "handle")
				if err := m.docs[i].Refresh(context.Background()); err != nil {
					t.Fatal(err)
				}
				if m.seen[i] == m.head {
					return
				}
				err := m.docs[i].Watch(context.Background(), m.seen[i], func(e engine.Event) error {
					if m.seen[i]++; e.Seq != m.seen[i] {
						t.Fatalf("event %d in the place of %d", e.Seq, m.seen[i])
					}
					if e.Seq == m.head {
						return errDone
					}
					return nil
				})
				if !errors.Is(err, errDone) {
					t.Fatal(err)
				}
			},
			"verify": func(t *rapid.T) {
				d := m.docs[handle.Draw(t, "handle")]
				if head, err := d.Verify(context.Background(), func(*config.Op, uint64) error { return nil }); err != nil || head != d.Head() {
					t.Fatalf("verify: %v, %v", head, err)
				}
			},
			"": m.check,
		})
	})
}

func (m *model) check(t *rapid.T) {
	m.fold.Settle()
	want, err := m.fold.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range m.docs {
		if err := d.Refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
		err := d.View(func(s *config.State) error {
			have, err := s.Snapshot()
			if err == nil && string(have) != string(want) {
				t.Fatalf("document %d has\n%s\nwant\n%s", i, have, want)
			}
			return err
		})
		if err != nil || d.Head().Seq != m.head {
			t.Fatalf("document %d ends with %d, %v, want %d", i, d.Head().Seq, err, m.head)
		}
	}
}
