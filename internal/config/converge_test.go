package config_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/crdt"
)

// everyStrategy is a schema with a field of each strategy, and a base with two environments above it.
const everyStrategy = `
name = "every"
version = "1.0.0"

[environments]
base = "production"
overlays = [
    { name = "staging", inherits = "production" },
    { name = "development", inherits = "staging" },
]

[entity.pool]
fields = [
    { name = "size", type = "int", merge = "lww" },
]
children = ["route", "pool"]

[entity.route]
fields = [
    { name = "path",     type = "string",        merge = "lww" },
    { name = "weight",   type = "int",           merge = "max" },
    { name = "timeout",  type = "duration",      merge = "min" },
    { name = "share",    type = "float",         merge = "max", conflict = "review" },
    { name = "tags",     type = "list<string>",  merge = "set" },
    { name = "more",     type = "list<string>",  merge = "set", overlay = "merge" },
    { name = "ports",    type = "list<int>",     merge = "set", order = "insertion" },
    { name = "owners",   type = "list<string>",  merge = "grow" },
    { name = "plan",     type = "string",        merge = "review" },
    { name = "quota",    type = "int",           merge = "review", on_conflict = "hold" },
    { name = "labels",   type = "map<string>",   merge = "lww" },
    { name = "env_vars", type = "map<string>",   merge = "lww", overlay = "merge" },
    { name = "hosts",    type = "list<string>",  merge = "lww" },
    { name = "pool",     type = "ref<pool>",     merge = "lww" },
    { name = "note",     type = "string",        merge = "lww", conflict = "review" },
    { name = "watched",  type = "list<string>",  merge = "set", conflict = "review", blind = "conflict", order = "insertion" },
    { name = "checked",  type = "map<string>",   merge = "lww", conflict = "review", overlay = "merge" },
    { name = "caps",     type = "map<int>",      values_merge = "max" },
    { name = "floors",   type = "map<int>",      values_merge = "min", overlay = "merge" },
    { name = "shared",   type = "list<string>",  merge = "grow", overlay = "merge" },
]
`

// otherStrategies is the same with types and strategies changed.
const otherStrategies = `
name = "every"
version = "2.0.0"

[environments]
base = "production"
overlays = [
    { name = "staging", inherits = "production" },
]

[entity.pool]
fields = [
    { name = "size", type = "int", merge = "max" },
]
children = ["route", "pool"]

[entity.route]
fields = [
    { name = "path",     type = "string",        merge = "review" },
    { name = "weight",   type = "int",           merge = "lww" },
    { name = "timeout",  type = "duration",      merge = "max" },
    { name = "tags",     type = "list<string>",  merge = "grow" },
    { name = "owners",   type = "list<string>",  merge = "set" },
    { name = "plan",     type = "string",        merge = "review" },
    { name = "labels",   type = "map<string>",   merge = "lww" },
    { name = "hosts",    type = "list<string>",  merge = "set" },
]
`

// replica is one copy of a document with what it needs to take part.
type replica struct {
	name  string
	skew  crdt.HLC
	clock crdt.HLC
	seq   uint64
	state *config.State
	has   []*config.Op // in the order of their coming
}

func newReplica(name string, skew crdt.HLC) *replica {
	return &replica{name: name, skew: skew, state: config.NewState()}
}

// do plans a request and applies it; nil if the request is refused.
func (r *replica) do(q *config.Request, actor string, now crdt.HLC) *config.Op {
	r.state.Settle()
	draft := r.state.Draft()
	op, err := draft.Plan(q, crdt.Dot{Node: r.name, Seq: r.seq + 1})
	if err != nil {
		return nil
	}
	r.seq++
	r.clock = max(r.clock+1, now+r.skew)
	op.Time, op.Actor = r.clock, config.Actor{ID: actor, Class: config.Human}
	if r.seq%8 != 0 {
		return r.take(op)
	}
	before := shown(r.state)
	draft.Apply(op)
	if after := shown(r.state); after != before {
		panic(fmt.Sprintf("a draft changed what it was made from:\n%s\n%s", before, after))
	}
	op = r.take(op)
	if a, b := shown(draft), shown(r.state); a != b {
		panic(fmt.Sprintf("the draft has\n%s\nand the state\n%s", a, b))
	}
	return op
}

