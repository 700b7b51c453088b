package milestone_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/config/milestone/milestonetest"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// edited is a document with a milestone, in which somebody then replaces texts in files.
type edited struct {
	*doc
	r     repo
	first *milestone.Made
}

func newEdited(t *testing.T) *edited {
	t.Helper()
	e := &edited{doc: newDoc(t, everySchema), r: newRepo(t)}
	e.must("ann", &config.Request{Kind: config.InsertEntity, Entity: "pool.x", Fields: map[string]any{"size": int64(3)}})
	e.must("ann", &config.Request{Kind: config.InsertEntity, Entity: "route.a", Parent: "pool.x", Fields: map[string]any{
		"path": "/a", "weight": int64(50), "tags": []any{"p", "q"}, "owners": []any{"o"}, "labels": map[string]any{"k": "v", "l": "v"}, "plan": "one",
	}})
	e.must("ann", &config.Request{Kind: config.SetField, Entity: "route.a", Field: "path", Env: "staging", Value: "/s"})
	e.first = e.mustCreate(t, e.r, milestone.Options{})
	return e
}

// replace commits files with a text in the place of another one, which they have to have.
func (e *edited) replace(t *testing.T, old, now string, envs ...string) string {
	t.Helper()
	files := map[string]string{}
	for _, env := range envs {
		path := env + "/routes.json"
		before := e.r.git.Git("show", "main:"+path)
		if !strings.Contains(before, old) {
			t.Fatalf("%s has no %q:\n%s", path, old, before)
		}
		files[path] = strings.ReplaceAll(before, old, now)
	}
	return e.r.edit("by hand", files)
}

func (e *edited) readEdits(t *testing.T) *milestone.Import {
	t.Helper()
	in, err := milestone.ReadEdits(t.Context(), e.r, milestonetest.View(e.state), "main", readJSON)
	if err != nil {
		t.Fatalf("ReadEdits: %v", err)
	}
	return in
}

