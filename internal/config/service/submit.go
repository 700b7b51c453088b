package service

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Submission says how operations are submitted.
type Submission struct {
	DryRun bool   // work it out, write nothing
	Base   string // the version that the actor saw, where an operation does not say
	Expect bool   // refuse if something that is written to has changed since
}

// Submit has operations done, all or none.
func (s *Service) Submit(ctx context.Context, actor config.Actor, ops []wire.Operation, how Submission) ([]wire.Result, error) {
	if len(ops) == 0 {
		return nil, fmt.Errorf("submit: there is no operation: %w", errkind.Invalid)
	}
	if err := actor.Check(); err != nil {
		return nil, err
	}
	ops = slices.Clone(ops)
	b := engine.Batch{Actor: actor, Requests: make([]config.Request, len(ops)), DryRun: how.DryRun}
	for i := range ops {
		op := &ops[i]
		if op.Base == "" {
			op.Base, op.Expect = how.Base, op.Expect || how.Expect
		}
		request, err := Request(op)
		if err != nil {
			return nil, inBatch(err, i, len(ops))
		}
		if err := s.admit(actor, request); err != nil {
			return nil, inBatch(err, i, len(ops))
		}
		if how.DryRun && op.Field != "" && !s.reader(actor).may(request.Entity, op.Field, request.Env) {
			return nil, inBatch(fmt.Errorf("%s.%s: what a write would do is not told to who may not read the field: %w", request.Entity, op.Field, errkind.Forbidden), i, len(ops))
		}
		b.Requests[i] = *request
	}
	b.Guard = func(i int, state *config.State, op *config.Op) error {
		if check := s.opts.Load().Check; check != nil {
			if err := check(op, &ops[i]); err != nil {
				return err
			}
		}
		return s.guard(state, op)
	}
	done, err := s.doc.Submit(ctx, b)
	r := s.reader(actor)
	if err != nil {
		return nil, s.discreet(r, ops, err)
	}
	return s.results(r, ops, done), nil
}

func inBatch(err error, i, n int) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("operation %d of %d: %w", i+1, n, err)
}

// discreet keeps from somebody who may write to a field but not read it what the error says of its value.
func (s *Service) discreet(r reader, ops []wire.Operation, err error) error {
	if r.allow == nil || errkind.Of(err) != errkind.Conflict && errkind.Of(err) != errkind.Invalid {
		return err
	}
	for i := range ops {
		op := &ops[i]
		known := true
		switch {
		case op.Type == string(config.Promote):
			known = r.may("", "", op.From) && r.may("", "", op.To)
		case op.Type == string(config.RemoveEntity):
			if !r.may("", "", "") {
				return fmt.Errorf("entity %q: there are others below it: remove these first, or all with cascade: %w", op.EntityID, errkind.Of(err))
			}
		case op.Field != "":
			id, _ := config.ParseEntity(op.EntityID)
			known = r.may(id, op.Field, environment(op))
		}
		if !known {
			return fmt.Errorf("submit: a field that you may not read does not permit it: %w", errkind.Of(err))
		}
	}
	return err
}

// Do has requests done that do not come from wire, as those that edits in Git come to: all or none, of which there may be as many as a batch has.
func (s *Service) Do(ctx context.Context, actor config.Actor, requests []*config.Request, dryRun bool) error {
	if err := actor.Check(); err != nil {
		return err
	}
	b := engine.Batch{Actor: actor, DryRun: dryRun, Guard: func(_ int, state *config.State, op *config.Op) error {
		if check := s.opts.Load().Check; check != nil {
			if err := check(op, &wire.Operation{}); err != nil {
				return err
			}
		}
		return s.guard(state, op)
	}}
	for _, r := range requests {
		b.Requests = append(b.Requests, *r)
	}
	_, err := s.doc.Submit(ctx, b)
	return err
}

// maxWritesShown keeps an answer small; the log has them all.
const maxWritesShown = 1000

