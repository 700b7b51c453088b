package server_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	gitw "github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

func wantKind(t *testing.T, what string, err error, kind errkind.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: %v, want %v", what, err, kind)
	}
}

func TestTenantsOverREST(t *testing.T) {
	s := startSite(t, server.Options{})
	api := s.api(s.admin)
	top := result(api.CreateTenant(t.Context(), "acme"))(t)
	sub := result(api.CreateTenant(t.Context(), "acme/platform"))(t)
	if sub.Parent != top.ID || sub.Path != "acme/platform" {
		t.Errorf("child = %+v of %+v", sub, top)
	}
	for _, ref := range []string{string(sub.ID), "acme/platform"} {
		if got := result(api.Tenant(t.Context(), ref))(t); got.Tenant != sub {
			t.Errorf("tenant %s = %+v, want %+v", ref, got, sub)
		}
	}
	var paths []string
	for tn, err := range client.All(t.Context(), func(ctx context.Context, cursor string, _ int) (client.Page[client.Tenant], error) {
		return api.Tenants(ctx, cursor, 1)
	}) {
		paths = append(paths, result(tn, err)(t).Path)
	}
	if want := []string{"acme", "acme/platform", "default"}; !slices.Equal(paths, want) {
		t.Errorf("tenants, a page each = %v, want %v", paths, want)
	}
	_, err := api.CreateTenant(t.Context(), "acme/platform")
	wantKind(t, "the same again", err, errkind.Exists)
	_, err = api.CreateTenant(t.Context(), "a b")
	wantKind(t, "a bad path", err, errkind.Invalid)
	_, err = api.CreateTenant(t.Context(), "nowhere/x")
	wantKind(t, "a child of nobody", err, errkind.NotFound)

	p := result(api.CreatePrincipal(t.Context(), client.CreatePrincipal{Name: "alice"}))(t)
	if err := api.SetMember(t.Context(), "acme/platform", string(p.ID), policy.Writer); err != nil {
		t.Fatal(err)
	}
	members := result(api.Members(t.Context(), string(sub.ID)))(t)
	if len(members) != 1 || members[0].Principal.Name != "alice" || members[0].Role != policy.Writer {
		t.Errorf("members = %+v", members)
	}
	if err := api.RemoveMember(t.Context(), "acme/platform", string(p.ID)); err != nil {
		t.Error(err)
	}
	wantKind(t, "delete a parent", api.DeleteTenant(t.Context(), "acme", false), errkind.Conflict)
	if err := errors.Join(api.DeleteTenant(t.Context(), "acme/platform", false), api.DeleteTenant(t.Context(), "acme", false), api.DeletePrincipal(t.Context(), p.ID)); err != nil {
		t.Error(err)
	}
}

func TestRepositoriesOverREST(t *testing.T) {
	s := startSite(t, server.Options{PublicURL: "https://git.example.com"})
	api := s.api(s.admin)
	r := result(api.CreateRepo(t.Context(), client.CreateRepo{
		Tenant: "default", Name: "demo", DefaultBranch: "trunk",
		InitialContent: map[string]string{"README.md": "# Demo\n", "src/main.go": "package main\n"},
	}))(t)
	if r.Visibility != client.Private || r.DefaultBranch != "trunk" || r.CloneURL != "https://git.example.com/default/demo.git" || r.Settings == nil {
		t.Errorf("created %+v", r)
	}
	dst := filepath.Join(t.TempDir(), "clone")
	git(t, "", "clone", "-q", s.remote(s.admin, "default/demo"), dst)
	if got := git(t, dst, "ls-files"); got != "README.md\nsrc/main.go" {
		t.Errorf("initial content = %q", got)
	}
	git(t, dst, "fsck", "--strict")

	_, err := api.CreateRepo(t.Context(), client.CreateRepo{Tenant: "default", Name: "Demo"})
	wantKind(t, "the same again", err, errkind.Exists)
	_, err = api.CreateRepo(t.Context(), client.CreateRepo{Tenant: "default", Name: "bad", InitialContent: map[string]string{".git/config": ""}})
	wantKind(t, "a .git path", err, errkind.Invalid)
	_, err = api.CreateRepo(t.Context(), client.CreateRepo{Tenant: "default", Name: "bad", DefaultBranch: "a..b"})
	wantKind(t, "a bad branch", err, errkind.Invalid)
	_, err = api.RepoByName(t.Context(), "default", "bad")
	wantKind(t, "what could not be made", err, errkind.NotFound)

	name, public := "renamed", client.Public
	up := result(api.UpdateRepo(t.Context(), "default/demo", client.UpdateRepo{
		Name: &name, Visibility: &public, Settings: &client.RepoSettings{DenyDeletes: true, DenyNonFastForward: true},
	}))(t)
	if up.Name != name || up.Visibility != public || !up.Settings.DenyDeletes || up.ID != r.ID {
		t.Errorf("updated to %+v", up)
	}
	wantKind(t, "delete a branch where that is denied", api.DeleteRef(t.Context(), "default/renamed", "refs/heads/trunk", nil), errkind.Forbidden)
	if st := result(api.Stats(t.Context(), "default/renamed"))(t); st.Refs != 1 || st.Objects < 4 {
		t.Errorf("stats = %+v", st)
	}
	_, err = api.Repo(t.Context(), "default/demo")
	wantKind(t, "the old name", err, errkind.NotFound)
	if err := api.DeleteRepo(t.Context(), string(r.ID)); err != nil {
		t.Fatal(err)
	}
	_, err = api.Repo(t.Context(), string(r.ID))
	wantKind(t, "after delete", err, errkind.NotFound)
	if out, err := tryGit(t, dst, "pull"); err == nil {
		t.Errorf("pull from a deleted repository:\n%s", out)
	}
}

