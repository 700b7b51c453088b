package config

import (
	"maps"
	"slices"

	"github.com/skep-dev/skep/internal/config/value"
)

// Compare returns what became of an environment between two states of a document, sorted by entity and field. What the schema in force
// does not have any more is not told.
func Compare(old, now *State, env string, filter Filter) []Change {
	names := map[string]struct{}{}
	for _, s := range []*State{old, now} {
		for _, name := range s.Entities("") {
			names[name] = struct{}{}
		}
	}
	var list []Change
	for _, name := range slices.Sorted(maps.Keys(names)) {
		t := now.schema.Entity(Type(name))
		if t == nil || !filter.Matches(name, "") {
			continue
		}
		was, _ := old.Entity(name, env) // nil: it was not there
		is, _ := now.Entity(name, env)
		if (was == nil) != (is == nil) && len(filter.Fields) == 0 {
			c := Change{Entity: name}
			if c.New = true; is == nil {
				c.Old, c.New = true, nil
			}
			list = append(list, c)
		}
		for i := range t.Fields {
			field := t.Fields[i].Name
			if before, after := was[field], is[field]; filter.Matches(name, field) && !value.Equal(before.Value, after.Value) {
				list = append(list, Change{name, field, before.Value, after.Value, after.By})
			}
		}
	}
	return list
}
