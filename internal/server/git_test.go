package server_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// everything is all that a repository has: what came back must equal what was pushed.
func everything(t *testing.T, dir string) string {
	t.Helper()
	return git(t, dir, "rev-list", "--objects", "--all")
}

// TestPushAndCloneBack: a push to a repository that is not there yet makes it, private, and a clone in each version of
// the protocol gives it back.
func TestPushAndCloneBack(t *testing.T) {
	s := startSite(t, server.Options{})
	src := newRepo(t, 5)
	git(t, src, "tag", "-a", "-m", "first", "v1")
	git(t, src, "push", "-q", s.remote(s.admin, "default/demo"), "main", "v1")

	r := result(s.api(s.admin).RepoByName(t.Context(), "default", "demo"))(t)
	if r.Visibility != client.Private || r.DefaultBranch != "main" {
		t.Errorf("the push made %+v, want a private repository with default branch main", r)
	}
	for _, version := range []string{"0", "1", "2"} {
		for _, suffix := range []string{".git", ""} {
			dst := t.TempDir()
			remote := strings.TrimSuffix(s.remote(s.admin, "default/demo"), ".git") + suffix
			git(t, dst, "-c", "protocol.version="+version, "clone", "-q", remote, "clone")
			dst = filepath.Join(dst, "clone")
			git(t, dst, "fsck", "--strict")
			if got, want := everything(t, dst), everything(t, src); got != want {
				t.Errorf("clone with protocol %s differs:\n%s\nwant\n%s", version, got, want)
			}
		}
	}
}

func TestFetchIncrementalShallowAndPartial(t *testing.T) {
	s := startSite(t, server.Options{})
	src := newRepo(t, 10)
	remote := s.remote(s.admin, "default/demo")
	git(t, src, "push", "-q", remote, "main")

	full := filepath.Join(t.TempDir(), "full")
	git(t, src, "clone", "-q", remote, full)
	shallow := filepath.Join(t.TempDir(), "shallow")
	git(t, src, "clone", "-q", "--depth", "1", remote, shallow)
	if got := git(t, shallow, "rev-list", "--count", "HEAD"); got != "1" {
		t.Errorf("depth 1 has %s commits", got)
	}
	partial := filepath.Join(t.TempDir(), "partial")
	git(t, src, "clone", "-q", "--filter=blob:none", remote, partial)
	if got := git(t, partial, "cat-file", "-p", "HEAD~5:file"); strings.Count(got, "line") != 5 {
		t.Errorf("a blob that a partial clone fetched later = %q", got)
	}

	write(t, filepath.Join(src, "new"), "new\n")
	git(t, src, "add", ".")
	git(t, src, "commit", "-q", "-m", "new")
	git(t, src, "push", "-q", remote, "main")
	for _, dir := range []string{full, shallow, partial} {
		git(t, dir, "pull", "-q")
		if got, want := git(t, dir, "rev-parse", "HEAD"), git(t, src, "rev-parse", "HEAD"); got != want {
			t.Errorf("%s is at %s after pull, want %s", dir, got, want)
		}
	}
	git(t, shallow, "fetch", "-q", "--unshallow")
	if got, want := everything(t, shallow), everything(t, src); got != want {
		t.Errorf("unshallowed clone differs:\n%s\nwant\n%s", got, want)
	}
}

// TestBigPushIsChunked: above http.postBuffer git first sends a probe, then the pack in chunks.
func TestBigPushIsChunked(t *testing.T) {
	s := startSite(t, server.Options{})
	src := newRepo(t, 1)
	rnd := rand.NewChaCha8([32]byte{1})
	big := make([]byte, 3<<20)
	_, _ = rnd.Read(big)
	if err := os.WriteFile(filepath.Join(src, "big"), big, 0o644); err != nil {
		t.Fatal(err)
	}
	git(t, src, "add", ".")
	git(t, src, "commit", "-q", "-m", "big")
	git(t, src, "-c", "http.postBuffer=65536", "push", "-q", s.remote(s.admin, "default/big"), "main")
	dst := filepath.Join(t.TempDir(), "clone")
	git(t, src, "clone", "-q", s.remote(s.admin, "default/big"), dst)
	if got, want := everything(t, dst), everything(t, src); got != want {
		t.Errorf("clone differs:\n%s\nwant\n%s", got, want)
	}
}