// TestProblemsSayTheirKind: whoever refuses a request, the answer is a problem with a type, and does not repeat what was sent.
func TestProblemsSayTheirKind(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "demo", client.Private)
	const json, secret = "application/json", "hunter2"
	tests := []struct {
		name, method, path, token, contentType, body string
		status                                       int
		kind                                         string
	}{
		{"wrong type in JSON", "POST", "/repos", s.admin, json, `{"tenant": ["` + secret + `"]}`, 422, "invalid"},
		{"missing in JSON", "POST", "/repos", s.admin, json, `{}`, 422, "invalid"},
		{"not JSON", "POST", "/repos", s.admin, json, secret, 400, "invalid"},
		{"no body", "POST", "/repos", s.admin, json, "", 400, "invalid"},
		{"not said to be JSON", "POST", "/repos", s.admin, "text/plain", secret, 415, "invalid"},
		{"too much JSON", "POST", "/tenants", s.admin, json, `{"path":"` + strings.Repeat(secret, 1<<18) + `"}`, 413, "too-large"},
		{"wrong type in the query", "GET", "/repos?limit=" + secret, s.admin, "", "", 422, "invalid"},
		{"out of range in the query", "GET", "/repos?limit=1000", s.admin, "", "", 422, "invalid"},
		{"rule of ours", "POST", "/repos", s.admin, json, `{"tenant":"default","name":".."}`, 422, "invalid"},
		{"taken", "POST", "/repos", s.admin, json, `{"tenant":"default","name":"demo"}`, 409, "already-exists"},
		{"missing", "GET", "/repos/default%2Fnone", s.admin, "", "", 404, "not-found"},
		{"stranger", "GET", "/repos/default%2Fdemo", "", "", "", 401, "authentication-required"},
		{"no such path", "GET", "/nothing", s.admin, "", "", 404, "not-found"},
		{"no such method", "PUT", "/repos", s.admin, json, `{}`, 405, "not-supported"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := s.do(tt.method, "/api/v2"+tt.path, tt.token, strings.NewReader(tt.body), "Content-Type", tt.contentType)
			if got := resp.Header.Get("Content-Type"); resp.StatusCode != tt.status || got != "application/problem+json" {
				t.Errorf("%d of %s, want %d of a problem", resp.StatusCode, got, tt.status)
			}
			if !strings.Contains(body, `"type":"urn:skep:problem:`+tt.kind+`"`) || strings.Contains(body, secret) {
				t.Errorf("problem = %s, want type %s", clip(body), tt.kind)
			}
		})
	}
}

