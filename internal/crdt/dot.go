package crdt

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// Dot names an operation: the Seq-th, from 1 on, that Node made of a document. The zero Dot names none.
type Dot struct {
	Node string
	Seq  uint64
}

// IsZero reports whether d names nothing.
func (d Dot) IsZero() bool { return d == Dot{} }

// String returns NODE#SEQ, and "" for the zero Dot.
func (d Dot) String() string {
	if d.IsZero() {
		return ""
	}
	return d.Node + "#" + strconv.FormatUint(d.Seq, 10)
}

// MarshalText makes a Dot a string in JSON.
func (d Dot) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Dot) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*d = Dot{}
		return nil
	}
	*d, err = ParseDot(string(text))
	return err
}

// ParseDot reads NODE#SEQ.
func ParseDot(text string) (Dot, error) {
	node, seq, ok := strings.Cut(text, "#")
	n, err := strconv.ParseUint(seq, 10, 64)
	if !ok || err != nil || n == 0 || CheckNode(node) != nil {
		return Dot{}, fmt.Errorf("operation %q is not of the form NODE#NUMBER: %w", clip(text), errkind.Invalid)
	}
	return Dot{Node: node, Seq: n}, nil
}

const maxNodeLen = 64

// CheckNode checks a node's name: lower-case letters, digits and '-'.
func CheckNode(name string) error {
	bad := strings.IndexFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
	if name == "" || len(name) > maxNodeLen || bad >= 0 {
		return fmt.Errorf("node %q: a name has 1 to %d lower-case letters, digits and '-': %w", clip(name), maxNodeLen, errkind.Invalid)
	}
	return nil
}

// Tag names one write of an operation: its N-th, from 0 on.
type Tag struct {
	Dot
	N uint32
}

// String returns NODE#SEQ for the first write and NODE#SEQ.N for the others.
func (t Tag) String() string {
	if t.N == 0 {
		return t.Dot.String()
	}
	return t.Dot.String() + "." + strconv.FormatUint(uint64(t.N), 10)
}

// MarshalText makes a Tag a string in JSON.
func (t Tag) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (t *Tag) UnmarshalText(text []byte) error {
	dot, n, has := strings.Cut(string(text), ".")
	*t = Tag{}
	if has {
		v, err := strconv.ParseUint(n, 10, 32)
		if err != nil || v == 0 {
			return fmt.Errorf("write %q is not of the form NODE#NUMBER.N: %w", clip(string(text)), errkind.Invalid)
		}
		t.N = uint32(v)
	}
	return t.Dot.UnmarshalText([]byte(dot))
}

// Compare orders tags by node, number and N.
func (t Tag) Compare(u Tag) int {
	if c := strings.Compare(t.Node, u.Node); c != 0 {
		return c
	}
	switch {
	case t.Seq != u.Seq:
		return cmpUint(t.Seq, u.Seq)
	default:
		return cmpUint(uint64(t.N), uint64(u.N))
	}
}

