package replica

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// Notice is what a copy tells all others at once, and nobody answers. It may be lost: whoever hears of it that something is missing asks.
type Notice struct {
	Document string `json:"document"`
	Node     string `json:"node"` // who sends it
	// Ops are operations that are new. Without any the notice is a greeting: it says what its sender has.
	Ops []json.RawMessage `json:"ops,omitempty"`
	// Digest is, in a greeting, SHA-256 of the sender's version: two copies that have the same operations have the same.
	Digest string `json:"digest,omitempty"`
	// Marks has, in a greeting, the time of the last operation that the sender made under its name: of two copies of one name it tells
	// whether they have one log.
	Marks map[crdt.Dot]crdt.HLC `json:"marks,omitempty"`
}

// Greeting returns a notice that says what this copy has.
func (r *Replica) Greeting(ctx context.Context) (*Notice, error) {
	v := r.version()
	n := &Notice{Document: r.doc.Name(), Node: r.doc.Node(), Digest: digest(&v)}
	last := crdt.Dot{Node: n.Node, Seq: v.Last(n.Node)}
	if last.Seq == 0 {
		return n, nil
	}
	op, err := r.doc.Op(ctx, last)
	if err != nil {
		return nil, err
	}
	if op != nil {
		n.Marks = map[crdt.Dot]crdt.HLC{last: op.Time}
	}
	return n, nil
}

func digest(v *crdt.Dots) string {
	sum := sha256.Sum256([]byte(v.String()))
	return hex.EncodeToString(sum[:])
}

// Hear takes in a notice. It reports whether its sender and this copy differ in more than that, so that they should be compared.
func (r *Replica) Hear(ctx context.Context, n *Notice) (differ bool, err error) {
	if n.Document != r.doc.Name() {
		return false, fmt.Errorf("replicate document %s: the notice is about %.80q: %w", r.doc.Name(), n.Document, errkind.Invalid)
	}
	if len(n.Ops) > MaxOps || len(n.Marks) > 1 {
		return false, fmt.Errorf("replicate document %s: the notice has %d operations, and %d are allowed: %w", r.doc.Name(), len(n.Ops), MaxOps, errkind.TooLarge)
	}
	ops := r.decode(n.Node, n.Ops)
	own, marks := r.doc.Node(), map[crdt.Dot]crdt.HLC{}
	maps.Copy(marks, n.Marks)
	for _, op := range ops {
		if op.ID.Node == own {
			marks[op.ID] = op.Time
		}
	}
	if err := r.checkOwn(ctx, n.Node, own, marks); err != nil {
		return false, err
	}
	if err := r.checkMarks(ctx, n.Node, marks); err != nil {
		return false, err
	}
	if n.Node == r.doc.Node() {
		return false, nil // another process that has the same log
	}
	if err := r.submit(ctx, ops); err != nil {
		return false, err
	}
	return r.differs(n, ops), nil
}

// differs reports whether there is more to exchange with the sender of a notice than the operations that it brought.
func (r *Replica) differs(n *Notice, ops []*config.Op) bool {
	v := r.version()
	if len(n.Ops) == 0 {
		return digest(&v) != n.Digest
	}
	for _, op := range ops {
		if v.Last(op.ID.Node) < op.ID.Seq {
			return true // one before it is missing, or there was no room to put it aside
		}
	}
	return false
}

// checkOwn finds out whether somebody has operations of this copy's name that are not in its log.
func (r *Replica) checkOwn(ctx context.Context, peer, own string, marks map[crdt.Dot]crdt.HLC) error {
	for dot := range marks {
		if dot.Node != own {
			continue
		}
		more, err := r.knowsMore(ctx, dot)
		if err != nil {
			return err
		}
		if more {
			return r.rename(ctx, peer, own)
		}
	}
	return nil
}

// knowsMore reports whether an operation that names this copy is one that its log has not, also after reading on: another process may have
// written it there, and told of it.
func (r *Replica) knowsMore(ctx context.Context, dot crdt.Dot) (bool, error) {
	lacks := func() bool {
		v := r.version()
		return v.Last(dot.Node) < dot.Seq
	}
	if !lacks() {
		return false, nil
	}
	if err := r.doc.Refresh(ctx); err != nil {
		return false, err
	}
	return lacks(), nil
}
