package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/id"
)

func newKey() *cobra.Command {
	return group("key", "Add, list and remove SSH keys", newKeyAdd(), newKeyList(), newKeyRemove())
}

// keyOwner adds the flag that says whose keys are meant, and finds out.
func keyOwner(cmd *cobra.Command) func(c *client.Client) (string, error) {
	principal := cmd.Flags().String("principal", "", "whose: a principal's name or ID (default yourself)")
	return func(c *client.Client) (string, error) {
		if *principal != "" {
			return *principal, nil
		}
		who, err := c.Whoami(cmd.Context())
		return string(who.Principal), err
	}
}

func newKeyAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add [FILE]",
		Short: "Register a public key: a file that ends with .pub, or standard input",
		Long: `Register a public SSH key, for yourself or, as an administrator, for another principal. It takes a token of scope admin, since the
key will let do all that you may:

    skep key add ~/.ssh/id_ed25519.pub`,
		Args: atMostOne,
	}
	asJSON := asJSON(cmd)
	owner := keyOwner(cmd)
	title := cmd.Flags().String("title", "", "what it is for, shown in lists (default the key's comment)")
	ttl := cmd.Flags().String("ttl", "", "how long it is good: 12h, 365d (default for ever)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text, err := readKey(cmd, args)
		if err != nil {
			return err
		}
		c, err := connect()
		if err != nil {
			return err
		}
		who, err := owner(c)
		if err != nil {
			return err
		}
		k, err := c.AddSSHKey(cmd.Context(), who, client.AddSSHKey{Key: text, Title: *title, TTL: *ttl})
		if err != nil {
			return fmt.Errorf("add key: %w", err)
		}
		return show(cmd, *asJSON, k, func(w io.Writer) { fmt.Fprintf(w, "Added %s, %s %s.\n", k.ID, k.Kind, k.Fingerprint) })
	}
	return cmd
}

// maxKeyBytes is what the server takes.
const maxKeyBytes = 16 << 10

// readKey reads a public key from the named file, or from standard input.
func readKey(cmd *cobra.Command, args []string) (string, error) {
	name := stdinName
	if len(args) == 1 {
		name = args[0]
	}
	b, err := readInput(cmd, name, maxKeyBytes)
	return string(b), err
}

func newKeyList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List SSH keys", Args: exactly(0)}
	asJSON := asJSON(cmd)
	owner := keyOwner(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		who, err := owner(c)
		if err != nil {
			return err
		}
		keys, err := c.SSHKeys(cmd.Context(), who)
		if err != nil {
			return err
		}
		return show(cmd, *asJSON, keys, func(w io.Writer) {
			rows := make([][]string, len(keys))
			for i, k := range keys {
				rows[i] = []string{string(k.ID), k.Title, k.Kind, k.Fingerprint, day(k.CreatedAt), until(k.ExpiresAt), lastUse(k.LastUsedAt, k.LastUsedFrom)}
			}
			table(w, []string{"ID", "TITLE", "KIND", "FINGERPRINT", "ADDED", "EXPIRES", "LAST USED"}, rows)
		})
	}
	return cmd
}

func newKeyRemove() *cobra.Command {
	cmd := &cobra.Command{Use: "remove KEY_ID", Short: "Remove an SSH key", Args: exactly(1)}
	owner := keyOwner(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k, err := id.ParseKey(args[0])
		if err != nil {
			return usageError{fmt.Errorf("%w; \"skep key list\" shows the IDs", err)}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		who, err := owner(c)
		if err != nil {
			return err
		}
		if err := c.RemoveSSHKey(cmd.Context(), who, k); err != nil {
			return fmt.Errorf("remove %s: %w", k, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Removed %s.\n", k)
		return nil
	}
	return cmd
}
