package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// FetchRequest is what to fetch. The remote is asked once: it sends what the wants lead to and the haves do not.
type FetchRequest struct {
	Wants, Haves []git.OID
	Thin         bool      // the receiver completes packs whose delta bases it has
	Progress     io.Writer // gets what the remote shows to a person; may be nil
}

// Fetch asks for a pack. The reader returns it as it comes, and io.EOF only when the remote has ended it properly. The
// caller closes it, read to its end or not.
func (c *Client) Fetch(ctx context.Context, r FetchRequest) (io.ReadCloser, error) {
	if len(r.Wants) == 0 {
		return nil, fmt.Errorf("fetch nothing: %w", errkind.Invalid)
	}
	conv, err := c.dial.open(ctx, ServiceUploadPack, V2)
	if err != nil {
		return nil, err
	}
	p, err := c.fetch(ctx, conv, r)
	if err != nil {
		err = conv.explain(fmt.Errorf("fetch from the remote: %w", err))
		_ = conv.Close() // the first error counts
		return nil, err
	}
	return &packStream{Reader: p, conv: conv}, nil
}

// packStream is a pack on its way.
type packStream struct {
	io.Reader
	conv conversation
}

// Read adds to an error what the remote said besides.
func (p *packStream) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = p.conv.explain(err)
	}
	return n, err
}

// Close ends the conversation.
func (p *packStream) Close() error { return p.conv.Close() }

func (c *Client) fetch(ctx context.Context, conv conversation, r FetchRequest) (io.Reader, error) {
	l, err := readAdvert(conv.advert())
	if err != nil {
		return nil, err
	}
	if l.Shallow {
		return nil, fmt.Errorf("remote is a shallow repository: %w", errkind.Unsupported)
	}
	if l.Version == V2 {
		return c.fetchV2(ctx, conv, l, r)
	}
	return c.fetchV0(ctx, conv, l, r)
}

func (c *Client) fetchV2(ctx context.Context, conv conversation, l *Listing, r FetchRequest) (io.Reader, error) {
	pr, err := c.send(ctx, conv, func(pw *PktWriter) {
		c.preamble(pw, l, "fetch")
		if r.Thin {
			pw.Line("thin-pack")
		}
		pw.Line("ofs-delta")
		if r.Progress == nil {
			pw.Line("no-progress")
		}
		for _, o := range r.Wants {
			pw.Line("want ", o.String())
		}
		for _, o := range r.Haves {
			pw.Line("have ", o.String())
		}
		pw.Line("done")
		pw.Flush()
	})
	if err != nil {
		return nil, err
	}
	for {
		k, b, err := pr.Line()
		switch {
		case errors.Is(err, io.EOF):
			return nil, cutShort(err)
		case err != nil:
			return nil, err
		case k == PktDelim:
			continue
		case k != PktData:
			return nil, fmt.Errorf("remote sends no pack: %w", errkind.Invalid)
		}
		switch string(b) {
		case "packfile":
			return &sideBandReader{pkts: pr, progress: r.Progress}, nil
		case "shallow-info":
			return nil, fmt.Errorf("remote is a shallow repository: %w", errkind.Unsupported)
		}
	}
}

func (c *Client) fetchV0(ctx context.Context, conv conversation, l *Listing, r FetchRequest) (io.Reader, error) {
	wish := []string{"side-band-64k", "ofs-delta"}
	if r.Thin {
		wish = append(wish, "thin-pack")
	}
	if r.Progress == nil {
		wish = append(wish, "no-progress")
	}
	caps := slices.DeleteFunc(wish, func(key string) bool { return !l.caps.has(key) })
	if l.caps.has("agent") {
		caps = append(caps, "agent="+c.agent)
	}
	pr, err := c.send(ctx, conv, func(pw *PktWriter) {
		for i, o := range r.Wants {
			if i == 0 {
				pw.Line("want ", o.String(), " ", strings.Join(caps, " "))
			} else {
				pw.Line("want ", o.String())
			}
		}
		pw.Flush()
		for _, o := range r.Haves {
			pw.Line("have ", o.String())
		}
		pw.Line("done")
	})
	if err != nil {
		return nil, err
	}
	// One acknowledgment comes: of the first common object, or that there is none. It may be said more than once.
	k, b, err := pr.Line()
	switch {
	case errors.Is(err, io.EOF):
		return nil, cutShort(err)
	case err != nil:
		return nil, err
	case k != PktData || !isAck(b):
		return nil, fmt.Errorf("remote acknowledges with %q: %w", clip(b, 80), errkind.Invalid)
	}
	for pr.peekAck() {
		if _, _, err := pr.Next(); err != nil {
			return nil, err
		}
	}
	if !l.caps.has("side-band-64k") {
		return pr.Rest(), nil
	}
	return &sideBandReader{pkts: pr, progress: r.Progress}, nil
}

func isAck(b []byte) bool {
	return string(b) == "NAK" || (len(b) >= 4 && string(b[:4]) == "ACK ")
}

// peekAck reports whether the next line is an acknowledgment: a pack and its packets start otherwise.
func (p *PktReader) peekAck() bool {
	b, err := p.r.Peek(pktHeader + 3)
	return err == nil && (string(b[pktHeader:]) == "ACK" || string(b[pktHeader:]) == "NAK")
}
