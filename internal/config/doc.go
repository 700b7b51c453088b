// Package config merges typed operations by many actors into one configuration.
//
// A document is a set of operations that never change. What it says is a State, a pure function of that set: whoever has the same
// operations has the same state, in whatever order they came. This holds since everything that depends on what somebody saw is decided where
// an operation is made, by Plan, and is written into it: the elements that a removal takes away, the siblings that a write takes the place of,
// the override that it follows, the incarnation of the entity that it means. Apply only carries out.
//
//	op, err := state.Plan(&config.Request{Kind: config.SetField, Entity: "route.api", Field: "weight", Value: int64(80)}, dot)
//	op.Time, op.Actor = clock.Next(), actor
//	state.Apply(op)
//	r, err := state.Get("route.api", "weight", "staging")
//
// A field of an entity has a cell in each environment where somebody wrote to it; Get returns that of the nearest environment, up to the base.
// How a cell's writes become a value is in package crdt, by the field's strategy; the schema says which that is, and is changed by operations itself.
package config
