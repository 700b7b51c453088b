package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/wire"
)

// filterFlags choose fields.
func filterFlags(cmd *cobra.Command) *client.FieldFilter {
	f := &client.FieldFilter{}
	cmd.Flags().StringSliceVar(&f.Entities, "entities", nil, "only these, as TYPE or TYPE.ID, with * for any text")
	cmd.Flags().StringSliceVar(&f.Fields, "only", nil, "only these fields")
	return f
}

func newConfigDiff(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff [--since MILESTONE | --at TIME | --from ENV --to ENV]",
		Short: "Show what has changed since the last milestone, or what differs otherwise",
		Long: `Show what has changed since the last milestone, another one (a commit) or a time; or what would become of one environment if it were as another
one.`,
		Args: exactly(0),
	}
	flags := cmd.Flags()
	env := environmentFlag(cmd)
	from := flags.String("from", "", "the environment that is there")
	to := flags.String("to", "", "the environment that it is held against")
	var at time.Time
	flags.Var(momentValue{&at}, "at", "what has changed since this time")
	since := flags.String("since", "", "what has changed since this milestone: a commit, or any name that git has for it")
	cmd.MarkFlagsMutuallyExclusive("since", "at", "from")
	cmd.MarkFlagsMutuallyExclusive("since", "at", "to")
	cmd.MarkFlagsMutuallyExclusive("env", "from")
	cmd.MarkFlagsMutuallyExclusive("env", "to")
	filter := filterFlags(cmd)
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			var list []wire.Change
			var err error
			switch {
			case *from != "" || *to != "":
				list, err = d.Diff(ctx, *from, *to, *filter)
			default:
				list, err = d.Since(ctx, client.Then{Milestone: *since, Time: at}, *env, *filter)
			}
			if err != nil {
				return err
			}
			return show(cmd, *asJSON, list, func(w io.Writer) {
				d.printChanges(w, list)
				if len(list) == 0 {
					fmt.Fprintln(w, "Nothing differs.")
				}
			})
		})
	}
	return cmd
}

func newConfigPromote(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "promote --from ENV --to ENV",
		Short: "Make an environment as another one is, by one operation",
		Long: `Make an environment as another one is, in all or in some fields, by one operation. Values go to where they are inherited from; --any-path
lets them go elsewhere. It is refused while conflicts or broken rules are open in the source.`,
		Args: exactly(0),
	}
	how := writeFlagsOf(cmd)
	flags := cmd.Flags()
	from := flags.String("from", "", "the source environment")
	to := flags.String("to", "", "the target environment")
	filter := filterFlags(cmd)
	prune := flags.Bool("prune", false, "take away from the source what it inherits then")
	anyPath := flags.Bool("any-path", false, "also to an environment that the source does not inherit from")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *from == "" || *to == "" {
			return usageError{fmt.Errorf("--from and --to are needed; see %q", cmd.CommandPath()+" --help")}
		}
		return f.with(cmd, func(ctx context.Context, d *document) error {
			op := wire.Operation{
				Type: string(config.Promote), From: *from, To: *to, Entities: filter.Entities, Only: filter.Fields, Prune: *prune, AnyPath: *anyPath,
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
