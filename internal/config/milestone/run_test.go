package milestone_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/milestone"
)

// What an autoscaler writes again and again is one line, and hides nothing that others did.
func TestRuns(t *testing.T) {
	d := newDoc(t, `
name = "edge"
[environments]
base = "production"
overlays = [{ name = "staging", inherits = "production" }]
[entity.route]
fields = [{ name = "weight", type = "int", merge = "max" }, { name = "timeout", type = "duration", merge = "min" }, { name = "path", type = "string" }]
`)
	before := d.state.Version()
	write := func(actor, field string, v any, change func(r *config.Request)) {
		r := &config.Request{Kind: config.SetField, Entity: "route.a", Field: field, Value: v, Intent: "load"}
		if change != nil {
			change(r)
		}
		class := config.System
		if actor == "zara" {
			class = config.Human
		}
		d.do(actor, class, r)
	}
	inStaging := func(r *config.Request) { r.Env = "staging" }
	write("zara", "path", "/a", nil)
	for i := range int64(1000) {
		write("autoscaler", "weight", 50+i%41, nil)
	}
	seen := d.state.Version()
	write("zara", "weight", int64(20), func(r *config.Request) { r.Override, r.Intent = true, "" })
	for range 3 {
		write("autoscaler", "weight", int64(70), func(r *config.Request) { r.Seen, r.Intent = &seen, "late" })
	}
	for i := range int64(10) {
		write("autoscaler", "weight", 30+i, nil)
		write("autoscaler", "weight", 5+i, inStaging)
	}
	for range 4 {
		write("zara", "weight", int64(10), nil)
		write("zara", "timeout", "40s", nil)
		write("zara", "timeout", "9s", nil)
	}
	for range 2 {
		write("hpa", "weight", int64(39), nil)
	}
	write("zara", "path", "/b", nil)
	want := []string{
		"[human:zara] route.a: inserted (load)",
		"[human:zara] route.a.path: unset → /a (load)",
		"[autoscaler] route.a.weight: unset → 90 by 1000 writes (load)",
		"[human:zara] route.a.weight: 90 → 20 (manual override)",
		"[autoscaler] route.a.weight: stays 20, 3 writes (late)",
		"[autoscaler] route.a.weight: 20 → 39 by 10 writes (load)",
		"[autoscaler] route.a.weight@staging: 30 → 14 by 10 writes (load)",
		"[human:zara] route.a.weight: stays 39, 4 writes (load)",
		"[human:zara] route.a.timeout: unset → 9s by 8 writes (load)",
		"[hpa] route.a.weight: stays 39, 2 writes (load)",
		"[human:zara] route.a.path: /a → /b (load)",
	}
	var got []string
	m := d.message(before)
	for _, l := range m.Lines {
		text := "[" + l.Actor + "] " + l.Path + ": " + l.Change
		if l.Note != "" {
			text += " (" + l.Note + ")"
		}
		got = append(got, text)
	}
	if diff := cmp.Diff(want, got); diff != "" || m.More != 0 || m.Operations != 1040 {
		t.Errorf("%d operations, of which %d are not told (-want +got):\n%s", m.Operations, m.More, diff)
	}
	back, err := milestone.ParseMessage(m.String())
	if err != nil || len(back.Lines) != len(m.Lines) {
		t.Errorf("ParseMessage: %d lines, %v", len(back.Lines), err)
	}

	// In whatever order operations come, the message is the same.
	all := slices.DeleteFunc(slices.Clone(d.log), func(op *config.Op) bool { return before.Has(op.ID) })
	for range 20 {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		var ops milestone.Ops
		for _, op := range all {
			ops.Add(op)
		}
		shuffled := &milestone.Message{LogHead: m.LogHead, Schema: m.Schema, Version: m.Version}
		ops.Tell(shuffled)
		if diff := cmp.Diff(m.String(), shuffled.String()); diff != "" {
			t.Fatalf("in another order (-want +got):\n%s", diff)
		}
	}
}
