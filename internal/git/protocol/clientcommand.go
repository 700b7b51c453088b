package protocol

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// commandGrace is how long a command may take to end once nothing more is wanted of it.
const commandGrace = 2 * time.Second

// NewCommandClient makes a Client that talks to a command's standard input and output. command returns it, not started,
// for a service: "git upload-pack DIR", or "ssh HOST git-upload-pack 'DIR'". The command ends with ctx if it is made by
// exec.CommandContext.
func NewCommandClient(command func(ctx context.Context, service string) *exec.Cmd, agent string) *Client {
	return &Client{dial: commandDialer(command), agent: agentOr(agent)}
}

type commandDialer func(ctx context.Context, service string) *exec.Cmd

// commandConversation is one running command.
type commandConversation struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	pkts   *PktReader
	stderr tail
	copied chan struct{} // closed when the request is sent; nil when there is none
	once   sync.Once
}

func (d commandDialer) open(ctx context.Context, service string, v Version) (conversation, error) {
	c := &commandConversation{cmd: d(ctx, service)}
	if c.cmd.Env == nil {
		c.cmd.Env = os.Environ()
	}
	if v != V0 {
		c.cmd.Env = append(c.cmd.Env, fmt.Sprintf("GIT_PROTOCOL=version=%d", v))
	}
	c.cmd.Stderr = &c.stderr
	c.cmd.WaitDelay = commandGrace
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if c.stdout, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.cmd.Path, err)
	}
	c.pkts = NewPktReader(c.stdout, maxAnswerBytes)
	return c, nil
}

func (c *commandConversation) advert() *PktReader { return c.pkts }

// request sends body while the answer is read: a command that refuses a pack says so before it has read it all.
func (c *commandConversation) request(_ context.Context, body io.Reader) (*PktReader, error) {
	c.copied = make(chan struct{})
	go func() {
		defer close(c.copied)
		_, _ = io.Copy(c.stdin, body) // a command that takes no more says why; half a pack is refused by its checksum
		_ = c.stdin.Close()
	}()
	return c.pkts, nil
}

func (c *commandConversation) explain(err error) error {
	_ = c.Close() // so that stderr is complete
	if text := c.stderr.String(); text != "" {
		return fmt.Errorf("%w (%s)", err, text)
	}
	return err
}

// Close ends the command: it sees its input end and its output go nowhere. One that goes on is killed after a while.
// How it ended does not matter: what was wanted of it has come whole, or an error was seen.
func (c *commandConversation) Close() error {
	c.once.Do(func() {
		if c.copied == nil {
			// A last flush packet says that there is no request; the command may be gone already.
			_, _ = io.WriteString(c.stdin, "0000")
		}
		_ = c.stdin.Close()
		_ = c.stdout.Close()
		kill := time.AfterFunc(commandGrace, func() { _ = c.cmd.Process.Kill() })
		defer kill.Stop()
		_ = c.cmd.Wait()
		if c.copied != nil {
			<-c.copied
		}
		c.pkts.Close()
	})
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// tailBytes is enough for the last lines of a command that failed.
const tailBytes = 1024

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p[max(0, len(p)-tailBytes):]...)
	t.buf = t.buf[max(0, len(t.buf)-tailBytes):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return clip(strings.ReplaceAll(string(bytes.TrimSpace(t.buf)), "\n", "; "), tailBytes)
}
