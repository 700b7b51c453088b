// Package goldentest holds files that are generated from the code to what the code says.
package goldentest

import (
	"bytes"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "rewrite files that are generated")

// Check holds a file to its text, or writes it with -update.
func Check(tb testing.TB, file, text string) {
	tb.Helper()
	got, err := os.ReadFile(file)
	switch {
	case err == nil && bytes.Equal(got, []byte(text)):
	case *update:
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // everybody may read the documentation
			tb.Fatal(err)
		}
	default:
		tb.Errorf("%s is stale: run make update, and read the difference", file)
	}
}
