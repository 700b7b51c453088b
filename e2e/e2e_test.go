// Package e2e runs the real binary with real git, as owner, member, stranger and attacker.
package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/skep-dev/skep/internal/certs/certstest"
	"github.com/skep-dev/skep/internal/jwt/jwttest"
	"github.com/skep-dev/skep/internal/postgres/postgrestest"
)

// binary is the skep that all tests run: built once, by TestMain.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "skep-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "skep")
		build := exec.Command("go", "build", "-o", binary, "../cmd/skep")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build skep: %v\n%s", err, out)
			return 1
		}
		return postgrestest.Main(m)
	}())
}

func TestScripts(t *testing.T) { testscript.Run(t, scripts("testdata")) }

// scripts are those of a folder, with the variables of environment and more.
func scripts(dir string, more ...string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			for _, kv := range append(environment(env.WorkDir), more...) {
				k, v, _ := strings.Cut(kv, "=")
				env.Setenv(k, v)
			}
			s := &server{dir: filepath.Join(env.WorkDir, "data"), env: env.Vars}
			env.Values[serverKey{}] = s
			env.Values[authoritiesKey{}] = map[string]*certstest.Authority{}
			env.Values[platformKey{}] = &platform{keys: map[string]jwttest.Key{}}
			env.Defer(s.kill)
			d := &daemon{env: env.Vars}
			env.Values[daemonKey{}] = d
			env.Defer(d.kill)
			r := &receiver{}
			env.Values[receiverKey{}] = r
			env.Defer(r.stop)
			return os.WriteFile(filepath.Join(env.WorkDir, "gitconfig"), []byte(gitConfig), 0o600)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"server":   serverCommand,
			"capture":  captureCommand,
			"history":  historyCommand,
			"fails":    failsCommand,
			"jwt":      jwtCommand,
			"certs":    certsCommand,
			"daemon":   daemonCommand,
			"receiver": receiverCommand,
			"as":       asCommand,
		},
	}
}

const gitConfig = `[user]
	name = Alice
	email = alice@example.invalid
[init]
	defaultBranch = main
[gc]
	auto = 0
[maintenance]
	auto = false
[advice]
	detachedHead = false
[protocol "file"]
	allow = always
`

// environment is what git and skep see: nothing of the machine's own configuration.
func environment(dir string) []string {
	return []string{
		"HOME=" + dir, "XDG_CONFIG_HOME=" + filepath.Join(dir, "xdg"),
		"GIT_CONFIG_GLOBAL=" + filepath.Join(dir, "gitconfig"), "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"PATH=" + filepath.Dir(binary) + string(os.PathListSeparator) + os.Getenv("PATH"),
		"LC_ALL=C", "TZ=UTC", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1",
	}
}

type serverKey struct{}

// server is one skep serve process.
type server struct {
	dir string
	env []string

	cmd *exec.Cmd
	url string
	ssh string // HOST:PORT; empty: it does not serve SSH
	out *lockedBuffer
}

var (
	servingAt    = regexp.MustCompile(`^Skep serves (https?://127\.0\.0\.1:\d+)`)
	servingSSHAt = regexp.MustCompile(`ssh://git@(127\.0\.0\.1:\d+)`)
)

// greetingEnds is in the line after which the server has said where it is.
const greetingEnds = "To push a repository"

// start runs skep serve on a free port and waits until it says where it serves.
func (s *server) start(flags ...string) error {
	s.cmd = exec.Command(binary, append([]string{"serve", "--data", s.dir, "--http", "127.0.0.1:0", "--ssh", "off"}, flags...)...)
	s.cmd.Env = s.env
	s.out = &lockedBuffer{}
	s.cmd.Stderr = s.out
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	type place struct{ url, ssh string }
	found := make(chan place, 1)
	go func() {
		var at place
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			fmt.Fprintln(s.out, lines.Text())
			if m := servingAt.FindStringSubmatch(lines.Text()); m != nil {
				at.url = m[1]
			}
			if m := servingSSHAt.FindStringSubmatch(lines.Text()); m != nil {
				at.ssh = m[1]
			}
			if strings.Contains(lines.Text(), greetingEnds) {
				found <- at
				break
			}
		}
		_, _ = io.Copy(s.out, stdout) // the end of the process ends it
	}()
	select {
	case at := <-found:
		s.url, s.ssh = at.url, at.ssh
		return nil
	case <-time.After(30 * time.Second):
		s.kill()
		return fmt.Errorf("skep serve says nothing after 30 s:\n%s", s.out)
	}
}

