package sign_test

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
)

const everything = `name = "infra"
[environments]
base = "production"
overlays = [{ name = "staging", inherits = "production" }, { name = "dev", inherits = "staging" }]
[entity.route]
fields = [
    { name = "image", type = "string", merge = "review" },
    { name = "path", type = "string" },
    { name = "weight", type = "int", merge = "max", default = 1 },
    { name = "share", type = "float", merge = "min" },
    { name = "wait", type = "duration" },
    { name = "on", type = "bool" },
    { name = "next", type = "ref<route>" },
    { name = "steps", type = "list<int>" },
    { name = "tags", type = "list<string>", merge = "set", default = ["a"], conflict = "review" },
    { name = "hosts", type = "list<string>", merge = "set", overlay = "merge" },
    { name = "seen", type = "list<string>", merge = "grow" },
    { name = "labels", type = "map<string>", default = { x = "1" } },
    { name = "limits", type = "map<int>", values_merge = "max", overlay = "merge" },
]
children = ["route"]
`

// given is a value as somebody may write it, of which the schema makes another one.
func given(t *rapid.T, field string) any {
	word := rapid.SampledFrom([]string{"a", "b", "c"})
	switch field {
	case "weight":
		return rapid.SampledFrom([]any{int64(1), int64(7), 3.0}).Draw(t, "int")
	case "share":
		return rapid.SampledFrom([]any{int64(1), 0.5, 3.0}).Draw(t, "float")
	case "wait":
		return rapid.SampledFrom([]any{"60s", "1m0s", "1500ms"}).Draw(t, "duration")
	case "on":
		return rapid.Bool().Draw(t, "bool")
	case "next":
		return rapid.SampledFrom([]any{"route.a", "route/b", "c"}).Draw(t, "ref")
	case "steps":
		return rapid.SampledFrom([]any{[]any{int64(1), 2.0}, []any{}}).Draw(t, "list")
	case "tags", "hosts", "seen":
		list := []any{}
		for _, s := range rapid.SliceOfN(word, 0, 3).Draw(t, "set") {
			list = append(list, s)
		}
		return list
	case "labels", "limits":
		m := map[string]any{}
		for _, key := range rapid.SliceOfN(word, 0, 3).Draw(t, "keys") {
			m[key] = element(t, field)
		}
		return m
	default:
		return word.Draw(t, "text")
	}
}

func element(t *rapid.T, field string) any {
	if field == "limits" {
		return rapid.SampledFrom([]any{int64(4), 5.0}).Draw(t, "element")
	}
	return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "element")
}

var allFields = []string{"image", "path", "weight", "share", "wait", "on", "next", "steps", "tags", "hosts", "seen", "labels", "limits"}

func anyRequest(t *rapid.T) config.Request {
	r := config.Request{
		Kind: config.SetField, Entity: rapid.SampledFrom([]string{"route.a", "route/b", "route.c"}).Draw(t, "entity"),
		Env: rapid.SampledFrom([]string{"", "production", "staging", "dev"}).Draw(t, "env"), Override: rapid.IntRange(0, 3).Draw(t, "override") == 0,
	}
	field := rapid.SampledFrom(allFields).Draw(t, "field")
	switch rapid.IntRange(0, 11).Draw(t, "kind") {
	case 0:
		return config.Request{Kind: config.RemoveEntity, Entity: r.Entity, Cascade: true}
	case 1:
		r.Kind, r.Restore, r.Override = config.InsertEntity, rapid.Bool().Draw(t, "restore"), false
		r.Fields = map[string]any{field: given(t, field)}
		r.Parent = rapid.SampledFrom([]string{"", "route/a"}).Draw(t, "parent")
	case 2:
		return config.Request{Kind: config.MoveEntity, Entity: r.Entity, Parent: rapid.SampledFrom([]string{"", "route.a", "route/c"}).Draw(t, "parent")}
	case 3:
		return config.Request{
			Kind: config.Promote, From: "staging", To: rapid.SampledFrom([]string{"", "production"}).Draw(t, "to"),
			Prune: rapid.Bool().Draw(t, "prune"), Filter: config.Filter{Fields: []string{field}},
		}
	case 4:
		r.Kind, r.Field, r.Value, r.Override = config.Resolve, field, given(t, field), false
	case 5:
		r.Field = rapid.SampledFrom([]string{"labels", "limits"}).Draw(t, "map")
		if r.Key = "a"; rapid.Bool().Draw(t, "put") {
			r.Value = element(t, r.Field)
		}
	case 6:
		r.Field = rapid.SampledFrom([]string{"tags", "hosts", "seen"}).Draw(t, "set")
		r.Add = []any{element(t, r.Field)}
		if r.Field != "seen" && rapid.Bool().Draw(t, "remove") {
			r.Remove = []any{element(t, r.Field)}
		}
	case 7:
		r.Field = field // unset
	default:
		r.Field, r.Value = field, given(t, field)
	}
	return r
}

