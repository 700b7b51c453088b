package revwalk

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// Filter is a partial clone's object filter (gitprotocol-v2, rev-list --filter). Commits and tags pass every filter. The
// zero Filter lets everything pass.
type Filter struct {
	BlobNone  bool
	BlobLimit int64 // with HasLimit: blobs of this size and more are left out
	HasLimit  bool
	TreeDepth int // with HasDepth: trees and blobs at this depth and deeper are left out; a root tree is at depth 0
	HasDepth  bool
}

const (
	// maxFilterSpec bounds what a client may send: a combination of all filters there are is some hundred bytes.
	maxFilterSpec = 4096
	// maxFilterNesting bounds combinations of combinations.
	maxFilterNesting = 8
)

// ParseFilter reads a filter-spec: blob:none, blob:limit=N[kmg], tree:N, and combine:A+B of them. What git knows besides
// wraps errkind.Unsupported, anything else errkind.Invalid.
func ParseFilter(spec string) (Filter, error) {
	if len(spec) > maxFilterSpec {
		return Filter{}, fmt.Errorf("filter-spec of %d bytes: %w", len(spec), errkind.TooLarge)
	}
	f, err := parseFilter(spec, maxFilterNesting)
	if err != nil {
		return Filter{}, fmt.Errorf("filter-spec %q: %w", spec, err)
	}
	return f, nil
}

func parseFilter(spec string, nesting int) (Filter, error) {
	name, value, hasValue := strings.Cut(spec, ":")
	switch {
	case spec == "blob:none":
		return Filter{BlobNone: true}, nil
	case strings.HasPrefix(spec, "blob:limit="):
		n, err := parseSize(strings.TrimPrefix(spec, "blob:limit="))
		return Filter{BlobLimit: n, HasLimit: true}, err
	case name == "tree" && hasValue:
		n, err := parseSize(value)
		return Filter{TreeDepth: int(min(n, math.MaxInt32)), HasDepth: true}, err
	case name == "combine" && nesting > 0:
		return parseCombined(value, nesting-1)
	case name == "sparse" || name == "object":
		return Filter{}, errkind.Unsupported
	}
	return Filter{}, errkind.Invalid
}

// parseCombined reads filters, each escaped as in a URL, with + between them. An object passes if it passes all.
func parseCombined(list string, nesting int) (Filter, error) {
	var all Filter
	for part := range strings.SplitSeq(list, "+") {
		// What git would make its clients escape (list-objects-filter-options.c).
		if i := strings.IndexAny(part, "~`!@#$^&*()[]{}\\;'\",<>? \t\r\n"); i >= 0 {
			return Filter{}, fmt.Errorf("unescaped %q: %w", part[i], errkind.Invalid)
		}
		spec, err := url.PathUnescape(part)
		if err != nil {
			return Filter{}, fmt.Errorf("bad escape: %w", errkind.Invalid)
		}
		f, err := parseFilter(spec, nesting)
		if err != nil {
			return Filter{}, err
		}
		all = all.and(f)
	}
	return all, nil
}

// and is the filter that lets pass what both do.
func (f Filter) and(o Filter) Filter {
	f.BlobNone = f.BlobNone || o.BlobNone
	if o.HasLimit && (!f.HasLimit || o.BlobLimit < f.BlobLimit) {
		f.BlobLimit, f.HasLimit = o.BlobLimit, true
	}
	if o.HasDepth && (!f.HasDepth || o.TreeDepth < f.TreeDepth) {
		f.TreeDepth, f.HasDepth = o.TreeDepth, true
	}
	return f
}

// String writes the filter in one normal form: equal filters have equal texts. It is empty for the zero Filter.
func (f Filter) String() string {
	var parts []string
	if f.BlobNone {
		parts = append(parts, "blob:none")
	}
	if f.HasLimit && !f.BlobNone {
		parts = append(parts, "blob:limit="+strconv.FormatInt(f.BlobLimit, 10))
	}
	if f.HasDepth {
		parts = append(parts, "tree:"+strconv.Itoa(f.TreeDepth))
	}
	if len(parts) > 1 {
		return "combine:" + strings.Join(parts, "+")
	}
	return strings.Join(parts, "")
}

// IsZero reports whether everything passes.
func (f Filter) IsZero() bool { return f == Filter{} }

// passes reports whether an entry at a depth passes. size is asked only when it matters.
func (f Filter) passes(blob bool, depth int, size func() int64) bool {
	switch {
	case f.HasDepth && depth >= f.TreeDepth:
		return false
	case blob && f.BlobNone:
		return false
	case blob && f.HasLimit:
		return size() < f.BlobLimit
	}
	return true
}

// parseSize reads a number as git_parse_ulong does: decimal, with k, m or g for powers of 1024.
func parseSize(s string) (int64, error) {
	unit := int64(1)
	if s != "" {
		switch s[len(s)-1] {
		case 'k', 'K':
			unit = 1 << 10
		case 'm', 'M':
			unit = 1 << 20
		case 'g', 'G':
			unit = 1 << 30
		}
		if unit > 1 {
			s = s[:len(s)-1]
		}
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not a size: %w", s, errkind.Invalid)
	}
	return int64(n) * unit, nil
}
