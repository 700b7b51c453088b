package crdt_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/crdt"
)

func checkBetween(t interface{ Fatalf(string, ...any) }, a, b, p string) {
	// Only its length can be wrong: that a position is too long is found where it is written.
	if err := crdt.CheckPosition(p[:min(len(p), crdt.MaxPosition-1)] + "V"); err != nil || strings.HasSuffix(p, "0") {
		t.Fatalf("between %q and %q: %q: %v", a, b, p, err)
	}
	if p <= a || b > a && p >= b {
		t.Fatalf("%q is not between %q and %q", p, a, b)
	}
}

// Whoever inserts where, there is a place: a list stays in the order in which it was put together.
func TestBetweenAnyTwoIsAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []string
		for range rapid.IntRange(1, 200).Draw(t, "n") {
			at := rapid.SampledFrom([]int{0, len(list), rapid.IntRange(0, len(list)).Draw(t, "at")}).Draw(t, "where")
			var a, b string
			if at > 0 {
				a = list[at-1]
			}
			if at < len(list) {
				b = list[at]
			}
			p := crdt.Between(a, b, rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "node"))
			checkBetween(t, a, b, p)
			list = slices.Insert(list, at, p)
		}
		if !slices.IsSorted(list) {
			t.Fatalf("not in order: %q", list)
		}
	})
}

// A list that grows at one end, as most do, does not use up its positions.
func TestPositionsAtTheEndsStayShort(t *testing.T) {
	first, last := crdt.Between("", "", "n"), crdt.Between("", "", "n")
	for range 200_000 {
		before, after := crdt.Between("", first, "n"), crdt.Between(last, "", "n")
		if before >= first || after <= last {
			t.Fatalf("%q is not before %q, or %q not after %q", before, first, after, last)
		}
		first, last = before, after
	}
	if len(first) > 10 || len(last) > 10 {
		t.Errorf("after 200,000 the positions are %q and %q", first, last)
	}
}

func TestNodesPutNothingAtTheSamePosition(t *testing.T) {
	seen := map[string]bool{}
	for i := range 10 {
		seen[crdt.Between("V", "W", fmt.Sprintf("n%d", i))] = true
	}
	if len(seen) != 10 {
		t.Errorf("10 nodes put something at %d positions", len(seen))
	}
}
