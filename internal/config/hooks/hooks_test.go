package hooks_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/hooks"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/outbound"
	"github.com/skep-dev/skep/internal/webhook"
)

const schemaText = `
name = "shop"
[environments]
base = "production"
overlays = [{ name = "staging", inherits = "production" }]

[entity.service]
fields = [
    { name = "weight", type = "int", merge = "lww" },
    { name = "owner",  type = "string", merge = "review" },
    { name = "needs",  type = "ref<service>" },
]
`

// A document tells of operations, promotions, conflicts, violations and milestones, each in its form.
func TestEvents(t *testing.T) {
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
	submit := func(requests ...config.Request) {
		t.Helper()
		if _, err := doc.Submit(ctx, engine.Batch{Actor: config.Actor{ID: "zara", Class: config.Human}, Requests: requests}); err != nil {
			t.Fatal(err)
		}
	}
	submit(config.Request{Kind: config.ChangeSchema, Text: schemaText})

	type message struct {
		header http.Header
		body   []byte
	}
	came := make(chan message, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		came <- message{r.Header, body}
	}))
	defer server.Close()
	client := outbound.New(outbound.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	defer client.Close()
	h := webhook.New(hooks.Store(doc.Meta()), hooks.NewSource(doc), client, webhook.Options{Poll: time.Millisecond})
	sub, err := h.Add(ctx, webhook.Subscription{URL: server.URL, Entities: []string{"service.*"}})
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- h.Run(run) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	next := func(kind string) (p hooks.Payload) {
		t.Helper()
		m := <-came
		if err := webhook.Verify(sub.Secret, m.header, m.body, time.Now()); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal(m.body, &p); err != nil {
			t.Fatal(err)
		}
		if p.Type != kind || p.Document != "shop" {
			t.Fatalf("got %s, want %s", m.body, kind)
		}
		return p
	}

	submit(config.Request{Kind: config.SetField, Entity: "service.a", Field: "weight", Value: int64(80), Intent: "less load"})
	p := next(hooks.Operation)
	if p.Op.Actor.ID != "zara" || p.Op.Intent != "less load" || !slices.ContainsFunc(p.Changes, func(c engine.Change) bool { return c.Entity == "service.a" && c.Field == "weight" }) {
		t.Errorf("operation %+v", p)
	}

	submit(config.Request{Kind: config.SetField, Entity: "service.a", Field: "owner", Value: "team-a"})
	next(hooks.Operation)
	before := version(t, doc)
	submit(config.Request{Kind: config.SetField, Entity: "service.a", Field: "owner", Value: "team-b"})
	next(hooks.Operation)
	stale := config.Request{Kind: config.SetField, Entity: "service.a", Field: "owner", Value: "team-c", Seen: before}
	submit(stale)
	next(hooks.Operation)
	if p = next(hooks.Conflict); len(p.Changes) == 0 || !p.Changes[0].Conflict {
		t.Errorf("conflict %+v", p)
	}

	submit(config.Request{Kind: config.SetField, Entity: "service.a", Field: "needs", Value: "service.b"})
	next(hooks.Operation)
	if p = next(hooks.Violated); len(p.Violations) == 0 || p.Violations[0].Rule != "ref" {
		t.Errorf("violation %+v", p)
	}

	submit(config.Request{Kind: config.SetField, Entity: "service.b", Field: "weight", Env: "staging", Value: int64(7)})
	next(hooks.Operation)
	submit(config.Request{Kind: config.Promote, From: "staging", To: "production", Filter: config.Filter{Entities: []string{"service.b"}}})
	next(hooks.Operation)
	if p = next(hooks.Promotion); p.Op.From != "staging" || p.Op.To != "production" {
		t.Errorf("promotion %+v", p)
	}

	argo, err := h.Add(ctx, webhook.Subscription{URL: server.URL, Format: webhook.GitHub})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Remove(ctx, sub.ID); err != nil {
		t.Fatal(err)
	}
	sub = argo
	err = hooks.Milestone(ctx, h, "shop", hooks.Commit{
		Commit: "aaaa", Repository: "https://git.example/ops/shop.git", Branch: "main", Message: "milestone: x", Modified: []string{"production/services.yaml"},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := <-came
	for m.header.Get("X-GitHub-Event") == "" { // the first subscription may have had it before it was removed
		m = <-came
	}
	var push struct {
		Ref        string
		Repository struct {
			HTMLURL string `json:"html_url"`
		}
		Commits []struct{ Modified []string }
	}
	if err := json.Unmarshal(m.body, &push); err != nil || push.Ref != "refs/heads/main" || push.Repository.HTMLURL != "https://git.example/ops/shop" ||
		len(push.Commits) != 1 || !slices.Equal(push.Commits[0].Modified, []string{"production/services.yaml"}) {
		t.Errorf("push %s, %v", m.body, err)
	}
}

func version(t *testing.T, d *engine.Document) *crdt.Dots {
	t.Helper()
	var v crdt.Dots
	if err := d.View(func(s *config.State) error { v = s.Version(); return nil }); err != nil {
		t.Fatal(err)
	}
	return &v
}

// A milestone of whatever size is told: what JSON makes too large of it is left out.
func TestLargeMilestone(t *testing.T) {
	ctx := t.Context()
	store := oplog.NewMemory()
	if err := store.Create(ctx, "shop"); err != nil {
		t.Fatal(err)
	}
	log, err := store.Open(ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- body
	}))
	defer server.Close()
	client := outbound.New(outbound.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	defer client.Close()
	h := webhook.New(hooks.Store(log), nil, client, webhook.Options{})
	if _, err := h.Add(ctx, webhook.Subscription{URL: server.URL}); err != nil {
		t.Fatal(err)
	}
	c := hooks.Commit{Commit: "aaaa", Branch: "main", Message: "milestone: large\n" + strings.Repeat("<", 100_000)}
	for i := range 1000 {
		c.Added = append(c.Added, strings.Repeat("<", 200)+strconv.Itoa(i))
	}
	if err := hooks.Milestone(ctx, h, "shop", c); err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- h.Run(run) }()
	var p hooks.Payload
	if err := json.Unmarshal(<-got, &p); err != nil || !p.Truncated || p.Milestone.Message != "milestone: large" || len(p.Milestone.Added) != 0 {
		t.Errorf("got %+v, %v", p.Milestone, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
