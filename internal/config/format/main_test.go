package format_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/config/format"
)

// evaluator runs this test program again, as one that evaluates.
func evaluator() format.Evaluator {
	// With the race detector, on a busy machine, the time of the tests of memory is long.
	return format.Evaluator{Command: []string{os.Args[0], "evaluate"}, Timeout: 10 * time.Minute}
}

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "evaluate" {
		if err := format.Evaluate(os.Args[2], os.Args[3], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
