package policy_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// TestAllowFindsWhatExplainFinds: Allow looks permissions up by action, where Explain goes through all roles. Documents have up to the 200
// roles that they may have, and statements on every kind of resource.
func TestAllowFindsWhatExplainFinds(t *testing.T) {
	t.Parallel()
	yes, no := 0, 0
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		roles := 1 + rnd.IntN(200)
		doc, err := policy.Parse([]byte(manyRoles(rnd, roles)))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for range 50 {
			p := randomActor(rnd)
			p.Name = fmt.Sprint("u", rnd.IntN(roles))
			r := policy.Resource{
				Tenant: []id.Tenant{web, acme}, Path: pick(rnd, "acme/api", "Acme/Web/Site", "acme/web"), At: pick(rnd, "", "refs/heads/main", "production"),
				Rules: []policy.Rules{{Tenant: acme, Path: "acme", Doc: doc}},
				Kind:  pick(rnd, policy.KindTenant, policy.KindRepo, policy.KindRepo, policy.KindConfig, policy.KindJob, policy.KindSecret),
			}
			if r.Kind == policy.KindRepo {
				r.Repo = "repo_1"
			}
			for _, a := range allActions {
				got, why := policy.Allow(p, a, r), policy.Explain(p, a, r)
				if got != why.Allowed {
					t.Fatalf("seed %d: %+v, %s on %s %s@%s: Allow says %v, Explain %+v", seed, p, a, r.Kind, r.Path, r.At, got, why)
				}
				if got {
					yes++
				} else {
					no++
				}
			}
		}
	}
	if yes < 5000 || no < 5000 {
		t.Errorf("%d answers were yes and %d no: the test shows little", yes, no)
	}
}

// manyRoles is a document in which everybody has a few of many roles, each with a permission of its own or of one that it inherits.
func manyRoles(rnd *rand.Rand, n int) string {
	var b strings.Builder
	for i := range n {
		resource, verbs := "*", "*"
		switch rnd.IntN(4) {
		case 0:
			resource, verbs = pick(rnd, "repo/acme/*", "repo/acme/web/site"), pick(rnd, "read", "admin", "write", "*")
		case 1:
			resource, verbs = "repo/acme/*@refs/heads/*", pick(rnd, "push", "force", "delete", "bypass")
		case 2:
			resource, verbs = pick(rnd, "config/acme/*", "job/acme/*", "secret/*", "tenant/acme/web"), "*"
		case 3:
			verbs = pick(rnd, "read", "repo.write", "ref.push")
		}
		inherits := ""
		if i > 0 && rnd.IntN(3) == 0 {
			inherits = fmt.Sprintf("%q", roleName(rnd.IntN(i)))
		}
		fmt.Fprintf(&b, "[role.r%d]\ninherits = [%s]\npermissions = [{ actions = [%q], resource = %q }]\n", i, inherits, verbs, resource)
		fmt.Fprintf(&b, "[[assignment]]\n%s\nroles = [\"r%d\"]\n", pick(rnd, fmt.Sprintf("actor = \"U%d\"", rnd.IntN(n)), fmt.Sprintf("actor_pattern = \"u%d*\"", rnd.IntN(n)), `group = "dev"`), i)
	}
	return b.String()
}
