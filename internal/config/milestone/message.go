package milestone

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// Stamp is a full time: an HLC and the node that gave it out.
type Stamp struct {
	Time crdt.HLC
	Node string
}

func (s Stamp) String() string { return s.Time.String() + "@" + s.Node }

// Message is a milestone's commit message.
type Message struct {
	Subject      string // one line; "milestone: " comes before it
	Lines        []Line
	More         int      // operations that the lines do not tell
	Environments []string // of which files changed
	Operations   int
	Start, End   Stamp  // the earliest and the latest of the operations; zero without any
	LogHead      string // hash of the log's last record, "sha256:HEX"; "" if there is none
	Schema       string // version of the schema
	Version      crdt.Dots

	Allowed    bool     // somebody made the milestone in spite of
	Conflicts  []string // ENTITY.FIELD@ENV
	Violations []string // ENTITY.FIELD@ENV: what is wrong
	Overwrote  []string // files that somebody had edited in Git, and that are as before now
	Imported   string   // the commit with such edits that are among the operations now
}

// Limits of a message.
const (
	maxLines   = 500
	maxSubject = 200 // characters
	maxMessage = 4 << 20
)

// Ops gathers the operations of a milestone: all are counted, and the first ones are told.
type Ops struct {
	Count      int
	Start, End Stamp
	first      []*config.Op    // of all
	single     []*config.Op    // the first of those that are in no run
	runs       map[runKey]*run // all of them
	many       bool            // there are too many runs, and none are told as such

	final func(a address) (any, bool) // what a field is in the end; nil: nothing is known of that
}

// Add takes one more operation, in any order.
func (o *Ops) Add(op *config.Op) {
	at := Stamp{op.Time, op.ID.Node}
	if o.Count == 0 || at.compare(o.Start) < 0 {
		o.Start = at
	}
	if o.Count == 0 || at.compare(o.End) > 0 {
		o.End = at
	}
	o.Count++
	o.first = keep(o.first, op)
	key, ok := runOf(op)
	switch {
	case o.many:
	case !ok:
		o.single = keep(o.single, op)
	case o.runs[key] != nil:
		o.runs[key].add(op)
	case len(o.runs) == maxRuns:
		o.many, o.single, o.runs = true, nil, nil
	default:
		if o.runs == nil {
			o.runs = map[runKey]*run{}
		}
		o.runs[key] = &run{}
		o.runs[key].add(op)
	}
}

// keep adds an operation to a list of the first ones. Every operation that is told has a line at least, so that no more of them than lines
// are needed.
func keep(list []*config.Op, op *config.Op) []*config.Op {
	if list = append(list, op); len(list) >= 2*maxLines {
		slices.SortFunc(list, compareOps)
		list = list[:maxLines]
	}
	return list
}

func (s Stamp) compare(t Stamp) int {
	return cmp.Or(cmp.Compare(s.Time, t.Time), cmp.Compare(s.Node, t.Node))
}

// compareOps is the total order of operations.
func compareOps(a, b *config.Op) int {
	return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Actor.ID, b.Actor.ID), cmp.Compare(a.ID.Node, b.ID.Node), cmp.Compare(a.ID.Seq, b.ID.Seq))
}

// Tell puts the operations into a message.
func (o *Ops) Tell(m *Message) {
	m.Operations, m.Start, m.End = o.Count, o.Start, o.End
	m.Lines, m.More = nil, o.Count
	alone := o.single
	if o.many {
		alone = o.first
	}
	told := make([]*run, 0, len(alone)+len(o.runs))
	for _, op := range alone {
		told = append(told, &run{first: op, count: 1})
	}
	told = slices.AppendSeq(told, maps.Values(o.runs))
	slices.SortFunc(told, func(a, b *run) int { return compareOps(a.first, b.first) })
	final := o.final
	if final == nil {
		final = func(address) (any, bool) { return nil, false }
	}
	after := nexts(told, final)
	for _, r := range told {
		lines := r.lines(after)
		if len(m.Lines)+len(lines) > maxLines {
			break
		}
		m.Lines = append(m.Lines, lines...)
		m.More -= r.count
	}
}

