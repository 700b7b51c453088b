// Package kdl reads and writes documents in KDL, the document language of kdl.dev.
//
//	doc, err := kdl.Parse(data, kdl.Options{})
//	for _, n := range doc.Nodes {
//		use(n.Name, n.Args, n.Props, n.Children)
//	}
//	data, err = kdl.Marshal(doc)
//
// It reads KDL 2.0 (draft-marchan-kdl2) and KDL 1.0, and writes KDL 2.0. What Marshal has written, Parse reads back as the
// same document. Comments are not kept. Numbers are kept as their decimal text, so none loses a digit.
package kdl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
)

// Limits of Parse. They are far above what people write, and keep what a document costs near a small multiple of its size.
const (
	MaxBytes  = 16 << 20 // of a document
	MaxDepth  = 128      // of children in children
	MaxItems  = 1 << 20  // nodes, arguments and properties of a document: each costs some 100 bytes, its text as little as 2
	MaxDigits = 4096     // characters of a number: converting one from base 16 takes time quadratic in them
)

// Document is a list of nodes.
type Document struct {
	Version int // the version of KDL it was read as, 1 or 2; Marshal always writes 2
	Nodes   []Node
}

// Node is a named thing with arguments, properties and children.
type Node struct {
	Type     *string // the annotation in parentheses; nil without one
	Name     string
	Args     []Value
	Props    []Prop // in the order of the document, each key once: the last one counts
	Children []Node
}

// Prop is a property of a node: key=value.
type Prop struct {
	Key   string
	Value Value
}

// Value is an argument, or the value of a property.
type Value struct {
	Type *string // the annotation in parentheses; nil without one
	Data any     // nil, bool, string or Number
}

// Options of Parse. The zero Options is a working one.
type Options struct {
	// Version is the version of KDL, 1 or 2. With 0 the marker in the document's first line says it (`/- kdl-version 1`);
	// without a marker it is 2, or 1 if the document is not valid in 2 and is in 1. No document is valid in both and means
	// different things.
	Version int
}

// Error says where a document is malformed, and what to write instead.
type Error struct {
	Line, Column int // from 1, the column in characters
	Text         string
	kind         errkind.Kind
}

// Error gives the place and the text.
func (e *Error) Error() string { return fmt.Sprintf("line %d column %d: %s", e.Line, e.Column, e.Text) }

// Unwrap gives errkind.Invalid, or errkind.TooLarge for a limit.
func (e *Error) Unwrap() error { return e.kind }

// Parse reads a document. What is wrong with it comes as an *Error.
func Parse(data []byte, opts Options) (*Document, error) {
	if opts.Version < 0 || opts.Version > 2 {
		return nil, fmt.Errorf("there is no KDL version %d, only 1 and 2: %w", opts.Version, errkind.Invalid)
	}
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("a KDL document has at most %d bytes, this one %d: %w", MaxBytes, len(data), errkind.TooLarge)
	}
	text := string(data)
	marked, size := marker(text)
	version := opts.Version
	if version == 0 {
		version = marked
	}
	if marked != 0 && marked != version {
		return nil, at(text, 0, errkind.Invalid,
			fmt.Sprintf("the document says that it is KDL %d, and is to be read as KDL %d", marked, version))
	}
	if version != 0 {
		return parse(text, size, version)
	}
	doc, err := parse(text, size, 2)
	if err != nil {
		// A file from before KDL 2 has no marker.
		if old, oldErr := parse(text, size, 1); oldErr == nil {
			return old, nil
		}
	}
	return doc, err
}

// marker gives the version that the first line of a document names, and that line's size: 0, 0 without a marker.
func marker(text string) (version, size int) {
	rest := strings.TrimPrefix(text, bom)
	rest, found := strings.CutPrefix(rest, "/-")
	if !found {
		return 0, 0
	}
	rest, found = strings.CutPrefix(trimSpace(rest), "kdl-version")
	digit := trimSpace(rest)
	if !found || len(digit) == len(rest) || digit == "" || digit[0] != '1' && digit[0] != '2' {
		return 0, 0
	}
	rest = trimSpace(digit[1:])
	if rest != "" && newline(rest) == 0 {
		return 0, 0
	}
	return int(digit[0] - '0'), len(text) - len(rest)
}

// Prop gives the value of a property.
func (n *Node) Prop(key string) (Value, bool) {
	for _, p := range n.Props {
		if p.Key == key {
			return p.Value, true
		}
	}
	return Value{}, false
}

// onlyLast drops each property that a later one with the same key replaces.
func onlyLast(props []Prop) []Prop {
	if len(props) < 2 {
		return props
	}
	seen := make(map[string]bool, len(props))
	kept := make([]Prop, 0, len(props))
	for _, p := range slices.Backward(props) {
		if !seen[p.Key] {
			seen[p.Key] = true
			kept = append(kept, p)
		}
	}
	slices.Reverse(kept)
	return kept
}
