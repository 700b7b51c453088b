package daemon_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/config/daemon"
	"github.com/skep-dev/skep/internal/config/workspace"
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
    { name = "token",    type = "string",    merge = "lww" },
    { name = "ports",    type = "list<int>", merge = "set" },
]
`

const goodKey = "skepc_dGhpcyBpcyBhIGtleSBvZiBhIHRlc3QgMTIzNDU2Nzg5MA" //nolint:gosec // a test's

// client talks to a daemon over a real connection.
type client struct {
	tb     testing.TB
	url    string
	header http.Header
	http   *http.Client
}

// serve starts a daemon on a new workspace with these files in its folder .conflux.
func serve(tb testing.TB, files map[string]string) (*client, *workspace.Workspace) {
	tb.Helper()
	return serveDir(tb, func(dir string) (*workspace.Workspace, error) {
		w, err := workspace.Init(tb.Context(), dir, "shop", shop)
		for name, text := range files {
			if name == "config.toml" {
				text = "document = \"shop\"\n" + text
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, workspace.Folder, name), []byte(text), 0o600)
			}
		}
		return w, err
	})
}

// serveDir starts a daemon on a workspace that begin makes in a new folder.
func serveDir(tb testing.TB, begin func(dir string) (*workspace.Workspace, error)) (*client, *workspace.Workspace) {
	tb.Helper()
	w, err := begin(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	return run(tb, w), w
}

// run runs a daemon on a workspace until the test ends.
func run(tb testing.TB, w *workspace.Workspace) *client {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	d, err := daemon.New(w, daemon.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := d.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx, ln) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
		if err := w.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &client{tb: tb, url: d.Scheme() + "://" + ln.Addr().String(), header: http.Header{}, http: http.DefaultClient}
}

// as is a client with another header.
func (c *client) as(name, value string) *client {
	h := c.header.Clone()
	h.Set(name, value)
	return &client{c.tb, c.url, h, c.http}
}

// do makes a request and returns its answer's status, headers and text.
func (c *client) do(method, path, text string) (int, http.Header, string) {
	c.tb.Helper()
	r, err := http.NewRequestWithContext(c.tb.Context(), method, c.url+path, strings.NewReader(text))
	if err != nil {
		c.tb.Fatal(err)
	}
	maps.Copy(r.Header, c.header)
	if text != "" && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(r)
	if err != nil {
		c.tb.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.tb.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// ok is do of what must succeed, decoded.
func (c *client) ok(method, path, text string) map[string]any {
	c.tb.Helper()
	status, _, answer := c.do(method, path, text)
	if status/100 != 2 {
		c.tb.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(answer), &v); err != nil {
		c.tb.Fatalf("%s %s: %v in %s", method, path, err, answer)
	}
	return v
}

func set(entity, field, value string) string {
	return `{"type":"set_field","entity_id":"` + entity + `","field":"` + field + `","value":` + value + `}`
}

func TestOperations(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, nil)
	r := c.as("X-Conflux-Actor", "ci").as("X-Conflux-Actor-Class", "pipeline").ok("POST", "/v1/ops", `{
    "type": "set_field",
    "entity_id": "service.api",
    "field": "replicas",
    "value": 5,
    "intent": "Scale for traffic"
  }`)
	if r["now"] != 5.0 || r["seq"] != 2.0 {
		t.Errorf("set_field answered %v", r)
	}
	by := c.ok("GET", "/v1/blame/service.api?field=replicas", "")["fields"].([]any)[0].(map[string]any)["by"].([]any)[0].(map[string]any)
	if who := by["actor"].(map[string]any); who["id"] != "ci" || who["class"] != "pipeline" || by["intent"] != "Scale for traffic" {
		t.Errorf("blame says %v", by)
	}
	c.ok("POST", "/v1/ops/batch", `{"operations":[`+set("service.api", "image", `"a:1"`)+`,`+set("service.db", "image", `"b:1"`)+`],"intent":"both"}`)
	if status, _, text := c.do("POST", "/v1/ops/batch", `{"operations":[`+set("service.api", "image", `"a:2"`)+`,`+set("service.api", "nothing", `1`)+`]}`); status != 422 || !strings.Contains(text, "operation 2 of 2") {
		t.Errorf("a batch with an operation that is wrong: %d %s", status, text)
	}
	e := c.ok("GET", "/v1/state/service.api", "")
	if f := e["fields"].(map[string]any); f["image"] != "a:1" || f["replicas"] != 5.0 {
		t.Errorf("the entity is %v", e)
	}
	c.ok("PUT", "/entities/service.api/fields/image", `{"value":"a:3"}`)
	c.ok("POST", "/v1/ops", `{"type":"set_field","entity_id":"service.api","field":"image","value":null,"env":"staging"}`)
	c.ok("POST", "/v1/ops", set("service.api", "image", "null"))
	if f := c.ok("GET", "/entities/service.api", "")["fields"].(map[string]any); f["image"] != nil {
		t.Errorf("the image was unset and is %v", f["image"])
	}
	if log := c.ok("GET", "/v1/log/service.db?limit=10", "")["operations"].([]any); len(log) != 1 {
		t.Errorf("the log of service.db has %d operations", len(log))
	}
	for _, path := range []string{
		"/health", "/v1/state", "/v1/envs", "/v1/envs/staging/state", "/v1/envs/diff?from=production&to=staging", "/v1/status",
		"/v1/schema", "/v1/conflicts", "/v1/violations", "/v1/log", "/v1/openapi.json", "/entities",
	} {
		c.ok("GET", path, "")
	}
	c.ok("POST", "/v1/ops", `{"type":"set_field","entity_id":"service.api","field":"image","value":"s:1","environment":"staging"}`)
	if r := c.ok("POST", "/v1/envs/promote", `{"from":"staging","to":"production","dry_run":true}`); r["seq"] != 0.0 && len(r["writes"].([]any)) == 0 {
		t.Errorf("the promotion would do %v", r)
	}
	c.ok("POST", "/v1/envs/promote", `{"from":"staging","to":"production","entities":["service.*"]}`)
	if f := c.ok("GET", "/v1/state/service.api", "")["fields"].(map[string]any); f["image"] != "s:1" {
		t.Errorf("after the promotion the image is %v", f["image"])
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, nil)
	tests := []struct {
		name, method, path, text string
		status                   int
		want                     string
	}{
		{"a misspelt name", "POST", "/v1/ops", `{"type":"set_field","entity_id":"service.a","field":"image","value":"x","enviroment":"staging"}`, 422, "enviroment"},
		{"no JSON", "POST", "/v1/ops", `type=set_field`, 422, "not JSON"},
		{"two documents", "POST", "/v1/ops", set("service.a", "image", `"x"`) + `{}`, 422, "there is more"},
		{"deep", "POST", "/v1/ops", strings.Repeat("[", 10_000), 422, "nested deeper"},
		{"a wrong type", "POST", "/v1/ops", `{"type":7}`, 422, "which it should not be"},
		{"an unknown kind", "POST", "/v1/ops", `{"type":"explode"}`, 422, "explode"},
		{"no operation", "POST", "/v1/ops/batch", `{"operations":[]}`, 422, "no operation"},
		{"no entity", "GET", "/v1/state/service.none", "", 404, "there is none"},
		{"no environment", "GET", "/v1/state?env=moon", "", 404, "moon"},
		{"no path", "GET", "/v1/nothing", "", 404, "/v1/openapi.json"},
		{"no method", "DELETE", "/v1/state", "", 404, "method"},
		{"no number", "GET", "/v1/log?limit=many", "", 422, "limit"},
		{"no commit", "GET", "/v1/milestones/--all", "", 422, "pattern"},
		{"no milestone", "GET", "/v1/milestones/0123456", "", 404, "repository"},
		{"a milestone without a message", "POST", "/v1/milestones", `{}`, 422, "milestone"},
		{"a milestone in two lines", "POST", "/v1/milestones", `{"message":"a\nb"}`, 422, "line"},
		{"a day that is none", "GET", "/v1/audit/export?since=yesterday", "", 422, "yesterday"},
		{"no cursor", "GET", "/v1/watch?cursor=-1", "", 422, "cursor"},
		{"a cursor of the future", "GET", "/v1/watch?cursor=999", "", 409, "begin again"},
	}
	for _, tt := range tests {
		status, h, text := c.do(tt.method, tt.path, tt.text)
		if status != tt.status || !strings.Contains(text, tt.want) || h.Get("Content-Type") != "application/problem+json" || !strings.Contains(text, `"urn:skep:problem:`) {
			t.Errorf("%s: %s %s: %d %s, want %d with %q", tt.name, tt.method, tt.path, status, text, tt.status, tt.want)
		}
	}
	if status, _, text := c.as("Content-Type", "text/plain").do("POST", "/v1/ops", set("service.a", "image", `"x"`)); status != 415 {
		t.Errorf("a form's content type: %d %s", status, text)
	}
	if status, _, _ := c.do("POST", "/v1/ops", `{"type":"`+strings.Repeat("x", 5<<20)+`"}`); status != 413 {
		t.Errorf("5 MiB: %d", status)
	}
}