// submit does what an import asks for.
func (e *edited) submit(t *testing.T, in *milestone.Import) {
	t.Helper()
	for _, q := range in.Requests {
		if _, err := e.do("git", config.Human, q); err != nil {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

var all = []string{"production", "staging", "development"}

func TestEditsAreInTheWay(t *testing.T) {
	e := newEdited(t)
	e.replace(t, "50", "60", "production")
	e.set("ann", "pool.x", "size", int64(4))
	_, err := e.create(t, e.r, milestone.Options{})
	if !errors.Is(err, errkind.Conflict) || !strings.Contains(err.Error(), "production/routes.json (changed)") {
		t.Errorf("Create over an edit: %v", err)
	}
	m := e.mustCreate(t, e.r, milestone.Options{Overwrite: true})
	if diff := cmp.Diff([]string{"production/routes.json"}, m.Overwrote); diff != "" {
		t.Errorf("Overwrote (-want +got):\n%s", diff)
	}
	if got := e.r.git.Git("diff", e.first.ID, m.ID, "--", "production/routes.json"); got != "" {
		t.Errorf("the edit is still there:\n%s", got)
	}
	if got := e.r.git.Git("log", "-1", "--format=%(trailers:key=Conflux-Overwrote,valueonly)"); strings.TrimSpace(got) != "production/routes.json" {
		t.Errorf("the message does not tell it: %q", got)
	}
	// Files of others are nobody's business.
	e.r.edit("others", map[string]string{"README.md": "x", "production/notes.txt": "x"})
	e.set("ann", "pool.x", "size", int64(5))
	e.mustCreate(t, e.r, milestone.Options{})
	// What the document says anyway was edited by nobody.
	e.r.edit("touched", map[string]string{"production/pools.json": strings.Replace(e.r.git.Git("show", "main:production/pools.json"), "5", "6", 1)})
	e.must("ann", &config.Request{Kind: config.SetField, Entity: "pool.x", Field: "size", Value: int64(6)})
	if m := e.mustCreate(t, e.r, milestone.Options{}); len(m.Overwrote) != 0 {
		t.Errorf("Overwrote %v", m.Overwrote)
	}
	// A deleted manifest is an edit.
	e.r.edit("gone", map[string]string{milestone.ManifestPath: ""})
	if _, err := e.create(t, e.r, milestone.Options{}); !errors.Is(err, errkind.Conflict) || !strings.Contains(err.Error(), "milestone.json (deleted)") {
		t.Errorf("Create after the manifest was deleted: %v", err)
	}
}

// The first milestone does not take the files of others.
func TestFirstMilestoneOverFiles(t *testing.T) {
	r, d := newRepo(t), newDoc(t, everySchema)
	r.edit("mine", map[string]string{"production/pools.json": "mine"})
	d.set("ann", "pool.x", "size", int64(1))
	if _, err := d.create(t, r, milestone.Options{}); !errors.Is(err, errkind.Conflict) || !strings.Contains(err.Error(), "production/pools.json (added)") {
		t.Errorf("Create over a file: %v", err)
	}
	d.mustCreate(t, r, milestone.Options{Overwrite: true})
}

func TestReadEdits(t *testing.T) {
	set := func(field string, v any) config.Request {
		return config.Request{Kind: config.SetField, Entity: "route.a", Field: field, Env: "production", Value: v, NoCreate: true}
	}
	add := func(field string, add, remove []any) config.Request {
		q := set(field, nil)
		q.Add, q.Remove = add, remove
		return q
	}
	key := func(k string, v any) config.Request {
		q := set("labels", v)
		q.Key = k
		return q
	}
	in := func(env string, q config.Request) config.Request { q.Env = env; return q }
	over := func(q config.Request) config.Request { q.Override = true; return q }
	tests := []struct {
		name     string
		old, now string
		envs     []string
		want     []config.Request
	}{
		{"a value in the base alone", "50", "60", all[:1], []config.Request{set("weight", int64(60))}},
		{"a value where it is inherited too", "50", "60", all, []config.Request{set("weight", int64(60))}},
		{"a value in an environment", "50", "60", all[1:], []config.Request{in("staging", set("weight", int64(60)))}},
		{"a value in the last environment", `"/s"`, `"/d"`, all[2:], []config.Request{in("development", set("path", "/d"))}},
		{"elements of a set", `"q"`, `"r", "t"`, all[:1], []config.Request{add("tags", []any{"r", "t"}, []any{"q"})}},
		{"an element that can only be added", `"o"`, `"o", "u"`, all[:1], []config.Request{add("owners", []any{"u"}, nil)}},
		{"an element that can only be added, removed", `"o"`, `"u"`, all[:1], []config.Request{over(set("owners", []any{"u"}))}},
		{"a key", `"k": "v"`, `"k": "w"`, all[:1], []config.Request{key("k", "w")}},
		{"another key", `"k": "v"`, `"m": "v"`, all[:1], []config.Request{key("k", nil), key("m", "v")}},
		{"no value any more", "\"plan\": \"one\",", "", all[:1], []config.Request{set("plan", nil)}},
		{"no value any more, of a maximum", "50", "null", all[:1], []config.Request{over(set("weight", nil))}},
		{"a move", `"pool.x"`, `""`, all, []config.Request{{Kind: config.MoveEntity, Entity: "route.a"}}},
		{"a new entity", "{\n  \"a\"", "{\n  \"b\": {\"_type\": \"route\", \"_parent\": \"pool.x\", \"path\": \"/b\"},\n  \"a\"", all, []config.Request{
			{Kind: config.InsertEntity, Entity: "route.b", Env: "production", Parent: "pool.x", Fields: map[string]any{"path": "/b"}},
		}},
		{"only the form", "{", "{ ", all, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEdited(t)
			commit := e.replace(t, tt.old, tt.now, tt.envs...)
			in := e.readEdits(t)
			var got []config.Request
			for _, q := range in.Requests {
				if q.Via != "git:"+commit || q.Seen.String() != e.first.Version.String() {
					t.Errorf("a request is via %s and has seen %s", q.Via, q.Seen)
				}
				q := *q
				q.Via, q.Seen = "", nil
				got = append(got, q)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty(), cmp.AllowUnexported(crdt.Dots{})); diff != "" {
				t.Fatalf("requests (-want +got):\n%s", diff)
			}
			if in.Commit != commit || len(in.Edits) != len(tt.envs) {
				t.Errorf("import of %s has the edits %v", in.Commit, in.Edits)
			}
			// What was asked for makes the document say what the files do, so that nothing is left to import.
			e.submit(t, in)
			if _, err := e.create(t, e.r, milestone.Options{Imported: in.Commit}); err != nil {
				t.Errorf("Create after the import: %v", err)
			}
			if again := e.readEdits(t); len(again.Requests) != 0 || len(again.Edits) != 0 {
				t.Errorf("after the milestone there are edits %v and requests %v", again.Edits, again.Requests)
			}
		})
	}
}

func TestRemovalsInFiles(t *testing.T) {
	e := newEdited(t)
	gone := map[string]string{}
	for _, env := range all {
		gone[env+"/routes.json"], gone[env+"/pools.json"] = "", ""
	}
	e.r.edit("all gone", gone)
	in := e.readEdits(t)
	if len(in.Requests) != 2 || in.Requests[0].Kind != config.RemoveEntity || in.Requests[0].Entity != "route.a" || in.Requests[1].Entity != "pool.x" {
		t.Errorf("requests %+v", in.Requests)
	}
	e.submit(t, in)
	m := e.mustCreate(t, e.r, milestone.Options{Imported: in.Commit})
	if got := strings.TrimSpace(e.r.git.Git("ls-tree", "-r", "--name-only", m.ID)); got != milestone.ManifestPath {
		t.Errorf("files %s", got)
	}
	if m.Operations != 2 || m.Lines[0].Note != "via git:"+in.Commit {
		t.Errorf("lines %v", m.Lines)
	}
}

// Whoever edited a file had not seen what others wrote after the milestone.
func TestEditsAreConcurrent(t *testing.T) {
	e := newEdited(t)
	e.set("bob", "route.a", "plan", "two")
	e.must("bob", &config.Request{Kind: config.SetField, Entity: "route.a", Field: "labels", Key: "n", Value: "bob"})
	e.must("bob", &config.Request{Kind: config.SetField, Entity: "route.a", Field: "tags", Add: []any{"bob"}})
	e.replace(t, `"one"`, `"three"`, all...)
	e.replace(t, `"k": "v"`, `"k": "git"`, all...)
	e.replace(t, `"q"`, `"git"`, all...)
	e.submit(t, e.readEdits(t))
	fields, err := e.state.Entity("route.a", "development")
	if err != nil {
		t.Fatal(err)
	}
	if !fields["plan"].Conflict || len(e.state.Conflicts()) != 1 {
		t.Errorf("plan is %+v, conflicts %v", fields["plan"], e.state.Conflicts())
	}
	if diff := cmp.Diff(map[string]any{"k": "git", "l": "v", "n": "bob"}, fields["labels"].Value); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]any{"bob", "git", "p"}, fields["tags"].Value); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}

