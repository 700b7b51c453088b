package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

func newToken() *cobra.Command {
	return group("token", "Create, list, rotate and revoke tokens", newTokenCreate(), newTokenList(), newTokenRotate(), newTokenRevoke())
}

func newTokenCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token; its secret is shown this once",
		Long: `Make a token for yourself, for an account of a tenant that you administer (acme/ci) or, as an administrator of the server, for
anybody. With --repo it is good for one repository only: an agent's credential. A token never lets do more than the one that
asks for it, and ends with it.`,
		Args: exactly(0),
	}
	asJSON := asJSON(cmd)
	repo := cmd.Flags().String("repo", "", "good for this repository only: TENANT/NAME")
	scope := cmd.Flags().String("scope", "", "read, write or admin (default read with --repo, otherwise write)")
	ttl := cmd.Flags().String("ttl", "", "how long it lives: 30m, 1h, 30d (default 1h with --repo, otherwise for ever)")
	name := cmd.Flags().String("name", "", "what it is for, shown in lists")
	principal := cmd.Flags().String("principal", "", "for whom: a principal's name or ID (default yourself)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ask := client.CreateToken{Repo: *repo, Scope: policy.Scope(*scope), TTL: *ttl, Name: *name}
		if *repo != "" {
			if _, _, err := splitName(*repo); err != nil {
				return err
			}
		}
		if ask.Scope == "" {
			ask.Scope = policy.ScopeWrite
			if *repo != "" {
				ask.Scope = policy.ScopeRead
			}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		if *principal != "" {
			p, err := c.Principal(cmd.Context(), *principal)
			if err != nil {
				return fmt.Errorf("principal %s: %w", *principal, err)
			}
			ask.Principal = p.ID
		}
		t, err := c.CreateToken(cmd.Context(), ask)
		if err != nil {
			return fmt.Errorf("create token: %w", err)
		}
		return show(cmd, *asJSON, t, func(w io.Writer) {
			fmt.Fprintf(w, "%s\n", t.Secret)
			fmt.Fprintf(cmd.ErrOrStderr(), "Token %s, scope %s, expires %s. The secret is not shown again.\n", t.ID, t.Scope, until(t.ExpiresAt))
		})
	}
	return cmd
}

func newTokenList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List your tokens, or those of a repository or a principal", Args: exactly(0)}
	asJSON := asJSON(cmd)
	repo := cmd.Flags().String("repo", "", "those of this repository: TENANT/NAME")
	principal := cmd.Flags().String("principal", "", "those of this principal: name or ID")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		f := client.TokenFilter{Repo: *repo}
		if *principal != "" {
			p, err := c.Principal(cmd.Context(), *principal)
			if err != nil {
				return fmt.Errorf("principal %s: %w", *principal, err)
			}
			f.Principal = p.ID
		}
		tokens, err := collect(cmd.Context(), func(ctx context.Context, cursor string, limit int) (client.Page[client.Token], error) {
			return c.Tokens(ctx, f, cursor, limit)
		})
		if err != nil {
			return err
		}
		return show(cmd, *asJSON, tokens, func(w io.Writer) {
			rows := make([][]string, len(tokens))
			for i, t := range tokens {
				rows[i] = []string{string(t.ID), t.Prefix, t.Name, string(t.Scope), string(t.Repo), day(t.CreatedAt), until(t.ExpiresAt), lastUse(t.LastUsedAt, t.LastUsedFrom)}
			}
			table(w, []string{"ID", "BEGINS", "NAME", "SCOPE", "REPOSITORY", "CREATED", "EXPIRES", "LAST USED"}, rows)
		})
	}
	return cmd
}

func lastUse(at *time.Time, from string) string {
	if at == nil {
		return "never"
	}
	return strings.TrimRight(day(*at)+" "+from, " ")
}

func newTokenRotate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the secret of the token in use; the new one is shown this once",
		Long: `Replace the secret of the token that this command is run with. The old secret ends at once; the tokens that were made with
it stay. What is stored must be replaced by hand: run "skep login" again, or set SKEP_TOKEN.`,
		Args: exactly(0),
	}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		t, err := c.RotateToken(cmd.Context())
		if err != nil {
			return fmt.Errorf("rotate token: %w", err)
		}
		return show(cmd, *asJSON, t, func(w io.Writer) {
			fmt.Fprintf(w, "%s\n", t.Secret)
			fmt.Fprintf(cmd.ErrOrStderr(), "Token %s has a new secret, which is not shown again. The old one is refused.\n", t.ID)
		})
	}
	return cmd
}

func newTokenRevoke() *cobra.Command {
	cmd := &cobra.Command{Use: "revoke TOKEN_ID", Short: "End a token, and those that were made with it, at once", Args: exactly(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := id.ParseToken(args[0])
		if err != nil {
			return usageError{fmt.Errorf("%w; \"skep token list\" shows the IDs", err)}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.RevokeToken(cmd.Context(), t); err != nil {
			return fmt.Errorf("revoke %s: %w", t, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Revoked %s.\n", t)
		return nil
	}
	return cmd
}
