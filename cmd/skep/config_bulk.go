package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/config/bulk"
)

// maxBulkBytes is how much text bulk-set reads: what is written at once has to fit in one append to the log, which has a limit of its own.
const maxBulkBytes = 16 << 20

func newConfigBulkSet(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bulk-set [FILE]",
		Short: "Do many operations at once, all or none",
		Long: `Do operations from a file or standard input, all or none: up to 1,000, one in each line, either a field and its value, or an operation in JSON
as REST takes it. Empty lines, and those that begin with #, are left out.

    route.api.weight 80
    route.api.weight@staging 20
    {"path": "service.api.ports", "add": [8080, 9090], "intent": "metrics"}
    {"type": "remove_entity", "entity_id": "route.old"}`,
		Args: atMostOne,
	}
	how := writeFlagsOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		file := stdinName
		if len(args) == 1 {
			file = args[0]
		}
		return f.with(cmd, func(ctx context.Context, d *document) error {
			text, err := readInput(cmd, file, maxBulkBytes)
			if err != nil {
				return err
			}
			if file == stdinName {
				file = "standard input"
			}
			ops, err := bulk.ReadLines(file, bytes.NewReader(text), d.schema)
			if err != nil {
				return err
			}
			if len(ops) == 0 {
				return usageError{fmt.Errorf("%s has no operations", file)}
			}
			results, err := how.submit(ctx, d, ops)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			return how.done(cmd, d, results)
		})
	}
	return cmd
}
