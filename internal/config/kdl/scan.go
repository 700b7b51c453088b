package kdl

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/errkind"
)

const bom = "\ufeff"

// scanner is a place in a text, with what both versions of KDL call white space. Its methods that find a mistake panic with
// an *Error, which parse recovers: a grammar this nested reads better without an error after each step.
type scanner struct {
	text string
	pos  int
	v1   bool
}

// at makes the error for an offset of the text.
func at(text string, offset int, kind errkind.Kind, message string) *Error {
	line, start := 1, 0
	for i := 0; i < offset; {
		size := newline(text[i:])
		if size > 0 {
			line, start = line+1, i+size
		}
		i += max(size, 1)
	}
	return &Error{Line: line, Column: utf8.RuneCountInString(text[start:max(start, offset)]) + 1, Text: message, kind: kind}
}

// fail ends the parse with a mistake at an offset.
func (s *scanner) fail(offset int, format string, args ...any) {
	panic(at(s.text, offset, errkind.Invalid, fmt.Sprintf(format, args...)))
}

// tooLarge ends the parse at a limit.
func (s *scanner) tooLarge(offset int, format string, args ...any) {
	panic(at(s.text, offset, errkind.TooLarge, fmt.Sprintf(format, args...)))
}

func (s *scanner) rest() string { return s.text[s.pos:] }

func (s *scanner) has(prefix string) bool { return strings.HasPrefix(s.rest(), prefix) }

// eat steps over a prefix if it is there.
func (s *scanner) eat(prefix string) bool {
	if !s.has(prefix) {
		return false
	}
	s.pos += len(prefix)
	return true
}

// next describes the character at the place, for a message.
func (s *scanner) next() string {
	if s.pos == len(s.text) {
		return "the end of the document"
	}
	if newline(s.rest()) > 0 {
		return "the end of the line"
	}
	r, _ := utf8.DecodeRuneInString(s.rest())
	return fmt.Sprintf("%q", r)
}

// checkCharacters refuses what may not stand anywhere in a document, not even in a comment.
func (s *scanner) checkCharacters() {
	for i, r := range s.text {
		if r == utf8.RuneError && !strings.HasPrefix(s.text[i:], "\ufffd") {
			s.fail(i, "the document is not UTF-8 here; save it as UTF-8")
		}
		if !s.v1 && disallowed(r) && (r != '\ufeff' || i != 0) {
			s.fail(i, `the character U+%04X may not stand in a document; write it as \u{%x} in a quoted string`, r, r)
		}
	}
}

// disallowed code points stand in a document of KDL 2 only as escapes.
func disallowed(r rune) bool {
	return r <= 0x08 || r >= 0x0e && r <= 0x1f || r == 0x7f || r >= 0x200e && r <= 0x200f || r >= 0x202a && r <= 0x202e ||
		r >= 0x2066 && r <= 0x2069 || r == 0xfeff
}

// space says whether r is white space within a line, in both versions.
func space(r rune) bool {
	switch r {
	case '\t', ' ', 0xa0, 0x1680, 0x202f, 0x205f, 0x3000:
		return true
	}
	return r >= 0x2000 && r <= 0x200a
}

// trimSpace drops white space within a line from the start of s.
func trimSpace(s string) string { return strings.TrimLeftFunc(s, space) }

// newline gives the size of the newline at the start of s, 0 if there is none. The vertical tab is one in KDL 2 only;
// callers for KDL 1 ask (*scanner).newline.
func newline(s string) int {
	if s == "" {
		return 0
	}
	switch {
	case strings.HasPrefix(s, "\r\n"):
		return 2
	case s[0] == '\n' || s[0] == '\r' || s[0] == '\f' || s[0] == '\v':
		return 1
	case strings.HasPrefix(s, "\u0085"):
		return 2
	case strings.HasPrefix(s, "\u2028") || strings.HasPrefix(s, "\u2029"):
		return 3
	}
	return 0
}

func (s *scanner) newline() int {
	if s.v1 && s.has("\v") {
		return 0
	}
	return newline(s.rest())
}

// identifierChar says whether r may stand in a bare identifier.
func (s *scanner) identifierChar(r rune) bool {
	switch r {
	case '\\', '/', '(', ')', '{', '}', ';', '[', ']', '"', '=':
		return false
	case '#':
		return s.v1
	case '<', '>', ',':
		return !s.v1
	}
	return r > ' ' && !space(r) && newline(string(r)) == 0 && r != '\ufeff'
}

// token gives the identifier characters from the place on, without stepping over them.
func (s *scanner) token() string {
	rest := s.rest()
	for i, r := range rest {
		if !s.identifierChar(r) {
			return rest[:i]
		}
	}
	return rest
}

// skipSpace steps over white space within a line, and comments of the form /* */.
func (s *scanner) skipSpace() (some bool) {
	start := s.pos
	for {
		before := s.pos
		s.pos = len(s.text) - len(trimSpace(s.rest()))
		if s.v1 {
			s.eat(bom)
		}
		if s.has("/*") {
			s.skipBlock()
		}
		if s.pos == before {
			return s.pos > start
		}
	}
}

// skipBlock steps over a comment of the form /* */, in which others may stand.
func (s *scanner) skipBlock() {
	start, open := s.pos, 0
	for {
		i := strings.IndexAny(s.rest(), "/*")
		if i < 0 {
			s.fail(start, "this comment has no end; write */")
		}
		s.pos += i
		switch {
		case s.eat("/*"):
			open++
		case s.eat("*/"):
			if open--; open == 0 {
				return
			}
		default:
			s.pos++
		}
	}
}

// skipComment steps over a comment of the form //, without the newline that ends it.
func (s *scanner) skipComment() bool {
	if !s.has("//") {
		return false
	}
	for s.pos < len(s.text) && s.newline() == 0 {
		_, size := utf8.DecodeRuneInString(s.rest())
		s.pos += size
	}
	return true
}

// skipNodeSpace steps over white space within a node, where a newline needs a backslash before it.
func (s *scanner) skipNodeSpace() (some bool) {
	for {
		if s.skipSpace() {
			some = true
		}
		start := s.pos
		if !s.eat(`\`) {
			return some
		}
		some = true
		s.skipSpace()
		s.skipComment()
		size := s.newline()
		if size == 0 && (s.v1 || s.pos < len(s.text)) {
			s.fail(start, `after \ the line must end, except for a comment`)
		}
		s.pos += size
	}
}

// skipLineSpace steps over white space, comments and newlines between nodes.
func (s *scanner) skipLineSpace() {
	for {
		start := s.pos
		if s.v1 {
			s.skipSpace()
		} else {
			s.skipNodeSpace()
		}
		s.skipComment()
		s.pos += s.newline()
		if s.pos == start {
			return
		}
	}
}
