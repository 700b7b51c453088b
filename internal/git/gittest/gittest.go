// Package gittest runs real git, the oracle of the engine's tests.
package gittest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/git"
)

// Repo is a repository that real git keeps. Where git fails, so does the test, unless a method returns an error.
type Repo struct {
	TB  testing.TB
	Dir string
	env []string // more variables for git
}

// New makes an empty bare repository whose branch is main.
func New(tb testing.TB) Repo {
	tb.Helper()
	r := At(tb, tb.TempDir())
	r.Git("init", "-q", "--bare", "-b", "main", ".")
	return r
}

// At is the repository in a directory, or the one that git is going to make there.
func At(tb testing.TB, dir string) Repo {
	tb.Helper()
	return Repo{TB: tb, Dir: dir}
}

// With is the same repository, with more environment variables for git.
func (r Repo) With(env ...string) Repo {
	r.env = slices.Concat(r.env, env)
	return r
}

// Env is an environment in which git does the same on every machine and at any time.
func Env(more ...string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "TZ=UTC",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.org", "GIT_AUTHOR_DATE=1700000000 +0100",
		"GIT_COMMITTER_NAME=Cy", "GIT_COMMITTER_EMAIL=cy@example.org", "GIT_COMMITTER_DATE=1700000001 +0000",
	}, more...)
}

// Command is git about to run in the repository, for what the other methods do not do.
func (r Repo) Command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(r.TB.Context(), "git", args...)
	cmd.Dir, cmd.Env = r.Dir, Env(r.env...)
	return cmd
}

// Git runs git and returns what it prints.
func (r Repo) Git(args ...string) string {
	r.TB.Helper()
	return r.GitIn("", args...)
}

// GitIn is Git with something to read.
func (r Repo) GitIn(stdin string, args ...string) string {
	r.TB.Helper()
	out, err := r.run(stdin, args...)
	if err != nil {
		r.TB.Fatal(err)
	}
	return out
}

// TryGit is Git for what may fail. The error has what git says.
func (r Repo) TryGit(args ...string) (string, error) {
	return r.run("", args...)
}

// Talk is TryGit with all that git says, on standard error too, but for the last line feed.
func (r Repo) Talk(args ...string) (string, error) {
	out, err := r.Command(args...).CombinedOutput()
	return strings.TrimRight(string(out), "\n"), err
}

func (r Repo) run(stdin string, args ...string) (string, error) {
	cmd := r.Command(args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), err
}

// FastImport feeds commands to git fast-import.
func (r Repo) FastImport(commands string) {
	r.TB.Helper()
	r.GitIn(commands+"done\n", "fast-import", "--quiet", "--done", "--force")
}

// Modify is the command of FastImport that puts a file, at a path of any bytes, into a commit. The data of a gitlink is the
// ID of its commit.
func Modify(mode, path, data string) string {
	var quoted strings.Builder
	for i := range len(path) {
		fmt.Fprintf(&quoted, `\%03o`, path[i])
	}
	if mode == "160000" {
		return fmt.Sprintf("M %s %s \"%s\"\n", mode, data, &quoted)
	}
	return fmt.Sprintf("M %s inline \"%s\"\ndata %d\n%s\n", mode, &quoted, len(data), data)
}

// PackObjects makes a pack of what revs (one in each line, ^rev to exclude) lead to, or of what args say: --all.
func (r Repo) PackObjects(revs string, args ...string) []byte {
	r.TB.Helper()
	return []byte(r.GitIn(revs, append([]string{"pack-objects", "-q", "--stdout", "--revs"}, args...)...))
}

// PackOnly makes a pack of the objects of ids (one in each line) and of no others.
func (r Repo) PackOnly(ids string, args ...string) []byte {
	r.TB.Helper()
	return []byte(r.GitIn(ids, append([]string{"pack-objects", "-q", "--stdout"}, args...)...))
}

// OID is the object that a revision names.
func (r Repo) OID(rev string) git.OID {
	r.TB.Helper()
	return git.MustParseOID(strings.TrimSpace(r.Git("rev-parse", "--verify", rev)))
}

// OIDs runs git and returns the IDs at the starts of the lines that it prints.
func (r Repo) OIDs(stdin string, args ...string) (list []git.OID) {
	r.TB.Helper()
	for line := range strings.Lines(r.GitIn(stdin, args...)) {
		id, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		list = append(list, git.MustParseOID(id))
	}
	return list
}

// All lists the objects that git has, by ID.
func (r Repo) All() []git.OID {
	r.TB.Helper()
	list := r.OIDs("", "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
	slices.SortFunc(list, git.OID.Compare)
	return slices.Compact(list)
}

// Read reads objects.
func (r Repo) Read(ids ...git.OID) []git.Object {
	r.TB.Helper()
	var in strings.Builder
	for _, id := range ids {
		fmt.Fprintln(&in, id)
	}
	out := bufio.NewReader(strings.NewReader(r.GitIn(in.String(), "cat-file", "--batch")))
	objects := make([]git.Object, len(ids))
	for i, want := range ids {
		line, err := out.ReadString('\n')
		if err != nil {
			r.TB.Fatal(err)
		}
		var id, kind string
		var size int
		if _, err := fmt.Sscan(line, &id, &kind, &size); err != nil || id != want.String() {
			r.TB.Fatalf("git cat-file says %q of %s: %v", line, want, err)
		}
		if objects[i].Kind, err = git.ParseKind(kind); err != nil {
			r.TB.Fatal(err)
		}
		objects[i].Data = make([]byte, size)
		if _, err := io.ReadFull(out, objects[i].Data); err != nil {
			r.TB.Fatal(err)
		}
		if _, err := out.Discard(1); err != nil {
			r.TB.Fatal(err)
		}
	}
	return objects
}
