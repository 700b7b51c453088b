package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/client"
)

func newTenantUsage() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "usage TENANT",
		Short: "Show what a tenant used: operations, bytes and storage",
		Long: `Show what a tenant used, in the last 30 days unless --from and --to say otherwise: a date, or a time like
2026-05-01T10:00:00Z. Days begin at midnight UTC. What was used in the last seconds is perhaps not yet in it.`,
		Args: exactly(1),
	}
	flags := cmd.Flags()
	q := client.UsageQuery{}
	flags.Var(timeValue{&q.From}, "from", "the beginning")
	flags.Var(timeValue{&q.To}, "to", "the end (default now)")
	by := flags.String("by", "kind", "kind, repo or day")
	flags.BoolVar(&q.Children, "children", false, "of the tenants below it too")
	asCSV := flags.Bool("csv", false, "print CSV, with a line for each amount")
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch *by {
		case "kind":
		case "repo":
			q.By = "repo"
		case "day":
			q.Step = "day"
		default:
			return usageError{fmt.Errorf("--by %s is none of kind, repo, day", *by)}
		}
		c, err := connect()
		if err != nil {
			return err
		}
		if *asCSV {
			if err := c.TenantUsageCSV(cmd.Context(), cmd.OutOrStdout(), args[0], q); err != nil {
				return fmt.Errorf("usage of %s: %w", args[0], err)
			}
			return nil
		}
		report, err := c.TenantUsage(cmd.Context(), args[0], q)
		if err != nil {
			return fmt.Errorf("usage of %s: %w", args[0], err)
		}
		return show(cmd, *asJSON, report, func(w io.Writer) { printUsage(w, *by, report) })
	}
	return cmd
}

// usageColumns are the kinds of use in a table, and what they are called there.
var usageColumns = []struct{ kind, title string }{
	{"fetch", "FETCHES"},
	{"push", "PUSHES"},
	{"archive", "ARCHIVES"},
	{"api.read", "READS"},
	{"api.write", "WRITES"},
	{"bytes.in", "IN"},
	{"bytes.out", "OUT"},
	{"compute", "TIME"},
	{"storage", "STORED"},
}

// printUsage shows a report as people read it: what belongs together in one line.
func printUsage(w io.Writer, by string, report client.UsageReport) {
	title := map[string]string{"repo": "REPOSITORY", "day": "DAY"}[by]
	if title == "" {
		for _, r := range report.Rows {
			for _, c := range usageColumns {
				if c.kind == r.Kind {
					fmt.Fprintf(w, "%-10s %s\n", c.kind, amount(r.Kind, r.Amount))
				}
			}
		}
		return
	}
	header := []string{title}
	for _, c := range usageColumns {
		if by != "day" || c.kind != "storage" { // what is stored now is of no day
			header = append(header, c.title)
		}
	}
	lines := map[string]map[string]int64{}
	for _, r := range report.Rows {
		name := r.Tenant + "/" + cmp.Or(r.Repo, string(r.RepoID))
		switch {
		case by == "day" && r.Start == nil:
			continue
		case by == "day":
			name = r.Start.UTC().Format(time.DateOnly)
		case r.RepoID == "":
			name = r.Tenant
		}
		if lines[name] == nil {
			lines[name] = map[string]int64{}
		}
		lines[name][r.Kind] += r.Amount
	}
	var rows [][]string
	for name, amounts := range lines {
		row := []string{name}
		for _, c := range usageColumns[:len(header)-1] {
			row = append(row, amount(c.kind, amounts[c.kind]))
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b []string) int { return cmp.Compare(a[0], b[0]) })
	table(w, header, rows)
}

// amount is a number with its unit.
func amount(kind string, n int64) string {
	switch kind {
	case "bytes.in", "bytes.out", "storage":
		return humanize.IBytes(uint64(max(n, 0)))
	case "compute":
		return (time.Duration(n) * time.Microsecond).Round(time.Millisecond).String()
	}
	return strconv.FormatInt(n, 10)
}
