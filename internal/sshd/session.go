package sshd

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git/protocol"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/problem"
	"github.com/skep-dev/skep/internal/server"
)

// How a command ends, as the client's ssh does then. Git's own commands end with 128 when they fail.
const (
	exitDone    = 0
	exitRefused = 1 // there is no such command
	exitFailed  = 128
)

// session serves one channel: what comes before the command, then the command.
func (c *conn) session(ctx context.Context, offered ssh.NewChannel) {
	ch, reqs, err := offered.Accept()
	if err != nil {
		return // the connection is gone
	}
	defer c.shut(ch, reqs)
	// A client that does not answer keeps a channel that is closed: only without its connection is it gone.
	late := time.AfterFunc(c.server.opts.commandTime, func() { _ = c.nc.Close() })
	defer late.Stop()
	version, n := protocol.V0, 0
	for req := range reqs {
		if n++; n > maxRequests {
			return
		}
		switch req.Type {
		case "env":
			var v struct{ Name, Value string }
			ok := ssh.Unmarshal(req.Payload, &v) == nil && v.Name == "GIT_PROTOCOL" && len(v.Value) <= maxVariable
			if ok {
				version = protocol.ParseVersion(v.Value)
			}
			reply(req, ok)
		case "exec", "shell", "subsystem":
			if !late.Stop() {
				return // it came too late
			}
			reply(req, true)
			c.answer(ctx, ch, req, reqs, version)
			return
		default: // a terminal, an agent, X11, …
			reply(req, false)
		}
	}
}

// shut closes a session's channel, and reads what still comes until the client confirms that: a request that nobody reads stops the
// whole connection, and what waits for it. A client that does not confirm it in time loses its connection.
func (c *conn) shut(ch ssh.Channel, reqs <-chan *ssh.Request) {
	late := time.AfterFunc(c.server.opts.closeTime, func() { _ = c.nc.Close() })
	defer late.Stop()
	_ = ch.Close() // the connection may be gone
	for r := range reqs {
		reply(r, false)
	}
}

// reply answers a request, if it wants an answer.
func reply(req *ssh.Request, ok bool) {
	if req.WantReply {
		_ = req.Reply(ok, nil) // the connection may be gone
	}
}

// answer runs what was asked for and says how it ended. Once the client closes the channel, nobody waits for it any more.
func (c *conn) answer(ctx context.Context, ch ssh.Channel, req *ssh.Request, reqs <-chan *ssh.Request, version protocol.Version) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer cancel()
		for r := range reqs { // signals, and the size of a window
			reply(r, false)
		}
	}()
	code := c.runCommand(ctx, ch, req, version)
	// A slow client may still have much to read before it sees the end: it has as long as for anything it was sent.
	late := c.arm(nil)
	defer late.Stop()
	_ = ch.CloseWrite()                                                                             // the connection may be gone, here and below
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(code)})) //nolint:gosec // it is one of three
	_ = ch.Close()
	<-gone
}

// runCommand runs one request of a client for something to be run.
func (c *conn) runCommand(ctx context.Context, ch ssh.Channel, req *ssh.Request, version protocol.Version) (code int) {
	say := func(text string) { _, _ = io.WriteString(&patient{c: c, w: ch.Stderr()}, text+"\n") } // the client may be gone
	// Where it cannot be found out whose the key is, nothing begins with it: it may have been removed.
	who, err := c.server.git.StillHas(ctx, c.key, c.from)
	switch {
	case errors.Is(err, errkind.Unauthorized), errors.Is(err, errkind.Invalid):
		say("skep: your key does not count any more")
		return exitFailed
	case err != nil:
		c.server.log.WarnContext(ctx, "SSH command refused: its key cannot be looked up", "remote", c.nc.RemoteAddr().String(), "error", err)
		say("skep: " + explain(err))
		return exitFailed
	}
	switch req.Type {
	case "shell":
		say(greeting(who))
		return exitRefused
	case "subsystem":
		say("skep: there are no subsystems here, and no files to copy: only git is served")
		return exitRefused
	}
	var line struct{ Command string }
	if err := ssh.Unmarshal(req.Payload, &line); err != nil {
		say("skep: this is no command")
		return exitRefused
	}
	cmd, err := parseCommand(line.Command)
	if err != nil {
		word, _, _ := strings.Cut(line.Command, " ") // what follows may be anything
		c.server.log.InfoContext(ctx, "SSH command refused", "remote", c.nc.RemoteAddr().String(), "principal", string(who.ID), "command", clip(word))
		say("skep: " + explain(err))
		return exitRefused
	}
	out := &patient{c: c, w: ch}
	err = c.server.git.ServeStream(ctx, server.Stream{
		Service: cmd.service, Path: cmd.path, Version: version, Principal: who, Peer: c.from, Remote: c.nc.RemoteAddr().String(),
		In: &patientReader{c: c, r: ch}, Out: out,
	})
	switch {
	case err == nil:
		return exitDone
	case !out.begun: // else it was said in the protocol
		say("skep: " + explain(err))
	}
	return exitFailed
}

// greeting answers people who want to see whether their key works: ssh git@HOST.
func greeting(who policy.Principal) string {
	return "You are " + who.Name + ". There is no shell here: only git, with addresses like ssh://git@HOST/TENANT/NAME.git."
}

// explain is what people see of a failure.
func explain(err error) string {
	if errkind.Of(err) == errkind.Internal && problem.Status(err) >= 500 {
		return "internal error: the server's log has more"
	}
	return problem.Explain(err)
}

// clip keeps a log line short, whatever a client sent.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// writeAtOnce is how much a client must take within the idle time.
const writeAtOnce = 32 << 10

// patient writes to a client as long as it takes something within the idle time. When it does not, the connection ends: nothing less wakes a
// write that waits for the client's window.
type patient struct {
	c     *conn
	w     io.Writer
	timer *time.Timer
	begun bool // something was written
}

func (p *patient) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		part := b[:min(len(b), writeAtOnce)]
		p.begun = true
		p.timer = p.c.arm(p.timer)
		var m int
		m, err = p.w.Write(part)
		p.timer.Stop()
		n, b = n+m, b[m:]
	}
	return n, err
}

// patientReader is the same for what a client sends.
type patientReader struct {
	c     *conn
	r     io.Reader
	timer *time.Timer
}

func (p *patientReader) Read(b []byte) (int, error) {
	p.timer = p.c.arm(p.timer)
	defer p.timer.Stop()
	return p.r.Read(b) //nolint:wrapcheck // io.EOF, as a reader gives it
}

// arm lets a timer close the connection after the idle time.
func (c *conn) arm(t *time.Timer) *time.Timer {
	if t == nil {
		return time.AfterFunc(c.server.opts.IdleTimeout, func() { _ = c.nc.Close() })
	}
	t.Reset(c.server.opts.IdleTimeout)
	return t
}
