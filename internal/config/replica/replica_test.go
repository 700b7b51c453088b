package replica_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/replica"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

const schemaText = `
name = "shop"
[environments]
base = "production"
overlays = [{ name = "staging", inherits = "production" }]

[entity.service]
fields = [
    { name = "weight",   type = "int", merge = "lww" },
    { name = "replicas", type = "int", merge = "max" },
    { name = "owner",    type = "string", merge = "review" },
    { name = "tags",     type = "list<string>", merge = "set" },
]
`

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// node is a copy and the disk that it is on.
type node struct {
	name    string
	log     oplog.Log
	skew    time.Duration
	doc     *engine.Document
	replica *replica.Replica
}

// network is nodes, and what is between them.
type network struct {
	now   atomic.Int64 // microseconds
	nodes []*node

	mu      sync.Mutex
	parted  map[[2]string]bool // guarded by mu, as all that follows
	trouble func() string      // what happens to the next message
	late    []func()
}

func newNetwork(t fataler, skews ...time.Duration) *network {
	t.Helper()
	n := &network{parted: map[[2]string]bool{}, trouble: func() string { return "" }}
	n.now.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro())
	for i, skew := range skews {
		x := &node{name: fmt.Sprintf("n%d", i), log: newLog(t), skew: skew}
		n.nodes = append(n.nodes, x)
		n.start(t, x)
	}
	return n
}

