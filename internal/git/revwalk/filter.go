package revwalk

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// Filter is a partial clone's object filter (gitprotocol-v2, rev-list --filter). What was asked for by its ID passes every
// filter. The zero Filter lets everything pass.
type Filter struct {
	BlobNone  bool
	BlobLimit int64 // with HasLimit: blobs of this size and more are left out
	HasLimit  bool
	TreeDepth int // with HasDepth: trees and blobs at this depth and deeper are left out; a root tree is at depth 0
	HasDepth  bool
	// NoCommits, NoTrees and NoTags are of object:type: all but one kind are left out.
	NoCommits, NoTrees, NoTags bool
	// Sparse lets blobs pass by their paths. It must be resolved before a plan is made; nil: all pass.
	Sparse *Sparse
}

const (
	// maxFilterSpec bounds what a client may send: a combination of all filters there are is some hundred bytes.
	maxFilterSpec = 4096
	// maxFilterNesting bounds combinations of combinations.
	maxFilterNesting = 8

	sparsePrefix = "sparse:oid="
	typePrefix   = "object:type="
)

// FilterUse is a filter that a filter-spec uses: its name in git's configuration (blob:none, blob:limit, tree, sparse:oid,
// object:type or combine) and, for tree, its depth.
type FilterUse struct {
	Name  string
	Depth int
}

// ParseFilter reads a filter-spec: blob:none, blob:limit=N[kmg], tree:N, object:type=KIND, sparse:oid=BLOB, and combine:A+B of
// them. Anything else wraps errkind.Invalid.
func ParseFilter(spec string) (Filter, error) {
	f, _, err := ParseFilterUses(spec)
	return f, err
}

// ParseFilterUses is ParseFilter, which says as well what is used, combinations before their parts.
func ParseFilterUses(spec string) (Filter, []FilterUse, error) {
	if len(spec) > maxFilterSpec {
		return Filter{}, nil, fmt.Errorf("filter-spec of %d bytes: %w", len(spec), errkind.TooLarge)
	}
	var p filterParser
	f, err := p.parse(spec, maxFilterNesting)
	if err == nil && f.Sparse != nil && len(f.Sparse.names) > maxSparseLists {
		err = fmt.Errorf("more than %d sparse:oid: %w", maxSparseLists, errkind.TooLarge)
	}
	if err != nil {
		return Filter{}, nil, fmt.Errorf("filter-spec %q: %w", spec, err)
	}
	return f, p.uses, nil
}

// filterParser notes what is used on the way.
type filterParser struct{ uses []FilterUse }

func (p *filterParser) parse(spec string, nesting int) (Filter, error) {
	name, value, hasValue := strings.Cut(spec, ":")
	use := func(name string) { p.uses = append(p.uses, FilterUse{Name: name}) }
	switch {
	case spec == "blob:none":
		use(spec)
		return Filter{BlobNone: true}, nil
	case strings.HasPrefix(spec, "blob:limit="):
		use("blob:limit")
		n, err := parseSize(strings.TrimPrefix(spec, "blob:limit="))
		return Filter{BlobLimit: n, HasLimit: true}, err
	case name == "tree" && hasValue:
		n, err := parseSize(value)
		depth := int(min(n, math.MaxInt32))
		p.uses = append(p.uses, FilterUse{Name: name, Depth: depth})
		return Filter{TreeDepth: depth, HasDepth: true}, err
	case strings.HasPrefix(spec, sparsePrefix) && len(spec) > len(sparsePrefix):
		use("sparse:oid")
		return Filter{Sparse: &Sparse{names: []string{spec[len(sparsePrefix):]}}}, nil
	case strings.HasPrefix(spec, typePrefix):
		use("object:type")
		return onlyKind(spec[len(typePrefix):])
	case name == "combine" && nesting > 0:
		use(name)
		return p.combined(value, nesting-1)
	}
	return Filter{}, errkind.Invalid
}

