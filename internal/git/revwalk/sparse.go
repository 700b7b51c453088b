package revwalk

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

const (
	// maxSparseBytes and maxSparsePatterns bound the lists of patterns of a filter, all together: every path that is met is compared
	// with each.
	maxSparseBytes    = 64 << 10
	maxSparsePatterns = 1000
	// maxPatternBytes and maxWildcards bound one pattern: each byte of a path takes time for all of its wildcards.
	maxPatternBytes = 1024
	maxWildcards    = 32
	// maxSparseLists is how many lists one filter may have: a bit of a byte each.
	maxSparseLists = 8
)

// Sparse is what the sparse:oid filters of a request say: which blobs pass, by their paths. Trees pass all of it, as in git.
type Sparse struct {
	names []string // as the client wrote them, until they are resolved
	oids  []git.OID
	lists []patterns // by which a path has to be matched, each
}

// patterns is a sparse-checkout specification: gitignore's form, whose matches are what is wanted.
type patterns []pattern

type pattern struct {
	not      bool   // what matches does not pass
	dirs     bool   // only directories match
	base     bool   // is compared with the last part of a path
	literal  string // of a pattern without a wildcard
	wildcard *regexp.Regexp
}

// Resolve finds the lists of patterns that the filter names: read gives a blob's ID and content. Without sparse:oid it does
// nothing.
func (f *Filter) Resolve(read func(name string) (git.OID, []byte, error)) error {
	if f.Sparse == nil || len(f.Sparse.names) == 0 {
		return nil
	}
	s := &Sparse{}
	size, total := 0, 0
	for _, name := range f.Sparse.names {
		o, text, err := read(name)
		if err != nil {
			return err
		}
		if slices.Contains(s.oids, o) {
			continue
		}
		if size += len(text); size > maxSparseBytes {
			return fmt.Errorf("sparse blob '%s': more than %d bytes of patterns: %w", name, maxSparseBytes, errkind.TooLarge)
		}
		list, err := parsePatterns(text)
		if err != nil {
			return fmt.Errorf("sparse blob '%s': %w", name, err)
		}
		if total += len(list); total > maxSparsePatterns {
			return fmt.Errorf("sparse blob '%s': more than %d patterns: %w", name, maxSparsePatterns, errkind.TooLarge)
		}
		s.oids, s.lists = append(s.oids, o), append(s.lists, list)
	}
	f.Sparse = s
	return nil
}

// and is what passes both. Neither is resolved.
func (s *Sparse) and(o *Sparse) *Sparse {
	switch {
	case s == nil:
		return o
	case o == nil:
		return s
	}
	return &Sparse{names: slices.Concat(s.names, o.names)}
}

