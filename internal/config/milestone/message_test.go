package milestone_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/git/gittest"
)

// The message has, byte by byte, the form of the example that people know.
func TestMessageOfTheExample(t *testing.T) {
	d := newDoc(t, `
name = "edge"
version = "1.0.0"
[environments]
base = "production"
overlays = [{ name = "staging", inherits = "production" }]
[entity.route]
fields = [{ name = "weight", type = "int", merge = "max" }]
[entity.upstream]
fields = [{ name = "targets", type = "list<string>", merge = "set" }]
`)
	d.set("root", "route.api-v1", "weight", int64(50))
	d.set("root", "upstream.backend", "targets", []any{"10.0.1.4"})
	before := d.state.Version()
	d.at = hlc(t, "hlc:1706012400.0042")
	d.do("autoscaler", config.System, &config.Request{Kind: config.SetField, Entity: "route.api-v1", Field: "weight", Value: int64(90), Intent: "load-response"})
	d.do("zara", config.Human, &config.Request{Kind: config.SetField, Entity: "route.api-v1", Field: "weight", Value: int64(80), Override: true})
	d.at = hlc(t, "hlc:1706015000.0187")
	d.do("ci-pipeline", config.Pipeline, &config.Request{Kind: config.SetField, Entity: "upstream.backend", Field: "targets", Add: []any{"10.0.1.5"}, Intent: "scale-out"})

	m := d.message(before)
	m.Subject, m.Environments = "post-canary traffic shift", []string{"production", "staging"}
	const want = `milestone: post-canary traffic shift

Operations since last milestone:
  [autoscaler]  route.api-v1.weight: 50 → 90 (load-response)
  [human:zara]  route.api-v1.weight: 90 → 80 (manual override)
  [ci-pipeline] upstream.backend.targets: +10.0.1.5 (scale-out)

Environments affected: production, staging
Causal range: hlc:1706012400.0042 → hlc:1706015000.0187
Operations: 3
`
	got := m.String()
	if !strings.HasPrefix(got, want) {
		t.Errorf("message:\n%s\nwant\n%s", got, want)
	}
	const trailers = `
Conflux-Range: hlc:1706012400.0042@n0..hlc:1706015000.0187@n0
Conflux-Log-Head: sha256:00ff
Conflux-Schema: 1.0.0
Conflux-Version: n0:6
`
	if rest := strings.TrimPrefix(got, want); rest != trailers {
		t.Errorf("trailers:\n%s\nwant\n%s", rest, trailers)
	}
}