// world is a document in which alice signs all that she does, on two copies that do not see each other's.
type world struct {
	copies [2]*config.State
	keys   *sign.Registry
	n      uint64
}

func newWorld(t *rapid.T) *world {
	w := &world{copies: [2]*config.State{config.NewState(), config.NewState()}, keys: registry(t)}
	op := w.do(t, 0, config.Request{Kind: config.ChangeSchema, Text: everything})
	w.copies[1].Apply(op)
	w.copies[1].Settle()
	return w
}

// do plans, signs and applies a request; nil if it cannot be done.
func (w *world) do(t *rapid.T, at int, r config.Request) *config.Op {
	w.n++
	b := sign.Body{Doc: "infra", ID: fmt.Sprint(w.n), Actor: body.Actor, KeyID: body.KeyID, ClientTime: noon, Request: r}
	s, err := sign.Sign(private, b)
	if err != nil {
		t.Fatal(err)
	}
	r.Signature = s.ForOp(&b)
	op, err := w.copies[at].Plan(&r, crdt.Dot{Node: []string{"m", "n"}[at], Seq: w.copies[at].Last([]string{"m", "n"}[at]) + 1})
	if r.Kind == config.ChangeSchema && err != nil {
		t.Fatal(err)
	}
	if err != nil || len(op.Writes) == 0 && op.Schema == nil {
		return nil
	}
	op.Actor, op.Time = body.Actor, crdt.TimeOf(noon)+crdt.HLC(w.n)
	w.copies[at].Apply(op)
	w.copies[at].Settle()
	return op
}

// Whatever the state was: what came of a signed request is not refused, and another value in its place is.
func TestVerifyOpComparesValues(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		var ops [2][]*config.Op
		for range rapid.IntRange(1, 20).Draw(t, "n") {
			at := rapid.IntRange(0, 1).Draw(t, "copy")
			if rapid.IntRange(0, 5).Draw(t, "meet") == 0 {
				for _, op := range ops[1-at] {
					w.copies[at].Apply(op)
				}
				w.copies[at].Settle()
			}
			r := anyRequest(t)
			op := w.do(t, at, r)
			if op == nil {
				continue
			}
			ops[at] = append(ops[at], op)
			if _, err := sign.VerifyOp(w.keys, op, "infra"); err != nil {
				t.Fatalf("%+v\nbecame %+v:\n%v", r, op.Writes, err)
			}
			changed := changeValue(t, op)
			if changed == nil || r.Kind == config.Promote || r.Restore {
				continue
			}
			if _, err := sign.VerifyOp(w.keys, changed, "infra"); !errors.Is(err, sign.OtherRequest) {
				t.Fatalf("%+v\nwas taken for what became of %+v: %v", changed.Writes, r, err)
			}
		}
	})
}

// changeValue returns an operation in which one write has another value; nil if there is none of which a request says what it has.
func changeValue(t *rapid.T, op *config.Op) *config.Op {
	var which []int
	for i := range op.Writes {
		// What is inherited comes along with an element or a key, and nobody signed it.
		if w := &op.Writes[i]; w.Do != config.Life && w.Do != config.Move && w.Do != config.Remove && w.Do != config.Add && !w.Marks() {
			which = append(which, i)
		}
	}
	if len(which) == 0 {
		return nil
	}
	out := *op
	out.Writes = append([]config.Write{}, op.Writes...)
	w := &out.Writes[rapid.SampledFrom(which).Draw(t, "which")]
	if value.Equal(w.Value, w.Old) && w.Key != "" {
		return nil // as above
	}
	w.Value = "something else"
	return &out
}
