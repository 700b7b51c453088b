package kdl

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// isString says whether a string of any form starts at the place.
func (s *scanner) isString() bool {
	if s.has(`"`) || s.rawHashes() >= 0 {
		return true
	}
	token := s.token()
	return token != "" && s.notBare(token) == ""
}

// string reads a string of any form: quoted, raw or bare.
func (s *scanner) string() (text string, bare bool) {
	start := s.pos
	if hashes := s.rawHashes(); hashes >= 0 {
		return s.raw(hashes), false
	}
	if s.has(`"`) {
		return s.quoted(), false
	}
	token := s.token()
	if token == "" {
		s.fail(start, "expected a name or a string, found %s; a name with such a character needs quotes", s.next())
	}
	if why := s.notBare(token); why != "" {
		s.fail(start, "%s", why)
	}
	s.pos += len(token)
	return token, true
}

// notBare says why a token is not a string without quotes; "" if it is one.
func (s *scanner) notBare(token string) string {
	switch token {
	case "true", "false", "null":
		if s.v1 {
			return strconv.Quote(token) + " is a keyword; as a name it needs quotes"
		}
		return "write #" + token + " for the value, or \"" + token + "\" with quotes for the text"
	case "inf", "-inf", "nan":
		if s.v1 {
			return ""
		}
		return "write #" + token + " for the number, or \"" + token + "\" with quotes for the text"
	}
	if numeric(token) {
		return "text that starts like a number needs quotes: " + strconv.Quote(token)
	}
	unsigned := strings.TrimLeft(token[:1], "+-") + token[1:]
	if !s.v1 && len(unsigned) > 1 && unsigned[0] == '.' && digit(unsigned[1]) {
		return "write a digit before the point, 0" + unsigned + ", or quotes around text"
	}
	return ""
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// numeric says whether a token can only be a number: it starts with a digit, or with a sign and a digit.
func numeric(token string) bool {
	if token == "" {
		return false
	}
	if token[0] == '+' || token[0] == '-' {
		token = token[1:]
	}
	return token != "" && digit(token[0])
}

// rawHashes gives the number of # of the raw string at the place, and -1 if none starts there.
func (s *scanner) rawHashes() int {
	rest := s.rest()
	if s.v1 {
		after, found := strings.CutPrefix(rest, "r")
		if !found {
			return -1
		}
		rest = after
	}
	quoted := strings.TrimLeft(rest, "#")
	hashes := len(rest) - len(quoted)
	if !strings.HasPrefix(quoted, `"`) || hashes == 0 && !s.v1 {
		return -1
	}
	return hashes
}

// raw reads a raw string.
func (s *scanner) raw(hashes int) string {
	start := s.pos
	s.pos += hashes
	if s.v1 {
		s.pos++
	}
	quotes := `"`
	if !s.v1 && s.has(`"""`) {
		quotes = `"""`
	}
	s.pos += len(quotes)
	end := quotes + strings.Repeat("#", hashes)
	body, _, found := strings.Cut(s.rest(), end)
	if !found {
		s.fail(start, "this string has no end; write %s", end)
	}
	s.pos += len(body) + len(end)
	if len(quotes) == 3 {
		return s.dedent(start, body)
	}
	if at := indexNewline(body); at >= 0 && !s.v1 {
		s.fail(start, `a string over several lines has three quotes on each side: #""" … """#`)
	}
	return body
}

// quoted reads a string in quotes, with escapes.
func (s *scanner) quoted() string {
	start := s.pos
	quotes := `"`
	if !s.v1 && s.has(`"""`) {
		quotes = `"""`
	}
	s.pos += len(quotes)
	body := s.pos
	for !s.has(quotes) {
		switch {
		case s.pos == len(s.text):
			s.fail(start, "this string has no end; write %s", quotes)
		case s.has(`\`):
			s.skipEscape()
		case len(quotes) == 1 && !s.v1 && s.newline() > 0:
			s.fail(s.pos, `a string ends on its line; write \n, or three quotes on each side for a string over several lines`)
		default:
			s.pos++
		}
	}
	text := s.text[body:s.pos]
	s.pos += len(quotes)
	if !s.v1 {
		text = joinEscapedSpace(text)
	}
	if len(quotes) == 3 {
		text = s.dedent(start, text)
	}
	return unescape(text)
}

// skipEscape steps over an escape, and refuses what is none.
func (s *scanner) skipEscape() {
	start := s.pos
	s.pos++
	if s.pos == len(s.text) {
		return
	}
	if !s.v1 {
		rest := skipAllSpace(s.rest())
		if n := len(s.rest()) - len(rest); n > 0 {
			s.pos += n
			return
		}
	}
	c := s.text[s.pos]
	switch {
	case strings.IndexByte(`"\bfnrt`, c) >= 0 || c == 's' && !s.v1 || c == '/' && s.v1:
		s.pos++
	case c == 'u':
		if _, size := unicodeEscape(s.rest()); size > 0 {
			s.pos += size
			return
		}
		s.fail(start, `write \u{…} with 1 to 6 hexadecimal digits of a Unicode scalar value, up to 10ffff and not d800 to dfff`)
	case s.v1:
		s.fail(start, `after \ comes one of " \ / b f n r t u{…}; a backslash itself is \\`)
	default:
		s.fail(start, `after \ comes one of " \ b f n r s t u{…}, or white space to leave out; a backslash itself is \\`)
	}
}

// unicodeEscape reads u{…}; its size is 0 if it is not one.
func unicodeEscape(s string) (r rune, size int) {
	hex, found := strings.CutPrefix(s, "u{")
	if !found {
		return 0, 0
	}
	end := strings.IndexByte(hex[:min(len(hex), 7)], '}')
	if end < 1 || strings.Trim(hex[:end], bases[0].digits) != "" {
		return 0, 0
	}
	n, _ := strconv.ParseUint(hex[:end], 16, 32)
	if !utf8.ValidRune(rune(n)) {
		return 0, 0
	}
	return rune(n), len("u{}") + end
}

// skipAllSpace drops white space and newlines from the start of s.
func skipAllSpace(s string) string {
	for {
		rest := trimSpace(s)
		rest = rest[newline(rest):]
		if len(rest) == len(s) {
			return s
		}
		s = rest
	}
}

// joinEscapedSpace drops each backslash before white space together with that white space.
func joinEscapedSpace(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		if rest := skipAllSpace(s[i+1:]); len(rest) < len(s)-i-1 {
			s = rest
			continue
		}
		b.WriteString(s[i : i+2])
		s = s[i+2:]
	}
}

// unescape replaces the escapes of a text in which skipEscape found no mistake.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		size := 1
		switch c := s[0]; c {
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 's':
			b.WriteByte(' ')
		case 't':
			b.WriteByte('\t')
		case 'u':
			var r rune
			r, size = unicodeEscape(s)
			b.WriteRune(r)
		default: // " \ and, in KDL 1, /
			b.WriteByte(c)
		}
		s = s[size:]
	}
}

