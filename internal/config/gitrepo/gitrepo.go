// Package gitrepo keeps milestones in Git repositories through the user's git.
//
// A repository on a user's disk is git's business: its object and index formats, worktrees, configuration, hooks, credentials and signing
// keys are what the installed git makes of them, and not what this program knows. So git is run, a fixed number of times for a milestone of
// any size: never once for each file.
//
//	r, err := gitrepo.Open(ctx, dir, gitrepo.Options{})         // a folder; git init if it is none
//	r, err := gitrepo.Remote(ctx, url, cache, gitrepo.Options{}) // whatever git can push to
//
// A commit is made without a checkout: objects by git fast-import, the tree in an index of its own, then git commit-tree, and git update-ref
// with the value that the branch must have. Where the branch is checked out its files follow by git read-tree -m -u, which never overwrites
// what somebody has not committed. A remote gets the commit before the local branch moves, so that what it refuses has not happened.
package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/errkind"
)

// Options are a repository's settings. The zero value works.
type Options struct {
	Git       string           // the program; "": git, as PATH has it
	Env       []string         // variables for git, over those of the process
	Push      string           // Open: the remote or URL that each commit is pushed to; "": none
	Committer milestone.Person // zero: the commit's author, if it has one, and otherwise as git's configuration says

	Sign bool   // sign commits as git's configuration says, also if commit.gpgSign does not ask for it
	Key  string // with which key; "": user.signingKey
}

// Repo is a repository. Its methods may be called at the same time.
type Repo struct {
	dir    string
	o      Options
	remote string        // of Remote: where branches are
	secret string        // user and password, or token, in the remote's URL, which no error may have
	turn   chan struct{} // one place: whoever is in it works on branches and worktrees. git's own locks do not wait
}

// Open returns the repository that a folder is. A folder that is in none becomes one, and is made if it is not there.
func Open(ctx context.Context, dir string, o Options) (*Repo, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil { //nolint:gosec // the user's umask decides, as with git init
		return nil, fmt.Errorf("open repository: %w", err)
	}
	r := &Repo{dir: dir, o: o, turn: make(chan struct{}, 1)}
	if err := r.mayPushTo(o.Push); err != nil {
		return nil, err
	}
	below, err := r.git(ctx, nil, "rev-parse", "--show-prefix")
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("open repository %s: there is no git: install it: %w", dir, errkind.Unsupported)
	case err == nil && strings.TrimSpace(below) != "":
		// Milestones are at the root. Neither to write there unasked nor to put a repository into another one is what somebody expects.
		return nil, fmt.Errorf("open repository %s: it is a folder within another repository: name that one, or make this one its own by git init: %w", dir, errkind.Conflict)
	case err == nil:
		return r, nil
	case !strings.Contains(err.Error(), "not a git repository"):
		return nil, fmt.Errorf("open repository %s: %w", dir, err)
	}
	if _, err := r.git(ctx, nil, "init", "--quiet"); err != nil {
		return nil, fmt.Errorf("make a repository of %s: %w", dir, err)
	}
	return r, nil
}

// Remote returns the repository at a URL. What git needs on this side of it is kept in a folder, which is nobody else's.
func Remote(ctx context.Context, url, cache string, o Options) (*Repo, error) {
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, fmt.Errorf("open cache of a repository: %w", err)
	}
	r := &Repo{dir: cache, o: o, remote: url, turn: make(chan struct{}, 1)}
	if url == "" {
		return nil, fmt.Errorf("open repository: its URL is missing: %w", errkind.Invalid)
	}
	if err := r.mayPushTo(url); err != nil {
		return nil, err
	}
	if _, err := r.git(ctx, nil, "init", "--quiet", "--bare"); err != nil {
		return nil, fmt.Errorf("make a cache for %s: %w", r.clean(url), err)
	}
	return r, nil
}

