package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config/wire"
)

func newConfigWatch(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Print what changes, as it happens",
		Long: `Print what changes, a line for each field, as it happens, whoever writes it. The number in front is a cursor: --cursor goes on after one,
and misses nothing that was written in between.`,
		Args: exactly(0),
	}
	var q client.WatchQuery
	flags := cmd.Flags()
	flags.StringVar(&q.Entity, "entity", "", "only this one, or this type")
	flags.StringVar(&q.Field, "field", "", "only this field")
	flags.StringVarP(&q.Env, "env", "e", "", "only this environment (default all)")
	flags.BoolVar(&q.Initial, "initial", false, "begin with the state as it is")
	flags.BoolVar(&q.Valid, "valid-only", false, "nothing as long as rules of the schema are broken")
	cursor := flags.Int64("cursor", -1, "go on after this one (default the latest)")
	count := flags.Int("count", 0, "end after so many events")
	asJSON := flags.Bool("json", false, "print a line of JSON for each event, for machines")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			if *cursor >= 0 {
				from := uint64(*cursor)
				q.Cursor = &from
			}
			q.Lost = func(error) { fmt.Fprintln(cmd.ErrOrStderr(), "The connection broke, and is made again.") }
			seen := 0
			for e, err := range d.Watch(ctx, q) {
				if err != nil {
					return err
				}
				if err := d.printEvent(cmd.OutOrStdout(), e, *asJSON); err != nil {
					return err
				}
				if seen++; seen == *count {
					return nil
				}
			}
			return nil
		})
	}
	return cmd
}

func (d *document) printEvent(w io.Writer, e *wire.Event, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(e)
	}
	who := ""
	if op := e.Operation; op != nil {
		who = " " + printable(by(op.Actor)+because(op.Intent))
	}
	told := inherited{}
	for _, c := range e.Changes {
		text := "is " + shown(c.Value)
		switch {
		case c.Removed:
			text = "removed"
		case c.Field == "":
			text = "begun"
		case c.Conflict:
			text += ", and waits for somebody to choose"
		}
		if d.again(told, c.EntityID, c.Field, c.Environment, text) {
			continue
		}
		if _, err := fmt.Fprintf(w, "%d  %s %s%s\n", e.Cursor, printable(d.pathOf(c.EntityID, c.Field, "", c.Environment)), text, who); err != nil {
			return fmt.Errorf("print an event: %w", err) // nobody listens any more
		}
	}
	return nil
}
