package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// Class is what an actor is.
type Class string

// The classes.
const (
	Human    Class = "human"
	Pipeline Class = "pipeline"
	Operator Class = "operator"
	System   Class = "system"
)

// ParseClass reads a class; none is Human.
func ParseClass(s string) (Class, error) {
	switch c := Class(s); c {
	case "":
		return Human, nil
	case Human, Pipeline, Operator, System:
		return c, nil
	}
	return "", fmt.Errorf("actor class %q: there are human, pipeline, operator and system: %w", clip(s), errkind.Invalid)
}

// Actor is who wants something: a person or a program.
type Actor struct {
	ID    string `json:"id"`
	Class Class  `json:"class"`
	Name  string `json:"name,omitempty"`
}

// Check refuses an actor that nobody could be told by: without a name, or with one that does not show.
func (a Actor) Check() error {
	for what, s := range map[string]string{"actor": a.ID, "actor's display name": a.Name} {
		if len(s) > MaxName || !utf8.ValidString(s) || strings.ContainsFunc(s, unprintable) || strings.TrimSpace(s) != s {
			return fmt.Errorf("%s %q: it has 1 to %d bytes of UTF-8, without control characters and blanks around it: %w", what, clip(s), MaxName, errkind.Invalid)
		}
	}
	if a.ID == "" {
		return fmt.Errorf("actor: an operation needs one: %w", errkind.Invalid)
	}
	_, err := ParseClass(string(a.Class))
	return err
}

// unprintable are characters with which a text could look like another one, or do something to a terminal.
func unprintable(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// Kind is what an operation is for. What it does is in its writes.
type Kind string

// The kinds.
const (
	SetField     Kind = "set_field"
	SetOverride  Kind = "set_override" // in an environment, or over the strategy of max, min and grow
	InsertEntity Kind = "insert_entity"
	RemoveEntity Kind = "remove_entity"
	MoveEntity   Kind = "move_entity"
	Resolve      Kind = "resolve_conflict"
	Promote      Kind = "promote"
	ChangeSchema Kind = "change_schema"
)

// Op is an operation: what somebody did, with all that it needs to have the same effect on every copy of the document. It never changes.
type Op struct {
	ID        crdt.Dot   `json:"id"`
	Time      crdt.HLC   `json:"hlc"`
	Actor     Actor      `json:"actor"`
	Kind      Kind       `json:"kind"`
	Intent    string     `json:"intent,omitempty"`
	From      string     `json:"from,omitempty"`   // of Promote
	To        string     `json:"to,omitempty"`     // of Promote
	Via       string     `json:"via,omitempty"`    // where it comes from if not from the actor's hand: "import:FILE", "git:OID"
	Schema    *NewSchema `json:"schema,omitempty"` // of ChangeSchema
	Writes    []Write    `json:"writes,omitempty"`
	Signature *Signature `json:"signature,omitempty"`
}

// Signature is what a client signed: the text of its request, before anything was worked out.
type Signature struct {
	Key  string `json:"key"`
	Body string `json:"body"`
	Sig  string `json:"sig"` // base64
}

// NewSchema is a schema that takes the place of the one before.
type NewSchema struct {
	Text string `json:"text"`
	// Gens says since which operation each field, TYPE.FIELD, has its type and strategy. Writes from before that do not count.
	Gens map[string]crdt.Dot `json:"gens"`
}

// Verb is what a write does to a cell or an entity.
type Verb string

// The verbs.
const (
	Put      Verb = "put"      // a value, or nil: unset
	Override Verb = "override" // the same, over max, min and grow
	Add      Verb = "add"      // an element
	Remove   Verb = "remove"   // an element, as far as it was seen
	Life     Verb = "life"     // Inc odd: the entity is there; even: it is not
	Move     Verb = "move"
	Note     Verb = "note" // what a set or map comes to by this operation, to be reviewed as a whole
)

// Write is one effect of an operation.
type Write struct {
	Do       Verb
	Entity   string
	Inc      uint32 // the entity's incarnation: 1, 3, … one that is, 2, 4, … one that is over
	Field    string
	Key      string // of a map
	Env      string // "" is the base
	Gen      crdt.Dot
	Merge    schema.Merge
	Value    any
	Old      any        // what the maker saw before, to be shown
	Epoch    crdt.Dot   // of max, min and grow: the override that the maker had seen
	Seen     []crdt.Tag // of Remove: the additions; of review: the siblings
	Reviewed bool       // the field also keeps siblings, though the strategy makes a value of them
	Parent   string
	Position string
}

// Limits of an operation.
const (
	MaxWrites = 20_000  // a promotion of that many fields; a larger one goes by a filter, part by part
	MaxOpSize = 4 << 20 // bytes of its text
	MaxIntent = 1024    // bytes
	MaxName   = 256     // bytes of an entity's ID, a map's key, an actor

	MaxSiblings = 100 // writes of a field that wait for a choice: nobody reads more, and each makes the next ones slower

	maxInc = 1 << 31 // incarnations of an entity: never reached, and so none can overflow
)

// origin returns who made the operation, and when: what each of its writes refers to.
func (o *Op) origin() *crdt.Origin {
	return &crdt.Origin{Dot: o.ID, Time: o.Time, Actor: o.Actor.ID, Class: string(o.Actor.Class), Name: o.Actor.Name, Intent: o.Intent}
}

// Type returns the type of an entity by its ID, TYPE.ID.
func Type(entity string) string {
	t, _, _ := strings.Cut(entity, ".")
	return t
}

// ParseEntity reads an entity's ID: TYPE.ID or TYPE/ID, of which it returns the first. The type has no dot and no slash.
func ParseEntity(s string) (string, error) {
	i := strings.IndexAny(s, "./")
	if i <= 0 || i == len(s)-1 || len(s) > MaxName || !utf8.ValidString(s) || strings.ContainsFunc(s, unprintable) || strings.TrimSpace(s) != s {
		return "", fmt.Errorf("entity %q is not of the form TYPE.ID: %w", clip(s), errkind.Invalid)
	}
	return s[:i] + "." + s[i+1:], nil
}

// clip keeps an error's text short, whatever somebody sent.
func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "…"
	}
	return s
}

