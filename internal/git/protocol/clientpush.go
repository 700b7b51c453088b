package protocol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// PushRequest is what to push.
type PushRequest struct {
	Updates []git.RefUpdate
	// Pack is what the updates need and the remote lacks. Nil is an empty pack: references to what it has.
	Pack     io.Reader
	Atomic   bool
	Options  []string
	Progress io.Writer // gets what the remote shows to a person; may be nil
}

// PushResult is the remote's report.
type PushResult struct {
	Unpack string // why the pack was refused, or ""
	Refs   []PushStatus
}

// PushStatus is the fate of one update.
type PushStatus struct {
	Name   string
	Reason string // why it was refused, or ""
}

// Err returns nil when everything was done, or says what was not.
func (r *PushResult) Err() error {
	if r.Unpack != "" {
		return fmt.Errorf("remote refuses the pack: %s: %w", r.Unpack, errkind.Invalid)
	}
	for _, s := range r.Refs {
		if s.Reason != "" {
			return fmt.Errorf("remote refuses to update %s: %s: %w", s.Name, s.Reason, errkind.Conflict)
		}
	}
	return nil
}

// emptyPack has no objects.
var emptyPack = []byte("PACK\x00\x00\x00\x02\x00\x00\x00\x00\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e")

// Push sends updates and a pack, and returns the remote's report. The pack flows through; an error of its reader ends the
// push, which then has done nothing.
func (c *Client) Push(ctx context.Context, r PushRequest) (*PushResult, error) {
	if len(r.Updates) == 0 {
		return &PushResult{}, nil
	}
	conv, err := c.dial.open(ctx, ServiceReceivePack, V0)
	if err != nil {
		return nil, err
	}
	defer conv.Close()
	res, err := c.push(ctx, conv, r)
	if err != nil {
		return nil, conv.explain(fmt.Errorf("push to the remote: %w", err))
	}
	return res, nil
}

func (c *Client) push(ctx context.Context, conv conversation, r PushRequest) (res *PushResult, err error) {
	l, err := readAdvert(conv.advert())
	if err != nil {
		return nil, err
	}
	caps, err := c.pushCaps(l, r)
	if err != nil {
		return nil, err
	}
	var head bytes.Buffer
	pw := NewPktWriter(&head)
	defer pw.Close()
	deletes := true
	for i, u := range r.Updates {
		parts := []string{u.Old.String(), " ", u.New.String(), " ", string(u.Name)}
		if i == 0 {
			parts = append(parts, "\x00", caps)
		}
		pw.Line(parts...)
		deletes = deletes && u.New.IsZero()
	}
	pw.Flush()
	if len(r.Options) > 0 {
		for _, o := range r.Options {
			pw.Line(o)
		}
		pw.Flush()
	}
	if err := pw.Send(); err != nil {
		return nil, err
	}
	body := io.Reader(&head)
	switch {
	case deletes:
	case r.Pack == nil:
		body = io.MultiReader(body, bytes.NewReader(emptyPack))
	default:
		g := &gate{r: io.MultiReader(body, r.Pack)}
		defer func() {
			// What broke the pack on its way is the cause of whatever the remote says of it.
			if packErr := g.close(); packErr != nil {
				res, err = nil, fmt.Errorf("read the pack: %w", packErr)
			}
		}()
		body = g
	}
	pr, err := conv.request(ctx, body)
	if err != nil {
		return nil, err
	}
	if !l.caps.has("side-band-64k") {
		return readReport(pr)
	}
	inner := NewPktReader(&sideBandReader{pkts: pr, progress: r.Progress}, maxAdvertBytes)
	defer inner.Close()
	return readReport(inner)
}

// pushCaps chooses the capabilities of a push.
func (c *Client) pushCaps(l *Listing, r PushRequest) (string, error) {
	need := func(key string) error {
		if !l.caps.has(key) {
			return fmt.Errorf("remote cannot do %s: %w", key, errkind.Unsupported)
		}
		return nil
	}
	var caps []string
	switch {
	case l.caps.has("report-status-v2"):
		caps = append(caps, "report-status-v2")
	default:
		if err := need("report-status"); err != nil {
			return "", err
		}
		caps = append(caps, "report-status")
	}
	if r.Atomic {
		if err := need("atomic"); err != nil {
			return "", err
		}
		caps = append(caps, "atomic")
	}
	if len(r.Options) > 0 {
		if err := need("push-options"); err != nil {
			return "", err
		}
		caps = append(caps, "push-options")
	}
	if r.Progress == nil && l.caps.has("quiet") {
		caps = append(caps, "quiet")
	}
	if l.caps.has("side-band-64k") {
		caps = append(caps, "side-band-64k")
	}
	if l.caps.has("object-format") {
		caps = append(caps, "object-format=sha1")
	}
	if l.caps.has("agent") {
		caps = append(caps, "agent="+c.agent)
	}
	return " " + strings.Join(caps, " "), nil
}

// readReport reads report-status, of either version.
func readReport(pr *PktReader) (*PushResult, error) {
	res := &PushResult{}
	seen := false
	err := eachLine(pr, func(b []byte) error {
		word, rest, _ := strings.Cut(string(b), " ")
		switch {
		case !seen && word == "unpack":
			seen = true
			if rest != "ok" {
				res.Unpack = clip(rest, maxReasonBytes)
			}
		case !seen:
			return fmt.Errorf("remote's report starts with %q: %w", clip(b, 80), errkind.Invalid)
		case word == "ok":
			res.Refs = append(res.Refs, PushStatus{Name: rest})
		case word == "ng":
			name, why, _ := strings.Cut(rest, " ")
			if why == "" {
				why = "refused"
			}
			res.Refs = append(res.Refs, PushStatus{Name: name, Reason: clip(why, maxReasonBytes)})
		case word == "option":
		default:
			return fmt.Errorf("remote's report has a line %q: %w", clip(b, 80), errkind.Invalid)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !seen {
		return nil, fmt.Errorf("remote's report is empty: %w", errkind.Invalid)
	}
	return res, nil
}

// gate lets nobody read the pack any more once a push is over: a transport may still be sending when the report comes,
// and the pack's reader belongs to the caller again.
type gate struct {
	mu     sync.Mutex
	r      io.Reader
	closed bool
	err    error // of the reader
}

func (g *gate) Read(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, errClosed
	}
	n, err := g.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		g.err = err
	}
	return n, err
}

// close waits for a read that is under way, and returns what went wrong with the reader.
func (g *gate) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	return g.err
}
