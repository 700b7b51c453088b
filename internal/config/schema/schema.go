// Package schema says what a document's entities may have: fields with types, merge strategies and bounds, and environments that
// inherit from each other.
package schema

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
	Low, High   any  // range, both inclusive; nil: no bound
	Allowed     []any
	Pattern     string // a regular expression (RE2) that the whole string matches
}

// Entity is a type of entity.
type Entity struct {
	Name        string
	Description string
	Fields      []Field  // in the order of the text
	Children    []string // types that may have such an entity as their parent
	Parents     []string // the other way round, computed
	Rules       []Rule
}

// Environment is a layer of values over another one's.
type Environment struct {
	Name     string
	Inherits string // "" of the base
}

// Rule is a condition over the fields of one entity, that must hold in every environment where the entity is.
type Rule struct {
	Name    string
	Check   string // an expression in CEL over the fields' names
	Message string
}

// Schema is all that a document's text of a schema says.
type Schema struct {
	Name         string
	Version      string
	Environments []Environment // the base first; each after the one that it inherits from
	Entities     []Entity      // sorted by name
}
