package bulk_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/bulk"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
)

func decoded(tb testing.TB, text string) any {
	tb.Helper()
	v, err := value.Decode([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func TestEntities(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, typ, in, want string }{
		{"one, named by the file", "service", `{"image": "a", "env_vars": {"x": "1"}}`, "service.file"},
		{"one, with its own name", "", `{"_type": "service", "name": "api"}`, "service.api"},
		{"one, with an ID of both", "", `{"_id": "service.api"}`, "service.api"},
		{"one, with no fields", "service", `{}`, ""},
		{"one map alone", "service", `{"env_vars": {"image": "x"}}`, "service.file"},
		{"a list", "service", `[{"id": "api", "image": "a"}, {"_id": "route.r"}, {"name": "web"}]`, "service.api route.r service.web"},
		{"an ID with another type's name", "", `{"service": {"route.r": {}}}`, "service.route.r"},
		{"by ID", "service", `{"api": {"image": "a"}, "v1.2": {}, "service.web": {}}`, "service.api service.web service.v1.2"},
		{"by ID of other types", "", `{"route.a": {}, "service.b": {}}`, "route.a service.b"},
		{"by type", "", `{"service": {"api": {"replicas": 1.0}}, "routes": [{"id": "r", "service": "api"}]}`, "route.r service.api"},
		{"by type, with a type said for the others", "service", `{"service": {"api": {"replicas": 1}}}`, "service.api"},
		{"an ID that is a type's name", "service", `{"service": {"replicas": 1}}`, "service.service"},
		{"of a milestone", "", `{"api": {"_type": "service", "image": "a"}, "x": {"_type": "filter", "_parent": "route.r", "_position": "a0"}}`, "service.api filter.x"},
		{"by mistake two types", "service", `{"_type": "route", "_id": "service.x"}`, "route.service.x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list, err := bulk.Entities(decoded(t, tt.in), bulk.Defaults{Type: tt.typ, ID: "file"}, parsed(t))
			var got []string
			for _, e := range list {
				got = append(got, e.ID)
			}
			if err != nil || strings.Join(got, " ") != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestEntitiesTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, typ, in, want string }{
		{"no type", "", `{"image": "a"}`, `entity "file" does not say its type`},
		{"unknown type", "", `{"_type": "queue"}`, `entity queue.file: the schema has no type "queue"`},
		{"unknown field", "service", `{"image": "a", "imgae": "b"}`, `entity service.file: the type service has no field "imgae"`},
		{"value", "service", `[{"id": "a", "replicas": "x"}]`, `[0]: service.a.replicas: "x" is no int`},
		{"no ID", "service", `[{"image": "a"}]`, `[0]: an entity does not say its ID`},
		{"text", "service", `"x"`, "it is x, and no entity"},
		{"list of texts", "service", `["x"]`, "[0]: it is x, and no entity"},
		{"text among entities", "", `{"services": {"a": {}, "b": 1}}`, `entity "services" does not say its type`},
		{"control character", "service", "{\"a\\u0007\": {}}", "entity"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := bulk.Entities(decoded(t, tt.in), bulk.Defaults{Type: tt.typ, ID: "file"}, parsed(t)); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s…", err, tt.want)
			}
		})
	}
}

// state returns a document that says {"service": {"api": …}, "route": {"main": …}}.
func state(t *testing.T) *config.State {
	t.Helper()
	s := config.NewState()
	n := uint64(0)
	for _, r := range []config.Request{
		{Kind: config.ChangeSchema, Text: shop},
		{Kind: config.InsertEntity, Entity: "service.api", Fields: map[string]any{"image": "a", "replicas": int64(3), "ports": []any{int64(80), int64(443)}}},
		{Kind: config.InsertEntity, Entity: "route.main", Fields: map[string]any{"service": "service.api"}},
	} {
		s.Settle()
		n++
		op, err := s.Plan(&r, crdt.Dot{Node: "n", Seq: n})
		if err != nil {
			t.Fatal(err)
		}
		op.Time, op.Actor = crdt.HLC(n), config.Actor{ID: "a", Class: config.Human}
		s.Apply(op)
	}
	s.Settle()
	return s
}

func TestPlan(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, env, ops, kept string }{
		{"as it is", `{"service": {"api": {"image": "a", "replicas": 3, "ports": [443, 80]}}}`, "", "", ""},
		{"as it is, in an environment", `{"service": {"api": {"image": "a", "replicas": 3}}}`, "staging", "", ""},
		{"nothing to unset", `{"service": {"api": {"image": null}}}`, "staging", "", ""},
		{"unset", `{"service": {"api": {"image": null}}}`, "", "set_field service.api.image", ""},
		{"changed", `{"service": {"api": {"image": "b", "replicas": 4, "ports": [80]}}}`, "", "set_field service.api.image, set_field service.api.ports, set_field service.api.replicas", ""},
		{"a lower maximum", `{"service": {"api": {"replicas": 2}}}`, "", "", "service.api.replicas is 3, and not 2"},
		{"a lower maximum of an environment's own", `{"service": {"api": {"replicas": 2}}}`, "staging", "set_field service.api.replicas", ""},
		{"new, parents first", `{"filter": {"a": {"_parent": "filter.b"}, "b": {"_parent": "route.main", "rank": 1}}}`, "", "insert_entity filter.b, insert_entity filter.a", ""},
		{"moved", `{"route": {"main": {"_parent": "route.x"}}}`, "", "move_entity route.main", ""},
	}
	s := state(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list, err := bulk.Entities(decoded(t, tt.in), bulk.Defaults{}, parsed(t))
			if err != nil {
				t.Fatal(err)
			}
			p, err := bulk.NewPlan(t.Context(), bulk.Local{State: s}, list, tt.env)
			if err != nil {
				t.Fatal(err)
			}
			var ops []string
			for _, op := range p.Operations {
				text := op.Type + " " + op.EntityID
				if op.Field != "" {
					text += "." + op.Field
				}
				ops = append(ops, text)
			}
			if got := strings.Join(ops, ", "); got != tt.ops || strings.Join(p.Kept, ", ") != tt.kept {
				t.Errorf("got %q and %q, want %q and %q", got, p.Kept, tt.ops, tt.kept)
			}
		})
	}
}

