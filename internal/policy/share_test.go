package policy_test

import (
	"testing"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

const (
	sub     id.Tenant = "ten_sub" // acme/web/sub
	sibling id.Tenant = "ten_sibling"
)

// lib is a private repository of acme, shared with acme/web.
func lib(shares ...policy.Share) policy.Resource {
	return policy.Resource{Tenant: []id.Tenant{acme}, Repo: "repo_lib", Path: "acme/lib", Shared: shares}
}

func within(p policy.Principal, t id.Tenant) policy.Principal {
	p.Within = t
	return p
}

func shareWith(path string, lineage ...id.Tenant) policy.Share {
	return policy.Share{Tenant: lineage, Path: path + "/lib"}
}

func document(t *testing.T, text string) *policy.Document {
	t.Helper()
	doc, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestShare: whoever may read in the tenant that a repository is shared with may read it, and does nothing else to it.
func TestShare(t *testing.T) {
	withWeb := shareWith("acme/web", web, acme)
	withSub := shareWith("acme/web/sub", sub, web, acme)
	tokenFor := func(p policy.Principal, tenant id.Tenant) policy.Principal {
		p.Repo, p.RepoTenant = "repo_app", tenant
		return p
	}
	guest := member(web, policy.Guest)
	guest.Name = "greta"
	ruled := func(text string) policy.Share {
		s := withWeb
		s.Rules = []policy.Rules{{Tenant: web, Path: "acme/web", Doc: document(t, text)}}
		return s
	}
	suspended := withWeb
	suspended.Suspended = policy.Suspension{Tenants: 1, Path: "acme/web"}
	ofParent := func(text string) policy.Resource {
		r := lib(withWeb)
		r.Rules = []policy.Rules{{Tenant: acme, Path: "acme", Doc: document(t, text)}}
		return r
	}
	tests := []struct {
		name string
		p    policy.Principal
		r    policy.Resource
		want bool
	}{
		{"reader of the tenant", member(web, policy.Reader), lib(withWeb), true},
		{"owner of the tenant", member(web, policy.Owner), lib(withWeb), true},
		{"reader, not shared", member(web, policy.Reader), lib(), false},
		{"guest", guest, lib(withWeb), false},
		{"guest whom a document lets read all", guest, lib(ruled("[[assignment]]\nactor = \"greta\"\nroles = [\"reader\"]\n")), true},
		{"guest whom a document lets read just that", guest, lib(ruled("[role.r]\npermissions = [{ actions = [\"read\"], resource = \"repo/acme/web/lib\" }]\n[[assignment]]\nactor = \"greta\"\nroles = [\"r\"]\n")), true},
		{"guest whom a document lets read something else", guest, lib(ruled("[role.r]\npermissions = [{ actions = [\"read\"], resource = \"repo/acme/web/app\" }]\n[[assignment]]\nactor = \"greta\"\nroles = [\"r\"]\n")), false},
		{"reader whom the tenant denies it", member(web, policy.Reader), lib(ruled("[[deny]]\nactions = [\"read\"]\nresource = \"repo/acme/web/lib\"\n")), false},
		{"reader whom the sponsor denies it", member(web, policy.Reader), ofParent("[[deny]]\nactions = [\"read\"]\nresource = \"repo/acme/lib\"\nexcept = { roles = [\"reader\"] }\n"), false},
		{"reader of a suspended tenant", member(web, policy.Reader), lib(suspended), false},
		{"reader below", member(sub, policy.Reader), lib(withWeb), false},
		{"reader below, shared there", member(sub, policy.Reader), lib(withWeb, withSub), true},
		{"reader between", member(web, policy.Reader), lib(withSub), true},
		{"owner of a sibling", member(sibling, policy.Owner), lib(withWeb), false},
		{"stranger", policy.Principal{ID: "usr_s", Scope: policy.ScopeAdmin}, lib(withWeb), false},
		{"nobody", policy.Principal{}, lib(withWeb), false},
		{"nobody, whom the tenant lets read all", policy.Principal{}, lib(ruled("[policy]\ndefault_anonymous = [\"reader\"]\n")), false},
		{"no scope", scoped(member(web, policy.Reader), ""), lib(withWeb), false},

		{"token for a repository of the tenant", tokenFor(member(web, policy.Reader), web), lib(withWeb), true},
		{"token for a repository elsewhere", tokenFor(member(web, policy.Reader), other), lib(withWeb), false},
		{"token for a repository of nowhere", bound(member(web, policy.Reader), "repo_app"), lib(withWeb), false},
		{"token for a repository below", tokenFor(member(web, policy.Reader), sub), lib(withWeb), false},
		{"token for a repository below, shared there", tokenFor(member(web, policy.Reader), sub), lib(withWeb, withSub), true},
		{"a sponsor's token for a repository of the tenant", tokenFor(member(acme, policy.Owner), web), lib(withWeb), true},
		{"a sponsor's token for a repository of the tenant, not shared", tokenFor(member(acme, policy.Owner), web), lib(), false},
		{"an administrator's token for it, not shared", tokenFor(policy.Principal{ID: "usr_a", Admin: true, Scope: policy.ScopeAdmin}, web), lib(), false},
		{"token within the tenant", within(member(web, policy.Reader), web), lib(withWeb), true},
		{"token within the tenant, not shared", within(member(web, policy.Reader), web), lib(), false},
		{"token within the tenant, of a sponsor, not shared", within(member(acme, policy.Owner), web), lib(), false},
		{"token within a tenant elsewhere", within(member(web, policy.Reader), other), lib(withWeb), false},
		{"token within a tenant below", within(member(web, policy.Reader), sub), lib(withWeb), false},
		{"token within the tenant, for a repository elsewhere", tokenFor(within(member(web, policy.Reader), web), other), lib(withWeb), false},
		{"a stranger's token", tokenFor(policy.Principal{ID: "usr_s", Scope: policy.ScopeAdmin}, web), lib(withWeb), false},

		// What claims to be shared with a tenant outside of the family is not.
		{"shared with another family", member(other, policy.Owner), lib(policy.Share{Tenant: []id.Tenant{other}, Path: "other/lib"}), false},
		{"shared with another family's child", member(other, policy.Owner), lib(policy.Share{Tenant: []id.Tenant{sibling, other}, Path: "other/x/lib"}), false},
		{"shared with nothing", member(web, policy.Owner), lib(policy.Share{}), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, a := range policy.Actions() {
				want := tt.want && a == policy.RepoRead
				if got := policy.Allow(tt.p, a, tt.r); got != want {
					t.Errorf("Allow(%s) = %v, want %v: %+v", a, got, want, policy.Explain(tt.p, a, tt.r).Steps)
				}
				if e := policy.Explain(tt.p, a, tt.r); e.Allowed != want {
					t.Errorf("Explain(%s) = %v", a, e.Allowed)
				}
			}
			if got := policy.Visible(tt.p, tt.r); got != tt.want {
				t.Errorf("Visible = %v, want %v", got, tt.want)
			}
		})
	}
}
