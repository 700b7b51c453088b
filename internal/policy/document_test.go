package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// in is a document as the only one of tenant acme.
func in(t *testing.T, text string) []policy.Rules {
	t.Helper()
	doc, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return []policy.Rules{{Tenant: acme, Path: "acme", Doc: doc}}
}

const protectedMain = `
[policy]
version = 1

[role.agent]
description = "works on branches of its own"
permissions = [
  { actions = ["read"], resource = "repo/acme/api" },
  { actions = ["push", "delete"], resource = "repo/acme/api@refs/heads/agents/*" },
]

[role.releaser]
inherits = ["writer"]

[[assignment]]
actor_pattern = "agent-*"
roles = ["agent"]

[[assignment]]
group = "release"
roles = ["releaser"]

[[deny]]
actions = ["push", "force", "delete"]
resource = "repo/acme/*@refs/heads/main"
except = { roles = ["releaser", "owner"] }
reason = "main is protected: open a change instead"
`

func TestRulesForReferences(t *testing.T) {
	t.Parallel()
	rules := in(t, protectedMain)
	agent := policy.Principal{ID: "usr_a", Name: "agent-7", Class: policy.Pipeline, Roles: map[id.Tenant]policy.Role{acme: policy.Guest}, Scope: policy.ScopeWrite}
	writer := policy.Principal{ID: "usr_w", Name: "wim", Class: policy.Human, Scope: policy.ScopeWrite, Roles: map[id.Tenant]policy.Role{acme: policy.Writer}}
	releaser := policy.Principal{ID: "usr_r", Name: "rita", Class: policy.Human, Scope: policy.ScopeWrite, Groups: map[id.Tenant][]string{acme: {"Release"}}}
	owner := policy.Principal{ID: "usr_o", Name: "olga", Scope: policy.ScopeAdmin, Roles: map[id.Tenant]policy.Role{acme: policy.Owner}}
	admin := policy.Principal{ID: "usr_x", Name: "root", Scope: policy.ScopeAdmin, Admin: true}
	const main, own = "refs/heads/main", "refs/heads/agents/7"
	tests := []struct {
		who  string
		p    policy.Principal
		a    policy.Action
		at   string
		want bool
	}{
		{"agent", agent, policy.RepoRead, "", true},
		{"agent", agent, policy.RepoWrite, "", true}, // it may start to push: to what, is asked later
		{"agent", agent, policy.RefPush, own, true},
		{"agent", agent, policy.RefForce, own, false},
		{"agent", agent, policy.RefDelete, own, true},
		{"agent", agent, policy.RefPush, "refs/heads/topic", false},
		{"agent", agent, policy.RefPush, main, false},
		{"agent", agent, policy.RepoAdmin, "", false},
		{"agent with a read token", scoped(agent, policy.ScopeRead), policy.RefPush, own, false},
		{"another tenant's agent", policy.Principal{ID: "usr_m", Name: "agent-8", Class: policy.Pipeline, Roles: map[id.Tenant]policy.Role{other: policy.Owner}, Scope: policy.ScopeWrite}, policy.RefPush, own, false},
		{"another tenant's group", policy.Principal{ID: "usr_m", Name: "mallory", Groups: map[id.Tenant][]string{other: {"release"}}, Scope: policy.ScopeWrite}, policy.RefPush, main, false},
		{"agent in another repository", bound(agent, "repo_other"), policy.RefPush, own, false},

		{"writer", writer, policy.RepoWrite, "", true}, // the denial is of one branch
		{"writer", writer, policy.RefPush, "refs/heads/topic", true},
		{"writer", writer, policy.RefForce, "refs/heads/topic", true},
		{"writer", writer, policy.RefPush, main, false},
		{"writer", writer, policy.RefPush, "refs/heads/main2", true},
		{"writer", writer, policy.RefPush, "refs/heads/Main", true}, // references are told apart by case

		{"releaser", releaser, policy.RefPush, main, true},
		{"releaser", releaser, policy.RefForce, main, true},
		{"owner", owner, policy.RefDelete, main, true},
		{"admin", admin, policy.RefPush, main, false}, // a denial is for everybody who is not excepted
		{"admin", admin, policy.RefPush, own, true},
		{"anonymous", policy.Principal{}, policy.RepoRead, "", false},
	}
	for _, tt := range tests {
		res := policy.Resource{Tenant: []id.Tenant{acme}, Repo: "repo_api", Path: "Acme/Api", At: tt.at, Rules: rules}
		if got := policy.Allow(tt.p, tt.a, res); got != tt.want {
			t.Errorf("%s, %s at %q: %v, want %v: %+v", tt.who, tt.a, tt.at, got, tt.want, policy.Explain(tt.p, tt.a, res).Steps)
		}
	}
}

