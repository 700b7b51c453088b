package access_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/access"
	"github.com/skep-dev/skep/internal/policy"
)

// The oracle: a file as lists, and Conflux's description of what it means, told once more without package policy.

type oracle struct {
	roles    []oracleRole // each inherits earlier ones only
	assigned []oracleAssignment
}

type oracleRole struct {
	inherits []int
	permits  []oraclePermission
}

type oraclePermission struct {
	verbs               []string
	typ, id, field, env string // "": left out
}

type oracleAssignment struct {
	actor, pattern, class string
	known, anonymous      bool // default_authenticated, default_anonymous
	roles                 []int
}

// glob: any star, anything; without the help of anything that the code uses.
func glob(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case pattern[0] == '*':
		return glob(pattern[1:], s) || s != "" && glob(pattern, s[1:])
	default:
		return s != "" && s[0] == pattern[0] && glob(pattern[1:], s[1:])
	}
}

func (o oracle) allows(a config.Actor, verb, typ, id, field, env string) bool {
	has := map[int]bool{}
	for _, x := range o.assigned {
		fits := a.ID != "" && (x.actor == "" || x.actor == a.ID) && (x.pattern == "" || glob(x.pattern, a.ID)) && (x.class == "" || x.class == string(a.Class))
		if x.known {
			fits = a.ID != ""
		}
		if x.anonymous {
			fits = a.ID == ""
		}
		if fits {
			for _, r := range x.roles {
				has[r] = true
			}
		}
	}
	for i, role := range slices.Backward(o.roles) {
		if !has[i] {
			continue
		}
		for _, from := range role.inherits {
			has[from] = true
		}
		for _, p := range role.permits {
			part := func(pattern, s string) bool { return pattern == "" || pattern == "*" || glob(pattern, s) }
			if (slices.Contains(p.verbs, verb) || slices.Contains(p.verbs, "*")) && glob(p.typ, typ) && part(p.id, id) && part(p.field, field) && part(p.env, env) {
				return true
			}
		}
	}
	return false
}

// quotePart writes a part of a pattern, in quotes between its stars where it has to be.
func quotePart(s string) string {
	if !strings.ContainsAny(s, "./@") {
		return s
	}
	return strings.ReplaceAll(`"`+strings.ReplaceAll(s, "*", `"*"`)+`"`, `""`, "")
}

func (p oraclePermission) resource() string {
	s := quotePart(p.typ)
	if p.id != "" {
		s += "/" + quotePart(p.id)
	}
	if p.field != "" {
		s += "." + quotePart(p.field)
	}
	if p.env != "" {
		s += "@" + quotePart(p.env)
	}
	return s
}

func (o oracle) toml() string {
	var b strings.Builder
	names := func(roles []int) string {
		var out []string
		for _, r := range roles {
			out = append(out, fmt.Sprintf("%q", roleName(r)))
		}
		return "[" + strings.Join(out, ", ") + "]"
	}
	for i, r := range o.roles {
		fmt.Fprintf(&b, "[role.%s]\ninherits = %s\npermissions = [\n", roleName(i), names(r.inherits))
		for _, p := range r.permits {
			fmt.Fprintf(&b, "  { actions = [\"%s\"], resource = '%s' },\n", strings.Join(p.verbs, `", "`), p.resource())
		}
		b.WriteString("]\n")
	}
	header := ""
	for _, a := range o.assigned {
		switch {
		case a.known:
			header += "default_authenticated = " + names(a.roles) + "\n"
		case a.anonymous:
			header += "default_anonymous = " + names(a.roles) + "\n"
		default:
			b.WriteString("[[assignment]]\n")
			for _, s := range [][2]string{{"actor", a.actor}, {"actor_pattern", a.pattern}, {"actor_class", a.class}} {
				if s[1] != "" {
					fmt.Fprintf(&b, "%s = %q\n", s[0], s[1])
				}
			}
			fmt.Fprintf(&b, "roles = %s\n", names(a.roles))
		}
	}
	if header != "" {
		header = "[rbac]\n" + header
	}
	return header + b.String()
}

// roleName: names that mean something to package policy are nothing special here.
func roleName(i int) string {
	return []string{"guest", "reader", "writer", "owner", "r0", "r1"}[i]
}

