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

// MaxPosition is how long a position may be. Only who always inserts at one place in the middle gets there, after thousands of times.
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
	switch {
	case a == "" && b == "":
		out = []byte{digits[len(digits)/2]}
	case b <= a:
		out = count(a, len(digits)-1)
	case a == "":
		out = count(b, 0)
	default:
		out = halfway(a, b)
	}
	h := fnv.New32a()
	h.Write([]byte(node))
	n := h.Sum32()
	const base = uint32(len(digits))
	return string(append(out, digits[n%base], digits[1+n/base%(base-1)]))
}

// halfway returns a prefix of what is between a and b.
func halfway(a, b string) []byte {
	var out []byte
	bounded := true
	for i := 0; ; i++ {
		low, high := digit(a, i), len(digits)
		if bounded {
			high = digit(b, i)
		}
		if high-low > 1 {
			return append(out, digits[(low+high)/2])
		}
		// With one digit between them, everything that follows on a's is before b.
		bounded = bounded && high == low
		out = append(out, digits[low])
	}
}

// count returns a prefix of what is beyond p: after it if end is the last digit, before it if it is the first. To go halfway to the end
// would make every sixth position longer. So as many digits as p has of end at its beginning, and twice that many more, are a number that is counted on
// by one: a list to which a million were appended has positions of nine digits.
func count(p string, end int) []byte {
	n := 0
	for digit(p, n) == end && n < len(p) {
		n++
	}
	out := make([]byte, 3*n+1)
	for i := range out {
		out[i] = digits[digit(p, i)]
	}
	last := len(digits) - 1
	for i := len(out) - 1; i >= 0; i-- {
		d := digit(p, i)
		switch {
		case end > 0 && d < last:
			out[i] = digits[d+1]
			return out
		case end == 0 && d > 0:
			out[i] = digits[d-1]
			return out
		}
		out[i] = digits[last-end] // carried
	}
	return out
}

func digit(s string, i int) int {
	if i < len(s) {
		return max(strings.IndexByte(digits, s[i]), 0)
	}
	return 0
}
