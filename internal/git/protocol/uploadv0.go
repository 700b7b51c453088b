package protocol

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// serveV0 is upload-pack as versions 0 and 1 have it, after the advertisement: what the client wants; then, when the
// client deepens, its new boundary; then rounds of haves and acknowledgments; then the pack.
func (u *upload) serveV0(ctx context.Context) error {
	f := fetchRequest{}
	if err := u.needs(&f); err != nil || len(f.wants) == 0 {
		return err
	}
	if u.opts.Said != nil {
		u.opts.Said(u.said)
	}
	if err := f.check(); err != nil {
		return err
	}
	// The references may have moved between the requests of a stateless client: what a client saw as a tip a moment ago
	// is then reachable, unless it was forced away.
	if err := u.checkWants(ctx, &f, u.view.config().noReachableWant && !u.opts.Stateless); err != nil {
		return err
	}
	if err := u.view.ResolveFilter(ctx, &f.filter); err != nil {
		return err
	}
	if f.deepens() {
		if err := u.boundaryV0(ctx, &f); err != nil {
			return err
		}
	}
	if u.opts.Stateless && u.pr.AtEnd() {
		return nil // the client has its boundary, and negotiates in its next request
	}
	n := negotiation{upload: u, fetch: &f}
	done, err := n.run(ctx)
	if err != nil || !done {
		return err
	}
	return u.sendPack(ctx, &f)
}

// needs reads the wants, up to the flush packet.
func (u *upload) needs(f *fetchRequest) error {
	for {
		k, b, err := u.pr.Line()
		switch {
		case errors.Is(err, io.EOF) && f.wantTotal == 0:
			return nil // the client only wanted to see the references
		case errors.Is(err, io.EOF):
			return cutShort(err)
		case err != nil:
			return err
		case k != PktData:
			return nil
		}
		arg, ok := bytes.CutPrefix(b, []byte("want "))
		if !ok {
			known, err := f.boundary(u.view, b, u.view.config().noFilter || !f.filterCap)
			if err != nil {
				return err
			}
			if !known {
				return refuse(errkind.Invalid, "upload-pack: protocol error, expected to get object ID, not '%s'", clip(b, 120))
			}
			continue
		}
		if err := f.want(arg); err != nil {
			return err
		}
		if err := f.capabilities(arg[2*git.OIDSize:], &u.said); err != nil {
			return err
		}
	}
}

// capabilities reads what follows a want.
func (f *fetchRequest) capabilities(b []byte, said *Said) error {
	for word := range bytes.FieldsSeq(b) {
		switch string(word) {
		case "multi_ack":
			f.multiAck = max(f.multiAck, ackMulti)
		case "multi_ack_detailed":
			f.multiAck = ackDetailed
		case "no-done":
			f.noDone = true
		case "thin-pack":
			f.thin = true
		case "ofs-delta":
			f.ofsDelta = true
		case "side-band":
			f.sideBand = max(f.sideBand, sideBandData)
		case "side-band-64k":
			f.sideBand = sideBand64k
		case "no-progress":
			f.noProgress = true
		case "include-tag":
			f.includeTag = true
		case "deepen-relative":
			f.relative = true
		case "filter":
			f.filterCap = true
		default:
			if key, value, ok := strings.Cut(string(word), "="); ok && key != "server-option" {
				_ = said.note(key, value) // which has room for these
			}
			if format, ok := bytes.CutPrefix(word, []byte("object-format=")); ok && string(format) != "sha1" {
				return refuse(errkind.Unsupported, "upload-pack: mismatched object format: server sha1; client %s", clip(format, 40))
			}
		}
	}
	return nil
}

// boundaryV0 tells the client its new shallow boundary before the negotiation. What is to be sent is not known yet, so
// only commits are planned.
func (u *upload) boundaryV0(ctx context.Context, f *fetchRequest) error {
	g, err := u.view.Graph()
	if err != nil {
		return err
	}
	r := f.plan(u.view)
	r.IncludeTag, r.Thin = nil, false
	r.Filter.HasDepth, r.Filter.TreeDepth = true, 0
	plan, err := g.Plan(ctx, r)
	if err != nil {
		return err
	}
	appendBoundary(u.pw, plan.Shallow, plan.Unshallow)
	u.pw.Flush()
	return u.sendUnlessHeld()
}

