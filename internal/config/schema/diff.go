package schema

import (
	"slices"

	"github.com/skep-dev/skep/internal/config/value"
)

// ChangeKind is what became of something between two schemas.
type ChangeKind string

// The kinds of change.
const (
	Added    ChangeKind = "added"
	Removed  ChangeKind = "removed"
	Remade   ChangeKind = "remade"   // of a field: another type or strategy, so that the writes before mean nothing to it
	Adjusted ChangeKind = "adjusted" // bounds, defaults and the like; of an environment, what it inherits from
)

// FieldChange is what became of one field.
type FieldChange struct {
	Entity, Field string
	Kind          ChangeKind
}

// Change is what became of an entity, in itself and not in its fields, or of an environment.
type Change struct {
	Name string
	Kind ChangeKind
}

// Changes is the difference between two schemas, sorted by names. Fields has those of added and removed entities as well.
type Changes struct {
	Entities     []Change
	Fields       []FieldChange
	Environments []Change
	Base         bool // another environment is the base
}

// None reports whether nothing changed.
func (c *Changes) None() bool {
	return len(c.Entities)+len(c.Fields)+len(c.Environments) == 0 && !c.Base
}

// Diff returns what became of a schema. Names, versions and descriptions are no changes.
func Diff(from, to *Schema) *Changes {
	c := &Changes{Base: from.Base() != to.Base()}
	for _, name := range union(from.entities, to.entities) {
		a, b := from.Entity(name), to.Entity(name)
		if kind := changed(a, b, sameEntity); kind != "" {
			c.Entities = append(c.Entities, Change{name, kind})
		}
		if a == nil {
			a = &Entity{}
		}
		if b == nil {
			b = &Entity{}
		}
		for _, field := range union(a.fields, b.fields) {
			kind := changed(a.Field(field), b.Field(field), sameField)
			if kind == Adjusted && a.Field(field).remade(b.Field(field)) {
				kind = Remade
			}
			if kind != "" {
				c.Fields = append(c.Fields, FieldChange{name, field, kind})
			}
		}
	}
	for _, name := range union(from.environments, to.environments) {
		same := func(a, b *Environment) bool { return *a == *b }
		if kind := changed(from.Environment(name), to.Environment(name), same); kind != "" {
			c.Environments = append(c.Environments, Change{name, kind})
		}
	}
	return c
}

// union returns the keys of two indexes, sorted.
func union(a, b map[string]int) []string {
	var names []string
	for name := range a {
		names = append(names, name)
	}
	for name := range b {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func changed[T any](from, to *T, same func(a, b *T) bool) ChangeKind {
	switch {
	case from == nil:
		return Added
	case to == nil:
		return Removed
	case !same(from, to):
		return Adjusted
	default:
		return ""
	}
}

func sameEntity(a, b *Entity) bool {
	return slices.Equal(a.Children, b.Children) && slices.EqualFunc(a.Rules, b.Rules, func(a, b Rule) bool {
		return a.Name == b.Name && a.Check == b.Check && a.Message == b.Message
	})
}

// remade reports whether what was written under one field's rules cannot be merged under the other's.
func (f *Field) remade(other *Field) bool {
	return !f.Type.Equal(other.Type) || f.Merge != other.Merge || f.MapValues != other.MapValues
}

func sameField(a, b *Field) bool {
	return !a.remade(b) && a.Review == b.Review && a.OnConflict == b.OnConflict && a.Overlay == b.Overlay && a.ByInsertion == b.ByInsertion &&
		a.Blind == b.Blind && a.Required == b.Required && a.Unique == b.Unique && a.Pattern == b.Pattern &&
		value.Equal(a.Default, b.Default) && value.Equal(a.Low, b.Low) && value.Equal(a.High, b.High) &&
		slices.EqualFunc(a.Allowed, b.Allowed, value.Equal)
}
