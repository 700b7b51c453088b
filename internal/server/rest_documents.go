package server

import (
	"cmp"
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/config/hosted"
	"github.com/skep-dev/skep/internal/config/rest"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/problem"
)

// DocumentParam is a document in a path.
type DocumentParam struct {
	TenantParam
	Document string `path:"document" maxLength:"110" doc:"ID or name"`
}

// maxSchemaJSON bounds a request with a schema, which may have 1 MiB.
const maxSchemaJSON = 4 << 20

func (a *restAPI) registerDocuments() {
	const tag, list, one = "documents", "/tenants/{tenant}/config", "/tenants/{tenant}/config/{document}"
	o := op(http.MethodPost, list, "create-document", tag, "Create a document of configuration")
	o.MaxBodyBytes = maxSchemaJSON
	handle(a, o, a.createDocument)
	handle(a, op(http.MethodGet, list, "list-documents", tag, "List a tenant's documents of configuration"), a.listDocuments)
	handle(a, op(http.MethodGet, one, "get-document", tag, "Get a document of configuration"), a.getDocument)
	handle(a, op(http.MethodPatch, one, "update-document", tag, "Rename a document, or say where its milestones go"), a.updateDocument)
	handle(a, op(http.MethodDelete, one, "delete-document", tag, "Delete a document with its log"), a.deleteDocument)

	text := &huma.Schema{Type: huma.TypeString}
	rest.Register(a.API, rest.Mount{
		Prefix: client.Base + one,
		Params: []*huma.Param{
			{Name: "tenant", In: "path", Required: true, Schema: text, Description: "ID or path"},
			{Name: "document", In: "path", Required: true, Schema: text, Description: "ID or name"},
		},
		Find: func(hc huma.Context) (*rest.Caller, error) {
			ctx := hc.Context()
			d, res, err := a.document(ctx, callOf(ctx).principal, "", hc.Param("tenant"), hc.Param("document"))
			if err != nil {
				return nil, err
			}
			r, _ := humago.Unwrap(hc)
			return a.openDocument(ctx, r, d, res)
		},
		Declare: func(o *huma.Operation) { o.BodyReadTimeout = -1 }, // call.go moves the deadlines
		Failed: func(ctx context.Context, err error) {
			c := callOf(ctx)
			a.logFailure(ctx, c, err)
			a.refusalHeaders(c, err)
		},
	})
}

// documentOut is a document as a principal sees it: the name of a repository that they may not read is not told.
func (a *restAPI) documentOut(ctx context.Context, p policy.Principal, d control.Document) client.Document {
	out := client.Document{ID: string(d.ID), TenantID: d.Tenant, Tenant: d.TenantPath, Name: d.Name, CreatedAt: d.Created, UpdatedAt: d.Updated}
	m := &d.Milestones
	if m.Repo == "" {
		return out
	}
	out.Milestones = &client.DocumentMilestones{
		Repo: string(m.Repo), Branch: m.Branch, Format: m.Format, Every: m.Every, After: m.After, Quiet: m.Quiet, Environments: m.Environments, Message: m.Message,
	}
	if r, err := a.control.Repo(ctx, m.Repo); err == nil {
		if res, err := a.repoResource(ctx, p, r); err == nil && policy.Allow(p, policy.RepoRead, res) {
			out.Milestones.Repo = r.Path
		}
	}
	return out
}

// milestonesIn judges where milestones are to go: who says so must be allowed to write there.
func (a *restAPI) milestonesIn(ctx context.Context, p policy.Principal, t id.Tenant, in *client.DocumentMilestones) (m control.Milestones, err error) {
	if in == nil || in.Repo == "" {
		return m, nil
	}
	branch, err := parseBranch(in.Branch)
	if err != nil {
		return m, err
	}
	if err := a.mayPublish(ctx, p, t); err != nil {
		return m, err
	}
	r, err := a.repo(ctx, p, policy.RepoWrite, func() (control.Repo, error) { return a.findRepo(ctx, in.Repo) })
	if err != nil {
		return m, noTarget(err)
	}
	m = control.Milestones{
		Repo: r.ID, By: p.ID, Branch: branch.Short(), Format: cmp.Or(in.Format, "yaml"), Every: in.Every, After: in.After, Quiet: in.Quiet,
		Environments: in.Environments, Message: in.Message,
	}
	_, err = hosted.Auto(&m)
	return m, err
}

