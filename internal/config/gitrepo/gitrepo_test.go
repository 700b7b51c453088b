package gitrepo_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/config/gitrepo"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/config/milestone/milestonetest"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git/gittest"
)

// options make git independent of the machine and its user.
func options() gitrepo.Options {
	return gitrepo.Options{Env: append(gittest.Env("GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=init.defaultBranch", "GIT_CONFIG_VALUE_0=main"), "GIT_COMMITTER_DATE=@1700000000 +0000")}
}

func open(t *testing.T, dir string, o gitrepo.Options) *gitrepo.Repo {
	t.Helper()
	r, err := gitrepo.Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestContract(t *testing.T) {
	kinds := map[string]func(t *testing.T) milestone.Repo{
		"worktree": func(t *testing.T) milestone.Repo {
			t.Helper()

			return open(t, filepath.Join(t.TempDir(), "new", "folder"), options())
		},
		"bare": func(t *testing.T) milestone.Repo {
			t.Helper()
			return open(t, gittest.New(t).Dir, options())
		},
		"sha256": func(t *testing.T) milestone.Repo {
			t.Helper()

			r := gittest.At(t, t.TempDir())
			r.Git("init", "-q", "--object-format=sha256", "-b", "main", ".")
			return open(t, r.Dir, options())
		},
		"remote": func(t *testing.T) milestone.Repo {
			t.Helper()

			r, err := gitrepo.Remote(t.Context(), gittest.New(t).Dir, filepath.Join(t.TempDir(), "cache"), options())
			if err != nil {
				t.Fatal(err)
			}
			return r
		},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) { milestonetest.Run(t, kind) })
	}
}

func put(path, data string) milestone.Change { return milestone.Change{Path: path, Data: []byte(data)} }

func request(parent string, changes ...milestone.Change) *milestone.CommitRequest {
	return &milestone.CommitRequest{Branch: "main", Parent: parent, Message: "m\n", Author: milestonetest.Ann, When: time.Unix(1_700_000_000, 0), Changes: changes}
}

func must(t *testing.T, r *gitrepo.Repo, q *milestone.CommitRequest) string {
	t.Helper()
	id, err := r.Commit(t.Context(), q)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return id
}

// folder is a new repository with a worktree.
func folder(t *testing.T, o gitrepo.Options) (*gitrepo.Repo, gittest.Repo) {
	t.Helper()
	dir := t.TempDir()
	return open(t, dir, o), gittest.At(t, dir)
}

func write(t *testing.T, g gittest.Repo, path, data string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.Dir, path), []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, g gittest.Repo, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(g.Dir, path))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// The files of a worktree follow, and what is not committed in it stays.
func TestWorktreeFollows(t *testing.T) {
	r, g := folder(t, options())
	write(t, g, "untracked", "mine")
	first := must(t, r, request("", put("env/a", "1"), put("env/b", "1"), put("other", "1")))
	if got := g.Git("status", "--porcelain"); got != "?? untracked\n" {
		t.Errorf("status after the first commit: %q", got)
	}
	write(t, g, "other", "edited")
	write(t, g, "staged", "new")
	g.Git("add", "staged")
	second := must(t, r, request(first, put("env/a", "2"), milestone.Change{Path: "env/b", Delete: true}))
	if got := g.Git("status", "--porcelain"); got != " M other\nA  staged\n?? untracked\n" {
		t.Errorf("status after the second commit: %q", got)
	}
	if got := content(t, g, "env/a"); got != "2" {
		t.Errorf("env/a has %q", got)
	}

	// Somebody works on a file that the milestone writes.
	for name, prepare := range map[string]func(){
		"a changed file":    func() { write(t, g, "env/a", "mine") },
		"a staged file":     func() { write(t, g, "env/a", "mine"); g.Git("add", "env/a") },
		"an untracked file": func() { write(t, g, "env/c", "mine") },
	} {
		prepare()
		before := g.Git("status", "--porcelain")
		_, err := r.Commit(t.Context(), request(second, put("env/a", "3"), put("env/c", "3")))
		if !errors.Is(err, errkind.Conflict) || !strings.Contains(err.Error(), "env/") {
			t.Errorf("Commit over %s: %v", name, err)
		}
		if got := g.OID("main").String(); got != second {
			t.Errorf("%s: the branch moved to %s", name, got)
		}
		if after := g.Git("status", "--porcelain"); after != before {
			t.Errorf("%s: status %q, and before %q", name, after, before)
		}
		g.Git("reset", "-q", "--", "env")
		g.Git("checkout", "-q", "--", "env")
		g.Git("clean", "-fdq", "env")
	}
	must(t, r, request(second, put("env/a", "3"), put("env/c", "3")))
	g.Git("fsck", "--strict", "--no-dangling")
}

