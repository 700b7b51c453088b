package access

import (
	"errors"
	"fmt"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// pattern names resources: type[/id][.field][@env], each with stars for any characters. A part that is left out, or only a star, is any.
// The field is what follows the last dot. What stands in double quotes is taken as it is, dots and slashes included.
type pattern struct{ typ, id, field, env part }

// part is a part of a pattern, as pieces of text with stars between them. No pieces: it is left out.
type part []string

func (p part) any() bool { return len(p) == 0 || len(p) == 2 && p[0] == "" && p[1] == "" }

func (p part) stars() bool { return len(p) > 1 }

func (p part) text() string { return strings.Join(p, "*") }

// quoted writes a part for policy.
func (p part) quoted(b *strings.Builder) {
	if p.any() {
		b.WriteByte('*')
		return
	}
	for i, piece := range p {
		if i > 0 {
			b.WriteByte('*')
		}
		if piece != "" {
			b.WriteString(`"` + piece + `"`)
		}
	}
}

// document is the pattern as policy's documents have it.
func (p pattern) document() string {
	var b strings.Builder
	if p.typ.any() && p.id.any() {
		b.WriteByte('*')
	} else {
		p.typ.quoted(&b)
		b.WriteString(`"` + separator + `"`)
		p.id.quoted(&b)
	}
	if !p.field.any() {
		b.WriteByte('.')
		p.field.quoted(&b)
	}
	if !p.env.any() {
		b.WriteByte('@')
		p.env.quoted(&b)
	}
	return b.String()
}

// token is a character of a pattern, and whether it stands outside of quotes.
type token struct {
	c    byte
	bare bool
}

func (t token) is(c byte) bool { return t.bare && t.c == c }

// The limits of a pattern. Package policy has higher ones, for what is made of it.
const (
	maxPatternBytes = 512
	maxPatternStars = 7
)

func parsePattern(text string) (p pattern, err error) {
	if len(text) > maxPatternBytes {
		return p, fmt.Errorf("it has %d bytes, and %d are allowed", len(text), maxPatternBytes)
	}
	if n := strings.Count(text, "*"); n > maxPatternStars {
		return p, fmt.Errorf("it has %d stars, and %d are allowed", n, maxPatternStars)
	}
	var tokens []token
	quoted := false
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case c < ' ' || c == 0x7f:
			return p, errors.New("it has a control character")
		default:
			tokens = append(tokens, token{c, !quoted})
		}
	}
	if quoted {
		return p, errors.New("it has a quote that is not closed")
	}
	// From the end: what follows the only @, then the last dot, then what is before the first slash.
	cut := func(c byte, last bool) (after []token, there bool) {
		at := -1
		for i, t := range tokens {
			if t.is(c) && (at < 0 || last) {
				at = i
			}
		}
		if at < 0 {
			return nil, false
		}
		tokens, after = tokens[:at], tokens[at+1:]
		return after, true
	}
	for _, s := range []struct {
		to   *part
		c    byte
		last bool
		what string
	}{{&p.env, '@', false, "environment"}, {&p.field, '.', true, "field"}, {&p.id, '/', false, "ID"}} {
		after, there := cut(s.c, s.last)
		if !there {
			continue
		}
		if len(after) == 0 {
			return p, fmt.Errorf("it has an empty %s: leave out the %c for any", s.what, s.c)
		}
		if s.c == '@' {
			for _, t := range after {
				if t.is('@') {
					return p, errors.New(`it has two @: write the one that belongs to a name in quotes, as in service/"a@b"@staging`)
				}
			}
		}
		*s.to = pieces(after)
	}
	if len(tokens) == 0 {
		return p, errors.New("it names no type: write * for any, as in *@staging")
	}
	p.typ = pieces(tokens)
	if text := p.typ.text(); strings.Contains(text, ".") {
		typ, id, _ := strings.Cut(text, ".")
		return p, fmt.Errorf("its type %q has a dot: write %s/%s", clip(text), clip(typ), clip(id))
	}
	return p, nil
}

func pieces(tokens []token) part {
	p := part{""}
	for _, t := range tokens {
		if t.is('*') {
			p = append(p, "")
		} else {
			p[len(p)-1] += string(t.c)
		}
	}
	return p
}

// Resource is what a question is about.
type Resource struct{ Entity, Field, Env string }

// ParseResource reads the name of one resource: service/api.replicas@staging. It is written as in rbac.toml, without stars.
func ParseResource(text string) (Resource, error) {
	p, err := parsePattern(text)
	if err == nil && (p.typ.stars() || p.id.stars() || p.field.stars() || p.env.stars()) {
		err = errors.New("it has a star, and the question is about one resource: name it")
	}
	if err != nil {
		return Resource{}, fmt.Errorf("resource %q: %w: write it as service/api.replicas@staging: %w", clip(text), err, errkind.Invalid)
	}
	r := Resource{Entity: p.typ.text(), Field: p.field.text(), Env: p.env.text()}
	if id := p.id.text(); id != "" {
		r.Entity += "." + id
	}
	return r, nil
}
