package git

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// CommitInfo is a commit's content, parsed. Its byte slices are parts of the commit's data.
type CommitInfo struct {
	Tree      OID
	Parents   []OID
	Author    Signature
	Committer Signature
	Encoding  string // empty means UTF-8
	Message   []byte // as written: not necessarily UTF-8
}

// Signature is who did something, and when.
type Signature struct {
	Name  []byte
	Email []byte
	When  time.Time // in the zone that was written
}

// ParseCommit reads a commit as leniently as git does: an odd author line gives an empty Signature, not an error.
// Check is the strict judge of what comes in.
func ParseCommit(data []byte) (*CommitInfo, error) {
	c := &CommitInfo{}
	tree, parents, rest, err := commitLinks(data, nil)
	if err != nil {
		return nil, err
	}
	c.Tree, c.Parents = tree, parents
	var author, committer bool // of several, the first counts
	for {
		line, tail, ok := bytes.Cut(rest, newline)
		if len(line) == 0 {
			c.Message = tail
			return c, nil
		}
		key, value, _ := bytes.Cut(line, space)
		switch k := string(key); {
		case k == "author" && !author:
			c.Author, _ = ParseSignature(value)
			author = true
		case k == "committer" && !committer:
			c.Committer, _ = ParseSignature(value)
			committer = true
		case k == "encoding" && c.Encoding == "":
			c.Encoding = string(value)
		}
		if !ok {
			return c, nil
		}
		rest = tail
	}
}

// CommitLinks reads only what a history walk needs: the tree, the parents (appended to buf) and the committer's time in
// seconds since 1970. A commit without a readable time counts as made at 0, as in git.
func CommitLinks(data []byte, buf []OID) (tree OID, parents []OID, when int64, err error) {
	tree, parents, rest, err := commitLinks(data, buf)
	if err != nil {
		return tree, nil, 0, err
	}
	for len(rest) > 0 {
		line, tail, _ := bytes.Cut(rest, newline)
		if len(line) == 0 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("committer ")); ok {
			return tree, parents, signatureTime(v), nil
		}
		rest = tail
	}
	return tree, parents, 0, nil
}

var (
	newline = []byte("\n")
	space   = []byte(" ")
)

func commitLinks(data []byte, buf []OID) (tree OID, parents []OID, rest []byte, err error) {
	tree, rest, err = oidLine(data, "tree ")
	if err != nil {
		return tree, nil, nil, fmt.Errorf("commit: %w", err)
	}
	parents = buf
	for bytes.HasPrefix(rest, []byte("parent ")) {
		var p OID
		if p, rest, err = oidLine(rest, "parent "); err != nil {
			return tree, nil, nil, fmt.Errorf("commit: %w", err)
		}
		parents = append(parents, p)
	}
	return tree, parents, rest, nil
}

// oidLine reads a line of a key with its space, an object ID and a line feed.
func oidLine(data []byte, key string) (OID, []byte, error) {
	v, ok := bytes.CutPrefix(data, []byte(key))
	if !ok || len(v) < 2*OIDSize+1 || v[2*OIDSize] != '\n' {
		return OID{}, nil, fmt.Errorf("no %q line where one must be: %w", key[:len(key)-1], errkind.Invalid)
	}
	o, err := ParseOID(v[:2*OIDSize])
	return o, v[min(len(v), 2*OIDSize+1):], err
}

// signatureTime reads the seconds from the end of a signature, or 0.
func signatureTime(v []byte) int64 {
	secs, _, _ := bytes.Cut(bytes.TrimSpace(v[bytes.LastIndexByte(v, '>')+1:]), space)
	n, err := strconv.ParseInt(string(secs), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// ParseSignature reads "Name <email> 1700000000 +0100".
func ParseSignature(v []byte) (Signature, error) {
	open, end := bytes.IndexByte(v, '<'), bytes.LastIndexByte(v, '>')
	if open < 0 || end < open {
		return Signature{}, fmt.Errorf("signature %q has no <email>: %w", clip(v), errkind.Invalid)
	}
	s := Signature{Name: bytes.TrimSpace(v[:open]), Email: v[open+1 : end]}
	secs, zone, ok := bytes.Cut(bytes.TrimSpace(v[end+1:]), space)
	n, err := strconv.ParseInt(string(secs), 10, 64)
	if !ok || err != nil {
		return s, fmt.Errorf("signature %q has no time: %w", clip(v), errkind.Invalid)
	}
	s.When = time.Unix(n, 0).In(parseZone(zone))
	return s, nil
}

// Append writes the signature in the form that commits and tags hold. Name and Email must have no <, > or line feed.
func (s Signature) Append(b []byte) []byte {
	b = append(b, s.Name...)
	b = append(b, " <"...)
	b = append(b, s.Email...)
	b = append(b, "> "...)
	b = strconv.AppendInt(b, s.When.Unix(), 10)
	return s.When.AppendFormat(b, " -0700")
}

// parseZone reads +hhmm; anything else is UTC, as git treats it.
func parseZone(z []byte) *time.Location {
	if len(z) != 5 || (z[0] != '+' && z[0] != '-') || !digits(z[1:]) {
		return time.UTC
	}
	n, err := strconv.Atoi(string(z[1:]))
	if err != nil || n%100 > 59 {
		return time.UTC
	}
	secs := (n/100*60 + n%100) * 60
	if z[0] == '-' {
		secs = -secs
	}
	if secs == 0 {
		return time.UTC
	}
	return time.FixedZone("", secs)
}

// Append writes the commit in the form that is hashed.
func (c *CommitInfo) Append(b []byte) []byte {
	b = append(b, "tree "...)
	b = append(c.Tree.AppendHex(b), '\n')
	for _, p := range c.Parents {
		b = append(b, "parent "...)
		b = append(p.AppendHex(b), '\n')
	}
	b = append(c.Author.Append(append(b, "author "...)), '\n')
	b = append(c.Committer.Append(append(b, "committer "...)), '\n')
	if c.Encoding != "" {
		b = append(append(append(b, "encoding "...), c.Encoding...), '\n')
	}
	b = append(b, '\n')
	return append(b, c.Message...)
}