func oracles() *rapid.Generator[oracle] {
	pick := func(t *rapid.T, list ...string) string { return rapid.SampledFrom(list).Draw(t, "pick") }
	some := func(t *rapid.T, below int) []int {
		if below == 0 {
			return nil
		}
		return rapid.SliceOfN(rapid.IntRange(0, below-1), 0, 2).Draw(t, "roles")
	}
	return rapid.Custom(func(t *rapid.T) (o oracle) {
		for i := range rapid.IntRange(1, 6).Draw(t, "roles") {
			r := oracleRole{inherits: some(t, i)}
			for range rapid.IntRange(0, 3).Draw(t, "permissions") {
				r.permits = append(r.permits, oraclePermission{
					verbs: []string{pick(t, "read", "write", "*"), pick(t, "read", "promote")},
					typ:   pick(t, "*", "*", "route", "service", "rou*", "*e"), id: pick(t, "", "*", "api", "api-*", "*.v1", "a.b", "x/api", "*api*"),
					field: pick(t, "", "", "*", "weight", "w*", "a.b"), env: pick(t, "", "*", "production", "staging", "*ing", "eu.west"),
				})
			}
			o.roles = append(o.roles, r)
		}
		for range rapid.IntRange(0, 4).Draw(t, "assignments") {
			a := oracleAssignment{roles: append(some(t, len(o.roles)), rapid.IntRange(0, len(o.roles)-1).Draw(t, "role")), class: pick(t, "", "human", "pipeline")}
			switch pick(t, "actor", "pattern", "class") {
			case "actor":
				a.actor = pick(t, "alice", "Alice", "ci-1")
			case "pattern":
				a.pattern = pick(t, "ci-*", "*", "*i*", "alice", "*-1", "a*e")
			default:
				a.class = pick(t, "human", "pipeline", "system")
			}
			o.assigned = append(o.assigned, a)
		}
		if rapid.Bool().Draw(t, "defaults") {
			o.assigned = append(o.assigned, oracleAssignment{known: true, roles: some(t, len(o.roles))}, oracleAssignment{anonymous: true, roles: some(t, len(o.roles))})
		}
		return o
	})
}

func TestRulesAsTheOracle(t *testing.T) {
	t.Parallel()
	actions := map[string]policy.Action{"read": policy.ConfigRead, "write": policy.ConfigWrite, "promote": policy.ConfigPromote}
	rapid.Check(t, func(t *rapid.T) {
		o := oracles().Draw(t, "rules")
		rules, err := access.Load([]byte(o.toml()), "production")
		if err != nil {
			t.Fatalf("%v\n%s", err, o.toml())
		}
		// The same with one more role for everybody: whoever might do something still may.
		more := o
		more.assigned = append(slices.Clone(o.assigned), oracleAssignment{pattern: "*", roles: []int{rapid.IntRange(0, len(o.roles)-1).Draw(t, "more")}})
		larger, err := access.Load([]byte(more.toml()), "production")
		if err != nil {
			t.Fatalf("%v\n%s", err, more.toml())
		}
		for range 20 {
			draw := func(list ...string) string { return rapid.SampledFrom(list).Draw(t, "asked") }
			a := config.Actor{ID: draw("alice", "Alice", "ci-1", "bob", ""), Class: config.Class(draw("human", "pipeline", "system", ""))}
			verb, typ, id := draw("read", "write", "promote"), draw("route", "service"), draw("api", "api-1", "api.v1", "a.b", "x/api", "b", "")
			field, env := draw("", "weight", "a.b", "b"), draw("production", "staging", "eu.west", "")
			layer := env
			if env == "" {
				layer = "production" // the base environment
			}
			want := o.allows(a, verb, typ, id, field, layer)
			got := rules.Allow(a, actions[verb], typ+"."+id, field, env)
			if got != want {
				t.Fatalf("%+v %s %s.%s.%s@%s: %v, the oracle says %v\n%s", a, verb, typ, id, field, env, got, want, o.toml())
			}
			if got && !larger.Allow(a, actions[verb], typ+"."+id, field, env) {
				t.Fatalf("one role more takes something away\n%s", more.toml())
			}
		}
	})
}