// What the document has overtaken is said, and not done.
func TestEditsThatCameTooLate(t *testing.T) {
	e := newEdited(t)
	e.replace(t, "50", "60", "production")
	e.must("bob", &config.Request{Kind: config.RemoveEntity, Entity: "route.a"})
	in := e.readEdits(t)
	if diff := cmp.Diff([]string{"route.a: it was removed meanwhile"}, in.Skipped); diff != "" || len(in.Requests) != 0 {
		t.Errorf("requests %v, skipped (-want +got):\n%s", in.Requests, diff)
	}
	// An import counts as long as the branch stays.
	e.replace(t, "60", "70", "production")
	if _, err := e.create(t, e.r, milestone.Options{Imported: in.Commit}); !errors.Is(err, errkind.Conflict) || !strings.Contains(err.Error(), "import again") {
		t.Errorf("Create after one more edit: %v", err)
	}
	m := e.mustCreate(t, e.r, milestone.Options{Imported: e.r.git.OID("main").String()})
	if m.Imported == "" || len(m.Overwrote) != 0 {
		t.Errorf("the message tells %q and %v", m.Imported, m.Overwrote)
	}
}

func TestEditsThatCannotBe(t *testing.T) {
	tests := []struct{ name, old, now, want string }{
		{"a mistake in the format", "{", "[", "routes.json at"},
		{"another type", `"_type": "route"`, `"_type": "pool"`, "_type is pool in a file of type route"},
		{"an unknown field", `"path"`, `"pth"`, "route.a@production: the schema has no field pth"},
		{"a value of another type", "50", `"many"`, "route.a.weight@production"},
		{"a parent that is no text", `"pool.x"`, "7", "_parent has to be a string"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEdited(t)
			e.replace(t, tt.old, tt.now, all...)
			_, err := milestone.ReadEdits(t.Context(), e.r, milestonetest.View(e.state), "main", readJSON)
			if !errors.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ReadEdits: %v, want %s", err, tt.want)
			}
		})
	}
	e := newEdited(t)
	e.r.edit("half gone", map[string]string{"staging/routes.json": ""})
	if _, err := milestone.ReadEdits(t.Context(), e.r, milestonetest.View(e.state), "main", readJSON); !errors.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), "removed from staging and is still in production, development") {
		t.Errorf("ReadEdits of an entity that is gone in one environment: %v", err)
	}
	if _, err := milestone.ReadEdits(t.Context(), newRepo(t), milestonetest.View(e.state), "main", readJSON); !errors.Is(err, errkind.NotFound) {
		t.Errorf("ReadEdits without a milestone: %v", err)
	}
}
