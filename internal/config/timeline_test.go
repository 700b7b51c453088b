package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
)

// The timelines in the guide are true: each is a table in which every row is a moment, every column an actor or, named after an
// environment, what the field is there after it.
func TestTimelinesOfTheGuide(t *testing.T) {
	pages, err := filepath.Glob("../../docs/guide/config-merge/*.md")
	if err != nil || len(pages) < 8 {
		t.Fatalf("found %d pages, %v", len(pages), err)
	}
	timelines := regexp.MustCompile("(?s)```timeline\n(.*?)```")
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range timelines.FindAllStringSubmatch(string(text), -1) {
			t.Run(fmt.Sprintf("%s/%d", filepath.Base(page), i+1), func(t *testing.T) { runTimeline(t, block[1]) })
		}
	}
}

const timelineSchema = `
name = "guide"
[environments]
base = "production"
overlays = [{ name = "staging", inherits = "production" }]
[entity.route]
fields = [ %s ]
`

func runTimeline(t *testing.T, block string) {
	t.Helper()
	field, table, ok := strings.Cut(block, "\n")
	name := regexp.MustCompile(`name = "(\w+)"`).FindStringSubmatch(field)
	if !ok || name == nil {
		t.Fatalf("the first line is no field: %q", field)
	}
	r := newReplica("n1", 0)
	if r.do(&config.Request{Kind: config.ChangeSchema, Text: fmt.Sprintf(timelineSchema, field)}, "root", 1) == nil {
		t.Fatalf("the schema is refused: %s", field)
	}
	var columns []string
	versions := []crdt.Dots{r.state.Version()}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimRight(line, "\n"), "│")
		switch {
		case strings.Contains(line, "┼") || strings.TrimSpace(line) == "":
			continue
		case columns == nil:
			for _, c := range cells[1 : len(cells)-1] {
				columns = append(columns, strings.TrimSpace(c))
			}
			continue
		}
		for i, column := range columns {
			cell := strings.TrimSpace(cells[i+1])
			env, err := r.state.Environment(column)
			switch {
			case err == nil:
				if got := shownAs(r.state, name[1], env); got != cell {
					t.Errorf("%s: it is %s in %s", strings.TrimSpace(line), got, column)
				}
			case cell != "":
				act(t, r, name[1], column, cell, versions)
			}
		}
		versions = append(versions, r.state.Version())
	}
}

// act does what a cell says: VERB [KEY=]VALUE [@ENV] [(saw N)].
func act(t *testing.T, r *replica, field, actor, cell string, versions []crdt.Dots) {
	t.Helper()
	q := &config.Request{Kind: config.SetField, Entity: "route.api", Field: field}
	if before, n, ok := strings.Cut(cell, "(saw "); ok {
		at, err := strconv.Atoi(strings.TrimSuffix(n, ")"))
		if err != nil || at >= len(versions) {
			t.Fatalf("%q: saw what?", cell)
		}
		q.Seen, cell = &versions[at], strings.TrimSpace(before)
	}
	if before, env, ok := strings.Cut(cell, "@"); ok {
		q.Env, cell = env, strings.TrimSpace(before)
	}
	verb, text, _ := strings.Cut(cell, " ")
	if key, v, ok := strings.Cut(text, "="); ok {
		q.Key, text = key, v
	}
	f := r.state.Schema().Entity("route").Field(field)
	parse := func(of schema.Type) any {
		v, err := schema.ParseText(of, text)
		if err != nil {
			t.Fatalf("%q: %v", cell, err)
		}
		return v
	}
	switch verb {
	case "set", "override":
		q.Override = verb == "override"
		of := f.Type
		if q.Key != "" {
			of = f.Type.Element()
		}
		q.Value = parse(of)
	case "unset":
		q.Override = true
	case "add":
		q.Add = []any{parse(f.Type.Element())}
	case "remove":
		q.Remove = []any{parse(f.Type.Element())}
	case "choose":
		q.Kind, q.Value = config.Resolve, parse(f.Type)
	case "delete":
		q = &config.Request{Kind: config.RemoveEntity, Entity: "route.api"}
	default:
		t.Fatalf("%q: unknown verb", cell)
	}
	if r.do(q, actor, r.clock+1000) == nil {
		_, err := r.state.Plan(q, crdt.Dot{Node: "x", Seq: 1})
		t.Fatalf("%q is refused: %v", cell, err)
	}
}

// shownAs is how the guide writes what a field is.
func shownAs(s *config.State, field, env string) string {
	r, err := s.Get("route.api", field, env)
	switch {
	case err != nil:
		return "–"
	case r.Value == nil:
		return "unset"
	}
	text := value.Text(r.Value)
	if list, ok := r.Value.([]any); ok {
		words := make([]string, len(list))
		for i, v := range list {
			words[i] = value.Text(v)
		}
		text = "{" + strings.Join(words, ", ") + "}"
	}
	if r.Conflict {
		text += " ⚡"
	}
	return text
}
