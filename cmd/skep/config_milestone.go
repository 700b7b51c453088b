package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/milestone"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

func newConfigMilestone(f *configFlags) *cobra.Command {
	return group("milestone", "Commit to Git what the document says, and look at what was committed",
		newConfigMilestoneCreate(f), newConfigMilestoneList(f), newConfigMilestoneShow(f), newConfigMilestoneImport(f))
}

func newConfigMilestoneCreate(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create -m MESSAGE",
		Short: "Commit what the document says: a folder for each environment, and a message that tells every operation",
		Long: `Commit what the document says, with a folder for each environment and a message that tells every operation since the milestone before. It goes
to the repository that .conflux/config.toml names, or to this folder, which becomes one. While conflicts or broken rules are open, and while
files were edited in Git, there is none, unless the flags say so.`,
		Args: exactly(0),
	}
	n := wire.NewMilestone{}
	flags := cmd.Flags()
	flags.StringVarP(&n.Message, "message", "m", "", "what it is about, in a line")
	flags.StringSliceVarP(&n.Environments, "env", "e", nil, "only these environments (default all)")
	flags.BoolVar(&n.AllowViolations, "allow-violations", false, "in spite of conflicts and broken rules; the message tells them")
	flags.BoolVar(&n.AllowEmpty, "allow-empty", false, "also if nothing has changed")
	flags.BoolVar(&n.Overwrite, "overwrite", false, "files that were edited in Git become as the document says")
	flags.BoolVar(&n.Import, "import", false, "take over first what was edited in Git")
	cmd.MarkFlagsMutuallyExclusive("overwrite", "import")
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if n.Message == "" {
			return usageError{fmt.Errorf("--message is needed; see %q", cmd.CommandPath()+" --help")}
		}
		return f.with(cmd, func(ctx context.Context, d *document) error {
			m, err := d.CreateMilestone(ctx, n)
			if err != nil {
				return err
			}
			return show(cmd, *asJSON, m, func(w io.Writer) {
				fmt.Fprintf(w, "Milestone %s: %s.\n", short(m.ID), english.Plural(m.Operations, "operation", ""))
			})
		})
	}
	return cmd
}

// author is whom a commit is by where git does not know the user, or somebody else acts.
func author(ctx context.Context, a config.Actor) milestone.Person {
	if a.ID == gitName(ctx) && a.Class == config.Human {
		return milestone.Person{} // git knows more
	}
	user := strings.Map(func(r rune) rune {
		if r <= ' ' || strings.ContainsRune("<>@,;:\"()[]\\", r) || r > '~' {
			return '-'
		}
		return r
	}, a.ID)
	return milestone.Person{Name: strings.Map(func(r rune) rune {
		if strings.ContainsRune("<>", r) {
			return -1
		}
		return r
	}, a.ID), Email: user + "@localhost"}
}

func short(commit string) string { return commit[:min(len(commit), 10)] }

func newConfigMilestoneList(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the milestones, the latest first", Args: exactly(0)}
	limit := cmd.Flags().IntP("limit", "n", 50, "how many at most")
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *limit < 1 {
			return usageError{fmt.Errorf("--limit is at least 1")}
		}
		return f.with(cmd, func(ctx context.Context, d *document) error {
			list, err := d.Milestones(ctx, min(*limit, milestone.MaxListed))
			if err != nil && errkind.Of(err) != errkind.NotFound {
				return err
			}
			if list == nil {
				list = []wire.Milestone{} // a repository that is not there yet has none
			}
			return show(cmd, *asJSON, list, func(w io.Writer) {
				rows := make([][]string, len(list))
				for i, m := range list {
					rows[i] = []string{short(m.ID), second(m.CreatedAt), strconv.Itoa(m.Operations), strings.Join(m.Environments, ", "), m.Message}
				}
				table(w, []string{"COMMIT", "AT", "OPERATIONS", "ENVIRONMENTS", "MESSAGE"}, rows)
			})
		})
	}
	return cmd
}

func newConfigMilestoneShow(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "show [COMMIT]", Short: "Print a milestone's message: of the last one, or of a commit", Args: atMostOne}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return f.with(cmd, func(ctx context.Context, d *document) error {
			m, err := d.Milestone(ctx, strings.Join(args, ""))
			if err != nil {
				return err
			}
			return show(cmd, *asJSON, m, func(w io.Writer) {
				fmt.Fprintf(w, "%s  %s  %s\n\n", m.ID, second(m.CreatedAt), printable(m.Author))
				for line := range strings.Lines(m.Text) {
					fmt.Fprintln(w, printable(strings.TrimSuffix(line, "\n")))
				}
			})
		})
	}
	return cmd
}

func newConfigMilestoneImport(f *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Take over what somebody edited in Git since the last milestone",
		Long: `Take over what somebody edited in Git since the last milestone, as operations by whoever runs this. They are merged with what others wrote
meanwhile, as if the editor had seen that milestone and nothing after it. "skep config milestone create --import" does so and commits.`,
		Args: exactly(0),
	}
	dryRun := cmd.Flags().Bool("dry-run", false, "tell what would happen, and write nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.inFolder(cmd, `"skep config milestone create --import" takes over what was edited, and commits`, func(ctx context.Context, dir *folder) error {
			found, err := dir.publisher().Import(ctx, dir.caller(), *dryRun)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			for _, e := range found.Edits {
				fmt.Fprintln(w, printable(e.String()))
			}
			for _, text := range slices.Sorted(slices.Values(found.Skipped)) {
				fmt.Fprintln(w, printable("left out: "+text))
			}
			fmt.Fprintf(w, "%s.\n", english.Plural(len(found.Requests), "operation", ""))
			if *dryRun {
				fmt.Fprintln(w, dryRunNote)
			}
			return nil
		})
	}
	return cmd
}
