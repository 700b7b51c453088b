package busreplica_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/bus"
	"github.com/skep-dev/skep/internal/bus/bustest"
	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/busreplica"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/replica"
	"github.com/skep-dev/skep/internal/crdt"
)

// member is a copy on a real bus.
type member struct {
	doc  *engine.Document
	link *busreplica.Link
	stop func()
}

// join starts a copy on servers, until stop is called or the test ends.
func join(tb testing.TB, log oplog.Log, url string) *member {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	doc, err := engine.Open(ctx, "shop", log, engine.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	conn, err := bus.Connect(ctx, bus.Options{URL: url})
	if err != nil {
		tb.Fatal(err)
	}
	r := replica.New(doc, nil, nil, replica.Options{Every: 200 * time.Millisecond})
	link, err := busreplica.New(conn, doc, r, key, busreplica.Options{Every: 200 * time.Millisecond})
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{r.Run, link.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				tb.Error(err)
			}
		})
	}
	m := &member{doc, link, sync.OnceFunc(func() { cancel(); wg.Wait(); conn.Close() })}
	tb.Cleanup(m.stop)
	return m
}

func (m *member) write(tb testing.TB, field string, v any) crdt.Dot {
	tb.Helper()
	results, err := m.doc.Submit(tb.Context(), engine.Batch{Actor: config.Actor{ID: "alice"}, Requests: []config.Request{set(field, v)}})
	if err != nil {
		tb.Fatal(err)
	}
	return results[0].Op.ID
}

var errFound = errors.New("found")

// await waits until a copy has operations.
func (m *member) await(tb testing.TB, dots ...crdt.Dot) {
	tb.Helper()
	missing := map[crdt.Dot]bool{}
	for _, dot := range dots {
		missing[dot] = true
	}
	err := m.doc.Watch(tb.Context(), 0, func(e engine.Event) error {
		if delete(missing, e.Op.ID); len(missing) == 0 {
			return errFound
		}
		return nil
	})
	if !errors.Is(err, errFound) {
		tb.Fatal(err)
	}
}

func begin(tb testing.TB, m *member) crdt.Dot {
	tb.Helper()
	results, err := m.doc.Submit(tb.Context(), engine.Batch{Actor: config.Actor{ID: "alice"}, Requests: []config.Request{{Kind: config.ChangeSchema, Text: schemaText}}})
	if err != nil {
		tb.Fatal(err)
	}
	return results[0].Op.ID
}

// Three copies, each over a line of its own to one of three servers, take writes while their lines are cut and while servers are killed one by one, and
// have the same state when they reach each other again.
func TestPartedAndHealed(t *testing.T) {
	servers := bustest.Cluster(t, 3)
	var lines []*bustest.Line
	var members []*member
	for i := range servers {
		line, other := bustest.NewLine(t, servers[i].URL()), bustest.NewLine(t, servers[(i+1)%3].URL())
		lines = append(lines, line, other)
		members = append(members, join(t, newLog(t), line.URL()+","+other.URL()))
	}
	dots := []crdt.Dot{begin(t, members[0])}
	all := func() {
		t.Helper()
		for _, m := range members {
			m.await(t, dots...)
		}
		for _, m := range members[1:] {
			if have, want := snapshot(t, m.doc), snapshot(t, members[0].doc); have != want {
				t.Fatalf("a copy has\n%s\nwant\n%s", have, want)
			}
		}
	}
	all()
	everybody := func(round string) {
		for i, m := range members {
			dots = append(dots, m.write(t, "owner", fmt.Sprint(round, i)), m.write(t, "weight", int64(i)), m.write(t, "replicas", int64(len(dots))))
		}
	}
	for _, line := range lines {
		line.Cut()
	}
	everybody("cut")
	for _, line := range lines {
		line.Mend()
	}
	all()
	servers[0].Stop()
	everybody("killed")
	all()
	servers[0].Start()
	servers[1].Stop()
	everybody("another")
	all()
	_ = members[0].doc.View(func(s *config.State) error {
		if open := s.Conflicts(); len(open) != 1 {
			t.Errorf("conflicts: %+v, want that of the owners", open)
		}
		return nil
	})
	if n := len(members[0].link.Status().Copies); n != 2 {
		t.Errorf("the first copy knows %d others", n)
	}
}

// A copy that starts long after the others, and one that starts again, have what the others have.
func TestLateComer(t *testing.T) {
	s := bustest.New(t, nil)
	a := join(t, newLog(t), s.URL())
	dots := []crdt.Dot{begin(t, a)}
	for i := range 1200 {
		dots = append(dots, a.write(t, "weight", int64(i)))
	}
	log := newLog(t)
	b := join(t, log, s.URL())
	b.await(t, dots...)
	b.stop()
	missed := a.write(t, "owner", "while it was away")
	b = join(t, log, s.URL())
	b.await(t, missed)
	a.await(t, b.write(t, "owner", "from the one that came back"))
	if x, y := snapshot(t, a.doc), snapshot(t, b.doc); x != y {
		t.Errorf("they have\n%s\n%s", x, y)
	}
}

// How long it takes from the moment that a copy is asked to write until a watcher at another one is told: with logs in files, over one server.
func BenchmarkVisible(b *testing.B) {
	s := bustest.New(b, nil)
	var members []*member
	for i := range 3 {
		log, err := oplog.OpenFile(b.Context(), filepath.Join(b.TempDir(), fmt.Sprint(i, ".db")))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = log.Close() })
		members = append(members, join(b, log, s.URL()))
	}
	schema := begin(b, members[0])
	seen := make(chan crdt.Dot, 1)
	for _, m := range members[1:] {
		m.await(b, schema)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = members[2].doc.Watch(ctx, members[2].doc.Head().Seq, func(e engine.Event) error { seen <- e.Op.ID; return nil })
	})
	b.Cleanup(func() { cancel(); wg.Wait() })
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		began := time.Now()
		if dot := members[0].write(b, "owner", strings.Repeat("x", i%7)); <-seen != dot {
			b.Fatal("another operation comes first")
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
