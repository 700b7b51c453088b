package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
)

// ReceivePack serves one push, or one whole connection with its advertisement. Refusals are told to the client in-band
// (report-status, side-band 2 and 3).
//
//  1. The commands are read and judged one by one; a command that cannot be is refused, and the others go on.
//  2. The pack is read into quarantine. A pack that is refused refuses every command.
//  3. All that is left moves in one transaction, together with the pack.
//  4. The client is told the fate of each command.
//
// Whatever ends a push before step 3 leaves nothing behind.
func ReceivePack(ctx context.Context, rc Receiver, in io.Reader, out io.Writer, opts ReceiveOptions) error {
	p := &push{rc: rc, opts: opts, pr: NewPktReader(in, maxRequestBytes), pw: NewPktWriter(out)}
	defer p.pr.Close()
	defer p.pw.Close()
	if !opts.Stateless {
		p.nonce = advertiseReceive(p.pw, rc.View(), opts)
		if err := p.pw.Send(); err != nil {
			return err
		}
	}
	cmds, err := readCommands(p.pr, rc.View().config())
	if err != nil {
		p.refuse(ctx, out, cmds, err)
		return err
	}
	if len(cmds.list) == 0 {
		return nil // only a look at the references, or git's probe for a large push
	}
	p.cmds = cmds
	most := noSideBand
	if cmds.sideBand {
		most = sideBand64k
	}
	p.mux = newMuxer(out, most, p.keepAlive())
	p.mux.wait() // an HTTP client does not listen before it has sent everything
	defer p.mux.Abort()
	return p.run(ctx)
}

// keepAlive is how long the repository lets a silence be.
func (p *push) keepAlive() time.Duration { return p.rc.View().config().receiveKeepAlive }

// refuse answers commands that are malformed.
func (p *push) refuse(ctx context.Context, out io.Writer, cmds *commands, why error) {
	if p.opts.Stateless {
		p.drain(ctx)
	}
	if cmds.sideBand {
		p.mux = newMuxer(out, sideBand64k, p.keepAlive())
		p.mux.beginBands()
		p.mux.Fail(publicText(why))
	} else {
		p.pw.Line("ERR ", publicText(why))
		_ = p.pw.Send() // why is the error that counts
	}
	if !p.opts.Stateless {
		p.drain(ctx)
	}
}

// push is one push in progress.
type push struct {
	rc   Receiver
	opts ReceiveOptions
	pr   *PktReader
	pw   *PktWriter
	mux  *muxer
	cmds *commands

	nonce string // that this connection gave out
}

func (p *push) run(ctx context.Context) error {
	if p.opts.Said != nil {
		p.opts.Said(p.cmds.said)
	}
	warnings := p.cmds.judge(p.rc.View(), p.opts.Plain)
	q, unpackErr := p.unpack(ctx)
	if unpackErr == nil {
		unpackErr = p.checkCert(ctx)
	}
	if _, missing := errors.AsType[*odb.MissingError](unpackErr); missing && len(p.cmds.shallows) > 0 {
		// Git would have to cut its own history short there. It says so of the references, and not of the pack.
		p.mux.Progress(publicText(unpackErr) + "\n")
		p.cmds.refuseAll("shallow update not allowed")
		unpackErr = nil
	}
	for _, w := range warnings {
		p.mux.Progress(w)
	}
	var updateErr error
	if unpackErr != nil {
		p.cmds.refuseAll("unpacker error")
		if p.opts.Stateless {
			p.drain(ctx)
		}
		if errors.Is(unpackErr, errkind.QuotaExceeded) {
			p.mux.Progress(publicText(unpackErr) + "\n") // what the report says is cut by some clients
		}
	} else {
		updateErr = p.update(ctx, q)
	}
	if q != nil {
		if err := q.Close(); err != nil && updateErr == nil {
			updateErr = fmt.Errorf("drop a quarantine: %w", err)
		}
	}
	reportErr := p.report(ctx, unpackErr)
	if unpackErr != nil && !p.opts.Stateless {
		p.drain(ctx)
	}
	return errors.Join(unpackErr, updateErr, reportErr)
}

// unpack reads the pack, which a push has unless it only deletes.
func (p *push) unpack(ctx context.Context) (*odb.Quarantine, error) {
	if !p.cmds.hasPack() {
		p.mux.begin(nil)
		return nil, nil
	}
	if p.opts.MayStore != nil {
		if err := p.opts.MayStore(); err != nil {
			p.mux.begin(nil)
			return nil, err
		}
	}
	pg := receiveProgress{mux: p.mux, quiet: p.cmds.quiet}
	q, err := p.rc.Quarantine(ctx, p.pr.Rest(), pg.note)
	p.mux.begin(nil)
	return q, err
}

