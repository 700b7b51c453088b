package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

func newCert() *cobra.Command {
	return group("cert", "Say whose client certificates are", newCertAdd(), newCertList(), newCertRemove())
}

func newCertAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add --principal NAME (--subject CN | --san KIND:VALUE | --fingerprint SHA256)",
		Short: "Let client certificates with a name in, as a principal",
		Long: `Let client certificates in, as a principal: those with a common name, with a subject alternative name (dns:ci.example.org,
email:bob@example.org or uri:spiffe://example.org/ci), or the one with a fingerprint. The server must have been started with
--tls-client-ca, and an authority in that file must have signed them.`,
		Args: exactly(0),
	}
	asJSON := asJSON(cmd)
	var ask client.CreateCertificate
	cmd.Flags().StringVar(&ask.Principal, "principal", "", "as whom: a principal's name or ID")
	subject := cmd.Flags().String("subject", "", "by the subject's common name")
	san := cmd.Flags().String("san", "", "by a subject alternative name: dns:NAME, email:ADDRESS or uri:URI")
	fingerprint := cmd.Flags().String("fingerprint", "", "by the SHA-256 of the certificate, in hexadecimal digits with or without colons")
	scope := cmd.Flags().String("scope", string(policy.ScopeWrite), "what they let their principal do: read, write or admin")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ask.Scope = policy.Scope(*scope)
		given := 0
		for kind, value := range map[string]string{"cn": *subject, "san": *san, "fingerprint": *fingerprint} {
			if value != "" {
				given++
				ask.Kind, ask.Value = kind, value
			}
		}
		if ask.Principal == "" || given != 1 {
			return usageError{fmt.Errorf("--principal and one of --subject, --san and --fingerprint are needed; see %q", cmd.CommandPath()+" --help")}
		}
		if ask.Kind == "san" {
			ask.Kind, ask.Value, _ = strings.Cut(*san, ":")
			if ask.Kind != "dns" && ask.Kind != "email" && ask.Kind != "uri" {
				return usageError{fmt.Errorf("--san %q is none of dns:NAME, email:ADDRESS and uri:URI", *san)}
			}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		r, err := c.CreateCertificate(cmd.Context(), ask)
		if err != nil {
			return fmt.Errorf("let certificate in: %w", err)
		}
		return show(cmd, *asJSON, r, func(w io.Writer) {
			fmt.Fprintf(w, "Certificates with %s %s are %s, as %s.\n", r.Kind, r.Value, ask.Principal, r.ID)
		})
	}
	return cmd
}

func newCertList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List which client certificates are let in", Args: exactly(0)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		list, err := collect(cmd.Context(), func(ctx context.Context, cursor string, limit int) (client.Page[client.Certificate], error) {
			return c.Certificates(ctx, cursor, limit)
		})
		if err != nil {
			return err
		}
		return show(cmd, *asJSON, list, func(w io.Writer) {
			rows := make([][]string, len(list))
			for i, r := range list {
				rows[i] = []string{string(r.ID), r.Kind, r.Value, string(r.Principal), string(r.Scope), day(r.CreatedAt), lastUse(r.LastUsedAt, r.LastUsedFrom)}
			}
			table(w, []string{"ID", "KIND", "NAME", "PRINCIPAL", "SCOPE", "CREATED", "LAST USED"}, rows)
		})
	}
	return cmd
}

func newCertRemove() *cobra.Command {
	cmd := &cobra.Command{Use: "remove CERTIFICATE_ID", Short: "Let client certificates with a name in no longer, at once", Args: exactly(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := id.ParseCertificate(args[0])
		if err != nil {
			return usageError{fmt.Errorf("%w; \"skep cert list\" shows the IDs", err)}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		if err := c.RemoveCertificate(cmd.Context(), r); err != nil {
			return fmt.Errorf("remove %s: %w", r, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Removed %s.\n", r)
		return nil
	}
	return cmd
}
