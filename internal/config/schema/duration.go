package schema

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// A duration is some numbers, each with its unit: 1h30m, 1.5h, 500ms, 7d.
var (
	durationText = regexp.MustCompile(`^[+-]?(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|μs|ms|s|m|h|d|w))+$`)
	durationPart = regexp.MustCompile(`([0-9.]+)(\D+)`)
)

const maxDurationBytes = 64

// hours are the units of time that time.ParseDuration has not: a day is 24 hours, whatever the clocks do.
var hours = map[string]int64{"d": 24, "w": 7 * 24}

// ParseDuration reads a duration: "30s", "1h30m", "1.5h", "500ms", "7d", "2w".
func ParseDuration(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	if len(text) > maxDurationBytes || !durationText.MatchString(text) {
		return 0, fmt.Errorf("%s is no duration: write a number and its unit, like 30s, 1m30s, 500ms, 1.5h or 7d: %w", quote(text), errkind.Invalid)
	}
	var sum int64
	for _, part := range durationPart.FindAllStringSubmatch(text, -1) {
		number, unit, times := part[1], part[2], int64(1)
		if n, ok := hours[unit]; ok {
			unit, times = "h", n
		}
		d, err := time.ParseDuration(number + unit)
		if err != nil || int64(d) > (math.MaxInt64-sum)/times {
			return 0, fmt.Errorf("the duration %s is too long: the longest is about 292 years: %w", quote(text), errkind.Invalid)
		}
		sum += int64(d) * times
	}
	if text[0] == '-' {
		sum = -sum
	}
	return time.Duration(sum), nil
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
