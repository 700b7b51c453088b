package milestone

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/value"
)

// What operations have in them comes from many hands, and a message is read by people and by programs. Here is how a text gets into one:
// as it is if that is plain, and otherwise quoted as in Go, which leaves no line break, no control character and nothing that turns the
// direction of writing. What is plain depends on where the text stands.

// Limits of texts in a message, in characters.
const (
	maxValueShown = 120
	maxNoteShown  = 240
	maxActorShown = 64
)

func quoted(s string, most int) string {
	if short, was := shorten(s, most); was {
		return strconv.Quote(short) + "…"
	}
	return strconv.Quote(s)
}

// shorten returns the first characters of a text, and whether there are more.
func shorten(s string, most int) (string, bool) {
	if len(s) <= most || utf8.RuneCountInString(s) <= most {
		return s, false
	}
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i], true
		}
	}
	return s, false
}

// word is a name in a path: plain if it has letters, digits and . _ / - only.
func word(s string) string {
	plain := !strings.ContainsFunc(s, func(r rune) bool {
		return r == utf8.RuneError || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._/-", r)
	})
	if plain && s != "" {
		return s
	}
	return quoted(s, config.MaxName)
}

// entityText is an entity's ID in a path.
func entityText(name string) string {
	kind, id, ok := strings.Cut(name, ".")
	if !ok {
		return word(name)
	}
	return word(kind) + "." + word(id)
}

// printable reports whether a text has only characters that can be seen, and single blanks at most between them.
func printable(s string) bool {
	return utf8.ValidString(s) && s != "" && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// label names an actor: people with "human:" before them. No other actor's name begins like that.
func label(a config.Actor) string {
	name := a.ID
	switch {
	case a.Class == config.Human:
		name = "human:" + name
	case strings.HasPrefix(name, "human:"):
		name = string(a.Class) + ":" + name
	}
	if printable(name) && !strings.ContainsAny(name, `[]"`) && utf8.RuneCountInString(name) <= maxActorShown {
		return name
	}
	return quoted(name, maxActorShown)
}

// noValue is how nil is shown.
const noValue = "unset"

// valueText is a value in a change. A string is quoted where it could be taken for something else.
func valueText(v any) string {
	switch v := v.(type) {
	case nil:
		return noValue
	case string:
		_, err := value.Decode([]byte(v))
		plain := err != nil && v != noValue && printable(v) && !strings.ContainsAny(v, ` "()[]{}→`) && utf8.RuneCountInString(v) <= maxValueShown
		if plain {
			return v
		}
		return quoted(v, maxValueShown)
	case []any:
		return compound(v, fmt.Sprintf("[%d elements]", len(v)))
	case map[string]any:
		return compound(v, fmt.Sprintf("{%d keys}", len(v)))
	default:
		return value.Text(v)
	}
}

// compound is a list or map as JSON, or only how large it is.
func compound(v any, size string) string {
	text := string(value.Encode(v))
	if utf8.RuneCountInString(text) > maxValueShown {
		return size
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// The beginnings of notes that say what an operation was. An intent that begins like that is quoted.
const (
	overrideNote = "manual override"
	resolvedNote = "resolved"
	promotedNote = "promoted from "
	viaNote      = "via "
)

// note is a text from outside in parentheses, at the end of a line.
func note(s string) string {
	reserved := slices.ContainsFunc([]string{overrideNote, resolvedNote, promotedNote, viaNote}, func(p string) bool { return strings.HasPrefix(s, p) })
	if printable(s) && !reserved && s[0] != '"' && utf8.RuneCountInString(s) <= maxNoteShown {
		return s
	}
	return quoted(s, maxNoteShown)
}

// unquoted returns the index of the first sep in a line that is not within quotes, or -1.
func unquoted(line, sep string) int {
	in := false
	for i := 0; i < len(line); i++ {
		switch {
		case !in && strings.HasPrefix(line[i:], sep):
			return i
		case line[i] == '"':
			in = !in
		case in && line[i] == '\\':
			i++
		}
	}
	return -1
}
