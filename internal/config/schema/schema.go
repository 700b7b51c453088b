// Package schema says what a document's entities may have: fields with types, merge strategies and bounds, and environments that
// inherit from each other.
//
// A Schema comes from Parse, which reads TOML in both dialects that there are, and tells everything that is wrong with it at once:
//
//	s, err := schema.Parse("schema.toml", text)
//	f := s.Entity("route").Field("weight")
//	v, err := f.Type.Normalize(v) // a value in the one form that the type has for it
//	err = f.Check(v)              // its bounds
//
// A Schema does not change after that. What Parse took is consistent: every strategy suits its type, every name that is mentioned is
// there, and environments lead to the base.
package schema

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
)

// Merge is how concurrent writes of a field become one value.
type Merge string

// The strategies. Which types each allows is checked when a schema is read.
const (
	LWW    Merge = "lww"    // the last write wins
	Max    Merge = "max"    // the highest number wins
	Min    Merge = "min"    // the lowest number wins
	Set    Merge = "set"    // elements are added and removed; an addition wins over a removal that had not seen it
	Grow   Merge = "grow"   // elements are added only
	Review Merge = "review" // concurrent different writes wait for somebody to choose
	PerKey Merge = "map"    // a map's keys are merged each on its own, as Field.Values says
)

// Kind is the kind of a type.
type Kind string

// The kinds.
const (
	String   Kind = "string"
	Int      Kind = "int"
	Float    Kind = "float"
	Bool     Kind = "bool"
	Duration Kind = "duration" // a string in canonical form: "1m30s"
	Ref      Kind = "ref"      // the ID of another entity
	List     Kind = "list"
	Map      Kind = "map"
)

// Type is a field's type.
type Type struct {
	Kind   Kind
	Elem   *Type  // of List and Map; nil is any scalar
	Target string // of Ref: the type of the entity that is meant; "" is any
}

// Overlay is what an environment sees of a set or map when it has elements of its own.
type Overlay string

// The ways.
const (
	Replace Overlay = "replace" // its own alone
	Union   Overlay = "merge"   // its own and what it inherits; of a map, the nearest value of each key
)

// OnConflict is what a field's value is while concurrent writes wait for a choice.
type OnConflict string

// The values.
const (
	TakeLast OnConflict = "lww"  // the last of the writes
	Hold     OnConflict = "hold" // the value before them
)

// Field is what a schema says of one field.
type Field struct {
	Name        string
	Description string
	Type        Type
	Merge       Merge
	MapValues   Merge // of PerKey: LWW, Max or Min for each key
	Review      bool  // conflict = "review": different concurrent writes are also reported where the strategy made a value of them
	OnConflict  OnConflict
	Overlay     Overlay
	ByInsertion bool // order = "insertion": a set's elements in the order in which they came, and not sorted
	Blind       bool // blind = "conflict": a write that does not say what it saw has seen nothing
	Default     any  // nil: none
	Required    bool
	Unique      bool // no two living entities of the type have the same value in one environment
	Low, High   any  // range, both inclusive; nil: no bound. Of a list or map, Low to Pattern are of each element
	Allowed     []any
	Pattern     string // a regular expression (RE2) that the whole string matches

	pattern *regexp.Regexp // of Pattern
}

// Entity is a type of entity.
type Entity struct {
	Name        string
	Description string
	Fields      []Field  // in the order of the text
	Children    []string // types that may have such an entity as their parent, sorted
	Parents     []string // the other way round, computed
	Rules       []Rule

	fields map[string]int // where in Fields
}

// Environment is a layer of values over another one's.
type Environment struct {
	Name     string
	Inherits string // "" of the base
}

// Rule is a condition over the fields of one entity, that must hold in every environment where the entity is.
type Rule struct {
	Name    string
	Check   string // an expression in CEL over the fields of self
	Message string // what to tell whoever breaks it; "" where the expression says enough

	program cel.Program // of Check
}

// Schema is all that a document's text of a schema says.
type Schema struct {
	Name         string
	Version      string
	Environments []Environment // the base first; each after the one that it inherits from
	Entities     []Entity      // sorted by name

	entities     map[string]int // where in Entities
	environments map[string]int // where in Environments
	chains       map[string][]string
	descendants  map[string][]string
}

