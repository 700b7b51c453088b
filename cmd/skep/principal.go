package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/policy"
)

func newPrincipal() *cobra.Command {
	return group("principal", "Create, list and delete principals: people, agents, machines",
		newPrincipalCreate(), newPrincipalList(), newPrincipalDelete(), newPrincipalLink(), newPrincipalUnlink(), newPrincipalLinks())
}

func newPrincipalCreate() *cobra.Command {
	cmd := &cobra.Command{Use: "create NAME", Short: "Make a principal", Args: exactly(1)}
	asJSON := asJSON(cmd)
	admin := cmd.Flags().Bool("admin", false, "may do anything on the server")
	class := cmd.Flags().String("class", string(policy.Human), "human, pipeline (CI, bots, agents), operator or system")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		p, err := c.CreatePrincipal(cmd.Context(), client.CreatePrincipal{Name: args[0], Class: policy.Class(*class), Admin: *admin})
		if err != nil {
			return fmt.Errorf("create principal %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, p, func(w io.Writer) {
			fmt.Fprintf(w, "Created principal %s (%s).\n  skep token create --principal %s\n", p.Name, p.ID, p.Name)
		})
	}
	return cmd
}

func newPrincipalList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List all principals", Args: exactly(0)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		principals, err := collect(cmd.Context(), c.Principals)
		if err != nil {
			return err
		}
		return show(cmd, *asJSON, principals, func(w io.Writer) {
			rows := make([][]string, len(principals))
			for i, p := range principals {
				rows[i] = []string{p.Name, string(p.Class), fmt.Sprint(p.Admin), day(p.CreatedAt), string(p.ID)}
			}
			table(w, []string{"PRINCIPAL", "CLASS", "ADMIN", "CREATED", "ID"}, rows)
		})
	}
	return cmd
}

func newPrincipalDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete NAME", Short: "Delete a principal with its tokens and memberships", Args: exactly(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		p, err := c.Principal(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("principal %s: %w", args[0], err)
		}
		if err := c.DeletePrincipal(cmd.Context(), p.ID); err != nil {
			return fmt.Errorf("delete principal %s: %w", args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Deleted principal %s.\n", p.Name)
		return nil
	}
	return cmd
}
