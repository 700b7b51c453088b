package bulk

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/schema"
	"github.com/skep-dev/skep/internal/config/value"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

// Plan is what has to be done so that a document says what files say.
type Plan struct {
	Operations []wire.Operation
	New        int      // entities that begin
	Changed    int      // entities of which something changes
	Unchanged  int      // entities that are so already
	Kept       []string // fields whose strategy keeps what they are: to be told
}

// State is what a document says, as far as a plan asks.
type State interface {
	Schema() *schema.Schema
	Environment(name string) (string, error) // its name; "" is the base
	Alive(entity string) bool
	Place(entity string) (parent, position string)
	Value(entity, field, env string) (any, error)
	// Own reports whether the value is the environment's own, and not inherited. It is asked about few fields.
	Own(ctx context.Context, entity, field, env string) (bool, error)
}

// Local is the State of a document that is in this process.
type Local struct{ *config.State }

// Value returns the value of a field in an environment.
func (l Local) Value(entity, field, env string) (any, error) {
	now, err := l.Get(entity, field, env)
	return now.Value, err
}

// Own reports whether the value is the environment's own.
func (l Local) Own(_ context.Context, entity, field, env string) (bool, error) {
	now, err := l.Get(entity, field, env)
	return now.From == env, err
}

// NewPlan compares entities with a state, in an environment. What is so already is not written. Parents come before their children.
func NewPlan(ctx context.Context, s State, entities []Entity, env string) (*Plan, error) {
	env, err := s.Environment(env)
	if err != nil {
		return nil, err
	}
	p := &planner{s: s, env: env, plan: &Plan{}, all: make(map[string]*Entity, len(entities)), done: map[string]bool{}}
	for i := range entities {
		e := &entities[i]
		if p.all[e.ID] != nil {
			return nil, fmt.Errorf("entity %s is there twice: %w", e.ID, errkind.Invalid)
		}
		p.all[e.ID] = e
	}
	for i := range entities {
		if err := p.entity(ctx, &entities[i], 0); err != nil {
			return nil, err
		}
	}
	return p.plan, nil
}

type planner struct {
	s    State
	env  string
	plan *Plan
	all  map[string]*Entity
	done map[string]bool
}

// maxParents is how deep entities may be below each other in a file.
const maxParents = 1000

func (p *planner) entity(ctx context.Context, e *Entity, depth int) error {
	if p.done[e.ID] {
		return nil
	}
	if depth > maxParents {
		return fmt.Errorf("entity %s is below itself, or below more than %d others: %w", e.ID, maxParents, errkind.Invalid)
	}
	if above := p.all[e.Parent]; above != nil {
		if err := p.entity(ctx, above, depth+1); err != nil {
			return err
		}
	}
	p.done[e.ID] = true
	if !p.s.Alive(e.ID) {
		p.begin(e)
		return nil
	}
	before := len(p.plan.Operations)
	if parent, _ := p.s.Place(e.ID); e.Placed && parent != e.Parent {
		p.do(wire.Operation{Type: string(config.MoveEntity), EntityID: e.ID, Parent: e.Parent})
	}
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		if err := p.field(ctx, e, name); err != nil {
			return err
		}
	}
	if len(p.plan.Operations) > before {
		p.plan.Changed++
	} else {
		p.plan.Unchanged++
	}
	return nil
}

func (p *planner) do(op wire.Operation) { p.plan.Operations = append(p.plan.Operations, op) }

func (p *planner) begin(e *Entity) {
	op := wire.Operation{Type: string(config.InsertEntity), EntityID: e.ID, Parent: e.Parent, Environment: p.env, Fields: map[string]wire.Value{}}
	for name, v := range e.Fields {
		if v != nil {
			op.Fields[name] = wire.Value{Any: v}
		}
	}
	p.do(op)
	p.plan.New++
}

func (p *planner) field(ctx context.Context, e *Entity, name string) error {
	now, err := p.s.Value(e.ID, name, p.env)
	if err != nil {
		return err
	}
	want := e.Fields[name]
	f := p.s.Schema().Entity(config.Type(e.ID)).Field(name)
	if same(f, now, want) {
		return nil
	}
	own := false
	if want == nil || f.Merge == schema.Max || f.Merge == schema.Min {
		if own, err = p.s.Own(ctx, e.ID, name, p.env); err != nil {
			return err
		}
	}
	op := wire.Operation{Type: string(config.SetField), EntityID: e.ID, Field: name, Environment: p.env, Value: &wire.Value{Any: want}}
	switch f.Merge {
	case schema.Max, schema.Min:
		higher := schema.Compare(f.Type, want, now) > 0
		if own && (want == nil || higher != (f.Merge == schema.Max)) {
			p.keep(e, name, now, want)
			return nil
		}
	case schema.Grow:
		list, _ := want.([]any)
		have, _ := now.([]any)
		op.Value = nil
		for _, v := range list {
			if !slices.ContainsFunc(have, func(h any) bool { return value.Equal(h, v) }) {
				op.Add = append(op.Add, wire.Value{Any: v})
			}
		}
		if len(op.Add) == 0 {
			p.keep(e, name, now, want)
			return nil
		}
	case schema.LWW, schema.Set, schema.Review, schema.PerKey:
	}
	if want == nil && !own {
		return nil // it has nothing of its own that could be taken away
	}
	p.do(op)
	return nil
}

func (p *planner) keep(e *Entity, name string, now, want any) {
	text := "no value"
	if want != nil {
		text = value.Text(want)
	}
	p.plan.Kept = append(p.plan.Kept, fmt.Sprintf("%s.%s is %s, and not %s", e.ID, name, value.Text(now), text))
}

// same compares values; of sets, in whatever order a file has their elements.
func same(f *schema.Field, a, b any) bool {
	x, isList := a.([]any)
	y, both := b.([]any)
	if !isList || !both || f.Merge != schema.Set && f.Merge != schema.Grow {
		return value.Equal(a, b)
	}
	return maps.Equal(elements(x), elements(y))
}

func elements(list []any) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, v := range list {
		m[string(value.Encode(v))] = true
	}
	return m
}
