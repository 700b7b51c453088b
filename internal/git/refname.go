package git

import (
	"fmt"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// RefName is a full, checked reference name such as refs/heads/main.
type RefName string

// HEAD is the symbolic reference that names the default branch.
const HEAD RefName = "HEAD"

// maxRefName bounds a name's length: git's own limit is what a file system allows, and a pkt-line holds 65516 bytes.
const maxRefName = 4000

const (
	branchPrefix = "refs/heads/"
	tagPrefix    = "refs/tags/"
)

// Branch returns the name of a branch: Branch("main") is refs/heads/main. The result still needs ParseRefName if short
// came from outside.
func Branch(short string) RefName { return RefName(branchPrefix + short) }

// TagRef returns the name of a tag: TagRef("v1") is refs/tags/v1.
func TagRef(short string) RefName { return RefName(tagPrefix + short) }

// IsBranch reports whether the reference is a branch.
func (n RefName) IsBranch() bool { return strings.HasPrefix(string(n), branchPrefix) }

// IsTag reports whether the reference is below refs/tags/.
func (n RefName) IsTag() bool { return strings.HasPrefix(string(n), tagPrefix) }

// Short drops refs/heads/ or refs/tags/.
func (n RefName) Short() string {
	if s, ok := strings.CutPrefix(string(n), branchPrefix); ok {
		return s
	}
	return strings.TrimPrefix(string(n), tagPrefix)
}

// ParseRefName checks a name by the rules of git check-ref-format(1), and that it lies below refs/: what a client may
// create. Names are bytes; they need not be UTF-8.
func ParseRefName[T string | []byte](s T) (RefName, error) {
	bad := func(why string) (RefName, error) {
		return "", fmt.Errorf("reference name %q %s: %w", clip(s), why, errkind.Invalid)
	}
	n := string(s)
	rest, ok := strings.CutPrefix(n, "refs/")
	switch {
	case !ok:
		return bad("is not below refs/")
	case len(n) > maxRefName:
		return bad(fmt.Sprintf("is longer than %d bytes", maxRefName))
	case strings.HasSuffix(n, "."):
		return bad("ends with a dot")
	}
	for part := range strings.SplitSeq(rest, "/") {
		if why := badRefPart(part); why != "" {
			return bad(why)
		}
	}
	return RefName(n), nil
}

// badRefPart says what is wrong with one component of a reference name, or nothing.
func badRefPart(p string) string {
	switch {
	case p == "":
		return "has an empty component"
	case p[0] == '.':
		return "has a component that starts with a dot"
	case strings.HasSuffix(p, ".lock"):
		return "has a component that ends with .lock"
	case strings.Contains(p, ".."):
		return "contains '..'"
	case strings.Contains(p, "@{"):
		return "contains '@{'"
	}
	for i := range len(p) {
		switch c := p[i]; {
		case c < 0x20 || c == 0x7f:
			return "contains a control character"
		case strings.IndexByte(" ~^:?*[\\", c) >= 0:
			return fmt.Sprintf("contains %q", string(rune(c)))
		}
	}
	return ""
}
