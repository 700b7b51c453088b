package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
)

func newConfigDocument() *cobra.Command {
	cmd := group("document", "List, show, change and delete the documents on a server",
		newConfigDocumentList(), newConfigDocumentShow(), newConfigDocumentUpdate(), newConfigDocumentDelete())
	cmd.Long = `List, show, change and delete the documents on a server. "skep config init --document TENANT/NAME" makes one.`
	return cmd
}

func newConfigDocumentList() *cobra.Command {
	cmd := &cobra.Command{Use: "list TENANT", Short: "List the documents of a tenant", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		list, err := collect(cmd.Context(), func(ctx context.Context, cursor string, limit int) (client.Page[client.Document], error) {
			return c.Documents(ctx, args[0], cursor, limit)
		})
		if err != nil {
			return fmt.Errorf("documents of %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, list, func(w io.Writer) {
			rows := make([][]string, len(list))
			for i, d := range list {
				rows[i] = []string{d.FullName(), milestonesTo(d.Milestones), day(d.CreatedAt)}
			}
			table(w, []string{"DOCUMENT", "MILESTONES", "CREATED"}, rows)
		})
	}
	return cmd
}

// milestonesTo tells where milestones go.
func milestonesTo(m *client.DocumentMilestones) string {
	if m == nil {
		return "none"
	}
	return m.Repo + " " + m.Branch
}

func newConfigDocumentShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show TENANT/NAME", Short: "Show where a document's milestones go, and when they are made", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, tenant, name, err := connectDocument(args[0])
		if err != nil {
			return err
		}
		d, err := c.DocumentByName(cmd.Context(), tenant, name)
		if err != nil {
			return fmt.Errorf("document %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, d, func(w io.Writer) {
			rows := [][]string{{"id", d.ID}, {"created", day(d.CreatedAt)}, {"milestones", milestonesTo(d.Milestones)}}
			if m := d.Milestones; m != nil {
				rows = append(rows, []string{"format", m.Format})
				for _, r := range [][]string{
					{"every", m.Every}, {"after", countOf(m.After)}, {"quiet", m.Quiet}, {"environments", strings.Join(m.Environments, ", ")}, {"message", m.Message},
				} {
					if r[1] != "" {
						rows = append(rows, r)
					}
				}
			}
			table(w, []string{"DOCUMENT", d.FullName()}, rows)
		})
	}
	return cmd
}

func countOf(operations int) string {
	if operations == 0 {
		return ""
	}
	return strconv.Itoa(operations) + " operations"
}

// milestoneFlags say where a document's milestones go, and when one is made that nobody asks for.
type milestoneFlags struct{ client.DocumentMilestones }

// The names of the flags, which tell whether there is anything to change.
var milestoneFlagNames = []string{"repo", "branch", "files", "every", "after", "quiet", "milestone-env", "message"}

func milestoneFlagsOf(cmd *cobra.Command) *milestoneFlags {
	m := &milestoneFlags{}
	flags := cmd.Flags()
	flags.StringVar(&m.Repo, "repo", "", "TENANT/NAME of the server's repository that milestones go to")
	flags.StringVar(&m.Branch, "branch", "", "the branch there (default main)")
	flags.StringVar(&m.Format, "files", "", "the format of their files: yaml (default), json, toml, kdl, xml or hcl")
	flags.StringVar(&m.Every, "every", "", "make one as often, if something has changed: 15m")
	flags.IntVar(&m.After, "after", 0, "make one after so many operations")
	flags.StringVar(&m.Quiet, "quiet", "", "but not before nothing has been written for so long: 30s")
	flags.StringSliceVar(&m.Environments, "milestone-env", nil, "only these environments (default all)")
	flags.StringVar(&m.Message, "message", "", "the message of those that nobody asks for")
	return m
}

// given reports whether any of the flags says something.
func (m *milestoneFlags) given(cmd *cobra.Command) bool {
	return slices.ContainsFunc(milestoneFlagNames, cmd.Flags().Changed)
}

// over returns what there was, with what the flags say.
func (m *milestoneFlags) over(cmd *cobra.Command, was *client.DocumentMilestones) (*client.DocumentMilestones, error) {
	out := client.DocumentMilestones{}
	if was != nil {
		out = *was
	}
	for name, to := range map[string]struct{ into, from *string }{
		"repo": {&out.Repo, &m.Repo}, "branch": {&out.Branch, &m.Branch}, "files": {&out.Format, &m.Format}, "every": {&out.Every, &m.Every},
		"quiet": {&out.Quiet, &m.Quiet}, "message": {&out.Message, &m.Message},
	} {
		if cmd.Flags().Changed(name) {
			*to.into = *to.from
		}
	}
	if cmd.Flags().Changed("after") {
		out.After = m.After
	}
	if cmd.Flags().Changed("milestone-env") {
		out.Environments = m.Environments
	}
	if out.Repo == "" {
		return nil, usageError{errors.New("milestones need a repository: --repo TENANT/NAME")}
	}
	return &out, nil
}

func newConfigDocumentUpdate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update TENANT/NAME",
		Short: "Give a document another name, and say where its milestones go and when they are made",
		Args:  exactly(1),
	}
	asJSON := asJSON(cmd)
	name := cmd.Flags().String("name", "", "its new name, in the same tenant")
	none := cmd.Flags().Bool("no-milestones", false, "no more milestones; those that were made stay")
	to := milestoneFlagsOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *none && to.given(cmd) {
			return usageError{errors.New("--no-milestones makes no sense beside flags that say where they go")}
		}
		c, tenant, old, err := connectDocument(args[0])
		if err != nil {
			return err
		}
		u := client.UpdateDocument{}
		if *name != "" {
			u.Name = name
		}
		switch {
		case *none:
			u.Milestones = &client.DocumentMilestones{}
		case to.given(cmd):
			// They are sent whole: what was not named stays as it is.
			d, err := c.DocumentByName(cmd.Context(), tenant, old)
			if err != nil {
				return fmt.Errorf("document %s: %w", args[0], err)
			}
			if u.Milestones, err = to.over(cmd, d.Milestones); err != nil {
				return err
			}
		case u.Name == nil:
			return usageError{fmt.Errorf("there is nothing to change; see %q", cmd.CommandPath()+" --help")}
		}
		d, err := c.UpdateDocument(cmd.Context(), tenant, old, u)
		if err != nil {
			return fmt.Errorf("change %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, d, func(w io.Writer) {
			fmt.Fprintf(w, "The document is %s, with milestones to %s.\n", printable(d.FullName()), printable(milestonesTo(d.Milestones)))
		})
	}
	return cmd
}

func newConfigDocumentDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete TENANT/NAME", Short: "Delete a document with its log; milestones that were made stay", Args: exactly(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, tenant, name, err := connectDocument(args[0])
		if err != nil {
			return err
		}
		if err := c.DeleteDocument(cmd.Context(), tenant, name); err != nil {
			return fmt.Errorf("delete %s: %w", args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Deleted %s.\n", args[0])
		return nil
	}
	return cmd
}

// connectDocument makes a client for a command about one document of the server.
func connectDocument(full string) (c *client.Client, tenant, name string, err error) {
	if tenant, name, err = splitDocument(full); err == nil {
		c, err = connect()
	}
	return c, tenant, name, err
}