// A document is that of one tenant: what it says of others' resources is never asked.
func TestDocumentsOfAllTenantsAboveCount(t *testing.T) {
	t.Parallel()
	parent := in(t, "[[assignment]]\nactor = \"eva\"\nroles = [\"reader\"]\n[[deny]]\nactions = [\"force\"]\nresource = \"repo/*\"\n")
	child, err := policy.Parse([]byte("[[assignment]]\nactor = \"Eva\"\nroles = [\"writer\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	both := append(parent, policy.Rules{Tenant: web, Path: "acme/web", Doc: child})
	eva := policy.Principal{ID: "usr_e", Name: "eva", Scope: policy.ScopeAdmin}
	top := policy.Resource{Tenant: []id.Tenant{acme}, Repo: "repo_top", Path: "acme/top", At: "refs/heads/x", Rules: parent}
	site := policy.Resource{Tenant: []id.Tenant{web, acme}, Repo: "repo_site", Path: "acme/web/site", At: "refs/heads/x", Rules: both}
	for _, tt := range []struct {
		a         policy.Action
		top, site bool
	}{{policy.RepoRead, true, true}, {policy.RefPush, false, true}, {policy.RefForce, false, false}} {
		if got := policy.Allow(eva, tt.a, top); got != tt.top {
			t.Errorf("%s in the parent: %v", tt.a, got)
		}
		if got := policy.Allow(eva, tt.a, site); got != tt.site {
			t.Errorf("%s in the child: %v", tt.a, got)
		}
	}
}

// The rbac.toml of a configuration engine is a document too; its resources need no kind.
func TestConfigurationRoles(t *testing.T) {
	t.Parallel()
	rules := in(t, `
[rbac]
version = 1
default_authenticated = ["viewer"]

[role.viewer]
permissions = [ { actions = ["read"], resource = "*" } ]

[role.developer]
permissions = [
  { actions = ["read", "write"], resource = "*@development" },
]

[role.operator]
inherits = ["developer"]
permissions = [
  { actions = ["write", "override"], resource = "*@staging" },
  { actions = ["promote"], resource = "*@production" },
  { actions = ["write"], resource = "service/api-*.replicas@production" },
  { actions = ["delete"], resource = 'service/"api.v1".replicas' },
]

[[assignment]]
actor_pattern = "ci-*"
roles = ["developer"]

[[assignment]]
actor = "alice"
roles = ["operator"]
`)
	ask := func(who string, a policy.Action, path, field, env string) bool {
		return policy.Allow(policy.Principal{ID: "usr_1", Name: who, Roles: map[id.Tenant]policy.Role{acme: policy.Guest}, Scope: policy.ScopeAdmin}, a,
			policy.Resource{Tenant: []id.Tenant{acme}, Kind: policy.KindConfig, Path: path, Field: field, At: env, Rules: rules})
	}
	for _, tt := range []struct {
		who              string
		a                policy.Action
		path, field, env string
		want             bool
	}{
		{"ci-7", policy.ConfigWrite, "service/api", "replicas", "development", true},
		{"ci-7", policy.ConfigWrite, "service/api", "replicas", "staging", false},
		{"ci-7", policy.ConfigRead, "service/api", "replicas", "staging", true},
		{"alice", policy.ConfigWrite, "service/api", "replicas", "development", true},
		{"alice", policy.ConfigOverride, "service/api", "replicas", "staging", true},
		{"alice", policy.ConfigPromote, "service/api", "", "production", true},
		{"alice", policy.ConfigPromote, "service/api", "", "staging", false},
		{"alice", policy.ConfigWrite, "service/api-eu", "replicas", "production", true},
		{"alice", policy.ConfigWrite, "service/api-eu", "image", "production", false},
		{"alice", policy.ConfigWrite, "service/api", "replicas", "production", false},
		{"alice", policy.ConfigDelete, "service/api.v1", "replicas", "production", true},
		{"alice", policy.ConfigDelete, "service/api", "v1", "production", false},
	} {
		if got := ask(tt.who, tt.a, tt.path, tt.field, tt.env); got != tt.want {
			t.Errorf("%s: %s on %s.%s@%s = %v, want %v", tt.who, tt.a, tt.path, tt.field, tt.env, got, tt.want)
		}
	}
}

// What is wrong is said with its line and with what to write.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"no TOML", "[policy\n", "line 1, column"},
		{"unknown key", "[policy]\nversion = 1\nvresion = 2\n", "line 3, column 1: policy.vresion is not a setting here"},
		{"later version", "[policy]\nversion = 2\n", "version 1"},
		{"two headers", "[policy]\n[rbac]\n", "keep one"},
		{"no such role", "[[assignment]]\nactor = \"a\"\nroles = [\"chief\"]\n", `line 1: there is no role "chief": define [role.chief], or use guest, reader, writer or owner`},
		{"circle", "[role.a]\ninherits = [\"b\"]\n[role.b]\ninherits = [\"a\"]\n", "role a inherits itself: a → b → a"},
		{"itself", "[role.a]\ninherits = [\"a\"]\n", "a → a"},
		{"no such action", "\n[role.a]\npermissions = [{ actions = [\"fly\"], resource = \"repo/*\" }]\n", `line 2: permission 1: "fly" is no action on resources of kind repo: use repo.read,`},
		{"action of another kind", "[role.a]\npermissions = [{ actions = [\"promote\"], resource = \"repo/*\" }]\n", `"promote" is no action`},
		{"no kind", "[role.a]\npermissions = [{ actions = [\"read\"], resource = \"acme/*\" }]\n", "starts with no kind of resource"},
		{"kind alone", "[role.a]\npermissions = [{ actions = [\"read\"], resource = \"repo\" }]\n", "write repo/* for all"},
		{"reading a reference", "[[deny]]\nactions = [\"read\"]\nresource = \"repo/acme/x@refs/heads/secret\"\n", "line 1: \"read\" is not asked for a single reference"},
		{"empty qualifier", "[role.a]\npermissions = [{ actions = [\"read\"], resource = \"repo/x@\" }]\n", "empty qualifier"},
		{"stars", "[role.a]\npermissions = [{ actions = [\"read\"], resource = \"repo/" + strings.Repeat("*a", 9) + "\" }]\n", "more than 8 stars"},
		{"open quote", "[role.a]\npermissions = [{ actions = [\"read\"], resource = 'config/x/\"y' }]\n", "quote that is not closed"},
		{"role of odd name", "[role.\"a b\"]\n", "letters, digits"},
		{"built-in role", "[role.owner]\n", "built in"},
		{"nobody", "[[assignment]]\nroles = [\"reader\"]\n", "one of actor, actor_pattern"},
		{"two of them", "[[assignment]]\nactor = \"a\"\ngroup = \"b\"\nroles = [\"reader\"]\n", "one of actor, actor_pattern"},
		{"second assignment", "[[assignment]]\nactor = \"a\"\nroles = [\"reader\"]\n\n[[assignment]] # x\nactor_class = \"robot\"\nroles = [\"reader\"]\n", "line 5: \"robot\" is no class"},
		{"lock-out", "[[deny]]\nactions = [\"admin\"]\nresource = \"tenant/*\"\n", "cannot be denied"},
		{"unknown exception", "[[deny]]\nactions = [\"force\"]\nresource = \"repo/*\"\nexcept = { roles = [\"boss\"] }\n", "line 1: there is no role"},
	}
	for _, tt := range tests {
		_, err := policy.Parse([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) || errkind.Of(err) == errkind.Internal {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for name, text := range map[string]string{
		"bytes":       "# " + strings.Repeat("x", policy.MaxDocumentBytes),
		"assignments": strings.Repeat("[[assignment]]\nactor = \"a\"\nroles = [\"reader\"]\n", 5001),
		"denials":     strings.Repeat("[[deny]]\nactions = [\"force\"]\nresource = \"repo/*\"\n", 201),
	} {
		if _, err := policy.Parse([]byte(text)); !errors.Is(err, errkind.TooLarge) {
			t.Errorf("too many %s: %v, want errkind.TooLarge", name, err)
		}
	}
	// Roles that inherit twice at each step have everything once all the same.
	bomb := "[role.r0]\npermissions = [{ actions = [\"read\"], resource = \"repo/*\" }]\n"
	for i := 1; i < 60; i++ {
		bomb += fmt.Sprintf("[role.r%d]\ninherits = [\"r%d\", \"r%d\"]\n", i, i-1, i-1)
	}
	rules := in(t, bomb+"[[assignment]]\nactor = \"a\"\nroles = [\"r59\"]\n")
	p := policy.Principal{ID: "usr_a", Name: "a", Scope: policy.ScopeAdmin}
	if !policy.Allow(p, policy.RepoRead, policy.Resource{Tenant: []id.Tenant{acme}, Repo: "repo_1", Path: "acme/x", Rules: rules}) {
		t.Error("a role that inherits another over many ways does not have its permissions")
	}
}

// An explanation names the rule that decided, where it is written, and those that did not.
func TestExplainNamesTheRule(t *testing.T) {
	t.Parallel()
	res := policy.Resource{Tenant: []id.Tenant{acme}, Repo: "repo_api", Path: "acme/api", At: "refs/heads/main", Rules: in(t, protectedMain)}
	d := policy.Explain(policy.Principal{ID: "usr_a", Name: "agent-7", Class: policy.Pipeline, Roles: map[id.Tenant]policy.Role{acme: policy.Guest}, Scope: policy.ScopeWrite}, policy.RefPush, res)
	var text strings.Builder
	for _, s := range d.Steps {
		fmt.Fprintf(&text, "%s | %s | %s\n", s.Effect, s.Rule, s.Why)
	}
	if want := "forbids | policy of acme, line 23: denial | main is protected: open a change instead\n"; d.Allowed || !strings.Contains(text.String(), want) {
		t.Errorf("Explain = %v\n%swant the line %s", d.Allowed, text.String(), want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(protectedMain, "acme/api", "refs/heads/main")
	f.Add("[rbac]\ndefault_anonymous = [\"reader\"]\n", "x", "")
	f.Add("[role.a]\npermissions = [{ actions = [\"*\"], resource = 'config/\"a\"*.b@*' }]\n[[assignment]]\nactor_pattern = \"*\"\nroles = [\"a\"]\n", "a/b", "c")
	f.Fuzz(func(t *testing.T, text, path, at string) {
		doc, err := policy.Parse([]byte(text))
		if err != nil {
			if k := errkind.Of(err); k != errkind.Invalid && k != errkind.TooLarge && k != errkind.Unsupported {
				t.Fatalf("%v is of kind %v", err, k)
			}
			return
		}
		for _, k := range []policy.Kind{policy.KindRepo, policy.KindConfig} {
			res := policy.Resource{Tenant: []id.Tenant{acme}, Kind: k, Path: path, At: at, Rules: []policy.Rules{{Tenant: acme, Path: "acme", Doc: doc}}}
			for _, a := range policy.Actions() {
				p := policy.Principal{ID: "usr_1", Name: "agent-1", Roles: map[id.Tenant]policy.Role{acme: policy.Guest}, Scope: policy.ScopeAdmin}
				if policy.Allow(p, a, res) != policy.Explain(p, a, res).Allowed {
					t.Fatalf("Allow and Explain differ on %s", a)
				}
				if a != policy.RepoRead && policy.Allow(policy.Principal{}, a, res) && !strings.HasSuffix(string(a), ".read") && a != policy.RepoList {
					t.Fatalf("nobody may %s", a)
				}
			}
		}
	})
}

func TestInside(t *testing.T) {
	t.Parallel()
	for resource, want := range map[string]bool{
		"repo/acme/api": true, "repo/ACME/*": true, "repo/*": true, "repo/ac*": true, "repo/acme/web/x@refs/heads/*": true, "repo/*/x": true,
		"repo/acme": false, "repo/acmeco/x": false, "repo/other/*": false, "repo/acmeco*": false, "tenant/acme": true, "tenant/acme/web": true, "tenant/other": false, "*": true,
		"server": false, "env/production": true, "job/acme/api/x": true, "job/other/api/x": false,
	} {
		doc, err := policy.Parse([]byte(fmt.Sprintf("[role.a]\npermissions = [{ actions = [\"*\"], resource = %q }]\n", resource)))
		if err != nil {
			t.Fatal(err)
		}
		if err := doc.Inside("Acme"); (err == nil) != want || err != nil && !strings.Contains(err.Error(), "line 1: resource "+resource) {
			t.Errorf("Inside(Acme) of %s = %v, want %v", resource, err, want)
		}
	}
}
