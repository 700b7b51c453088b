package milestone_test

import (
	"context"
	"encoding/json"
	"iter"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
)

// everySchema has a field of each strategy, and a base with two environments above it.
const everySchema = `
name = "every"
version = "1.0.0"

[environments]
base = "production"
overlays = [
    { name = "staging", inherits = "production" },
    { name = "development", inherits = "staging" },
]

[entity.pool]
fields = [{ name = "size", type = "int", merge = "lww" }]
children = ["route", "pool"]

[entity.route]
fields = [
    { name = "path",    type = "string",        merge = "lww" },
    { name = "weight",  type = "int",           merge = "max" },
    { name = "timeout", type = "duration",      merge = "min" },
    { name = "tags",    type = "list<string>",  merge = "set" },
    { name = "owners",  type = "list<string>",  merge = "grow" },
    { name = "plan",    type = "string",        merge = "review" },
    { name = "labels",  type = "map<string>",   merge = "lww" },
    { name = "hosts",   type = "list<string>",  merge = "lww" },
    { name = "pool",    type = "ref<pool>",     merge = "lww" },
]
`

// doc is a document of one node, with its log.
type doc struct {
	t     interface{ Fatal(...any) }
	state *config.State
	log   []*config.Op
	at    crdt.HLC
}

func newDoc(tb testing.TB, schema string) *doc {
	tb.Helper()
	d := &doc{t: tb, state: config.NewState(), at: 1_700_000_000_000_000}
	d.must("root", &config.Request{Kind: config.ChangeSchema, Text: schema})
	return d
}

// do plans and applies a request at d.at, which it moves on.
func (d *doc) do(actor string, class config.Class, q *config.Request) (*config.Op, error) {
	d.state.Settle()
	op, err := d.state.Plan(q, crdt.Dot{Node: "n0", Seq: uint64(len(d.log) + 1)})
	if err != nil {
		return nil, err
	}
	op.Time, op.Actor = d.at, config.Actor{ID: actor, Class: class}
	d.at++
	d.state.Apply(op)
	d.log = append(d.log, op)
	return op, nil
}

func (d *doc) must(actor string, q *config.Request) *config.Op {
	op, err := d.do(actor, config.Human, q)
	if err != nil {
		d.t.Fatal(err)
	}
	return op
}

func (d *doc) set(actor, entity, field string, v any) *config.Op {
	return d.must(actor, &config.Request{Kind: config.SetField, Entity: entity, Field: field, Value: v})
}

// since returns the log from behind a version.
func (d *doc) since(v *crdt.Dots) iter.Seq2[*config.Op, error] { return sinceOf(d.log)(v) }

func sinceOf(ops []*config.Op) milestone.Since {
	return func(v *crdt.Dots) iter.Seq2[*config.Op, error] {
		return func(yield func(*config.Op, error) bool) {
			for _, op := range ops {
				if !v.Has(op.ID) && !yield(op, nil) {
					return
				}
			}
		}
	}
}

// message tells what came after a version.
func (d *doc) message(before crdt.Dots) *milestone.Message {
	var ops milestone.Ops
	for op := range d.since(&before) {
		ops.Add(op)
	}
	m := &milestone.Message{LogHead: "sha256:00ff", Schema: d.state.Schema().Version, Version: d.state.Version()}
	ops.Tell(m)
	return m
}

func hlc(t *testing.T, text string) crdt.HLC {
	t.Helper()
	h, err := crdt.ParseHLC(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func version(t interface{ Fatal(...any) }, text string) crdt.Dots {
	v, err := crdt.ParseDots(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// jsonFormat writes canonical JSON, one line for each entity.
type jsonFormat struct{}

func (jsonFormat) ID() string        { return "json" }
func (jsonFormat) Extension() string { return "json" }

func (jsonFormat) Marshal(_ context.Context, v any) ([]byte, error) {
	return json.MarshalIndent(json.RawMessage(value.Encode(v)), "", "  ")
}

func readJSON(_ context.Context, _, _ string, data []byte) (any, error) { return value.Decode(data) }
