package milestone_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/gitrepo"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git/gittest"
)

var ann = milestone.Person{Name: "Ann", Email: "ann@example.org"}

// repo is a repository with a worktree, and git's own view of it.
type repo struct {
	*gitrepo.Repo
	git gittest.Repo
}

func newRepo(tb testing.TB) repo {
	tb.Helper()
	g := gittest.At(tb, tb.TempDir())
	g.Git("init", "-q", "-b", "main", ".")
	r, err := gitrepo.Open(tb.Context(), g.Dir, gitrepo.Options{Env: gittest.Env()})
	if err != nil {
		tb.Fatal(err)
	}
	return repo{r, g}
}

// edit commits files as a person does who knows nothing of milestones. Without data a file goes.
func (r repo) edit(message string, files map[string]string) string {
	for path, data := range files {
		path = filepath.Join(r.git.Dir, path)
		if data == "" {
			if err := os.Remove(path); err != nil {
				r.git.TB.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			r.git.TB.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			r.git.TB.Fatal(err)
		}
	}
	r.git.Git("add", "-A")
	r.git.Git("commit", "-q", "-m", message)
	return r.git.OID("HEAD").String()
}

// create makes a milestone of the document as it is.
func (d *doc) create(tb testing.TB, r milestone.Repo, o milestone.Options) (*milestone.Made, error) {
	tb.Helper()
	p, err := milestone.Project(tb.Context(), d.state, nil, jsonFormat{})
	if err != nil {
		tb.Fatalf("Project: %v", err)
	}
	o.Branch = "main"
	if o.Message == "" {
		o.Message = "test"
	}
	if o.Author == (milestone.Person{}) {
		o.Author = ann
	}
	return milestone.Create(tb.Context(), r, p, d.since, o)
}

func (d *doc) mustCreate(tb testing.TB, r milestone.Repo, o milestone.Options) *milestone.Made {
	tb.Helper()
	m, err := d.create(tb, r, o)
	if err != nil {
		tb.Fatalf("Create: %v", err)
	}
	return m
}

func TestCreate(t *testing.T) {
	r := newRepo(t)
	r.edit("before", map[string]string{"README.md": "mine\n", "production/values.txt": "mine\n"})
	d := newDoc(t, everySchema)
	d.must("ann", &config.Request{Kind: config.InsertEntity, Entity: "pool.x", Fields: map[string]any{"size": int64(3)}})
	d.must("ann", &config.Request{Kind: config.InsertEntity, Entity: "route.a.b", Parent: "pool.x", Fields: map[string]any{"path": "/a", "tags": []any{"q", "p"}}})
	d.must("ann", &config.Request{Kind: config.SetField, Entity: "route.a.b", Field: "path", Env: "staging", Value: "/s"})
	first := d.mustCreate(t, r, milestone.Options{Message: "one", LogHead: "sha256:01"})

	want := "{\n  \"a.b\": {\n    \"_parent\": \"pool.x\",\n    \"_position\": \"" + place(d, "route.a.b") + "\",\n    \"_type\": \"route\",\n    \"path\": \"/a\",\n    \"tags\": [\n      \"p\",\n      \"q\"\n    ]\n  }\n}"
	if got := r.git.Git("show", "main:production/routes.json"); got != want {
		t.Errorf("production/routes.json:\n%s\nwant\n%s", got, want)
	}
	if got := r.git.Git("show", "main:development/routes.json"); got != strings.Replace(want, `"/a"`, `"/s"`, 1) {
		t.Errorf("development/routes.json:\n%s", got)
	}
	const files = ".conflux/milestone.json README.md development/pools.json development/routes.json production/pools.json production/routes.json production/values.txt staging/pools.json staging/routes.json"
	if got := strings.Join(strings.Fields(r.git.Git("ls-files")), " "); got != files {
		t.Errorf("files %s, want %s", got, files)
	}
	if got := r.git.Git("status", "--porcelain"); got != "" {
		t.Errorf("the worktree is not as the milestone: %s", got)
	}
	if diff := cmp.Diff([]string{"production", "staging", "development"}, first.Environments); diff != "" {
		t.Errorf("environments (-want +got):\n%s", diff)
	}

	// What is gone is taken away, and nothing that others wrote.
	d.must("ann", &config.Request{Kind: config.RemoveEntity, Entity: "pool.x", Cascade: true})
	second := d.mustCreate(t, r, milestone.Options{Message: "two"})
	if got := strings.Join(strings.Fields(r.git.Git("ls-files")), " "); got != ".conflux/milestone.json README.md production/values.txt" {
		t.Errorf("files after the removal: %s", got)
	}
	said := func(m *milestone.Made) string {
		return fmt.Sprint(m.Before == "", len(m.Added), m.Added[min(1, len(m.Added)):], m.Modified, m.Removed)
	}
	if got, want := said(second), "false 0 [] [.conflux/milestone.json] [development/pools.json development/routes.json production/pools.json production/routes.json staging/pools.json staging/routes.json]"; got != want || second.Before != first.ID {
		t.Errorf("the second one after %s did %s, want %s", second.Before, got, want)
	}
	if second.Operations != 1 || second.Start != second.End || first.Operations != 4 {
		t.Errorf("%d operations, and %d", first.Operations, second.Operations)
	}
	if _, err := d.create(t, r, milestone.Options{}); !errors.Is(err, milestone.ErrNothing) {
		t.Errorf("Create of nothing new: %v", err)
	}
	d.mustCreate(t, r, milestone.Options{Message: "empty", AllowEmpty: true, When: time.Unix(1_800_000_000, 0)})
	r.git.Git("fsck", "--strict", "--no-dangling")

	list, err := milestone.List(t.Context(), r, "main", 2)
	if err != nil || len(list) != 2 || list[0].Subject != "empty" || list[1].ID != second.ID {
		t.Errorf("List = %v, %v", list, err)
	}
	shown, err := milestone.Show(t.Context(), r, first.ID[:10])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.Milestone, shown, cmp.AllowUnexported(crdt.Dots{})); diff != "" {
		t.Errorf("Show (-made +shown):\n%s", diff)
	}
	if _, err := milestone.Show(t.Context(), r, first.ID+"~"); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Show of a commit that is none: %v", err)
	}
	values, err := milestone.Load(t.Context(), r, first.ID, readJSON)
	if err != nil {
		t.Fatal(err)
	}
	route := milestone.Entity{Parent: "pool.x", Position: place(d, "route.a.b"), Fields: map[string]any{"path": "/s", "tags": []any{"p", "q"}}}
	route.Position = values["staging"]["route.a.b"].Position
	if diff := cmp.Diff(route, values["staging"]["route.a.b"]); diff != "" || len(values) != 3 || len(values["production"]) != 2 {
		t.Errorf("Load: %v (-want +got):\n%s", values, diff)
	}
}

