package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// serve answers every request with one function, on a real listener.
func serve(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h} //nolint:gosec // a test's
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	c, err := client.New("http://"+ln.Addr().String()+"/", client.Options{Token: "secret", UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestProblems: whatever explains a failure, or fails to, becomes an error with the right kind and a readable text.
func TestProblems(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		kind   errkind.Kind
		text   string
	}{
		{"ours", 409, `{"type":"urn:skep:problem:already-exists","title":"Conflict","status":409,"detail":"the name is taken"}`, errkind.Exists, "the name is taken"},
		{"conflict", 409, `{"type":"urn:skep:problem:conflict","status":409,"detail":"moved"}`, errkind.Conflict, "moved"},
		{"validation", 422, `{"title":"Unprocessable Entity","status":422,"detail":"validation failed","errors":[{"message":"too short","location":"body.name"}]}`, errkind.Invalid, "validation failed: too short (body.name)"},
		{"a proxy's page", 502, "<html>bad gateway</html>", errkind.Unavailable, "Bad Gateway"},
		{"nothing", 404, "", errkind.NotFound, "Not Found"},
		{"unknown status", 418, "{}", errkind.Internal, "I'm a teapot"},
		{"odd status", 599, "", errkind.Internal, "the server answered 599"},
		{"not an object", 500, "[1,2]", errkind.Internal, "Internal Server Error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Request-Id", "abc")
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			})
			_, err := c.Whoami(t.Context())
			if !errors.Is(err, tt.kind) || err.Error() != tt.text {
				t.Errorf("error = %v of kind %v, want %q of kind %v", err, errkind.Of(err), tt.text, tt.kind)
			}
			var p *client.Problem
			if !errors.As(err, &p) || p.RequestID != "abc" || p.Status != tt.status {
				t.Errorf("problem = %+v", p)
			}
		})
	}
}

// TestEveryKindHasItsType: what the server writes, the client reads back.
func TestEveryKindHasItsType(t *testing.T) {
	for k := errkind.Internal; k <= errkind.Unsupported; k++ {
		p := &client.Problem{Type: client.ProblemType(k), Status: http.StatusTeapot}
		if !errors.Is(p, k) {
			t.Errorf("a problem of type %s is %v, want %v", p.Type, p.Unwrap(), k)
		}
	}
}

// TestRequestsAreAddressed: paths are escaped once, the credential goes along.
func TestRequestsAreAddressed(t *testing.T) {
	var seen []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Authorization")+" "+r.Header.Get("User-Agent"))
		fmt.Fprint(w, "{}")
	})
	ctx := t.Context()
	_, _ = c.RepoByName(ctx, "acme/platform", "demo")
	_, _ = c.Ref(ctx, "acme/demo", "refs/heads/a b/ü")
	_ = c.DeleteRef(ctx, "acme/demo", "refs/heads/x", &git.OID{})
	_, _ = c.Commit(ctx, "repo_1", "feature/x^{commit}")
	_, _ = c.Contents(ctx, "acme/demo", "v1", "a/b c.txt")
	want := []string{
		"GET /api/v2/repos/acme%2Fplatform%2Fdemo",
		"GET /api/v2/repos/acme%2Fdemo/refs/heads/a%20b/%C3%BC",
		"DELETE /api/v2/repos/acme%2Fdemo/refs/heads/x?expected=0000000000000000000000000000000000000000",
		"GET /api/v2/repos/repo_1/commits/feature%2Fx%5E%7Bcommit%7D",
		"GET /api/v2/repos/acme%2Fdemo/contents?path=a%2Fb+c.txt&ref=v1",
	}
	for i, w := range want {
		if w += " Bearer secret test"; seen[i] != w {
			t.Errorf("request %d = %s\nwant %s", i, seen[i], w)
		}
	}
}

func TestServerAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"http://127.0.0.1:7420": "http://127.0.0.1:7420", "https://git.example.com/": "https://git.example.com",
		"http://any:tok@host:1/sub/?q#f": "http://host:1/sub", "127.0.0.1:7420": "", "ftp://x": "", "": "", "http://": "",
	} {
		c, err := client.New(in, client.Options{})
		if want == "" {
			if !errors.Is(err, errkind.Invalid) {
				t.Errorf("New(%q): %v, want errkind.Invalid", in, err)
			}
			continue
		}
		if err != nil || c.URL() != want {
			t.Errorf("New(%q) = %v, %v, want %s", in, c, err, want)
		}
	}
}

// TestPagesEnd: All follows cursors to the end, and stops when told to or at an error.
func TestPages(t *testing.T) {
	pages := map[string]client.Page[int]{"": {Items: []int{1, 2}, NextCursor: "a"}, "a": {Items: []int{3}, NextCursor: "b"}}
	fetch := func(_ context.Context, cursor string, _ int) (client.Page[int], error) {
		p, ok := pages[cursor]
		if !ok {
			return p, io.ErrUnexpectedEOF
		}
		return p, nil
	}
	var got []int
	var last error
	for n, err := range client.All(t.Context(), fetch) {
		if err != nil {
			last = err
			break
		}
		got = append(got, n)
	}
	if fmt.Sprint(got) != "[1 2 3]" || !errors.Is(last, io.ErrUnexpectedEOF) {
		t.Errorf("All = %v, %v", got, last)
	}
	for n := range client.All(t.Context(), fetch) {
		if n == 2 {
			break
		}
	}
}

// TestPushStopsReading: a server that answers before it has read the pack does not keep the pusher.
func TestPushEndsEarly(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"success":false,"error":"moved","conflicts":[{"ref":"refs/heads/x","expected":"`+strings.Repeat("1", 40)+`","actual":"`+strings.Repeat("2", 40)+`"}]}`)
	})
	res, err := c.Push(t.Context(), "a/b", []client.PushUpdate{{Ref: "refs/heads/x"}}, endless{})
	if err == nil {
		t.Fatal("the push went through")
	}
	if errors.Is(err, errkind.Conflict) && (len(res.Conflicts) != 1 || err.Error() != "moved") {
		t.Errorf("push = %+v, %v", res, err)
	}
}

// endless never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
