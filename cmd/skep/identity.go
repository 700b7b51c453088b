package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
)

// identityFlags name somebody at a login provider.
func identityFlags(cmd *cobra.Command) *client.LinkIdentity {
	var i client.LinkIdentity
	cmd.Flags().StringVar(&i.Issuer, "issuer", "", "the provider's URL, as it calls itself")
	cmd.Flags().StringVar(&i.Subject, "subject", "", "what it calls the person, for ever: the claim sub")
	return &i
}

func newPrincipalLink() *cobra.Command {
	cmd := &cobra.Command{
		Use: "link NAME --issuer URL --subject SUBJECT", Short: "Let somebody whom a login provider knows log in as a principal", Args: exactly(1),
		Long: `Let somebody whom an OpenID Connect provider knows log in as a principal. Whoever logs in and is linked with nobody is shown
what to put here.`,
	}
	asJSON := asJSON(cmd)
	i := identityFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if i.Issuer == "" || i.Subject == "" {
			return usageError{fmt.Errorf("usage: %s", cmd.UseLine())}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		made, err := c.LinkIdentity(cmd.Context(), args[0], *i)
		if err != nil {
			return fmt.Errorf("link %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, made, func(w io.Writer) {
			fmt.Fprintf(w, "%s of %s logs in as %s.\n", printable(made.Subject), printable(made.Issuer), args[0])
		})
	}
	return cmd
}

func newPrincipalUnlink() *cobra.Command {
	cmd := &cobra.Command{
		Use: "unlink NAME --issuer URL --subject SUBJECT", Short: "Take that back", Args: exactly(1),
		Long: `Let somebody whom a login provider knows not log in as a principal any more. Sessions and tokens that there are go on: see
skep session list --principal and skep token list --principal.`,
	}
	i := identityFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if i.Issuer == "" || i.Subject == "" {
			return usageError{fmt.Errorf("usage: %s", cmd.UseLine())}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.UnlinkIdentity(cmd.Context(), args[0], *i); err != nil {
			return fmt.Errorf("unlink %s: %w", args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s of %s no longer logs in as %s.\n", printable(i.Subject), printable(i.Issuer), args[0])
		return nil
	}
	return cmd
}

func newPrincipalLinks() *cobra.Command {
	cmd := &cobra.Command{Use: "links NAME", Short: "List whom at login providers a principal is", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		list, err := c.Identities(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("links of %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, list, func(w io.Writer) {
			rows := make([][]string, len(list))
			for i, l := range list {
				rows[i] = []string{l.Issuer, l.Subject, day(l.CreatedAt), until(l.UsedAt)}
			}
			table(w, []string{"ISSUER", "SUBJECT", "LINKED", "USED"}, rows)
		})
	}
	return cmd
}
