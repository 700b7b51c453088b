package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/id"
)

func newTenantList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [PARENT]",
		Short: "List the tenants that you may see, or the children of one",
		Args:  atMostOne,
	}
	asJSON := asJSON(cmd)
	deleted := cmd.Flags().Bool("deleted", false, "those that were deleted, and that you may restore")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		if *deleted {
			return listDeleted(cmd, c, *asJSON)
		}
		parent := strings.Join(args, "")
		tenants, err := collect(cmd.Context(), func(ctx context.Context, cursor string, limit int) (client.Page[client.Tenant], error) {
			return c.Children(ctx, parent, cursor, limit)
		})
		if err != nil {
			return err
		}
		return show(cmd, *asJSON, tenants, func(w io.Writer) {
			rows := make([][]string, len(tenants))
			for i, t := range tenants {
				rows[i] = []string{t.Path, day(t.CreatedAt), suspension(t), string(t.ID)}
			}
			table(w, []string{"TENANT", "CREATED", "SUSPENDED", "ID"}, rows)
		})
	}
	return cmd
}

func suspension(t client.Tenant) string {
	if t.SuspendedAt == nil {
		return "no"
	}
	return "since " + day(*t.SuspendedAt)
}

func listDeleted(cmd *cobra.Command, c *client.Client, asJSON bool) error {
	tenants, err := collect(cmd.Context(), c.DeletedTenants)
	if err != nil {
		return err
	}
	return show(cmd, asJSON, tenants, func(w io.Writer) {
		rows := make([][]string, len(tenants))
		for i, t := range tenants {
			rows[i] = []string{t.Path, day(t.DeletedAt), day(t.PurgedAfter), string(t.ID)}
		}
		table(w, []string{"TENANT", "DELETED", "KEPT UNTIL", "ID"}, rows)
	})
}

func newTenantShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show PATH", Short: "Show a tenant and how much there is in it", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		t, err := c.Tenant(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("tenant %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, t, func(w io.Writer) {
			parent := "none"
			if i := strings.LastIndexByte(t.Path, '/'); i > 0 {
				parent = t.Path[:i]
			}
			table(w, []string{"TENANT", t.Path}, [][]string{
				{"id", string(t.ID)},
				{"parent", parent},
				{"created", day(t.CreatedAt)},
				{"suspended", suspension(t.Tenant)},
				{"children", fmt.Sprint(t.Children)},
				{"repositories", fmt.Sprint(t.Repos)},
				{"members", fmt.Sprint(t.Members)},
			})
		})
	}
	return cmd
}

// tenantCommand makes a command that changes a tenant, and says what it is now.
func tenantCommand(use, short string, args int, do func(ctx context.Context, c *client.Client, args []string) (client.Tenant, error), said string) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: exactly(args)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		t, err := do(cmd.Context(), c, args)
		if err != nil {
			return fmt.Errorf("%s %s: %w", cmd.Name(), args[0], err)
		}
		return show(cmd, *asJSON, t, func(w io.Writer) { fmt.Fprintf(w, said+"\n", t.Path) })
	}
	return cmd
}

func newTenantMove() *cobra.Command {
	cmd := tenantCommand("move PATH NEWPATH", "Give a tenant another parent or name, with all below it", 2,
		func(ctx context.Context, c *client.Client, args []string) (client.Tenant, error) {
			return c.MoveTenant(ctx, args[0], args[1])
		}, "The tenant is now %s. Nothing leads there from its old path.")
	cmd.Long = `Give a tenant another parent or name, with all below it. The old paths are gone: there are no redirects, so remotes
need their new addresses. It takes tenant.admin of the tenant and of the parent that it leaves, and tenant.create where it goes.`
	return cmd
}

func newTenantSuspend() *cobra.Command {
	return tenantCommand("suspend PATH", "Let nobody read or write in a tenant and below it, until it is resumed", 1,
		func(ctx context.Context, c *client.Client, args []string) (client.Tenant, error) {
			return c.SuspendTenant(ctx, args[0])
		}, "Suspended %s and all below it.")
}

func newTenantResume() *cobra.Command {
	return tenantCommand("resume PATH", "End a tenant's suspension", 1,
		func(ctx context.Context, c *client.Client, args []string) (client.Tenant, error) {
			return c.ResumeTenant(ctx, args[0])
		}, "Resumed %s.")
}

func newTenantDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete PATH",
		Short: "Delete a tenant; for 30 days it can be restored",
		Long: `Delete a tenant. It is gone at once for everybody, and its path is free. Until its time is over (30 days, unless the server says
otherwise) "skep tenant list --deleted" shows it to who governs it from above, and "skep tenant restore" brings it back.`,
		Args: exactly(1),
	}
	recursive := cmd.Flags().Bool("recursive", false, "with its children and repositories; without this, a tenant that has some is refused")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.DeleteTenant(cmd.Context(), args[0], *recursive); err != nil {
			return fmt.Errorf("delete tenant %s: %w", args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Deleted tenant %s.\n", args[0])
		return nil
	}
	return cmd
}

func newTenantRestore() *cobra.Command {
	cmd := &cobra.Command{Use: "restore ID", Short: "Bring a deleted tenant back, with all that went with it", Args: exactly(1)}
	asJSON := asJSON(cmd)
	as := cmd.Flags().String("as", "", "under this path (default: where it was)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := id.ParseTenant(args[0])
		if err != nil {
			return usageError{fmt.Errorf("%w; \"skep tenant list --deleted\" shows the IDs", err)}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		back, err := c.RestoreTenant(cmd.Context(), t, *as)
		if err != nil {
			return fmt.Errorf("restore %s: %w", t, err)
		}
		return show(cmd, *asJSON, back, func(w io.Writer) { fmt.Fprintf(w, "Restored tenant %s.\n", back.Path) })
	}
	return cmd
}
