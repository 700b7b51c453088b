package protocol_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/gittest"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// remotes are the ways to one repository that git itself serves.
func remotes(t *testing.T, dir string) map[string]*protocol.Client {
	t.Helper()
	s := gitHTTP(t, dir)
	over, err := protocol.NewHTTPClient(s.Client(), s.URL+"/.git", protocol.HTTPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	old, err := protocol.NewHTTPClient(&http.Client{Transport: version0{s.Client().Transport}}, s.URL+"/.git/", protocol.HTTPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*protocol.Client{
		"http": over, "http v0": old,
		"command": commandClient(dir), "command v0": commandClient(dir, "-c", "protocol.version=0"),
	}
}

// version0 hides that the client knows a newer protocol.
type version0 struct{ http.RoundTripper }

func (v version0) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("Git-Protocol")
	return v.RoundTripper.RoundTrip(r)
}

// commandClient talks to git's own programs. With more arguments they do not hear of a protocol version.
func commandClient(dir string, old ...string) *protocol.Client {
	return protocol.NewCommandClient(func(ctx context.Context, service string) *exec.Cmd {
		sub := strings.TrimPrefix(service, "git-")
		cmd := exec.CommandContext(ctx, "git", sub, dir)
		if len(old) > 0 {
			cmd = exec.CommandContext(ctx, "env", "-u", "GIT_PROTOCOL", "git", sub, dir)
		}
		cmd.Env = gittest.Env()
		return cmd
	}, "skep/test")
}

func TestClientListsAsGitDoes(t *testing.T) {
	dir := sample(t)
	want := refs(t, dir)
	for name, c := range remotes(t, dir) {
		t.Run(name, func(t *testing.T) {
			l, err := c.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range l.Refs {
				got = append(got, r.OID.String()+" "+string(r.Name))
			}
			if diff := cmp.Diff(want, strings.Join(got, "\n")); diff != "" {
				t.Errorf("references (-git +client):\n%s", diff)
			}
			if l.Head != "refs/heads/main" || l.HeadOID.String() != runGit(t, dir, "rev-parse", "HEAD") {
				t.Errorf("HEAD is %s %s", l.Head, l.HeadOID)
			}
			i := 0
			for i < len(l.Refs) && l.Refs[i].Name != "refs/tags/v1-again" {
				i++
			}
			if got, want := l.Refs[i].Peeled.String(), runGit(t, dir, "rev-parse", "v1^{commit}"); got != want {
				t.Errorf("the tag of a tag is peeled to %s, want %s", got, want)
			}
			if wantVersion := protocol.V2; strings.HasSuffix(name, "v0") != (l.Version != wantVersion) {
				t.Errorf("version is %d", l.Version)
			}
			l, err = c.List(t.Context(), "refs/heads/s", "refs/tags/v")
			if err != nil || len(l.Refs) != 4 {
				t.Errorf("with prefixes: %d references, %v; want 4", len(l.Refs), err)
			}
		})
	}
}

func TestClientFetchesAndPushes(t *testing.T) {
	src := sample(t)
	for name, from := range remotes(t, src) {
		t.Run(name, func(t *testing.T) {
			// Given an empty repository, when the stream of a fetch is pushed to it …
			dst := t.TempDir()
			runGit(t, dst, "init", "-q", "-b", "main")
			to := remotes(t, dst)[name]
			l, err := from.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var progress bytes.Buffer
			p, err := from.Fetch(t.Context(), protocol.FetchRequest{Wants: l.Tips(), Progress: &progress})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			req := protocol.PushRequest{Pack: p, Atomic: true, Progress: io.Discard}
			for _, r := range l.Refs {
				req.Updates = append(req.Updates, git.RefUpdate{Name: r.Name + "-copy", New: r.OID})
			}
			res, err := to.Push(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			// … then it has everything.
			if err := res.Err(); err != nil {
				t.Fatal(err)
			}
			if len(res.Refs) != len(req.Updates) {
				t.Errorf("%d references are reported, want %d", len(res.Refs), len(req.Updates))
			}
			if diff := cmp.Diff(objects(t, src), objects(t, dst)); diff != "" {
				t.Errorf("objects (-source +copy):\n%s", diff)
			}
			if !strings.Contains(progress.String(), "Enumerating objects") {
				t.Errorf("progress is %q", progress.String())
			}

			// And a push that is refused says why, per reference.
			res, err = to.Push(t.Context(), protocol.PushRequest{Updates: []git.RefUpdate{
				{Name: "refs/heads/main-copy", New: l.HeadOID},
				{Name: "refs/heads/new", New: l.HeadOID},
			}})
			if err != nil {
				t.Fatal(err)
			}
			if res.Refs[0].Reason == "" || res.Refs[1].Reason != "" || !errors.Is(res.Err(), errkind.Conflict) {
				t.Errorf("report is %+v, want the first refused and the second done", res)
			}

			// And deletion sends no pack.
			res, err = to.Push(t.Context(), protocol.PushRequest{Updates: []git.RefUpdate{
				{Name: "refs/heads/new", Old: l.HeadOID},
			}})
			if err != nil || res.Err() != nil {
				t.Errorf("deletion: %v, %v", res, err)
			}
		})
	}
}

func TestClientFetchesOnlyWhatIsMissing(t *testing.T) {
	dir := sample(t)
	have := git.MustParseOID(runGit(t, dir, "rev-parse", "main~3"))
	want := git.MustParseOID(runGit(t, dir, "rev-parse", "main"))
	for name, c := range remotes(t, dir) {
		t.Run(name, func(t *testing.T) {
			p, err := c.Fetch(t.Context(), protocol.FetchRequest{Wants: []git.OID{want}, Haves: []git.OID{have}})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			b, err := io.ReadAll(p)
			if err != nil {
				t.Fatal(err)
			}
			n := len(strings.Split(runGit(t, dir, "rev-list", "--objects", "main", "^main~3"), "\n"))
			if !bytes.HasPrefix(b, []byte("PACK\x00\x00\x00\x02\x00\x00\x00"+string(rune(n)))) {
				t.Errorf("the pack starts with %q, want %d objects", b[:12], n)
			}
		})
	}
}

func TestClientSaysWhatTheRemoteSays(t *testing.T) {
	dir := sample(t)
	unknown := git.MustParseOID("1234567890123456789012345678901234567890")
	for name, c := range remotes(t, dir) {
		t.Run(name, func(t *testing.T) {
			p, err := c.Fetch(t.Context(), protocol.FetchRequest{Wants: []git.OID{unknown}})
			if err == nil {
				_, err = io.ReadAll(p)
				p.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "not our ref "+unknown.String()) {
				t.Errorf("Fetch(unknown) = %v, want the remote's words", err)
			}
		})
	}
	t.Run("no such command", func(t *testing.T) {
		_, err := commandClient(t.TempDir() + "/none").List(t.Context())
		if err == nil || !strings.Contains(err.Error(), "not a git repository") && !strings.Contains(err.Error(), "does not appear") {
			t.Errorf("List() = %v, want git's complaint", err)
		}
	})
}

func TestClientOverHTTPKnowsStatus(t *testing.T) {
	tests := []struct {
		status int
		want   error
	}{
		{401, errkind.Unauthorized}, {403, errkind.Forbidden}, {404, errkind.NotFound}, {503, errkind.Unavailable}, {200, errkind.Unsupported},
	}
	for _, tt := range tests {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			io.WriteString(w, "words\n")
		}))
		c, err := protocol.NewHTTPClient(s.Client(), s.URL, protocol.HTTPOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = c.List(t.Context()); !errors.Is(err, tt.want) {
			t.Errorf("status %d: %v, want %v", tt.status, err, tt.want)
		}
		s.Close()
	}
}

