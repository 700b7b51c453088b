package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
)

func newAudit() *cobra.Command {
	return group("audit", "See who did what, and check that the log of it is whole", newAuditList(), newAuditExport(), newAuditVerify())
}

// auditFlags are the flags that narrow the log.
func auditFlags(cmd *cobra.Command) *client.AuditFilter {
	f := &client.AuditFilter{}
	flags := cmd.Flags()
	flags.StringVar(&f.Tenant, "tenant", "", "what was done in this tenant and below; without it everything, for administrators")
	flags.StringVar(&f.Principal, "principal", "", "what this principal did: name or ID")
	flags.StringVar(&f.Action, "action", "", `one action, or with a star at the end several: "token.*"`)
	flags.StringVar(&f.Resource, "resource", "", `what it was done to, likewise: "repo/acme/*"`)
	flags.StringVar(&f.Request, "request", "", "the X-Request-Id of the request that did it")
	flags.Var(timeValue{&f.Since}, "since", "from then on: 2026-03-01 or 2026-03-01T12:00:00Z")
	flags.Var(timeValue{&f.Until}, "until", "before then")
	return f
}

func newAuditList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List what was done, the oldest first", Args: exactly(0)}
	f := auditFlags(cmd)
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		list, err := collect(cmd.Context(), func(ctx context.Context, cursor string, limit int) (client.Page[client.AuditEntry], error) {
			return c.Audit(ctx, *f, cursor, limit)
		})
		if err != nil {
			return fmt.Errorf("read the audit log: %w", err)
		}
		return show(cmd, *asJSON, list, func(w io.Writer) {
			rows := make([][]string, len(list))
			for i, e := range list {
				rows[i] = []string{
					strconv.FormatInt(e.Seq, 10), e.At.Local().Format(time.DateTime), e.Name, e.Address, e.Action, e.Resource, string(e.Outcome), e.Detail, e.Intent,
				}
			}
			table(w, []string{"ENTRY", "AT", "WHO", "FROM", "ACTION", "RESOURCE", "OUTCOME", "DETAIL", "INTENT"}, rows)
		})
	}
	return cmd
}

func newAuditExport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export [FILE]",
		Short: "Write what was done as lines of JSON, to a file or standard output",
		Long: `Write what was done as lines of JSON, to a new file or to standard output. The last line says where the log ended: keep it
somewhere else, and "skep audit verify --head" will find a log that was made anew.`,
		Args: cobra.MaximumNArgs(1),
	}
	f := auditFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		c, err := connect()
		if err != nil {
			return err
		}
		from, err := c.ExportAudit(cmd.Context(), *f)
		if err != nil {
			return fmt.Errorf("export the audit log: %w", err)
		}
		defer from.Close()
		to := cmd.OutOrStdout()
		if len(args) == 1 {
			file, err := os.OpenFile(args[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, file.Close()) }()
			to = file
		}
		// What was cut off on the way has no last line.
		got, err := audit.VerifyExport(io.TeeReader(from, to), nil)
		if err != nil {
			return fmt.Errorf("export the audit log: %w", err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%d entries. The log's head is %d:%s.\n", got.Entries, got.Head.Seq, got.Head.Hash)
		return nil
	}
	return cmd
}

func newAuditVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check that nothing in the audit log was changed, taken out or cut off",
		Long: `Check the server's whole audit log, which is read and checked here, or an export in a file (- is standard input): each entry
against its hash, and each hash against the entry before. "skep doctor" does the same with the log in a stopped server's database.

Who may write to the database can make the whole log anew. Against that keep a head elsewhere and give it with --head: the log must have
just that entry. The server's own log has the head once an hour, and each export has it.`,
		Args: cobra.MaximumNArgs(1),
	}
	known := headValue{}
	cmd.Flags().Var(&known, "head", "an entry that the log must have, from an earlier time")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		from, err := openExport(cmd, args)
		if err != nil {
			return err
		}
		defer from.Close()
		found := known.Seq == 0
		got, err := audit.VerifyExport(from, func(e audit.Entry) {
			found = found || audit.Head{Seq: e.Seq, Hash: e.Hash} == known.Head
		})
		if err == nil && !found {
			err = fmt.Errorf("the log has no entry %s: it was made anew, or is another one: %w", known.String(), errkind.Invalid)
		}
		if err != nil {
			return fmt.Errorf("verify the audit log: %w", err)
		}
		what := "the whole log"
		if !got.Whole {
			what = "a part of the log"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d entries, %s, are in order. The log's head is %d:%s.\n", got.Entries, what, got.Head.Seq, got.Head.Hash)
		return nil
	}
	return cmd
}

// openExport opens a file, or asks the server for one.
func openExport(cmd *cobra.Command, args []string) (io.ReadCloser, error) {
	switch {
	case len(args) == 1 && args[0] == "-":
		return io.NopCloser(cmd.InOrStdin()), nil
	case len(args) == 1:
		return os.Open(args[0])
	}
	c, err := connect()
	if err != nil {
		return nil, err
	}
	from, err := c.ExportAudit(cmd.Context(), client.AuditFilter{})
	if err != nil {
		return nil, fmt.Errorf("export the audit log: %w", err)
	}
	return from, nil
}

// headValue is a flag like 17:4bf5….
type headValue struct{ audit.Head }

// Set implements pflag.Value, as all methods here.
func (v *headValue) Set(s string) error {
	number, hash, _ := strings.Cut(s, ":")
	n, err := strconv.ParseInt(number, 10, 64)
	if err == nil {
		err = v.Hash.UnmarshalText([]byte(hash))
	}
	if err != nil || n < 1 {
		return fmt.Errorf("a head is NUMBER:HASH, as an export's last line and the server's log have it: %w", errkind.Invalid)
	}
	v.Seq = n
	return nil
}

func (v *headValue) String() string {
	if v.Seq == 0 {
		return ""
	}
	return fmt.Sprintf("%d:%s", v.Seq, v.Hash)
}

// Type is how help calls a value.
func (v *headValue) Type() string { return "NUMBER:HASH" }
