package milestone_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/milestone"
)

// A write that the field's strategy does not let through changes nothing, and the message says so.
func TestBeatenWriteIsToldAsSuch(t *testing.T) {
	d := newDoc(t, `
name = "edge"
[environments]
base = "production"
overlays = [{ name = "staging", inherits = "production" }]
[entity.route]
fields = [{ name = "weight", type = "int", merge = "max" }, { name = "timeout", type = "duration", merge = "min", default = "10s" }]
`)
	r := newRepo(t)
	write := func(entity, field, env string, v any) {
		d.must("zara", &config.Request{Kind: config.SetField, Entity: entity, Field: field, Env: env, Value: v})
	}
	write("route.a", "weight", "", int64(98))
	write("route.b", "weight", "", int64(98))
	if _, err := d.create(t, r, milestone.Options{}); err != nil {
		t.Fatal(err)
	}
	write("route.a", "weight", "", int64(54))        // it stays in the end
	write("route.a", "weight", "staging", int64(50)) // the first of its own
	write("route.a", "timeout", "", "20s")           // there was only the default
	write("route.b", "weight", "", int64(60))        // it stays until somebody writes more
	d.must("hpa", &config.Request{Kind: config.SetField, Entity: "route.b", Field: "weight", Value: int64(99)})
	if _, err := d.create(t, r, milestone.Options{}); err != nil {
		t.Fatal(err)
	}
	m, err := milestone.ParseMessage(r.git.Git("log", "-1", "--format=%B"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range m.Lines {
		got = append(got, l.Path+": "+l.Change)
	}
	want := []string{
		"route.a.weight: stays 98, 54 written",
		"route.a.weight@staging: 98 → 50",
		"route.a.timeout: 10s → 20s",
		"route.b.weight: stays 98, 60 written",
		"route.b.weight: 98 → 99",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, strings.Join(got, "\n"))
	}
}