// drain reads on after a push was refused. An HTTP client listens only when it has sent everything, so that it is let to
// before the report. A client on a pipe listens meanwhile and leaves when it has read the report; if the pipe were closed
// before, it would be killed by it.
func (p *push) drain(ctx context.Context) {
	if ctx.Err() == nil {
		_, _ = io.CopyN(io.Discard, p.pr.Rest(), maxDrainBytes) // the end, or an error, is as good
	}
}

// update moves the references that were not refused.
func (p *push) update(ctx context.Context, q *odb.Quarantine) error {
	if p.cmds.atomic && p.cmds.anyRefused() {
		p.cmds.refuseAll("atomic push failure")
		return nil
	}
	updates := p.cmds.live()
	if len(updates) == 0 {
		return nil
	}
	if q != nil && q.Received != nil && q.Pack != nil && q.Pack.Len() == 0 {
		q = nil // nothing was missing: a reference to what is there already
	}
	errs, err := p.rc.Update(ctx, q, updates, UpdateOptions{
		Writer: p.opts.Writer, Atomic: p.cmds.atomic, PushOptions: p.cmds.options, Cert: p.cmds.cert, Message: "push",
		Messages: p.messages(), Moved: p.cmds.noteMoved, Shallow: p.cmds.shallows,
	})
	if err == nil && len(errs) != len(updates) {
		err = fmt.Errorf("update answered %d of %d references", len(errs), len(updates))
	}
	p.cmds.settle(errs, err)
	return err
}

// report tells the fate of each command.
func (p *push) report(ctx context.Context, unpackErr error) error {
	if !p.cmds.reportStatus {
		p.reported(ctx)
		if unpackErr != nil {
			p.mux.beginBands()
			p.mux.Fail(publicText(unpackErr))
			return nil
		}
		return p.mux.Close()
	}
	pw := p.pw
	pw.hold = true
	if unpackErr != nil {
		pw.Line("unpack ", strings.TrimPrefix(publicText(unpackErr), "receive pack: "))
	} else {
		pw.Line("unpack ok")
	}
	for i := range p.cmds.list {
		c := &p.cmds.list[i]
		if c.refused != "" {
			pw.Line("ng ", c.name, " ", c.refused)
			continue
		}
		pw.Line("ok ", c.name)
		if p.cmds.reportMoved {
			c.reportMoved(pw)
		}
	}
	pw.Flush()
	b := pw.buf
	pw.buf = nil
	if _, err := p.mux.Write(b); err != nil {
		return err
	}
	pw.buf = b[:0]
	p.reported(ctx)
	return p.mux.Close()
}

// reportMoved says what was moved in place of the reference that a command named.
func (c *command) reportMoved(pw *PktWriter) {
	for i, m := range c.moved {
		if i > 0 {
			pw.Line("ok ", c.name)
		}
		if m.Name != "" {
			pw.Line("option refname ", string(m.Name))
		}
		if m.Old != nil {
			pw.Line("option old-oid ", m.Old.String())
		}
		if m.New != nil {
			pw.Line("option new-oid ", m.New.String())
		}
		if m.Forced {
			pw.Line("option forced-update")
		}
	}
}

// reported tells who wants to know that the client has been told.
func (p *push) reported(ctx context.Context) {
	if p.opts.Reported != nil {
		p.opts.Reported(ctx, p.messages())
	}
}

// messages is where words to the person who pushes go.
func (p *push) messages() io.Writer {
	if p.cmds.sideBand {
		return bandWriter{p.mux}
	}
	if p.opts.Messages != nil {
		return p.opts.Messages
	}
	return io.Discard
}

// bandWriter shows what is written to it to the person at the client.
type bandWriter struct{ mux *muxer }

func (w bandWriter) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		part := rest[:min(len(rest), maxPktLine/2)]
		w.mux.Progress(string(part))
		rest = rest[len(part):]
	}
	return len(b), nil
}

// reason is what a client is told of an update that was not done: what the repository says, or git's words.
func reason(u git.RefUpdate, err error) string {
	const failed = "failed to update ref"
	text := strings.TrimPrefix(publicText(err), "update "+string(u.Name)+": ")
	switch k := errkind.Of(err); k {
	case errkind.Internal:
		return failed
	case errkind.Exists:
		return "reference already exists"
	case errkind.NotFound:
		if u.New.IsZero() {
			return "no such ref"
		}
		return "missing necessary objects"
	case errkind.Unavailable, errkind.RateLimited:
		return "server is busy, try again later"
	case errkind.Invalid, errkind.Unauthorized, errkind.Forbidden, errkind.Conflict, errkind.TooLarge,
		errkind.QuotaExceeded, errkind.Unsupported:
		if text == "" || text == k.Error() {
			return failed
		}
	}
	return text
}
