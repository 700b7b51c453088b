package protocol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// The services of a Git server.
const (
	ServiceUploadPack  = "git-upload-pack"
	ServiceReceivePack = "git-receive-pack"
)

const (
	// maxAdvertBytes bounds a remote's list of references: a million of them with long names.
	maxAdvertBytes = 256 << 20
	// maxAnswerBytes bounds an answer of a remote. It is there to be finite: whoever takes the pack has a limit.
	maxAnswerBytes = 1 << 46
)

// Client asks one remote repository. Make one with NewHTTPClient or NewCommandClient. It keeps nothing between calls,
// each of which is a conversation of its own, and is safe for concurrent use.
type Client struct {
	dial  dialer
	agent string
}

// dialer is a way to a remote.
type dialer interface {
	// open asks for a service. The conversation's advertisement is there to be read.
	open(ctx context.Context, service string, v Version) (conversation, error)
}

// conversation is one use of a service.
type conversation interface {
	advert() *PktReader
	// request sends body, after the advertisement was read, and returns the answer.
	request(ctx context.Context, body io.Reader) (*PktReader, error)
	// explain adds to an error what the remote said besides.
	explain(err error) error
	Close() error
}

// Listing is what a remote has.
type Listing struct {
	Refs    []git.Ref // in order of name; HEAD is not among them
	Head    git.RefName
	HeadOID git.OID // zero when HEAD is unborn
	// Skipped are names that are no reference's name by the rules of git check-ref-format.
	Skipped []string
	Version Version // that the remote speaks
	Shallow bool    // the remote lacks a part of its history (v0 and v1 say so)

	caps capabilitySet
}

// Tips returns what the references and HEAD name, each once: all that a mirror wants.
func (l *Listing) Tips() []git.OID {
	seen := make(map[git.OID]bool, len(l.Refs)+1)
	out := make([]git.OID, 0, len(l.Refs)+1)
	add := func(o git.OID) {
		if !o.IsZero() && !seen[o] {
			seen[o] = true
			out = append(out, o)
		}
	}
	add(l.HeadOID)
	for _, r := range l.Refs {
		add(r.OID)
	}
	return out
}

// capabilitySet is what a side can do: a value for each key, empty for most.
type capabilitySet map[string]string

func (c capabilitySet) has(key string) bool { _, ok := c[key]; return ok }

// List asks for the references, or only for those whose names start with one of the prefixes.
func (c *Client) List(ctx context.Context, prefixes ...string) (*Listing, error) {
	conv, err := c.dial.open(ctx, ServiceUploadPack, V2)
	if err != nil {
		return nil, err
	}
	defer conv.Close()
	l, err := readAdvert(conv.advert())
	if err == nil && l.Version == V2 {
		err = c.lsRefs(ctx, conv, l, prefixes)
	} else if err == nil {
		l.keep(prefixes)
	}
	if err != nil {
		return nil, conv.explain(fmt.Errorf("list the remote's references: %w", err))
	}
	l.sort()
	return l, nil
}

func (l *Listing) sort() {
	slices.SortFunc(l.Refs, func(a, b git.Ref) int { return strings.Compare(string(a.Name), string(b.Name)) })
	l.Refs = slices.CompactFunc(l.Refs, func(a, b git.Ref) bool { return a.Name == b.Name })
}

// keep does what ls-refs would have done.
func (l *Listing) keep(prefixes []string) {
	if len(prefixes) == 0 {
		return
	}
	l.Refs = slices.DeleteFunc(l.Refs, func(r git.Ref) bool {
		return !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(string(r.Name), p) })
	})
}

// preamble starts a v2 request.
func (c *Client) preamble(pw *PktWriter, l *Listing, command string) {
	pw.Line("command=", command)
	if l.caps.has("agent") {
		pw.Line("agent=", c.agent)
	}
	if l.caps.has("object-format") {
		pw.Line("object-format=sha1")
	}
	pw.Delim()
}

func (c *Client) lsRefs(ctx context.Context, conv conversation, l *Listing, prefixes []string) error {
	pr, err := c.send(ctx, conv, func(pw *PktWriter) {
		c.preamble(pw, l, "ls-refs")
		pw.Line("peel")
		pw.Line("symrefs")
		if strings.Contains(l.caps["ls-refs"], "unborn") {
			pw.Line("unborn")
		}
		if len(prefixes) > 0 {
			pw.Line("ref-prefix ", string(git.HEAD))
		}
		for _, p := range prefixes {
			pw.Line("ref-prefix ", p)
		}
		pw.Flush()
	})
	if err != nil {
		return err
	}
	return eachLine(pr, l.lsRefsLine)
}

