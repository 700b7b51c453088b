package server_test

import (
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// TestSuspensionStopsAPushUnderWay: a push was let in, and takes its time. What is suspended, or deleted, meanwhile it does not move.
func TestSuspensionStopsAPushUnderWay(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	acme := result(s.control.CreateTenant(ctx, "acme"))(t)
	p, _ := s.person("wim")
	if err := s.control.SetMember(ctx, acme.ID, p, policy.Writer); err != nil {
		t.Fatal(err)
	}
	repo := result(s.control.Repo(ctx, s.repo("acme", "app", client.Private).ID))(t)
	may := result(s.server.MayMove(ctx, result(s.control.Actor(ctx, p))(t), repo))(t)
	check := func(when string, want errkind.Kind) {
		t.Helper()
		err := may("refs/heads/main")
		if want == 0 && err != nil || want != 0 && (err == nil || errkind.Of(err) != want) {
			t.Errorf("%s: %v, want %v", when, err, want)
		}
	}
	check("before", 0)
	result(s.control.SuspendTenant(ctx, acme.ID, true))(t)
	check("suspended", errkind.Forbidden)
	result(s.control.SuspendTenant(ctx, acme.ID, false))(t)
	check("resumed", 0)
	if err := s.control.DeleteTenant(ctx, acme.ID, true); err != nil {
		t.Fatal(err)
	}
	check("deleted", errkind.NotFound)
	result(s.control.RestoreTenant(ctx, acme.ID, "", "acme"))(t)
	check("restored", 0)
}

// TestDeletedListPages: a sponsor's list of deleted tenants has pages, and only its own.
func TestDeletedListPages(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	acme, other := result(s.control.CreateTenant(ctx, "acme"))(t), result(s.control.CreateTenant(ctx, "other"))(t)
	for _, path := range []string{"acme/a", "other/a", "acme/b", "other/b", "acme/c"} {
		tn := result(s.control.CreateTenant(ctx, path))(t)
		if err := s.control.DeleteTenant(ctx, tn.ID, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		owner string
		of    control.Tenant
		want  []string
	}{{"olga", acme, []string{"acme/a", "acme/b", "acme/c"}}, {"otto", other, []string{"other/a", "other/b"}}} {
		api := s.api(s.member(tt.owner, tt.of.ID, policy.Owner))
		var got []string
		for cursor := ""; ; {
			page := result(api.DeletedTenants(ctx, cursor, 1))(t)
			for _, d := range page.Items {
				got = append(got, d.Path)
			}
			if cursor = page.NextCursor; cursor == "" {
				break
			}
		}
		if len(got) != len(tt.want) || got[0] != tt.want[0] || got[len(got)-1] != tt.want[len(tt.want)-1] {
			t.Errorf("%s: %v, want %v", tt.owner, got, tt.want)
		}
	}
}
