package config_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/crdt"
)

// doc is a node's copy of a document, for tests that tell a story.
type doc struct {
	*replica
	t   *testing.T
	now crdt.HLC
}

// newDoc returns a copy with a schema; further nodes are made from it by fork.
func newDoc(t *testing.T, schema string) *doc {
	t.Helper()
	d := &doc{newReplica("a", 0), t, 1000}
	d.do(&config.Request{Kind: config.ChangeSchema, Text: schema})
	return d
}

// fork returns another node with all that this one has.
func (d *doc) fork(node string) *doc {
	d.t.Helper()
	f := &doc{newReplica(node, 0), d.t, d.now}
	f.meet(d)
	return f
}

// meet takes all that another node has, and gives it all of the own.
func (d *doc) meet(other *doc) {
	d.t.Helper()
	mine := slices.Clone(d.has)
	for _, op := range other.has {
		if !d.state.Has(op.ID) {
			d.take(op)
		}
	}
	for _, op := range mine {
		if !other.state.Has(op.ID) {
			other.take(op)
		}
	}
	d.now = max(d.now, other.now)
	other.now = d.now
	if d.snapshot() != other.snapshot() || shown(d.state) != shown(other.state) {
		d.t.Fatalf("after they met, %s has\n%s\nand %s has\n%s", d.name, shown(d.state), other.name, shown(other.state))
	}
}

// do carries a request out, as alice.
func (d *doc) do(q *config.Request) *config.Op {
	d.t.Helper()
	d.now++
	d.state.Settle()
	op, err := d.state.Plan(q, crdt.Dot{Node: d.name, Seq: d.seq + 1})
	if err != nil {
		d.t.Fatalf("%+v: %v", q, err)
	}
	d.seq++
	op.Time, op.Actor = d.now, config.Actor{ID: "alice", Class: config.Human}
	return d.take(op)
}

// refuse expects an error of a kind.
func (d *doc) refuse(q *config.Request, kind error) {
	d.t.Helper()
	if op, err := d.state.Plan(q, crdt.Dot{Node: d.name, Seq: d.seq + 1}); !errors.Is(err, kind) {
		d.t.Fatalf("%+v: %+v, %v, want %v", q, op, err, kind)
	}
}

// set writes route.a's field in an environment.
func (d *doc) set(field, env string, v any) *config.Op {
	d.t.Helper()
	return d.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: field, Env: env, Value: v})
}

func (d *doc) change(field, env string, add, remove []any) *config.Op {
	d.t.Helper()
	return d.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: field, Env: env, Add: add, Remove: remove})
}

func (d *doc) key(field, env, key string, v any) *config.Op {
	d.t.Helper()
	return d.do(&config.Request{Kind: config.SetField, Entity: "route.a", Field: field, Env: env, Key: key, Value: v})
}

func (d *doc) get(field, env string) config.Resolved {
	d.t.Helper()
	r, err := d.state.Get("route.a", field, env)
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// want expects a value of route.a's field.
func (d *doc) want(field, env string, v any) {
	d.t.Helper()
	if got := d.get(field, env).Value; fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", v) {
		d.t.Fatalf("%s: route.a.%s@%s is %#v, want %#v", d.name, field, env, got, v)
	}
}

// open expects that so many conflicts wait.
func (d *doc) open(n int) {
	d.t.Helper()
	if c := d.state.Conflicts(); len(c) != n {
		d.t.Fatalf("%s: %d conflicts, want %d: %+v", d.name, len(c), n, c)
	}
}

// by returns the operations that made a field's value, in the order of its elements or keys.
func (d *doc) by(field, env string) (list []string) {
	d.t.Helper()
	for _, e := range d.get(field, env).By {
		list = append(list, e.Dot.String())
	}
	return list
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func list(elems ...string) []any {
	l := make([]any, len(elems))
	for i, e := range elems {
		l[i] = e
	}
	return l
}

type dict = map[string]any