func newLog(t fataler) oplog.Log {
	t.Helper()
	store := oplog.NewMemory()
	if err := store.Create(context.Background(), "shop"); err != nil {
		t.Fatal(err)
	}
	log, err := store.Open(context.Background(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// start starts a node from its disk; what it had in memory is lost.
func (n *network) start(t fataler, x *node) {
	t.Helper()
	now := func() time.Time { return time.UnixMicro(n.now.Add(1)).Add(x.skew) }
	doc, err := engine.Open(context.Background(), "shop", x.log, engine.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	peers := func() (list []string) {
		for _, other := range n.nodes {
			if other != x {
				list = append(list, other.name)
			}
		}
		return list
	}
	x.doc, x.replica = doc, replica.New(doc, link{n, x.name}, peers, replica.Options{Every: time.Millisecond})
}

func (n *network) node(name string) *node {
	for _, x := range n.nodes {
		if x.name == name {
			return x
		}
	}
	return nil
}

var errParted = errors.New("no answer")

// link is what a node sees of the network.
type link struct {
	*network
	from string
}

// Exchange brings a message as JSON, and does to it what the network does.
func (l link) Exchange(ctx context.Context, peer string, m *replica.Message) (*replica.Message, error) {
	l.mu.Lock()
	parted, trouble := l.parted[[2]string{l.from, peer}], l.trouble()
	l.mu.Unlock()
	if parted || trouble == "lost" {
		return nil, errParted
	}
	deliver := func() (*replica.Message, error) {
		answer, err := l.node(peer).replica.Handle(ctx, clone(m))
		if err != nil {
			return nil, err
		}
		return clone(answer), nil
	}
	switch trouble {
	case "late":
		l.mu.Lock()
		l.late = append(l.late, func() { _, _ = deliver() })
		l.mu.Unlock()
		return nil, errParted
	case "twice":
		_, _ = deliver()
	case "answer lost":
		_, _ = deliver()
		return nil, errParted
	}
	return deliver()
}

func clone(m *replica.Message) *replica.Message {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	out := new(replica.Message)
	if err := json.Unmarshal(text, out); err != nil {
		panic(err)
	}
	return out
}

func write(t fataler, x *node, requests ...config.Request) []engine.Result {
	t.Helper()
	results, err := x.doc.Submit(context.Background(), engine.Batch{Actor: config.Actor{ID: x.name}, Requests: requests})
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func set(field string, v any) config.Request {
	return config.Request{Kind: config.SetField, Entity: "service.a", Field: field, Value: v}
}

func snapshot(t fataler, d *engine.Document) string {
	t.Helper()
	var text []byte
	if err := d.View(func(s *config.State) (err error) { text, err = s.Snapshot(); return err }); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func has(d *engine.Document, dot crdt.Dot) (has bool) {
	_ = d.View(func(s *config.State) error { has = s.Has(dot); return nil })
	return has
}

// settle has every node sync with every other one, with nothing between them and the time that it takes for all clocks to agree.
func (n *network) settle(t fataler) {
	t.Helper()
	n.parted, n.trouble = map[[2]string]bool{}, func() string { return "" }
	for _, f := range n.late {
		f()
	}
	n.now.Add((3 * time.Hour).Microseconds())
	for range 2 {
		for _, x := range n.nodes {
			if err := x.replica.Retry(context.Background()); err != nil {
				t.Fatal(err)
			}
			for _, y := range n.nodes {
				if x == y {
					continue
				}
				if err := x.replica.Sync(context.Background(), y.name); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// Five copies that are parted and healed, whose messages are lost, late, doubled and out of order, which crash and start again, and of which one's
// clock is ahead and one's behind: all take every write, all end up equal, and nothing that was acknowledged is lost.
func TestConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := newNetwork(t, 0, 0, 10*time.Minute, -time.Hour, 200*time.Millisecond)
		write(t, n.nodes[0], config.Request{Kind: config.ChangeSchema, Text: schemaText})
		n.settle(t)
		var acknowledged []crdt.Dot
		some := rapid.IntRange(0, len(n.nodes)-1)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				x := n.nodes[some.Draw(t, "node")]
				v := rapid.IntRange(0, 5).Draw(t, "value")
				for _, r := range write(t, x, []config.Request{
					set("weight", int64(v)), set("replicas", int64(v)), set("owner", fmt.Sprint(v)),
					{Kind: config.SetField, Entity: "service.a", Field: "tags", Add: []any{fmt.Sprint(v)}},
					{Kind: config.SetField, Entity: "service.b", Field: "weight", Env: "staging", Value: int64(v)},
				}[rapid.IntRange(0, 4).Draw(t, "what")]) {
					if r.Seq > 0 {
						acknowledged = append(acknowledged, r.Op.ID)
					}
				}
			},
			"sync": func(t *rapid.T) {
				x, y := n.nodes[some.Draw(t, "from")], n.nodes[some.Draw(t, "to")]
				if x == y {
					return
				}
				n.trouble = func() string {
					return rapid.SampledFrom([]string{"", "", "", "lost", "late", "twice", "answer lost"}).Draw(t, "trouble")
				}
				if err := x.replica.Sync(context.Background(), y.name); err != nil && !errors.Is(err, errParted) {
					t.Fatal(err)
				}
			},
			"part": func(t *rapid.T) {
				for _, x := range n.nodes {
					for _, y := range n.nodes {
						n.parted[[2]string{x.name, y.name}] = rapid.Bool().Draw(t, "parted")
					}
				}
			},
			"late": func(t *rapid.T) {
				if len(n.late) > 0 {
					i := rapid.IntRange(0, len(n.late)-1).Draw(t, "message")
					n.late[i]()
				}
			},
			"crash": func(t *rapid.T) {
				x := n.nodes[some.Draw(t, "node")]
				if rapid.Bool().Draw(t, "snapshot") {
					if err := x.doc.Snapshot(context.Background(), 1); err != nil {
						t.Fatal(err)
					}
				}
				n.start(t, x)
			},
			"time": func(*rapid.T) { n.now.Add((5 * time.Minute).Microseconds()) },
		})
		n.settle(t)
		want := snapshot(t, n.nodes[0].doc)
		for _, x := range n.nodes {
			if have := snapshot(t, x.doc); have != want {
				t.Fatalf("%s has\n%s\nwant\n%s", x.name, have, want)
			}
			for _, dot := range acknowledged {
				if !has(x.doc, dot) {
					t.Fatalf("%s lacks %s, which was acknowledged", x.name, dot)
				}
			}
			if s := x.replica.Status(); s.Aside != 0 || s.Refused != 0 || s.Forked != "" || len(s.Renamed) != 0 {
				t.Fatalf("%s: %+v", x.name, s)
			}
			if _, err := x.doc.Verify(context.Background(), func(*config.Op, uint64) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// What is too far ahead is put aside, counted, and taken when its time has come; what comes with it is taken at once.
func TestClockThatIsAhead(t *testing.T) {
	n := newNetwork(t, 0, time.Minute)
	write(t, n.nodes[0], config.Request{Kind: config.ChangeSchema, Text: schemaText}, set("weight", int64(1)))
	a, b := n.nodes[0], n.nodes[1]
	if err := b.replica.Sync(t.Context(), a.name); err != nil {
		t.Fatal(err)
	}
	dot := write(t, b, set("weight", int64(2)))[0].Op.ID
	if err := a.replica.Sync(t.Context(), b.name); err != nil {
		t.Fatal(err)
	}
	if s := a.replica.Status(); s.Aside != 1 || has(a.doc, dot) {
		t.Errorf("%+v, want one put aside", s)
	}
	n.now.Add(time.Minute.Microseconds())
	if err := a.replica.Retry(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := a.replica.Status(); s.Aside != 0 || s.Taken != 1 || !has(a.doc, dot) {
		t.Errorf("%+v, want it taken", s)
	}
}

// back puts a node's disk back to an earlier state.
func (n *network) back(t *testing.T, x *node, seq uint64) {
	t.Helper()
	log := newLog(t)
	var head oplog.Head
	err := x.log.Read(t.Context(), 1, int(seq), func(r oplog.Record) error {
		err := log.Append(t.Context(), head, []oplog.Record{r})
		head = oplog.Head{Seq: r.Seq, Hash: r.Hash}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.SetMeta(t.Context(), "node", []byte(x.doc.Node())); err != nil {
		t.Fatal(err)
	}
	x.log = log
	n.start(t, x)
}

// A copy that was put back to an earlier state takes a new name when it meets others, and gets back from them what it lost.
func TestPutBack(t *testing.T) {
	n := newNetwork(t, 0, 0)
	a, b := n.nodes[0], n.nodes[1]
	write(t, a, config.Request{Kind: config.ChangeSchema, Text: schemaText}, set("weight", int64(1)), set("weight", int64(2)))
	n.settle(t)
	name := a.doc.Node()
	n.back(t, a, 2)
	if err := a.replica.Sync(t.Context(), b.name); err != nil {
		t.Fatal(err)
	}
	write(t, a, set("weight", int64(3)))
	n.settle(t)
	if s := a.replica.Status(); a.doc.Node() == name || len(s.Renamed) != 1 || s.Renamed[0] != name || s.Taken != 1 {
		t.Errorf("it is called %s and has %+v", a.doc.Node(), s)
	}
	if x, y := snapshot(t, a.doc), snapshot(t, b.doc); x != y {
		t.Errorf("they have\n%s\n%s", x, y)
	}
}

// One that was put back and written to under its old name is found, and neither takes the other's operations.
func TestFork(t *testing.T) {
	n := newNetwork(t, 0, 0)
	a, b := n.nodes[0], n.nodes[1]
	write(t, a, config.Request{Kind: config.ChangeSchema, Text: schemaText}, set("weight", int64(1)), set("weight", int64(2)))
	n.settle(t)
	n.back(t, a, 2)
	write(t, a, set("weight", int64(3)), set("weight", int64(4)))
	for _, pair := range [][2]*node{{a, b}, {b, a}} {
		if err := pair[0].replica.Sync(t.Context(), pair[1].name); !errors.Is(err, errkind.Conflict) {
			t.Errorf("%s syncs with %s: %v, want a conflict", pair[0].name, pair[1].name, err)
		}
	}
	if s := b.replica.Status(); s.Forked != a.doc.Node() || s.Taken != 3 {
		t.Errorf("%+v", s)
	}
}

// What is no operation is counted, and does not keep others from coming in.
func TestRefused(t *testing.T) {
	n := newNetwork(t, 0, 0)
	a, b := n.nodes[0], n.nodes[1]
	write(t, a, config.Request{Kind: config.ChangeSchema, Text: schemaText})
	texts, err := a.doc.Missing(t.Context(), new(crdt.Dots), 10, 1<<20)
	if err != nil || len(texts) != 1 {
		t.Fatal(texts, err)
	}
	m := &replica.Message{Document: "shop", Node: "other", Ops: []json.RawMessage{json.RawMessage(`{"id":"x"}`), texts[0]}}
	if _, err := b.replica.Handle(t.Context(), m); err != nil || b.doc.Head().Seq != 1 || b.replica.Status().Refused != 1 {
		t.Errorf("%v, head %d, %+v", err, b.doc.Head().Seq, b.replica.Status())
	}
	if err := b.replica.Sync(t.Context(), b.name); !errors.Is(err, errkind.Conflict) || len(b.replica.Status().Renamed) > 0 {
		t.Errorf("a copy that is its own peer: %v", err)
	}
	m.Document = "fair"
	if _, err := b.replica.Handle(t.Context(), m); !errors.Is(err, errkind.Invalid) {
		t.Errorf("a message about another document: %v", err)
	}
}

// A write is at its peers as soon as they are reached, also after they were not.
func TestRun(t *testing.T) {
	n := newNetwork(t, 0, 0, 0)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, x := range n.nodes {
		wg.Go(func() {
			if err := x.replica.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	defer wg.Wait()
	defer stop()
	arrives := func(x *node, dot crdt.Dot) {
		err := x.doc.Watch(t.Context(), 0, func(e engine.Event) error {
			if e.Op.ID == dot {
				return errFound
			}
			return nil
		})
		if !errors.Is(err, errFound) {
			t.Fatal(err)
		}
	}
	schema := write(t, n.nodes[0], config.Request{Kind: config.ChangeSchema, Text: schemaText})[0].Op.ID
	arrives(n.nodes[1], schema)
	arrives(n.nodes[2], schema)
	for _, x := range n.nodes {
		dot := write(t, x, set("weight", int64(7)), set("owner", x.name))[1].Op.ID
		for _, y := range n.nodes {
			arrives(y, dot)
		}
	}
}

var errFound = errors.New("found")

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"document":"shop","node":"a","version":"a:1,b#3","ops":[{"id":"a#1"}],"marks":{"a#1":"hlc:1.0000"}}`))
	n := newNetwork(f, 0)
	write(f, n.nodes[0], config.Request{Kind: config.ChangeSchema, Text: schemaText})
	f.Fuzz(func(t *testing.T, data []byte) {
		var m replica.Message
		if json.Unmarshal(data, &m) != nil {
			return
		}
		if answer, err := n.nodes[0].replica.Handle(t.Context(), &m); err == nil && answer.Document != "shop" {
			t.Errorf("answer %+v", answer)
		}
	})
}