func TestClientFollowsARenamedRepositoryAndKeepsItsCredentials(t *testing.T) {
	dir := sample(t)
	inner := gitHTTP(t, dir)
	target, _ := url.Parse(inner.URL)
	asked := map[string]string{}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked["other "+r.Method] = r.Header.Get("Authorization")
		r.URL.Scheme, r.URL.Host, r.RequestURI = target.Scheme, target.Host, ""
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		io.Copy(w, resp.Body)
	}))
	defer other.Close()
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked["first "+r.Method] = r.Header.Get("Authorization")
		http.Redirect(w, r, other.URL+"/.git"+strings.TrimPrefix(r.URL.Path, "/old")+"?"+r.URL.RawQuery, http.StatusMovedPermanently)
	}))
	defer first.Close()
	c, err := protocol.NewHTTPClient(http.DefaultClient, strings.Replace(first.URL, "http://", "http://me:secret@", 1)+"/old", protocol.HTTPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"first GET": "Basic bWU6c2VjcmV0", "other GET": "", "other POST": ""}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("requests and credentials (-want +got):\n%s", diff)
	}
}

func TestClientImportsIntoThisServer(t *testing.T) {
	src := sample(t)
	from := commandClient(src)
	r := newRepo(t)
	to, err := protocol.NewHTTPClient(http.DefaultClient, r.serveHTTP(t, protocol.UploadOptions{}), protocol.HTTPOptions{Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := from.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := from.Fetch(t.Context(), protocol.FetchRequest{Wants: l.Tips()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	req := protocol.PushRequest{Pack: p, Atomic: true}
	for _, ref := range l.Refs {
		req.Updates = append(req.Updates, git.RefUpdate{Name: ref.Name, New: ref.OID})
	}
	res, err := to.Push(t.Context(), req)
	if err != nil || res.Err() != nil {
		t.Fatal(err, res)
	}
	checkStored(t, src, r)
	if l, err = to.List(t.Context(), "refs/tags/"); err != nil || len(l.Refs) != 5 {
		t.Errorf("List() = %v, %v; want 5 tags", l, err)
	}

	// A source that breaks off leaves nothing, and is named as the cause.
	empty := newRepo(t)
	if to, err = protocol.NewHTTPClient(http.DefaultClient, empty.serveHTTP(t, protocol.UploadOptions{}), protocol.HTTPOptions{}); err != nil {
		t.Fatal(err)
	}
	req.Pack = io.MultiReader(strings.NewReader("PACK\x00\x00\x00\x02\x00\x00\x00\x05"), iotest.ErrReader(errFailing))
	if _, err := to.Push(t.Context(), req); !errors.Is(err, errFailing) {
		t.Errorf("Push() of a broken source = %v, want its error", err)
	}
	if empty.pushes != 0 {
		t.Error("a push whose source breaks off moved references")
	}
}
