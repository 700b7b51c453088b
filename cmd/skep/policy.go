package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/policy"
)

func newPolicy() *cobra.Command {
	return group("policy", "Check what may be done, and who may do it", newPolicyValidate())
}

func newPolicyValidate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a policy document (- is standard input) without giving it to a server",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			if _, err := policy.Parse(text); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is a valid policy.\n", args[0])
			return nil
		},
	}
}

// readPolicy reads a document from a file or standard input, no further than one may be long.
func readPolicy(cmd *cobra.Command, name string) ([]byte, error) {
	in := cmd.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close() //nolint:errcheck // it was only read
		in = f
	}
	return io.ReadAll(io.LimitReader(in, policy.MaxDocumentBytes+1))
}
