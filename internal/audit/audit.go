// Package audit is the log of who did what: entries in a chain of hashes, in which nothing can be changed, taken out or put in
// without its showing.
//
// It knows the form of an entry, its hash, and how a chain is checked and exported. Where the entries are kept is the control
// plane's business:
//
//	head = e.Link(head)                       // before it is stored
//	head, err := audit.Verify(entries, head)  // all of them, oldest first, against the newest head that is known
//
// What a chain cannot show is that all of it was made anew, head included, by somebody who may write everywhere. Against
// that a head is to be kept elsewhere: it is in each export, and in the server's log once an hour.
package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// Outcome is how an action ended.
type Outcome string

// The outcomes. A change to the control plane is logged in its own transaction. What changes a repository lies elsewhere and is
// logged just before, so that nothing is done without an entry; if it then fails, another entry says so.
const (
	Done   Outcome = "done"
	Begun  Outcome = "begun"
	Failed Outcome = "failed"
)

// Origin is who does something, and from where.
type Origin struct {
	Principal, Name, Class, Token string // as in Entry
	Intent, Request, Address      string
}

// system is the origin of what a node does by itself.
var system = Origin{Name: "skep", Class: "system"}

type originKey struct{}

// With returns a context in which things are done by o.
func With(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// From finds out who does what is done in a context: without With, the node itself.
func From(ctx context.Context) Origin {
	if o, ok := ctx.Value(originKey{}).(Origin); ok {
		return o
	}
	return system
}

// By fills in who did it.
func (e *Entry) By(o Origin) {
	e.Principal, e.Name, e.Class, e.Token = o.Principal, o.Name, o.Class, o.Token
	e.Intent, e.Request, e.Address = o.Intent, o.Request, o.Address
}

// Entry is one thing that somebody did, or tried.
type Entry struct {
	Seq       int64     `json:"seq"` // 1, 2, 3 and so on without a gap
	At        time.Time `json:"at"`  // UTC, to the microsecond
	Principal string    `json:"principal,omitempty"`
	Name      string    `json:"name,omitempty"` // of the principal then
	Class     string    `json:"class,omitempty"`
	Token     string    `json:"token,omitempty"`  // the ID of the credential
	Action    string    `json:"action"`           // "ref.push", "tenant.create", "token.revoke"
	Tenant    string    `json:"tenant,omitempty"` // the ID of the one in which it was done; empty: of none
	Resource  string    `json:"resource"`         // "repo/acme/api@refs/heads/main"
	Outcome   Outcome   `json:"outcome"`
	Intent    string    `json:"intent,omitempty"` // why, as the caller says
	Request   string    `json:"request_id,omitempty"`
	Address   string    `json:"address,omitempty"`
	Detail    string    `json:"detail,omitempty"` // more, in the action's own form

	Prev Hash `json:"prev"` // of the entry before; of the first, zero
	Hash Hash `json:"hash"` // of all the fields above
}

// Hash is a SHA-256.
type Hash [sha256.Size]byte

// String returns the hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return fmt.Errorf("hash of %d digits, not %d: %w", len(text), 2*len(h), errkind.Invalid)
	}
	if _, err := hex.Decode(h[:], text); err != nil {
		return fmt.Errorf("hash: %w: %w", err, errkind.Invalid)
	}
	return nil
}

// maxText is how many bytes of each text an entry holds. More is cut off.
const maxText = 2000

// Head is the newest entry of a chain: how many there are, and its hash. The zero Head is that of an empty chain.
type Head struct {
	Seq  int64 `json:"seq"`
	Hash Hash  `json:"hash"`
}

// Link makes the entry the one that follows a head. Texts are cut to what an entry may hold, and the time to what is stored.
func (e *Entry) Link(prev Head) Head {
	for _, text := range []*string{
		&e.Principal, &e.Name, &e.Class, &e.Token, &e.Action, &e.Tenant, &e.Resource, &e.Intent, &e.Request, &e.Address, &e.Detail,
	} {
		*text = clean(*text)
	}
	e.At = e.At.UTC().Truncate(time.Microsecond)
	e.Seq, e.Prev = prev.Seq+1, prev.Hash
	e.Hash = e.sum()
	return Head{Seq: e.Seq, Hash: e.Hash}
}

// clean makes of a text one that is the same after it was stored or exported.
func clean(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "\uFFFD")
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// sum hashes an entry's fields, each with its length before it: no two entries have the same bytes.
func (e *Entry) sum() (out Hash) {
	h := sha256.New()
	var n [8]byte
	number := func(v uint64) {
		binary.BigEndian.PutUint64(n[:], v)
		h.Write(n[:])
	}
	io.WriteString(h, "skep audit 1\n") //nolint:errcheck,gosec // a hash takes everything
	number(uint64(e.Seq))               //nolint:gosec // counts up from 1
	number(uint64(e.At.UnixMicro()))
	h.Write(e.Prev[:])
	for _, text := range []string{
		e.Principal, e.Name, e.Class, e.Token, e.Action, e.Tenant, e.Resource, string(e.Outcome), e.Intent, e.Request, e.Address, e.Detail,
	} {
		number(uint64(len(text)))
		io.WriteString(h, text) //nolint:errcheck,gosec // as above
	}
	h.Sum(out[:0])
	return out
}

