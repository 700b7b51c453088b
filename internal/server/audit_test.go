package server_test

import (
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// TestAuditOfWhoIsGone: the log is asked for what somebody did who was deleted since.
func TestAuditOfWhoIsGone(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	acme := result(s.api(s.admin).CreateTenant(ctx, "acme"))(t)
	token := s.member("mallory", acme.ID, policy.Owner)
	mallory := result(s.api(token).Whoami(ctx))(t)
	result(s.api(token).CreateTenant(ctx, "acme/evil"))(t)
	if err := s.api(s.admin).DeletePrincipal(ctx, "mallory"); err != nil {
		t.Fatal(err)
	}
	page := result(s.api(s.admin).Audit(ctx, client.AuditFilter{Tenant: "acme", Principal: string(mallory.Principal)}, "", 10))(t)
	if len(page.Items) != 1 || page.Items[0].Action != "tenant.create" {
		t.Errorf("what mallory did: %+v", page.Items)
	}
}

// TestAccountsOfOthersAreNobody: whoever administers one tenant does not find out what accounts another has.
func TestAccountsOfOthersAreNobody(t *testing.T) {
	s := startSite(t, server.Options{})
	ctx := t.Context()
	acme := result(s.api(s.admin).CreateTenant(ctx, "acme"))(t)
	result(s.api(s.admin).CreateTenant(ctx, "other"))(t)
	for _, name := range []string{"acme", "other"} {
		result(s.api(s.admin).CreateAccount(ctx, name, client.CreateAccount{Name: "ci", Class: policy.Pipeline}))(t)
	}
	mallory := s.api(s.member("mallory", acme.ID, policy.Owner))
	check := func(c *client.Client, account string) error {
		_, err := c.CheckPolicy(ctx, client.CheckPolicy{Principal: account, Action: policy.TenantRead, Resource: "tenant/acme"})
		return err
	}
	for _, account := range []string{"other/ci", "other/none"} {
		wantKind(t, "may "+account+" …", check(mallory, account), errkind.NotFound)
		page, err := mallory.Audit(ctx, client.AuditFilter{Tenant: "acme", Principal: account}, "", 10)
		if err != nil || len(page.Items) != 0 {
			t.Errorf("what %s did: %+v, %v", account, page.Items, err)
		}
	}
	if err := check(mallory, "acme/ci"); err != nil {
		t.Errorf("may acme/ci …: %v", err)
	}
	if err := check(s.api(s.admin), "other/ci"); err != nil {
		t.Errorf("an administrator asks: %v", err)
	}
}