// stop asks the server to end, and waits.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := s.cmd.Wait()
	s.cmd = nil
	return err
}

// kill ends the server with no warning, as a crash would.
func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *server) adminToken() (string, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, "admin-token"))
	return strings.TrimSpace(string(b)), err
}

// withToken is the server's address with a token as the password, as git takes it.
func (s *server) withToken(token string) string {
	u, _ := url.Parse(s.url)
	u.User = url.UserPassword("any", token)
	return u.String()
}

// serverCommand: server start [FLAG…] | stop | kill | log FILE. After start, $URL is where it serves, $SSH the same over SSH, $ADMIN the admin token, $AS_ADMIN
// the address with it, and $SKEP_URL and $SKEP_TOKEN make skep talk to it as the admin.
func serverCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: server start [FLAG...] | stop | kill | log FILE")
	}
	s := ts.Value(serverKey{}).(*server)
	switch args[0] {
	case "start":
		ts.Check(s.start(args[1:]...))
		token, err := s.adminToken()
		ts.Check(err)
		ts.Setenv("URL", s.url)
		_, host, _ := strings.Cut(s.url, "://")
		ts.Setenv("HOST", host)
		ts.Setenv("ADMIN", token)
		ts.Setenv("AS_ADMIN", s.withToken(token))
		ts.Setenv("SKEP_URL", s.url)
		ts.Setenv("SKEP_TOKEN", token)
		if s.ssh != "" {
			ts.Setenv("SSH", "ssh://git@"+s.ssh)
			ts.Check(s.writeSSHConfig(ts.Getenv("WORK")))
		}
	case "stop":
		ts.Check(s.stop())
	case "kill":
		s.kill()
	case "log":
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(s.out.String()), 0o600))
	default:
		ts.Fatalf("server %s: unknown", args[0])
	}
}

// captureCommand: capture NAME [REGEXP] sets $NAME from the last command's standard output: all of it without the final line feed, or
// the regular expression's first group.
func captureCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: capture NAME [REGEXP]")
	}
	out := strings.TrimRight(ts.ReadFile("stdout"), "\n")
	if len(args) == 2 {
		m := regexp.MustCompile(args[1]).FindStringSubmatch(out)
		if len(m) < 2 {
			ts.Fatalf("%q is not in the output:\n%s", args[1], out)
		}
		out = m[1]
	}
	ts.Setenv(args[0], out)
}

// historyCommand: history A B fails unless both repositories have the same references and the same reachable objects, and B
// passes git fsck --strict.
func historyCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: history A B")
	}
	ask := func(dir string, git ...string) string {
		cmd := exec.Command("git", append([]string{"-C", ts.MkAbs(dir)}, git...)...)
		cmd.Env = environment(ts.Getenv("WORK"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			ts.Fatalf("git %s in %s: %v\n%s", git[0], dir, err, out)
		}
		return string(out)
	}
	for _, question := range [][]string{
		{"for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags"},
		{"rev-list", "--objects", "--all", "--no-object-names"},
	} {
		if a, b := ask(args[0], question...), ask(args[1], question...); sorted(a) != sorted(b) {
			ts.Fatalf("git %s differs:\n%s\n%s\n----\n%s\n%s", question[0], args[0], a, args[1], b)
		}
	}
	ask(args[1], "fsck", "--strict", "--full")
}

// failsCommand: fails CODE ARG… runs skep and fails unless it ends with this exit code, prints nothing on standard output, and on
// standard error one line that a person can read.
func failsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: fails CODE ARG...")
	}
	err := ts.Exec("skep", args[1:]...)
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || strconv.Itoa(exit.ExitCode()) != args[0] {
		ts.Fatalf("skep ended with %v, want exit code %s", err, args[0])
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("skep printed on standard output:\n%s", out)
	}
	if text := ts.ReadFile("stderr"); !oneLine.MatchString(text) {
		ts.Fatalf("skep explained itself not in one line:\n%s", text)
	}
}

// oneLine has at least two words, so that a bare "EOF" is none.
var oneLine = regexp.MustCompile(`^skep: \S+ \S[^\n]*\n$`)

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
