package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/wire"
)

func newConfigConflicts(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "conflicts",
		Short: "List the fields for which somebody has to choose: who wrote what, and why",
		Args:  exactly(0),
	}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			list, err := d.Conflicts(ctx)
			if err != nil {
				return err
			}
			return show(cmd, *asJSON, list, func(w io.Writer) {
				for i := range list {
					d.printConflict(w, &list[i])
				}
				if len(list) == 0 {
					fmt.Fprintln(w, "There are none.")
				}
			})
		})
	}
	return cmd
}

func (d *document) printConflict(w io.Writer, c *wire.Conflict) {
	fmt.Fprintf(w, "%s is %s meanwhile:\n", printable(d.pathOf(c.EntityID, c.Field, "", c.Environment)), shown(c.Value))
	for i := range c.Candidates {
		src := &c.Candidates[i]
		fmt.Fprintf(w, "  %s  %s  %s%s\n", second(src.Time), printable(by(src.Actor)), shown(src.Value), printable(because(src.Intent)))
	}
}

func newConfigResolve(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resolve ENTITY.FIELD VALUE | resolve ENTITY FIELD VALUE",
		Short: "Choose the value of a field for which writes wait",
		Long: `Choose the value of a field for which writes wait. That may be one of theirs or another one. The choice covers the writes that "skep config
conflicts" lists, or with --base those of that version: what is written afterwards, or was not seen, opens the conflict again.`,
		Args: oneTo(3),
	}
	how := writeFlagsOf(cmd)
	env := environmentFlag(cmd)
	unset := cmd.Flags().Bool("unset", false, "choose that it has no value")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, text, err := setArguments(cmd, args, *unset)
		if err != nil {
			return err
		}
		return f.with(cmd, func(ctx context.Context, d *document) error {
			op := wire.Operation{Type: string(config.Resolve), EntityID: path.entity, Field: path.field, Environment: *env}
			if path.key != "" {
				return usageError{fmt.Errorf("%s: a conflict is about the whole field: leave out [%s]", strings.Join(args, " "), path.key)}
			}
			if !*unset {
				if op.ChosenValue, err = d.parse(path, text); err != nil {
					return err
				}
			}
			results, err := how.submit(ctx, d, []wire.Operation{op})
			if err != nil {
				return err
			}
			return how.done(cmd, d, results)
		})
	}
	return cmd
}
