package policy_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// TestWithinOnlyTakesAway: a credential that is good within a tenant lets do there what it would without that limit, and
// elsewhere nothing: not even what everybody may.
func TestWithinOnlyTakesAway(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(11, 3))
	lineages := [][]id.Tenant{{acme}, {web, acme}, {other}, nil}
	inside, outside := 0, 0
	for range 20_000 {
		p := policy.Principal{
			ID: "usr_1", Admin: rnd.IntN(4) == 0, Scope: pick(rnd, policy.ScopeRead, policy.ScopeWrite, policy.ScopeAdmin),
			Roles: map[id.Tenant]policy.Role{pick(rnd, acme, web, other): pick(rnd, policy.Guest, policy.Reader, policy.Writer, policy.Owner)},
		}
		r := policy.Resource{Tenant: lineages[rnd.IntN(len(lineages))]}
		if len(r.Tenant) > 0 && rnd.IntN(2) == 0 {
			r.Repo, r.Public = "repo_1", rnd.IntN(2) == 0
		}
		a := policy.Actions()[rnd.IntN(len(policy.Actions()))]
		free := policy.Allow(p, a, r)
		p.Within = pick(rnd, acme, web, other)
		want := free && slices.Contains(r.Tenant, p.Within)
		if got := policy.Allow(p, a, r); got != want {
			t.Fatalf("%+v, %s on %+v: %v, want %v", p, a, r, got, want)
		}
		if e := policy.Explain(p, a, r); e.Allowed != want {
			t.Fatalf("Explain says %v, want %v: %+v", e.Allowed, want, e.Steps)
		}
		if want {
			inside++
		} else if free {
			outside++
		}
	}
	if inside < 500 || outside < 500 {
		t.Errorf("%d were allowed and %d taken away: the test shows little", inside, outside)
	}
}