// Verify checks a chain from its first entry to its head. What it says of a broken one wraps errkind.Invalid. It returns
// the head that the entries have.
func Verify(entries iter.Seq2[Entry, error], head Head) (Head, error) {
	var at Head
	for e, err := range entries {
		if err == nil {
			err = e.follows(at)
		}
		if err == nil && e.Seq != at.Seq+1 {
			err = fmt.Errorf("audit log has entry %d after entry %d: %w", e.Seq, at.Seq, errkind.Invalid)
		}
		if err != nil {
			return at, err
		}
		at = Head{Seq: e.Seq, Hash: e.Hash}
	}
	return at, at.mustBe(head)
}

// mustBe compares the head of some entries with the one that they should have.
func (h Head) mustBe(want Head) error {
	switch {
	case h == want:
		return nil
	case h.Seq < want.Seq:
		return fmt.Errorf("audit log ends with entry %d: the %d after it are missing: %w", h.Seq, want.Seq-h.Seq, errkind.Invalid)
	}
	return fmt.Errorf("audit log has entry %d with hash %s, where its head says %d with %s: %w", h.Seq, h.Hash, want.Seq, want.Hash, errkind.Invalid)
}

// follows checks an entry, and if it is the next one after a head, that it is linked to it.
func (e *Entry) follows(at Head) error {
	switch {
	case e.sum() != e.Hash:
		return fmt.Errorf("audit entry %d was changed: its hash is another one: %w", e.Seq, errkind.Invalid)
	case e.Seq <= at.Seq:
		return fmt.Errorf("audit entry %d comes after entry %d: %w", e.Seq, at.Seq, errkind.Invalid)
	case e.Seq == at.Seq+1 && e.Prev != at.Hash:
		return fmt.Errorf("audit entry %d does not follow the entry before it: one of them was changed: %w", e.Seq, errkind.Invalid)
	}
	return nil
}

// An export is a file of JSON lines: the entries and, as the last line, the head of the whole log at that time. The entries
// may be some of all; then only each one's own hash can be checked.

// exportEnd is the last line of an export.
type exportEnd struct {
	Head    *Head `json:"head"`
	Entries int   `json:"entries"`
}

// Export writes entries and then the log's head.
func Export(w io.Writer, entries iter.Seq2[Entry, error], head Head) (n int, err error) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for e, err := range entries {
		if err == nil {
			err = enc.Encode(e)
		}
		if err != nil {
			return n, err
		}
		n++
	}
	return n, enc.Encode(exportEnd{Head: &head, Entries: n})
}

// maxLine bounds a line of an export: each of an entry's texts may take six bytes for one.
const maxLine = 256 << 10

// Checked is what VerifyExport found in an export that is in order.
type Checked struct {
	Entries int
	Head    Head // of the whole log when the export was made
	Whole   bool // the entries are all of the log up to Head
}

// VerifyExport checks an export. Entries that lie next to each other in the log must be linked. seen, if not nil, is handed each
// entry that is in order.
func VerifyExport(r io.Reader, seen func(Entry)) (c Checked, err error) {
	lines := json.NewDecoder(&lineLimit{r: r})
	lines.DisallowUnknownFields()
	var at Head
	c.Whole = true
	for {
		var line struct {
			Entry
			exportEnd
		}
		if err := lines.Decode(&line); err != nil {
			if errors.Is(err, io.EOF) {
				return c, fmt.Errorf("export ends without its last line, which names the head: %w", errkind.Invalid)
			}
			return c, fmt.Errorf("export's line %d: %w: %w", c.Entries+1, err, errkind.Invalid)
		}
		if line.Head != nil {
			c.Head = *line.Head
			c.Whole = c.Whole && at == c.Head
			if line.Entries != c.Entries {
				return c, fmt.Errorf("export has %d entries, its last line says %d: %w", c.Entries, line.Entries, errkind.Invalid)
			}
			if lines.More() {
				return c, fmt.Errorf("export goes on after its last line: %w", errkind.Invalid)
			}
			if at.Seq >= c.Head.Seq {
				return c, at.mustBe(c.Head)
			}
			return c, nil
		}
		if err := line.follows(at); err != nil {
			return c, err
		}
		if seen != nil {
			seen(line.Entry)
		}
		c.Entries++
		c.Whole = c.Whole && line.Seq == at.Seq+1
		at = Head{Seq: line.Seq, Hash: line.Hash}
	}
}

// lineLimit fails when a line is too long to be one of an export.
type lineLimit struct {
	r    io.Reader
	line int
}

func (l *lineLimit) Read(p []byte) (int, error) {
	n, err := l.r.Read(p[:min(len(p), 64<<10)])
	if i := bytes.LastIndexByte(p[:n], '\n'); i >= 0 {
		l.line = n - i - 1
	} else if l.line += n; l.line > maxLine {
		return 0, fmt.Errorf("line of more than %d bytes: %w", maxLine, errkind.TooLarge)
	}
	return n, err
}
