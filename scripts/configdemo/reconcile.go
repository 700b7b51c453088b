package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// reconcileCommand is the argument with which this program is a reconciler.
const reconcileCommand = "reconcile"

// reconcileMain applies milestones: reconcile REPOSITORY BRANCH TARGET INTERVAL. It knows nothing of the document, only Git: when the branch
// is at another commit than the one that it has applied, the target becomes as that is, removed files included.
func reconcileMain(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return errors.New("usage: reconcile REPOSITORY BRANCH TARGET INTERVAL")
	}
	interval, err := time.ParseDuration(args[3])
	if err != nil {
		return err
	}
	repository, ref, target := args[0], "refs/heads/"+args[1], args[2]
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"--git-dir", target + ".git", "--work-tree", target}, args...)...).Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("git %s: %s", args[0], strings.TrimSpace(string(exit.Stderr)))
		}
		return strings.TrimSpace(string(out)), err
	}
	if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	if _, err := git("init", "-q"); err != nil {
		return err
	}
	for applied := ""; ctx.Err() == nil; wait(ctx, interval) {
		there, err := git("ls-remote", repository, ref)
		commit, _, _ := strings.Cut(there, "\t")
		if err == nil && commit != "" && commit != applied {
			if _, err = git("fetch", "-q", repository, ref); err == nil {
				_, err = git("read-tree", "--reset", "-u", commit)
			}
			if err == nil {
				applied = commit
				fmt.Println("applied", commit)
			}
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// reconciler is the process.
type reconciler struct {
	target string
	cmd    *exec.Cmd
	end    func() error

	mu      sync.Mutex
	commits []string // guarded by mu
}

func startReconciler(ctx context.Context, s *stage, interval time.Duration) (*reconciler, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &reconciler{target: filepath.Join(filepath.Dir(s.dir), "target")}
	r.cmd = exec.CommandContext(context.WithoutCancel(ctx), self, reconcileCommand, s.dir, "main", r.target, interval.String())
	r.cmd.Env, r.cmd.Stderr = s.environment(), os.Stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.read(out)
	}()
	r.end = sync.OnceValue(func() error {
		_ = r.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-done
		return r.cmd.Wait()
	})
	return r, nil
}

func (r *reconciler) read(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if commit, ok := strings.CutPrefix(lines.Text(), "applied "); ok {
			r.mu.Lock()
			r.commits = append(r.commits, commit)
			r.mu.Unlock()
		}
	}
}

// applied is the last commit that it has applied.
func (r *reconciler) applied() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.commits) == 0 {
		return ""
	}
	return r.commits[len(r.commits)-1]
}

// stop ends the process.
func (r *reconciler) stop() error { return r.end() }
