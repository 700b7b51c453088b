package busreplica

import (
	"fmt"
	"strings"
)

// root is what all subjects begin with. An operator can let a copy's user publish and subscribe to skep.config.> (and _INBOX.>), and no more.
const root = "skep.config."

// maxScope keeps subjects well below the 4 KiB that NATS's lines have by default.
const maxScope = 256

// subjectOf returns what the subjects of a document begin with.
func subjectOf(scope, document string) string { return root + token(scope) + "." + token(document) }

// token writes any text as one part of a subject: letters, digits, - and _ as they are, other bytes as = and two hexadecimal digits, and
// "" as =. Different texts make different tokens, and none has the dots and wildcards that mean something in a subject.
func token(text string) string {
	if text == "" {
		return "="
	}
	var b strings.Builder
	for _, c := range []byte(text) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}
