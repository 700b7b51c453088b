package config

import (
	"cmp"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/config/schema"
)

// children returns the living entities right below another one, or at the top for "", in the order of their positions.
func (s *State) children(parent string) []string {
	names := s.placedBelow(parent)
	if parent == "" {
		names = s.Entities("") // nothing need have moved them there
	}
	at := make(map[string]string, len(names))
	list := make([]string, 0, len(names))
	for _, name := range names {
		if up, position := s.Place(name); up == parent && s.Alive(name) {
			at[name] = position
			list = append(list, name)
		}
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(strings.Compare(at[a], at[b]), strings.Compare(a, b)) })
	return list
}

// eachCell calls fn for the cells of an incarnation that the schema in force knows and that have a value, sorted by field and environment.
func (s *State) eachCell(name string, inc uint32, fn func(f *schema.Field, env string, c *cell)) {
	x, t := s.get(name), s.schema.Entity(Type(name))
	if x == nil || t == nil {
		return
	}
	for i := range t.Fields {
		f := &t.Fields[i]
		for _, env := range s.schema.Environments {
			if c := x.cells[inc][s.place(name, f, env.Name)]; c.present(f) {
				fn(f, env.Name, c)
			}
		}
	}
}
