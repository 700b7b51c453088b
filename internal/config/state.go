package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// State is what the operations of a document come to. It is a pure function of their set: of the order in which they were applied, and
// of how often, nothing is left. Only one goroutine may apply, and none may read meanwhile.
type State struct {
	under    *State // of a draft: the state that it was made from
	seen     crdt.Dots
	entities map[string]*entity
	forest   *crdt.Forest // of a draft: nil as long as it is that of the state below
	schema   adopted
	latest   crdt.HLC // the greatest time of an operation

	open  map[cellRef]struct{}   // cells that have several siblings
	asked map[requestID]struct{} // signed requests that count, so that none does twice
	check checked
	known func(crdt.Dot) bool
}

// adopted is the schema in force: of all that were proposed, the latest that can be read.
type adopted struct {
	by   *crdt.Origin
	text string
	gens map[string]crdt.Dot
	*schema.Schema
}

// entity is what is known of an entity, in all of its incarnations.
type entity struct {
	life  uint32      // the latest incarnation: odd if the entity is there
	by    *crdt.Entry // the first operation that began it
	cells map[uint32]map[place]*cell
}

// cellRef names a cell of the document.
type cellRef struct {
	Entity string
	Inc    uint32
	place
}

// NewState returns the state before any operation.
func NewState() *State {
	s := &State{forest: new(crdt.Forest), entities: map[string]*entity{}, open: map[cellRef]struct{}{}, asked: map[requestID]struct{}{}}
	s.schema.Schema = noSchema
	s.known = s.seen.Has
	return s
}

// noSchema is in force before the first one.
var noSchema = func() *schema.Schema {
	s, err := schema.Parse("schema", []byte("name = \"none\"\n[environments]\nbase = \"base\"\n"))
	if err != nil {
		panic("bug: " + err.Error())
	}
	return s
}()

// Apply makes an operation count. It reports whether it had not counted before.
func (s *State) Apply(o *Op) bool {
	if !s.seen.Add(o.ID) {
		return false
	}
	by := o.origin()
	s.latest = max(s.latest, o.Time)
	if o.Schema != nil {
		s.adopt(o.Schema, by)
	}
	if o.Signature != nil {
		s.asked[o.Signature.request()] = struct{}{}
	}
	for i := range o.Writes {
		w := &o.Writes[i]
		e := &crdt.Entry{Origin: by, N: uint32(i), Value: w.Value} //nolint:gosec // below MaxWrites
		switch w.Do {
		case Life:
			s.live(w, e)
		case Move:
			s.trees().Put(&crdt.Move{Origin: by, N: e.N, Child: w.Entity, Inc: w.Inc, Parent: w.Parent, Position: w.Position}, s.counts)
		default:
			s.tell(w, e)
		}
	}
	s.check.touch(o)
	return true
}

// adopt takes a schema if it is later than the one in force. One that this node cannot read, since a later version of it made it, is left
// out by all nodes that cannot.
func (s *State) adopt(n *NewSchema, by *crdt.Origin) {
	if s.schema.by != nil && s.schema.by.Compare(by) > 0 {
		return
	}
	parsed, err := schema.Parse("schema", []byte(n.Text))
	if err != nil {
		return
	}
	s.schema = adopted{by: by, text: n.Text, gens: n.Gens, Schema: parsed}
	s.check.all()
}

// live takes notice of an incarnation's beginning or end. The latest one counts, whoever began or ended it: an end takes away what others
// wrote meanwhile, and what is begun again begins empty.
func (s *State) live(w *Write, e *crdt.Entry) {
	x := s.entity(w.Entity)
	switch {
	case w.Inc > x.life:
		x.life, x.by = w.Inc, e
		s.forget(w.Entity, x)
		if s.moved(w.Entity) {
			s.trees().Recount(w.Entity)
		}
	case w.Inc == x.life && e.Compare(x.by) < 0:
		x.by = e
	}
}

// forget drops the cells of incarnations that nobody can ask for any more.
func (s *State) forget(name string, x *entity) {
	for inc, cells := range x.cells {
		if inc >= x.oldest() {
			continue
		}
		for p := range cells {
			delete(s.open, cellRef{name, inc, p})
		}
		delete(x.cells, inc)
	}
}

// oldest returns the first incarnation whose cells still count: the one that is, or the last one that was, which may be restored.
func (x *entity) oldest() uint32 {
	if x.life > 0 && x.life%2 == 0 {
		return x.life - 1
	}
	return x.life
}

// entity returns an entity to be changed.
func (s *State) entity(name string) *entity {
	x := s.entities[name]
	if x != nil {
		return x
	}
	if s.under != nil {
		x = s.under.get(name).clone()
	}
	if x == nil {
		x = &entity{cells: map[uint32]map[place]*cell{}}
	}
	s.entities[name] = x
	return x
}

// get returns an entity to be looked at; nil if nothing is known of it.
func (s *State) get(name string) *entity {
	if x := s.entities[name]; x != nil || s.under == nil {
		return x
	}
	return s.under.get(name)
}

// each calls fn for every entity of which something is known.
func (s *State) each(fn func(name string, x *entity)) {
	for name, x := range s.entities {
		fn(name, x)
	}
	if s.under != nil {
		s.under.each(func(name string, x *entity) {
			if s.entities[name] == nil {
				fn(name, x)
			}
		})
	}
}