// take applies an operation as it comes from the wire.
func (r *replica) take(op *config.Op) *config.Op {
	if r.state.Has(op.ID) {
		if r.state.Apply(op) {
			panic("an operation counts twice")
		}
		return op
	}
	text, err := op.Encode()
	if err != nil {
		panic(err)
	}
	if op, err = config.DecodeOp(text); err != nil {
		panic(err)
	}
	r.state.Apply(op)
	r.clock = max(r.clock, op.Time)
	r.has = append(r.has, op)
	return op
}

// shown is all that a state says.
func shown(s *config.State) string {
	var text strings.Builder
	for _, name := range s.Entities("") {
		parent, position := s.Place(name)
		fmt.Fprintln(&text, name, parent, position)
		for _, env := range s.Schema().Environments {
			fields, err := s.Entity(name, env.Name)
			fmt.Fprintln(&text, env.Name, config.Values(fields), err)
		}
	}
	for _, c := range s.Conflicts() {
		fmt.Fprintln(&text, c.Entity, c.Field, c.Env, len(c.Writes))
	}
	for _, v := range s.Violations() {
		fmt.Fprintln(&text, v.ID, v.Message)
	}
	return text.String()
}

func (r *replica) snapshot() string {
	text, err := r.state.Snapshot()
	if err != nil {
		panic(err)
	}
	return string(text)
}

// draw is where random choices come from: rapid in the short form, a seeded generator in the long one.
type draw func(n int) int

func (d draw) of(list ...string) string { return list[d(len(list))] }

// request makes a request of any kind, over few names, so that they meet.
func (d draw) request(versions []crdt.Dots) *config.Request {
	q := &config.Request{Kind: config.SetField, Entity: "route." + d.of("a", "b", "c"), Env: d.of("", "", "staging", "development"), Override: d(6) == 0}
	if len(versions) > 0 && d(3) == 0 {
		q.Seen = &versions[d(len(versions))]
	}
	switch d(22) {
	case 20, 21:
		q.Kind, q.Entity = config.InsertEntity, "pool."+d.of("x", "y", "z")
		if d(2) == 0 {
			q.Kind, q.Parent = config.MoveEntity, "pool."+d.of("x", "y", "z")
		}
	case 0:
		q.Kind, q.Restore = config.InsertEntity, d(2) == 0
		if d(2) == 0 {
			q.Parent = "pool." + d.of("x", "y")
		}
	case 1:
		q.Kind, q.Cascade = config.RemoveEntity, true
	case 2:
		q.Kind, q.Entity, q.Parent = config.MoveEntity, d.of("route.a", "route.b", "pool.x", "pool.y", "pool.z"), "pool."+d.of("x", "y", "z")
	case 3:
		q.Kind, q.Entity, q.Fields = config.InsertEntity, "pool."+d.of("x", "y", "z"), map[string]any{"size": int64(d(5))}
	case 4:
		q.Kind, q.From, q.To = config.Promote, d.of("staging", "development"), d.of("production", "staging")
	case 5:
		q.Kind, q.Field, q.Value = config.Resolve, d.of("plan", "quota", "note", "share"), d.of("one", "two", "3")
	case 6:
		if d(10) == 0 {
			q.Kind, q.Text = config.ChangeSchema, d.of(everyStrategy, otherStrategies)
		}
		fallthrough
	default:
		d.field(q)
	}
	return q
}

func (d draw) field(q *config.Request) {
	q.Field = d.of("path", "weight", "timeout", "share", "tags", "more", "ports", "owners", "plan", "quota", "labels", "env_vars", "hosts", "pool", "note",
		"watched", "checked", "caps", "floors", "shared")
	elems := func() []any {
		list := []any{}
		for _, e := range []string{"p", "q", "r"} {
			if d(2) == 0 {
				list = append(list, e)
			}
		}
		return list
	}
	switch q.Field {
	case "weight", "quota":
		q.Value = int64(d(10))
	case "timeout":
		q.Value = fmt.Sprintf("%ds", d(10))
	case "share":
		q.Value = float64(d(8)) / 4
	case "ports":
		q.Value = []any{int64(d(4)), int64(d(4))}
	case "tags", "more", "owners", "hosts", "watched", "shared":
		q.Value = elems()
		if d(2) == 0 && q.Field != "hosts" {
			q.Value, q.Add, q.Remove = nil, elems(), elems()
		}
	case "caps", "floors":
		q.Value = map[string]any{"k": int64(d(4)), d.of("l", "m"): int64(d(4))}
		if d(2) == 0 {
			q.Key, q.Value = d.of("k", "l"), int64(d(4))
			if d(3) == 0 {
				q.Value = nil
			}
		}
	case "labels", "env_vars", "checked":
		q.Value = map[string]any{"k": d.of("1", "2"), d.of("l", "m"): d.of("1", "2")}
		if d(2) == 0 {
			q.Key, q.Value = d.of("k", "l"), d.of("1", "2")
			if d(3) == 0 {
				q.Value = nil
			}
		}
	case "pool":
		q.Value = "pool." + d.of("x", "y")
	default:
		q.Value = d.of("one", "two", "three")
	}
	if d(12) == 0 && q.Key == "" && q.Add == nil {
		q.Value = nil
	}
}

