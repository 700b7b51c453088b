package client_test

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/client"
)

// TestDocumentsAreAddressed: a document is below its tenant, whichever way the two are written, and an update says only what changes.
func TestDocumentsAreAddressed(t *testing.T) {
	var seen []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen = append(seen, r.Method+" "+r.URL.RequestURI()+" "+string(body))
		_ = json.NewEncoder(w).Encode(client.Document{Tenant: "acme/platform", Name: "shop"})
	})
	ctx := t.Context()
	d, err := c.CreateDocument(ctx, "acme/platform", client.CreateDocument{Name: "shop", Schema: "x", Milestones: &client.DocumentMilestones{Repo: "acme/live"}})
	if err != nil || d.FullName() != "acme/platform/shop" {
		t.Errorf("CreateDocument = %s, %v", d.FullName(), err)
	}
	name := "store"
	_, _ = c.Documents(ctx, "ten_1", "x", 7)
	_, _ = c.DocumentByName(ctx, "acme/platform", "shop")
	_, _ = c.UpdateDocument(ctx, "acme", "doc_1", client.UpdateDocument{Name: &name})
	_, _ = c.UpdateDocument(ctx, "acme", "doc_1", client.UpdateDocument{Milestones: &client.DocumentMilestones{}})
	_ = c.DeleteDocument(ctx, "acme", "shop")
	want := []string{
		`POST /api/v2/tenants/acme%2Fplatform/config {"name":"shop","schema":"x","milestones":{"repo":"acme/live","branch":"","format":""}}`,
		`GET /api/v2/tenants/ten_1/config?cursor=x&limit=7 `,
		`GET /api/v2/tenants/acme%2Fplatform/config/shop `,
		`PATCH /api/v2/tenants/acme/config/doc_1 {"name":"store"}`,
		`PATCH /api/v2/tenants/acme/config/doc_1 {"milestones":{"repo":"","branch":"","format":""}}`,
		`DELETE /api/v2/tenants/acme/config/shop `,
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}