// TestPathsAsTheyCome: curl sends what it is given. A %2F in it is no slash, whatever else is in the path.
func TestPathsAsTheyCome(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "demo", client.Public)
	const demo = "/api/v2/repos/default%2Fdemo"
	tests := []struct {
		method, path string
		status       int
		location     string
	}{
		{"GET", demo + "/commits/main^0", 200, ""},
		{"GET", demo + "/commits/main%5E0", 200, ""},
		{"GET", demo + "/refs/heads/main", 200, ""},
		{"GET", demo + "/refs/heads%2Fmain", 200, ""},
		{"GET", demo + `/refs/heads/{"|"}`, 404, ""},
		{"PUT", demo + "/refs", 405, ""},
		{"PUT", demo + "/refs/", 404, ""},
		{"GET", "/api/v2//repos/./default%2Fdemo/commits/main^0?a=%2F", 307, demo + "/commits/main%5E0?a=%2F"},
		{"GET", demo + "/x/../", 307, demo + "/"},
		{"GET", "/api/..//elsewhere.example/", 307, "/elsewhere.example/"},
		{"GET", "/api/../", 307, "/"},
	}
	for _, tt := range tests {
		c := s.dial()
		fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", tt.method, tt.path, s.admin)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Location"); resp.StatusCode != tt.status || got != tt.location {
			t.Errorf("%s %s = %d %q, want %d %q", tt.method, tt.path, resp.StatusCode, got, tt.status, tt.location)
		}
		_ = resp.Body.Close()
	}
}

func TestReferencesOverREST(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "demo", client.Private)
	api, repo := s.api(s.admin), "default/demo"
	main := result(api.Ref(t.Context(), repo, "refs/heads/main"))(t)
	for _, name := range []string{"refs/heads/a/b", "refs/heads/c", "refs/tags/v1"} {
		result(api.CreateRef(t.Context(), repo, name, main.SHA))(t)
	}
	// The shape that remote helpers rely on: an array of name and sha.
	_, body := s.do("GET", "/api/v2/repos/default%2Fdemo/refs", s.admin, nil)
	var shape []struct{ Name, SHA string }
	if err := json.Unmarshal([]byte(body), &shape); err != nil || len(shape) != 4 || shape[2].Name != "refs/heads/main" || shape[2].SHA != main.SHA.String() {
		t.Errorf("refs = %s, %v", body, err)
	}
	page := result(api.Refs(t.Context(), repo, "refs/heads/", "", 2))(t)
	rest := result(api.Refs(t.Context(), repo, "refs/heads/", page.NextCursor, 2))(t)
	if len(page.Items) != 2 || len(rest.Items) != 1 || rest.Items[0].Name != "refs/heads/main" || rest.NextCursor != "" {
		t.Errorf("pages of branches = %+v and %+v", page, rest)
	}

	_, err := api.CreateRef(t.Context(), repo, "refs/heads/c", main.SHA)
	if !errors.Is(err, errkind.Conflict) && !errors.Is(err, errkind.Exists) {
		t.Errorf("create what exists: %v", err)
	}
	_, err = api.CreateRef(t.Context(), repo, "refs/heads/a", main.SHA)
	if err == nil {
		t.Error("a branch took a directory's name")
	}
	_, err = api.CreateRef(t.Context(), repo, "refs/heads/x..y", main.SHA)
	wantKind(t, "a bad name", err, errkind.Invalid)
	_, err = api.CreateRef(t.Context(), repo, "refs/heads/x", gitw.MustParseOID(strings.Repeat("1", 40)))
	wantKind(t, "an object that is not there", err, errkind.Invalid)

	next := result(api.CreateCommit(t.Context(), repo, commit("c", "file", "text")))(t)
	if next.Ref != "refs/heads/c" {
		t.Errorf("commit = %+v", next)
	}
	_, err = api.UpdateRef(t.Context(), repo, "refs/heads/c", main.SHA, &main.SHA)
	wantKind(t, "update from a stale value", err, errkind.Conflict)
	if got := result(api.UpdateRef(t.Context(), repo, "refs/heads/c", main.SHA, &next.SHA))(t); got.SHA != main.SHA {
		t.Errorf("update = %+v", got)
	}
	wantKind(t, "delete at a stale value", api.DeleteRef(t.Context(), repo, "refs/heads/c", &next.SHA), errkind.Conflict)
	if err := api.DeleteRef(t.Context(), repo, "refs/heads/a/b", &main.SHA); err != nil {
		t.Error(err)
	}
	_, err = api.Ref(t.Context(), repo, "refs/heads/a/b")
	wantKind(t, "a deleted branch", err, errkind.NotFound)

	log := result(api.RefLog(t.Context(), repo, "refs/heads/c", 0))(t)
	who := result(api.Whoami(t.Context()))(t)
	if len(log) != 3 || log[0].New != main.SHA || log[0].Old != next.SHA || log[0].Actor != string(who.Principal) {
		t.Errorf("reflog = %+v", log)
	}
}