// dedent gives the value of a string over several lines: without its first newline and its last line, whose white space it
// takes from the start of each other line. Newlines become line feeds.
func (s *scanner) dedent(start int, body string) string {
	size := newline(body)
	if size == 0 {
		s.fail(start, `after three quotes a new line must start; write one quote for a string within a line`)
	}
	lines := splitLines(body[size:])
	last := len(lines) - 1
	indent := lines[last]
	if trimSpace(indent) != "" {
		s.fail(start, "the three quotes that end this string must stand on a line of their own")
	}
	for i, line := range lines[:last] {
		rest, found := strings.CutPrefix(line, indent)
		switch {
		case trimSpace(line) == "":
			rest = ""
		case !found:
			s.fail(start, "line %d of this string must start with the white space that stands before its closing quotes", i+1)
		}
		lines[i] = rest
	}
	return strings.Join(lines[:last], "\n")
}

// splitLines cuts s at each newline of any kind; there is always one line at least.
func splitLines(s string) []string {
	var lines []string
	for {
		i := indexNewline(s)
		if i < 0 {
			return append(lines, s)
		}
		lines = append(lines, s[:i])
		s = s[i+newline(s[i:]):]
	}
}

// indexNewline gives the offset of the first newline of any kind, or -1.
func indexNewline(s string) int {
	for i, r := range s {
		if (r <= '\r' || r >= 0x85) && newline(s[i:]) > 0 {
			return i
		}
	}
	return -1
}
