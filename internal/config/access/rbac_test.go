package access_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/access"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// seed is the rbac.toml that Conflux's README shows.
const seed = `# rbac.toml
[role.developer]
permissions = [
  { actions = ["read", "write"], resource = "*@development" },
]

[role.operator]
inherits = ["developer"]
permissions = [
  { actions = ["write", "override"], resource = "*@staging" },
  { actions = ["promote"], resource = "*@production" },
]

[[assignment]]
actor_pattern = "ci-*"
roles = ["developer"]
`

// full has everything that such a file may have.
const full = `[rbac]
version = "1.0"
default_authenticated = ["viewer"]
default_anonymous = []

[role.viewer]
description = "Read-only access"
permissions = [{ actions = ["read"], resource = "*" }]

[role.owner]
inherits = ["viewer"]
permissions = [
  { actions = ["*"], resource = "service" },            # every service
  { actions = ["write"], resource = "route/api-*.weight@production" },
  { actions = ["delete"], resource = 'route/"api.v1"' },
  { actions = ["move"], resource = "*/gw.hosts" },
]

[role.cd]
permissions = [{ actions = ["milestone", "promote"], resource = "*@production" }]

[[assignment]]
actor = "alice"
roles = ["owner"]

[[assignment]]
actor_pattern = "cd-*"
actor_class = "pipeline"
roles = ["cd"]

[[assignment]]
actor_class = "system"
roles = ["owner", "cd"]
`

