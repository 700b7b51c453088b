package auditlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/errkind"
)

// maxLineBytes is the largest operation, with what is around it.
const maxLineBytes = config.MaxOpSize + 64<<10

// maxProblems is how many problems are told: they seldom come alone, and the first ones tell most.
const maxProblems = 20

// Report is what a check has seen.
type Report struct {
	Document   string
	Operations int
	Signed     int  // of them, with signatures that are good
	First      Head // the first operation
	Last       Head // the last one
	Partial    bool // chosen operations: nothing can be said of those between them
}

// Problems are all that a check found. It is errkind.Invalid.
type Problems struct {
	List []string
	More int
}

// Error returns a line for each problem.
func (p *Problems) Error() string {
	var b bytes.Buffer
	for i, text := range p.List {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(text)
	}
	if p.More > 0 {
		fmt.Fprintf(&b, "\nand %d more", p.More)
	}
	return b.String()
}

// Unwrap returns the kind.
func (p *Problems) Unwrap() error { return errkind.Invalid }

func (p *Problems) add(format string, args ...any) {
	if len(p.List) == maxProblems {
		p.More++
		return
	}
	p.List = append(p.List, fmt.Sprintf(format, args...))
}

func (p *Problems) err() error {
	if len(p.List) == 0 {
		return nil
	}
	return p
}

// VerifyLog checks a document's own log: that each record follows the one before it, the signatures, and that the state is what they come to. seen is called with every
// operation's place.
func VerifyLog(ctx context.Context, doc *engine.Document, keys *sign.Registry, seen func(Head), progress func(done, total uint64)) (*Report, error) {
	r := &Report{Document: doc.Name()}
	bad := &Problems{}
	total := doc.Head().Seq
	err := doc.Records(ctx, 1, func(rec *engine.Record) error {
		progress(rec.Seq, total)
		r.count(Head{rec.Seq, rec.Hash})
		seen(Head{rec.Seq, rec.Hash})
		r.signature(rec.Op, keys, bad, fmt.Sprintf("record %d", rec.Seq))
		return nil
	})
	if err == nil {
		_, err = doc.Verify(ctx, func(*config.Op, uint64) error { return nil })
	}
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	if err != nil {
		bad.add("%v", err)
	}
	return r, bad.err()
}

func (r *Report) count(at Head) {
	if r.Operations++; r.Operations == 1 {
		r.First = at
	}
	r.Last = at
}

func (r *Report) signature(op *config.Op, keys *sign.Registry, bad *Problems, where string) {
	if op.Signature == nil {
		return
	}
	if _, err := sign.VerifyOp(keys, op, r.Document); err != nil {
		bad.add("%s: %v", where, err)
		return
	}
	r.Signed++
}

// Verify checks an export: the hash of every line, that each follows the one before it, that the end is there, and the signatures. seen is
// called with every operation's place in the log.
func Verify(from io.Reader, keys *sign.Registry, seen func(Head)) (*Report, error) {
	return verify(from, keys, func(l *Line) error {
		seen(Head{l.Metadata.Seq, l.Metadata.Hash})
		return nil
	})
}

// verify is Verify. It calls fn with every line that it can read, until there is a problem.
func verify(from io.Reader, keys *sign.Registry, fn func(*Line) error) (*Report, error) {
	v := &verifier{keys: keys, bad: &Problems{}, report: &Report{}}
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 64<<10), maxLineBytes)
	n := 0
	for lines.Scan() {
		n++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		l, err := parse(lines.Bytes())
		if err != nil {
			v.bad.add("line %d: %v", n, err)
			continue
		}
		if v.line(n, l); len(v.bad.List) > 0 {
			continue
		}
		if err := fn(l); err != nil {
			return v.report, err
		}
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("it has more than %d bytes: %w", maxLineBytes, errkind.TooLarge)
		}
		return v.report, fmt.Errorf("line %d: %w", n+1, err)
	}
	v.end()
	return v.report, v.bad.err()
}

// parse reads a line.
func parse(text []byte) (*Line, error) {
	l := &Line{}
	if err := json.Unmarshal(text, l); err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	if l.Version != version {
		return nil, fmt.Errorf("its version is %.20q, and %q can be read", l.Version, version)
	}
	if l.Metadata.Seq == 0 {
		return nil, errors.New("it does not say where in the log it is")
	}
	return l, nil
}

// verifier checks line after line.
type verifier struct {
	keys   *sign.Registry
	bad    *Problems
	report *Report
	before Line // the line before; Seq 0: there is none
}

func (v *verifier) line(n int, l *Line) {
	m, before := &l.Metadata, &v.before.Metadata
	first := before.Seq == 0
	if first {
		v.report.Document, v.report.Partial = m.Document, m.Partial
	}
	switch {
	case m.Document != v.report.Document:
		v.bad.add("line %d: it is of document %.80q, and those before are of %.80q", n, m.Document, v.report.Document)
	case m.Hash != Hash(engine.Chain(oplog.Head{Seq: m.Seq - 1, Hash: m.Prev}, l.Operation)):
		v.bad.add("line %d: operation %d does not have the hash that is written beside it: it was changed", n, m.Seq)
	case m.Seq == 1 && m.Prev != Hash(engine.Genesis(m.Document)):
		v.bad.add("line %d: it is not the first operation of document %.80q", n, m.Document)
	case first:
	case m.Seq <= before.Seq:
		v.bad.add("line %d: operation %d comes after %d: lines were put in another order, or in twice", n, m.Seq, before.Seq)
	case m.Seq == before.Seq+1 && m.Prev != before.Hash:
		v.bad.add("line %d: operation %d does not follow the one before it: one of them was changed", n, m.Seq)
	case m.Seq > before.Seq+1 && !v.report.Partial:
		v.bad.add("line %d: operations %d to %d are missing", n, before.Seq+1, m.Seq-1)
	case m.Head != before.Head || m.Partial != before.Partial:
		v.bad.add("line %d: it is of another export than the lines before", n)
	}
	v.before = *l
	v.before.Operation = nil
	op, err := config.DecodeOp(l.Operation)
	if err != nil {
		v.bad.add("line %d: %v", n, err)
		return
	}
	v.report.count(Head{m.Seq, m.Hash})
	v.report.signature(op, v.keys, v.bad, fmt.Sprintf("line %d", n))
}

// end checks that the export has its end.
func (v *verifier) end() {
	m := &v.before.Metadata
	switch {
	case m.Seq == 0 || v.report.Partial:
	case m.Seq < m.Head.Seq:
		v.bad.add("operations %d to %d are missing at the end", m.Seq+1, m.Head.Seq)
	case m.Seq != m.Head.Seq || m.Hash != m.Head.Hash:
		v.bad.add("the last operation is not the end of the log that was exported, %s", m.Head)
	}
}
