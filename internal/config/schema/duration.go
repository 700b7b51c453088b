package schema

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

const maxDurationBytes = 64

// ParseDuration reads a duration: some numbers, each with its unit, as "30s", "1h30m", "1.5h", "500ms", "7d" or "2w". A day is 24 hours,
// whatever the clocks do.
func ParseDuration(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(text, "+"), "-")
	if rest == "" || len(text)-len(rest) > 1 || len(text) > maxDurationBytes {
		return 0, noDuration(text)
	}
	var sum int64
	for rest != "" {
		number := digits(rest)
		if after, ok := strings.CutPrefix(rest[number:], "."); ok && number > 0 {
			fraction := digits(after)
			if fraction == 0 {
				return 0, noDuration(text)
			}
			number += 1 + fraction
		}
		end := number + strings.IndexAny(rest[number:]+"0", "0123456789.")
		part, times := rest[:end], int64(1)
		switch unit := rest[number:end]; {
		case number == 0:
			return 0, noDuration(text)
		case unit == "d":
			part, times = rest[:number]+"h", 24
		case unit == "w":
			part, times = rest[:number]+"h", 7*24
		case unit != "h" && unit != "m" && unit != "s" && unit != "ms" && unit != "us" && unit != "µs" && unit != "μs" && unit != "ns":
			return 0, noDuration(text)
		}
		d, err := time.ParseDuration(part)
		if err != nil || int64(d) > (math.MaxInt64-sum)/times {
			return 0, fmt.Errorf("the duration %s is too long: the longest is about 292 years: %w", quote(text), errkind.Invalid)
		}
		sum += int64(d) * times
		rest = rest[end:]
	}
	if text[0] == '-' {
		sum = -sum
	}
	return time.Duration(sum), nil
}

// digits returns how many digits a text begins with.
func digits(s string) int {
	return len(s) - len(strings.TrimLeft(s, "0123456789"))
}

func noDuration(text string) error {
	return fmt.Errorf("%s is no duration: write a number and its unit, like 30s, 1m30s, 500ms, 1.5h or 7d: %w", quote(text), errkind.Invalid)
}

// FormatDuration returns the canonical text of a duration: its parts in hours, minutes, seconds, milli-, micro- and nanoseconds, without
// those that are zero: "1h30m", "1s500ms", "0s".
func FormatDuration(d time.Duration) string {
	units := []struct {
		name string
		size uint64
	}{
		{"h", uint64(time.Hour)},
		{"m", uint64(time.Minute)},
		{"s", uint64(time.Second)},
		{"ms", uint64(time.Millisecond)},
		{"us", uint64(time.Microsecond)},
		{"ns", 1},
	}
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	rest := uint64(d)
	if d < 0 {
		b.WriteByte('-')
		rest = -rest
	}
	for _, u := range units {
		if n := rest / u.size; n > 0 {
			b.WriteString(strconv.FormatUint(n, 10) + u.name)
			rest %= u.size
		}
	}
	return b.String()
}

// maxQuoted is how much of a bad text an error repeats.
const maxQuoted = 60

// quote returns the beginning of a text for an error.
func quote(text string) string {
	if len(text) > maxQuoted {
		return strconv.Quote(strings.ToValidUTF8(text[:maxQuoted], "")) + "…"
	}
	return strconv.Quote(text)
}
