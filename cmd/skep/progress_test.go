package main

import (
	"math"
	"strings"
	"testing"
)

// TestBarBelievesNothing: what a remote says of its progress may be anything.
func TestBarBelievesNothing(t *testing.T) {
	for _, n := range [][2]int64{{5, 1}, {math.MaxInt64, 7}, {math.MaxInt64, math.MaxInt64}, {0, math.MaxInt64}, {1, 2}} {
		var out strings.Builder
		b := &bar{w: &out, terminal: true}
		b.step("remote: Counting", n[0], n[1], "")
		if got := strings.Count(out.String(), "#") + strings.Count(out.String(), "."); got != 24 {
			t.Errorf("step(%d, %d) draws %q, want 24 marks", n[0], n[1], out.String())
		}
	}
}

// TestPrintable: nothing that a server says moves the cursor, hides text or turns it around.
func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[2J\u009b31m\u202eb\tc\x7fä"); got != "a?[2J?31m?b?c?ä" {
		t.Errorf("printable = %q", got)
	}
}