// What operations say of themselves, in every text that they have, breaks no line and makes no trailer.
func TestTextsOfOperationsStayWhereTheyBelong(t *testing.T) {
	const forged = "\n\nConflux-Version: n9:99\nConflux-Log-Head: sha256:forged\n"
	attacks := []string{
		forged, "x" + forged, "\r\nConflux-Version: n9:99", "a\u2028Conflux-Version: n9:99", "a\u0085b", "\x1b[2J", "\u202egnp.exe", ") (manual override)", "(", `"`, `\`, "]", "[", "→",
		": ", " (", "a b: c → d (e)", "human:root", "manual override", "promoted from x", "resolved", "\u200b", "…", " x ", "", "\t",
	}
	for _, text := range attacks {
		t.Run(fmt.Sprintf("%q", text), func(t *testing.T) {
			var ops milestone.Ops
			for i, w := range []config.Write{
				{Do: config.Put, Entity: "route." + text, Inc: 1, Field: "path", Merge: "lww", Value: text, Old: text},
				{Do: config.Put, Entity: "route.a", Inc: 1, Field: text, Merge: "lww", Value: []any{text}, Old: map[string]any{text: text}},
				{Do: config.Put, Entity: "route.a", Inc: 1, Field: "labels", Key: text, Merge: "map", Env: text, Value: text},
				{Do: config.Add, Entity: text, Inc: 1, Field: "tags", Merge: "set", Value: text},
				{Do: config.Move, Entity: text, Inc: 1, Parent: text},
			} {
				op := &config.Op{
					ID: crdt.Dot{Node: "n0", Seq: uint64(i + 1)}, Time: crdt.HLC(1000 + i), Actor: config.Actor{ID: text, Class: config.System, Name: text},
					Kind: config.SetField, Intent: text, Via: text, From: text, To: text, Writes: []config.Write{w},
				}
				ops.Add(op)
				promote := *op
				promote.Kind, promote.Writes = config.Promote, nil
				ops.Add(&promote)
			}
			m := &milestone.Message{Subject: "s", LogHead: "sha256:true", Schema: text, Version: version(t, "n0:5")}
			ops.Tell(m)
			m.Violations = []string{milestone.Finding{Where: "route.a@production", Message: text}.String()}
			got := m.String()

			var kept, extra []string
			for line := range strings.SplitSeq(strings.TrimSuffix(got, "\n"), "\n") {
				if strings.HasPrefix(line, "Conflux-") {
					kept = append(kept, line)
				}
				if strings.ContainsAny(line, "\r\x1b\u2028\u202e\u0085\u200b\t") {
					extra = append(extra, line)
				}
			}
			if len(extra) > 0 {
				t.Errorf("control characters are left in %q", extra)
			}
			back, err := milestone.ParseMessage(got)
			if err != nil {
				t.Fatalf("ParseMessage: %v\n%s", err, got)
			}
			if diff := cmp.Diff(m, back, cmp.AllowUnexported(crdt.Dots{})); diff != "" {
				t.Errorf("read back (-want +got):\n%s\n%s", diff, got)
			}
			for _, l := range back.Lines {
				if strings.HasPrefix(l.Actor, "human:") {
					t.Errorf("a system is shown as %s", l.Actor)
				}
			}
			r := gittest.New(t)
			commit := strings.TrimSpace(r.GitIn(got, "commit-tree", strings.TrimSpace(r.GitIn("", "mktree"))))
			trailers := strings.TrimSpace(r.Git("log", "-1", "--format=%(trailers)", commit))
			claimed := r.Git("log", "-1", "--format=%(trailers:key=Conflux-Version,key=Conflux-Log-Head,valueonly)", commit)
			if trailers != strings.Join(kept, "\n") || strings.TrimSpace(claimed) != "sha256:true\nn0:5" {
				t.Errorf("git sees the trailers\n%s\nof\n%s", trailers, got)
			}
		})
	}
}

// A long message has an end, and says how much it leaves out.
func TestLongMessage(t *testing.T) {
	var ops milestone.Ops
	for i := range 3000 {
		ops.Add(&config.Op{
			ID: crdt.Dot{Node: "n0", Seq: uint64(3000 - i)}, Time: crdt.HLC(3000 - i), Actor: config.Actor{ID: "a"}, Kind: config.SetField,
			Writes: []config.Write{{Do: config.Put, Entity: "route.a", Inc: 1, Field: "n", Merge: "lww", Value: int64(3000 - i)}},
		})
	}
	m := &milestone.Message{Subject: "many"}
	ops.Tell(m)
	if len(m.Lines) != 500 || m.More != 2500 || m.Operations != 3000 || m.Lines[0].Change != "unset → 1" || m.Lines[499].Change != "unset → 500" {
		t.Errorf("%d lines, %d more of %d, from %v to %v", len(m.Lines), m.More, m.Operations, m.Lines[0], m.Lines[len(m.Lines)-1])
	}
	if !strings.Contains(m.String(), "\n  … and 2500 more\n") {
		t.Errorf("the message does not say what it leaves out:\n%.300s", m)
	}
}

func TestLines(t *testing.T) {
	d := newDoc(t, everySchema)
	set := func(entity, field string, v any) *config.Request {
		return &config.Request{Kind: config.SetField, Entity: entity, Field: field, Value: v}
	}
	d.must("ann", set("pool.x", "size", int64(3)))
	tests := []struct {
		name string
		do   *config.Request
		want []string
	}{
		{"a new entity", &config.Request{Kind: config.InsertEntity, Entity: "route.a", Parent: "pool.x", Fields: map[string]any{"path": "/a"}}, []string{"route.a: inserted below pool.x", "route.a.path: unset → /a"}},
		{"a string with blanks", set("route.a", "path", "/a b"), []string{`route.a.path: /a → "/a b"`}},
		{"a string like a number", set("route.a", "path", "12"), []string{`route.a.path: "/a b" → "12"`}},
		{"an environment", &config.Request{Kind: config.SetField, Entity: "route.a", Field: "path", Env: "staging", Value: "/s", Intent: "try it"}, []string{`route.a.path@staging: "12" → /s (try it)`}},
		{"a set", set("route.a", "tags", []any{"p", "q"}), []string{"route.a.tags: +p +q"}},
		{"elements", &config.Request{Kind: config.SetField, Entity: "route.a", Field: "tags", Add: []any{"r"}, Remove: []any{"p"}}, []string{"route.a.tags: +r -p"}},
		{"an empty set", &config.Request{Kind: config.SetField, Entity: "route.a", Field: "tags", Env: "staging", Value: []any{}}, []string{"route.a.tags@staging: → []"}},
		{"a map", set("route.a", "labels", map[string]any{"k": "one", "x y": "2"}), []string{"route.a.labels[k]: unset → one", `route.a.labels["x y"]: unset → "2"`}},
		{"a key", &config.Request{Kind: config.SetField, Entity: "route.a", Field: "labels", Key: "k", Value: nil}, []string{"route.a.labels[k]: one → unset"}},
		{"a list", set("route.a", "hosts", []any{"b", "a"}), []string{`route.a.hosts: unset → ["b","a"]`}},
		{"unset", set("route.a", "hosts", nil), []string{`route.a.hosts: ["b","a"] → unset`}},
		{"a promotion", &config.Request{Kind: config.Promote, From: "staging", To: "production", Filter: config.Filter{Fields: []string{"path"}}}, []string{`route.a.path: "12" → /s (promoted from staging)`}},
		{"a move", &config.Request{Kind: config.MoveEntity, Entity: "route.a"}, []string{"route.a: moved to the top"}},
		{"from Git", &config.Request{Kind: config.SetField, Entity: "route.a", Field: "path", Value: "/g", Via: "git:0123"}, []string{"route.a.path: /s → /g (via git:0123)"}},
		{"a removal", &config.Request{Kind: config.RemoveEntity, Entity: "route.a"}, []string{"route.a: removed"}},
		{"a schema", &config.Request{Kind: config.ChangeSchema, Text: strings.Replace(everySchema, "1.0.0", "1.1.0", 1)}, []string{"schema: → 1.1.0"}},
	}
	for _, tt := range tests {
		var ops milestone.Ops
		ops.Add(d.must("ann", tt.do))
		m := &milestone.Message{Subject: "s"}
		ops.Tell(m)
		var got []string
		for _, l := range m.Lines {
			text := l.Path + ": " + l.Change
			if l.Note != "" {
				text += " (" + l.Note + ")"
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// What follows is told by its size where it is much.
func TestLargePromotion(t *testing.T) {
	d := newDoc(t, everySchema)
	for i := range 20 {
		d.must("ann", &config.Request{Kind: config.SetField, Entity: fmt.Sprintf("route.r%d", i), Field: "path", Env: "staging", Value: "/s"})
	}
	var ops milestone.Ops
	ops.Add(d.must("ann", &config.Request{Kind: config.Promote, From: "staging", To: "production", Intent: "ship it"}))
	m := &milestone.Message{Subject: "s"}
	ops.Tell(m)
	want := []milestone.Line{{Actor: "human:ann", Path: "promote staging → production", Change: "20 values of 20 entities", Note: "promoted from staging: ship it"}}
	if diff := cmp.Diff(want, m.Lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// A message that was written is read as it was, whatever is in the operations.
func TestMessageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ops milestone.Ops
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"a", "a b", "(", ")", `"`, "]", ": ", "→"}))
		for i := range rapid.IntRange(0, 20).Draw(t, "ops") {
			ops.Add(&config.Op{
				ID: crdt.Dot{Node: "n0", Seq: uint64(i + 1)}, Time: crdt.HLC(i + 1), Kind: config.SetField, Intent: text.Draw(t, "intent"),
				Actor: config.Actor{ID: text.Draw(t, "actor"), Class: config.Class(rapid.SampledFrom([]string{"human", "system"}).Draw(t, "class"))},
				Writes: []config.Write{{
					Do: config.Put, Entity: "route." + text.Draw(t, "entity"), Inc: 1, Field: "f", Key: text.Draw(t, "key"), Env: text.Draw(t, "env"),
					Merge: "map", Value: text.Draw(t, "value"), Old: []any{text.Draw(t, "old")},
				}},
			})
		}
		m := &milestone.Message{Subject: "s", Version: version(t, "n0:20,n1:3")}
		ops.Tell(m)
		back, err := milestone.ParseMessage(m.String())
		if err != nil {
			t.Fatalf("ParseMessage: %v\n%s", err, m)
		}
		if diff := cmp.Diff(m, back, cmp.AllowUnexported(crdt.Dots{})); diff != "" {
			t.Fatalf("read back (-want +got):\n%s\n%s", diff, m)
		}
	})
}

