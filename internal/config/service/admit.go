package service

import (
	"fmt"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// admit refuses a request for what its actor may not do, before it is worked out: what is said of it then, also by having nothing to do, tells
// what is there. What the request comes to is for guard to permit.
func (s *Service) admit(a config.Actor, r *config.Request) error {
	access := s.opts.Load().Access
	if access == nil {
		return nil
	}
	id, err := config.ParseEntity(r.Entity)
	switch {
	case r.Kind == config.ChangeSchema:
		return s.Permit(a, policy.ConfigAdmin, "", "", "")
	case r.Kind == config.Promote:
		r.Filter.Only = s.promotable(a, r.From, r.To)
		return s.admitPromotion(a, r)
	case err != nil:
		return nil //nolint:nilerr // the plan says what is wrong with it
	}
	switch r.Kind { //nolint:exhaustive // the others were above, or are none
	case config.InsertEntity:
		err = s.Permit(a, policy.ConfigCreate, id, "", "")
	case config.RemoveEntity:
		err = s.Permit(a, policy.ConfigDelete, id, "", "")
	case config.MoveEntity:
		err = s.Permit(a, policy.ConfigMove, id, "", "")
	case config.Resolve:
		err = s.Permit(a, policy.ConfigResolve, id, r.Field, r.Env)
	case config.SetField:
		if !access.Allow(a, policy.ConfigOverride, id, r.Field, r.Env) {
			err = s.Permit(a, policy.ConfigWrite, id, r.Field, r.Env)
		}
	}
	if err != nil {
		return err
	}
	if parent, err := config.ParseEntity(r.Parent); err == nil && !s.knows(a, parent) {
		return fmt.Errorf("parent: %w", hidden(parent))
	}
	for _, sibling := range [...]string{r.Before, r.After} {
		if sibling != "" && !s.knows(a, sibling) {
			return fmt.Errorf("position: %q has no child %q: %w", r.Parent, sibling, errkind.NotFound)
		}
	}
	return nil
}

// admitPromotion refuses one by who may promote nothing that they see.
func (s *Service) admitPromotion(a config.Actor, r *config.Request) error {
	access := s.opts.Load().Access
	if access.Allow(a, policy.ConfigPromote, "", "", r.To) {
		return nil
	}
	return s.doc.View(func(state *config.State) error {
		for _, id := range state.Entities("") {
			t := state.Schema().Entity(config.Type(id))
			if t == nil {
				continue
			}
			for i := range t.Fields {
				if field := t.Fields[i].Name; access.Allow(a, policy.ConfigPromote, id, field, r.To) && r.Filter.Only(id, field) {
					return nil
				}
			}
		}
		return fmt.Errorf("promote: %s may promote nothing from %q to %q: %w", a.ID, r.From, r.To, errkind.Forbidden)
	})
}

// promotable reports of fields whether a promotion concerns them. For who may not read what would be promoted, or can find out nothing of what it
// would take the place of, a field is not there: that two environments are equal would tell its value as well.
func (s *Service) promotable(a config.Actor, from, to string) func(entity, field string) bool {
	access := s.opts.Load().Access
	r := s.reader(a)
	return func(entity, field string) bool {
		return r.may(entity, field, from) && (r.may(entity, field, to) || access.Allow(a, policy.ConfigPromote, entity, field, to))
	}
}

// knows reports whether an actor may be told that an entity is there, or not: they see something of it, or could begin it.
func (s *Service) knows(a config.Actor, id string) bool {
	r := s.reader(a)
	if r.may(id, "", "") || s.opts.Load().Access.Allow(a, policy.ConfigCreate, id, "", "") {
		return true
	}
	seen := false
	_ = s.doc.View(func(state *config.State) error {
		for _, env := range state.Schema().Environments {
			seen = seen || r.entity(state, id, env.Name) != nil
		}
		return nil
	})
	return seen
}
