package policy_test

import (
	"testing"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// TestSomewhere: who may do something with one thing of a kind may know that there are such things.
func TestSomewhere(t *testing.T) {
	const acme id.Tenant = "ten_acme"
	doc, err := policy.Parse([]byte(`[policy]
version = 1

[role.scaler]
permissions = [{ actions = ["config.write", "config.read"], resource = "config/service/*.replicas@staging" }]

[role.pusher]
permissions = [{ actions = ["repo.write"], resource = "repo/acme/api" }]

[role.all]
permissions = [{ actions = ["config.read"], resource = "*" }]

[[assignment]]
actor = "scaler"
roles = ["scaler"]

[[assignment]]
actor = "pusher"
roles = ["pusher"]

[[assignment]]
actor = "all"
roles = ["all"]
`))
	if err != nil {
		t.Fatal(err)
	}
	at := policy.Resource{Kind: policy.KindConfig, Tenant: []id.Tenant{acme}, Rules: []policy.Rules{{Tenant: acme, Path: "acme", Doc: doc}}, Path: "/"}
	suspended := at
	suspended.Suspended = policy.Suspension{Tenants: 1, Path: "acme"}
	who := func(name string, role policy.Role, scope policy.Scope) policy.Principal {
		return policy.Principal{ID: "usr_1", Name: name, Class: policy.Human, Scope: scope, Roles: map[id.Tenant]policy.Role{acme: role}}
	}
	for _, tt := range []struct {
		what string
		p    policy.Principal
		a    policy.Action
		r    policy.Resource
		want bool
	}{
		{"by a field", who("scaler", policy.Guest, policy.ScopeWrite), policy.ConfigRead, at, true},
		{"by a field, to write", who("scaler", policy.Guest, policy.ScopeWrite), policy.ConfigWrite, at, true},
		{"with a token that only reads", who("scaler", policy.Guest, policy.ScopeRead), policy.ConfigWrite, at, false},
		{"another action", who("scaler", policy.Guest, policy.ScopeWrite), policy.ConfigDelete, at, false},
		{"another kind", who("pusher", policy.Guest, policy.ScopeWrite), policy.ConfigRead, at, false},
		{"any kind", who("all", policy.Guest, policy.ScopeWrite), policy.ConfigRead, at, true},
		{"by a role that is built in", who("rita", policy.Reader, policy.ScopeWrite), policy.ConfigRead, at, true},
		{"a guest", who("gus", policy.Guest, policy.ScopeWrite), policy.ConfigRead, at, false},
		{"suspended", who("scaler", policy.Guest, policy.ScopeWrite), policy.ConfigRead, suspended, false},
		{"nobody", policy.Principal{}, policy.ConfigRead, at, false},
		{"no action", who("rita", policy.Owner, policy.ScopeAdmin), "config.none", at, false},
	} {
		if got := policy.Somewhere(tt.p, tt.a, tt.r); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.what, got, tt.want)
		}
	}
}

// TestEverywhere: who is denied one field does not have all.
func TestEverywhere(t *testing.T) {
	const acme id.Tenant = "ten_acme"
	doc, err := policy.Parse([]byte(`[policy]
version = 1

[[deny]]
actions = ["config.read"]
resource = "config/service/*.password@production"
except = { actors = ["admin"] }
`))
	if err != nil {
		t.Fatal(err)
	}
	reader := func(name string, role policy.Role) policy.Principal {
		return policy.Principal{ID: "usr_1", Name: name, Class: policy.Human, Scope: policy.ScopeRead, Roles: map[id.Tenant]policy.Role{acme: role}}
	}
	for _, tt := range []struct {
		p    policy.Principal
		env  string
		want bool
	}{
		{reader("rita", policy.Reader), "production", false},
		{reader("rita", policy.Reader), "", false},
		{reader("rita", policy.Reader), "staging", true},
		{reader("admin", policy.Reader), "production", true},
		{reader("gus", policy.Guest), "staging", false},
	} {
		r := policy.Resource{Kind: policy.KindConfig, Tenant: []id.Tenant{acme}, Rules: []policy.Rules{{Tenant: acme, Path: "acme", Doc: doc}}, Path: "/", At: tt.env}
		if got := policy.Everywhere(tt.p, policy.ConfigRead, r); got != tt.want {
			t.Errorf("%s in %q: %t, want %t", tt.p.Name, tt.env, got, tt.want)
		}
	}
}
