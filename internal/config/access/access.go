// Package access says who acts on a document and what they may do: roles (rbac.toml), API keys (api-keys.toml), client certificates.
//
//	rules, err := access.Load(text, "production")
//	…
//	if !rules.For(actor).Allow(policy.ConfigWrite, "service.api", "replicas", "staging") { … }
//
// The files have the forms that Conflux gave them. Roles are decided by package policy: a file is written anew as one of its documents,
// in which patterns are quoted and each assignment is a group, and an actor becomes a principal in the groups of the assignments that fit.
// So what a pattern matches and what is permitted is policy's to say, and who is meant by an assignment is said here.
//
// An actor without an ID is anonymous. Names are told apart by case, unlike those of Skep's accounts: alice and Alice are two actors.
package access

import (
	"fmt"
	"strings"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// separator stands between an entity's type and ID in the paths that policy sees. It can be in neither, so that a star for the one never
// reaches into the other.
const separator = "\x1f"

// tenant is the only one there is, in the eyes of policy.
const tenant id.Tenant = "ten_config"

// Subject is an actor with what the rules say of it, for many questions.
type Subject struct {
	rules     *Rules
	principal policy.Principal
}

// For looks up what the rules say of an actor.
func (r *Rules) For(a config.Actor) *Subject {
	groups := []string{}
	for _, i := range r.assigned(a) {
		groups = append(groups, r.assignments[i].group())
	}
	return &Subject{rules: r, principal: policy.Principal{
		// Roles come from groups alone: the ID only has to be one, and the scope not to be in the way.
		ID: "actor", Scope: policy.ScopeAdmin, Groups: map[id.Tenant][]string{tenant: groups},
	}}
}

// Allow decides. entity is "type.id", or a type alone, or "" for the document, which only permissions for all entities reach; field is "" for
// the entity itself; env is "" for the base environment.
func (s *Subject) Allow(action policy.Action, entity, field, env string) bool {
	r, ok := s.rules.resource(entity, field, env)
	return ok && policy.Allow(s.principal, action, r)
}

// Subject is For, as package service asks for it.
func (r *Rules) Subject(a config.Actor) func(action policy.Action, entity, field, env string) bool {
	return r.For(a).Allow
}

// Allow decides one question about an actor.
func (r *Rules) Allow(a config.Actor, action policy.Action, entity, field, env string) bool {
	return r.For(a).Allow(action, entity, field, env)
}

// resource is an entity as policy sees it; false: there is no such entity.
func (r *Rules) resource(entity, field, env string) (policy.Resource, bool) {
	typ, id1, _ := strings.Cut(entity, ".")
	if typ == "" && entity != "" || strings.Contains(entity, separator) {
		return policy.Resource{}, false
	}
	if env == "" {
		env = r.base
	}
	return policy.Resource{Kind: policy.KindConfig, Tenant: []id.Tenant{tenant}, Rules: r.rules, Path: typ + separator + id1, Field: field, At: env}, true
}

// verbs are the actions that a file can name, besides *.
var verbs = []string{"read", "write", "create", "delete", "move", "override", "resolve", "promote", "milestone", "admin"}

// ParseAction reads the name of an action: "write".
func ParseAction(verb string) (policy.Action, error) {
	for _, v := range verbs {
		if v == verb {
			return policy.Action("config." + v), nil
		}
	}
	return "", fmt.Errorf("%q is no action: use %s: %w", clip(verb), strings.Join(verbs, ", "), errkind.Invalid)
}

// clip keeps what was sent short enough for an error message.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

func isClass(c config.Class) bool {
	_, err := config.ParseClass(string(c))
	return c != "" && err == nil
}
