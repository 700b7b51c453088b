package config_test

import (
	"slices"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// seeds returns the texts of operations of every kind.
func seeds() [][]byte {
	rng := uint64(1)
	d := draw(func(n int) int {
		rng = rng*6364136223846793005 + 1442695040888963407
		return int(rng>>33) % n //nolint:gosec // below 2^31
	})
	_, all := history(d, 40)
	texts := make([][]byte, len(all))
	for i, op := range all {
		text, err := op.Encode()
		if err != nil {
			panic(err)
		}
		texts[i] = text
	}
	return texts
}

// ask asks a state everything.
func ask(t *testing.T, s *config.State) string {
	t.Helper()
	s.Settle()
	text := shown(s)
	for _, name := range s.Entities("") {
		for _, q := range []*config.Request{
			{Kind: config.RemoveEntity, Entity: name, Cascade: true},
			{Kind: config.MoveEntity, Entity: name},
			{Kind: config.SetField, Entity: name, Field: "tags", Value: []any{"x"}},
			{Kind: config.SetField, Entity: name, Field: "env_vars", Env: "staging", Value: map[string]any{}},
			{Kind: config.Promote, From: "development", To: "production", Prune: true},
			{Kind: config.ChangeSchema, Text: otherStrategies},
		} {
			op, err := s.Plan(q, crdt.Dot{Node: "own", Seq: 1})
			if err != nil {
				if errkind.Of(err) == errkind.Internal {
					t.Fatalf("%+v: %v", q, err)
				}
				continue
			}
			op.Time = 1
			encoded, err := op.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := config.DecodeOp(encoded); err != nil {
				t.Fatalf("planned, and not to be read: %s: %v", encoded, err)
			}
			draft := s.Draft()
			draft.Apply(op)
			shown(draft)
		}
	}
	snapshot, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return text + string(snapshot)
}

// Whatever operations a hostile node sends: to read them never panics, what was read is written the same, to apply them never panics, and
// two nodes that got them in different orders, among what others wrote, have the same state.
func FuzzDecodeOp(f *testing.F) {
	all := seeds()
	for i := range all {
		f.Add(all[i], all[(i*7+3)%len(all)])
	}
	f.Add([]byte(`{"id":"e#1","hlc":"hlc:1.0001","writes":[{"do":"override","entity":"route.a","inc":1,"field":"weight","gen":"n0#1","merge":"max","value":{}},{"do":"put","entity":"route.a","inc":1,"field":"weight","gen":"n0#1","merge":"max","value":true,"epoch":"e#1"}]}`),
		[]byte(`{"id":"e#2","hlc":"hlc:1.0001","writes":[{"do":"remove","entity":"route.a","inc":1,"field":"tags","gen":"n0#1","merge":"set","value":"x","seen":["e#1","n1#2","e#3"]}]}`))
	honest := make([]*config.Op, len(all))
	for i, text := range all {
		op, err := config.DecodeOp(text)
		if err != nil {
			f.Fatal(err)
		}
		honest[i] = op
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var ops []*config.Op
		for i, text := range [][]byte{first, second} {
			op, err := config.DecodeOp(text)
			if err != nil {
				continue
			}
			encoded, err := op.Encode()
			if err != nil {
				continue // larger, once it is written as we do
			}
			again, err := config.DecodeOp(encoded)
			if err != nil {
				t.Fatalf("%s: %v", encoded, err)
			}
			if twice, err := again.Encode(); err != nil || string(twice) != string(encoded) {
				t.Fatalf("%s is written as\n%s: %v", encoded, twice, err)
			}
			again.ID = crdt.Dot{Node: "evil", Seq: uint64(i) + 1} //nolint:gosec // small
			ops = append(ops, again)
		}
		if len(ops) == 0 {
			return
		}
		forward, backward := config.NewState(), config.NewState()
		for i, op := range honest {
			if i == len(honest)/2 {
				for _, o := range ops {
					forward.Apply(o)
				}
			}
			forward.Apply(op)
		}
		for _, op := range slices.Backward(ops) {
			backward.Apply(op)
		}
		for _, op := range honest {
			backward.Apply(op)
		}
		after := config.NewState()
		for _, op := range slices.Concat(honest, ops) {
			after.Apply(op)
		}
		want := ask(t, after)
		if got := ask(t, forward); got != want {
			t.Fatalf("in the middle:\n%s\nat last:\n%s", got, want)
		}
		if got := ask(t, backward); got != want {
			t.Fatalf("at first:\n%s\nat last:\n%s", got, want)
		}
	})
}

// A snapshot that was tampered with is refused, or is some state; it never makes a later question or operation panic.
func FuzzRestoreState(f *testing.F) {
	all := seeds()
	s := config.NewState()
	var ops []*config.Op
	for i, text := range all {
		op, err := config.DecodeOp(text)
		if err != nil {
			f.Fatal(err)
		}
		ops = append(ops, op)
		if i%2 == 0 {
			s.Apply(op)
		}
		if i == 6 || i == len(all)-1 {
			snapshot, err := s.Snapshot()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(snapshot)
		}
	}
	f.Add([]byte(`{"version":1,"entities":[{"name":"route.a","life":1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := config.RestoreState(text)
		if err != nil {
			return
		}
		ask(t, s)
		for _, op := range ops {
			s.Apply(op)
		}
		ask(t, s)
	})
}