func FuzzParseMessage(f *testing.F) {
	f.Add("milestone: x\n\nOperations since last milestone:\n  [a] b: c → d (e)\n\nOperations: 1\n\nConflux-Version: n0:1\n")
	f.Add("milestone: x\n\n  … and 3 more\nConflux-Range: hlc:1.0001@a..hlc:2.0001@b\nConflux-Version: none\nConflux-Schema: \"x\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := milestone.ParseMessage(text)
		if err != nil {
			return
		}
		if _, err := milestone.ParseMessage(m.String()); err != nil && milestone.CheckSubject(m.Subject) == nil && !strings.Contains(text, "\n  ") {
			t.Errorf("ParseMessage(%q) = %+v, whose text is refused: %v", text, m, err)
		}
	})
}

func TestSubject(t *testing.T) {
	for _, bad := range []string{"", " ", "a\nb", "a\x00", strings.Repeat("x", 201), "a\u2028b"} {
		if milestone.CheckSubject(bad) == nil {
			t.Errorf("CheckSubject(%q) allows it", bad)
		}
		_, err := milestone.Create(context.Background(), nil, nil, nil, milestone.Options{Message: bad})
		if err == nil {
			t.Errorf("Create takes the message %q", bad)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format_version":1,"environments":["production"],"version":"n0:1","files":["production/routes.yaml"]}`))
	f.Add([]byte(`{"format_version":1,"environments":[".."],"version":"n0:1,n1#4","files":["../s.s.s"],"hlc_range":{"start":"hlc:1.0001"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := milestone.DecodeManifest(data)
		if err != nil {
			return
		}
		for _, path := range m.Files {
			if strings.HasPrefix(path, "/") || strings.HasPrefix(path, ".") || strings.Count(path, "/") != 1 || strings.Contains(path, "..") {
				t.Errorf("a manifest claims %q", path)
			}
		}
	})
}
