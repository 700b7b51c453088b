package auditlog

import (
	"context"
	"fmt"
	"io"

	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/errkind"
)

// Whole refuses an export from which a log cannot be made again: one of chosen operations, or without the beginning.
func (r *Report) Whole() error {
	switch {
	case r.Operations == 0:
		return fmt.Errorf("there are no operations in it: %w", errkind.Invalid)
	case r.Partial || r.First.Seq != 1:
		return fmt.Errorf("it is an export of some operations: export the log without --since, --until, --actor and --entity: %w", errkind.Invalid)
	}
	return nil
}

// Restore checks an export of a whole log as Verify does and appends its operations to a log, byte by byte, so that both have the same head.
// The log is empty, or has the first of these operations, as after a Restore that was broken off. If a problem is found, the operations
// before it may have been appended.
func Restore(ctx context.Context, from io.Reader, keys *sign.Registry, log oplog.Log) (*Report, error) {
	head, err := log.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("restore a log: %w", err)
	}
	w := restoring{log: log, had: head, end: head}
	report, err := verify(from, keys, func(l *Line) error { return w.line(ctx, l) })
	if err == nil {
		err = report.Whole()
	}
	if err == nil && report.Last.Seq < head.Seq {
		err = w.other()
	}
	if err == nil {
		err = w.flush(ctx)
	}
	if err != nil {
		return report, fmt.Errorf("restore a log: %w", err)
	}
	return report, nil
}

// restoring appends lines to a log.
type restoring struct {
	log   oplog.Log
	had   oplog.Head // the log's when it began
	end   oplog.Head // the log's now
	batch []oplog.Record
	bytes int
}

func (w *restoring) other() error {
	return fmt.Errorf("the log that is there has other operations: %w", errkind.Exists)
}

func (w *restoring) line(ctx context.Context, l *Line) error {
	m := &l.Metadata
	if m.Seq <= w.had.Seq {
		if m.Seq == w.had.Seq && m.Hash != Hash(w.had.Hash) {
			return w.other()
		}
		return nil
	}
	if w.bytes+len(l.Operation) > oplog.MaxAppendBytes || len(w.batch) == oplog.MaxAppendRecords {
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	w.batch = append(w.batch, oplog.Record{Seq: m.Seq, Hash: m.Hash, Data: l.Operation})
	w.bytes += len(l.Operation)
	return nil
}

func (w *restoring) flush(ctx context.Context) error {
	if len(w.batch) == 0 {
		return nil
	}
	if err := w.log.Append(ctx, w.end, w.batch); err != nil {
		return err
	}
	last := w.batch[len(w.batch)-1]
	w.end = oplog.Head{Seq: last.Seq, Hash: last.Hash}
	w.batch, w.bytes = nil, 0
	return nil
}