// TestForcePushAndDelete: what git users do all day.
func TestForcePushAndDelete(t *testing.T) {
	s := startSite(t, server.Options{})
	src := newRepo(t, 3)
	remote := s.remote(s.admin, "default/demo")
	git(t, src, "push", "-q", remote, "main", "main:topic")
	git(t, src, "reset", "-q", "--hard", "HEAD~2")
	if out, err := tryGit(t, src, "push", remote, "main"); err == nil {
		t.Errorf("a push that loses commits went through without force:\n%s", out)
	}
	git(t, src, "push", "-q", "--force", remote, "main")
	git(t, src, "push", "-q", remote, ":topic")
	want := git(t, src, "rev-parse", "HEAD") + "\tHEAD\n" + git(t, src, "rev-parse", "HEAD") + "\trefs/heads/main"
	if got := git(t, src, "ls-remote", remote); got != want {
		t.Errorf("ls-remote = %s\nwant %s", got, want)
	}
}

// TestRefusalsAreShown: git prints why.
func TestRefusalsAreShown(t *testing.T) {
	s := startSite(t, server.Options{})
	acme := result(s.control.CreateTenant(t.Context(), "acme"))(t)
	reader := s.member("rita", acme.ID, policy.Reader)
	stranger := s.member("steve", result(s.control.CreateTenant(t.Context(), "other"))(t).ID, policy.Owner)
	s.repo("acme", "private", client.Private)
	src := newRepo(t, 1)
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"reader pushes", []string{"push", s.remote(reader, "acme/private"), "main"}, "403"},
		{"reader pushes to what is not there", []string{"push", s.remote(reader, "acme/new"), "main"}, "not found"},
		{"stranger clones", []string{"clone", s.remote(stranger, "acme/private"), "x"}, "not found"},
		{"stranger pushes", []string{"push", s.remote(stranger, "acme/private"), "main"}, "not found"},
		{"nobody clones", []string{"clone", s.remote("", "acme/private"), "x"}, "could not read Username"},
		{"bad token", []string{"clone", s.remote("skep_wrong", "acme/private"), "x"}, "Authentication failed"},
		{"name with a dot", []string{"push", s.remote(s.admin, "acme/.hidden"), "main"}, "422"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := tryGit(t, src, tt.args...)
			if err == nil || !strings.Contains(out, tt.want) {
				t.Errorf("git %s: %v\n%s\nwant a failure with %q", tt.args[0], err, out, tt.want)
			}
		})
	}
	// Nothing was made meanwhile.
	if p := result(s.api(s.admin).Repos(t.Context(), "acme", "", 0))(t); len(p.Items) != 1 {
		t.Errorf("acme has %d repositories, want 1", len(p.Items))
	}
}

// TestSmartHTTPAtTheEdge: requests that git itself never makes.
func TestSmartHTTPAtTheEdge(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "pub", client.Public)
	zip := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return b.String()
	}
	lsRefs := pkt("command=ls-refs\n") + "0001" + pkt("peel\n") + "0000"
	const uploadRequest = "application/x-git-upload-pack-request"
	tests := []struct {
		name, method, path string
		body               string
		header             []string
		status             int
		want               string
	}{
		{"advertisement", "GET", "/default/pub.git/info/refs?service=git-upload-pack", "", nil, 200, "001e# service=git-upload-pack\n0000"},
		{"advertisement, other parameters", "GET", "/default/pub/info/refs?a=b&service=git-upload-pack", "", nil, 200, "001e# service"},
		{"v2 has no service line", "GET", "/default/pub.git/info/refs?service=git-upload-pack", "", []string{"Git-Protocol", "version=2"}, 200, "000eversion 2\n"},
		{"head", "HEAD", "/default/pub.git/info/refs?service=git-upload-pack", "", nil, 200, ""},
		{"dumb", "GET", "/default/pub.git/info/refs", "", nil, 403, "dumb HTTP protocol"},
		{"dumb HEAD", "GET", "/default/pub.git/HEAD", "", nil, 403, "dumb HTTP protocol"},
		{"dumb object", "GET", "/default/pub.git/objects/info/packs", "", nil, 403, "dumb HTTP protocol"},
		{"unknown service", "GET", "/default/pub.git/info/refs?service=git-evil-pack", "", nil, 403, "only git-upload-pack"},
		{"post to info/refs", "POST", "/default/pub.git/info/refs", "x", nil, 405, "GET"},
		{"get of a service", "GET", "/default/pub.git/git-upload-pack", "", nil, 405, "POST"},
		{"wrong content type", "POST", "/default/pub.git/git-upload-pack", lsRefs, []string{"Content-Type", "text/plain"}, 415, "Content-Type"},
		{"unknown encoding", "POST", "/default/pub.git/git-upload-pack", lsRefs, []string{"Content-Type", uploadRequest, "Content-Encoding", "br"}, 415, "gzip"},
		{"not gzip at all", "POST", "/default/pub.git/git-upload-pack", lsRefs, []string{"Content-Type", uploadRequest, "Content-Encoding", "gzip"}, 422, "Content-Encoding"},
		{"v2 ls-refs", "POST", "/default/pub.git/git-upload-pack", lsRefs, []string{"Content-Type", uploadRequest, "Git-Protocol", "version=2"}, 200, "refs/heads/main"},
		{"v2 ls-refs, zipped", "POST", "/default/pub.git/git-upload-pack", zip(lsRefs), []string{"Content-Type", uploadRequest, "Git-Protocol", "version=2", "Content-Encoding", "gzip"}, 200, "refs/heads/main"},
		{"garbage", "POST", "/default/pub.git/git-upload-pack", "hello", []string{"Content-Type", uploadRequest}, 200, "ERR "},
		{"anonymous push", "POST", "/default/pub.git/git-receive-pack", "0000", []string{"Content-Type", "application/x-git-receive-pack-request"}, 401, "authentication required"},
		{"no such place", "GET", "/favicon.ico", "", nil, 404, "TENANT/REPO.git"},
		{"root", "GET", "/", "", nil, 200, "git clone"},
		{"long path", "GET", "/" + strings.Repeat("x", 5000) + "/info/refs?service=git-upload-pack", "", nil, 413, "too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := s.do(tt.method, tt.path, "", strings.NewReader(tt.body), tt.header...)
			if resp.StatusCode != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("%s %s = %d %q, want %d with %q", tt.method, tt.path, resp.StatusCode, body, tt.status, tt.want)
			}
			if resp.StatusCode == http.StatusOK && strings.Contains(tt.path, "pack") && !strings.Contains(resp.Header.Get("Cache-Control"), "no-cache") {
				t.Errorf("%s %s may be cached: %q", tt.method, tt.path, resp.Header.Get("Cache-Control"))
			}
		})
	}
}

