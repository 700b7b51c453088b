package server_test

import (
	"testing"

	"github.com/skep-dev/skep/internal/client"
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
