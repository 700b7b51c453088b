package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

func newAccount() *cobra.Command {
	return group("account", "Create, list and delete a tenant's accounts, for its machines", newAccountCreate(), newAccountList(), newAccountDelete())
}

// splitAccount reads TENANT/NAME.
func splitAccount(s string) (tenant, name string, err error) {
	i := strings.LastIndexByte(s, '/')
	if i <= 0 || i == len(s)-1 {
		return "", "", usageError{fmt.Errorf("account %q is not of the form TENANT/NAME: %w", s, errkind.Invalid)}
	}
	return s[:i], s[i+1:], nil
}

func newAccountCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create TENANT/NAME",
		Short: "Make an account that belongs to a tenant",
		Long: `Make an account for a machine of a tenant: CI, a bot, an agent. It belongs to the tenant, whose administrators make and end its tokens;
it gets roles there and below only, and goes when the tenant goes. It begins without a role: see "skep tenant grant".`,
		Args: exactly(1),
	}
	asJSON := asJSON(cmd)
	class := cmd.Flags().String("class", string(policy.Pipeline), "pipeline (CI, bots, agents) or operator")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tenant, name, err := splitAccount(args[0])
		if err != nil {
			return err
		}
		c, err := connect()
		if err != nil {
			return err
		}
		p, err := c.CreateAccount(cmd.Context(), tenant, client.CreateAccount{Name: name, Class: policy.Class(*class)})
		if err != nil {
			return fmt.Errorf("create account %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, p, func(w io.Writer) {
			fmt.Fprintf(w, "Created account %s (%s).\n  skep tenant grant %s %s writer\n  skep token create --principal %s\n", p.Name, p.ID, tenant, p.Name, p.Name)
		})
	}
	return cmd
}

func newAccountList() *cobra.Command {
	cmd := &cobra.Command{Use: "list TENANT", Short: "List a tenant's accounts", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		accounts, err := collect(cmd.Context(), func(ctx context.Context, cursor string, limit int) (client.Page[client.Principal], error) {
			return c.Accounts(ctx, args[0], cursor, limit)
		})
		if err != nil {
			return fmt.Errorf("tenant %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, accounts, func(w io.Writer) {
			rows := make([][]string, len(accounts))
			for i, p := range accounts {
				rows[i] = []string{p.Name, string(p.Class), day(p.CreatedAt), string(p.ID)}
			}
			table(w, []string{"ACCOUNT", "CLASS", "CREATED", "ID"}, rows)
		})
	}
	return cmd
}

func newAccountDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete TENANT/NAME", Short: "Delete an account with its tokens and roles", Args: exactly(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tenant, name, err := splitAccount(args[0])
		if err != nil {
			return err
		}
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.DeleteAccount(cmd.Context(), tenant, name); err != nil {
			return fmt.Errorf("delete account %s: %w", args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Deleted account %s.\n", args[0])
		return nil
	}
	return cmd
}
