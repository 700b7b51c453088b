package config

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// Request is what somebody wants done. Which of its parts count depends on the kind.
type Request struct {
	Kind   Kind
	Entity string
	Field  string
	Key    string // of a map's field: only this key
	Env    string // "" is the base
	Value  any    // SetField, Resolve: nil unsets
	Add    []any  // SetField of a set or grow, instead of Value
	Remove []any  // of a set

	Override bool // over the strategy of max, min and grow
	NoCreate bool // SetField of an entity that is not there is refused, and does not begin it

	Fields   map[string]any // InsertEntity: values in Env
	Parent   string         // InsertEntity, MoveEntity
	Before   string         // of the parent's child with this ID; neither: at the end
	After    string
	Position string // instead of Before and After, as Place returned it
	Restore  bool   // InsertEntity: with the values of its last incarnation
	Cascade  bool   // RemoveEntity: with all below it

	From, To string // Promote
	Filter   Filter
	AnyPath  bool // Promote: also to an environment that From does not inherit from
	Prune    bool // Promote: unset in From what it now inherits

	Text string // ChangeSchema

	// Seen is the version of what the actor saw. nil is the current one: with one node all that happens is one after the other, and only
	// this says that somebody decided by an older state.
	Seen *crdt.Dots
	// Strict refuses the request if what it writes to has changed since Seen.
	Strict bool

	Intent    string
	Via       string
	Signature *Signature // what the actor signed, to be kept with the operation
}

// plan is a request being worked out into writes.
type plan struct {
	s   *State
	r   *Request
	dot crdt.Dot // the operation's
	op  *Op
	inc map[string]uint32 // entities that the operation itself begins

	override bool // over the strategy of max, min and grow
}

// Plan works out a request, by the state as it is, into an operation that has the same effect on every copy. It has neither time nor actor yet.
// Whatever can be wrong with a request is found here: an operation is never refused later.
func (s *State) Plan(r *Request, dot crdt.Dot) (*Op, error) {
	if len(r.Intent) > MaxIntent || !utf8.ValidString(r.Intent) {
		return nil, fmt.Errorf("intent: it may have %d bytes of UTF-8: %w", MaxIntent, errkind.Invalid)
	}
	if r.Signature != nil && s.Asked(r.Signature) {
		return nil, fmt.Errorf("the signed request was sent before, and counts once: sign another one: %w", errkind.Exists)
	}
	p := &plan{s: s, r: r, dot: dot, op: &Op{ID: dot, Kind: r.Kind, Intent: r.Intent, Via: r.Via, Signature: r.Signature}, inc: map[string]uint32{}, override: r.Override}
	if err := p.work(); err != nil {
		return nil, err
	}
	if len(p.op.Writes) > MaxWrites {
		return nil, fmt.Errorf("it writes %d values at once, and %d are allowed: do it in parts: %w", len(p.op.Writes), MaxWrites, errkind.TooLarge)
	}
	for i := range p.op.Writes {
		// What another node would not take must not get into the log.
		if err := p.op.Writes[i].check(); err != nil {
			return nil, fmt.Errorf("%s: %w: %w", clip(p.op.Writes[i].Entity), err, errkind.Invalid)
		}
	}
	return p.op, nil
}

func (p *plan) work() error {
	switch p.r.Kind {
	case SetField, SetOverride, Resolve, InsertEntity, RemoveEntity, MoveEntity:
		name, err := ParseEntity(p.r.Entity)
		if err != nil {
			return err
		}
		if p.s.schema.Entity(Type(name)) == nil {
			_, err := p.s.field(name, "")
			return err
		}
		env, err := p.s.Environment(p.r.Env)
		if err != nil {
			return err
		}
		return p.entity(name, env)
	case Promote:
		return p.promote()
	case ChangeSchema:
		return p.changeSchema()
	}
	return fmt.Errorf("operation %q: there are set_field, set_override, insert_entity, remove_entity, move_entity, resolve_conflict, promote and change_schema: %w", clip(string(p.r.Kind)), errkind.Invalid)
}

func (p *plan) entity(name, env string) error {
	switch p.r.Kind {
	case InsertEntity:
		return p.insert(name, env)
	case RemoveEntity:
		return p.remove(name)
	case MoveEntity:
		if !p.s.Alive(name) {
			return noEntity(name)
		}
		return p.move(name, p.r.Parent)
	default:
	}
	f, err := p.s.field(name, p.r.Field)
	if err != nil {
		return err
	}
	if p.r.Kind == Resolve {
		return p.resolve(name, f, env)
	}
	if env != p.s.schema.Base() || p.r.Override {
		p.op.Kind = SetOverride
	}
	return p.set(name, f, env)
}

func noEntity(name string) error {
	return fmt.Errorf("entity %q: there is none: %w", clip(name), errkind.NotFound)
}

// write adds an effect.
func (p *plan) write(w Write) { p.op.Writes = append(p.op.Writes, w) }

// begin returns an entity's incarnation, and begins one if the entity is not there.
func (p *plan) begin(name string) uint32 {
	if inc, ok := p.inc[name]; ok {
		return inc
	}
	inc := uint32(0)
	if x := p.s.get(name); x != nil {
		inc = x.life
	}
	if inc%2 == 0 {
		inc++
		p.inc[name] = inc
		p.write(Write{Do: Life, Entity: name, Inc: inc})
	}
	return inc
}

