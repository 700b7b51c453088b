package access

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// maxAssignments bounds the look-up of an actor; the other limits are those of package policy.
const maxAssignments = 5000

// maxNameBytes bounds the names of roles and actors.
const maxNameBytes = 512

// maxStars bounds the time that a match of a name can take.
const maxStars = 8

// rbacFile is the form of rbac.toml.
type rbacFile struct {
	RBAC        *rbacHeader         `toml:"rbac"`
	Role        map[string]roleForm `toml:"role"`
	Assignments []assignmentForm    `toml:"assignment"`
}

type rbacHeader struct {
	Version       any      `toml:"version"` // "1.0", as Conflux writes it, or 1
	Authenticated []string `toml:"default_authenticated"`
	Anonymous     []string `toml:"default_anonymous"`
}

type roleForm struct {
	Description string           `toml:"description"`
	Inherits    []string         `toml:"inherits"`
	Permissions []permissionForm `toml:"permissions"`
}

type permissionForm struct {
	Actions  []string `toml:"actions"`
	Resource string   `toml:"resource"`
}

type assignmentForm struct {
	Actor   string       `toml:"actor"`
	Pattern string       `toml:"actor_pattern"`
	Class   config.Class `toml:"actor_class"`
	Roles   []string     `toml:"roles"`
}

// Rules are an rbac.toml that means something. They are immutable.
type Rules struct {
	base        string
	roles       []Role // sorted by name
	assignments []assignment
	rules       []policy.Rules
	warnings    []string
}

// Role is a role of the file.
type Role struct {
	Name, Description string
	Inherits          []string
	Permissions       []Permission
	Line              int
}

// Permission lets a role do something.
type Permission struct {
	Actions  []string
	Resource string // as it is written
	Line     int

	pattern pattern
}

// whom says to whom an assignment gives its roles.
type whom uint8

const (
	named         whom = iota // who fits what the assignment says
	everybody                 // everybody who is known
	anonymousOnly             // everybody else
)

// assignment gives roles to actors.
type assignment struct {
	number int
	whom   whom
	actor  string
	globs  []string // actor_pattern, as what stands between its stars
	class  config.Class
	roles  []string
	line   int
}

// group is as what policy knows those who have the assignment.
func (a *assignment) group() string { return fmt.Sprintf("a%d", a.number) }

// fits reports whether an assignment is about an actor. Where it says more than one thing of it, all must be so.
func (a *assignment) fits(who config.Actor) bool {
	switch a.whom {
	case everybody:
		return who.ID != ""
	case anonymousOnly:
		return who.ID == ""
	default:
		return who.ID != "" && (a.actor == "" || a.actor == who.ID) && (a.globs == nil || fits(a.globs, who.ID)) && (a.class == "" || a.class == who.Class)
	}
}

// fits reports whether a name is the pieces in order, with anything between them.
func fits(pieces []string, name string) bool {
	last := len(pieces) - 1
	if last == 0 {
		return name == pieces[0]
	}
	rest, ok := strings.CutPrefix(name, pieces[0])
	for _, piece := range pieces[1:last] {
		if ok {
			_, rest, ok = strings.Cut(rest, piece)
		}
	}
	return ok && strings.HasSuffix(rest, pieces[last])
}

// String says whom an assignment is about.
func (a *assignment) String() string {
	switch a.whom {
	case everybody:
		return "everybody who is known (default_authenticated)"
	case anonymousOnly:
		return "everybody who is not known (default_anonymous)"
	default:
		var all []string
		if a.actor != "" {
			all = append(all, "the actor "+a.actor)
		}
		if a.globs != nil {
			all = append(all, "the pattern "+strings.Join(a.globs, "*"))
		}
		if a.class != "" {
			all = append(all, "the class "+string(a.class))
		}
		return strings.Join(all, " and ")
	}
}