func (a *restAPI) createDocument(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Body client.CreateDocument
},
) (*out[client.Document], error) {
	if a.opts.Documents == nil {
		return nil, errNoDocuments
	}
	t, _, err := a.tenantConfig(ctx, p, policy.ConfigAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	m, err := a.milestonesIn(ctx, p, t.ID, in.Body.Milestones)
	if err != nil {
		return nil, err
	}
	d, err := a.control.CreateDocument(ctx, control.Document{Tenant: t.ID, Name: in.Body.Name, Milestones: m}, func(d control.Document) error {
		return a.opts.Documents.Create(ctx, d, in.Body.Schema, actor(p))
	})
	if err != nil {
		return nil, err
	}
	return &out[client.Document]{a.documentOut(ctx, p, d)}, nil
}

func (a *restAPI) listDocuments(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	Paging
},
) (*out[client.Page[client.Document]], error) {
	after, err := parseCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	t, _, err := a.tenantConfig(ctx, p, "", in.Tenant)
	if err != nil {
		return nil, err
	}
	list, err := a.control.Documents(ctx, control.DocumentFilter{Tenant: t.ID}, id.Document(after), in.Limit+1)
	if err != nil {
		return nil, err
	}
	page := pageOf(list, in.Limit, func(d control.Document) client.Document { return a.documentOut(ctx, p, d) }, func(d control.Document) string { return string(d.ID) })
	return &out[client.Page[client.Document]]{page}, nil
}

func (a *restAPI) getDocument(ctx context.Context, p policy.Principal, in *DocumentParam) (*out[client.Document], error) {
	d, _, err := a.document(ctx, p, "", in.Tenant, in.Document)
	if err != nil {
		return nil, err
	}
	return &out[client.Document]{a.documentOut(ctx, p, d)}, nil
}

func (a *restAPI) updateDocument(ctx context.Context, p policy.Principal, in *struct {
	DocumentParam
	Body client.UpdateDocument
},
) (*out[client.Document], error) {
	d, _, err := a.document(ctx, p, policy.ConfigAdmin, in.Tenant, in.Document)
	if err != nil {
		return nil, err
	}
	m, err := a.milestonesIn(ctx, p, d.Tenant, in.Body.Milestones)
	if err != nil {
		return nil, err
	}
	d, err = a.control.UpdateDocument(ctx, d.ID, func(d *control.Document) error {
		if in.Body.Name != nil {
			d.Name = *in.Body.Name
		}
		if in.Body.Milestones != nil {
			d.Milestones = m
			d.Active = d.Active || m.Automatic()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.opts.Documents.Forget(d.ID)
	return &out[client.Document]{a.documentOut(ctx, p, d)}, nil
}

func (a *restAPI) deleteDocument(ctx context.Context, p policy.Principal, in *DocumentParam) (*none, error) {
	d, _, err := a.document(ctx, p, policy.ConfigAdmin, in.Tenant, in.Document)
	if err != nil {
		return nil, err
	}
	if err := a.control.DeleteDocument(ctx, d.ID); err != nil {
		return nil, err
	}
	if err := a.opts.Documents.Delete(context.WithoutCancel(ctx), d.ID); err != nil {
		a.log.WarnContext(ctx, "the log of a deleted document is not removed: skep doctor tells of it", "document", d.ID, "error", problem.Explain(err))
	}
	return &none{}, nil
}
