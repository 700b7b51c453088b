package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/policy"
)

// ListRoles returns all roles, sorted by name.
func (r *Rules) ListRoles() []Role { return slices.Clone(r.roles) }

// Grant is a role that an actor has.
type Grant struct {
	Role string
	To   string // whom the assignment is about: "the pattern ci-*"
	Line int    // of the assignment
	Via  string // the role that inherits it; "" if the assignment names it
}

// assigned are the numbers of the assignments that fit an actor.
func (r *Rules) assigned(a config.Actor) (numbers []int) {
	for i := range r.assignments {
		if r.assignments[i].fits(a) {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

// Roles returns the roles that an actor has, each once, and why.
func (r *Rules) Roles(a config.Actor) (grants []Grant) {
	seen := map[string]bool{}
	var add func(name string, g Grant)
	add = func(name string, g Grant) {
		if seen[name] {
			return
		}
		seen[name] = true
		g.Role = name
		grants = append(grants, g)
		i, _ := r.role(name)
		for _, from := range r.roles[i].Inherits {
			g.Via = name
			add(from, g)
		}
	}
	for _, i := range r.assigned(a) {
		for _, name := range r.assignments[i].roles {
			add(name, Grant{To: r.assignments[i].String(), Line: r.assignments[i].line})
		}
	}
	return grants
}

// Explanation is a decision with all that led to it.
type Explanation struct {
	Allowed  bool
	Actor    config.Actor
	Action   policy.Action
	Resource Resource // with the name of the base environment if none was named
	Roles    []Grant
	Steps    []Step
}

// Step is a permission that was looked at.
type Step struct {
	Permits    bool
	Role       string // that has the permission
	To         string // to whom it was given
	Permission Permission
}

// Explain decides as Allow does, and says how.
func (r *Rules) Explain(a config.Actor, action policy.Action, res Resource) Explanation {
	if res.Env == "" {
		res.Env = r.base
	}
	e := Explanation{Actor: a, Action: action, Resource: res, Roles: r.Roles(a)}
	about, ok := r.resource(res.Entity, res.Field, res.Env)
	if !ok {
		return e
	}
	d := policy.Explain(r.For(a).principal, action, about)
	e.Allowed = d.Allowed
	// Policy's steps are about the document that was made of the rules: "…: role r3", "given to the group a4, …". The permissions of a role
	// come one after the other.
	next := map[string]int{}
	for _, s := range d.Steps {
		_, name, _ := strings.Cut(s.Rule, ": role ")
		var role, group int
		if _, err := fmt.Sscanf(name, "r%d", &role); err != nil {
			continue // about credentials, which there are none of
		}
		if _, err := fmt.Sscanf(s.Why, "given to the group a%d", &group); err != nil {
			panic("bug: a role that no group has")
		}
		all := r.roles[role].Permissions
		e.Steps = append(e.Steps, Step{
			Permits: s.Effect == policy.Permits, Role: r.roles[role].Name, To: r.assignments[group].String(), Permission: all[next[name]%len(all)],
		})
		next[name]++
	}
	return e
}

// String writes an explanation for people, as `rbac check` prints it.
func (e Explanation) String() string {
	var b strings.Builder
	who := e.Actor.ID
	if who == "" {
		who = "somebody who is not known"
	}
	if e.Actor.Class != "" {
		who += " (" + string(e.Actor.Class) + ")"
	}
	verb, what := strings.TrimPrefix(string(e.Action), "config."), e.Resource.String()
	if e.Allowed {
		fmt.Fprintf(&b, "ALLOWED: %s may %s %s\n", who, verb, what)
	} else {
		fmt.Fprintf(&b, "DENIED: %s may not %s %s\n", who, verb, what)
	}
	if len(e.Roles) == 0 {
		b.WriteString("  has no role\n")
	}
	for _, g := range e.Roles {
		fmt.Fprintf(&b, "  has role %s", g.Role)
		if g.Via != "" {
			fmt.Fprintf(&b, ", which %s inherits", g.Via)
		}
		fmt.Fprintf(&b, ": line %d, %s\n", g.Line, g.To)
	}
	for _, s := range e.Steps {
		effect := "is not about it"
		if s.Permits {
			effect = "permits it"
		}
		fmt.Fprintf(&b, "  line %d, role %s: %s on %s %s\n", s.Permission.Line, s.Role, strings.Join(s.Permission.Actions, ", "), s.Permission.Resource, effect)
	}
	if !e.Allowed {
		b.WriteString("  nothing permits it\n")
	}
	return b.String()
}

// String writes a resource as ParseResource reads it.
func (r Resource) String() string {
	typ, id, _ := strings.Cut(r.Entity, ".")
	text := quote(typ)
	if id != "" {
		text += "/" + quote(id)
	}
	if r.Field != "" {
		text += "." + quote(r.Field)
	}
	if r.Env != "" {
		text += "@" + quote(r.Env)
	}
	return text
}

func quote(s string) string {
	if strings.ContainsAny(s, "./@*") {
		return `"` + s + `"`
	}
	return s
}

// Warnings says what the rules may not mean as they were meant.
func (r *Rules) Warnings() []string { return slices.Clone(r.warnings) }

func (r *Rules) warn(src *rbacFile) {
	add := func(line int, format string, args ...any) {
		r.warnings = append(r.warnings, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...))
	}
	used := map[string]bool{}
	for i := range r.assignments {
		for _, name := range r.assignments[i].roles {
			used[name] = true
		}
	}
	for _, role := range r.roles {
		for _, from := range role.Inherits {
			used[from] = true
		}
	}
	for _, role := range r.roles {
		if role.Name == "viewer" && src.RBAC == nil {
			add(role.Line, `everybody who is known has no role viewer, as there is no [rbac]: if they should, write [rbac] with default_authenticated = ["viewer"]`)
		} else if !used[role.Name] {
			add(role.Line, "nobody has role %s", role.Name)
		}
	}
	for i := range r.assignments {
		if a := &r.assignments[i]; a.whom == anonymousOnly && len(a.roles) > 0 {
			add(a.line, "who is not known has role %s", strings.Join(a.roles, ", "))
		}
	}
}
