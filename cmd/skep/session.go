package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/id"
)

func newSession() *cobra.Command {
	return group("session", "List and end the sessions of browsers", newSessionList(), newSessionRevoke())
}

func newSessionList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the browsers in which you are logged in", Args: exactly(0)}
	asJSON := asJSON(cmd)
	principal := cmd.Flags().String("principal", "", "those of this principal: name or ID")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		sessions, err := collect(cmd.Context(), func(ctx context.Context, cursor string, limit int) (client.Page[client.Session], error) {
			return c.Sessions(ctx, *principal, cursor, limit)
		})
		if err != nil {
			return err
		}
		return show(cmd, *asJSON, sessions, func(w io.Writer) {
			rows := make([][]string, len(sessions))
			for i, s := range sessions {
				rows[i] = []string{string(s.ID), s.Address, day(s.CreatedAt), day(s.UsedAt), day(s.ExpiresAt), s.Agent}
			}
			table(w, []string{"ID", "FROM", "BEGUN", "USED", "ENDS", "BROWSER"}, rows)
		})
	}
	return cmd
}

func newSessionRevoke() *cobra.Command {
	cmd := &cobra.Command{Use: "revoke SESSION_ID", Short: "End a browser's session, at once", Args: exactly(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := id.ParseSession(args[0])
		if err != nil {
			return usageError{fmt.Errorf("%w; \"skep session list\" shows the IDs", err)}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.RevokeSession(cmd.Context(), s); err != nil {
			return fmt.Errorf("end %s: %w", s, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Ended %s.\n", s)
		return nil
	}
	return cmd
}
