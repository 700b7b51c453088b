package node

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/hosted"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

// documentsDir is the part of the data directory with the logs of documents.
const documentsDir = "config"

// documentStore is where the logs of documents are.
func (o *Options) documentStore() string {
	if o.Documents != "" {
		return o.Documents
	}
	return "sqlite:" + filepath.Join(o.DataDir, documentsDir)
}

// openDocuments opens where the logs of documents are.
func (n *Node) openDocuments(ctx context.Context) (err error) {
	if n.logs, err = oplog.OpenStore(ctx, n.opts.documentStore()); err != nil {
		return err
	}
	n.documents = hosted.New(n.logs, hosted.Options{
		Control: n.control, Host: func() hosted.Host { return n.server }, Allow: n.opts.OutboundAllow, Shared: n.opts.Documents != "", Log: n.opts.Log,
	})
	return nil
}

// examineDocuments verifies the logs of all documents, and counts those that nothing names.
func (n *Node) examineDocuments(ctx context.Context, opts DoctorOptions, report *DoctorReport) error {
	known := map[string]bool{}
	for after := id.Document(""); ; {
		page, err := n.control.Documents(ctx, control.DocumentFilter{Ever: true}, after, doctorPage)
		if err != nil {
			return err
		}
		for _, d := range page {
			after = d.ID
			known[string(d.ID)] = true
			report.Documents++
			operations, err := n.verifyLog(ctx, string(d.ID))
			report.Operations += operations
			if err != nil {
				opts.Fault("document "+d.FullName(), err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if len(page) < doctorPage {
			break
		}
	}
	for after := ""; ; {
		names, err := n.logs.List(ctx, after, doctorPage)
		if err != nil {
			return fmt.Errorf("list the logs of documents: %w", err)
		}
		for _, name := range names {
			after = name
			if _, err := id.ParseDocument(name); err == nil && !known[name] {
				report.OrphanLogs++
			}
		}
		if len(names) < doctorPage {
			return nil
		}
	}
}

// verifyLog reads a document's log: each record follows the one before it, and the state is what they come to.
func (n *Node) verifyLog(ctx context.Context, name string) (operations int64, err error) {
	log, err := n.logs.Open(ctx, name)
	if errkind.Of(err) == errkind.NotFound {
		return 0, fmt.Errorf("its log is not there: %w", err)
	}
	if err != nil {
		return 0, err
	}
	defer log.Close()
	doc, err := engine.Open(ctx, name, log, engine.Options{})
	if err != nil {
		return 0, err
	}
	head, err := doc.Verify(ctx, func(*config.Op, uint64) error { return nil })
	return int64(head.Seq), err
}
