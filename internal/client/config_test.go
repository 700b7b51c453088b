package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config/access"
	"github.com/skep-dev/skep/internal/config/daemon"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/config/workspace"
	"github.com/skep-dev/skep/internal/errkind"
)

const shop = `name = "shop"
version = "1.0.0"

[environments]
base = "production"
overlays = [{ name = "staging", inherits = "production" }]

[entity.service]
fields = [
    { name = "image",    type = "string",    merge = "lww" },
    { name = "replicas", type = "int",       merge = "max", default = 1 },
    { name = "owner",    type = "string",    merge = "review" },
    { name = "ratio",    type = "float",     merge = "lww" },
    { name = "ports",    type = "list<int>", merge = "set" },
]
`

// configDaemon runs the real daemon on a new workspace, with these files in its folder.
func configDaemon(t *testing.T, files map[string]string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	w, err := workspace.Init(ctx, dir, "shop", shop)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, workspace.Folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := daemon.New(w, daemon.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := d.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, w.Close()); err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

func asActor(t *testing.T, at, actor string) *client.Configuration {
	t.Helper()
	d, err := client.DaemonDocument(at, client.DaemonOptions{Actor: actor})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func set(entity, field string, v any) wire.Operation {
	return wire.Operation{Type: "set_field", EntityID: entity, Field: field, Value: &wire.Value{Any: v}}
}

// TestConfigurationWrites: what the daemon answers comes back in the types that it has: integers as integers, nothing as nothing.
func TestConfigurationWrites(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := asActor(t, configDaemon(t, nil), "zara")
	r, err := d.Submit(ctx, set("service.api", "replicas", int64(5)), client.WriteOptions{})
	if err != nil || r.Now == nil || r.Now.Any != int64(5) || r.Seq != 2 {
		t.Fatalf("Submit = %+v, %v", r, err)
	}
	dry, err := d.SubmitBatch(ctx, []wire.Operation{set("service.api", "image", "a:1"), set("service.db", "ratio", 0.5)}, client.WriteOptions{DryRun: true})
	if err != nil || len(dry.Results) != 2 {
		t.Fatalf("SubmitBatch = %+v, %v", dry, err)
	}
	if _, err := d.Entity(ctx, "service.db", ""); !errors.Is(err, errkind.NotFound) {
		t.Errorf("after a dry run there is what it would have written: %v", err)
	}
	if _, err := d.SubmitBatch(ctx, []wire.Operation{set("service.api", "image", "a:1"), set("service.api", "image", "a:2")}, client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = d.Submit(ctx, set("service.api", "image", "a:3"), client.WriteOptions{IfMatch: r.Version})
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != http.StatusPreconditionFailed || !errors.Is(err, errkind.Conflict) {
		t.Errorf("a write over one that was not seen: %v", err)
	}
	once := client.WriteOptions{IdempotencyKey: "k1"}
	first, err := d.Submit(ctx, set("service.api", "image", "a:4"), once)
	again, err2 := d.Submit(ctx, set("service.api", "image", "a:4"), once)
	if err != nil || err2 != nil || first.ID != again.ID {
		t.Errorf("the same request twice: %s, %v and %s, %v", first.ID, err, again.ID, err2)
	}
	if _, err := d.Submit(ctx, set("service.api", "image", nil), client.WriteOptions{}); err != nil {
		t.Errorf("unset a field: %v", err)
	}
	e, err := d.Entity(ctx, "service.api", "staging")
	want := map[string]wire.Value{"replicas": {Any: int64(5)}}
	if err != nil || e.Environment != "staging" || cmp.Diff(want, e.Fields) != "" {
		t.Errorf("Entity = %+v, %v", e, err)
	}
	_, err = d.Submit(ctx, set("service.api", "colour", "red"), client.WriteOptions{})
	if !errors.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), "colour") {
		t.Errorf("a field that there is not: %v", err)
	}
	p, err := d.Promote(ctx, wire.Promotion{From: "staging", To: "production"}, client.WriteOptions{})
	if err != nil || p.Seq != 0 {
		t.Errorf("promote what is the same: %+v, %v", p, err)
	}
}

// TestConfigurationReads: every list that the daemon has.
func TestConfigurationReads(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	at := configDaemon(t, nil)
	d, bob := asActor(t, at, "zara"), asActor(t, at, "bob")
	base, err := d.Submit(ctx, set("service.api", "owner", "red"), client.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for who, op := range map[*client.Configuration]wire.Operation{d: set("service.api", "owner", "green"), bob: set("service.api", "owner", "blue")} {
		op.Base, op.Intent = base.Version, "taste"
		if _, err := who.Submit(ctx, op, client.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	open, err := d.Conflicts(ctx)
	if err != nil || len(open) != 1 || len(open[0].Candidates) != 2 || open[0].Candidates[0].Intent != "taste" {
		t.Fatalf("Conflicts = %+v, %v", open, err)
	}
	if _, err := d.Resolve(ctx, "service.api", "owner", "", wire.Value{Any: "black"}, "agreed"); err != nil {
		t.Fatal(err)
	}
	status, err := d.Status(ctx)
	if err != nil || status.Document != "shop" || status.Operations != 5 || status.Conflicts != 0 {
		t.Errorf("Status = %+v, %v", status, err)
	}
	envs, err := d.Environments(ctx)
	if err != nil || len(envs) != 2 || envs[1].Inherits != "production" {
		t.Errorf("Environments = %v, %v", envs, err)
	}
	text, err := d.Schema(ctx)
	if err != nil || text.Text != shop || text.Version != "1.0.0" {
		t.Errorf("Schema = %+v, %v", text, err)
	}
	broken, err := d.Violations(ctx, "")
	if err != nil || len(broken) != 0 {
		t.Errorf("Violations = %v, %v", broken, err)
	}
	blame, err := d.Blame(ctx, "service.api", "owner", "")
	if err != nil || len(blame) != 1 || blame[0].By[0].Actor.ID != "zara" || blame[0].By[0].Intent != "agreed" {
		t.Errorf("Blame = %+v, %v", blame, err)
	}
	log, err := d.Log(ctx, client.OperationQuery{Entity: "service.api", Actor: "bob", Limit: 1, Since: time.Now().Add(-time.Hour)})
	if err != nil || len(log.Operations) != 1 || log.Operations[0].Actor.ID != "bob" {
		t.Errorf("Log = %+v, %v", log, err)
	}
	staged := set("service.api", "image", "a:2")
	staged.Environment = "staging"
	if _, err := d.Submit(ctx, staged, client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	diff, err := d.Diff(ctx, "production", "staging", client.FieldFilter{Entities: []string{"service.*"}, Fields: []string{"image", "owner"}})
	if err != nil || len(diff) != 1 || diff[0].New.Any != "a:2" {
		t.Errorf("Diff = %+v, %v", diff, err)
	}
	since, err := d.Since(ctx, client.Then{Version: base.Version}, "staging", client.FieldFilter{})
	if err != nil || len(since) != 2 {
		t.Errorf("Since a version = %+v, %v", since, err)
	}
	since, err = d.Since(ctx, client.Then{Time: time.Now().Add(time.Hour)}, "", client.FieldFilter{})
	if err != nil || len(since) != 0 {
		t.Errorf("Since a time that is to come = %+v, %v", since, err)
	}
	if _, err := d.Since(ctx, client.Then{Version: base.Version, Time: time.Now()}, "", client.FieldFilter{}); !errors.Is(err, errkind.Invalid) {
		t.Errorf("since two states at once: %v", err)
	}
	var export bytes.Buffer
	if err := d.ExportLog(ctx, &export, client.ExportQuery{Until: time.Now().Add(time.Hour)}); err != nil || bytes.Count(export.Bytes(), []byte("\n")) < 6 {
		t.Errorf("ExportLog = %s, %v", export.Bytes(), err)
	}
}

// TestStateSince: who asks again gets the state only when it is another one.
func TestStateSince(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := asActor(t, configDaemon(t, nil), "zara")
	for i := range 3 {
		if _, err := d.Submit(ctx, set(fmt.Sprintf("service.s%d", i), "image", "a:1"), client.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s, tag, err := d.StateSince(ctx, client.StateQuery{Type: "service", Limit: 2}, "")
	if err != nil || len(s.Entities) != 2 || s.Next != "service.s1" || tag == "" {
		t.Fatalf("StateSince = %+v, %q, %v", s, tag, err)
	}
	rest, err := d.State(ctx, client.StateQuery{After: s.Next})
	if err != nil || len(rest.Entities) != 1 || rest.Next != "" {
		t.Errorf("the next page = %+v, %v", rest, err)
	}
	if s, same, err := d.StateSince(ctx, client.StateQuery{Type: "service", Limit: 2}, tag); s != nil || same != tag || err != nil {
		t.Errorf("nothing has changed, and StateSince = %v, %q, %v", s, same, err)
	}
	if _, err := d.Submit(ctx, set("service.s0", "image", "a:2"), client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if s, _, err := d.StateSince(ctx, client.StateQuery{Type: "service", Limit: 2}, tag); s == nil || err != nil {
		t.Errorf("something has changed, and StateSince = %v, %v", s, err)
	}
}

// TestConfigurationMilestones: made, listed, found, and compared with.
func TestConfigurationMilestones(t *testing.T) {
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(t.TempDir(), "none"))
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	ctx := t.Context()
	d := asActor(t, configDaemon(t, nil), "zara")
	if _, err := d.Since(ctx, client.Then{}, "", client.FieldFilter{}); !errors.Is(err, errkind.NotFound) {
		t.Errorf("since the last milestone, without one: %v", err)
	}
	if _, err := d.Submit(ctx, set("service.api", "image", "a:1"), client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	made, err := d.CreateMilestone(ctx, wire.NewMilestone{Message: "first"})
	if err != nil || made.Message != "first" || made.Operations == 0 {
		t.Fatalf("CreateMilestone = %+v, %v", made, err)
	}
	if _, err := d.CreateMilestone(ctx, wire.NewMilestone{Message: "second"}); !errors.Is(err, errkind.Conflict) {
		t.Errorf("a milestone of nothing: %v", err)
	}
	list, err := d.Milestones(ctx, 10)
	if err != nil || len(list) != 1 || list[0].ID != made.ID {
		t.Errorf("Milestones = %+v, %v", list, err)
	}
	one, err := d.Milestone(ctx, made.ID[:10])
	if err != nil || one.Text != list[0].Text {
		t.Errorf("Milestone = %+v, %v", one, err)
	}
	if _, err := d.Submit(ctx, set("service.api", "image", "a:2"), client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, then := range []client.Then{{}, {Milestone: made.ID}} {
		since, err := d.Since(ctx, then, "production", client.FieldFilter{})
		if err != nil || len(since) != 1 || since[0].New.Any != "a:2" {
			t.Errorf("Since %+v = %+v, %v", then, since, err)
		}
	}
}

// TestDaemonKnowsCallers: by their key, and a wrong one is refused.
func TestDaemonKnowsCallers(t *testing.T) {
	t.Parallel()
	good := access.GenerateKey()
	hash, _, err := access.HashKey(good)
	if err != nil {
		t.Fatal(err)
	}
	at := configDaemon(t, map[string]string{
		"config.toml":   "document = \"shop\"\n[auth]\nmode = \"api-key\"\n",
		"api-keys.toml": "[[keys]]\nkey_hash = \"" + hash + "\"\nactor_id = \"ci\"\nactor_class = \"pipeline\"\n",
	})
	ci, err := client.DaemonDocument(at, client.DaemonOptions{Key: good, Actor: "root"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ci.Submit(t.Context(), set("service.api", "image", "a:1"), client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if log, err := ci.Log(t.Context(), client.OperationQuery{Limit: 1}); err != nil || log.Operations[0].Actor.ID != "ci" {
		t.Errorf("whose key it is counts, and not the name: %+v, %v", log, err)
	}
	for _, key := range []string{"", "skepc_wrong"} {
		d, err := client.DaemonDocument(at, client.DaemonOptions{Key: key, Actor: "root"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Status(t.Context()); !errors.Is(err, errkind.Unauthorized) {
			t.Errorf("with key %q: %v, want errkind.Unauthorized", key, err)
		}
		for _, err := range d.Watch(t.Context(), client.WatchQuery{}) {
			if !errors.Is(err, errkind.Unauthorized) {
				t.Errorf("watch with key %q: %v, want errkind.Unauthorized", key, err)
			}
		}
	}
}

// breakable is an http.Client whose connections a test can cut.
type breakable struct {
	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

func (b *breakable) client(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.conns = append(b.conns, c)
		}
		return c, err
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func (b *breakable) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		_ = c.Close()
	}
	b.conns = nil
}

// TestWatchGoesOn: whatever happens to its connections, a watcher gets each event once, in order, with the state first.
func TestWatchGoesOn(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	at := configDaemon(t, nil)
	d := asActor(t, at, "zara")
	if _, err := d.Submit(ctx, set("service.api", "image", "a:0"), client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	net := &breakable{}
	watcher, err := client.DaemonDocument(at, client.DaemonOptions{HTTP: net.client(t)})
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	var got []any
	const events = 20
	for e, err := range watcher.Watch(ctx, client.WatchQuery{Initial: true, Field: "image", Env: "production", Lost: func(error) { lost++ }}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range e.Changes {
			if v := c.Value.Any; !slices.Contains(got, v) || e.Operation != nil {
				got = append(got, v)
			}
		}
		if len(got) == events {
			break
		}
		if len(got)%4 == 1 {
			net.cut()
		}
		if _, err := d.Submit(ctx, set("service.api", "image", fmt.Sprintf("a:%d", len(got))), client.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i, v := range got {
		if v != fmt.Sprintf("a:%d", i) {
			t.Fatalf("the watcher got %v", got)
		}
	}
	if lost == 0 {
		t.Error("no connection was lost: the test tests nothing")
	}
}

// endOf is what a watch ends with that has no events.
func endOf(t *testing.T, watch iter.Seq2[*wire.Event, error]) (last error) {
	t.Helper()
	for e, err := range watch {
		if last = err; e != nil {
			t.Errorf("an event: %+v", e)
		}
	}
	return last
}

// TestWatchEnds: with its context, when nobody listens, at a server that is not there, and when it is refused.
func TestWatchEnds(t *testing.T) {
	t.Parallel()
	at := configDaemon(t, nil)
	d := asActor(t, at, "zara")
	ctx, cancel := context.WithCancel(t.Context())
	last := endOf(t, d.Watch(ctx, client.WatchQuery{Passed: func(uint64) { cancel() }}))
	if !errors.Is(last, context.Canceled) {
		t.Errorf("the context ended, and the watch with %v", last)
	}
	future := uint64(1000)
	last = endOf(t, d.Watch(t.Context(), client.WatchQuery{Cursor: &future}))
	if !errors.Is(last, errkind.Conflict) {
		t.Errorf("a cursor of the future: %v", last)
	}
	nobody := asActor(t, "http://127.0.0.1:1", "zara")
	last = endOf(t, nobody.Watch(t.Context(), client.WatchQuery{}))
	if last == nil {
		t.Error("nobody is there, and it does not say so")
	}
	if _, err := d.Submit(t.Context(), set("service.api", "image", "a:1"), client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	p, err := d.Poll(t.Context(), client.WatchQuery{Cursor: new(uint64)}, time.Second)
	if err != nil || len(p.Events) != 1 || p.Cursor != 2 {
		t.Errorf("Poll = %+v, %v", p, err)
	}
}

// TestWatchOfNoEvents: an answer that is something else ends a watch, and does not make it ask for ever.
func TestWatchOfNoEvents(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"a page": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"no events": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-ndjson")
			_, _ = io.WriteString(w, "no\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			last := endOf(t, serve(t, h).Document("acme", "shop").Watch(t.Context(), client.WatchQuery{}))
			if !errors.Is(last, errkind.Unsupported) {
				t.Errorf("the watch ended with %v, want errkind.Unsupported", last)
			}
		})
	}
}

// TestServersDocuments: the content of a document is below it.
func TestServersDocuments(t *testing.T) {
	t.Parallel()
	var seen string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.URL.RequestURI() + " " + r.Header.Get("Authorization")
		fmt.Fprint(w, "{}")
	})
	if _, err := c.Document("acme/platform", "shop").Entity(t.Context(), "service.a/b", "staging"); err != nil {
		t.Fatal(err)
	}
	if want := "/api/v2/tenants/acme%2Fplatform/config/shop/state/service.a%2Fb?env=staging Bearer secret"; seen != want {
		t.Errorf("asked %s, want %s", seen, want)
	}
}

// TestWebhooks: looked after by who administers the document; a secret is told once.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := asActor(t, configDaemon(t, nil), "zara")
	hooks := d.Webhooks()
	made, err := hooks.Add(ctx, &wire.NewWebhook{URL: "https://hooks.example.com/x", Events: []string{"milestone"}})
	if err != nil || made.Secret == "" {
		t.Fatalf("Add = %+v, %v", made, err)
	}
	list, err := hooks.List(ctx)
	if err != nil || len(list) != 1 || list[0].ID != made.ID || list[0].Secret != "" {
		t.Errorf("List = %+v, %v", list, err)
	}
	if err := hooks.Enable(ctx, made.ID); err != nil {
		t.Error(err)
	}
	one, err := hooks.Show(ctx, made.ID)
	if err != nil || one.URL != made.URL {
		t.Errorf("Show = %+v, %v", one, err)
	}
	last, err := hooks.Deliveries(ctx, made.ID)
	if err != nil || len(last) != 0 {
		t.Errorf("Deliveries = %+v, %v", last, err)
	}
	if _, err := hooks.Redeliver(ctx, made.ID, ""); !errors.Is(err, errkind.NotFound) && !errors.Is(err, errkind.Conflict) {
		t.Errorf("Redeliver of nothing: %v", err)
	}
	if err := hooks.Remove(ctx, made.ID); err != nil {
		t.Error(err)
	}
	if _, err := hooks.Show(ctx, made.ID); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Show of what is gone: %v", err)
	}
}
