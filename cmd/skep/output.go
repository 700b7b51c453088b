package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

// asJSON adds the --json flag to a command that prints something.
func asJSON(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON, for machines")
}

// show prints v as JSON, or what human writes.
func show(cmd *cobra.Command, asJSON bool, v any, human func(w io.Writer)) error {
	w := cmd.OutOrStdout()
	if !asJSON {
		human(w)
		return nil
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// table writes rows under a header, in columns. Values come from users, so control characters are made visible.
func table(w io.Writer, header []string, rows [][]string) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(header, "\t"))
	for _, r := range rows {
		for i := range r {
			r[i] = printable(r[i])
		}
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	_ = tw.Flush() // w is the terminal: nobody is left to tell
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '?'
		}
		return r
	}, s)
}

// day is how times appear in tables.
func day(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func until(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return day(*t)
}