// Load reads an rbac.toml and checks all of it. base is the name of the base environment: a pattern for it, such as *@production, is about
// writes that name no environment too. An error says the line and column and what to write.
func Load(text []byte, base string) (*Rules, error) {
	if base == "" {
		return nil, fmt.Errorf("rbac.toml: the base environment has no name, so that no rule could be about it: %w", errkind.Invalid)
	}
	var src rbacFile
	f, err := decode("rbac.toml", text, "", &src)
	if err != nil {
		return nil, err
	}
	r := &Rules{base: base}
	for _, step := range []func(*file, *rbacFile) error{r.header, r.loadRoles, r.inheritance, r.loadAssignments} {
		if err := step(f, &src); err != nil {
			return nil, err
		}
	}
	doc, err := policy.Parse(r.document())
	if err != nil {
		return nil, fmt.Errorf("rbac.toml: %w", err) // a limit: all else has been looked at
	}
	r.rules = []policy.Rules{{Tenant: tenant, Path: "rbac.toml", Doc: doc}}
	r.warn(&src)
	return r, nil
}

func (r *Rules) header(f *file, src *rbacFile) error {
	if src.RBAC == nil {
		return nil
	}
	switch v := src.RBAC.Version; v {
	case nil, "1.0", "1", int64(1), 1.0:
		return nil
	default:
		return f.wrong("rbac.version", `this version of the file is not known: write version = "1.0"`)
	}
}

func (r *Rules) loadRoles(f *file, src *rbacFile) error {
	for _, name := range slices.Sorted(maps.Keys(src.Role)) {
		form := src.Role[name]
		way := "role." + name
		if name == "" || len(name) > maxNameBytes || strings.ContainsFunc(name, unicode.IsControl) {
			return f.wrong(way, "a role's name has 1 to %d bytes and no control characters", maxNameBytes)
		}
		role := Role{Name: name, Description: form.Description, Inherits: form.Inherits, Line: f.line(way)}
		for i, p := range form.Permissions {
			way := fmt.Sprintf("%s.permissions[%d]", way, i)
			if len(p.Actions) == 0 {
				return f.wrong(way+".actions", `a permission needs actions: write actions = ["read"], or ["*"] for all`)
			}
			for k, verb := range p.Actions {
				if verb != "*" && !slices.Contains(verbs, verb) {
					return f.wrong(fmt.Sprintf("%s.actions[%d]", way, k), "%q is no action: use %s or *", clip(verb), strings.Join(verbs, ", "))
				}
			}
			pattern, err := parsePattern(p.Resource)
			if err != nil {
				return f.wrong(way+".resource", "resource %q: %v", clip(p.Resource), err)
			}
			role.Permissions = append(role.Permissions, Permission{Actions: p.Actions, Resource: p.Resource, Line: f.line(way + ".resource"), pattern: pattern})
		}
		r.roles = append(r.roles, role)
	}
	return nil
}

// inheritance checks that roles inherit only what there is, and never themselves.
func (r *Rules) inheritance(f *file, src *rbacFile) error {
	done := map[string]bool{}
	var visit func(name string, path []string) error
	visit = func(name string, path []string) error {
		if done[name] {
			return nil
		}
		path = append(slices.Clip(path), name)
		for i, from := range src.Role[name].Inherits {
			way := fmt.Sprintf("role.%s.inherits[%d]", name, i)
			if err := r.known(f, way, from); err != nil {
				return err
			}
			if slices.Contains(path, from) {
				return f.wrong(way, "role %s inherits itself: %s", from, strings.Join(append(path[slices.Index(path, from):], from), " → "))
			}
			if err := visit(from, path); err != nil {
				return err
			}
		}
		done[name] = true
		return nil
	}
	for _, role := range r.roles {
		if err := visit(role.Name, nil); err != nil {
			return err
		}
	}
	return nil
}

// known checks that a role is defined. way is where it is used.
func (r *Rules) known(f *file, way, name string) error {
	if _, ok := r.role(name); ok {
		return nil
	}
	return f.wrong(way, "there is no role %q: define [role.%s], or use one of %s", clip(name), clip(name), orNone(r.names()))
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none: the file has no roles"
	}
	return clip(strings.Join(names, ", "))
}

