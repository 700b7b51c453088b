// Package auditlog writes a document's log as lines of JSON, and checks logs and such lines.
//
//	n, err := auditlog.Export(ctx, doc, auditlog.Filter{Since: since}, keys, now, w)
//	report, err := auditlog.Verify(r, keys)
//
// A line has an operation just as the log has it, with the hash of its record and of the one before, so that a reader can compute the one
// from the other: what was changed in a line does not have its hash, and where a line was taken out the next one follows nothing. Each
// line also says where the log ended when it was exported, so that an end that was cut off is missed. Against somebody who makes all lines
// anew only a hash helps that was kept elsewhere: a milestone's, or the signatures of those who made the operations.
package auditlog

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// version is that of a line's form.
const version = "1"

// Line is one line of an export. Its form is Conflux's, with what is needed to check it.
type Line struct {
	Version    string          `json:"version"`
	ExportTime time.Time       `json:"export_time"`
	Operation  json.RawMessage `json:"operation"` // as the log has it, byte by byte
	Metadata   Metadata        `json:"metadata"`
}

// Metadata is what the log says of an operation.
type Metadata struct {
	Document string    `json:"document_id"`
	StoredAt time.Time `json:"stored_at"`
	Seq      uint64    `json:"seq"`
	Prev     Hash      `json:"prev"`
	Hash     Hash      `json:"hash"`
	Head     Head      `json:"head"`              // of the log, when it was exported
	Partial  bool      `json:"partial,omitempty"` // chosen operations: there are gaps between lines, and nothing can be said of the end

	SignatureVerified *bool  `json:"signature_verified,omitempty"` // when it was exported; none of what is not signed
	SignatureKey      string `json:"signature_key_id,omitempty"`
}

// Head is the end of a log.
type Head struct {
	Seq  uint64 `json:"seq"`
	Hash Hash   `json:"hash"`
}

// String writes a head as people hand it on: 42:sha256:….
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Seq, h.Hash) }

// Hash is the hash of a record: sha256:HEX.
type Hash [32]byte

const hashPrefix = "sha256:"

// String returns the text of a hash.
func (h Hash) String() string { return hashPrefix + hex.EncodeToString(h[:]) }

// MarshalText writes a hash.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads a hash.
func (h *Hash) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), hashPrefix)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != len(h) {
		return fmt.Errorf("%.80q is no hash: it has the form sha256:HEX: %w", text, errkind.Invalid)
	}
	*h = Hash(b)
	return nil
}

// Filter chooses operations. Since alone leaves out the beginning of the log; the others leave gaps.
type Filter struct {
	Since, Until  time.Time
	Actor, Entity string
}

func (f *Filter) partial() bool { return !f.Until.IsZero() || f.Actor != "" || f.Entity != "" }

func (f *Filter) chooses(op *config.Op) bool {
	if !f.Until.IsZero() && op.Time >= crdt.TimeOf(f.Until) || f.Actor != "" && f.Actor != op.Actor.ID {
		return false
	}
	if f.Entity == "" {
		return true
	}
	for i := range op.Writes {
		if op.Writes[i].Entity == f.Entity {
			return true
		}
	}
	return false
}

// Export writes a document's operations, in the order of the log, and returns how many. What is signed is checked with keys. With Since the
// first line is the first operation of that time or later; all that the log has after it follow, also those of nodes whose clocks were behind.
func Export(ctx context.Context, doc *engine.Document, f Filter, keys *sign.Registry, now time.Time, w io.Writer, progress func(done, total uint64)) (lines int, err error) {
	if f.Entity != "" {
		if f.Entity, err = config.ParseEntity(f.Entity); err != nil {
			return 0, err
		}
	}
	head := doc.Head()
	out := bufio.NewWriter(w)
	begun := f.Since.IsZero()
	err = doc.Records(ctx, 1, func(r *engine.Record) error {
		if r.Seq > head.Seq {
			return errDone
		}
		progress(r.Seq, head.Seq)
		begun = begun || r.Op.Time >= crdt.TimeOf(f.Since)
		if !begun || !f.chooses(r.Op) {
			return nil
		}
		lines++
		return write(out, Line{Version: version, ExportTime: now.UTC().Truncate(time.Second), Metadata: Metadata{
			Document: doc.Name(), StoredAt: r.Op.Time.Time(), Seq: r.Seq, Prev: r.Prev, Hash: r.Hash, Head: Head{head.Seq, head.Hash}, Partial: f.partial(),
		}}, r, keys)
	})
	if err != nil && !errors.Is(err, errDone) {
		return lines, fmt.Errorf("export the log: %w", err)
	}
	if err := out.Flush(); err != nil {
		return lines, fmt.Errorf("export the log: %w", err)
	}
	return lines, nil
}

// errDone ends a reading that has come to the head.
var errDone = errors.New("at the head")

func write(w *bufio.Writer, l Line, r *engine.Record, keys *sign.Registry) error {
	if sig := r.Op.Signature; sig != nil {
		_, err := sign.VerifyOp(keys, r.Op, l.Metadata.Document)
		good := err == nil
		l.Metadata.SignatureVerified, l.Metadata.SignatureKey = &good, sig.Key
	}
	metadata, err := json.Marshal(l.Metadata)
	if err != nil {
		return err
	}
	stamp, err := json.Marshal(l.ExportTime)
	if err != nil {
		return err
	}
	// By hand: the hash is of the operation's very bytes. Errors of a bufio.Writer stay, for Flush to tell.
	fmt.Fprintf(w, `{"version":"%s","export_time":%s,"operation":`, version, stamp)
	w.Write(r.Data) //nolint:errcheck // as above
	fmt.Fprintf(w, `,"metadata":%s}%s`, metadata, "\n")
	return nil
}
