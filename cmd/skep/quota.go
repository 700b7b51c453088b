package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
)

func newTenantQuota() *cobra.Command {
	return group("quota", "Say how much a tenant may have", newQuotaShow(), newQuotaSet())
}

func newQuotaShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show PATH", Short: "Show a tenant's quotas, and what it has used of them", Args: exactly(1)}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		q, err := c.TenantQuota(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("quotas of %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, q, func(w io.Writer) { printQuota(w, q) })
	}
	return cmd
}

func printQuota(w io.Writer, q client.TenantQuota) {
	limits, used := q.Limits.Fields(), q.Used.Fields()
	rows := make([][]string, len(limits))
	for i, f := range limits {
		rows[i] = []string{f.Name, quotaText(used[i]), quotaText(f)}
	}
	table(w, []string{"QUOTA", "USED", "LIMIT"}, rows)
}

func quotaText(f client.QuotaField) string {
	switch n := *f.Value; {
	case n == nil:
		return none
	case f.Bytes:
		return humanize.IBytes(uint64(max(*n, 0)))
	default:
		return strconv.FormatInt(*n, 10)
	}
}

// quotaHelp says of each quota what it counts.
var quotaHelp = map[string]string{
	"storage":         "bytes of all repositories, such as 10GiB",
	"repositories":    "repositories",
	"children":        "tenants below it, at any depth",
	"members":         "memberships",
	"fetches":         "fetches and archives each hour",
	"pushes":          "pushes each hour",
	"calls":           "other calls over REST each hour",
	"bytes-out-day":   "bytes of answers each day from midnight UTC, such as 1TiB",
	"bytes-out-month": "bytes of answers each month",
}

func newQuotaSet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set PATH",
		Short: "Change a tenant's quotas; none takes one away",
		Long: `Change a tenant's quotas: those that are named. What the tenants below it have counts for it, and the quotas of all
tenants above it must hold as well. This takes an owner of the tenant above, or, for one at the top, an administrator.`,
		Args: exactly(1),
	}
	flags := map[string]*string{}
	for _, f := range new(client.Quotas).Fields() {
		flags[f.Name] = cmd.Flags().String(f.Name, "", quotaHelp[f.Name]+`; or "none"`)
	}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		q, err := c.TenantQuota(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("quotas of %s: %w", args[0], err)
		}
		for _, f := range q.Limits.Fields() {
			if !cmd.Flags().Changed(f.Name) {
				continue
			}
			if *f.Value, err = parseQuota(f, *flags[f.Name]); err != nil {
				return err
			}
		}
		if q, err = c.SetTenantQuota(cmd.Context(), args[0], q.Limits); err != nil {
			return fmt.Errorf("set quotas of %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, q, func(w io.Writer) { printQuota(w, q) })
	}
	return cmd
}

func parseQuota(f client.QuotaField, s string) (*int64, error) {
	if s == none {
		return nil, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if f.Bytes {
		var bytes uint64
		bytes, err = humanize.ParseBytes(s)
		n = int64(bytes) //nolint:gosec // what overflows is negative
	}
	if err != nil || n < 0 {
		return nil, usageError{fmt.Errorf("--%s %q is no amount: %w", f.Name, s, errkind.Invalid)}
	}
	return &n, nil
}