// commit is a commit of one file.
func commit(branch, path, text string) client.CreateCommit {
	return client.CreateCommit{Branch: branch, Message: "write " + path, Changes: []client.Change{{Path: path, Content: &text}}}
}

func TestCommitsOverREST(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "demo", client.Private)
	api, repo := s.api(s.admin), "default/demo"
	tip := result(api.Ref(t.Context(), repo, "refs/heads/main"))(t).SHA
	text, bin := "hello\n", []byte{0, 1, 2, 255}
	when := time.Date(2024, 5, 6, 7, 8, 9, 0, time.FixedZone("", 2*3600))
	made := result(api.CreateCommit(t.Context(), repo, client.CreateCommit{
		Branch: "main", Message: "Änderung", ExpectedParent: &tip, Author: &client.Person{Name: "Zoë", Email: "zoe@example.com", Date: when},
		Changes: []client.Change{
			{Path: "docs/a.txt", Content: &text},
			{Path: "bin/run", ContentBase64: bin, Mode: "100755"},
			{Path: "link", Content: &text, Mode: "120000"},
			{Path: "README.md", Delete: true},
		},
	}))(t)
	dst := filepath.Join(t.TempDir(), "clone")
	git(t, "", "clone", "-q", s.remote(s.admin, repo), dst)
	git(t, dst, "fsck", "--strict")
	if got := git(t, dst, "log", "-1", "--format=%H %an %ae %aI %s"); got != made.SHA.String()+" Zoë zoe@example.com 2024-05-06T07:08:09+02:00 Änderung" {
		t.Errorf("git log = %s", got)
	}
	if got := git(t, dst, "ls-tree", "-r", "--format=%(objectmode) %(path)", "HEAD"); got != "100755 bin/run\n100644 docs/a.txt\n120000 link" {
		t.Errorf("git ls-tree = %s", got)
	}

	branched := commit("topic", "x", "y")
	branched.StartPoint, branched.ExpectedParent = "main", &gitw.OID{}
	result(api.CreateCommit(t.Context(), repo, branched))(t)
	_, err := api.CreateCommit(t.Context(), repo, branched)
	if !errors.Is(err, errkind.Conflict) && !errors.Is(err, errkind.Exists) {
		t.Errorf("the branch exists by now: %v", err)
	}
	stale := commit("main", "x", "y")
	stale.ExpectedParent = &tip
	_, err = api.CreateCommit(t.Context(), repo, stale)
	wantKind(t, "a stale parent", err, errkind.Conflict)
	for _, path := range []string{"", "/x", "a//b", "../x", "a/../b", ".git/config", "a/.GIT/x", "."} {
		_, err := api.CreateCommit(t.Context(), repo, commit("main", path, "x"))
		wantKind(t, fmt.Sprintf("path %q", path), err, errkind.Invalid)
	}
	gone := client.CreateCommit{Branch: "main", Message: "m", Changes: []client.Change{{Path: "no/such", Delete: true}}}
	_, err = api.CreateCommit(t.Context(), repo, gone)
	wantKind(t, "deleting what is not there", err, errkind.NotFound)
	_, err = api.CreateCommit(t.Context(), repo, client.CreateCommit{Branch: "main", Message: "m", Changes: []client.Change{{Path: "x"}}})
	wantKind(t, "a change of nothing", err, errkind.Invalid)
	evil := commit("main", "x", "y")
	evil.Author = &client.Person{Name: "x> 0 +0000\nparent", Email: "e"}
	_, err = api.CreateCommit(t.Context(), repo, evil)
	wantKind(t, "an author with a line feed", err, errkind.Invalid)
}