// CheckSubject refuses what cannot be a milestone's subject.
func CheckSubject(s string) error {
	if !printable(s) || utf8.RuneCountInString(s) > maxSubject {
		return fmt.Errorf("milestone: message %q: it has to be one line of 1 to %d characters that can be printed: %w", clip(s), maxSubject, errkind.Invalid)
	}
	return nil
}

func clip(s string) string {
	short, was := shorten(s, 80)
	if was {
		short += "…"
	}
	return short
}

// The parts of a message.
const (
	subjectPrefix  = "milestone: "
	operationsLine = "Operations since last milestone:"
	affectedPrefix = "Environments affected: "
	rangePrefix    = "Causal range: "
	countPrefix    = "Operations: "
	nothing        = "none"
)

// The trailers of a message.
const (
	rangeTrailer     = "Conflux-Range"
	headTrailer      = "Conflux-Log-Head"
	schemaTrailer    = "Conflux-Schema"
	versionTrailer   = "Conflux-Version"
	allowedTrailer   = "Conflux-Allow-Violations"
	conflictTrailer  = "Conflux-Conflict"
	violationTrailer = "Conflux-Violation"
	overwroteTrailer = "Conflux-Overwrote"
	importedTrailer  = "Conflux-Imported"
)

// maxColumn is how wide the actors' column may get, so that a single long name does not push all others to the right.
const maxColumn = 32

// String returns the message's text. No text of an operation ends a line or begins one: only the trailers begin with "Conflux-".
func (m *Message) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\n\n%s\n", subjectPrefix, m.Subject, operationsLine)
	width := 0
	for _, l := range m.Lines {
		if n := utf8.RuneCountInString(l.Actor) + 2; n <= maxColumn {
			width = max(width, n)
		}
	}
	for _, l := range m.Lines {
		fmt.Fprintf(&b, "  %-*s %s: %s", width, "["+l.Actor+"]", l.Path, l.Change)
		if l.Note != "" {
			fmt.Fprintf(&b, " (%s)", l.Note)
		}
		b.WriteByte('\n')
	}
	switch {
	case m.More > 0 && len(m.Lines) > 0:
		fmt.Fprintf(&b, "  … and %d more\n", m.More)
	case m.More > 0:
		fmt.Fprintf(&b, "  … %d\n", m.More)
	case len(m.Lines) == 0:
		fmt.Fprintf(&b, "  %s\n", nothing)
	}
	affected, causal := nothing, nothing
	if len(m.Environments) > 0 {
		affected = strings.Join(m.Environments, ", ")
	}
	if m.Start.Node != "" {
		causal = m.Start.Time.String() + " → " + m.End.Time.String()
	}
	fmt.Fprintf(&b, "\n%s%s\n%s%s\n%s%d\n\n", affectedPrefix, affected, rangePrefix, causal, countPrefix, m.Operations)
	m.trailers(&b)
	return b.String()
}

func (m *Message) trailers(b *strings.Builder) {
	trailer := func(key, v string) {
		if v != "" {
			fmt.Fprintf(b, "%s: %s\n", key, v)
		}
	}
	if m.Start.Node != "" {
		trailer(rangeTrailer, m.Start.String()+".."+m.End.String())
	}
	trailer(headTrailer, m.LogHead)
	if m.Schema != "" {
		trailer(schemaTrailer, note(m.Schema))
	}
	fmt.Fprintf(b, "%s: %s\n", versionTrailer, cmp.Or(m.Version.String(), nothing))
	if m.Allowed {
		trailer(allowedTrailer, "true")
	}
	list := func(key string, texts []string) {
		for _, t := range texts[:min(len(texts), maxFindingsNoted)] {
			trailer(key, t)
		}
		if more := len(texts) - maxFindingsNoted; more > 0 {
			trailer(key, fmt.Sprintf("… and %d more", more))
		}
	}
	list(conflictTrailer, m.Conflicts)
	list(violationTrailer, m.Violations)
	list(overwroteTrailer, m.Overwrote)
	trailer(importedTrailer, m.Imported)
}