func place(d *doc, name string) string {
	_, position := d.state.Place(name)
	return position
}

// Operations that come late, with times from before the last milestone, are in the next one.
func TestLateOperations(t *testing.T) {
	r := newRepo(t)
	d := newDoc(t, everySchema)
	d.set("ann", "pool.x", "size", int64(1))
	d.mustCreate(t, r, milestone.Options{})
	late := &config.Op{
		ID: crdt.Dot{Node: "n9", Seq: 1}, Time: d.log[0].Time - 5000, Actor: config.Actor{ID: "edge", Class: config.Operator}, Kind: config.SetField,
		Writes: []config.Write{{Do: config.Life, Entity: "pool.y", Inc: 1}},
	}
	d.state.Apply(late)
	d.log = append(d.log, late)
	m := d.mustCreate(t, r, milestone.Options{})
	if m.Operations != 1 || m.Start.Node != "n9" || m.Lines[0].Path != "pool.y" {
		t.Errorf("the milestone tells %d operations: %v", m.Operations, m.Lines)
	}
}

func TestGate(t *testing.T) {
	r := newRepo(t)
	d := newDoc(t, strings.Replace(everySchema, `{ name = "path",    type = "string",        merge = "lww" }`, `{ name = "path", type = "string", merge = "lww", required = true }`, 1))
	seen := d.state.Version()
	d.must("ann", &config.Request{Kind: config.SetField, Entity: "route.a", Field: "plan", Value: "one", Env: "staging", Seen: &seen})
	d.must("bob", &config.Request{Kind: config.SetField, Entity: "route.a", Field: "plan", Value: "two", Env: "staging", Seen: &seen})
	_, err := d.create(t, r, milestone.Options{})
	if !errors.Is(err, errkind.Conflict) || !strings.Contains(err.Error(), "route.a.plan@staging: writes wait") || !strings.Contains(err.Error(), "route.a.path@production: path has no value") {
		t.Errorf("Create in spite of conflicts and violations: %v", err)
	}
	d.set("ann", "route.a", "path", "/a")
	if err := milestone.Check(d.state, []string{"production"}); err != nil {
		t.Errorf("Check of an environment that the conflict is not in: %v", err)
	}
	for _, env := range []string{"staging", "development"} {
		if err := milestone.Check(d.state, []string{env}); !errors.Is(err, errkind.Conflict) {
			t.Errorf("Check(%s) = %v", env, err)
		}
	}
	m := d.mustCreate(t, r, milestone.Options{AllowViolations: true})
	if got := r.git.Git("log", "-1", "--format=%(trailers:key=Conflux-Allow-Violations,key=Conflux-Conflict)"); got != "Conflux-Allow-Violations: true\nConflux-Conflict: route.a.plan@staging\n\n" {
		t.Errorf("trailers %q of\n%s", got, m)
	}
}

