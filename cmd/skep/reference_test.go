package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/tidy/goldentest"
)

// TestReference: docs/reference/cli.md is the command tree.
func TestReference(t *testing.T) {
	root := newRoot()
	var b strings.Builder
	b.WriteString("# Command line\n\nGenerated from the code: `make update` writes it.\n\n" + root.Long + "\n")
	writeCommands(&b, root)
	goldentest.Check(t, filepath.Join("..", "..", "docs", "reference", "cli.md"), b.String())
}

// writeCommands writes the commands below c that do something, in the order of help.
func writeCommands(b *strings.Builder, c *cobra.Command) {
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		if sub.HasAvailableSubCommands() {
			if sub.HasPersistentFlags() {
				fmt.Fprintf(b, "\n## %s …\n\n%s\n\n```text\n%s```\n", sub.CommandPath(), sub.Long, sub.PersistentFlags().FlagUsagesWrapped(120))
			}
			writeCommands(b, sub)
			continue
		}
		about := sub.Long
		if about == "" {
			about = sub.Short + "."
		}
		fmt.Fprintf(b, "\n## %s\n\n%s\n\n```text\n%s\n", sub.CommandPath(), about, sub.UseLine())
		if flags := sub.LocalFlags().FlagUsagesWrapped(120); flags != "" {
			b.WriteString("\n" + flags)
		}
		b.WriteString("```\n")
	}
}
