package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/secret"
)

func newSecret() *cobra.Command {
	return group("secret", "Set, list, restore and delete secrets of a tenant or a repository; nobody reads them",
		newSecretSet(), newSecretList(), newSecretVersions(), newSecretRestore(), newSecretDelete())
}

// secretOwner adds the flags that say what a secret belongs to.
func secretOwner(cmd *cobra.Command) func() (client.SecretOwner, error) {
	tenant := cmd.Flags().String("tenant", "", "of this tenant: PATH")
	repo := cmd.Flags().String("repo", "", "of this repository: TENANT/NAME")
	return func() (client.SecretOwner, error) {
		switch {
		case (*tenant == "") == (*repo == ""):
			return client.SecretOwner{}, usageError{fmt.Errorf("either --tenant or --repo is needed; see %q", cmd.CommandPath()+" --help")}
		case *tenant != "":
			return client.SecretsOfTenant(*tenant), nil
		}
		t, name, err := splitName(*repo)
		return client.SecretsOfRepo(t + "/" + name), err
	}
}

func newSecretSet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Give a secret a value, which is read from standard input or a file",
		Long: `Give a secret a value. It is read from standard input, where a line feed at the end does not belong to it, or from a file, where it
does. So it is in no process list and no shell's history:

    pass deploy-key | skep secret set DEPLOY_KEY --repo acme/api`,
		Args: exactly(1),
	}
	asJSON := asJSON(cmd)
	file := cmd.Flags().String("from-file", "", "read the value from this file")
	owner := secretOwner(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o, err := owner()
		if err != nil {
			return err
		}
		value, err := readSecret(cmd, *file)
		if err != nil {
			return err
		}
		c, err := connect()
		if err != nil {
			return err
		}
		v, err := c.SetSecret(cmd.Context(), o, args[0], value)
		if err != nil {
			return fmt.Errorf("set %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, v, func(w io.Writer) { fmt.Fprintf(w, "Set %s, version %d.\n", args[0], v.Version) })
	}
	return cmd
}

// readSecret reads a value, no further than one may be long.
func readSecret(cmd *cobra.Command, file string) (string, error) {
	if file == "" {
		file = stdinName
	}
	if f, ok := cmd.InOrStdin().(*os.File); ok && file == stdinName && isTerminal(f) {
		return "", usageError{fmt.Errorf("the value would be shown on this terminal: pipe it in, or use --from-file")}
	}
	b, err := readInput(cmd, file, secret.MaxValueBytes+2) // and a line's end
	if err != nil {
		return "", err
	}
	value := string(b)
	if file == stdinName {
		value = strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r")
	}
	switch {
	case value == "":
		return "", fmt.Errorf("the value is empty: %w", errkind.Invalid)
	case len(value) > secret.MaxValueBytes:
		return "", fmt.Errorf("the value is longer than %d bytes: %w", secret.MaxValueBytes, errkind.TooLarge)
	case !utf8.ValidString(value): // which JSON cannot carry
		return "", fmt.Errorf("the value is not text in UTF-8: encode it, for example with base64: %w", errkind.Invalid)
	}
	return value, nil
}

func newSecretList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the names of secrets", Args: exactly(0)}
	asJSON := asJSON(cmd)
	owner := secretOwner(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list, err := listSecrets(cmd, owner)
		if err != nil {
			return err
		}
		return show(cmd, *asJSON, list, func(w io.Writer) {
			rows := make([][]string, len(list))
			for i, s := range list {
				newest := s.Versions[0]
				rows[i] = []string{s.Name, strconv.FormatInt(s.Version, 10), day(newest.CreatedAt), string(newest.CreatedBy)}
			}
			table(w, []string{"NAME", "VERSION", "SET", "BY"}, rows)
		})
	}
	return cmd
}

func listSecrets(cmd *cobra.Command, owner func() (client.SecretOwner, error)) ([]client.Secret, error) {
	o, err := owner()
	if err != nil {
		return nil, err
	}
	c, err := connect()
	if err != nil {
		return nil, err
	}
	list, err := c.Secrets(cmd.Context(), o)
	if err != nil {
		return nil, fmt.Errorf("list secrets: %w", err)
	}
	return list, nil
}

func newSecretVersions() *cobra.Command {
	cmd := &cobra.Command{Use: "versions NAME", Short: "List the versions of a secret, the newest first", Args: exactly(1)}
	asJSON := asJSON(cmd)
	owner := secretOwner(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		list, err := listSecrets(cmd, owner)
		if err != nil {
			return err
		}
		for _, s := range list {
			if s.Name != args[0] {
				continue
			}
			return show(cmd, *asJSON, s.Versions, func(w io.Writer) {
				rows := make([][]string, len(s.Versions))
				for i, v := range s.Versions {
					rows[i] = []string{strconv.FormatInt(v.Version, 10), day(v.CreatedAt), string(v.CreatedBy)}
				}
				table(w, []string{"VERSION", "SET", "BY"}, rows)
			})
		}
		return fmt.Errorf("there is no secret %s: %w", args[0], errkind.NotFound)
	}
	return cmd
}

func newSecretRestore() *cobra.Command {
	cmd := &cobra.Command{Use: "restore NAME --version N", Short: "Make the value of an older version the newest one", Args: exactly(1)}
	asJSON := asJSON(cmd)
	version := cmd.Flags().Int64("version", 0, "the version to go back to")
	owner := secretOwner(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o, err := owner()
		if err != nil {
			return err
		}
		if *version < 1 {
			return usageError{fmt.Errorf("--version is needed; see %q", cmd.CommandPath()+" --help")}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		v, err := c.RestoreSecret(cmd.Context(), o, args[0], *version)
		if err != nil {
			return fmt.Errorf("restore %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, v, func(w io.Writer) {
			fmt.Fprintf(w, "Version %d of %s is what version %d was.\n", v.Version, args[0], *version)
		})
	}
	return cmd
}

func newSecretDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete NAME", Short: "Delete a secret with all its versions", Args: exactly(1)}
	owner := secretOwner(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o, err := owner()
		if err != nil {
			return err
		}
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.DeleteSecret(cmd.Context(), o, args[0]); err != nil {
			return fmt.Errorf("delete %s: %w", args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Deleted %s.\n", args[0])
		return nil
	}
	return cmd
}