func (p *plan) insert(name, env string) error {
	if p.s.Alive(name) {
		return fmt.Errorf("entity %q: there is one already: %w", name, errkind.Exists)
	}
	p.begin(name)
	if p.r.Parent != "" || p.r.Position != "" {
		if err := p.move(name, p.r.Parent); err != nil {
			return err
		}
	}
	if p.r.Restore {
		p.restore(name, env)
	}
	for _, field := range keysOf(p.r.Fields) {
		f, err := p.s.field(name, field)
		if err != nil {
			return err
		}
		t := p.target(name, f, env)
		if err := p.whole(t, p.r.Fields[field]); err != nil {
			return err
		}
		t.note(p)
	}
	return nil
}

// restore writes again what the last incarnation had, but for the fields that the request gives other values.
func (p *plan) restore(name, env string) {
	x := p.s.get(name)
	if x == nil || x.life == 0 {
		return
	}
	p.s.eachCell(name, x.life-1, func(f *schema.Field, at string, c *cell) {
		if _, given := p.r.Fields[f.Name]; given && at == env {
			return
		}
		t := p.target(name, f, at)
		t.fill(p, c.value(f))
		t.hide(p, c, f)
		t.note(p)
	})
}

func (p *plan) remove(name string) error {
	if !p.s.Alive(name) {
		return noEntity(name)
	}
	doomed := append(p.s.below(name), name)
	if len(doomed) > 1 && !p.r.Cascade {
		return fmt.Errorf("entity %q: it has %d others below it (%s): remove these first, or all with cascade: %w", name, len(doomed)-1, list(doomed[:len(doomed)-1]), errkind.Conflict)
	}
	for _, d := range doomed {
		p.write(Write{Do: Life, Entity: d, Inc: p.s.get(d).life + 1})
	}
	return nil
}

// below returns all living entities below another one, the deepest first.
func (s *State) below(name string) []string {
	var walk func(string) []string
	walk = func(n string) (all []string) {
		for _, c := range s.children(n) {
			all = append(append(all, walk(c)...), c)
		}
		return all
	}
	return walk(name)
}

func (p *plan) move(name, parent string) error {
	if parent != "" {
		var err error
		if parent, err = ParseEntity(parent); err != nil {
			return err
		}
		if !p.s.Alive(parent) {
			return fmt.Errorf("parent: %w", noEntity(parent))
		}
		if t := p.s.schema.Entity(Type(parent)); t == nil || !t.MayHold(Type(name)) {
			return fmt.Errorf("parent %q: the schema does not let a %s be below a %s: name it in children of [entity.%s]: %w", parent, Type(name), Type(parent), Type(parent), errkind.Invalid)
		}
		for up := parent; up != ""; up, _ = p.s.Place(up) {
			if up == name {
				return fmt.Errorf("parent %q: it is below %q itself: %w", parent, name, errkind.Conflict)
			}
		}
	}
	position := p.r.Position
	if position == "" {
		var err error
		if position, err = p.s.between(parent, p.r.After, p.r.Before, name, p.dot.Node); err != nil {
			return err
		}
	}
	if err := crdt.CheckPosition(position); err != nil {
		return err
	}
	inc := p.begin(name)
	p.write(Write{Do: Move, Entity: name, Inc: inc, Parent: parent, Position: position})
	return nil
}

// between returns a position among a parent's children: right after one, right before one, or at the end.
func (s *State) between(parent, after, before, moved, node string) (string, error) {
	siblings := slices.DeleteFunc(s.children(parent), func(c string) bool { return c == moved })
	at := len(siblings)
	if neighbor := cmp.Or(after, before); neighbor != "" {
		if at = slices.Index(siblings, neighbor); at < 0 {
			return "", fmt.Errorf("position: %q has no child %q: %w", parent, clip(neighbor), errkind.NotFound)
		}
		if after != "" {
			at++
		}
	}
	var low, high string
	if at > 0 {
		_, low = s.Place(siblings[at-1])
	}
	if at < len(siblings) {
		// Two nodes may have put something at the same position: between these there is nothing.
		for ; at < len(siblings) && high <= low; at++ {
			_, high = s.Place(siblings[at])
		}
	}
	return crdt.Between(low, high, node), nil
}

// resolve writes a choice over all siblings that its maker saw.
func (p *plan) resolve(name string, f *schema.Field, env string) error {
	c := p.s.cell(name, f, env)
	if c == nil || c.mvr == nil || !c.conflicted() {
		return fmt.Errorf("%s.%s@%s: nothing waits for a choice: %w", clip(name), f.Name, env, errkind.NotFound)
	}
	t := p.target(name, f, env)
	t.none = false // to choose is to have seen
	if p.r.Value == nil || f.Type.Kind == schema.Map || f.Merge == schema.Set || f.Merge == schema.Grow {
		p.override = true
		if err := p.whole(t, p.r.Value); err != nil {
			return err
		}
		t.remark(p)
		return nil
	}
	v, err := f.Type.Normalize(p.r.Value)
	if err == nil {
		err = f.Check(v)
	}
	if err != nil {
		return err
	}
	w := t.to(Put, v)
	if e := c.winner(f.Merge); c.ext != nil && (e == nil || !value.Equal(e.Value, v)) {
		w.Do = Override
	}
	p.write(w)
	return nil
}

func (p *plan) set(name string, f *schema.Field, env string) error {
	if p.r.NoCreate && !p.s.Alive(name) {
		return noEntity(name)
	}
	t := p.target(name, f, env)
	if p.r.Strict && p.r.Seen != nil {
		if err := t.unchanged(p.r.Seen); err != nil {
			return err
		}
	}
	err := t.crowded()
	switch {
	case err != nil:
	case p.r.Key != "":
		err = p.key(t, p.r.Key, p.r.Value)
	case p.r.Add != nil || p.r.Remove != nil:
		err = p.change(t, p.r.Add, p.r.Remove)
	default:
		err = p.whole(t, p.r.Value)
	}
	t.note(p)
	return err
}