// Equal reports whether two schemas say the same.
func (s *Schema) Equal(other *Schema) bool {
	if s == nil || other == nil {
		return s == other
	}
	return bytes.Equal(Format(s), Format(other))
}

// Entity returns the type of a name, or nil.
func (s *Schema) Entity(name string) *Entity {
	i, ok := s.entities[name]
	if !ok {
		return nil
	}
	return &s.Entities[i]
}

// Field returns the field of a name, or nil.
func (e *Entity) Field(name string) *Field {
	i, ok := e.fields[name]
	if !ok {
		return nil
	}
	return &e.Fields[i]
}

// MayHold reports whether entities of a type may be below such an entity. Every entity may be below none.
func (e *Entity) MayHold(child string) bool {
	_, ok := slices.BinarySearch(e.Children, child)
	return ok
}

// Environment returns the environment of a name, or nil.
func (s *Schema) Environment(name string) *Environment {
	i, ok := s.environments[name]
	if !ok {
		return nil
	}
	return &s.Environments[i]
}

// Base returns the name of the environment that inherits from none.
func (s *Schema) Base() string { return s.Environments[0].Name }

// Chain returns an environment and those that it inherits from, up to the base, or nil of an unknown one. The caller does not change it.
func (s *Schema) Chain(env string) []string { return s.chains[env] }

// Descendants returns the environments that inherit from one, directly or not, in the order of the schema. The caller does not change it.
func (s *Schema) Descendants(env string) []string { return s.descendants[env] }

// index makes what the look-ups need.
func (s *Schema) index() {
	s.entities = make(map[string]int, len(s.Entities))
	for i := range s.Entities {
		e := &s.Entities[i]
		s.entities[e.Name] = i
		e.fields = make(map[string]int, len(e.Fields))
		for j := range e.Fields {
			e.fields[e.Fields[j].Name] = j
		}
	}
	s.environments = make(map[string]int, len(s.Environments))
	s.chains, s.descendants = map[string][]string{}, map[string][]string{}
	for i, e := range s.Environments { // each after the one that it inherits from
		s.environments[e.Name] = i
		s.chains[e.Name] = append([]string{e.Name}, s.chains[e.Inherits]...)
		for _, above := range s.chains[e.Inherits] {
			s.descendants[above] = append(s.descendants[above], e.Name)
		}
	}
	for i := range s.Entities {
		for _, child := range s.Entities[i].Children {
			c := s.Entity(child)
			c.Parents = append(c.Parents, s.Entities[i].Name) // sorted, because the entities are
		}
	}
}

// Equal reports whether two types are the same.
func (t Type) Equal(other Type) bool { return t.String() == other.String() }

// String returns a type as a schema has it: `list<int>`, `ref<service>`. The zero Type is any scalar.
func (t Type) String() string {
	switch {
	case t.Kind == "":
		return "scalar"
	case t.Kind == Ref && t.Target != "":
		return "ref<" + t.Target + ">"
	case t.Elem != nil:
		return string(t.Kind) + "<" + t.Elem.String() + ">"
	default:
		return string(t.Kind)
	}
}

// Element returns the type of a list's elements or a map's values. The zero Type is any scalar.
func (t Type) Element() Type {
	if t.Elem == nil {
		return Type{}
	}
	return *t.Elem
}

// numeric reports whether a type has more and less.
func (t Type) numeric() bool { return t.Kind == Int || t.Kind == Float || t.Kind == Duration }

// scalar reports whether values of a type have no elements.
func (t Type) scalar() bool { return t.Kind != List && t.Kind != Map }

// bounded returns the type that a field's range, allowed values and pattern are of: its own, or that of its elements.
func (t Type) bounded() Type {
	for !t.scalar() {
		t = t.Element()
	}
	return t
}

// isName reports whether a text can be the name of a type or field: letters, digits, - and _, and no digit or - first.
func isName(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
		case i > 0 && (c == '-' || '0' <= c && c <= '9'):
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxNameBytes
}

// isEnvironmentName reports whether a text can be the name of an environment: a folder of a repository has it, and not every file
// system tells A from a.
func isEnvironmentName(s string) bool {
	return isName(s) && s == strings.ToLower(s) && s[0] != '_'
}