// pushed is a repository with some history, as git made it and as the server has it.
func pushed(t *testing.T, s *site) (dir, repo string) {
	t.Helper()
	dir = newRepo(t, 4)
	write(t, filepath.Join(dir, "bad\xffname"), "x")
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-q", "-m", "odd things")
	git(t, dir, "switch", "-q", "-c", "topic", "main~2")
	write(t, filepath.Join(dir, "topic.txt"), "one\ntwo\n")
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-q", "-m", "topic")
	git(t, dir, "switch", "-q", "main")
	git(t, dir, "tag", "-a", "-m", "first", "v1", "main~1")
	git(t, dir, "push", "-q", s.remote(s.admin, "default/demo"), "main", "topic", "v1")
	return dir, "default/demo"
}

func TestReadWithoutGit(t *testing.T) {
	s := startSite(t, server.Options{})
	dir, repo := pushed(t, s)
	api := s.api(s.admin)

	for _, rev := range []string{"", "main", "refs/heads/main", "v1", "HEAD~1", git(t, dir, "rev-parse", "main")} {
		c := result(api.Contents(t.Context(), repo, rev, "file"))(t)
		want := git(t, dir, "show", "--format=", map[bool]string{true: "HEAD", false: rev}[rev == ""]+":file")
		text, err := base64.StdEncoding.DecodeString(c.Content)
		if err != nil || strings.TrimSpace(string(text)) != want || c.Type != "file" || c.Mode != "100644" || *c.Size != int64(len(text)) {
			t.Errorf("contents of file at %q = %+v, want %q", rev, c, want)
		}
	}
	raw := result(api.File(t.Context(), repo, "main", "dir/sub/deep.txt"))(t)
	b := result(io.ReadAll(raw))(t)
	_ = raw.Close()
	if string(b) != "deep deep deep deep " {
		t.Errorf("raw = %q", b)
	}
	resp, _ := s.do("GET", "/api/v2/repos/default%2Fdemo/contents?path=file&raw=1", s.admin, nil)
	if resp.Header.Get("Content-Security-Policy") == "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("raw bytes go out with %v: a browser might run them", resp.Header)
	}
	if again, _ := s.do("GET", "/api/v2/repos/default%2Fdemo/contents?path=file&raw=1", s.admin, nil, "If-None-Match", resp.Header.Get("Etag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("the same again = %d, want 304", again.StatusCode)
	}

	root := result(api.Contents(t.Context(), repo, "", ""))(t)
	var names []string
	for _, e := range root.Entries {
		names = append(names, e.Type+" "+e.Path+" "+e.PathBase64)
	}
	if diff := cmp.Diff([]string{"file bad\ufffdname YmFk/25hbWU=", "dir dir ", "file file ", "symlink link "}, names); diff != "" {
		t.Errorf("root (-want +got):\n%s", diff)
	}
	var all []string
	for cursor := ""; ; {
		p := result(api.Tree(t.Context(), repo, "main", "", true, cursor, 1))(t)
		for _, e := range p.Items {
			all = append(all, e.SHA.String())
		}
		if cursor = p.NextCursor; cursor == "" {
			break
		}
	}
	if want := strings.Fields(git(t, dir, "ls-tree", "-r", "-t", "--format=%(objectname)", "main")); !slices.Equal(all, want) {
		t.Errorf("recursive tree, an entry a page = %v, want %v", all, want)
	}
	for _, bad := range []struct{ rev, path string }{{"nope", "file"}, {"main", "nope"}, {"main", "file/x"}, {"main", "dir/nope"}, {"main", "../x"}} {
		_, err := api.Contents(t.Context(), repo, bad.rev, bad.path)
		wantKind(t, fmt.Sprint(bad), err, errkind.NotFound)
	}
}

