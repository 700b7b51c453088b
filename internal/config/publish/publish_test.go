package publish_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/gitrepo"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/publish"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

const schemaText = `
name = "shop"
[environments]
base = "production"
overlays = [{ name = "staging", inherits = "production" }]

[entity.service]
fields = [
    { name = "replicas", type = "int" },
    { name = "needs",    type = "ref<service>" },
]
`

var zara = config.Actor{ID: "zara", Class: config.Human, Name: "Zara <boss>"}

// shop returns a document, and a way to write to it.
func shop(t *testing.T) (*engine.Document, func(field string, value any)) {
	t.Helper()
	ctx := t.Context()
	store := oplog.NewMemory()
	if err := store.Create(ctx, "shop"); err != nil {
		t.Fatal(err)
	}
	log, err := store.Open(ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := engine.Open(ctx, "shop", log, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	submit := func(r config.Request) {
		t.Helper()
		if _, err := doc.Submit(ctx, engine.Batch{Actor: zara, Requests: []config.Request{r}}); err != nil {
			t.Fatal(err)
		}
	}
	submit(config.Request{Kind: config.ChangeSchema, Text: schemaText})
	return doc, func(field string, value any) {
		t.Helper()
		submit(config.Request{Kind: config.SetField, Entity: "service.api", Field: field, Value: value})
	}
}

// target is a folder that milestones go to. It counts who has it open.
type target struct {
	dir        string
	open, most atomic.Int64
}

func (g *target) options() publish.Options {
	return publish.Options{Open: func(ctx context.Context, _ bool) (publish.Target, error) {
		repo, err := gitrepo.Open(ctx, g.dir, gitrepo.Options{})
		for n := g.open.Add(1); ; {
			if most := g.most.Load(); n <= most || g.most.CompareAndSwap(most, n) {
				break
			}
		}
		return publish.Target{Repo: repo, Branch: "main", Release: func() { g.open.Add(-1) }}, err
	}}
}

// A milestone is by who asked for it, in words that a commit can have.
func TestMilestoneIsByWhoAsks(t *testing.T) {
	t.Parallel()
	doc, set := shop(t)
	set("replicas", int64(3))
	g := &target{dir: t.TempDir()}
	p := publish.New(doc, g.options())
	c := &service.Caller{Service: service.New(doc, service.Options{}), Actor: zara}
	made, err := p.Create(t.Context(), c, wire.NewMilestone{Message: "api: three replicas"})
	if err != nil {
		t.Fatal(err)
	}
	last, err := p.Show(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if want := "Zara boss <zara@skep.invalid>"; last.ID != made.ID || last.Author != want || last.Operations != 2 {
		t.Errorf("got %+v, want commit %s by %s with 2 operations", last, made.ID, want)
	}
	if n := g.open.Load(); n != 0 {
		t.Errorf("%d repositories are still open", n)
	}
}

// Git's index of a folder is one: who comes second waits, and finds what the first one did.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	doc, set := shop(t)
	set("replicas", int64(3))
	g := &target{dir: t.TempDir()}
	p := publish.New(doc, g.options())
	c := &service.Caller{Service: service.New(doc, service.Options{}), Actor: zara}
	var made atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			switch _, err := p.Create(t.Context(), c, wire.NewMilestone{Message: "all at once"}); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, errkind.Conflict):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if made.Load() != 1 || g.most.Load() != 1 {
		t.Errorf("%d milestones, by %d at once", made.Load(), g.most.Load())
	}
}

// rules let zara do what they say, anywhere but in staging.
type rules []policy.Action

// Allow decides one question.
func (r rules) Allow(a config.Actor, action policy.Action, _, _, env string) bool {
	for _, allowed := range r {
		if a.ID == "zara" && action == allowed && env != "staging" {
			return true
		}
	}
	return false
}

// Permission is asked of the service that somebody comes with: one document may be seen by many rules.
func TestPermission(t *testing.T) {
	t.Parallel()
	doc, set := shop(t)
	set("replicas", int64(3))
	p := publish.New(doc, (&target{dir: t.TempDir()}).options())
	of := func(r rules) *service.Caller {
		return &service.Caller{Service: service.New(doc, service.Options{Access: r}), Actor: zara}
	}
	may := of(rules{policy.ConfigRead, policy.ConfigMilestone})
	for name, tt := range map[string]struct {
		by   *service.Caller
		what wire.NewMilestone
		want string
	}{
		"who may not":                  {of(rules{policy.ConfigRead}), wire.NewMilestone{Environments: []string{"production"}}, "production: zara may not milestone it"},
		"elsewhere":                    {may, wire.NewMilestone{Environments: []string{"staging"}}, "there is none"},
		"all environments":             {may, wire.NewMilestone{}, "there is none"},
		"overwrite without admin":      {may, wire.NewMilestone{Environments: []string{"production"}, Overwrite: true}, "zara may not admin it"},
		"with violations without that": {may, wire.NewMilestone{Environments: []string{"production"}, AllowViolations: true}, "zara may not admin it"},
		"where they may":               {may, wire.NewMilestone{Environments: []string{"production"}}, ""},
	} {
		tt.what.Message = name
		_, err := p.Create(t.Context(), tt.by, tt.what)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}
