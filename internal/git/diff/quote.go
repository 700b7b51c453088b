package diff

import "fmt"

// quote writes a path as git does with core.quotePath: as it is, or, when it has bytes that are not printable ASCII, a
// quotation mark or a backslash, between quotation marks with C's escapes.
func quote(path string) string {
	for i := range len(path) {
		if mustEscape(path[i]) {
			return string(appendQuoted(nil, path))
		}
	}
	return path
}

func mustEscape(c byte) bool { return c < ' ' || c >= 0x7f || c == '"' || c == '\\' }

func appendQuoted(b []byte, path string) []byte {
	b = append(b, '"')
	for i := range len(path) {
		switch c := path[i]; {
		case c == '\a':
			b = append(b, `\a`...)
		case c == '\b':
			b = append(b, `\b`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\v':
			b = append(b, `\v`...)
		case c == '\f':
			b = append(b, `\f`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case mustEscape(c):
			b = fmt.Appendf(b, `\%03o`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
