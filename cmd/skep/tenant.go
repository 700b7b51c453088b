package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/policy"
)

func newTenant() *cobra.Command {
	return group("tenant", "Create, list, move, suspend and delete tenants, and say who is what in them",
		newTenantCreate(), newTenantList(), newTenantShow(), newTenantMembers(), newTenantGrant(), newTenantRevoke(),
		newTenantMove(), newTenantSuspend(), newTenantResume(), newTenantDelete(), newTenantRestore(), newTenantExport(), newTenantQuota(), newTenantUsage())
}

func newTenantCreate() *cobra.Command {
	cmd := &cobra.Command{Use: "create PATH", Short: "Make a tenant: acme, or acme/platform below it", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		t, err := c.CreateTenant(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("create tenant %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, t, func(w io.Writer) { fmt.Fprintf(w, "Created tenant %s (%s).\n", t.Path, t.ID) })
	}
	return cmd
}

func newTenantMembers() *cobra.Command {
	cmd := &cobra.Command{Use: "members PATH", Short: "List a tenant's members", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		members, err := c.Members(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("tenant %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, members, func(w io.Writer) {
			rows := make([][]string, len(members))
			for i, m := range members {
				rows[i] = []string{m.Principal.Name, string(m.Role), string(m.Principal.ID)}
			}
			table(w, []string{"PRINCIPAL", "ROLE", "ID"}, rows)
		})
	}
	return cmd
}

// roles are what grant takes.
var roles = []policy.Role{policy.Guest, policy.Reader, policy.Writer, policy.Owner}

func newTenantGrant() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "grant PATH PRINCIPAL ROLE",
		Short: "Make a principal a guest, reader, writer or owner of a tenant and of all below it",
		Args:  exactly(3),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		role := policy.Role(args[2])
		if !slices.Contains(roles, role) {
			return usageError{fmt.Errorf("role %q is none of %v", args[2], roles)}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.SetMember(cmd.Context(), args[0], args[1], role); err != nil {
			return fmt.Errorf("make %s %s of %s: %w", args[1], role, args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is now %s of %s.\n", args[1], role, args[0])
		return nil
	}
	return cmd
}

func newTenantRevoke() *cobra.Command {
	cmd := &cobra.Command{Use: "revoke PATH PRINCIPAL", Short: "End a principal's membership", Args: exactly(2)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.RemoveMember(cmd.Context(), args[0], args[1]); err != nil {
			return fmt.Errorf("end the membership of %s in %s: %w", args[1], args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is no longer a member of %s.\n", args[1], args[0])
		return nil
	}
	return cmd
}