// mayPushTo takes notice of a remote.
func (r *Repo) mayPushTo(remote string) error {
	if strings.HasPrefix(remote, "-") {
		return fmt.Errorf("remote %q: it looks like an option of git: %w", remote, errkind.Invalid)
	}
	if scheme, rest, ok := strings.Cut(remote, "://"); ok {
		authority, _, _ := strings.Cut(rest, "/")
		if strings.Count(authority, "@") > 1 {
			return fmt.Errorf("remote: the user or password in its URL has an @: write it as %%40: %w", errkind.Invalid) // git would show what follows it
		}
		// A token is often the user of an HTTP address; that of SSH is a name, and helps who reads the error.
		if at := strings.Index(authority, "@"); at >= 0 && (strings.HasPrefix(scheme, "http") || strings.Contains(authority[:at], ":")) {
			r.secret = authority[:at+1]
		}
	}
	return nil
}

// clean takes user and password out of a text.
func (r *Repo) clean(text string) string {
	if r.secret == "" {
		return text
	}
	return strings.ReplaceAll(text, r.secret, "")
}

// Branch returns the branch that is checked out, or the one that the first commit will make.
func (r *Repo) Branch(ctx context.Context) (string, error) {
	ref, err := r.git(ctx, nil, "symbolic-ref", "--quiet", "HEAD")
	if err != nil {
		return "", fmt.Errorf("find the branch of %s: HEAD is detached: name a branch: %w", r.dir, errkind.Conflict)
	}
	return strings.TrimPrefix(strings.TrimSuffix(ref, "\n"), branches), nil
}

// killAfter is how long git gets to end after it was told to.
const killAfter = 5 * time.Second

// maxComplaint bounds what is kept of git's standard error.
const maxComplaint = 8 << 10

// foreign are variables that say which repository git is to look at: those of a hook that runs us are of another one.
var foreign = []string{
	"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_NAMESPACE",
	"GIT_PREFIX", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE", "GIT_QUARANTINE_PATH", "GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS",
}

// command is git about to run in the repository. Its texts are those of the program, in no other language: some are looked at.
func (r *Repo) command(ctx context.Context, args ...string) *exec.Cmd {
	program := r.o.Git
	if program == "" {
		program = "git"
	}
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // the user's own git
	cmd.Dir = r.dir
	// Nobody may be there to answer a question for a password. Protocols that run programs are not for URLs from a configuration. Who sets
	// these variables knows better.
	cmd.Env = []string{"GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=file:git:http:https:ssh"}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains(foreign, name) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, "LC_ALL=C"), r.o.Env...)
	cmd.WaitDelay = killAfter
	return cmd
}

// git runs git and returns what it prints.
func (r *Repo) git(ctx context.Context, in io.Reader, args ...string) (string, error) {
	return r.run(r.command(ctx, args...), in)
}

func (r *Repo) run(cmd *exec.Cmd, in io.Reader) (string, error) {
	var out bytes.Buffer
	complaint := &head{most: maxComplaint}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, complaint
	if err := cmd.Run(); err != nil {
		return "", r.failed(cmd, err, complaint)
	}
	return out.String(), nil
}

// failed makes an error of what git said.
func (r *Repo) failed(cmd *exec.Cmd, err error, complaint *head) error {
	text := strings.TrimSpace(r.clean(complaint.String()))
	text = strings.Join(strings.FieldsFunc(text, func(c rune) bool { return c == '\n' || c == '\r' }), "; ")
	switch {
	case text == "":
		return fmt.Errorf("git %s: %w", cmd.Args[1], err)
	case strings.Contains(text, "index.lock': File exists"):
		return fmt.Errorf("git %s: another git is at work in this repository: try again: %s: %w", cmd.Args[1], text, errkind.Unavailable)
	}
	return fmt.Errorf("git %s: %w: %s", cmd.Args[1], err, text)
}

// head keeps the beginning of what is written to it.
type head struct {
	bytes.Buffer
	most int
}

func (h *head) Write(p []byte) (int, error) {
	h.Buffer.Write(p[:min(len(p), max(h.most-h.Len(), 0))])
	return len(p), nil
}

// tempIndex returns the path of an index that is not there yet, and what takes it away.
func tempIndex() (path string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "skep-index-")
	if err != nil {
		return "", nil, fmt.Errorf("make an index: %w", err)
	}
	return filepath.Join(dir, "index"), func() { _ = os.RemoveAll(dir) }, nil
}
