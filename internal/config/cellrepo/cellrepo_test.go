package cellrepo_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/cellrepo"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/config/milestone/milestonetest"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/router"
)

func open(t *testing.T, o cellrepo.Options) *cellrepo.Repo {
	t.Helper()
	r, err := router.Open(t.Context(), t.TempDir(), router.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	tenant, repo := id.NewTenant(), id.NewRepo()
	if err := r.Create(t.Context(), tenant, repo, git.Branch("main")); err != nil {
		t.Fatal(err)
	}
	handle, err := r.Repo(t.Context(), tenant, repo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(handle.Release)
	return cellrepo.New(handle, o)
}

func TestContract(t *testing.T) {
	milestonetest.Run(t, func(t *testing.T) milestone.Repo {
		t.Helper()
		return open(t, cellrepo.Options{})
	})
}

// A commit has an author: that of the request, or that of the options.
func TestAuthor(t *testing.T) {
	q := &milestone.CommitRequest{Branch: "main", Message: "m\n", When: time.Unix(1_700_000_000, 0), Changes: []milestone.Change{{Path: "a", Data: []byte("1")}}}
	if _, err := open(t, cellrepo.Options{}).Commit(t.Context(), q); !errors.Is(err, errkind.Invalid) {
		t.Errorf("Commit by nobody: %v", err)
	}
	r := open(t, cellrepo.Options{Author: milestonetest.Ann})
	if _, err := r.Commit(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Get(t.Context(), "main"); err != nil || c.Author != milestonetest.Ann {
		t.Errorf("Get = %v, %v", c, err)
	}
}

const poolSchema = `
name = "pools"
version = "1.0.0"
[environments]
base = "production"
[entity.pool]
fields = [{ name = "size", type = "int", merge = "lww" }]
`

type jsonFormat struct{}

func (jsonFormat) ID() string                                       { return "json" }
func (jsonFormat) Extension() string                                { return "json" }
func (jsonFormat) Marshal(_ context.Context, v any) ([]byte, error) { return value.Encode(v), nil }
func read(_ context.Context, _, _ string, data []byte) (any, error) { return value.Decode(data) }

// A document's milestones follow each other in a cell, and an edit by a commit of the REST API is found and read.
func TestMilestones(t *testing.T) {
	r := open(t, cellrepo.Options{Author: milestonetest.Ann})
	s := config.NewState()
	var log []*config.Op
	do := func(q *config.Request) {
		t.Helper()
		op, err := s.Plan(q, crdt.Dot{Node: "n0", Seq: uint64(len(log) + 1)})
		if err != nil {
			t.Fatal(err)
		}
		op.Time, op.Actor = crdt.HLC(1_700_000_000_000_000+len(log)), config.Actor{ID: "ann", Class: config.Human}
		s.Apply(op)
		log = append(log, op)
	}
	create := func(o milestone.Options) (*milestone.Made, error) {
		t.Helper()
		p, err := milestone.Project(t.Context(), s, nil, jsonFormat{})
		if err != nil {
			t.Fatal(err)
		}
		o.Branch, o.Message = "main", "test"
		return milestone.Create(t.Context(), r, p, func(*crdt.Dots) iter.Seq2[*config.Op, error] {
			return func(yield func(*config.Op, error) bool) {
				for _, op := range log {
					if !yield(op, nil) {
						return
					}
				}
			}
		}, o)
	}
	do(&config.Request{Kind: config.ChangeSchema, Text: poolSchema})
	do(&config.Request{Kind: config.SetField, Entity: "pool.x", Field: "size", Value: int64(1)})
	first, err := create(milestone.Options{})
	if err != nil {
		t.Fatal(err)
	}
	by := &milestone.CommitRequest{
		Branch: "main", Parent: first.ID, Message: "by hand", Author: milestonetest.Ann, When: time.Unix(1_700_000_001, 0),
		Changes: []milestone.Change{{Path: "production/pools.json", Data: []byte(`{"x":{"_type":"pool","size":2}}`)}},
	}
	if _, err := r.Commit(t.Context(), by); err != nil {
		t.Fatal(err)
	}
	if _, err := create(milestone.Options{}); !errors.Is(err, errkind.Conflict) {
		t.Errorf("Create over an edit: %v", err)
	}
	in, err := milestone.ReadEdits(t.Context(), r, milestonetest.View(s), "main", read)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range in.Requests {
		do(q)
	}
	if _, err := create(milestone.Options{Imported: in.Commit}); err != nil {
		t.Fatal(err)
	}
	do(&config.Request{Kind: config.RemoveEntity, Entity: "pool.x"})
	if _, err := create(milestone.Options{}); err != nil {
		t.Fatal(err)
	}
	list, err := milestone.List(t.Context(), r, "main", 10)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, m := range slices.Backward(list) {
		for _, l := range m.Lines {
			told = append(told, l.Path+": "+l.Change)
		}
	}
	if diff := cmp.Diff([]string{"schema: → 1.0.0", "pool.x: inserted", "pool.x.size: unset → 1", "pool.x.size: 1 → 2", "pool.x: removed"}, told); diff != "" {
		t.Errorf("milestones tell (-want +got):\n%s", diff)
	}
	files, err := r.Files(t.Context(), list[0].ID, []string{"production", ".conflux"})
	if err != nil || len(files) != 1 {
		t.Errorf("files at the end: %v, %v", files, err)
	}
}
