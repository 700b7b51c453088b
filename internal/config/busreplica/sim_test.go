package busreplica_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/busreplica"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/replica"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

const (
	key        = "0123456789abcdef0123456789abcdef"
	schemaText = `
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
)

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// node is a copy and the disk that it is on.
type node struct {
	log     oplog.Log
	skew    time.Duration
	scope   string
	key     string
	doc     *engine.Document
	replica *replica.Replica
	link    *busreplica.Link
}

// network is nodes, and a bus between them that does what it likes.
type network struct {
	now     atomic.Int64 // microseconds
	nodes   []*node
	parted  map[[2]*node]bool
	trouble func() string // what happens to the next message
	late    []func()
}

func newNetwork(t fataler, skews ...time.Duration) *network {
	t.Helper()
	n := &network{parted: map[[2]*node]bool{}, trouble: func() string { return "" }}
	n.now.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro())
	for _, skew := range skews {
		n.add(t, &node{log: newLog(t), skew: skew, key: key})
	}
	return n
}

func (n *network) add(t fataler, x *node) *node {
	t.Helper()
	n.nodes = append(n.nodes, x)
	n.start(t, x, "")
	return x
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
func (n *network) start(t fataler, x *node, name string) {
	t.Helper()
	now := func() time.Time { return time.UnixMicro(n.now.Add(1)).Add(x.skew) }
	var err error
	if x.doc, err = engine.Open(context.Background(), "shop", x.log, engine.Options{Now: now, Node: name}); err != nil {
		t.Fatal(err)
	}
	x.replica = replica.New(x.doc, nil, nil, replica.Options{MaxWait: 1}) // one that fails is tried again at once
	opts := busreplica.Options{Scope: x.scope, Now: now, Logger: slog.New(slog.DiscardHandler)}
	if x.link, err = busreplica.NewOn(port{n, x}, x.doc, x.replica, x.key, opts); err != nil {
		t.Fatal(err)
	}
}

// port is what a node sees of the bus.
type port struct {
	*network
	from *node
}

var errLost = fmt.Errorf("no answer: %w", errkind.Unavailable)

// Publish brings a message to all who listen, also to who says it, and does to it what the bus does.
func (p port) Publish(subject string, data []byte) error {
	for _, x := range p.nodes {
		if x.link == nil || x.link.NewsSubject() != subject || p.parted[[2]*node{p.from, x}] {
			continue
		}
		deliver := func() { x.link.Hear(context.Background(), data) }
		switch p.trouble() {
		case "lost", "answer lost":
		case "late":
			p.late = append(p.late, deliver)
		case "twice":
			deliver()
			deliver()
		default:
			deliver()
		}
	}
	return nil
}

// Ask asks one.
func (p port) Ask(ctx context.Context, subject string, data []byte) ([]byte, error) {
	for _, x := range p.nodes {
		if x.link.AskSubject() != subject || p.parted[[2]*node{p.from, x}] {
			continue
		}
		switch p.trouble() {
		case "lost":
			return nil, errLost
		case "late":
			p.late = append(p.late, func() {
				if x.link.AskSubject() == subject { // and has not started again
					x.link.Answer(context.Background(), data)
				}
			})
			return nil, errLost
		case "answer lost":
			x.link.Answer(ctx, data)
			return nil, errLost
		case "twice":
			defer x.link.Answer(ctx, data)
		}
		if answer := x.link.Answer(ctx, data); answer != nil {
			return answer, nil
		}
		return nil, errLost
	}
	return nil, errLost
}

// write has a node do something, which it tells the others of.
func write(t fataler, x *node, requests ...config.Request) []engine.Result {
	t.Helper()
	results, err := x.doc.Submit(context.Background(), engine.Batch{Actor: config.Actor{ID: "alice"}, Requests: requests})
	if err != nil {
		t.Fatal(err)
	}
	var texts []json.RawMessage
	for _, r := range results {
		if r.Seq > 0 {
			text, err := r.Op.Encode()
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, text)
		}
	}
	if len(texts) > 0 {
		x.link.Say(texts...)
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

// settle has the nodes greet each other until nobody hears of a difference, with nothing between them and the time that it takes for all clocks to agree.
func (n *network) settle(t fataler) {
	t.Helper()
	n.parted, n.trouble = map[[2]*node]bool{}, func() string { return "" }
	for _, f := range n.late {
		f()
	}
	n.late = nil
	n.now.Add(time.Hour.Microseconds())
	for range 10 {
		found := 0
		for _, x := range n.nodes {
			if err := x.replica.Retry(context.Background()); err != nil {
				t.Fatal(err)
			}
			x.link.Greet(context.Background())
			for _, y := range n.nodes {
				found += y.link.CompareDue(context.Background())
			}
		}
		if found == 0 {
			return
		}
	}
	t.Fatal("they go on comparing without an end")
}

// Five copies on a bus that loses, doubles, delays and reorders messages and parts them, which crash and start again, and whose clocks differ: all take
// every write, all end up equal, and nothing that was acknowledged is lost.
func TestConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := newNetwork(t, 0, 0, time.Minute, -time.Minute, 200*time.Millisecond)
		write(t, n.nodes[0], config.Request{Kind: config.ChangeSchema, Text: schemaText})
		n.settle(t)
		var acknowledged []crdt.Dot
		some := rapid.IntRange(0, len(n.nodes)-1)
		trouble := func(t *rapid.T) {
			n.trouble = func() string {
				return rapid.SampledFrom([]string{"", "", "", "lost", "late", "twice", "answer lost"}).Draw(t, "trouble")
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				trouble(t)
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
			"greet": func(t *rapid.T) {
				trouble(t)
				n.nodes[some.Draw(t, "node")].link.Greet(context.Background())
			},
			"compare": func(t *rapid.T) {
				trouble(t)
				n.nodes[some.Draw(t, "node")].link.CompareDue(context.Background())
			},
			"part": func(t *rapid.T) {
				for _, x := range n.nodes {
					for _, y := range n.nodes {
						n.parted[[2]*node{x, y}] = rapid.Bool().Draw(t, "parted")
					}
				}
			},
			"late": func(t *rapid.T) {
				if len(n.late) > 0 {
					n.late[rapid.IntRange(0, len(n.late)-1).Draw(t, "message")]()
				}
			},
			"crash": func(t *rapid.T) {
				x := n.nodes[some.Draw(t, "node")]
				if rapid.Bool().Draw(t, "snapshot") {
					if err := x.doc.Snapshot(context.Background(), 1); err != nil {
						t.Fatal(err)
					}
				}
				n.start(t, x, "")
			},
			"time": func(t *rapid.T) { n.now.Add(time.Minute.Microseconds()) },
		})
		n.settle(t)
		want := snapshot(t, n.nodes[0].doc)
		for i, x := range n.nodes {
			if have := snapshot(t, x.doc); have != want {
				t.Fatalf("%d has\n%s\nwant\n%s", i, have, want)
			}
			for _, dot := range acknowledged {
				if !has(x.doc, dot) {
					t.Fatalf("%d lacks %s, which was acknowledged", i, dot)
				}
			}
			if s := x.replica.Status(); s.Aside != 0 || s.Refused != 0 || s.Forked != "" || len(s.Renamed) != 0 {
				t.Fatalf("%d: %+v", i, s)
			}
			if s := x.link.Status(); s.Strange != 0 || len(s.Copies) != len(n.nodes)-1 {
				t.Fatalf("%d: %+v", i, s)
			}
			if _, err := x.doc.Verify(context.Background(), func(*config.Op, uint64) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// What is told comes without a question, and a gap is asked for.
func TestTold(t *testing.T) {
	n := newNetwork(t, 0, 0)
	a, b := n.nodes[0], n.nodes[1]
	write(t, a, config.Request{Kind: config.ChangeSchema, Text: schemaText})
	if b.doc.Head().Seq != 1 || b.link.CompareDue(t.Context()) != 0 {
		t.Fatalf("the first operation is not there, or the copies compare")
	}
	n.trouble = func() string { return "lost" }
	write(t, a, set("weight", int64(1)))
	n.trouble = func() string { return "" }
	write(t, a, set("weight", int64(2)))
	if b.doc.Head().Seq != 2 || b.link.CompareDue(t.Context()) != 1 || b.doc.Head().Seq != 3 {
		t.Errorf("the gap is not closed: %d operations", b.doc.Head().Seq)
	}
}

// One that was away for long gets all that it missed, page by page, also an operation that is larger than a message of the bus.
func TestAwayForLong(t *testing.T) {
	n := newNetwork(t, 0, 0)
	a, b := n.nodes[0], n.nodes[1]
	n.parted[[2]*node{a, b}], n.parted[[2]*node{b, a}] = true, true
	write(t, a, config.Request{Kind: config.ChangeSchema, Text: schemaText})
	for i := range 1300 {
		write(t, a, config.Request{Kind: config.SetField, Entity: fmt.Sprintf("service.s%d", i%50), Field: "weight", Value: int64(i)})
	}
	var tags []any
	for i := range 9000 {
		tags = append(tags, fmt.Sprintf("%060d", i))
	}
	large := write(t, a, config.Request{Kind: config.SetField, Entity: "service.a", Field: "tags", Add: tags})[0].Op
	if text, err := large.Encode(); err != nil || len(text) < 512<<10 {
		t.Fatalf("the operation has %d bytes, %v", len(text), err)
	}
	n.settle(t)
	if x, y := snapshot(t, a.doc), snapshot(t, b.doc); x != y || !has(b.doc, large.ID) {
		t.Errorf("b has %d operations, a %d", b.doc.Head().Seq, a.doc.Head().Seq)
	}
}

// A copy of the folder that somebody started has the same name: the one that hears of operations of its name which it has not takes another.
func TestTwoOfOneName(t *testing.T) {
	n := newNetwork(t, 0)
	a := n.nodes[0]
	write(t, a, config.Request{Kind: config.ChangeSchema, Text: schemaText}, set("weight", int64(1)))
	b := &node{log: newLog(t), key: key}
	if err := a.log.Read(t.Context(), 1, 2, func(r oplog.Record) error {
		head := oplog.Head{}
		if r.Seq > 1 {
			var err error
			if head, err = b.log.Head(t.Context()); err != nil {
				return err
			}
		}
		return b.log.Append(t.Context(), head, []oplog.Record{r})
	}); err != nil {
		t.Fatal(err)
	}
	if err := b.log.SetMeta(t.Context(), "node", []byte(a.doc.Node())); err != nil {
		t.Fatal(err)
	}
	n.add(t, b)
	name := a.doc.Node()
	if b.doc.Node() != name {
		t.Fatal("they have different names")
	}
	n.settle(t)
	if b.doc.Node() != name || a.doc.Node() != name {
		t.Fatal("one takes another name, and has all that the other one has: they may have one log")
	}
	write(t, a, set("weight", int64(2)))
	if b.doc.Node() == name || len(b.replica.Status().Renamed) != 1 {
		t.Fatal("the one that lacks an operation of its own name keeps it")
	}
	write(t, b, set("weight", int64(3)))
	n.settle(t)
	if x, y := snapshot(t, a.doc), snapshot(t, b.doc); x != y || a.doc.Node() != name || a.doc.Head().Seq != 4 {
		t.Errorf("they have\n%s\n%s", x, y)
	}
}

// If both wrote before they heard each other, there are two histories of one name, and nothing is exchanged.
func TestForkIsFound(t *testing.T) {
	n := newNetwork(t, 0)
	a := n.nodes[0]
	name := a.doc.Node()
	b := &node{log: newLog(t), key: key}
	if err := b.log.SetMeta(t.Context(), "node", []byte(name)); err != nil {
		t.Fatal(err)
	}
	n.add(t, b)
	n.trouble = func() string { return "lost" }
	write(t, a, config.Request{Kind: config.ChangeSchema, Text: schemaText})
	write(t, b, config.Request{Kind: config.ChangeSchema, Text: schemaText})
	n.settle(t)
	for _, x := range n.nodes {
		if s := x.replica.Status(); s.Forked != name || x.doc.Head().Seq != 1 {
			t.Errorf("%+v", s)
		}
	}
}

// What was not sealed with the key, for this document and this purpose, is not looked at; nor is what has come before, or is old.
func TestStrangers(t *testing.T) {
	n := newNetwork(t, 0, 0)
	a, b := n.nodes[0], n.nodes[1]
	mallory := n.add(t, &node{log: newLog(t), key: "another key that is long enough to be one"})
	tenant := n.add(t, &node{log: newLog(t), key: key, scope: "acme"})
	write(t, a, config.Request{Kind: config.ChangeSchema, Text: schemaText})
	n.settle(t)
	if mallory.doc.Head().Seq != 0 || tenant.doc.Head().Seq != 0 || b.doc.Head().Seq != 1 {
		t.Errorf("they have %d, %d and %d operations", mallory.doc.Head().Seq, tenant.doc.Head().Seq, b.doc.Head().Seq)
	}
	if s := mallory.link.Status(); s.Strange == 0 || len(s.Copies) != 0 {
		t.Errorf("who has another key has %+v", s)
	}
	if s := tenant.link.Status(); s.Strange != 0 || len(s.Copies) != 0 {
		t.Errorf("a document of the same name and another tenant has %+v", s)
	}
	news, question := b.link.Seal([]byte(`{"self":"x","notice":{"document":"shop","node":"x"},"message":{"document":"shop","node":"x","version":""}}`))
	foreign, _ := tenant.link.Seal([]byte(`{"self":"x","notice":{"document":"shop","node":"x"}}`))
	for _, tt := range []struct {
		name   string
		frame  []byte
		count  func(s busreplica.Status) uint64
		before func()
	}{
		{"no frame", nil, func(s busreplica.Status) uint64 { return s.Strange }, nil},
		{"a question as news", question, func(s busreplica.Status) uint64 { return s.Strange }, nil},
		{"of another tenant's document", foreign, func(s busreplica.Status) uint64 { return s.Strange }, nil},
		{"a changed byte", append([]byte{1, news[1] ^ 1}, news[2:]...), func(s busreplica.Status) uint64 { return s.Strange }, nil},
		{"another version", append([]byte{2}, news[1:]...), func(s busreplica.Status) uint64 { return s.Strange }, nil},
		{"the second time", news, func(s busreplica.Status) uint64 { return s.Again }, func() { b.link.Hear(context.Background(), news) }},
		{"later", news, func(s busreplica.Status) uint64 { return s.Clock }, func() { n.now.Add((6 * time.Minute).Microseconds()) }},
	} {
		if tt.before != nil {
			tt.before()
		}
		was := tt.count(b.link.Status())
		b.link.Hear(t.Context(), tt.frame)
		if now := tt.count(b.link.Status()); now != was+1 {
			t.Errorf("%s: counted %d times", tt.name, now-was)
		}
	}
	if answer := b.link.Answer(t.Context(), news); answer != nil {
		t.Error("news is answered")
	}
	n.now.Store(n.now.Load() - (6 * time.Minute).Microseconds())
	if answer := b.link.Answer(t.Context(), question); answer == nil {
		t.Error("a question is not answered")
	}
	if answer := b.link.Answer(t.Context(), question); answer != nil {
		t.Error("a question is answered twice")
	}
}

func TestBadKeys(t *testing.T) {
	n := newNetwork(t, 0)
	for _, k := range []string{"", "short"} {
		if _, err := busreplica.NewOn(port{n, nil}, n.nodes[0].doc, n.nodes[0].replica, k, busreplica.Options{}); !errors.Is(err, errkind.Invalid) {
			t.Errorf("key %q: %v", k, err)
		}
	}
	if _, err := busreplica.NewOn(port{n, nil}, n.nodes[0].doc, n.nodes[0].replica, key, busreplica.Options{Scope: fmt.Sprintf("%0300d", 1)}); !errors.Is(err, errkind.TooLarge) {
		t.Errorf("a long scope: %v", err)
	}
}
