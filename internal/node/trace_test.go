package node_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/skep-dev/skep/internal/node"
)

// collector takes spans as any receiver of OTLP over HTTP does.
type collector struct {
	mu    sync.Mutex
	spans []*tracepb.Span
	raw   bytes.Buffer
	bad   []string
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	var req coltrace.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &req)
	}
	if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.bad = append(c.bad, r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type"))
	}
	c.raw.Write(body)
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
	answer, _ := proto.Marshal(&coltrace.ExportTraceServiceResponse{})
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(answer)
}

// of returns the spans of a trace, and each one's parent.
func (c *collector) of(trace string) (spans map[string][]*tracepb.Span, parent func(*tracepb.Span) *tracepb.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans = map[string][]*tracepb.Span{}
	for _, s := range c.spans {
		if hex.EncodeToString(s.TraceId) == trace {
			spans[s.Name] = append(spans[s.Name], s)
		}
	}
	return spans, func(of *tracepb.Span) *tracepb.Span {
		i := slices.IndexFunc(c.spans, func(s *tracepb.Span) bool { return bytes.Equal(s.SpanId, of.ParentSpanId) })
		if i < 0 {
			return nil
		}
		return c.spans[i]
	}
}

func runGit(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C", "no_proxy=*",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestAPushIsOneTrace: a push with git, large enough for the bucket, can be followed from the server through the cell to the
// bucket, in the trace that git's request says it belongs to.
func TestAPushIsOneTrace(t *testing.T) {
	receiver := &collector{}
	at := httptest.NewServer(receiver)
	defer at.Close()
	dir := filepath.Join(t.TempDir(), "data")
	n, stop := startWith(t, node.Options{DataDir: dir, TraceEndpoint: at.URL, TraceSample: 1})
	token, err := adminToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	src := t.TempDir()
	big := make([]byte, 2<<20)
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	if err := os.WriteFile(filepath.Join(src, "secret-plan.txt"), big, 0o600); err != nil {
		t.Fatal(err)
	}
	runGit(t, src, "init", "-q", "-b", "main")
	runGit(t, src, "add", ".")
	runGit(t, src, "commit", "-q", "-m", "words-of-the-commit")
	const push, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	remote := strings.Replace(n.URL(), "://", "://any:"+token+"@", 1) + "/default/hidden-name.git"
	runGit(t, src, "-c", "http.extraHeader=traceparent: 00-"+push+"-"+caller+"-00", "-c", "http.extraHeader=X-Request-Id: push-1", "push", "-q", remote, "main")
	runGit(t, src, "ls-remote", "-q", remote)
	resp, err := http.Get(n.URL() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	stop() // what is left is sent at the end

	spans, parent := receiver.of(push)
	if len(receiver.bad) > 0 {
		t.Errorf("the receiver got %q", receiver.bad)
	}
	path := []string{"bucket.put", "cell.commit", "cell.receive", "git_receive_pack"}
	if len(spans[path[0]]) != 1 {
		t.Fatalf("the push has %d spans of %s; all: %v", len(spans[path[0]]), path[0], spans)
	}
	at0 := spans[path[0]][0]
	for i, name := range path {
		if at0 == nil || at0.Name != name {
			t.Fatalf("above %v is %v, want %s", path[:i], at0, name)
		}
		if name == "git_receive_pack" {
			break
		}
		at0 = parent(at0)
	}
	if hex.EncodeToString(at0.ParentSpanId) != caller {
		t.Errorf("the request's parent is %x, want %s", at0.ParentSpanId, caller)
	}
	attributes := map[string]string{}
	for _, a := range at0.Attributes {
		attributes[a.Key] = a.Value.GetStringValue()
	}
	if attributes["skep.request_id"] != "push-1" || !strings.HasPrefix(attributes["skep.repo"], "repo_") || at0.Kind != tracepb.Span_SPAN_KIND_SERVER {
		t.Errorf("the request has %v", at0)
	}
	if len(spans["cell.take_in"]) != 1 || len(spans["git_info_refs"]) == 0 {
		t.Errorf("the push has no span of its pack or of its beginning: %v", spans)
	}
	// Another request is another trace, and /metrics is none.
	others := 0
	for _, s := range receiver.spans {
		if s.Name == "system" {
			t.Error("a look at the metrics is traced")
		}
		if hex.EncodeToString(s.TraceId) != push && s.ParentSpanId == nil {
			others++
		}
	}
	if others < 2 {
		t.Errorf("there are %d other traces", others)
	}
	// Nothing that is secret, or in the repository, leaves the server.
	for _, word := range []string{token, "secret-plan", "words-of-the-commit", "hidden-name", "refs/heads"} {
		if bytes.Contains(receiver.raw.Bytes(), []byte(word)) {
			t.Errorf("%q is among what was sent", word)
		}
	}
}
