package control_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

func public(name string) auth.SSHPublic {
	return auth.SSHPublic{Wire: []byte("wire of " + name), Fingerprint: "SHA256:" + name}
}

func deployKey(name string, r id.Repo, writes bool) control.DeployKey {
	k := public(name)
	return control.DeployKey{Repo: r, Title: name, Kind: "ssh-ed25519", Public: k.Wire, Fingerprint: k.Fingerprint, Writes: writes, By: "usr_x"}
}

func userKey(name string, p id.Principal) control.SSHKey {
	k := public(name)
	return control.SSHKey{Principal: p, Title: name, Kind: "ssh-ed25519", Public: k.Wire, Fingerprint: k.Fingerprint}
}

// done is the first of a call's results, of one that must not fail.
func done[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		return must(t, v, err)
	}
}

// TestKeyHolders: whose a key is, and all that makes it nobody's.
func TestKeyHolders(t *testing.T) { onEach(t, testKeyHolders) }

func testKeyHolders(t *testing.T, db backend) {
	c := open(t, db)
	ctx := t.Context()
	acme := tenant(t, c, "acme")
	site, other := repo(t, c, acme.ID, "site"), repo(t, c, acme.ID, "other")
	bob := principal(t, c, "bob")
	must0(t, c.SetMember(ctx, acme.ID, bob.ID, policy.Owner))
	bobs := done(c.AddSSHKey(ctx, userKey("laptop", bob.ID)))(t)
	reads := done(c.AddDeployKey(ctx, deployKey("reads", site.ID, false)))(t)
	writes := done(c.AddDeployKey(ctx, deployKey("writes", site.ID, true)))(t)

	holder := func(name string) policy.Principal {
		t.Helper()
		return done(c.KeyHolder(ctx, public(name)))(t)
	}
	nobodys := func(when, name string) {
		t.Helper()
		_, err := c.KeyHolder(ctx, public(name))
		wantKind(t, when, err, errkind.Unauthorized)
	}
	if p := holder("laptop"); p.ID != bob.ID || p.Name != "bob" || p.Scope != policy.ScopeAdmin || p.Repo != "" || string(p.Token) != string(bobs.ID) || p.Roles[acme.ID] != policy.Owner {
		t.Errorf("bob's key is %+v", p)
	}
	standing := done(c.Standing(ctx, acme.ID))(t)
	may := func(p policy.Principal, a policy.Action, r control.Repo) bool {
		return policy.Allow(p, a, policy.Resource{Tenant: standing.Lineage, Rules: standing.Rules, Repo: r.ID, Path: r.Path, Public: r.Public})
	}
	other, err := c.SetPublic(ctx, other.ID, true)
	must0(t, err)
	for _, k := range []control.DeployKey{reads, writes} {
		p := holder(k.Title)
		if p.Anonymous() || p.Class != policy.Pipeline || string(p.ID) != string(k.ID) {
			t.Errorf("%s is %+v", k.Title, p)
		}
		for a, want := range map[policy.Action]bool{
			policy.RepoRead: true, policy.RepoWrite: k.Writes, policy.RefPush: k.Writes, policy.RefForce: k.Writes, policy.RepoAdmin: false,
		} {
			if got := may(p, a, site); got != want {
				t.Errorf("%s may %s: %t", k.Title, a, got)
			}
			if may(p, a, other) {
				t.Errorf("%s may %s another repository, which is public", k.Title, a)
			}
		}
		if policy.Allow(p, policy.RepoCreate, policy.Resource{Tenant: standing.Lineage, Path: acme.Path}) {
			t.Errorf("%s makes repositories", k.Title)
		}
	}

	// A key has one holder.
	for what, err := range map[string]error{
		"a user's key as a deploy key":            second(c.AddDeployKey(ctx, deployKey("laptop", site.ID, true))),
		"a deploy key as a user's":                second(c.AddSSHKey(ctx, userKey("reads", bob.ID))),
		"a deploy key of another repository":      second(c.AddDeployKey(ctx, deployKey("reads", other.ID, true))),
		"a deploy key a second time":              second(c.AddDeployKey(ctx, deployKey("reads", site.ID, true))),
		"a user's key a second time":              second(c.AddSSHKey(ctx, userKey("laptop", bob.ID))),
		"a deploy key, by another tenant's owner": second(c.AddDeployKey(ctx, deployKey("reads", repo(t, c, tenant(t, c, "evil").ID, "r").ID, true))),
	} {
		wantKind(t, what, err, errkind.Exists)
	}
	ended := deployKey("ended", site.ID, false)
	ended.Expires = time.Now().Add(-time.Minute)
	wantKind(t, "a key that has ended", second(c.AddDeployKey(ctx, ended)), errkind.Invalid)
	wantKind(t, "a repository that is not there", second(c.AddDeployKey(ctx, deployKey("x", "repo_x", false))), errkind.NotFound)

	c.Used(string(reads.ID), netip.MustParseAddr("192.0.2.9"))
	c.Used(string(bobs.ID), netip.MustParseAddr("192.0.2.8"))
	if list := done(c.DeployKeys(ctx, site.ID))(t); len(list) != 2 || list[0].UsedFrom != "192.0.2.9" || list[1].Used != (time.Time{}) {
		t.Errorf("listed %+v", list)
	}
	if list := done(c.SSHKeys(ctx, bob.ID))(t); len(list) != 1 || list[0].UsedFrom != "192.0.2.8" {
		t.Errorf("listed %+v", list)
	}

	wantKind(t, "remove another repository's key", c.RemoveDeployKey(ctx, other.ID, reads.ID), errkind.NotFound)
	must0(t, c.RemoveDeployKey(ctx, site.ID, reads.ID))
	nobodys("after it was removed", "reads")
	done(c.AddDeployKey(ctx, deployKey("reads", other.ID, false)))(t)
	if p := holder("reads"); p.Repo != other.ID {
		t.Errorf("a key that was moved is good for %s", p.Repo)
	}
	must0(t, c.RemoveSSHKey(ctx, bob.ID, bobs.ID))
	nobodys("after it was removed", "laptop")
	must0(t, c.DeleteRepo(ctx, site.ID))
	nobodys("after its repository was deleted", "writes")
	nobodys("before it was added", "never")
	done(c.AddSSHKey(ctx, userKey("laptop", bob.ID)))(t)
	holder("laptop")
	must0(t, c.DeletePrincipal(ctx, bob.ID))
	nobodys("after its owner was deleted", "laptop")
	must0(t, c.DeleteTenant(ctx, acme.ID, true))
	nobodys("after its tenant was deleted", "reads")
}

func TestDeployKeysAreBounded(t *testing.T) {
	c := open(t, onSQLite)
	r := repo(t, c, tenant(t, c, "acme").ID, "site")
	var last error
	for i := range 51 {
		_, last = c.AddDeployKey(t.Context(), deployKey(fmt.Sprint("k", i), r.ID, false))
	}
	wantKind(t, "one too many", last, errkind.TooLarge)
}