func (s *Service) results(r reader, ops []wire.Operation, done []engine.Result) []wire.Result {
	results := make([]wire.Result, len(done))
	_ = s.doc.View(func(state *config.State) error {
		version := state.VersionText()
		for i, d := range done {
			out := wire.Result{ID: d.Op.ID.String(), Seq: d.Seq, Version: version}
			if d.Op.Time > 0 {
				out.HLC = d.Op.Time.String()
			}
			all, _ := writes(state, d.Op, maxWritesShown)
			out.Writes = r.veil(all)
			if op := &ops[i]; op.Field != "" {
				id, _ := config.ParseEntity(op.EntityID)
				if now, err := state.Get(id, op.Field, environment(op)); err == nil && r.may(id, op.Field, environment(op)) {
					out.Now = wireValue(now.Value)
				}
			}
			results[i] = out
		}
		return nil
	})
	return results
}

// veil leaves of the writes to a field that the reader may not see only that there were some. What they took away, or took over from elsewhere,
// is what was there before, and so is their number.
func (r reader) veil(all []wire.Write) []wire.Write {
	list := []wire.Write{}
	seen := map[wire.Write]bool{}
	for _, w := range all {
		if w.Field == "" || r.may(w.EntityID, w.Field, w.Environment) {
			list = append(list, w)
			continue
		}
		if w = (wire.Write{EntityID: w.EntityID, Field: w.Field, Environment: w.Environment, Do: string(config.Put)}); !seen[w] {
			seen[w] = true
			list = append(list, w)
		}
	}
	return list
}

func environment(op *wire.Operation) string {
	if op.Environment != "" {
		return op.Environment
	}
	return op.Env
}

// Request reads what is wanted.
func Request(op *wire.Operation) (*config.Request, error) {
	r := &config.Request{
		Kind: config.Kind(op.Type), Entity: op.EntityID, Field: op.Field, Key: op.Key, Env: environment(op), Override: op.Override,
		NoCreate: op.MustExist, Parent: op.Parent, Before: op.Before, After: op.After, Position: op.Position, Restore: op.Restore,
		Cascade: op.Cascade, From: op.From, To: op.To, Filter: config.Filter{Entities: op.Entities, Fields: op.Only}, AnyPath: op.AnyPath,
		Prune: op.Prune, Text: op.Schema, Intent: op.Intent, Via: op.Via, Strict: op.Expect,
	}
	if op.Environment != "" && op.Env != "" && op.Environment != op.Env {
		return nil, fmt.Errorf("environment is %q and env %q: they are the same, say one: %w", op.Environment, op.Env, errkind.Invalid)
	}
	switch {
	case r.Kind == config.SetOverride:
		r.Kind = config.SetField
	case r.Kind == config.Resolve && op.ChosenValue != nil:
		r.Value = op.ChosenValue.Any
	}
	r.Add, r.Remove = plain(op.Add), plain(op.Remove)
	if r.Kind == config.SetField && op.Value == nil && r.Add == nil && r.Remove == nil {
		return nil, fmt.Errorf("set_field: there is neither value nor add nor remove (to unset a field, write \"value\": null): %w", errkind.Invalid)
	}
	if op.Value != nil {
		if r.Add != nil || r.Remove != nil {
			return nil, fmt.Errorf("set_field: a value takes the place of all elements, so add and remove make no sense beside it: %w", errkind.Invalid)
		}
		r.Value = op.Value.Any
	}
	for name, v := range op.Fields {
		if r.Fields == nil {
			r.Fields = map[string]any{}
		}
		r.Fields[name] = v.Any
	}
	if op.Base != "" {
		seen, err := crdt.ParseDots(op.Base)
		if err != nil {
			return nil, fmt.Errorf("base: %w", err)
		}
		r.Seen = &seen
	}
	if op.Signed != nil {
		r.Signature = &config.Signature{Key: op.Signed.Key, Body: op.Signed.Body, Sig: op.Signed.Sig}
	}
	return r, nil
}

// plain has nil for no elements: what is signed does not tell an empty list from none, so neither must what is done.
func plain(list []wire.Value) []any {
	if len(list) == 0 {
		return nil
	}
	all := make([]any, len(list))
	for i, v := range list {
		all[i] = v.Any
	}
	return all
}