// While another git works on the index nothing changes, and it can be tried again.
func TestLockedIndex(t *testing.T) {
	r, g := folder(t, options())
	first := must(t, r, request("", put("a", "1")))
	write(t, g, ".git/index.lock", "")
	if _, err := r.Commit(t.Context(), request(first, put("a", "2"))); !errors.Is(err, errkind.Unavailable) {
		t.Errorf("Commit while the index is locked: %v", err)
	}
	if got := g.OID("main").String(); got != first || content(t, g, "a") != "1" {
		t.Errorf("the branch moved to %s, and a has %q", got, content(t, g, "a"))
	}
}

// A branch that is checked out elsewhere, or nowhere, leaves this worktree alone.
func TestOtherWorktrees(t *testing.T) {
	r, g := folder(t, options())
	first := must(t, r, request("", put("a", "1")))
	g.Git("checkout", "-q", "-b", "mine")
	second := must(t, r, request(first, put("a", "2")))
	if got := content(t, g, "a"); got != "1" || g.Git("status", "--porcelain") != "" {
		t.Errorf("the worktree of another branch has %q: %s", got, g.Git("status", "--porcelain"))
	}
	linked := gittest.At(t, filepath.Join(t.TempDir(), "linked"))
	g.Git("worktree", "add", "-q", linked.Dir, "main")
	must(t, r, request(second, put("a", "3")))
	if got := content(t, linked, "a"); got != "3" || linked.Git("status", "--porcelain") != "" {
		t.Errorf("the linked worktree has %q: %s", got, linked.Git("status", "--porcelain"))
	}
	if branch, err := r.Branch(t.Context()); err != nil || branch != "mine" {
		t.Errorf("Branch = %q, %v", branch, err)
	}
	g.Git("checkout", "-q", "--detach")
	if branch, err := r.Branch(t.Context()); !errors.Is(err, errkind.Conflict) {
		t.Errorf("Branch of a detached HEAD = %q, %v", branch, err)
	}
}

// A hook's variables are of another repository.
func TestVariablesOfHooks(t *testing.T) {
	t.Setenv("GIT_DIR", "/nonexistent")
	t.Setenv("GIT_INDEX_FILE", "/nonexistent/index")
	r, g := folder(t, options())
	id := must(t, r, request("", put("a", "1")))
	if got := g.OID("main").String(); got != id || content(t, g, "a") != "1" {
		t.Errorf("the branch is at %s, want %s, and a has %q", got, id, content(t, g, "a"))
	}
}

func TestIdentity(t *testing.T) {
	nobody := gitrepo.Options{Env: append(gittest.Env(), "GIT_AUTHOR_NAME=", "GIT_AUTHOR_EMAIL=", "GIT_COMMITTER_NAME=", "GIT_COMMITTER_EMAIL=", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=init.defaultBranch", "GIT_CONFIG_VALUE_0=main")}
	r, g := folder(t, nobody)
	q := request("", put("a", "1"))
	q.Author = milestone.Person{}
	if _, err := r.Commit(t.Context(), q); !errors.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), "user.name") {
		t.Errorf("Commit by nobody: %v", err)
	}
	q.Author = milestonetest.Ann
	first := must(t, r, q)
	nobody.Committer = milestone.Person{Name: "Skep", Email: "skep@example.org"}
	must(t, open(t, g.Dir, nobody), request(first, put("a", "2")))
	if got := g.Git("log", "--format=%an <%ae> %cn <%ce> %ct"); got != "Ann <ann@example.org> Skep <skep@example.org> 1700000000\nAnn <ann@example.org> Ann <ann@example.org> 1700000000\n" {
		t.Errorf("commits by %s", got)
	}
}

// Milestones are signed with the keys that git commit would sign with.
func TestSigned(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann@example.org", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	signers := filepath.Join(dir, "signers")
	if err := os.WriteFile(signers, []byte("ann@example.org "+string(public)), 0o600); err != nil {
		t.Fatal(err)
	}
	r, g := folder(t, options())
	g.Git("config", "gpg.format", "ssh")
	g.Git("config", "user.signingKey", key)
	g.Git("config", "gpg.ssh.allowedSignersFile", signers)
	first := must(t, r, request("", put("a", "1")))
	o := options()
	o.Sign = true
	second := must(t, open(t, g.Dir, o), request(first, put("a", "2")))
	g.Git("config", "commit.gpgSign", "true")
	third := must(t, r, request(second, put("a", "3")))
	if got := g.Git("log", "--format=%G? %GS"); got != "G ann@example.org\nG ann@example.org\nN \n" {
		t.Errorf("signatures: %s", got)
	}
	g.Git("config", "user.signingKey", filepath.Join(dir, "nosuch"))
	if _, err := r.Commit(t.Context(), request(third, put("a", "4"))); err == nil || !strings.Contains(err.Error(), "user.signingKey") {
		t.Errorf("Commit without the key: %v", err)
	}
	c, err := r.Get(t.Context(), "main")
	if err != nil || c.ID != third || c.Message != "m\n" {
		t.Errorf("Get = %v, %v", c, err)
	}
}

