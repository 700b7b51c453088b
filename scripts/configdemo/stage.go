package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

//go:embed schema.toml
var schema string

//go:embed rbac.toml
var rbac string

// The actors, by the names that rbac.toml has.
const (
	zara       = "zara"
	pipeline   = "ci-pipeline"
	operator   = "lb-operator"
	autoscaler = "autoscaler"
	auditor    = "auditor" // who checks at the end
)

// The entities. They are there when the writers begin.
var (
	names    = []string{"api", "web", "search", "billing"}
	environs = []string{"production", "staging", "development"}
)

// stage is the folder with the document, and its daemon.
type stage struct {
	binary, dir string
	keys        map[string]string // API keys by actor

	mu         sync.Mutex
	daemon     *exec.Cmd     // guarded by mu, as all below
	done       chan struct{} // closed when it has ended
	rest, grpc string        // where it listens: HOST:PORT
}

// environment is that of skep and git: nothing of the machine's own settings.
func (s *stage) environment() []string {
	return append(os.Environ(), "HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Zara", "GIT_AUTHOR_EMAIL=zara@example.invalid", "GIT_COMMITTER_NAME=Zara", "GIT_COMMITTER_EMAIL=zara@example.invalid",
		"LC_ALL=C", "TZ=UTC")
}

// failed is a command that did not end well.
type failed struct {
	code int
	text string
}

func (f *failed) Error() string { return f.text }

// command runs a program in the folder and returns what it prints.
func (s *stage) command(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = s.dir, append(s.environment(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = &failed{exit.ExitCode(), fmt.Sprintf("%s %s: %s", filepath.Base(name), strings.Join(args, " "), strings.TrimSpace(stderr.String()))}
	}
	return stdout.Bytes(), err
}

// skep runs skep config as somebody; as nobody in particular it is the folder's owner.
func (s *stage) skep(ctx context.Context, actor string, args ...string) ([]byte, error) {
	var env []string
	if actor != "" {
		env = []string{"SKEP_CONFIG_ACTOR=human:" + actor}
	}
	return s.command(ctx, env, s.binary, append([]string{"config"}, args...)...)
}

// read is skep with an answer in JSON.
func (s *stage) read(ctx context.Context, actor string, v any, args ...string) error {
	out, err := s.skep(ctx, actor, append(args, "--json")...)
	if err == nil {
		err = json.Unmarshal(out, v)
	}
	return err
}

// set makes the document, with entities, API keys and roles.
func (s *stage) set(ctx context.Context) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if _, err := s.command(ctx, nil, "git", "init", "-q", "-b", "main"); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, "schema.toml"), []byte(schema), 0o600); err != nil {
		return err
	}
	if _, err := s.skep(ctx, "", "init", "--schema", "schema.toml"); err != nil {
		return err
	}
	for _, name := range names {
		for _, args := range [][]string{
			{"insert", "service." + name, "image=registry.example/" + name + ":1", "replicas=2", "plan=small"},
			{"insert", "route." + name, "path=/" + name, "weight=50", "timeout=30s", "service=service." + name},
			{"insert", "upstream." + name},
		} {
			if _, err := s.skep(ctx, zara, append(args, "--intent", "the first "+name)...); err != nil {
				return err
			}
		}
	}
	return s.secure(ctx)
}

// secure makes API keys, and says who may do what.
func (s *stage) secure(ctx context.Context) error {
	s.keys = map[string]string{}
	var entries strings.Builder
	for _, actor := range []struct{ id, class string }{{pipeline, "pipeline"}, {operator, "operator"}, {autoscaler, "system"}, {auditor, "human"}} {
		out, err := s.skep(ctx, "", "auth", "generate-key")
		if err != nil {
			return err
		}
		lines := strings.Fields(string(out))
		if len(lines) != 2 {
			return fmt.Errorf("auth generate-key prints %d words, want a key and its hash", len(lines))
		}
		s.keys[actor.id] = lines[0]
		fmt.Fprintf(&entries, "[[keys]]\nkey_hash = %q\nactor_id = %q\nactor_class = %q\n\n", lines[1], actor.id, actor.class)
	}
	config := filepath.Join(s.dir, ".conflux", "config.toml")
	settings, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(config, append(settings, "\n[auth]\nmode = \"api-key\"\n"...), 0o600),
		os.WriteFile(filepath.Join(s.dir, ".conflux", "api-keys.toml"), []byte(entries.String()), 0o600),
		os.WriteFile(filepath.Join(s.dir, ".conflux", "rbac.toml"), []byte(rbac), 0o600))
}

// startPatience is how long a daemon may take to begin.
const startPatience = 20 * time.Second

// start starts the daemon on free ports.
func (s *stage) start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(filepath.Dir(s.dir), "daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.binary, "config", "daemon", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--log-level", "warn") //nolint:noctx // it is stopped by its process
	cmd.Dir, cmd.Env, cmd.Stderr = s.dir, s.environment(), log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	done, said := make(chan struct{}), make(chan [2]string, 1)
	go func() {
		defer close(done)
		var at [2]string
		for lines := bufio.NewScanner(out); lines.Scan(); {
			_, address, _ := strings.Cut(lines.Text(), "://")
			address, _, _ = strings.Cut(address, "/")
			switch {
			case strings.HasPrefix(lines.Text(), "REST "):
				at[0] = address
			case strings.HasPrefix(lines.Text(), "gRPC "):
				at[1] = address
				said <- at
			}
		}
		_ = cmd.Wait()
	}()
	s.mu.Lock()
	s.daemon, s.done = cmd, done
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	select {
	case at := <-said:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rest, s.grpc = at[0], at[1]
		return nil
	case <-done:
		return errors.New("the daemon ended: see daemon.log, with --keep")
	case <-ctx.Done():
		return errors.Join(errors.New("the daemon does not begin"), s.stop(os.Kill))
	}
}

// stop ends the daemon with a signal, and waits for it.
func (s *stage) stop(how os.Signal) error {
	s.mu.Lock()
	cmd, done := s.daemon, s.done
	s.mu.Unlock()
	if cmd == nil {
		return nil
	}
	err := cmd.Process.Signal(how)
	<-done
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// addresses are where the daemon listens at the moment.
func (s *stage) restAddress() string { s.mu.Lock(); defer s.mu.Unlock(); return s.rest }
func (s *stage) grpcAddress() string { s.mu.Lock(); defer s.mu.Unlock(); return s.grpc }