// A branch has the milestones of one document.
func TestForeignMilestone(t *testing.T) {
	r := newRepo(t)
	d, other := newDoc(t, everySchema), newDoc(t, everySchema)
	d.set("ann", "pool.x", "size", int64(1))
	d.mustCreate(t, r, milestone.Options{})
	if _, err := other.create(t, r, milestone.Options{}); !errors.Is(err, errkind.Conflict) {
		t.Errorf("Create of what is behind: %v", err)
	}
}

// Files of a forged manifest are not deleted.
func TestForgedManifest(t *testing.T) {
	for _, path := range []string{"README.md", "../x", "production/../READMEs.json", ".git/hookss.json", "production/sub/xs.json", "/etc/hosts.json", "production/s.json"} {
		r := newRepo(t)
		d := newDoc(t, everySchema)
		d.set("ann", "pool.x", "size", int64(1))
		r.edit("milestone: forged\n\nConflux-Version: n0:1", map[string]string{
			"README.md": "mine", milestone.ManifestPath: fmt.Sprintf(`{"format_version":1,"environments":["production",".git",".."],"format":"json","version":"n0:1","files":[%q]}`, path),
		})
		if _, err := d.create(t, r, milestone.Options{}); !errors.Is(err, errkind.Invalid) {
			t.Errorf("Create after a milestone that claims to have written %s: %v", path, err)
		}
	}
}

// Two copies of a document make the same files and the same message.
func TestMilestonesAreDeterministic(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := newDoc(t, everySchema)
		random(d, func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") }, 60)
		other := &doc{t: t, state: config.NewState(), log: slices.Clone(d.log)}
		for i := range other.log {
			j := rapid.IntRange(i, len(other.log)-1).Draw(rt, "j")
			other.log[i], other.log[j] = other.log[j], other.log[i]
			other.state.Apply(other.log[i])
		}
		a, err := milestone.Project(t.Context(), d.state, nil, jsonFormat{})
		if err != nil {
			rt.Fatal(err)
		}
		b, err := milestone.Project(t.Context(), other.state, nil, jsonFormat{})
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(a.Files, b.Files); diff != "" {
			rt.Fatalf("two copies differ:\n%s", diff)
		}
		if diff := cmp.Diff(d.message(crdt.Dots{}).String(), other.message(crdt.Dots{}).String()); diff != "" {
			rt.Fatalf("two copies tell it differently:\n%s", diff)
		}
	})
}