func load(tb testing.TB, text string) *access.Rules {
	tb.Helper()
	r, err := access.Load([]byte(text), "production")
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestAllow(t *testing.T) {
	t.Parallel()
	alice := config.Actor{ID: "alice", Class: config.Human}
	ci := config.Actor{ID: "ci-7", Class: config.Pipeline}
	cd := config.Actor{ID: "cd-7", Class: config.Pipeline}
	tests := []struct {
		rules    string
		who      config.Actor
		verb     string
		resource string
		want     bool
	}{
		{seed, ci, "write", "service/api@development", true},
		{seed, ci, "write", "service/api.replicas@development", true},
		{seed, ci, "write", "service/api@staging", false},
		{seed, ci, "create", "service/api@development", false},
		{seed, config.Actor{ID: "CI-7"}, "read", "service/api@development", false}, // case counts
		{seed, config.Actor{ID: "ci"}, "read", "service/api@development", false},
		{seed, alice, "write", "service/api@staging", false},
		{seed, config.Actor{}, "read", "service/api@development", false},

		{full, cd, "read", "route/gw", true}, // everybody who is known
		{full, config.Actor{}, "read", "route/gw", false},
		{full, alice, "admin", "service/x.y@staging", true},
		{full, alice, "create", "service", true},
		{full, alice, "create", "services/x", false},
		{full, alice, "write", "route/api-eu.weight@production", true},
		{full, alice, "write", "route/api-eu.weight", true}, // the base environment is production
		{full, alice, "write", "route/api-eu.weight@staging", false},
		{full, alice, "write", "route/api-eu@production", false}, // the entity is not one of its fields
		{full, alice, "write", "route/api-eu.weights@production", false},
		{full, alice, "delete", `route/"api.v1"`, true},
		{full, alice, "delete", `route/"api.v1".hosts@staging`, true},
		{full, alice, "delete", "route/api.v1", false}, // a field v1 of api
		{full, alice, "move", "route/gw.hosts", true},
		{full, alice, "move", `route/"x/gw".hosts`, false}, // an ID with a slash is one ID
		{full, cd, "promote", "service/api@production", true},
		{full, cd, "promote", "service/api", true},
		{full, cd, "promote", "service/api@staging", false},
		{full, config.Actor{ID: "cd-7", Class: config.Human}, "promote", "service/api@production", false}, // the pattern and the class
		{full, config.Actor{ID: "daemon", Class: config.System}, "milestone", "service/api@production", true},
	}
	for _, tt := range tests {
		r := load(t, tt.rules)
		action, err := access.ParseAction(tt.verb)
		if err != nil {
			t.Fatal(err)
		}
		res, err := access.ParseResource(tt.resource)
		if err != nil {
			t.Fatal(err)
		}
		e := r.Explain(tt.who, action, res)
		if got := r.Allow(tt.who, action, res.Entity, res.Field, res.Env); got != tt.want || e.Allowed != tt.want {
			t.Errorf("%s: %s on %s = %v, want %v: %s", tt.who.ID, tt.verb, tt.resource, got, tt.want, e)
		}
	}
}

// The document itself is what "*" has and "route/*" has not, in the base environment.
func TestDocument(t *testing.T) {
	t.Parallel()
	for resource, want := range map[string]bool{"*": true, "*@production": true, "route/*": false, "*@staging": false, "*/api": false} {
		r := load(t, "[role.some]\npermissions = [{ actions = [\"admin\"], resource = \""+resource+"\" }]\n[[assignment]]\nactor = \"a\"\nroles = [\"some\"]\n")
		if got := r.Allow(config.Actor{ID: "a"}, policy.ConfigAdmin, "", "", ""); got != want {
			t.Errorf("a role with %s has the document: %v, want %v", resource, got, want)
		}
	}
}

// Nothing is allowed on what is no entity, whatever the rules say.
func TestNoEntity(t *testing.T) {
	t.Parallel()
	r := load(t, "[role.all]\npermissions = [{ actions = [\"*\"], resource = \"*\" }]\n[[assignment]]\nactor_pattern = \"*\"\nroles = [\"all\"]\n")
	for _, entity := range []string{".x", "a.b\x1fc"} {
		if r.Allow(config.Actor{ID: "a"}, policy.ConfigRead, entity, "", "") {
			t.Errorf("%q may be read", entity)
		}
	}
	if !r.Allow(config.Actor{ID: "a"}, policy.ConfigRead, "a.b", "", "") || r.Allow(config.Actor{ID: "a"}, policy.RepoRead, "a.b", "", "") {
		t.Error("* is not all actions on configuration")
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	r := load(t, strings.Replace(seed, `actor_pattern = "ci-*"
roles = ["developer"]`, `actor = "alice"
roles = ["operator"]`, 1))
	res, err := access.ParseResource("service/api@staging")
	if err != nil {
		t.Fatal(err)
	}
	alice := config.Actor{ID: "alice", Class: config.Human}
	got := r.Explain(alice, policy.ConfigWrite, res).String()
	want := `ALLOWED: alice (human) may write service/api@staging
  has role operator: line 14, the actor alice
  has role developer, which operator inherits: line 14, the actor alice
  line 10, role operator: write, override on *@staging permits it
  line 11, role operator: promote on *@production is not about it
  line 4, role developer: read, write on *@development is not about it
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = r.Explain(config.Actor{}, policy.ConfigWrite, access.Resource{Entity: "route.api.v1", Field: "x"}).String()
	want = `DENIED: somebody who is not known may not write route/"api.v1".x@production
  has no role
  nothing permits it
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A role that comes over several ways has its permissions explained each time.
func TestExplainTwice(t *testing.T) {
	t.Parallel()
	r := load(t, full)
	e := r.Explain(config.Actor{ID: "alice", Class: config.System}, policy.ConfigMove, access.Resource{Entity: "route.gw", Field: "hosts"})
	var got []string
	for _, s := range e.Steps {
		got = append(got, fmt.Sprintf("%v %s %d %s", s.Permits, s.Role, s.Permission.Line, s.To))
	}
	owner := func(to string) []string {
		return []string{
			"false owner 13 " + to, "false owner 14 " + to, "false owner 15 " + to, "true owner 16 " + to, "false viewer 8 " + to,
		}
	}
	want := append(owner("the actor alice"), owner("the class system")...)
	want = append(want, "false cd 20 the class system", "false viewer 8 everybody who is known (default_authenticated)")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	r := load(t, full)
	want := []access.Grant{
		{Role: "cd", To: "the pattern cd-* and the class pipeline", Line: 26},
		{Role: "viewer", To: "everybody who is known (default_authenticated)", Line: 3},
	}
	if diff := cmp.Diff(want, r.Roles(config.Actor{ID: "cd-1", Class: config.Pipeline})); diff != "" {
		t.Error(diff)
	}
	var names []string
	for _, role := range r.ListRoles() {
		names = append(names, fmt.Sprintf("%s %q %v %d, line %d", role.Name, role.Description, role.Inherits, len(role.Permissions), role.Line))
	}
	if diff := cmp.Diff([]string{`cd "" [] 1, line 19`, `owner "" [viewer] 4, line 10`, `viewer "Read-only access" [] 1, line 6`}, names); diff != "" {
		t.Error(diff)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		full:                                "",
		seed:                                "line 7: nobody has role operator",
		"[role.viewer]\npermissions = []\n": `line 1: everybody who is known has no role viewer, as there is no [rbac]`,
		"[rbac]\ndefault_anonymous = [\"open\"]\n[role.open]\n":      "line 2: who is not known has role open",
		"[rbac]\ndefault_authenticated = [\"open\"]\n[role.open]\n":  "",
		"[role.a]\n[role.b]\ninherits = [\"a\"]\n[role.c]\n[role.d]": "line 2: nobody has role b\nline 4: nobody has role c\nline 5: nobody has role d",
	} {
		if got := strings.Join(load(t, text).Warnings(), "\n"); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s\n%s\nwant %s", text, got, want)
		}
	}
}

// Errors say where, and what to write.
func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	permission := func(actions, resource string) string {
		return "[role.a]\npermissions = [\n  { actions = " + actions + ", resource = " + resource + " },\n]\n"
	}
	tests := []struct{ name, text, want string }{
		{"no TOML", "[role.a\n", "rbac.toml: line 1, column"},
		{"unknown key", "[role.a]\npermisions = []\n", "rbac.toml: line 2, column 1: role.a.permisions is not a setting here"},
		{"of another type", "[role.a]\ninherits = 1\n", "rbac.toml: line 2, column 12: "},
		{"version", "[rbac]\nversion = \"2.0\"\n", `rbac.toml: line 2, column 1: this version of the file is not known: write version = "1.0"`},
		{"inherits nobody", "[role.a]\ninherits = [\"a2\", \"b\"]\n[role.a2]\n", `rbac.toml: line 2, column 19: there is no role "b": define [role.b], or use one of a, a2`},
		{"circle", "[role.a]\ninherits = [\"b\"]\n[role.b]\ninherits = [\"c\"]\n[role.c]\ninherits = [\"b\"]\n", "rbac.toml: line 6, column 13: role b inherits itself: b → c → b"},
		{"itself", "[role.a]\ninherits = [\"a\"]\n", "line 2, column 13: role a inherits itself: a → a"},
		{"name", "[role.\"\"]\n", "line 1, column 7: a role's name has 1 to"},
		{"action", permission(`["read", "fly"]`, `"*"`), `line 3, column 24: "fly" is no action: use read, write, create, delete, move, override, resolve, promote, milestone, admin or *`},
		{"action of policy", permission(`["config.read"]`, `"*"`), `is no action`},
		{"no action", permission(`[]`, `"*"`), `line 3, column 5: a permission needs actions`},
		{"no resource", "[role.a]\npermissions = [{ actions = [\"read\"] }]\n", "line 2, column 16: resource \"\": it names no type: write * for any"},
		{"empty field", permission(`["*"]`, `"service/x."`), `line 3, column 22: resource "service/x.": it has an empty field: leave out the . for any`},
		{"empty environment", permission(`["*"]`, `"service@"`), `it has an empty environment`},
		{"empty ID", permission(`["*"]`, `"service/"`), `it has an empty ID`},
		{"two environments", permission(`["*"]`, `"a@b@c"`), `it has two @`},
		{"open quote", permission(`["*"]`, `'a/"b'`), `it has a quote that is not closed`},
		{"entity's ID", permission(`["*"]`, `"route.api.weight"`), `its type "route.api" has a dot: write route/api`},
		{"stars", permission(`["*"]`, `"`+strings.Repeat("*a", 8)+`"`), `it has 8 stars, and 7 are allowed`},
		{"long", permission(`["*"]`, `"`+strings.Repeat("a", 513)+`"`), `it has 513 bytes`},
		{"control character", permission(`["*"]`, `"a\u001fb"`), `control character`},
		{"assigned role", "[role.a]\n[[assignment]]\nactor = \"x\"\nroles = [\n  \"a\", # yes\n  \"b\"]\n", `line 6, column 3: there is no role "b"`},
		{"no roles at all", "[[assignment]]\nactor = \"x\"\nroles = [\"b\"]\n", `use one of none: the file has no roles`},
		{"nobody", "[role.a]\n[[assignment]]\nroles = [\"a\"]\n", `line 2, column 3: an assignment needs somebody`},
		{"nothing", "[role.a]\n[[assignment]]\nactor = \"x\"\n", `line 2, column 3: an assignment needs roles`},
		{"the second", "[role.a]\n[[assignment]]\nactor = \"x\"\nroles = [\"a\"]\n[[assignment]]\nactor_class = \"robot\"\nroles = [\"a\"]\n", `line 6, column 1: "robot" is no class`},
		{"two of them", "[role.a]\n[[assignment]]\nactor = \"x\"\nactor_pattern = \"y\"\nroles = [\"a\"]\n", `line 4, column 1: an assignment has actor or actor_pattern`},
		{"star in an actor", "[role.a]\n[[assignment]]\nactor = \"x-*\"\nroles = [\"a\"]\n", `"x-*" is a pattern: write actor_pattern`},
		{"stars in a pattern", "[role.a]\n[[assignment]]\nactor_pattern = \"*********\"\nroles = [\"a\"]\n", `more than 8 stars`},
		{"default", "[rbac]\ndefault_authenticated = [\"viewer\"]\n", `line 2, column 26: there is no role "viewer"`},
		{"anonymous", "[rbac]\ndefault_anonymous = [\"viewer\"]\n", `there is no role "viewer"`},
	}
	for _, tt := range tests {
		_, err := access.Load([]byte(tt.text), "production")
		if err == nil || !strings.Contains(err.Error(), tt.want) || errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := access.Load([]byte(seed), ""); errkind.Of(err) != errkind.Invalid {
		t.Errorf("no base environment: %v", err)
	}
	roles := ""
	for i := range 201 {
		roles += fmt.Sprintf("[role.r%d]\n", i)
	}
	for name, text := range map[string]string{
		"bytes":       "#" + strings.Repeat("x", 256<<10),
		"roles":       roles,
		"assignments": "[role.a]\n" + strings.Repeat("[[assignment]]\nactor = \"a\"\nroles = [\"a\"]\n", 5001),
	} {
		if _, err := access.Load([]byte(text), "production"); errkind.Of(err) != errkind.TooLarge {
			t.Errorf("too many %s: %v", name, err)
		}
	}
}

func TestParseResource(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]access.Resource{
		"service":                             {Entity: "service"},
		"service/api":                         {Entity: "service.api"},
		"service/api.replicas@staging":        {Entity: "service.api", Field: "replicas", Env: "staging"},
		`service/"api.v1".replicas@"a@b"`:     {Entity: "service.api.v1", Field: "replicas", Env: "a@b"},
		"service/api.v1.replicas":             {Entity: "service.api.v1", Field: "replicas"},
		`service/"a/b".x`:                     {Entity: "service.a/b", Field: "x"},
		"service.replicas@staging":            {Entity: "service", Field: "replicas", Env: "staging"},
		`"service"/a"*"`:                      {Entity: "service.a*"},
		"service/api@staging.eu":              {Entity: "service.api", Env: "staging.eu"},
		"service/europe/api.replicas":         {Entity: "service.europe/api", Field: "replicas"},
		`service/"2024-01-23T12:00:00Z".when`: {Entity: "service.2024-01-23T12:00:00Z", Field: "when"},
	} {
		got, err := access.ParseResource(text)
		if err != nil || got != want {
			t.Errorf("ParseResource(%s) = %+v, %v", text, got, err)
		}
		if again, err := access.ParseResource(got.String()); err != nil || again != got {
			t.Errorf("ParseResource(%s) = %+v, %v", got, again, err)
		}
	}
	for _, text := range []string{"", "*", "service/*", "service/api@*", "@staging", "route.api.weight", "a@", `a"`} {
		if got, err := access.ParseResource(text); errkind.Of(err) != errkind.Invalid {
			t.Errorf("ParseResource(%s) = %+v, %v", text, got, err)
		}
	}
	if _, err := access.ParseAction("fly"); errkind.Of(err) != errkind.Invalid {
		t.Error(err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(seed), "ci-1", "service.api", "replicas", "staging")
	f.Add([]byte(full), "alice", "route.api.v1", "", "")
	f.Fuzz(func(t *testing.T, text []byte, who, entity, field, env string) {
		r, err := access.Load(text, "production")
		if err != nil {
			if errkind.Of(err) == errkind.Internal {
				t.Fatal(err)
			}
			return
		}
		a := config.Actor{ID: who, Class: config.Human}
		for _, action := range []policy.Action{policy.ConfigRead, policy.ConfigAdmin} {
			e := r.Explain(a, action, access.Resource{Entity: entity, Field: field, Env: env})
			permits := false
			for _, s := range e.Steps {
				permits = permits || s.Permits
			}
			if got := r.Allow(a, action, entity, field, env); got != e.Allowed || got != permits {
				t.Fatalf("Allow = %v, %s", got, e)
			}
		}
	})
}
