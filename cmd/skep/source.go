package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
)

func newPolicySource() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "source TENANT",
		Short: "Let a tenant's policy live in a repository",
		Long: `Let a tenant's policy live in a repository. A push that changes the file is refused if the document is not valid, and otherwise puts
it into effect. To change it takes the right to administer the tenant as well, unless it is delegated. Without flags it says where
the policy lives.`,
		Args: exactly(1),
	}
	var s client.SetPolicySource
	cmd.Flags().StringVar(&s.Repo, "repo", "", "the repository: TENANT/NAME")
	cmd.Flags().StringVar(&s.Ref, "ref", "refs/heads/main", "the reference")
	cmd.Flags().StringVar(&s.Path, "path", "policy.toml", "the file")
	cmd.Flags().BoolVar(&s.Delegated, "delegate", false, "let whoever may push there change it")
	remove := cmd.Flags().Bool("remove", false, "end it; the document stays as it is")
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *remove && s.Repo != "" {
			return usageError{fmt.Errorf("either --repo or --remove; see %q", cmd.CommandPath()+" --help")}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		if *remove {
			if err := c.RemovePolicySource(cmd.Context(), args[0]); err != nil {
				return fmt.Errorf("policy of %s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The policy of %s lives in no repository any more, and counts on as it is.\n", args[0])
			return nil
		}
		var p client.Policy
		if s.Repo == "" {
			p, err = c.Policy(cmd.Context(), args[0])
		} else {
			p, err = c.SetPolicySource(cmd.Context(), args[0], s)
		}
		if err != nil {
			return fmt.Errorf("policy of %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, p, func(w io.Writer) {
			if p.Source == nil {
				fmt.Fprintf(w, "The policy of %s lives in no repository.\n", args[0])
				return
			}
			fmt.Fprintf(w, "The policy of %s lives in %s, %s, %s; version %d is of commit %s.\n",
				args[0], printable(p.Source.Repo), printable(p.Source.Ref), printable(p.Source.Path), p.Version, p.Source.Commit)
		})
	}
	return cmd
}