// random does what comes to mind to few entities.
func random(d *doc, n func(int) int, steps int) {
	of := func(list ...string) string { return list[n(len(list))] }
	for range steps {
		q := &config.Request{Kind: config.SetField, Entity: "route." + of("a", "b", "c"), Env: of("", "", "staging", "development"), Override: n(4) == 0}
		switch n(10) {
		case 0:
			q.Kind, q.Cascade = config.RemoveEntity, true
		case 1:
			q.Kind, q.Parent = config.MoveEntity, "pool."+of("x", "y")
		case 2:
			q.Entity, q.Field, q.Value = "pool."+of("x", "y"), "size", int64(n(5))
		case 3:
			q.Kind, q.From, q.To = config.Promote, "staging", "production"
		default:
			q.Field = of("path", "weight", "tags", "plan", "labels")
			q.Value = map[string]any{
				"path": of("/a", "/b c"), "weight": int64(n(9)), "tags": []any{of("p", "q"), of("p", "r")}, "plan": of("one", "two"), "labels": map[string]any{of("k", "l"): of("1", "2")},
			}[q.Field]
		}
		_, _ = d.do(of("ann", "bob"), config.Class(of("human", "pipeline")), q) // what is refused leaves no operation
	}
}

// Every operation is in exactly one milestone, in whatever order operations come.
func TestEachOperationIsInOneMilestone(t *testing.T) {
	for seed := range 5 {
		rng := rand.New(rand.NewPCG(uint64(seed), 1)) //nolint:gosec // no secret
		d := newDoc(t, everySchema)
		random(d, rng.IntN, 60)
		// Another copy gets them in any order, and makes milestones meanwhile.
		rest := slices.Clone(d.log)
		rng.Shuffle(len(rest)-1, func(i, j int) { rest[i+1], rest[j+1] = rest[j+1], rest[i+1] })
		r, other := newRepo(t), &doc{t: t, state: config.NewState()}
		for i, op := range rest {
			other.state.Apply(op)
			if other.log = append(other.log, op); i%12 == 11 || i == len(rest)-1 {
				other.mustCreate(t, r, milestone.Options{AllowViolations: true})
			}
		}
		list, err := milestone.List(t.Context(), r, "main", 100)
		if err != nil {
			t.Fatal(err)
		}
		told, before := 0, crdt.Dots{}
		for _, m := range slices.Backward(list) {
			n := 0
			for _, op := range rest {
				if m.Version.Has(op.ID) && !before.Has(op.ID) {
					n++
				}
			}
			if n != m.Operations || !m.Version.Covers(&before) {
				t.Errorf("seed %d: %s has %d operations, and tells %d", seed, m.ID, n, m.Operations)
			}
			told, before = told+n, m.Version
		}
		if told != len(rest) {
			t.Errorf("seed %d: %d of %d operations are in milestones", seed, told, len(rest))
		}
		// The last one says what the document says.
		values, err := milestone.Load(t.Context(), r, list[0].ID, readJSON)
		if err != nil {
			t.Fatal(err)
		}
		for env, entities := range values {
			if got, want := slices.Sorted(maps.Keys(entities)), d.state.Entities(""); !slices.Equal(got, want) {
				t.Errorf("seed %d: %s has %v, want %v", seed, env, got, want)
			}
			for name, e := range entities {
				fields, err := d.state.Entity(name, env)
				if diff := cmp.Diff(config.Values(fields), e.Fields); diff != "" || err != nil {
					t.Errorf("seed %d: %s@%s (-want +got):\n%s%v", seed, name, env, diff, err)
				}
			}
		}
		r.git.Git("fsck", "--strict", "--no-dangling")
	}
}