// TestFailedPushOfANewRepository: garbage makes no repository; nor does git's probe.
func TestFailedPushOfANewRepository(t *testing.T) {
	s := startSite(t, server.Options{})
	for _, body := range []string{"", "GET ", "hello", "0000"} {
		resp, text := s.do("POST", "/default/new.git/git-receive-pack", s.admin, strings.NewReader(body),
			"Content-Type", "application/x-git-receive-pack-request")
		want := http.StatusUnprocessableEntity
		if body == "0000" {
			want = http.StatusOK
		}
		if resp.StatusCode != want {
			t.Errorf("a push of %q = %d %q, want %d", body, resp.StatusCode, text, want)
		}
	}
	if resp, body := s.do("GET", "/default/new.git/info/refs?service=git-upload-pack", s.admin, nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the repository exists now: %d %s", resp.StatusCode, body)
	}
}

func pkt(line string) string { return fmt.Sprintf("%04x%s", len(line)+4, line) }

// zipped compresses a head and then so many bytes of lines.
func zipped(t *testing.T, head io.Reader, size int, line string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.Copy(w, head); err != nil {
		t.Fatal(err)
	}
	many := []byte(strings.Repeat(line, 1000))
	for n := 0; n < size; n += len(many) {
		if _, err := w.Write(many); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFirstPushesRace: several pushes make one repository, and all of them arrive in it.
func TestFirstPushesRace(t *testing.T) {
	s := startSite(t, server.Options{})
	src := newRepo(t, 1)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if out, err := tryGit(t, src, "push", "-q", s.remote(s.admin, "default/new"), fmt.Sprintf("main:refs/heads/b%d", i)); err != nil {
				t.Errorf("push %d: %v\n%s", i, err, out)
			}
		})
	}
	wg.Wait()
	if got := git(t, src, "ls-remote", "--heads", s.remote(s.admin, "default/new")); strings.Count(got, "\n") != 3 {
		t.Errorf("branches that arrived:\n%s", got)
	}
}

// TestPushesRaceForABranch: exactly one wins, the others are told.
func TestPushesRaceForABranch(t *testing.T) {
	s := startSite(t, server.Options{})
	src := newRepo(t, 1)
	remote := s.remote(s.admin, "default/demo")
	git(t, src, "push", "-q", remote, "main")
	clones := make([]string, 4)
	for i := range clones {
		clones[i] = filepath.Join(t.TempDir(), "clone")
		git(t, src, "clone", "-q", remote, clones[i])
		write(t, filepath.Join(clones[i], "mine"), fmt.Sprint(i))
		git(t, clones[i], "add", ".")
		git(t, clones[i], "commit", "-q", "-m", "mine")
	}
	var won, told atomic.Int32
	var wg sync.WaitGroup
	for _, dir := range clones {
		wg.Go(func() {
			switch out, err := tryGit(t, dir, "push", "origin", "main"); {
			case err == nil:
				won.Add(1)
			case strings.Contains(out, "rejected"):
				told.Add(1)
			default:
				t.Errorf("push: %v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || told.Load() != 3 {
		t.Errorf("%d won and %d were told", won.Load(), told.Load())
	}
}