// sendUnlessHeld writes what was said so far to a client that waits for it.
func (u *upload) sendUnlessHeld() error {
	if u.pw.hold {
		return nil
	}
	return u.pw.Send()
}

// negotiation is the rounds of haves: git's get_common_commits, word for word, as clients depend on its oddities.
type negotiation struct {
	*upload
	fetch *fetchRequest

	common, other, sentReady bool
	last                     git.OID // the last common object
	enough                   bool    // every want is reachable from a have
	judged                   int     // how many haves enough was judged by
	judgments                int
}

// freeJudgments is how often each new have is worth a walk through history. After that their number must grow by a
// quarter first: a client that alternates what we have with what we lack must not cost a walk a line.
const freeJudgments = 64

// run returns true when the pack is to be sent.
func (n *negotiation) run(ctx context.Context) (bool, error) {
	for {
		k, b, err := n.pr.Line()
		switch {
		case errors.Is(err, io.EOF) && n.opts.Stateless:
			return false, nil
		case errors.Is(err, io.EOF):
			return false, cutShort(err)
		case err != nil:
			return false, err
		case k != PktData:
			if end, send, err := n.flush(ctx); err != nil || end {
				return send, err
			}
			if err := n.sendUnlessHeld(); err != nil {
				return false, err
			}
			continue
		}
		if string(b) == "done" {
			n.done()
			return true, nil
		}
		arg, ok := bytes.CutPrefix(b, []byte("have "))
		if !ok {
			return false, refuse(errkind.Invalid, "upload-pack: expected SHA1 list, got '%s'", clip(b, 120))
		}
		if err := n.have(ctx, arg); err != nil {
			return false, err
		}
	}
}

// flush answers the end of a batch of haves.
func (n *negotiation) flush(ctx context.Context) (end, send bool, err error) {
	f := n.fetch
	if f.multiAck == ackDetailed && n.common && !n.other {
		enough, err := n.giveUp(ctx)
		if err != nil {
			return true, false, err
		}
		if enough {
			n.sentReady = true
			n.pw.Line("ACK ", n.last.String(), " ready")
		}
	}
	if len(f.haves.list) == 0 || f.multiAck != ackOnce {
		n.pw.Line("NAK")
	}
	if f.noDone && n.sentReady {
		n.pw.Line("ACK ", n.last.String())
		return true, true, nil
	}
	n.common, n.other = false, false
	return n.opts.Stateless, false, nil
}

func (n *negotiation) have(ctx context.Context, arg []byte) error {
	f := n.fetch
	o, common, err := f.haves.add(n.view, arg)
	if err != nil {
		return err
	}
	if !common {
		n.other = true
		if f.multiAck == ackOnce {
			return nil
		}
		enough, err := n.giveUp(ctx)
		if err != nil || !enough {
			return err
		}
		if f.multiAck == ackDetailed {
			n.sentReady = true
			n.pw.Line("ACK ", o.String(), " ready")
		} else {
			n.pw.Line("ACK ", o.String(), " continue")
		}
		return nil
	}
	n.common, n.last = true, o
	switch {
	case f.multiAck == ackDetailed:
		n.pw.Line("ACK ", o.String(), " common")
	case f.multiAck == ackMulti:
		n.pw.Line("ACK ", o.String(), " continue")
	case len(f.haves.list) == 1:
		n.pw.Line("ACK ", o.String())
	}
	return nil
}

func (n *negotiation) done() {
	switch {
	case len(n.fetch.haves.list) == 0:
		n.pw.Line("NAK")
	case n.fetch.multiAck != ackOnce:
		n.pw.Line("ACK ", n.last.String())
	}
}

// giveUp reports whether more haves would change nothing. It walks history only when there are new ones since.
func (n *negotiation) giveUp(ctx context.Context) (bool, error) {
	haves := n.fetch.haves.list
	if n.enough || len(haves) == n.judged || (n.judgments >= freeJudgments && len(haves) < n.judged+n.judged/4) {
		return n.enough, nil
	}
	g, err := n.view.Graph()
	if err != nil {
		return false, err
	}
	n.judged, n.judgments = len(haves), n.judgments+1
	n.enough, err = g.Satisfied(ctx, n.fetch.wants, haves)
	return n.enough, err
}
