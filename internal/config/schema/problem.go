package schema

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"

	"github.com/skep-dev/skep/internal/errkind"
)

// maxProblems is how many problems of a text are told: nobody mends more before the next try.
const maxProblems = 50

// Problem is one thing that is wrong with a schema's text.
type Problem struct {
	Line, Column int // from 1; columns are characters
	Text         string
}

// Problems is the error of a text: everything that is wrong with it, in the order of the text. It is errkind.Invalid.
type Problems struct {
	Name string // of the text
	List []Problem
	More int // how many there are beyond the list
}

// Error returns a line for each problem: `schema.toml:12:5: field "weight": …`.
func (p *Problems) Error() string {
	var lines []string
	for _, problem := range p.List {
		lines = append(lines, fmt.Sprintf("%s:%d:%d: %s", p.Name, problem.Line, problem.Column, problem.Text))
	}
	if p.More > 0 {
		lines = append(lines, fmt.Sprintf("%s: and %d more", p.Name, p.More))
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the kind.
func (p *Problems) Unwrap() error { return errkind.Invalid }

// notes gathers problems by their places in a text.
type notes struct {
	text  []byte
	lines []int // where each line begins
	found []note
	done  map[int]bool // places where nothing else is worth telling
}

type note struct {
	pos  int
	text string
}

func newNotes(text []byte) *notes {
	n := &notes{text: text, lines: []int{0}, done: map[int]bool{}}
	for i, c := range text {
		if c == '\n' {
			n.lines = append(n.lines, i+1)
		}
	}
	return n
}

func (n *notes) add(pos int, format string, args ...any) {
	if !n.done[pos] {
		n.found = append(n.found, note{pos, fmt.Sprintf(format, args...)})
	}
}

// mistyped notes a value of the wrong type, which is read as if it were not there: what follows from that is not told too.
func (n *notes) mistyped(pos int, format string, args ...any) {
	n.add(pos, format, args...)
	n.done[pos] = true
}

// err returns what was found, or nil.
func (n *notes) err(name string) error {
	if len(n.found) == 0 {
		return nil
	}
	slices.SortStableFunc(n.found, func(a, b note) int { return a.pos - b.pos })
	n.found = slices.Compact(n.found)
	p := &Problems{Name: name, More: max(0, len(n.found)-maxProblems)}
	for _, f := range n.found[:len(n.found)-p.More] {
		line, found := slices.BinarySearch(n.lines, f.pos)
		if !found {
			line--
		}
		column := utf8.RuneCount(n.text[n.lines[line]:f.pos]) + 1
		p.List = append(p.List, Problem{line + 1, column, f.text})
	}
	return p
}

// syntax makes a Problems of what the TOML library says.
func syntax(name string, err error) error {
	p := Problem{Line: 1, Column: 1, Text: strings.TrimPrefix(err.Error(), "toml: ")}
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		p.Line, p.Column = decode.Position()
	}
	return &Problems{Name: name, List: []Problem{p}}
}

// didYouMean returns the nearest of some words as an addition to an error, or "" where none is near.
func didYouMean(word string, words []string) string {
	best, least := "", (len(word)+1)/3
	for _, w := range words {
		if d := distance(strings.ToLower(word), w, least); d <= least && (best == "" || d < least) {
			best, least = w, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %s?", best)
}

// distance returns how many letters differ between two words (Levenshtein), or more than most if they are too many.
func distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
