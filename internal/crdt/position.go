package crdt

import (
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// Positions are texts of these digits, ordered as texts, read as fractions between 0 and 1 without their "0.": between any two there is
// another. None ends with the digit 0.
const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// MaxPosition is how long a position may be. Only who always inserts at one place gets there, after thousands of times.
const MaxPosition = 1024

// CheckPosition checks what a client sent as a position.
func CheckPosition(p string) error {
	bad := strings.IndexFunc(p, func(r rune) bool { return !strings.ContainsRune(digits, r) })
	if p == "" || len(p) > MaxPosition || bad >= 0 || p[len(p)-1] == '0' {
		return fmt.Errorf("position %q: one has 1 to %d letters and digits, and does not end with 0: %w", clip(p), MaxPosition, errkind.Invalid)
	}
	return nil
}

// Between returns a position after a and before b. "" as a is the beginning, as b the end; a b that is not after a counts as the end. Two
// nodes that put something at the same place at the same time get different ones.
func Between(a, b, node string) string {
	var out []byte
	bounded := b > a
	for i := 0; ; i++ {
		low, high := digit(a, i), len(digits)
		if bounded {
			high = digit(b, i)
		}
		if high-low > 1 {
			out = append(out, digits[(low+high)/2])
			break
		}
		// With one digit between them, everything that follows on a's is before b.
		bounded = bounded && high == low
		out = append(out, digits[low])
	}
	h := fnv.New32a()
	h.Write([]byte(node))
	n := int(h.Sum32())
	return string(append(out, digits[n%len(digits)], digits[1+n/len(digits)%(len(digits)-1)]))
}

func digit(s string, i int) int {
	if i < len(s) {
		return max(strings.IndexByte(digits, s[i]), 0)
	}
	return 0
}
