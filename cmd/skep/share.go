package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
)

func newShare() *cobra.Command {
	return group("share", "Let tenants below read a repository of yours", newShareAdd(), newShareList(), newShareRemove())
}

// withTenant adds the flag that names the tenant.
func withTenant(cmd *cobra.Command) *string {
	with := cmd.Flags().String("with", "", "the tenant, which is below the repository's")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if *with == "" {
			return usageError{fmt.Errorf("--with is missing: usage: %s", cmd.UseLine())}
		}
		return nil
	}
	return with
}

func newShareAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add TENANT/NAME --with TENANT",
		Short: "Let whoever reads in a tenant below read the repository, as a submodule for instance",
		Args:  exactly(1),
	}
	asJSON := asJSON(cmd)
	with := withTenant(cmd)
	children := cmd.Flags().Bool("with-children", false, "with the tenants below that one too, those made later among them")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, full, err := connectFor(args[0])
		if err != nil {
			return err
		}
		s, err := c.SetShare(cmd.Context(), full, *with, client.SetShare{Children: *children})
		if err != nil {
			return fmt.Errorf("share %s with %s: %w", full, *with, err)
		}
		return show(cmd, *asJSON, s, func(w io.Writer) { fmt.Fprintf(w, "%s is shared with %s%s.\n", full, s.Tenant, andBelow(s)) })
	}
	return cmd
}

func andBelow(s client.Share) string {
	if s.Children {
		return " and all below it"
	}
	return ""
}

func newShareList() *cobra.Command {
	cmd := &cobra.Command{Use: "list TENANT/NAME", Short: "List the tenants that a repository is shared with", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, full, err := connectFor(args[0])
		if err != nil {
			return err
		}
		shares, err := c.Shares(cmd.Context(), full)
		if err != nil {
			return fmt.Errorf("repository %s: %w", full, err)
		}
		return show(cmd, *asJSON, shares, func(w io.Writer) {
			rows := make([][]string, len(shares))
			for i, s := range shares {
				rows[i] = []string{s.Tenant, fmt.Sprint(s.Children), day(s.CreatedAt)}
			}
			table(w, []string{"TENANT", "AND BELOW", "SINCE"}, rows)
		})
	}
	return cmd
}

func newShareRemove() *cobra.Command {
	cmd := &cobra.Command{Use: "remove TENANT/NAME --with TENANT", Short: "End a share", Args: exactly(1)}
	with := withTenant(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, full, err := connectFor(args[0])
		if err != nil {
			return err
		}
		if err := c.RemoveShare(cmd.Context(), full, *with); err != nil {
			return fmt.Errorf("end the share of %s with %s: %w", full, *with, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is no longer shared with %s.\n", full, *with)
		return nil
	}
	return cmd
}
