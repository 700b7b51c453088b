package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newGroup() *cobra.Command {
	return group("group", "Name principals together, for a tenant's policy", newGroupList(), newGroupJoin(), newGroupLeave())
}

func newGroupList() *cobra.Command {
	cmd := &cobra.Command{Use: "list TENANT", Short: "List a tenant's groups with their members", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		groups, err := c.Groups(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("tenant %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, groups, func(w io.Writer) {
			var rows [][]string
			for _, g := range groups {
				for _, m := range g.Members {
					rows = append(rows, []string{g.Name, m.Name, string(m.ID)})
				}
			}
			table(w, []string{"GROUP", "PRINCIPAL", "ID"}, rows)
		})
	}
	return cmd
}

func newGroupJoin() *cobra.Command {
	cmd := &cobra.Command{Use: "join TENANT GROUP PRINCIPAL", Short: "Put a principal into a group, which is made if need be", Args: exactly(3)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.JoinGroup(cmd.Context(), args[0], args[1], args[2]); err != nil {
			return fmt.Errorf("put %s into group %s of %s: %w", args[2], args[1], args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is in group %s of %s.\n", args[2], args[1], args[0])
		return nil
	}
	return cmd
}

func newGroupLeave() *cobra.Command {
	cmd := &cobra.Command{Use: "leave TENANT GROUP PRINCIPAL", Short: "Take a principal out of a group", Args: exactly(3)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.LeaveGroup(cmd.Context(), args[0], args[1], args[2]); err != nil {
			return fmt.Errorf("take %s out of group %s of %s: %w", args[2], args[1], args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is no longer in group %s of %s.\n", args[2], args[1], args[0])
		return nil
	}
	return cmd
}