func TestPlanRefusesCircles(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		`{"filter": {"a": {"_parent": "filter.b"}, "b": {"_parent": "filter.a"}}}`,
		`[{"_id": "filter.a"}, {"_id": "filter.a"}]`,
	} {
		list, err := bulk.Entities(decoded(t, in), bulk.Defaults{}, parsed(t))
		if err != nil {
			t.Fatal(err)
		}
		if p, err := bulk.NewPlan(t.Context(), bulk.Local{State: state(t)}, list, ""); err == nil {
			t.Errorf("%s: %v", in, p.Operations)
		}
	}
}

func FuzzEntities(f *testing.F) {
	f.Add(`{"service": {"api": {"replicas": 1}}}`, "")
	f.Add(`[{"_id": "service.a", "ports": [1]}]`, "service")
	s := parsed(f)
	f.Fuzz(func(t *testing.T, text, typ string) {
		v, err := value.Decode([]byte(text))
		if err != nil {
			return
		}
		first, err := bulk.Entities(v, bulk.Defaults{Type: typ, ID: "file"}, s)
		if err != nil {
			return
		}
		again, err := bulk.Entities(v, bulk.Defaults{Type: typ, ID: "file"}, s)
		if err != nil || !cmp.Equal(first, again) {
			t.Errorf("read again: %v", err)
		}
		for _, e := range first {
			if id, err := config.ParseEntity(e.ID); err != nil || id != e.ID || slices.Contains([]string{"", "."}, e.ID) {
				t.Errorf("entity %q: %v", e.ID, err)
			}
		}
	})
}
