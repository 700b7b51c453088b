package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/config/auditlog"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/config/workspace"
)

// restoreDocument makes a document again from an export of its log. The file is read twice: all of it is checked before anything is written.
func restoreDocument(cmd *cobra.Command, dir, name, registry string, store workspace.Store) error {
	keys, keysText := new(sign.Registry), []byte(nil)
	if registry != "" {
		var err error
		if keys, err = loadKeys(registry); err == nil {
			keysText, err = os.ReadFile(registry)
		}
		if err != nil {
			return err
		}
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	report, err := auditlog.Verify(file, keys, func(auditlog.Head) {})
	if err == nil {
		err = report.Whole()
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil && registry == "" {
		err = fmt.Errorf("%w\n(what is signed is checked with --key-registry FILE)", err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	w, err := workspace.Restore(cmd.Context(), dir, report.Document, store, func(ctx context.Context, log oplog.Log) error {
		report, err = auditlog.Restore(ctx, file, keys, log)
		return err
	})
	if err != nil {
		return err
	}
	defer w.Close()
	if keysText != nil {
		if err := w.WriteFile(workspace.KeysFile, keysText); err != nil {
			return err
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Restored document %s in %s: %s, %d of them signed. The log's head is %s.\n", w.Settings.Document,
		filepath.Join(w.Dir, workspace.Folder), english.Plural(report.Operations, "operation", ""), report.Signed, report.Last)
	return nil
}
