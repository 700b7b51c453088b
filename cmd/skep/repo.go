package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
)

// splitName reads TENANT/NAME. The tenant's path may have several parts.
func splitName(s string) (tenant, name string, err error) {
	s = strings.TrimSuffix(s, ".git")
	i := strings.LastIndexByte(s, '/')
	if i <= 0 || i == len(s)-1 {
		return "", "", usageError{fmt.Errorf("repository %q is not of the form TENANT/NAME: %w", s, errkind.Invalid)}
	}
	return s[:i], s[i+1:], nil
}

func newRepo() *cobra.Command {
	return group("repo", "Create, list, show, change and delete repositories",
		newRepoCreate(), newRepoList(), newRepoShow(), newRepoRename(), newRepoSettings(), newRepoDelete())
}

func newRepoCreate() *cobra.Command {
	cmd := &cobra.Command{Use: "create TENANT/NAME", Short: "Make an empty repository", Args: exactly(1)}
	asJSON := asJSON(cmd)
	public := cmd.Flags().Bool("public", false, "let everybody read it")
	branch := cmd.Flags().String("default-branch", "", "the branch that HEAD names (default main)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tenant, name, err := splitName(args[0])
		if err != nil {
			return err
		}
		c, err := connect()
		if err != nil {
			return err
		}
		ask := client.CreateRepo{Tenant: tenant, Name: name, DefaultBranch: *branch, Visibility: client.Private}
		if *public {
			ask.Visibility = client.Public
		}
		r, err := c.CreateRepo(cmd.Context(), ask)
		if err != nil {
			return fmt.Errorf("create %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, r, func(w io.Writer) {
			fmt.Fprintf(w, "Created %s (%s, %s).\n  git clone %s\n", r.FullName(), r.ID, r.Visibility, r.CloneURL)
			if r.SSHURL != "" {
				fmt.Fprintf(w, "  git clone %s\n", r.SSHURL)
			}
		})
	}
	return cmd
}

func newRepoList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [TENANT]",
		Short: "List the repositories that you may see",
		Args:  atMostOne,
	}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		tenant := strings.Join(args, "")
		repos, err := collect(cmd.Context(), func(ctx context.Context, cursor string, limit int) (client.Page[client.Repo], error) {
			return c.Repos(ctx, tenant, cursor, limit)
		})
		if err != nil {
			return err
		}
		return show(cmd, *asJSON, repos, func(w io.Writer) {
			rows := make([][]string, len(repos))
			for i, r := range repos {
				rows[i] = []string{r.FullName(), string(r.Visibility), day(r.CreatedAt), string(r.ID)}
			}
			table(w, []string{"REPOSITORY", "VISIBILITY", "CREATED", "ID"}, rows)
		})
	}
	return cmd
}

// collect reads all pages of a list. What comes back is never nil, so that --json prints [].
func collect[T any](ctx context.Context, page func(ctx context.Context, cursor string, limit int) (client.Page[T], error)) ([]T, error) {
	all := []T{}
	for item, err := range client.All(ctx, page) {
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	return all, nil
}

func newRepoShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show TENANT/NAME", Short: "Show a repository and what it takes", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, full, err := connectFor(args[0])
		if err != nil {
			return err
		}
		r, err := c.Repo(cmd.Context(), full)
		if err != nil {
			return fmt.Errorf("repository %s: %w", full, err)
		}
		stats, err := c.Stats(cmd.Context(), string(r.ID))
		if err != nil {
			return err
		}
		both := struct {
			client.Repo
			Stats client.Stats `json:"stats"`
		}{r, stats}
		return show(cmd, *asJSON, both, func(w io.Writer) {
			rows := [][]string{
				{"id", string(r.ID)},
				{"visibility", string(r.Visibility)},
				{"default branch", r.DefaultBranch},
				{"created", day(r.CreatedAt)},
				{"references", fmt.Sprint(stats.Refs)},
				{"objects", fmt.Sprint(stats.Objects)},
				{"size", size(stats.Bytes)},
				{"clone", r.CloneURL},
			}
			if r.SSHURL != "" {
				rows = append(rows, []string{"over SSH", r.SSHURL})
			}
			if s := r.Settings; s != nil {
				rows = append(rows, []string{"deny non-fast-forward", fmt.Sprint(s.DenyNonFastForward)}, []string{"deny deletes", fmt.Sprint(s.DenyDeletes)})
				for _, line := range s.GitConfig {
					rows = append(rows, []string{"git", line})
				}
			}
			table(w, []string{"REPOSITORY", r.FullName()}, rows)
		})
	}
	return cmd
}