// send writes one request.
func (c *Client) send(ctx context.Context, conv conversation, write func(*PktWriter)) (*PktReader, error) {
	var body bytes.Buffer
	pw := NewPktWriter(&body)
	defer pw.Close()
	write(pw)
	if err := pw.Send(); err != nil {
		return nil, err
	}
	return conv.request(ctx, &body)
}

// lsRefsLine reads "<oid> <name> [symref-target:<name>] [peeled:<oid>]" or "unborn HEAD symref-target:<name>".
func (l *Listing) lsRefsLine(b []byte) error {
	value, rest, ok := strings.Cut(string(b), " ")
	name, attrs, _ := strings.Cut(rest, " ")
	var r git.Ref
	if value != "unborn" {
		var err error
		if r.OID, err = git.ParseOID(value); err != nil || !ok {
			return fmt.Errorf("remote's reference line %q: %w", clip(b, 120), errkind.Invalid)
		}
	}
	for a := range strings.FieldsSeq(attrs) {
		if target, ok := strings.CutPrefix(a, "symref-target:"); ok && name == string(git.HEAD) {
			l.Head = git.RefName(target)
		}
		if peeled, ok := strings.CutPrefix(a, "peeled:"); ok {
			r.Peeled, _ = git.ParseOID(peeled) // only a hint
		}
	}
	l.add(name, r)
	return nil
}

// add takes one reference, whose name is checked here.
func (l *Listing) add(name string, r git.Ref) {
	if name == string(git.HEAD) {
		l.HeadOID = r.OID
		return
	}
	checked, err := git.ParseRefName(name)
	switch {
	case err != nil && !strings.HasPrefix(name, "refs/"): // FETCH_HEAD and its like, or ".have"
	case err != nil:
		l.Skipped = append(l.Skipped, name)
	default:
		r.Name = checked
		l.Refs = append(l.Refs, r)
	}
}

// eachLine reads lines up to the flush packet.
func eachLine(pr *PktReader, each func([]byte) error) error {
	for {
		k, b, err := pr.Line()
		switch {
		case errors.Is(err, io.EOF):
			return cutShort(err)
		case err != nil:
			return err
		case k != PktData:
			return nil
		}
		if err := each(b); err != nil {
			return err
		}
	}
}

// readAdvert reads an advertisement of any version: in v2 there are no references in it.
func readAdvert(pr *PktReader) (*Listing, error) {
	l := &Listing{caps: capabilitySet{}}
	first := true
	err := eachLine(pr, func(b []byte) error {
		switch {
		case first && string(b) == "version 2":
			l.Version = V2
			return nil
		case first && string(b) == "version 1":
			l.Version = V1
			return nil
		case l.Version == V2:
			key, value, _ := strings.Cut(string(b), "=")
			l.caps[key] = value
			return nil
		}
		line, caps, _ := strings.Cut(string(b), "\x00")
		if first {
			first = false
			l.takeCaps(caps)
		}
		return l.advertLine(line)
	})
	if err != nil {
		return nil, err
	}
	if f, ok := l.caps["object-format"]; ok && f != "sha1" {
		return nil, fmt.Errorf("remote's object format is %q: %w", clip(f, 40), errkind.Unsupported)
	}
	return l, nil
}

func (l *Listing) takeCaps(caps string) {
	for word := range strings.FieldsSeq(caps) {
		key, value, _ := strings.Cut(word, "=")
		if target, ok := strings.CutPrefix(value, "HEAD:"); ok && key == "symref" {
			l.Head = git.RefName(target)
		}
		l.caps[key] = value
	}
}

func (l *Listing) advertLine(line string) error {
	value, name, ok := strings.Cut(line, " ")
	if value == "shallow" {
		l.Shallow = true
		return nil
	}
	o, err := git.ParseOID(value)
	if err != nil || !ok {
		return fmt.Errorf("remote's reference line %q: %w", clip(line, 120), errkind.Invalid)
	}
	of, peeled := strings.CutSuffix(name, "^{}")
	switch {
	case !peeled:
		l.add(name, git.Ref{OID: o})
	case of == "capabilities" && o.IsZero():
	case len(l.Refs) > 0 && string(l.Refs[len(l.Refs)-1].Name) == of:
		l.Refs[len(l.Refs)-1].Peeled = o
	}
	return nil
}
