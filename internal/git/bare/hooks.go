package bare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/git"
)

// hooks run the programs that a repository has in its hooks folder (githooks(5)), with the repository as their folder.
type hooks struct {
	repo *Repo
	env  []string // besides the process's own
}

func (r *Repo) hooks(env ...string) *hooks {
	return &hooks{repo: r, env: env}
}

// pushEnv is how hooks hear of push options.
func pushEnv(options []string) []string {
	env := []string{"GIT_PUSH_OPTION_COUNT=" + strconv.Itoa(len(options))}
	for i, o := range options {
		env = append(env, fmt.Sprintf("GIT_PUSH_OPTION_%d=%s", i, o))
	}
	return env
}

// find returns a hook's path, or nothing when the repository has none that can be run.
func (h *hooks) find(name string) string {
	dir := filepath.Join(h.repo.common, "hooks")
	if d, ok := h.repo.config.Get("core.hookspath"); ok && d != "" {
		if rest, home := strings.CutPrefix(d, "~/"); home {
			d = filepath.Join(os.Getenv("HOME"), rest)
		}
		if dir = d; !filepath.IsAbs(dir) {
			dir = filepath.Join(h.repo.dir, dir)
		}
	}
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return ""
	}
	return path
}

// command prepares a hook.
func (h *hooks) command(ctx context.Context, path string, messages io.Writer, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // what the repository's owner has put there for this
	cmd.Dir, cmd.Env = h.repo.dir, append(h.environ(), h.env...)
	cmd.Stdout, cmd.Stderr = messages, messages
	return cmd
}

// environ is the process's environment as git gives it to programs that it runs in a repository.
func (h *hooks) environ() []string {
	env := make([]string, 0, 64)
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); name != "GIT_DIR" && name != "GIT_WORK_TREE" {
			env = append(env, v)
		}
	}
	return append(env, "GIT_DIR=.")
}

// errNotStarted is of a hook that is there and could not be run: its interpreter is missing, or the machine has no room for a process.
var errNotStarted = errors.New("cannot run hook")

// run runs a hook, if there is one. Its exit status, when it is not 0, is the error. That it could not be started is said in messages.
func (h *hooks) run(ctx context.Context, name, input string, messages io.Writer, args ...string) error {
	path := h.find(name)
	if path == "" {
		return nil
	}
	cmd := h.command(ctx, path, messages, args...)
	cmd.Stdin = strings.NewReader(input)
	err := cmd.Run()
	if err != nil && cmd.Process == nil {
		err = fmt.Errorf("%w %s: %w", errNotStarted, name, err)
		_, _ = fmt.Fprintf(messages, "error: %v\n", err) // whether he reads it changes nothing
	}
	return err
}

// hookLines is what hooks read: a line for each update.
func hookLines(updates []git.RefUpdate) string {
	var b strings.Builder
	for _, u := range updates {
		fmt.Fprintf(&b, "%s %s %s\n", u.Old, u.New, u.Name)
	}
	return b.String()
}