// What a remote refuses has not happened here either.
func TestPush(t *testing.T) {
	remote := gittest.New(t)
	o := options()
	o.Push = "origin"
	r, g := folder(t, o)
	if _, err := r.Commit(t.Context(), request("", put("a", "1"))); !errors.Is(err, errkind.NotFound) {
		t.Errorf("Commit with a remote that is not there: %v", err)
	}
	g.Git("remote", "add", "origin", remote.Dir)
	first := must(t, r, request("", put("a", "1")))
	if got := remote.OID("main").String(); got != first {
		t.Errorf("the remote is at %s, want %s", got, first)
	}
	other, og := folder(t, options())
	og.Git("pull", "-q", remote.Dir, "main")
	og.Git("push", "-q", remote.Dir, must(t, other, request(first, put("b", "theirs")))+":refs/heads/main")
	if _, err := r.Commit(t.Context(), request(first, put("a", "2"))); !errors.Is(err, errkind.Conflict) || !strings.Contains(err.Error(), "pull") {
		t.Errorf("Commit when the remote has moved: %v", err)
	}
	g.Git("pull", "-q", "--ff-only", "origin", "main")
	hook := filepath.Join(remote.Dir, "hooks", "pre-receive")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho frozen until Monday >&2\nexit 1\n"), 0o700); err != nil { //nolint:gosec // a hook is run
		t.Fatal(err)
	}
	tip := g.OID("main").String()
	if _, err := r.Commit(t.Context(), request(tip, put("a", "2"))); !errors.Is(err, errkind.Forbidden) || !strings.Contains(err.Error(), "frozen until Monday") {
		t.Errorf("Commit that a hook refuses: %v", err)
	}
	if got := g.OID("main").String(); got != tip || content(t, g, "a") != "1" {
		t.Errorf("the branch is at %s, want %s, and a has %q", got, tip, content(t, g, "a"))
	}
}

func TestRemote(t *testing.T) {
	server := gittest.New(t)
	remote := func(url string) (*gitrepo.Repo, error) {
		return gitrepo.Remote(t.Context(), url, filepath.Join(t.TempDir(), "cache"), options())
	}
	a, err := remote(server.Dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := remote("file://" + server.Dir)
	if err != nil {
		t.Fatal(err)
	}
	first := must(t, a, request("", put("a", "1")))
	if tip, err := b.Tip(t.Context(), "main"); err != nil || tip != first {
		t.Errorf("Tip = %s, %v, want %s", tip, err, first)
	}
	must(t, b, request(first, put("a", "2")))
	// The other side does not know yet that the branch has moved.
	if _, err := a.Commit(t.Context(), request(first, put("a", "3"))); !errors.Is(err, errkind.Conflict) {
		t.Errorf("Commit on an old tip: %v", err)
	}
	if got := server.Git("show", "main:a"); got != "2" {
		t.Errorf("the remote has %q", got)
	}

	for url, want := range map[string]errkind.Kind{"": errkind.Invalid, "--upload-pack=touch /tmp/x": errkind.Invalid} {
		if _, err := remote(url); !errors.Is(err, want) {
			t.Errorf("Remote(%q): %v", url, err)
		}
	}
	for url, want := range map[string]errkind.Kind{
		filepath.Join(t.TempDir(), "nosuch"):              errkind.NotFound,
		"ext::sh -c touch% /tmp/x":                        errkind.Unsupported,
		"http://ann:hunter2@127.0.0.1:1/config.git":       errkind.Unavailable,
		"http://ann%40x:hunter2@127.0.0.1:1/a@b/conf.git": errkind.Unavailable,
		"https://hunter2@127.0.0.1:1/config.git":          errkind.Unavailable,
		"http://ann:x@hunter2@127.0.0.1:1/config.git":     errkind.Invalid,
	} {
		r, err := remote(url)
		if err == nil {
			_, err = r.Tip(t.Context(), "main")
		}
		if !errors.Is(err, want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Tip of %s: %v", url, err)
		}
	}
}

// Folders that are new, and none of Git's, and the tools that are not there.
func TestOpen(t *testing.T) {
	if _, err := gitrepo.Open(t.Context(), t.TempDir(), gitrepo.Options{Git: "no-such-git"}); !errors.Is(err, errkind.Unsupported) {
		t.Errorf("Open without git: %v", err)
	}
	_, g := folder(t, options())
	if _, err := gitrepo.Open(t.Context(), filepath.Join(g.Dir, "sub", "folder"), options()); !errors.Is(err, errkind.Conflict) {
		t.Errorf("Open of a folder within a repository: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := gitrepo.Open(t.Context(), file, options()); err == nil {
		t.Error("Open makes a repository of a file")
	}
}

// A repository keeps nothing of what was thrown away but objects.
func TestNothingIsLeft(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	r, _ := folder(t, options())
	first := must(t, r, request("", put("a", "1")))
	if _, err := r.Commit(t.Context(), request("", put("a", "2"))); err == nil {
		t.Error("Commit on an old tip")
	}
	must(t, r, request(first, put("a", "2")))
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if strings.HasPrefix(e.Name(), "skep-index-") {
			t.Errorf("%s is left", e.Name())
		}
	}
}
