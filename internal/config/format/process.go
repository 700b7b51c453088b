package format

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// Limits of programs that read or write configuration for us.
const (
	defaultTimeout = 10 * time.Second // what a person still waits for
	maxStderr      = 4 << 10          // as much of a program's messages as an error has
	pipeDelay      = time.Second      // what a program's children may hold its output open after it ended
)

// process is a program that gets its input on stdin and answers on stdout.
type process struct {
	command []string
	dir     string // where it runs; "" is where we do
	timeout time.Duration
}

// run runs the program to its end. It sees nothing of our environment but where programs are and where its user lives: the
// environment of a server has secrets.
func (p process) run(ctx context.Context, stdin []byte) ([]byte, error) {
	timeout := p.timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it took more than %s: %w", timeout, errkind.TooLarge))
	defer cancel()
	cmd := exec.CommandContext(ctx, p.command[0], p.command[1:]...) //nolint:gosec // the command is the configuration's
	cmd.Dir = p.dir
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if v, set := os.LookupEnv(name); set {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	stdout, stderr := limitedBuffer{limit: MaxBytes, full: cancel}, limitedBuffer{limit: maxStderr}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	cmd.WaitDelay = pipeDelay
	withItsChildren(cmd)
	err := cmd.Run()
	switch {
	case stdout.passed:
		return nil, fmt.Errorf("its output has more than %d bytes: %w", MaxBytes, errkind.TooLarge)
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", err, errkind.NotFound)
	case err != nil:
		return nil, fmt.Errorf("%w%s: %w", err, said(&stderr), errkind.Invalid)
	}
	return stdout.kept.Bytes(), nil
}

// said is what a program wrote to stderr, for an error.
func said(stderr *limitedBuffer) string {
	text := strings.ToValidUTF8(strings.TrimSpace(stderr.kept.String()), "\ufffd")
	if text == "" {
		return ""
	}
	return ": " + text
}

// limitedBuffer keeps the first bytes that are written to it. It is no bytes.Buffer, whose ReadFrom would know of no limit.
type limitedBuffer struct {
	kept   bytes.Buffer
	limit  int
	full   func() // called when more comes; nil to go on and drop it
	passed bool
}

// Write keeps what fits, and takes all.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := b.limit - b.kept.Len(); len(p) > room {
		if b.passed = true; b.full != nil {
			b.full()
		}
		b.kept.Write(p[:room])
		return len(p), nil
	}
	return b.kept.Write(p)
}
