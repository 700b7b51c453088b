package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/skep-dev/skep/internal/errkind"
)

// stdinName is how standard input is named where a file is wanted.
const stdinName = "-"

// readInput reads a file or, as "-", standard input, of which there may be so many bytes.
func readInput(cmd *cobra.Command, name string, most int64) ([]byte, error) {
	in := cmd.InOrStdin()
	if name != stdinName {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	case int64(len(b)) > most:
		return nil, fmt.Errorf("read %s: it has more than %d bytes: %w", name, most, errkind.TooLarge)
	}
	return b, nil
}