// onlyKind lets one kind of objects pass.
func onlyKind(kind string) (Filter, error) {
	f := Filter{BlobNone: true, NoCommits: true, NoTrees: true, NoTags: true}
	switch kind {
	case "blob":
		f.BlobNone = false
	case "commit":
		f.NoCommits = false
	case "tree":
		f.NoTrees = false
	case "tag":
		f.NoTags = false
	default:
		return Filter{}, fmt.Errorf("%q is no kind of object: %w", kind, errkind.Invalid)
	}
	return f, nil
}

// reserved are the characters that git makes its clients escape in a combination (list-objects-filter-options.c), besides
// control characters and space.
const reserved = "~`!@#$^&*()[]{}\\;'\",<>?"

// combined reads filters, each escaped as in a URL, with + between them. An object passes if it passes all.
func (p *filterParser) combined(list string, nesting int) (Filter, error) {
	var all Filter
	for part := range strings.SplitSeq(list, "+") {
		if i := strings.IndexFunc(part, func(r rune) bool { return r <= ' ' || strings.ContainsRune(reserved, r) }); i >= 0 {
			return Filter{}, fmt.Errorf("unescaped %q: %w", part[i], errkind.Invalid)
		}
		spec, err := url.PathUnescape(part)
		if err != nil {
			return Filter{}, fmt.Errorf("bad escape: %w", errkind.Invalid)
		}
		f, err := p.parse(spec, nesting)
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
	f.NoCommits, f.NoTrees, f.NoTags = f.NoCommits || o.NoCommits, f.NoTrees || o.NoTrees, f.NoTags || o.NoTags
	if o.HasLimit && (!f.HasLimit || o.BlobLimit < f.BlobLimit) {
		f.BlobLimit, f.HasLimit = o.BlobLimit, true
	}
	if o.HasDepth && (!f.HasDepth || o.TreeDepth < f.TreeDepth) {
		f.TreeDepth, f.HasDepth = o.TreeDepth, true
	}
	f.Sparse = f.Sparse.and(o.Sparse)
	return f
}

// String writes the filter in one normal form: equal filters have equal texts. It is empty for the zero Filter.
func (f Filter) String() string {
	var parts []string
	switch kinds := f.kinds(); {
	case kinds != "":
		parts = append(parts, kinds)
	case f.BlobNone:
		parts = append(parts, "blob:none")
	}
	if f.HasLimit && !f.BlobNone {
		parts = append(parts, "blob:limit="+strconv.FormatInt(f.BlobLimit, 10))
	}
	if f.HasDepth {
		parts = append(parts, "tree:"+strconv.Itoa(f.TreeDepth))
	}
	parts = append(parts, f.Sparse.specs()...)
	if len(parts) > 1 {
		for i, p := range parts {
			parts[i] = escapeSpec(p)
		}
		return "combine:" + strings.Join(parts, "+")
	}
	return strings.Join(parts, "")
}

// kinds is the part of the text that says which kinds pass, if any are left out but blobs.
func (f Filter) kinds() string {
	switch {
	case !f.NoCommits && !f.NoTrees && !f.NoTags:
		return ""
	case !f.BlobNone:
		return typePrefix + "blob"
	case !f.NoCommits:
		return typePrefix + "commit"
	case !f.NoTrees:
		return typePrefix + "tree"
	case !f.NoTags:
		return typePrefix + "tag"
	}
	return "combine:" + typePrefix + "blob+" + typePrefix + "tree"
}

// escapeSpec writes a filter-spec as a part of a combination.
func escapeSpec(spec string) string {
	var b strings.Builder
	for _, c := range []byte(spec) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(reserved+"%+", c) >= 0 {
			fmt.Fprintf(&b, "%%%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// IsZero reports whether everything passes.
func (f Filter) IsZero() bool { return f == Filter{} }

// drops reports whether a kind of objects is left out altogether.
func (f *Filter) drops(k git.Kind) bool {
	switch k {
	case git.Commit:
		return f.NoCommits
	case git.Tree:
		return f.NoTrees
	case git.Tag:
		return f.NoTags
	default:
		return f.BlobNone
	}
}

// passes reports whether an entry at a depth passes. size is asked only when it matters.
func (f *Filter) passes(blob bool, depth int, size func() int64) bool {
	switch {
	case f.HasDepth && depth >= f.TreeDepth:
		return false
	case blob && f.BlobNone, !blob && f.NoTrees:
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
