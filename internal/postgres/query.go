package postgres

import (
	"strconv"
	"strings"
)

// number turns ?, ?1, ?2 … into PostgreSQL's $1, $2 … and says how many parameters there are. As in SQLite, a bare ? is
// one more than the largest so far. Question marks in strings, quoted names and comments stay. PostgreSQL's own operators
// with a question mark cannot be written.
func number(query string) (text string, params int) {
	var b strings.Builder
	for i := 0; i < len(query); {
		if n := quoted(query[i:]); n > 0 {
			b.WriteString(query[i : i+n])
			i += n
			continue
		}
		if query[i] != '?' {
			b.WriteByte(query[i])
			i++
			continue
		}
		end := i + 1
		for end < len(query) && '0' <= query[end] && query[end] <= '9' {
			end++
		}
		n, err := strconv.Atoi(query[i+1 : end])
		if err != nil || n == 0 { // none, or one that is no number of a parameter
			n = params + 1
		}
		params = max(params, n)
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
		i = end
	}
	return b.String(), params
}

// quoted is the length of the string, quoted name or comment with which s begins, 0 if it begins with something else.
func quoted(s string) int {
	switch {
	case s[0] == '\'' || s[0] == '"':
		return upTo(s, 1, s[:1]) // a doubled quote ends one and begins the next
	case strings.HasPrefix(s, "--"):
		return upTo(s, 2, "\n")
	case strings.HasPrefix(s, "/*"):
		return upTo(s, 2, "*/")
	}
	return 0
}

// upTo is the length of s up to the first end behind skip bytes, with it.
func upTo(s string, skip int, end string) int {
	if n := strings.Index(s[skip:], end); n >= 0 {
		return skip + n + len(end)
	}
	return len(s)
}