func cmpUint(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Dots is a set of dots: of each node a prefix of what it made, and what came out of turn. The zero Dots is empty; a nil map is, too.
type Dots struct {
	prefix map[string]uint64
	extra  map[Dot]struct{}
}

// Add puts a dot in and reports whether it was not there.
func (s *Dots) Add(d Dot) bool {
	if s.Has(d) {
		return false
	}
	if s.prefix == nil {
		s.prefix = map[string]uint64{}
	}
	if s.prefix[d.Node]+1 != d.Seq {
		if s.extra == nil {
			s.extra = map[Dot]struct{}{}
		}
		s.extra[d] = struct{}{}
		return true
	}
	s.prefix[d.Node] = d.Seq
	for len(s.extra) > 0 {
		next := Dot{d.Node, s.prefix[d.Node] + 1}
		if _, ok := s.extra[next]; !ok {
			break
		}
		delete(s.extra, next)
		s.prefix[d.Node]++
	}
	return true
}

// Has reports whether a dot is in the set.
func (s *Dots) Has(d Dot) bool {
	if d.Seq <= s.prefix[d.Node] {
		return true
	}
	_, ok := s.extra[d]
	return ok
}

// Last returns the highest number up to which all of a node's dots are in the set.
func (s *Dots) Last(node string) uint64 { return s.prefix[node] }

// Nodes returns the nodes of which the set has a prefix, sorted.
func (s *Dots) Nodes() []string { return slices.Sorted(maps.Keys(s.prefix)) }

// Len returns how many dots are in the set.
func (s *Dots) Len() uint64 {
	n := uint64(len(s.extra))
	for _, last := range s.prefix {
		n += last
	}
	return n
}

// Covers reports whether all of t is in s.
func (s *Dots) Covers(t *Dots) bool {
	for node, n := range t.prefix {
		// What is in extra cannot fill up to n without having become a prefix.
		if s.prefix[node] < n {
			return false
		}
	}
	for d := range t.extra {
		if !s.Has(d) {
			return false
		}
	}
	return true
}

// Union adds all of t.
func (s *Dots) Union(t *Dots) {
	for node, n := range t.prefix {
		if n <= s.prefix[node] {
			continue
		}
		if s.prefix == nil {
			s.prefix = map[string]uint64{}
		}
		s.prefix[node] = n
	}
	for d := range t.extra {
		s.Add(d)
	}
	s.settle()
}

// settle moves into the prefixes what now follows on them.
func (s *Dots) settle() {
	for _, d := range slices.SortedFunc(maps.Keys(s.extra), func(a, b Dot) int { return Tag{Dot: a}.Compare(Tag{Dot: b}) }) {
		switch last := s.prefix[d.Node]; {
		case d.Seq <= last:
			delete(s.extra, d)
		case d.Seq == last+1:
			delete(s.extra, d)
			s.prefix[d.Node] = d.Seq
		}
	}
}

// Clone returns a copy.
func (s *Dots) Clone() Dots { return Dots{maps.Clone(s.prefix), maps.Clone(s.extra)} }

// String returns the set as a version: NODE:LAST for each node, sorted and joined by commas, then what came out of turn as NODE#SEQ.
func (s *Dots) String() string {
	parts := make([]string, 0, len(s.prefix)+len(s.extra))
	for node, n := range s.prefix {
		parts = append(parts, node+":"+strconv.FormatUint(n, 10))
	}
	for d := range s.extra {
		parts = append(parts, d.String())
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// maxVersionParts bounds what ParseDots reads: more nodes than a document has, and more gaps than deliveries leave.
const maxVersionParts = 10_000

// ParseDots reads what String wrote.
func ParseDots(text string) (Dots, error) {
	var s Dots
	if text == "" {
		return s, nil
	}
	if strings.Count(text, ",") >= maxVersionParts {
		return Dots{}, fmt.Errorf("version: it has more than %d parts: %w", maxVersionParts, errkind.Invalid)
	}
	s.prefix = map[string]uint64{}
	for part := range strings.SplitSeq(text, ",") {
		if node, last, ok := strings.Cut(part, ":"); ok {
			n, err := strconv.ParseUint(last, 10, 64)
			if err != nil || n == 0 || CheckNode(node) != nil || s.prefix[node] != 0 {
				return Dots{}, fmt.Errorf("version: %q is not of the form NODE:NUMBER: %w", clip(part), errkind.Invalid)
			}
			s.prefix[node] = n
			continue
		}
		d, err := ParseDot(part)
		if err != nil {
			return Dots{}, fmt.Errorf("version: %w", err)
		}
		if s.extra == nil {
			s.extra = map[Dot]struct{}{}
		}
		s.extra[d] = struct{}{}
	}
	s.settle()
	return s, nil
}

// MarshalJSON writes the set as a string.
func (s Dots) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Dots) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	var err error
	*s, err = ParseDots(text)
	return err
}