// MarshalJSON writes what there is to say of a write.
func (w *Write) MarshalJSON() ([]byte, error) { return w.append(nil), nil }

func (w *Write) append(b []byte) []byte {
	text := func(name, s string) {
		if s != "" {
			b = append(append(append(b, ',', '"'), name...), '"', ':')
			b = value.Append(b, s)
		}
	}
	b = append(b, `{"do":"`...)
	b = append(append(b, w.Do...), '"')
	text("entity", w.Entity)
	if w.Inc > 0 {
		b = strconv.AppendUint(append(b, `,"inc":`...), uint64(w.Inc), 10)
	}
	text("field", w.Field)
	text("key", w.Key)
	text("env", w.Env)
	text("gen", w.Gen.String())
	text("merge", string(w.Merge))
	if w.Value != nil {
		b = value.Append(append(b, `,"value":`...), w.Value)
	}
	if w.Old != nil {
		b = value.Append(append(b, `,"old":`...), w.Old)
	}
	text("epoch", w.Epoch.String())
	if len(w.Seen) > 0 {
		b = append(b, `,"seen":[`...)
		for i, t := range w.Seen {
			if i > 0 {
				b = append(b, ',')
			}
			b = value.Append(b, t.String())
		}
		b = append(b, ']')
	}
	if w.Reviewed {
		b = append(b, `,"reviewed":true`...)
	}
	text("parent", w.Parent)
	text("position", w.Position)
	return append(b, '}')
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (w *Write) UnmarshalJSON(data []byte) error {
	var in struct {
		Do       Verb
		Entity   string
		Inc      uint32
		Field    string
		Key      string
		Env      string
		Gen      crdt.Dot
		Merge    schema.Merge
		Value    json.RawMessage
		Old      json.RawMessage
		Epoch    crdt.Dot
		Seen     []crdt.Tag
		Reviewed bool
		Parent   string
		Position string
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*w = Write{
		Do: in.Do, Entity: in.Entity, Inc: in.Inc, Field: in.Field, Key: in.Key, Env: in.Env, Gen: in.Gen, Merge: in.Merge,
		Epoch: in.Epoch, Seen: in.Seen, Reviewed: in.Reviewed, Parent: in.Parent, Position: in.Position,
	}
	var err error
	if in.Value != nil {
		if w.Value, err = value.Decode(in.Value); err != nil {
			return err
		}
	}
	if in.Old != nil {
		w.Old, err = value.Decode(in.Old)
	}
	return err
}

// check finds what no node makes. Everything else about an operation was decided where it was made, and is not asked again: to refuse
// on one node what another took would keep the two from ever being equal.
func (o *Op) check() error {
	if o.ID.IsZero() || o.Time == 0 {
		return fmt.Errorf("it has no ID or no time")
	}
	if len(o.Writes) > MaxWrites {
		return fmt.Errorf("it has %d writes, and %d are allowed", len(o.Writes), MaxWrites)
	}
	for i := range o.Writes {
		if err := o.Writes[i].check(); err != nil {
			return fmt.Errorf("write %d: %w", i, err)
		}
	}
	return nil
}

// verbs are what can be done to a cell of each strategy.
var verbs = map[schema.Merge][]Verb{
	schema.LWW:    {Put},
	schema.Max:    {Put, Override},
	schema.Min:    {Put, Override},
	schema.Set:    {Put, Add, Remove, Note},
	schema.Grow:   {Add, Override, Note},
	schema.Review: {Put},
	schema.PerKey: {Put, Note},
	mapOfMax:      {Put, Override, Note},
	mapOfMin:      {Put, Override, Note},
}

// The strategies of writes to a map's keys where the keys are not LWW.
const (
	mapOfMax schema.Merge = "map:max"
	mapOfMin schema.Merge = "map:min"
)

// strategy returns the strategy that a field's writes name.
func strategy(f *schema.Field) schema.Merge {
	switch {
	case f.Merge != schema.PerKey || f.MapValues == schema.LWW || f.MapValues == "":
		return f.Merge
	case f.MapValues == schema.Max:
		return mapOfMax
	default:
		return mapOfMin
	}
}

func ofMap(m schema.Merge) bool { return m == schema.PerKey || m == mapOfMax || m == mapOfMin }

// ofKeys returns the strategy of a map's keys.
func ofKeys(m schema.Merge) schema.Merge {
	switch m {
	case mapOfMax:
		return schema.Max
	case mapOfMin:
		return schema.Min
	default:
		return schema.LWW
	}
}

func (w *Write) check() error {
	if name, err := ParseEntity(w.Entity); err != nil || name != w.Entity {
		return cmp.Or(err, fmt.Errorf("the entity %q is not written %q", w.Entity, name))
	}
	if w.Inc > maxInc {
		return fmt.Errorf("incarnation %d is more than %d, the most that there can be", w.Inc, maxInc)
	}
	switch w.Do {
	case Life:
		if w.Inc == 0 {
			return fmt.Errorf("an entity's life has no incarnation")
		}
		return nil
	case Move:
		if w.Position != "" {
			return crdt.CheckPosition(w.Position)
		}
		return nil
	default:
	}
	if !slices.Contains(verbs[w.Merge], w.Do) {
		return fmt.Errorf("%q cannot be done to a field of strategy %q", w.Do, w.Merge)
	}
	if w.Field == "" || w.Inc%2 == 0 {
		return fmt.Errorf("it names no field, or no incarnation that is")
	}
	bySize := w.Merge == schema.Max || w.Merge == schema.Min || (w.Merge == mapOfMax || w.Merge == mapOfMin) && w.Key != ""
	if bySize && w.Do == Put && w.Value == nil {
		return fmt.Errorf("only an override unsets a field of strategy %q", w.Merge)
	}
	return nil
}
