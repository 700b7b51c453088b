package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

func newInvite() *cobra.Command {
	return group("invite", "Invite people into a tenant, and accept invitations", newInviteCreate(), newInviteList(), newInviteRevoke(), newInviteAccept())
}

func newInviteCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create TENANT",
		Short: "Make an invitation; its secret is shown this once",
		Long: `Make an invitation into a tenant, and give the secret to whom it is for: whoever has it may accept, once. It gives no role that you do
not have, and nothing any more if you lose it before it is accepted.`,
		Args: exactly(1),
	}
	asJSON := asJSON(cmd)
	role := cmd.Flags().String("role", string(policy.Reader), "guest, reader, writer or owner")
	name := cmd.Flags().String("name", "", "who may accept it (default: whoever has the secret)")
	ttl := cmd.Flags().String("ttl", "", "how long it is open, 90d at most (default 7d)")
	newAccount := cmd.Flags().Bool("new-account", false, "also for somebody whom the server does not know yet")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(roles, policy.Role(*role)) {
			return usageError{fmt.Errorf("role %q is none of %v", *role, roles)}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		inv, err := c.CreateInvitation(cmd.Context(), args[0], client.CreateInvitation{
			Role: policy.Role(*role), Name: *name, NewAccount: *newAccount, TTL: *ttl,
		})
		if err != nil {
			return fmt.Errorf("invite into %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, inv, func(w io.Writer) {
			fmt.Fprintf(w, "%s\n", inv.Secret)
			how := "skep invite accept SECRET"
			if *newAccount {
				how += `" or, for somebody new, "SKEP_URL=` + c.URL() + ` skep invite accept SECRET --as-new NAME`
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "Invitation %s, as %s, until %s. The secret is not shown again. To accept: \"%s\".\n", inv.ID, inv.Role, day(inv.ExpiresAt), how)
		})
	}
	return cmd
}

func newInviteList() *cobra.Command {
	cmd := &cobra.Command{Use: "list TENANT", Short: "List a tenant's open invitations", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		list, err := c.Invitations(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("tenant %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, list, func(w io.Writer) {
			rows := make([][]string, len(list))
			for i, inv := range list {
				rows[i] = []string{string(inv.ID), string(inv.Role), inv.Name, fmt.Sprint(inv.NewAccount), string(inv.By), day(inv.ExpiresAt)}
			}
			table(w, []string{"ID", "ROLE", "FOR", "NEW ACCOUNT", "BY", "EXPIRES"}, rows)
		})
	}
	return cmd
}

func newInviteRevoke() *cobra.Command {
	cmd := &cobra.Command{Use: "revoke TENANT INVITATION_ID", Short: "Withdraw an invitation", Args: exactly(2)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		i, err := id.ParseInvitation(args[1])
		if err != nil {
			return usageError{fmt.Errorf("%w; \"skep invite list\" shows the IDs", err)}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.RevokeInvitation(cmd.Context(), args[0], i); err != nil {
			return fmt.Errorf("revoke %s: %w", i, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Revoked %s.\n", i)
		return nil
	}
	return cmd
}

func newInviteAccept() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accept SECRET",
		Short: "Accept an invitation, as yourself or as somebody new",
		Long: `Accept an invitation. You get its role with the principal that you are logged in as, with a token of scope admin. With --as-new and an
invitation that allows it, the server makes a principal of that name instead, and prints its first token.`,
		Args: exactly(1),
	}
	asJSON := asJSON(cmd)
	asNew := cmd.Flags().String("as-new", "", "become a new principal of this name")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err == nil && *asNew != "" {
			c, err = client.New(c.URL(), client.Options{UserAgent: "skep/" + version}) // as nobody yet
		}
		if err != nil {
			return err
		}
		done, err := c.AcceptInvitation(cmd.Context(), client.AcceptInvitation{Secret: args[0], Name: *asNew})
		if err != nil {
			return fmt.Errorf("accept invitation: %w", err)
		}
		return show(cmd, *asJSON, done, func(w io.Writer) {
			if done.Token == "" {
				fmt.Fprintf(w, "You are %s of %s now.\n", done.Role, printable(done.Tenant))
				return
			}
			fmt.Fprintf(w, "%s\n", done.Token)
			fmt.Fprintf(cmd.ErrOrStderr(), "You are %s, %s of %s. This is your token for 30 days, not shown again: hand it to \"skep login %s\".\n",
				*asNew, done.Role, printable(done.Tenant), c.URL())
		})
	}
	return cmd
}
