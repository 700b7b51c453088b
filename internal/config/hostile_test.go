package config_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/crdt"
)

// What can be done to fields of each strategy.
var (
	verbsOne  = []config.Verb{config.Put}
	verbsTwo  = []config.Verb{config.Put, config.Override}
	verbsSet  = []config.Verb{config.Put, config.Add, config.Add, config.Remove, config.Remove, config.Note}
	verbsGrow = []config.Verb{config.Add, config.Add, config.Override, config.Note}
	verbsMap  = []config.Verb{config.Put, config.Put, config.Note}
	verbsSize = []config.Verb{config.Put, config.Override, config.Note}
)

// hostile makes an operation that no node would: its writes name what they like, of what there is, and of what is to come.
func hostile(t *rapid.T, id, gen crdt.Dot) *config.Op {
	dot := rapid.Custom(func(t *rapid.T) crdt.Dot {
		return crdt.Dot{Node: rapid.SampledFrom([]string{"e", "e", "f", "n0"}).Draw(t, "node"), Seq: rapid.Uint64Range(1, 5).Draw(t, "seq")}
	})
	values := rapid.SampledFrom([]any{nil, nil, int64(1), int64(5), 2.5, "x", "y", "30s", "1m", true, list("x"), list("x", "y"), list(), dict{"k": "1"}, dict{}, "route.b"})
	names := rapid.SampledFrom([]string{"route.a", "route.a", "route.b", "pool.x"})
	op := &config.Op{ID: id, Time: crdt.HLC(rapid.Uint64Range(1, 6).Draw(t, "time")), Actor: config.Actor{ID: "eve"}}
	for range rapid.IntRange(1, 5).Draw(t, "writes") {
		w := config.Write{
			Entity: names.Draw(t, "entity"),
			Inc:    rapid.SampledFrom([]uint32{1, 1, 1, 2, 3, 4}).Draw(t, "inc"),
			Env:    rapid.SampledFrom([]string{"", "", "staging", "production", "none"}).Draw(t, "env"),
			Gen:    gen,
			Value:  values.Draw(t, "value"),
		}
		switch rapid.IntRange(0, 9).Draw(t, "of an entity") {
		case 0:
			w.Do = config.Life
		case 1:
			w.Do = config.Move
			w.Parent = rapid.SampledFrom([]string{"", "route.a", "route.b", "pool.x", "no"}).Draw(t, "parent")
			w.Position = rapid.SampledFrom([]string{"", "V", "W"}).Draw(t, "position")
		default:
			w.Inc |= 1
		}
		field := rapid.SampledFrom([]struct {
			name  string
			merge schema.Merge
			verbs []config.Verb
		}{
			{"path", schema.LWW, verbsOne},
			{"weight", schema.Max, verbsTwo},
			{"timeout", schema.Min, verbsTwo},
			{"tags", schema.Set, verbsSet},
			{"tags", schema.Set, verbsSet},
			{"more", schema.Set, verbsSet},
			{"owners", schema.Grow, verbsGrow},
			{"plan", schema.Review, verbsOne},
			{"quota", schema.Review, verbsOne},
			{"labels", schema.PerKey, verbsMap},
			{"env_vars", schema.PerKey, verbsMap},
			{"caps", "map:max", verbsSize},
			{"floors", "map:min", verbsSize},
			{"note", schema.LWW, verbsOne},
			{"tags", schema.LWW, verbsOne},
		}).Draw(t, "field")
		w.Field, w.Merge = field.name, field.merge
		if w.Do == "" {
			w.Do = rapid.SampledFrom(field.verbs).Draw(t, "do")
		}
		if w.Do == config.Put && len(field.verbs) > 1 && w.Value == nil && w.Merge != schema.Set && w.Merge != schema.PerKey {
			w.Value = int64(3) // nil is refused
		}
		w.Key = rapid.SampledFrom([]string{"", "k", "l"}).Draw(t, "key")
		w.Reviewed = rapid.IntRange(0, 3).Draw(t, "reviewed") == 0
		if rapid.Bool().Draw(t, "has epoch") {
			w.Epoch = dot.Draw(t, "epoch")
		}
		for range rapid.IntRange(0, 3).Draw(t, "seen") {
			w.Seen = append(w.Seen, crdt.Tag{Dot: dot.Draw(t, "tag"), N: rapid.Uint32Range(0, 2).Draw(t, "n")})
		}
		if rapid.IntRange(0, 9).Draw(t, "other gen") == 0 {
			w.Gen = dot.Draw(t, "gen")
		}
		op.Writes = append(op.Writes, w)
	}
	return op
}

// Operations that were made to part the copies do not: whatever they name, in whatever order they come, live or from a snapshot on the way.
func TestHostileOperationsDoNotPartTheCopies(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		root := newReplica("n0", 0)
		first := root.do(&config.Request{Kind: config.ChangeSchema, Text: everyStrategy}, "root", 1)
		ops := []*config.Op{first}
		for i := range rapid.IntRange(1, 10).Draw(rt, "operations") {
			op := hostile(rt, crdt.Dot{Node: []string{"e", "f"}[i%2], Seq: uint64(i/2) + 1}, first.ID) //nolint:gosec // small
			text, err := op.Encode()
			if err != nil {
				rt.Fatal(err)
			}
			if op, err = config.DecodeOp(text); err != nil {
				rt.Fatal(err)
			}
			ops = append(ops, op)
		}
		want := ""
		for range 4 {
			s := config.NewState()
			order := rapid.Permutation(ops).Draw(rt, "order")
			restart := rapid.IntRange(0, len(order)).Draw(rt, "restart")
			for i, op := range order {
				if i == restart {
					text, err := s.Snapshot()
					if err != nil {
						rt.Fatal(err)
					}
					if s, err = config.RestoreState(text); err != nil {
						rt.Fatal(err)
					}
				}
				s.Apply(op)
				s.Apply(op)
			}
			got := ask(t, s)
			if want == "" {
				want = got
			}
			if got != want {
				rt.Fatalf("in one order:\n%s\nin another:\n%s", want, got)
			}
		}
	})
}
