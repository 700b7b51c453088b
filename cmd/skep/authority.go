package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/policy"
)

func newSSHCA() *cobra.Command {
	return group("ssh-ca", "Let somebody sign SSH certificates for a tenant's accounts", newSSHCAAdd(), newSSHCAList(), newSSHCARemove())
}

func newSSHCAAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add TENANT NAME FILE",
		Short: "Trust a certificate authority by its public key: a file that ends with .pub (- is standard input)",
		Long: `Trust an SSH certificate authority to speak for the accounts of a tenant, and for nobody else: a certificate's principal is the whole
name of one of them.

    skep account create acme/ci
    skep ssh-ca add acme vault ca.pub --max-ttl 24h
    ssh-keygen -s ca -I build-7 -n acme/ci -V +1h id_ed25519.pub`,
		Args: exactly(3),
	}
	asJSON := asJSON(cmd)
	var ask client.AddSSHAuthority
	scope := cmd.Flags().String("scope", string(policy.ScopeWrite), "what its certificates let do: read, write or admin")
	cmd.Flags().StringVar(&ask.MaxTTL, "max-ttl", "", "how long a certificate may be good: 24h, 30d (default as long as it says)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var err error
		if ask.Key, err = readKey(cmd, args[2:]); err != nil {
			return err
		}
		ask.Name, ask.Scope = args[1], policy.Scope(*scope)
		c, err := connect()
		if err != nil {
			return err
		}
		a, err := c.AddSSHAuthority(cmd.Context(), args[0], ask)
		if err != nil {
			return fmt.Errorf("trust %s: %w", args[1], err)
		}
		return show(cmd, *asJSON, a, func(w io.Writer) {
			fmt.Fprintf(w, "Accounts of %s may come with certificates of %s, %s %s.\n", args[0], a.FullName, a.Kind, a.Fingerprint)
		})
	}
	return cmd
}

func newSSHCAList() *cobra.Command {
	cmd := &cobra.Command{Use: "list TENANT", Short: "List who may sign SSH certificates for a tenant's accounts", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		list, err := c.SSHAuthorities(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("tenant %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, list, func(w io.Writer) {
			rows := make([][]string, len(list))
			for i, a := range list {
				rows[i] = []string{a.Name, a.Kind, a.Fingerprint, string(a.Scope), a.MaxTTL, day(a.CreatedAt), lastUse(a.LastUsedAt, a.LastUsedFrom)}
			}
			table(w, []string{"NAME", "KIND", "FINGERPRINT", "SCOPE", "AT MOST", "ADDED", "LAST USED"}, rows)
		})
	}
	return cmd
}

func newSSHCARemove() *cobra.Command {
	cmd := &cobra.Command{Use: "remove TENANT NAME", Short: "Refuse an authority's SSH certificates from now on", Args: exactly(2)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.RemoveSSHAuthority(cmd.Context(), args[0], args[1]); err != nil {
			return fmt.Errorf("remove SSH authority %s: %w", args[1], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is not trusted any more.\n", args[1])
		return nil
	}
	return cmd
}