func TestHistoryWithoutGit(t *testing.T) {
	s := startSite(t, server.Options{})
	dir, repo := pushed(t, s)
	api := s.api(s.admin)
	for _, o := range []struct {
		opts client.LogOptions
		args []string
	}{
		{client.LogOptions{}, []string{"main"}},
		{client.LogOptions{Rev: "topic"}, []string{"topic"}},
		{client.LogOptions{Rev: "main", Path: "link"}, []string{"main", "--", "link"}},
		{client.LogOptions{Rev: "main", Path: "dir/sub"}, []string{"main", "--", "dir/sub"}},
		{client.LogOptions{FirstParent: true}, []string{"--first-parent", "main"}},
	} {
		var got []string
		for c, err := range client.All(t.Context(), func(ctx context.Context, cursor string, _ int) (client.Page[client.Commit], error) {
			return api.Commits(ctx, repo, o.opts, cursor, 2)
		}) {
			got = append(got, result(c, err)(t).SHA.String())
		}
		if want := strings.Fields(git(t, dir, append([]string{"rev-list"}, o.args...)...)); !slices.Equal(got, want) {
			t.Errorf("commits of %+v = %v, want %v", o.opts, got, want)
		}
	}
	c := result(api.Commit(t.Context(), repo, "main~1"))(t)
	if c.SHA.String() != git(t, dir, "rev-parse", "main~1") || c.Author.Name != "Ada" || c.Stats.Files != 2 {
		t.Errorf("commit = %+v", c)
	}
	want := git(t, dir, "diff", "--full-index", "main~2", "main~1", "--", "file")
	if got := strings.TrimSpace(c.Files[1].Patch); c.Files[1].Path != "file" || got != want || c.Files[1].Additions != 1 {
		t.Errorf("patch of file = %s\nwant %s", got, want)
	}
	root := result(api.Commit(t.Context(), repo, "main~4"))(t)
	if len(root.Parents) != 0 || root.Files[0].Status != "added" {
		t.Errorf("root commit = %+v", root)
	}

	cmpd := result(api.Compare(t.Context(), repo, "main", "topic"))(t)
	if cmpd.AheadBy != 1 || cmpd.BehindBy != 2 || cmpd.MergeBase.String() != git(t, dir, "merge-base", "main", "topic") ||
		len(cmpd.Commits) != 1 || len(cmpd.Files) != 1 || cmpd.Files[0].Path != "topic.txt" || cmpd.Files[0].Additions != 2 {
		t.Errorf("compare = %+v", cmpd)
	}
	bl := result(api.Blame(t.Context(), repo, "main", "file"))(t)
	if len(bl.Ranges) == 0 || len(bl.Commits) == 0 {
		t.Errorf("blame = %+v", bl)
	}
	line := 0
	for _, r := range bl.Ranges {
		for i := range r.Lines {
			line++
			want, _, _ := strings.Cut(git(t, dir, "blame", "-l", "-s", "-L", fmt.Sprintf("%d,%d", line, line), "main", "--", "file"), " ")
			if got := r.Commit.String(); got != want && "^"+got[:39] != want || r.Start+i != line {
				t.Errorf("line %d is of %s, want %s", line, got, want)
			}
		}
	}
}

func TestArchives(t *testing.T) {
	s := startSite(t, server.Options{})
	_, repo := pushed(t, s)
	api := s.api(s.admin)
	r := result(api.Archive(t.Context(), repo, "main", "tar.gz"))(t)
	defer r.Close()
	files := map[string]string{}
	tr := tar.NewReader(result(gzip.NewReader(r))(t))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(result(io.ReadAll(tr))(t))
	}
	if files["demo-main/file"] != "line\nline\nline\nline\n" {
		t.Errorf("archive has %v", files)
	}
	zr := result(api.Archive(t.Context(), repo, "v1", "zip"))(t)
	defer zr.Close()
	if b := result(io.ReadAll(zr))(t); !bytes.HasPrefix(b, []byte("PK")) {
		t.Errorf("zip begins with %q", b[:min(4, len(b))])
	}
	_, err := api.Archive(t.Context(), repo, "nope", "zip")
	wantKind(t, "an unknown revision", err, errkind.NotFound)
}