// specs returns the filter-specs.
func (s *Sparse) specs() []string {
	if s == nil {
		return nil
	}
	var list []string
	for _, n := range s.names {
		list = append(list, sparsePrefix+n)
	}
	for _, o := range s.oids {
		list = append(list, sparsePrefix+o.String())
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// parsePatterns reads lines of patterns (gitignore(5)). Nothing is malformed: what cannot match is left out. A pattern may be too
// long.
func parsePatterns(text []byte) (list patterns, err error) {
	n := 0
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		n++
		p, ok, err := parsePattern(string(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if ok {
			list = append(list, p)
		}
	}
	return list, nil
}

func parsePattern(line string) (p pattern, ok bool, err error) {
	line = trimSpaces(line)
	if line == "" || line[0] == '#' {
		return p, false, nil
	}
	if len(line) > maxPatternBytes {
		return p, false, fmt.Errorf("a pattern of more than %d bytes: %w", maxPatternBytes, errkind.TooLarge)
	}
	line, p.not = strings.CutPrefix(line, "!")
	line, p.dirs = strings.CutSuffix(line, "/")
	p.base = !strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if !strings.ContainsAny(line, special) {
		p.literal = line
		return p, true, nil
	}
	expr, wildcards := globToRegexp(line)
	if wildcards > maxWildcards {
		return p, false, fmt.Errorf("a pattern with more than %d wildcards (*, ?, [): %w", maxWildcards, errkind.TooLarge)
	}
	p.wildcard, err = regexp.Compile(expr)
	return p, err == nil, nil
}

// trimSpaces cuts spaces off the end, unless a backslash says that they are meant.
func trimSpaces(s string) string {
	for strings.HasSuffix(s, " ") {
		head := s[:len(s)-1]
		if slashes := len(head) - len(strings.TrimRight(head, `\`)); slashes%2 == 1 {
			break
		}
		s = head
	}
	return s
}

// globToRegexp translates a pattern of wildmatch with WM_PATHNAME, byte by byte. A regular expression takes time in proportion
// to the path and the pattern, and each wildcard adds to it. Several **/ in a row are one.
func globToRegexp(glob string) (expr string, wildcards int) {
	const dirs = `(?:.*/)?`
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	plain := strings.IndexAny(glob, special) // git compares what is before it as it is, and a pattern begins behind it
	for i := 0; i < len(glob); {
		rest := glob[i:]
		stars := len(rest) - len(strings.TrimLeft(rest, "*"))
		switch {
		case stars >= 2 && (i == plain || glob[i-1] == '/') && (len(rest) == stars || rest[stars] == '/'):
			if i += stars; i == len(glob) {
				b.WriteString(`.*`)
			} else {
				if i++; strings.HasSuffix(b.String(), dirs) {
					continue
				}
				b.WriteString(dirs)
			}
			wildcards++
		case stars > 0:
			b.WriteString(`[^/]*`)
			i += stars
			wildcards++
		case rest[0] == '?':
			b.WriteString(`[^/]`)
			i++
			wildcards++
		case rest[0] == '[':
			n := globClass(&b, rest)
			i += n
			wildcards++
		case rest[0] == '\\' && len(rest) > 1:
			writeByte(&b, rest[1])
			i += 2
		default:
			writeByte(&b, rest[0])
			i++
		}
	}
	b.WriteString(`\z`)
	return b.String(), wildcards
}

// special are the characters with a meaning in a pattern.
const special = `*?[\`

// writeByte writes an expression for one byte, which is a code point of the paths that are compared: see latin1.
func writeByte(b *strings.Builder, c byte) { fmt.Fprintf(b, `\x{%02x}`, c) }

// globClass translates a class, [a-z] or [!a-z], and returns how long it is. One that is malformed matches nothing.
func globClass(b *strings.Builder, s string) (length int) {
	var in [256]bool
	i := 1
	negated := i < len(s) && (s[i] == '!' || s[i] == '^')
	if negated {
		i++
	}
	for start := i; i < len(s) && (s[i] != ']' || i == start); {
		if name, ok := strings.CutPrefix(s[i:], "[:"); ok {
			name, _, ok := strings.Cut(name, ":]")
			class, err := regexp.Compile("[[:" + name + ":]]")
			if !ok || err != nil || name == "word" || name == "ascii" || strings.HasPrefix(name, "^") {
				i = len(s)
				break
			}
			for c := range 128 {
				in[c] = in[c] || class.MatchString(string(rune(c)))
			}
			i += len("[::]") + len(name)
			continue
		}
		from, n := classByte(s[i:])
		i += n
		in[from] = true
		if i+1 < len(s) && s[i] == '-' && s[i+1] != ']' {
			to, n := classByte(s[i+1:])
			i += 1 + n
			for c := int(from); c <= int(to); c++ {
				in[c] = true
			}
		}
	}
	ends := i < len(s)
	b.WriteByte('[')
	some := false
	for c := range in {
		if ends && in[c] != negated && c != '/' {
			writeByte(b, byte(c))
			some = true
		}
	}
	if !some {
		b.WriteString(`^\x00-\x{10FFFF}`)
	}
	b.WriteByte(']')
	return min(i+1, len(s))
}

// classByte reads one member of a class.
func classByte(s string) (b byte, length int) {
	if s[0] == '\\' && len(s) > 1 {
		return s[1], 2
	}
	return s[0], 1
}

// latin1 makes each byte a code point of its own: to git a path is bytes, and ? stands for one.
func latin1(s string) string {
	i := 0
	for i < len(s) && s[i] < 0x80 {
		i++
	}
	if i == len(s) {
		return s
	}
	b := make([]rune, len(s))
	for i := range len(s) {
		b[i] = rune(s[i])
	}
	return string(b)
}

// matches reports what a list says of a path: the last pattern that matches decides. Where none does, otherwise holds.
func (ps patterns) matches(path, name string, dir, otherwise bool) bool {
	for _, p := range slices.Backward(ps) {
		if p.dirs && !dir || !p.base && path == "" {
			continue
		}
		with := path
		if p.base {
			with = name
		}
		if p.wildcard == nil && p.literal == with || p.wildcard != nil && p.wildcard.MatchString(latin1(with)) {
			return !p.not
		}
	}
	return otherwise
}

// below says which of the lists hold for what no pattern decides in a directory, given which hold in the one above: a bit
// each.
func (s *Sparse) below(path, name string, above byte) (bits byte) {
	for i, list := range s.lists {
		if list.matches(path, name, true, above&(1<<i) != 0) {
			bits |= 1 << i
		}
	}
	return bits
}

// passes reports whether a blob in a directory passes.
func (s *Sparse) passes(path, name string, dir byte) bool {
	for i, list := range s.lists {
		if !list.matches(path, name, false, dir&(1<<i) != 0) {
			return false
		}
	}
	return true
}
