package bare

import (
	"fmt"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// parseConfig reads a file in git's configuration syntax and calls each for its settings in order.
func parseConfig(text string, each func(setting) error) error {
	p := &configParser{rest: strings.TrimPrefix(text, "\ufeff"), line: 1}
	for {
		p.skipSpace()
		if p.rest == "" {
			return nil
		}
		if p.rest[0] == '[' {
			if err := p.header(); err != nil {
				return err
			}
			continue
		}
		s, err := p.variable()
		if err != nil {
			return err
		}
		if err := each(s); err != nil {
			return err
		}
	}
}

type configParser struct {
	rest    string
	line    int
	section string // with the dot
}

func (p *configParser) bad(what string) error {
	return fmt.Errorf("line %d: %s: %w", p.line, what, errkind.Invalid)
}

// skipSpace skips empty lines and comments.
func (p *configParser) skipSpace() {
	for p.rest != "" {
		switch p.rest[0] {
		case '\n':
			p.line++
			p.rest = p.rest[1:]
		case ' ', '\t', '\r':
			p.rest = p.rest[1:]
		case '#', ';':
			_, after, _ := strings.Cut(p.rest, "\n")
			p.rest = after
			p.line++
		default:
			return
		}
	}
}

// header reads [section] or [section "subsection"].
func (p *configParser) header() error {
	p.rest = p.rest[1:]
	n := 0
	for n < len(p.rest) && (nameByte(p.rest[n]) || p.rest[n] == '.') {
		n++
	}
	name := strings.ToLower(p.rest[:n])
	p.rest = strings.TrimLeft(p.rest[n:], " \t")
	if name == "" || p.rest == "" {
		return p.bad("a section has no name, or no end")
	}
	if p.rest[0] == ']' {
		p.section, p.rest = name+".", p.rest[1:]
		return nil
	}
	if p.rest[0] != '"' {
		return p.bad("a section's name has a character that it must not have")
	}
	var sub strings.Builder
	i := 1
	for ; i < len(p.rest) && p.rest[i] != '"'; i++ {
		if p.rest[i] == '\\' {
			i++
		}
		if i >= len(p.rest) || p.rest[i] == '\n' {
			return p.bad("a subsection's name has no end")
		}
		sub.WriteByte(p.rest[i])
	}
	if i+1 >= len(p.rest) || p.rest[i+1] != ']' {
		return p.bad("a section has no end")
	}
	p.section, p.rest = name+"."+sub.String()+".", p.rest[i+2:]
	return nil
}

// variable reads name, or name = value, to the end of the line.
func (p *configParser) variable() (setting, error) {
	n := 0
	for n < len(p.rest) && nameByte(p.rest[n]) {
		n++
	}
	if n == 0 || p.section == "" {
		return setting{}, p.bad("neither a section nor a variable")
	}
	s := setting{name: p.section + strings.ToLower(p.rest[:n])}
	p.rest = strings.TrimLeft(p.rest[n:], " \t\r")
	if p.rest == "" || p.rest[0] == '\n' || p.rest[0] == '#' || p.rest[0] == ';' {
		s.bare = true
		return s, nil
	}
	if p.rest[0] != '=' {
		return s, p.bad("a variable's name is followed by neither = nor the line's end")
	}
	p.rest = strings.TrimLeft(p.rest[1:], " \t")
	var err error
	s.value, err = p.value()
	return s, err
}

// value reads a value: quotes, escapes, comments, and lines that go on.
func (p *configParser) value() (string, error) {
	var b strings.Builder
	quoted, keep := false, 0 // keep: what trailing space must not be cut from
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '\n' && quoted:
			return "", p.bad("a quote has no end")
		case c == '\n', !quoted && (c == '#' || c == ';'):
			p.rest = p.rest[i:]
			return b.String()[:max(keep, len(strings.TrimRight(b.String(), " \t\r")))], nil
		case c == '"':
			quoted = !quoted
			keep = b.Len()
		case c == '\\':
			i++
			if i < len(p.rest) && p.rest[i] == '\r' && i+1 < len(p.rest) && p.rest[i+1] == '\n' {
				i++
			}
			if i >= len(p.rest) {
				return "", p.bad("a backslash with nothing behind it")
			}
			if p.rest[i] == '\n' {
				p.line++
				continue
			}
			escape := strings.IndexByte(`tbn\"`, p.rest[i])
			if escape < 0 {
				return "", p.bad("an unknown escape")
			}
			b.WriteByte("\t\b\n\\\""[escape])
			keep = b.Len()
		default:
			b.WriteByte(c)
			if quoted {
				keep = b.Len()
			}
		}
	}
	if quoted {
		return "", p.bad("a quote has no end")
	}
	p.rest = ""
	return b.String()[:max(keep, len(strings.TrimRight(b.String(), " \t\r")))], nil
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-'
}
