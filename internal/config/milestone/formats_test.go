package milestone_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/format"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/config/milestone/milestonetest"
)

// In every format a milestone is read as what the document says, and an edit is found.
func TestFormats(t *testing.T) {
	formats := format.NewRegistry()
	read := func(ctx context.Context, id, name string, data []byte) (any, error) {
		p, err := formats.Parser(id)
		if err != nil {
			return nil, err
		}
		return p.Unmarshal(ctx, name, data)
	}
	for _, id := range []string{"yaml", "json", "toml", "kdl", "xml", "hcl"} {
		t.Run(id, func(t *testing.T) {
			f, err := formats.Serializer(id)
			if err != nil {
				t.Fatal(err)
			}
			r, d := newRepo(t), newDoc(t, everySchema)
			d.must("ann", &config.Request{Kind: config.InsertEntity, Entity: "pool.x", Fields: map[string]any{"size": int64(1) << 60}})
			d.must("ann", &config.Request{Kind: config.InsertEntity, Entity: "route.api.v1/x y", Parent: "pool.x", Fields: map[string]any{
				"path": "no", "weight": int64(-7), "timeout": "1m30s", "tags": []any{"0777", "on"}, "hosts": []any{}, "labels": map[string]any{"a b": "1", "c.d": "${x}"}, "plan": "a\nb: \"c\"\n",
			}})
			p, err := milestone.Project(t.Context(), d.state, nil, f)
			if err != nil {
				t.Fatal(err)
			}
			m, err := milestone.Create(t.Context(), r, p, d.since, milestone.Options{Branch: "main", Message: "test", Author: ann})
			if err != nil {
				t.Fatal(err)
			}
			values, err := milestone.Load(t.Context(), r, m.ID, read)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range d.state.Entities("") {
				fields, err := d.state.Entity(name, "staging")
				if err != nil {
					t.Fatal(err)
				}
				parent, position := d.state.Place(name)
				want := milestone.Entity{Parent: parent, Position: position, Fields: config.Values(fields)}
				if diff := cmp.Diff(want, values["staging"][name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			edited := map[string]string{}
			for _, env := range all {
				path := env + "/routes." + f.Extension()
				edited[path] = strings.Replace(r.git.Git("show", "main:"+path), "-7", "-8", 1)
			}
			r.edit("by hand", edited)
			in, err := milestone.ReadEdits(t.Context(), r, milestonetest.View(d.state), "main", read)
			if err != nil {
				t.Fatal(err)
			}
			if len(in.Requests) != 1 || in.Requests[0].Field != "weight" || in.Requests[0].Value != int64(-8) {
				t.Errorf("requests %+v", in.Requests)
			}
		})
	}
}

// BenchmarkCreate is of a document with 10,000 entities in three environments, a tenth of which change between milestones.
func BenchmarkCreate(b *testing.B) {
	yaml, err := format.NewRegistry().Serializer("yaml")
	if err != nil {
		b.Fatal(err)
	}
	d, r := newDoc(b, everySchema), newRepo(b)
	create := func() {
		p, err := milestone.Project(b.Context(), d.state, nil, yaml)
		if err == nil {
			_, err = milestone.Create(b.Context(), r, p, d.since, milestone.Options{Branch: "main", Message: "test", Author: ann})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	for i := range 10_000 {
		d.must("ann", &config.Request{Kind: config.InsertEntity, Entity: fmt.Sprintf("route.r%d", i), Fields: map[string]any{
			"path": fmt.Sprintf("/r/%d", i), "weight": int64(i), "tags": []any{"p", "q"}, "labels": map[string]any{"k": "v"},
		}})
	}
	create()
	n := 0
	for b.Loop() {
		b.StopTimer()
		for range 1000 {
			n++
			d.set("ann", fmt.Sprintf("route.r%d", n%10_000), "path", fmt.Sprintf("/changed/%d", n))
		}
		b.StartTimer()
		create()
	}
}