// Reconcilers ask with what they have, and writers say what they saw.
func TestETags(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, nil)
	c.ok("POST", "/v1/ops", set("service.api", "image", `"a:1"`))
	for _, path := range []string{"/v1/state", "/v1/state?env=staging", "/v1/state/service.api", "/v1/schema", "/v1/envs/staging/state"} {
		_, h, _ := c.do("GET", path, "")
		tag := h.Get("ETag")
		status, h, text := c.as("If-None-Match", tag).do("GET", path, "")
		if tag == "" || status != 304 || text != "" || h.Get("ETag") != tag {
			t.Errorf("%s with %s: %d %q", path, tag, status, text)
		}
		if status, _, _ := c.as("If-None-Match", tag).do("GET", "/v1/state?type=service", ""); status != 200 {
			t.Errorf("the ETag of %s counts for something else", path)
		}
		if status, _, _ := c.as("If-None-Match", tag).as("X-Actor", "other").do("GET", path, ""); status != 200 {
			t.Errorf("the ETag of %s counts for somebody else", path)
		}
	}
	_, h, _ := c.do("GET", "/v1/state/service.api", "")
	seen := c.as("If-Match", h.Get("ETag"))
	c.as("X-Actor", "bob").ok("POST", "/v1/ops", set("service.api", "image", `"a:2"`))
	status, _, text := seen.do("POST", "/v1/ops", set("service.api", "image", `"a:3"`))
	if status != 412 || !strings.Contains(text, "bob") || !strings.Contains(text, "a:2") {
		t.Errorf("a write on what has changed: %d %s", status, text)
	}
	seen.ok("POST", "/v1/ops", set("service.api", "replicas", "3")) // which nobody else wrote to
	if status, _, text := c.as("If-Match", `"abc"`).do("POST", "/v1/ops", set("service.api", "image", `"a:3"`)); status != 422 {
		t.Errorf("an ETag of something else: %d %s", status, text)
	}
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, nil)
	once := c.as("Idempotency-Key", "k1")
	op := set("service.api", "image", `"a:1"`)
	_, _, first := once.do("POST", "/v1/ops", op)
	c.ok("POST", "/v1/ops", set("service.api", "image", `"a:2"`))
	status, h, again := once.do("POST", "/v1/ops", op)
	if status != 201 || again != first || h.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the same again: %d %s, want %s", status, again, first)
	}
	if f := c.ok("GET", "/v1/state/service.api", "")["fields"].(map[string]any); f["image"] != "a:2" {
		t.Errorf("the image is %v: it was set twice", f["image"])
	}
	if status, _, _ := once.do("POST", "/v1/ops", set("service.api", "image", `"a:9"`)); status != 422 {
		t.Errorf("another body under the key: %d", status)
	}
	if status, _, _ := once.as("X-Actor", "other").do("POST", "/v1/ops", set("service.api", "replicas", `9`)); status != 201 {
		t.Errorf("the same key of somebody else: %d", status)
	}
}