// history lets replicas write and exchange what they wrote, in any order, twice, and late; then all get all.
func history(d draw, steps int) (replicas []*replica, all []*config.Op) {
	for i := range 4 {
		replicas = append(replicas, newReplica(fmt.Sprintf("n%d", i), crdt.HLC(d(20)))) //nolint:gosec // small
	}
	all = append(all, replicas[0].do(&config.Request{Kind: config.ChangeSchema, Text: everyStrategy}, "root", 1000))
	var versions []crdt.Dots
	for _, r := range replicas[1:] {
		r.take(all[0])
	}
	for i := range steps {
		r := replicas[d(len(replicas))]
		if d(2) == 0 {
			r.take(all[d(len(all))])
			continue
		}
		if d(4) == 0 {
			versions = append(versions, r.state.Version())
		}
		q := d.request(versions)
		if open := r.state.Conflicts(); q.Kind == config.Resolve && len(open) > 0 {
			c := open[d(len(open))]
			q.Entity, q.Field, q.Env, q.Value = c.Entity, c.Field, c.Env, c.Writes[d(len(c.Writes))].Value
		}
		if op := r.do(q, "actor-"+d.of("a", "b", "c"), crdt.HLC(1000+i)); op != nil { //nolint:gosec // small
			all = append(all, op)
		}
	}
	for _, r := range replicas {
		rest := slices.Clone(all)
		for i := range rest {
			j := d(len(rest)-i) + i
			rest[i], rest[j] = rest[j], rest[i]
			r.take(rest[i])
		}
	}
	return replicas, all
}

// check holds the replicas of a history against each other and against a replay.
func check(t interface{ Fatalf(string, ...any) }, replicas []*replica, all []*config.Op) {
	want := replicas[0].snapshot()
	for _, r := range replicas[1:] {
		if got := r.snapshot(); got != want {
			t.Fatalf("replicas differ:\n%s\n%s", want, got)
		}
	}
	reversed := newReplica("r", 0)
	for _, op := range slices.Backward(all) {
		reversed.take(op)
	}
	if got := reversed.snapshot(); got != want {
		t.Fatalf("replayed backward:\n%s\nwant\n%s", got, want)
	}
	half := newReplica("h", 0)
	for _, op := range replicas[1].has[:len(replicas[1].has)/2] {
		half.take(op)
	}
	restored, err := config.RestoreState([]byte(half.snapshot()))
	if err != nil {
		t.Fatalf("RestoreState: %v", err)
	}
	half.state = restored
	for _, op := range all {
		half.take(op)
	}
	if got := half.snapshot(); got != want {
		t.Fatalf("from a snapshot and the rest:\n%s\nwant\n%s", got, want)
	}
	// What is asked of the state is a function of it alone: it is the same where it was asked after each step, only now, and of what was restored.
	if shown(half.state) != shown(replicas[0].state) || shown(reversed.state) != shown(replicas[0].state) {
		t.Fatalf("questions:\n%s\n%s\n%s", shown(replicas[0].state), shown(reversed.state), shown(half.state))
	}
}

// Copies that have the same operations have the same state: in any order, with repetitions, from a snapshot, with clocks that differ.
func TestConvergence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") })
		replicas, all := history(d, 60)
		check(t, replicas, all)
	})
}

// The same in as many runs as one likes: go test -run TestManyHistories -timeout 2h ./internal/config -histories 100000
func TestManyHistories(t *testing.T) {
	for seed := *first; seed < *first+*histories; seed++ {
		rng := rand.New(rand.NewPCG(uint64(seed), 1)) //nolint:gosec // no secret
		replicas, all := history(rng.IntN, 60)
		check(at{t, seed}, replicas, all)
	}
}

// at says in a failure which history it was.
type at struct {
	*testing.T
	seed int
}

func (a at) Fatalf(format string, args ...any) {
	a.Helper()
	a.T.Fatalf("history %d: "+format, append([]any{a.seed}, args...)...)
}
