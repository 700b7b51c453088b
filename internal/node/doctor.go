package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/router"
)

// DoctorOptions say where the control plane is, and who hears of what Doctor does. Both functions may be nil.
type DoctorOptions struct {
	Control   string // as in Options
	Documents string // as in Options
	MasterKey string // as in Options; no file is made
	Progress  func(repo, what string, done, total int)
	Fault     func(what string, err error)
}

// DoctorReport counts what Doctor has read.
type DoctorReport struct {
	Repos, Refs, Objects, Packs int
	Bytes                       int64
	Orphans                     int   // cells of no repository
	OrphanLogs                  int   // of no document
	Documents                   int   // of configuration
	Operations                  int64 // of these
	Audited                     int64 // entries of the audit log
	Secrets                     int   // with their older versions
}

// doctorPage is how many repositories are listed at once.
const doctorPage = 200

// cellsDir is what router makes in each data directory.
const cellsDir = "cells"

// Doctor reads a whole data directory that no node is using: each repository's packs, indexes, objects and references,
// each document's log, the audit log, each secret, and whether the control plane and the cells on disk agree. It returns an error only when it cannot go
// on; what is wrong with one of these goes to Fault.
func Doctor(ctx context.Context, dir string, opts DoctorOptions) (report DoctorReport, err error) {
	if opts.Progress == nil {
		opts.Progress = func(string, string, int, int) {}
	}
	if opts.Fault == nil {
		opts.Fault = func(string, error) {}
	}
	n := &Node{opts: Options{DataDir: dir, Control: opts.Control, Documents: opts.Documents, MasterKey: opts.MasterKey}}
	where, err := n.opts.controlAddress()
	if err != nil {
		return report, err
	}
	mark := controlFile
	if opts.Control != "" {
		mark = cellsDir
	}
	if _, err := os.Stat(filepath.Join(dir, mark)); err != nil {
		return report, fmt.Errorf("no data directory of skep is there: %w", errkind.NotFound)
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	// The router first: it sees to it that no server has the directory.
	if n.router, err = router.Open(ctx, dir, router.Options{}); err != nil {
		return report, fmt.Errorf("open cells: %w", err)
	}
	if n.control, _, err = control.Open(ctx, where, control.Options{MustExist: true, Keys: n.opts.ringOfAny}); err != nil {
		return report, err // it says that it is about the control plane
	}
	if head, err := n.control.VerifyAudit(ctx); err == nil {
		report.Audited = head.Seq
	} else {
		opts.Fault("audit log", err)
	}
	if report.Secrets, err = n.control.CheckSecrets(ctx, opts.Fault); err != nil {
		return report, fmt.Errorf("verify secrets: %w", err)
	}
	known := map[id.Repo]bool{}
	for after := id.Repo(""); ; {
		page, err := n.control.Repos(ctx, control.RepoFilter{Deleted: true}, after, doctorPage)
		if err != nil {
			return report, fmt.Errorf("list repositories: %w", err)
		}
		for _, r := range page {
			after = r.ID
			known[r.ID] = true
			if err := n.examine(ctx, r, opts, &report); err != nil {
				return report, err
			}
		}
		if len(page) < doctorPage {
			break
		}
	}
	for cell, err := range n.router.Cells() {
		switch {
		case err != nil:
			opts.Fault("cells", err)
		case !known[cell]:
			report.Orphans++
		}
	}
	if _, err := os.Stat(filepath.Join(dir, documentsDir)); err != nil && opts.Documents == "" {
		return report, nil // no server that knows of documents has had it
	}
	if err := n.openDocuments(ctx); err != nil {
		return report, err
	}
	return report, n.examineDocuments(ctx, opts, &report)
}

// examine verifies one repository.
func (n *Node) examine(ctx context.Context, r control.Repo, opts DoctorOptions, report *DoctorReport) error {
	name := r.Path
	report.Repos++
	h, err := n.router.Repo(ctx, r.Tenant, r.ID)
	if err != nil {
		opts.Fault(name, fmt.Errorf("open its cell: %w", err))
		return ctx.Err()
	}
	defer h.Release()
	stats := h.Stats()
	report.Refs += stats.Refs
	report.Objects += stats.Objects
	report.Packs += stats.Packs
	report.Bytes += stats.Bytes
	if err := h.Verify(ctx, func(what string, done, total int) { opts.Progress(name, what, done, total) }); err != nil {
		opts.Fault(name, err)
	}
	return ctx.Err()
}