// ParseMessage reads a message. What others put behind it, like a Signed-off-by, is not looked at. An error that wraps errkind.NotFound
// says that it is no milestone's.
func ParseMessage(text string) (*Message, error) {
	if len(text) > maxMessage {
		return nil, fmt.Errorf("read milestone: its message has %d bytes, and %d are allowed: %w", len(text), maxMessage, errkind.TooLarge)
	}
	subject, rest, _ := strings.Cut(text, "\n")
	m := &Message{}
	var ok bool
	if m.Subject, ok = strings.CutPrefix(subject, subjectPrefix); !ok || !strings.Contains(rest, "\n"+versionTrailer+": ") {
		return nil, fmt.Errorf("commit %q is no milestone: %w", clip(subject), errkind.NotFound)
	}
	for line := range strings.SplitSeq(rest, "\n") {
		if err := m.parseLine(line); err != nil {
			return nil, fmt.Errorf("read milestone: line %q: %w: %w", clip(line), err, errkind.Invalid)
		}
	}
	return m, nil
}

func (m *Message) parseLine(line string) (err error) {
	if strings.HasPrefix(line, "  ") {
		return m.parseEffect(line[2:])
	}
	key, v, ok := strings.Cut(line, ": ")
	if !ok {
		return nil
	}
	switch key + ": " {
	case affectedPrefix:
		if v != nothing {
			m.Environments = strings.Split(v, ", ")
		}
		return nil
	case countPrefix:
		m.Operations, err = strconv.Atoi(v)
		return err
	}
	return m.parseTrailer(key, v)
}

func (m *Message) parseTrailer(key, v string) (err error) {
	switch key {
	case rangeTrailer:
		start, end, _ := strings.Cut(v, "..")
		if m.Start, err = parseStamp(start); err == nil {
			m.End, err = parseStamp(end)
		}
	case headTrailer:
		m.LogHead = v
	case schemaTrailer:
		if m.Schema = v; strings.HasPrefix(v, `"`) {
			m.Schema, err = strconv.Unquote(v)
		}
	case versionTrailer:
		if m.Version = (crdt.Dots{}); v != nothing {
			m.Version, err = crdt.ParseDots(v)
		}
	case allowedTrailer:
		m.Allowed = v == "true"
	case conflictTrailer:
		m.Conflicts = append(m.Conflicts, v)
	case violationTrailer:
		m.Violations = append(m.Violations, v)
	case overwroteTrailer:
		m.Overwrote = append(m.Overwrote, v)
	case importedTrailer:
		m.Imported = v
	}
	return err
}

func parseStamp(s string) (Stamp, error) {
	text, node, _ := strings.Cut(s, "@")
	h, err := crdt.ParseHLC(text)
	if err == nil {
		err = crdt.CheckNode(node)
	}
	return Stamp{h, node}, err
}

// parseEffect reads a line of an operation, without its indentation.
func (m *Message) parseEffect(line string) (err error) {
	if n, ok := strings.CutPrefix(line, "… "); ok {
		m.More, err = strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(n, "and "), " more"))
		return err
	}
	if !strings.HasPrefix(line, "[") {
		return nil
	}
	var l Line
	end := unquoted(line, "]")
	if end < 0 {
		return fmt.Errorf("the actor's name does not end")
	}
	l.Actor, line = line[1:end], strings.TrimLeft(line[end+1:], " ")
	colon := unquoted(line, ": ")
	if colon < 0 {
		return fmt.Errorf("it does not say what changed")
	}
	l.Path, l.Change = line[:colon], line[colon+2:]
	if open := unquoted(l.Change, " ("); open >= 0 && strings.HasSuffix(l.Change, ")") {
		l.Change, l.Note = l.Change[:open], l.Change[open+2:len(l.Change)-1]
	}
	m.Lines = append(m.Lines, l)
	return nil
}
