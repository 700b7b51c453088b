package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

func newIssuer() *cobra.Command {
	return group("issuer", "Let somebody sign tokens (JWTs) that count in a tenant",
		newIssuerAdd(), newIssuerList(), newIssuerShow(), newIssuerKeys(), newIssuerMap(), newIssuerUnmap(), newIssuerRemove())
}

func newIssuerAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add TENANT NAME --iss ISS (--jwks FILE | --jwks-url URL)",
		Short: "Trust an issuer's tokens in a tenant and below",
		Long: `Trust tokens (JWTs, signed with ES256, RS256 or EdDSA) that an issuer makes for the tenant. Each sub is then a principal of its
own, named TENANT/NAME:SUB, with the role that you say; or with --listed only the subs that you map to principals count.`,
		Args: exactly(2),
	}
	asJSON := asJSON(cmd)
	var ask client.CreateIssuer
	cmd.Flags().StringVar(&ask.Iss, "iss", "", "the iss claim of its tokens")
	cmd.Flags().StringVar(&ask.Audience, "audience", "", "the aud claim that they must have (default the server's public address)")
	role := cmd.Flags().String("role", string(policy.Writer), "the most that they give: guest, reader, writer or owner")
	cmd.Flags().BoolVar(&ask.Listed, "listed", false, `only subs that were mapped with "skep issuer map" count`)
	file := cmd.Flags().String("jwks", "", "a file with its public keys, as a JWK set (- is standard input)")
	cmd.Flags().StringVar(&ask.JWKSURL, "jwks-url", "", "or where the set is: it is fetched from there, now and again")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if ask.Iss == "" || (*file == "") == (ask.JWKSURL == "") {
			return usageError{fmt.Errorf("--iss and one of --jwks and --jwks-url are needed; see %q", cmd.CommandPath()+" --help")}
		}
		ask.Name, ask.Role = args[1], policy.Role(*role)
		var err error
		if ask.JWKS, err = readJWKS(cmd, *file); err != nil {
			return err
		}
		c, err := connect()
		if err != nil {
			return err
		}
		i, err := c.CreateIssuer(cmd.Context(), args[0], ask)
		if err != nil {
			return fmt.Errorf("trust issuer %s: %w", args[1], err)
		}
		return show(cmd, *asJSON, i, func(w io.Writer) {
			fmt.Fprintf(w, "%s trusts tokens of %s for %s, signed with one of %d keys.\n", args[0], i.Iss, i.Audience, len(i.Keys))
		})
	}
	return cmd
}

// maxJWKSBytes is a little more than the server takes.
const maxJWKSBytes = 128 << 10

// readJWKS reads a JWK set; without a file there is none.
func readJWKS(cmd *cobra.Command, file string) (set map[string]any, err error) {
	if file == "" {
		return nil, nil
	}
	b, err := readInput(cmd, file, maxJWKSBytes)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &set); err != nil || set == nil {
		return nil, fmt.Errorf("%s is no JWK set, such as {\"keys\": [...]}: %w", file, errkind.Invalid)
	}
	return set, nil
}

func newIssuerList() *cobra.Command {
	cmd := &cobra.Command{Use: "list TENANT", Short: "List whose tokens count in a tenant", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		list, err := c.Issuers(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("tenant %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, list, func(w io.Writer) {
			rows := make([][]string, len(list))
			for n, i := range list {
				rows[n] = []string{i.Name, i.Iss, i.Audience, string(i.Role), fmt.Sprint(len(i.Keys)), day(i.KeysFetchedAt)}
			}
			table(w, []string{"NAME", "ISS", "AUDIENCE", "ROLE", "KEYS", "OF"}, rows)
		})
	}
	return cmd
}

func newIssuerShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show TENANT NAME", Short: "Show an issuer with its keys and subjects", Args: exactly(2)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		i, err := c.Issuer(cmd.Context(), args[0], args[1])
		if err != nil {
			return fmt.Errorf("issuer %s of %s: %w", args[1], args[0], err)
		}
		return show(cmd, *asJSON, i, func(w io.Writer) {
			rows := [][]string{
				{"name", i.FullName},
				{"iss", i.Iss},
				{"audience", i.Audience},
				{"role", string(i.Role)},
				{"listed", fmt.Sprint(i.Listed)},
				{"keys at", i.JWKSURL},
				{"keys of", day(i.KeysFetchedAt)},
			}
			for _, k := range i.Keys {
				rows = append(rows, []string{"key", k})
			}
			for _, s := range i.Subjects {
				rows = append(rows, []string{"subject", s.Subject + " is " + s.Principal.Name})
			}
			table(w, []string{"WHAT", "VALUE"}, rows)
		})
	}
	return cmd
}

func newIssuerKeys() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys TENANT NAME [--jwks FILE]",
		Short: "Replace an issuer's keys, or fetch them again from its URL; what the old ones signed is refused at once",
		Args:  exactly(2),
	}
	file := cmd.Flags().String("jwks", "", "a file with the new set (- is standard input); without it they are fetched")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		set, err := readJWKS(cmd, *file)
		if err != nil {
			return err
		}
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.SetIssuerKeys(cmd.Context(), args[0], args[1], client.SetIssuerKeys{JWKS: set}); err != nil {
			return fmt.Errorf("keys of issuer %s: %w", args[1], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s has its new keys.\n", args[1])
		return nil
	}
	return cmd
}

func newIssuerMap() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "map TENANT NAME SUB PRINCIPAL",
		Short: "Let a sub of an issuer's mean a principal: yourself, or as the server's administrator anybody",
		Args:  exactly(4),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.MapSubject(cmd.Context(), args[0], args[1], args[2], args[3]); err != nil {
			return fmt.Errorf("map %s: %w", args[2], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s of %s is %s, in %s.\n", args[2], args[1], args[3], args[0])
		return nil
	}
	return cmd
}

func newIssuerUnmap() *cobra.Command {
	cmd := &cobra.Command{Use: "unmap TENANT NAME SUB", Short: "Let a sub of an issuer's mean no principal any more", Args: exactly(3)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.UnmapSubject(cmd.Context(), args[0], args[1], args[2]); err != nil {
			return fmt.Errorf("unmap %s: %w", args[2], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s of %s is no principal any more.\n", args[2], args[1])
		return nil
	}
	return cmd
}

func newIssuerRemove() *cobra.Command {
	cmd := &cobra.Command{Use: "remove TENANT NAME", Short: "Refuse an issuer's tokens from now on", Args: exactly(2)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.RemoveIssuer(cmd.Context(), args[0], args[1]); err != nil {
			return fmt.Errorf("remove issuer %s: %w", args[1], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is not trusted any more.\n", args[1])
		return nil
	}
	return cmd
}