// update is the body of the commands that change a repository.
func update(cmd *cobra.Command, c *client.Client, full string, asJSON bool, change client.UpdateRepo, said string) error {
	r, err := c.UpdateRepo(cmd.Context(), full, change)
	if err != nil {
		return fmt.Errorf("change %s: %w", full, err)
	}
	return show(cmd, asJSON, r, func(w io.Writer) { fmt.Fprintf(w, said+"\n", r.FullName()) })
}

// connectFor makes a client for a command about one repository, and gives its name in the form that the API takes.
func connectFor(full string) (*client.Client, string, error) {
	tenant, name, err := splitName(full)
	if err != nil {
		return nil, "", err
	}
	c, err := connect()
	return c, tenant + "/" + name, err
}

func newRepoRename() *cobra.Command {
	cmd := &cobra.Command{Use: "rename TENANT/NAME NEWNAME", Short: "Give a repository another name in its tenant", Args: exactly(2)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, full, err := connectFor(args[0])
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(args[1], ".git")
		return update(cmd, c, full, *asJSON, client.UpdateRepo{Name: &name}, "The repository is now %s.")
	}
	return cmd
}

func newRepoSettings() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "settings TENANT/NAME",
		Short: "Change who may read a repository, its default branch, and what pushes may do",
		Args:  exactly(1),
	}
	asJSON := asJSON(cmd)
	flags := cmd.Flags()
	public := flags.Bool("public", false, "let everybody read it; --public=false makes it private")
	branch := flags.String("default-branch", "", "the branch that HEAD names")
	forward := flags.Bool("deny-non-fast-forward", false, "refuse updates that lose commits; =false allows them")
	deletes := flags.Bool("deny-deletes", false, "refuse to delete references; =false allows it")
	gitLines := flags.StringArray("git", nil, "set a variable of git's protocol, KEY=VALUE, instead of its values so far; KEY alone resets it; repeat for more")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, full, err := connectFor(args[0])
		if err != nil {
			return err
		}
		var change client.UpdateRepo
		if flags.Changed("public") {
			v := client.Private
			if *public {
				v = client.Public
			}
			change.Visibility = &v
		}
		if flags.Changed("default-branch") {
			change.DefaultBranch = branch
		}
		if flags.Changed("deny-non-fast-forward") || flags.Changed("deny-deletes") || flags.Changed("git") {
			// Settings are sent whole: the switch that was not named stays as it is.
			r, err := c.Repo(cmd.Context(), full)
			if err != nil {
				return fmt.Errorf("repository %s: %w", full, err)
			}
			s := client.RepoSettings{}
			if r.Settings != nil {
				s = *r.Settings
			}
			if flags.Changed("deny-non-fast-forward") {
				s.DenyNonFastForward = *forward
			}
			if flags.Changed("deny-deletes") {
				s.DenyDeletes = *deletes
			}
			s.GitConfig = setLines(s.GitConfig, *gitLines)
			change.Settings = &s
		}
		if change == (client.UpdateRepo{}) {
			return usageError{fmt.Errorf("nothing to change; see %q", cmd.CommandPath()+" --help")}
		}
		return update(cmd, c, full, *asJSON, change, "Changed %s.")
	}
	return cmd
}

// setLines changes a list of KEY=VALUE: what it had of the keys that are set goes.
func setLines(list, set []string) []string {
	key := func(line string) string {
		k, _, _ := strings.Cut(line, "=")
		return strings.ToLower(k)
	}
	list = slices.DeleteFunc(slices.Clone(list), func(old string) bool {
		return slices.ContainsFunc(set, func(line string) bool { return key(line) == key(old) })
	})
	for _, line := range set {
		if strings.Contains(line, "=") {
			list = append(list, line)
		}
	}
	return list
}

func newRepoDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete TENANT/NAME", Short: "Delete a repository with all that is in it", Args: exactly(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, full, err := connectFor(args[0])
		if err != nil {
			return err
		}
		if err := c.DeleteRepo(cmd.Context(), full); err != nil {
			return fmt.Errorf("delete %s: %w", full, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Deleted %s.\n", full)
		return nil
	}
	return cmd
}
