package kdl

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/errkind"
)

// Marshal writes a document in KDL 2: four spaces a level, arguments before properties, properties sorted by key, strings
// without quotes where they need none. It refuses a document that Parse could not read back: text that is not UTF-8, data
// of another type than Value allows, a Number that Parse would write otherwise, more than MaxDepth levels.
func Marshal(doc *Document) ([]byte, error) {
	var w writer
	w.nodes(doc.Nodes, 0)
	if w.err != nil {
		return nil, fmt.Errorf("write KDL: %w: %w", w.err, errkind.Invalid)
	}
	return w.out.Bytes(), nil
}

// writer keeps the first mistake.
type writer struct {
	out bytes.Buffer
	err error
}

func (w *writer) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

func (w *writer) nodes(nodes []Node, depth int) {
	if depth > MaxDepth {
		w.fail("more than %d levels of children", MaxDepth)
		return
	}
	indent := strings.Repeat("    ", depth)
	for i := range nodes {
		n := &nodes[i]
		w.out.WriteString(indent)
		w.annotation(n.Type)
		w.string(n.Name)
		for _, v := range n.Args {
			w.out.WriteByte(' ')
			w.value(v)
		}
		props := slices.Clone(onlyLast(n.Props))
		slices.SortFunc(props, func(a, b Prop) int { return cmp.Compare(a.Key, b.Key) })
		for _, p := range props {
			w.out.WriteByte(' ')
			w.string(p.Key)
			w.out.WriteByte('=')
			w.value(p.Value)
		}
		if len(n.Children) > 0 {
			w.out.WriteString(" {\n")
			w.nodes(n.Children, depth+1)
			w.out.WriteString(indent + "}")
		}
		w.out.WriteByte('\n')
	}
}

func (w *writer) annotation(typ *string) {
	if typ != nil {
		w.out.WriteByte('(')
		w.string(*typ)
		w.out.WriteByte(')')
	}
}

func (w *writer) value(v Value) {
	w.annotation(v.Type)
	switch d := v.Data.(type) {
	case nil:
		w.out.WriteString("#null")
	case bool:
		fmt.Fprintf(&w.out, "#%t", d)
	case string:
		w.string(d)
	case Number:
		if !d.valid() {
			w.fail("%.40q is not a number in the form that Parse gives", string(d))
		}
		w.out.WriteString(string(d))
	default:
		w.fail("%T is not a value of KDL: write nil, bool, string or Number", d)
	}
}

// string writes text, in quotes if it needs them.
func (w *writer) string(text string) {
	if !utf8.ValidString(text) {
		w.fail("%.40q is not UTF-8", text)
	}
	if s := (scanner{text: text}); text != "" && s.token() == text && s.notBare(text) == "" && !hasDisallowed(text) {
		w.out.WriteString(text)
		return
	}
	w.out.WriteByte('"')
	for _, r := range text {
		switch r {
		case '"', '\\':
			w.out.WriteByte('\\')
			w.out.WriteRune(r)
		case '\n':
			w.out.WriteString(`\n`)
		case '\r':
			w.out.WriteString(`\r`)
		case '\t':
			w.out.WriteString(`\t`)
		case '\b':
			w.out.WriteString(`\b`)
		case '\f':
			w.out.WriteString(`\f`)
		default:
			if disallowed(r) || newline(string(r)) > 0 {
				fmt.Fprintf(&w.out, `\u{%x}`, r)
			} else {
				w.out.WriteRune(r)
			}
		}
	}
	w.out.WriteByte('"')
}

func hasDisallowed(text string) bool { return strings.ContainsFunc(text, disallowed) }
