package config

import (
	"fmt"

	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// changeSchema puts another schema in force. A field whose type or strategy changes begins anew, with the values that it had: what others write
// meanwhile by the old strategy cannot be merged by the new one, and does not count. Every other field goes on.
func (p *plan) changeSchema() error {
	if p.r.Text == p.s.schema.text {
		return nil
	}
	next, err := schema.Parse("schema", []byte(p.r.Text))
	if err != nil {
		return err
	}
	old := p.s.schema
	gens := map[string]crdt.Dot{}
	changed := map[string]*schema.Field{}
	for i := range next.Entities {
		t := &next.Entities[i]
		for j := range t.Fields {
			f := &t.Fields[j]
			name := t.Name + "." + f.Name
			was := field(old.Schema, t.Name, f.Name)
			gen, ok := old.gens[name]
			if !ok || was == nil || !was.Type.Equal(f.Type) || strategy(was) != strategy(f) {
				gen = p.dot
				if was != nil {
					changed[name] = f
				}
			}
			gens[name] = gen
		}
	}
	if old.by != nil && old.Base() != next.Base() {
		return fmt.Errorf("schema: the base environment is %q, and cannot become %q: what has been written belongs to it: %w", old.Base(), next.Base(), errkind.Invalid)
	}
	p.op.Schema = &NewSchema{Text: p.r.Text, Gens: gens}
	for _, name := range p.s.Entities("") {
		p.s.eachCell(name, p.s.get(name).life, func(was *schema.Field, env string, c *cell) {
			f := changed[Type(name)+"."+was.Name]
			if f == nil || next.Environment(env) == nil {
				return
			}
			v, err := f.Type.Normalize(c.value(was))
			if err != nil {
				return // it has no value of the new type; if it must have one, the check says so
			}
			t := &target{f: f, w: Write{
				Entity: name, Inc: p.s.get(name).life, Field: f.Name, Env: p.s.inCell(env), Gen: p.dot, Merge: strategy(f),
				Reviewed: f.Review && single(f),
			}}
			t.fill(p, v)
			t.hide(p, c, was)
		})
	}
	return nil
}

func field(s *schema.Schema, entity, name string) *schema.Field {
	if t := s.Entity(entity); t != nil {
		return t.Field(name)
	}
	return nil
}