// counts reports whether a move is of an incarnation that is.
func (s *State) counts(m *crdt.Move) bool {
	x := s.get(m.Child)
	return x != nil && x.life == m.Inc
}

func (s *State) tell(w *Write, e *crdt.Entry) {
	x := s.entity(w.Entity)
	if w.Inc < x.oldest() {
		return
	}
	p := place{w.Field, w.Env, w.Gen, w.Merge}
	cells := x.cells[w.Inc]
	if cells == nil {
		cells = map[place]*cell{}
		x.cells[w.Inc] = cells
	}
	c := cells[p]
	if c == nil {
		c = new(cell)
		cells[p] = c
	}
	c.tell(w, e, s.known)
	if c.mvr == nil {
		return
	}
	if ref := (cellRef{w.Entity, w.Inc, p}); len(c.mvr.Siblings) > 1 {
		s.open[ref] = struct{}{}
	} else {
		delete(s.open, ref)
	}
}

// Version returns what the state has: of each node, up to where. It is the causal context that a reader hands on with what it then writes.
func (s *State) Version() crdt.Dots { return s.seen.Clone() }

// VersionText returns the version as a text, for ETags and the like.
func (s *State) VersionText() string { return s.seen.String() }

// Has reports whether an operation counts already.
func (s *State) Has(d crdt.Dot) bool { return s.seen.Has(d) }

// Last returns the number up to which all of a node's operations count.
func (s *State) Last(node string) uint64 { return s.seen.Last(node) }

// Latest returns the greatest time of an operation.
func (s *State) Latest() crdt.HLC { return s.latest }

// Schema returns the schema in force.
func (s *State) Schema() *schema.Schema { return s.schema.Schema }

// SchemaText returns the text of the schema in force.
func (s *State) SchemaText() string { return s.schema.text }

// Entities returns the IDs of the entities that are there, sorted; of one type, or of all if that is "".
func (s *State) Entities(kind string) []string {
	var list []string
	s.each(func(name string, x *entity) {
		if x.life%2 == 1 && (kind == "" || Type(name) == kind) {
			list = append(list, name)
		}
	})
	slices.Sort(list)
	return list
}

// Alive reports whether an entity is there.
func (s *State) Alive(name string) bool {
	x := s.get(name)
	return x != nil && x.life%2 == 1
}

// Place returns an entity's parent, "" if it has none, and its position among its siblings.
func (s *State) Place(name string) (parent, position string) {
	if m := s.placed(name); m != nil && s.Alive(name) && (m.Parent == "" || s.Alive(m.Parent)) {
		return m.Parent, m.Position
	}
	return "", ""
}

// cell returns a cell of a living entity, as the schema in force has it; nil if nothing was written to it.
func (s *State) cell(name string, f *schema.Field, env string) *cell {
	x := s.get(name)
	if x == nil || x.life%2 == 0 {
		return nil
	}
	return x.cells[x.life][s.place(name, f, env)]
}

func (s *State) place(name string, f *schema.Field, env string) place {
	return place{f.Name, s.inCell(env), s.schema.gens[Type(name)+"."+f.Name], strategy(f)}
}

// inCell returns an environment's name in cells, where the base has none: what was written before environments were asked for is the base's.
func (s *State) inCell(env string) string {
	if env == s.schema.Base() {
		return ""
	}
	return env
}

// env returns a cell's environment as people call it.
func (s *State) env(inCell string) string {
	if inCell == "" {
		return s.schema.Base()
	}
	return inCell
}

// Environment checks the name of an environment; "" is the base.
func (s *State) Environment(name string) (string, error) {
	switch {
	case name == "":
		return s.schema.Base(), nil
	case s.schema.Environment(name) == nil:
		return "", fmt.Errorf("environment %q: the schema has none of that name: %w", clip(name), errkind.NotFound)
	}
	return name, nil
}

// field returns the schema's words on a field of an entity.
func (s *State) field(name, field string) (*schema.Field, error) {
	t := s.schema.Entity(Type(name))
	if t == nil {
		return nil, fmt.Errorf("entity %q: the schema has no type %q: it has %s: %w", clip(name), clip(Type(name)), typeNames(s.schema.Schema), errkind.Invalid)
	}
	f := t.Field(field)
	if f == nil {
		return nil, fmt.Errorf("field %q: an entity of type %s has none of that name: it has %s: %w", clip(field), t.Name, fieldNames(t), errkind.Invalid)
	}
	return f, nil
}

// at returns the cell that a reference names.
func (s *State) at(r cellRef) *cell { return s.get(r.Entity).cells[r.Inc][r.place] }

func typeNames(s *schema.Schema) string {
	names := make([]string, len(s.Entities))
	for i := range s.Entities {
		names[i] = s.Entities[i].Name
	}
	return list(names)
}

func fieldNames(e *schema.Entity) string {
	names := make([]string, len(e.Fields))
	for i := range e.Fields {
		names[i] = e.Fields[i].Name
	}
	return list(names)
}

// maxNamesShown keeps an error readable.
const maxNamesShown = 20

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	text := strings.Join(names[:min(len(names), maxNamesShown)], ", ")
	if more := len(names) - maxNamesShown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// keysOf returns a map's keys, sorted.
func keysOf[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
