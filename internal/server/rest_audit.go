package server

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// AuditParams narrow the audit log.
type AuditParams struct {
	Tenant    string    `query:"tenant" maxLength:"500" doc:"ID or path: what was done in it, and below. Without it: everything, for administrators"`
	Principal string    `query:"principal" maxLength:"200" doc:"ID or name of who did it"`
	Action    string    `query:"action" maxLength:"100" example:"token.*" doc:"One action, or with a star at the end all that begin so"`
	Resource  string    `query:"resource" maxLength:"2000" example:"repo/acme/*" doc:"What it was done to, likewise"`
	Request   string    `query:"request_id" maxLength:"64" doc:"The X-Request-Id of the request that did it"`
	Since     time.Time `query:"since" doc:"From then on"`
	Until     time.Time `query:"until" doc:"Before then"`
}

// auditType is the media type of an export: https://github.com/ndjson/ndjson-spec.
const auditType = "application/x-ndjson"

func (a *restAPI) registerAudit() {
	const tag = "audit"
	handle(a, op(http.MethodGet, "/audit", "list-audit", tag, "List what was done, the oldest first"), a.listAudit)
	o := op(http.MethodGet, "/audit/export", "export-audit", tag, "Export what was done, as lines of JSON of which the last names the log's head")
	o.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{auditType: {}}}}
	handle(a, o, a.exportAudit)
}

// auditFilter sees to it that the caller may read what it asks for.
func (a *restAPI) auditFilter(ctx context.Context, p policy.Principal, in *AuditParams) (f control.AuditFilter, err error) {
	if in.Tenant == "" {
		err = a.allowServer(p, policy.SystemAdmin)
	} else {
		var t control.Tenant
		t, err = a.tenant(ctx, p, policy.AuditRead, in.Tenant)
		f.Tenant = t.ID
	}
	if err != nil {
		return f, err
	}
	if in.Principal != "" {
		// Who has acted may be gone by now, or be a JWT's and in no table: their identifier is all that there is of them.
		who, err := a.findPrincipal(ctx, in.Principal)
		if err != nil && !errIsMissing(err) {
			return f, err
		}
		f.Principal = cmp.Or(who.ID, id.Principal(in.Principal))
	}
	f.Action, f.Resource, f.Request, f.Since, f.Until = in.Action, in.Resource, in.Request, in.Since, in.Until
	return f, nil
}

func (a *restAPI) listAudit(ctx context.Context, p policy.Principal, in *struct {
	Paging
	AuditParams
},
) (*out[client.Page[client.AuditEntry]], error) {
	f, err := a.auditFilter(ctx, p, &in.AuditParams)
	if err != nil {
		return nil, err
	}
	after := int64(0)
	if in.Cursor != "" {
		text, err := parseCursor(in.Cursor)
		if err == nil {
			after, err = strconv.ParseInt(text, 10, 64)
		}
		if err != nil || after < 0 {
			return nil, errCursor
		}
	}
	entries, _, err := a.control.AuditLog(ctx, f, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	page := pageOf(entries, in.Limit, func(e audit.Entry) client.AuditEntry { return client.AuditEntry{Entry: e} }, func(e audit.Entry) string { return strconv.FormatInt(e.Seq, 10) })
	return &out[client.Page[client.AuditEntry]]{page}, nil
}

func (a *restAPI) exportAudit(ctx context.Context, p policy.Principal, in *AuditParams) (*huma.StreamResponse, error) {
	f, err := a.auditFilter(ctx, p, in)
	if err != nil {
		return nil, err
	}
	entries, head, err := a.control.AuditExport(ctx, f)
	if err != nil {
		return nil, err
	}
	return a.stream(ctx, func(w *answer) error {
		w.Header().Set("Content-Type", auditType)
		_, err := audit.Export(w, entries, head)
		return err
	}), nil
}
