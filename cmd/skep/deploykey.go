package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/id"
)

func newDeployKey() *cobra.Command {
	return group("deploy-key", "Let SSH keys use one repository each", newDeployKeyAdd(), newDeployKeyList(), newDeployKeyRemove())
}

func newDeployKeyAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add TENANT/NAME [FILE]",
		Short: "Let a public key clone a repository: a file that ends with .pub, or standard input",
		Long: `Let whoever has an SSH key clone one repository, and with --write push to it. The key is nobody's own: it is for machines, and goes on
when the one who added it leaves.

    ssh-keygen -t ed25519 -N "" -f deploy
    skep deploy-key add acme/api deploy.pub --title "production"`,
		Args: oneTo(2),
	}
	asJSON := asJSON(cmd)
	var ask client.AddDeployKey
	cmd.Flags().BoolVar(&ask.Write, "write", false, "let it push as well")
	cmd.Flags().StringVar(&ask.Title, "title", "", "what it is for, shown in lists (default the key's comment)")
	cmd.Flags().StringVar(&ask.TTL, "ttl", "", "how long it is good: 12h, 365d (default for ever)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var err error
		if ask.Key, err = readKey(cmd, args[1:]); err != nil {
			return err
		}
		c, full, err := connectFor(args[0])
		if err != nil {
			return err
		}
		k, err := c.AddDeployKey(cmd.Context(), full, ask)
		if err != nil {
			return fmt.Errorf("add deploy key to %s: %w", full, err)
		}
		return show(cmd, *asJSON, k, func(w io.Writer) {
			fmt.Fprintf(w, "Added %s, %s %s, which %s %s.\n", k.ID, k.Kind, k.Fingerprint, mayDo(k), full)
		})
	}
	return cmd
}

func mayDo(k client.DeployKey) string {
	if k.Write {
		return "reads and writes"
	}
	return "reads"
}

func newDeployKeyList() *cobra.Command {
	cmd := &cobra.Command{Use: "list TENANT/NAME", Short: "List the SSH keys of a repository", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, full, err := connectFor(args[0])
		if err != nil {
			return err
		}
		keys, err := c.DeployKeys(cmd.Context(), full)
		if err != nil {
			return fmt.Errorf("repository %s: %w", full, err)
		}
		return show(cmd, *asJSON, keys, func(w io.Writer) {
			rows := make([][]string, len(keys))
			for i, k := range keys {
				rows[i] = []string{string(k.ID), k.Title, mayDo(k), k.Kind, k.Fingerprint, day(k.CreatedAt), until(k.ExpiresAt), lastUse(k.LastUsedAt, k.LastUsedFrom)}
			}
			table(w, []string{"ID", "TITLE", "MAY", "KIND", "FINGERPRINT", "ADDED", "EXPIRES", "LAST USED"}, rows)
		})
	}
	return cmd
}

func newDeployKeyRemove() *cobra.Command {
	cmd := &cobra.Command{Use: "remove TENANT/NAME KEY_ID", Short: "Refuse an SSH key of a repository from now on", Args: exactly(2)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k, err := id.ParseDeployKey(args[1])
		if err != nil {
			return usageError{fmt.Errorf("%w; \"skep deploy-key list\" shows the IDs", err)}
		}
		c, full, err := connectFor(args[0])
		if err != nil {
			return err
		}
		if err := c.RemoveDeployKey(cmd.Context(), full, k); err != nil {
			return fmt.Errorf("remove %s: %w", k, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Removed %s.\n", k)
		return nil
	}
	return cmd
}
