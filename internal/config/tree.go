package config

import (
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/config/schema"
)

// tree returns the living entities below each parent, in the order of their positions; those below "" are at the top.
func (s *State) tree() map[string][]string {
	at := map[string]string{}
	tree := map[string][]string{}
	s.each(func(name string, x *entity) {
		if x.life%2 == 1 {
			var parent string
			parent, at[name] = s.Place(name)
			tree[parent] = append(tree[parent], name)
		}
	})
	for _, list := range tree {
		slices.SortFunc(list, func(a, b string) int {
			if c := strings.Compare(at[a], at[b]); c != 0 {
				return c
			}
			return strings.Compare(a, b)
		})
	}
	return tree
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
