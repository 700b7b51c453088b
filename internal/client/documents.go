package client

import (
	"context"
	"net/http"
	"time"

	"github.com/skep-dev/skep/internal/id"
)

// Document is a document of configuration, as its tenant's list has it. What it says is read through a Configuration.
type Document struct {
	ID         string              `json:"id" example:"doc_01jd4x5vwr9ab3k6m0q7z2c8ye"`
	TenantID   id.Tenant           `json:"tenant_id"`
	Tenant     string              `json:"tenant" doc:"The tenant's path" example:"acme/platform"`
	Name       string              `json:"name" example:"shop"`
	Milestones *DocumentMilestones `json:"milestones,omitempty" doc:"Where its milestones go; missing: nowhere"`
	CreatedAt  time.Time           `json:"created_at"`
	UpdatedAt  time.Time           `json:"updated_at" doc:"When this record changed, not the content"`
}

// FullName is TENANT/NAME.
func (d Document) FullName() string { return d.Tenant + "/" + d.Name }

// DocumentMilestones says where a document's milestones go, and when one is made without being asked for.
type DocumentMilestones struct {
	Repo         string   `json:"repo" maxLength:"600" doc:"TENANT/NAME of a repository of this server" example:"acme/shop-config"`
	Branch       string   `json:"branch" required:"false" maxLength:"250" doc:"Default: main"`
	Format       string   `json:"format" required:"false" maxLength:"100" doc:"Of the files: yaml (the default), json, toml, kdl, xml or hcl"`
	Every        string   `json:"every,omitempty" maxLength:"100" example:"15m" doc:"As often, if something has changed: a duration of a minute or more"`
	After        int      `json:"after,omitempty" minimum:"0" doc:"After so many operations"`
	Quiet        string   `json:"quiet,omitempty" maxLength:"40" example:"30s" doc:"Wait until nothing has been written for so long"`
	Environments []string `json:"environments,omitempty" maxItems:"100" doc:"Only these. Default: all"`
	Message      string   `json:"message,omitempty" maxLength:"1024" doc:"Of milestones that nobody asked for"`
}

// CreateDocument asks for a new document.
type CreateDocument struct {
	Name       string              `json:"name" minLength:"1" maxLength:"100" example:"shop"`
	Schema     string              `json:"schema" minLength:"1" maxLength:"1048576" doc:"TOML: docs/reference/config-schema.md has its form"`
	Milestones *DocumentMilestones `json:"milestones,omitempty" doc:"Where its milestones go. Default: nowhere"`
}

// UpdateDocument changes what is not nil.
type UpdateDocument struct {
	Name       *string             `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Milestones *DocumentMilestones `json:"milestones,omitempty" doc:"In the place of what there was. An empty repo: there are no more milestones"`
}

// CreateDocument makes a document of configuration in a tenant (ID or path).
func (c *Client) CreateDocument(ctx context.Context, tenant string, d CreateDocument) (Document, error) {
	return send[Document](ctx, c, http.MethodPost, documentsPath(tenant), d)
}

// Documents lists a tenant's documents.
func (c *Client) Documents(ctx context.Context, tenant, cursor string, limit int) (Page[Document], error) {
	return get[Page[Document]](ctx, c, documentsPath(tenant), paging(cursor, limit))
}

// DocumentByName finds a document by its tenant and its ID or name. So do the methods below.
func (c *Client) DocumentByName(ctx context.Context, tenant, document string) (Document, error) {
	return get[Document](ctx, c, documentPath(tenant, document), nil)
}

// UpdateDocument changes what u has.
func (c *Client) UpdateDocument(ctx context.Context, tenant, document string, u UpdateDocument) (Document, error) {
	return send[Document](ctx, c, http.MethodPatch, documentPath(tenant, document), u)
}

// DeleteDocument deletes a document with its log. Milestones that were made stay in their repository.
func (c *Client) DeleteDocument(ctx context.Context, tenant, document string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: documentPath(tenant, document)}, nil)
}

func documentsPath(tenant string) string { return "/tenants/" + segment(tenant) + "/config" }

// documentPath is the path of a document in its tenant's list, and what the API of its content is below.
func documentPath(tenant, document string) string {
	return documentsPath(tenant) + "/" + segment(document)
}