func (r *Rules) names() (names []string) {
	for i := range r.roles {
		names = append(names, r.roles[i].Name)
	}
	return names
}

func (r *Rules) role(name string) (int, bool) {
	return slices.BinarySearchFunc(r.roles, name, func(role Role, name string) int { return strings.Compare(role.Name, name) })
}

func (r *Rules) loadAssignments(f *file, src *rbacFile) error {
	if n := len(src.Assignments); n > maxAssignments {
		return fmt.Errorf("rbac.toml: it has %d assignments, and %d are allowed: %w", n, maxAssignments, errkind.TooLarge)
	}
	add := func(way string, a assignment) error {
		for i, name := range a.roles {
			if err := r.known(f, fmt.Sprintf("%s[%d]", way, i), name); err != nil {
				return err
			}
		}
		a.number = len(r.assignments)
		r.assignments = append(r.assignments, a)
		return nil
	}
	for i, form := range src.Assignments {
		way := fmt.Sprintf("assignment[%d]", i)
		a := assignment{actor: form.Actor, class: form.Class, roles: form.Roles, line: f.line(way)}
		if form.Pattern != "" {
			a.globs = strings.Split(form.Pattern, "*")
		}
		switch {
		case len(form.Roles) == 0:
			return f.wrong(way, `an assignment needs roles: write roles = ["…"]`)
		case form.Actor == "" && form.Pattern == "" && form.Class == "":
			return f.wrong(way, `an assignment needs somebody: write actor = "alice", actor_pattern = "ci-*" or actor_class = "pipeline"`)
		case form.Actor != "" && form.Pattern != "":
			return f.wrong(way+".actor_pattern", "an assignment has actor or actor_pattern, not both: make two of it")
		case strings.Contains(form.Actor, "*"):
			return f.wrong(way+".actor", "%q is a pattern: write actor_pattern", clip(form.Actor))
		case len(a.globs) > maxStars+1:
			return f.wrong(way+".actor_pattern", "it has more than %d stars", maxStars)
		case form.Class != "" && !isClass(form.Class):
			return f.wrong(way+".actor_class", "%q is no class: use human, pipeline, operator or system", clip(string(form.Class)))
		}
		if err := add(way+".roles", a); err != nil {
			return err
		}
	}
	if src.RBAC == nil {
		return nil
	}
	if err := add("rbac.default_authenticated", assignment{whom: everybody, roles: src.RBAC.Authenticated, line: f.line("rbac.default_authenticated")}); err != nil {
		return err
	}
	return add("rbac.default_anonymous", assignment{whom: anonymousOnly, roles: src.RBAC.Anonymous, line: f.line("rbac.default_anonymous")})
}

// document writes the rules as a document of package policy. Role r3 is the one with the number 3, and group a4 has assignment 4.
func (r *Rules) document() []byte {
	var b strings.Builder
	b.WriteString("[rbac]\n")
	list := func(names []string, name func(string) string) string {
		out := make([]string, len(names))
		for i, s := range names {
			out[i] = name(s)
		}
		text, _ := json.Marshal(out) // a list of strings is written in TOML as in JSON
		return string(text)
	}
	number := func(name string) string {
		i, _ := r.role(name)
		return fmt.Sprintf("r%d", i)
	}
	for i, role := range r.roles {
		fmt.Fprintf(&b, "[role.r%d]\ninherits = %s\npermissions = [\n", i, list(role.Inherits, number))
		for _, p := range role.Permissions {
			text, _ := json.Marshal(p.pattern.document())
			fmt.Fprintf(&b, "{ actions = %s, resource = %s },\n", list(p.Actions, strings.Clone), text)
		}
		b.WriteString("]\n")
	}
	for i := range r.assignments {
		if a := &r.assignments[i]; len(a.roles) > 0 {
			fmt.Fprintf(&b, "[[assignment]]\ngroup = %q\nroles = %s\n", a.group(), list(a.roles, number))
		}
	}
	return []byte(b.String())
}