// TestPacksOverREST is the contract of remote helpers: wants and haves in, pack out; updates and pack in, success or
// conflicts out.
func TestPacksOverREST(t *testing.T) {
	s := startSite(t, server.Options{})
	dir, repo := pushed(t, s)
	api := s.api(s.admin)
	main, topic := oid(t, dir, "main"), oid(t, dir, "topic")

	pack := result(api.Fetch(t.Context(), repo, client.FetchRequest{Want: []gitw.OID{main, topic}}))(t)
	defer pack.Close()
	dst := t.TempDir()
	git(t, dst, "init", "-q", "--bare")
	unpack(t, dst, pack)
	git(t, dst, "update-ref", "refs/heads/main", main.String())
	git(t, dst, "update-ref", "refs/heads/topic", topic.String())
	git(t, dst, "fsck", "--strict", "--connectivity-only")
	if got, want := git(t, dst, "rev-list", "--objects", "main", "topic"), git(t, dir, "rev-list", "--objects", "main", "topic"); got != want {
		t.Errorf("fetched %s\nwant %s", got, want)
	}
	_, err := api.Fetch(t.Context(), repo, client.FetchRequest{Want: []gitw.OID{gitw.MustParseOID(strings.Repeat("1", 40))}})
	wantKind(t, "an unknown want", err, errkind.NotFound)

	// Push a commit, with only what is new in the pack.
	write(t, filepath.Join(dir, "pushed"), "pushed\n")
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-q", "-m", "pushed")
	next := oid(t, dir, "main")
	send := func() io.Reader { return packOf(t, dir, next.String(), "^"+main.String()) }
	res := result(api.Push(t.Context(), repo, []client.PushUpdate{{Ref: "refs/heads/main", Old: main, New: next}}, send()))(t)
	if !res.Success || len(res.Refs) != 1 || res.Refs[0].SHA != next {
		t.Errorf("push = %+v", res)
	}
	res, err = api.Push(t.Context(), repo, []client.PushUpdate{
		{Ref: "refs/heads/main", Old: main, New: next}, {Ref: "refs/heads/other", New: next},
	}, send())
	wantKind(t, "a push from a stale value", err, errkind.Conflict)
	want := client.PushResult{Error: res.Error, Conflicts: []client.PushConflict{{Ref: "refs/heads/main", Expected: main, Actual: next}}}
	if diff := cmp.Diff(want, res); diff != "" || res.Error == "" {
		t.Errorf("conflict (-want +got):\n%s", diff)
	}
	_, err = api.Ref(t.Context(), repo, "refs/heads/other")
	wantKind(t, "what was pushed together with a conflict", err, errkind.NotFound)

	// The short form: one reference in the query, the pack as the body; and no pack at all when nothing is missing.
	query := "?ref=refs/heads/short&new=" + next.String()
	resp, body := s.do("POST", "/api/v2/repos/default%2Fdemo/push"+query, s.admin, send(), "Content-Type", "application/x-git-packfile")
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"success":true`) {
		t.Errorf("short push = %d %s", resp.StatusCode, body)
	}
	res = result(api.Push(t.Context(), repo, []client.PushUpdate{{Ref: "refs/heads/short", Old: next}, {Ref: "refs/heads/again", New: next}}, nil))(t)
	if !res.Success {
		t.Errorf("push without a pack = %+v", res)
	}
	// Rules.
	for name, up := range map[string]client.PushUpdate{
		"a bad name":        {Ref: "refs/heads/a..b", New: next},
		"not below refs/":   {Ref: "HEAD", New: next},
		"nothing to nobody": {Ref: "refs/heads/x"},
		"a missing object":  {Ref: "refs/heads/x", New: gitw.MustParseOID(strings.Repeat("1", 40))},
	} {
		_, err := api.Push(t.Context(), repo, []client.PushUpdate{up}, nil)
		wantKind(t, name, err, errkind.Invalid)
	}
	for name, pack := range map[string]string{"garbage": "garbage", "a cut-off pack": packHeader, "a wrong checksum": emptyPack()[:30] + "xx"} {
		_, err := api.Push(t.Context(), repo, []client.PushUpdate{{Ref: "refs/heads/x", New: next}}, strings.NewReader(pack))
		wantKind(t, name, err, errkind.Invalid)
	}
}

func oid(t *testing.T, dir, rev string) gitw.OID {
	t.Helper()
	return gitw.MustParseOID(git(t, dir, "rev-parse", rev))
}

// packOf makes a pack of revisions with git, thin if some are excluded.
func packOf(t *testing.T, dir string, revs ...string) io.Reader {
	t.Helper()
	cmd := gitCommand(t, dir, "pack-objects", "--revs", "--stdout", "--thin", "-q")
	cmd.Stdin = strings.NewReader(strings.Join(revs, "\n") + "\n")
	return bytes.NewReader(result(cmd.Output())(t))
}

// unpack gives a pack to git.
func unpack(t *testing.T, dir string, pack io.Reader) {
	t.Helper()
	cmd := gitCommand(t, dir, "index-pack", "--stdin", "--strict")
	cmd.Stdin = pack
	if out, err := cmd.CombinedOutput(); err != nil {
		var ee *exec.ExitError
		t.Fatalf("git index-pack: %v (%v)\n%s", err, errors.As(err, &ee), out)
	}
}
