package milestone

import (
	"fmt"
	"strings"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/schema"
)

// Line is one effect of an operation, as a message tells it. Its texts have no line breaks.
type Line struct {
	Actor  string // human:zara, ci-pipeline
	Path   string // ENTITY.FIELD[KEY]@ENV; without @ENV of the base, without .FIELD of a whole entity
	Change string // OLD → NEW, or +ADDED -REMOVED, or a word on the entity
	Note   string // why; "" if nobody said
}

// maxLinesOfOp is how many effects of one operation are told one by one: a promotion of more is told by its size.
const maxLinesOfOp = 10

// linesOf tells an operation.
func linesOf(op *config.Op) []Line {
	actor := label(op.Actor)
	if op.Schema != nil {
		return []Line{{actor, "schema", "→ " + schemaVersion(op.Schema.Text), why(op, false)}}
	}
	changes := changesOf(op)
	if len(changes) > maxLinesOfOp {
		return []Line{summary(op, actor, changes)}
	}
	lines := make([]Line, 0, max(len(changes), 1))
	for _, c := range changes {
		if text := c.text(); text != "" {
			lines = append(lines, Line{actor, c.path(), text, why(op, c.override)})
		}
	}
	if len(lines) == 0 {
		lines = append(lines, Line{actor, kindText(op), "no change", why(op, false)})
	}
	return lines
}

func schemaVersion(text string) string {
	s, err := schema.Parse("schema", []byte(text))
	if err != nil || s.Version == "" {
		return "changed"
	}
	return valueText(s.Version)
}

// summary tells an operation that has too many effects.
func summary(op *config.Op, actor string, changes []*change) Line {
	entities, values := map[string]bool{}, 0
	for _, c := range changes {
		entities[c.Entity] = true
		if c.Field != "" {
			values++
		}
	}
	return Line{actor, kindText(op), fmt.Sprintf("%d values of %d entities", values, len(entities)), why(op, false)}
}

// kindText names an operation as a whole.
func kindText(op *config.Op) string {
	if op.Kind == config.Promote {
		return "promote " + word(op.From) + " → " + word(op.To)
	}
	return word(string(op.Kind))
}

// why is the note on an operation's effect.
func why(op *config.Op, override bool) string {
	what := ""
	switch {
	case op.Kind == config.Promote:
		what = promotedNote + word(op.From)
	case override:
		what = overrideNote
	case op.Kind == config.Resolve:
		what = resolvedNote
	}
	switch {
	case op.Intent == "" && what == "" && op.Via != "":
		return viaNote + note(op.Via)
	case op.Intent == "" || op.Intent == what:
		return what
	case what == "":
		return note(op.Intent)
	default:
		return what + ": " + note(op.Intent)
	}
}

// address is what effects of an operation are gathered by.
type address struct{ Entity, Field, Key, Env string }

// change is what an operation did at one address.
type change struct {
	address

	life     config.Verb // Life or Move: of a whole entity
	began    bool
	parent   string
	moved    bool
	put      bool // the value that was put, and the one before
	old, now any
	unknown  bool // what was before was not noted
	plus     []any
	minus    []any
	own      string // "[]" or "{}": the environment has its own set or map, with nothing in it
	override bool
}

// changesOf gathers the writes of an operation by address, in their order.
func changesOf(op *config.Op) []*change {
	var list []*change
	at, keyed := map[address]*change{}, map[address]bool{}
	for i := range op.Writes {
		w := &op.Writes[i]
		a := address{w.Entity, w.Field, w.Key, w.Env}
		if w.Do == config.Life || w.Do == config.Move {
			a = address{Entity: w.Entity}
		}
		if a.Key != "" {
			keyed[address{w.Entity, w.Field, "", w.Env}] = true
		}
		c := at[a]
		if w.Do == config.Note && (c != nil || keyed[a]) {
			continue // the elements say it; alone, it is a choice of what is there
		}
		if c == nil {
			c = &change{address: a}
			at[a] = c
			list = append(list, c)
		}
		c.add(op, w)
	}
	// What says only that a map is the environment's own says nothing beside its keys.
	kept := list[:0]
	for _, c := range list {
		if c.own == "" || !keyed[c.address] {
			kept = append(kept, c)
		}
	}
	return kept
}

func (c *change) add(op *config.Op, w *config.Write) {
	switch w.Do {
	case config.Life:
		c.life, c.began = config.Life, w.Inc%2 == 1
	case config.Move:
		if c.life == "" {
			c.life = config.Move
		}
		c.moved, c.parent = true, w.Parent
	case config.Add:
		c.plus = append(c.plus, w.Value)
	case config.Remove:
		c.minus = append(c.minus, w.Value)
	default:
		elements := w.Key == "" && w.Do == config.Put && w.Value != nil
		switch {
		case elements && w.Merge == schema.Set:
			c.own = "[]"
		case elements && strings.HasPrefix(string(w.Merge), string(schema.PerKey)):
			c.own = "{}"
		default:
			c.put, c.old, c.now = true, w.Old, w.Value
			c.unknown = op.Kind == config.Resolve && w.Old == nil
		}
		c.override = c.override || w.Do == config.Override
	}
}

func (c *change) path() string {
	p := entityText(c.Entity)
	if c.Field != "" {
		p += "." + word(c.Field)
	}
	if c.Key != "" {
		p += "[" + word(c.Key) + "]"
	}
	if c.Env != "" {
		p += "@" + word(c.Env)
	}
	return p
}

func (c *change) text() string {
	switch {
	case c.life != "":
		return c.lifeText()
	case c.put && c.unknown:
		return "→ " + valueText(c.now)
	case c.put:
		return valueText(c.old) + " → " + valueText(c.now)
	case len(c.plus)+len(c.minus) > 0:
		return c.elements()
	case c.own != "":
		return "→ " + c.own
	}
	return ""
}

func (c *change) lifeText() string {
	below := "to the top"
	if c.parent != "" {
		below = "below " + entityText(c.parent)
	}
	switch {
	case c.life == config.Move:
		return "moved " + below
	case !c.began:
		return "removed"
	case c.moved && c.parent != "":
		return "inserted " + below
	default:
		return "inserted"
	}
}

// maxElementsShown keeps the line of a large set readable.
const maxElementsShown = 10

func (c *change) elements() string {
	var texts []string
	for _, v := range c.plus {
		texts = append(texts, "+"+valueText(v))
	}
	for _, v := range c.minus {
		texts = append(texts, "-"+valueText(v))
	}
	if len(texts) > maxElementsShown {
		return fmt.Sprintf("+%d elements -%d elements", len(c.plus), len(c.minus))
	}
	return strings.Join(texts, " ")
}
