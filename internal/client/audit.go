package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/skep-dev/skep/internal/audit"
)

// AuditFilter narrows the audit log. The zero one asks for all of it.
type AuditFilter struct {
	Tenant    string // ID or path: what was done there, and below
	Principal string // ID or name
	Action    string // "token.create", or with a star at the end: "token.*"
	Resource  string // "repo/acme/api", likewise
	Request   string // the X-Request-Id of a request
	Since     time.Time
	Until     time.Time // before then
}

func (f AuditFilter) query(q url.Values) url.Values {
	for name, v := range map[string]string{
		"tenant": f.Tenant, "principal": f.Principal, "action": f.Action, "resource": f.Resource, "request_id": f.Request,
	} {
		if v != "" {
			q.Set(name, v)
		}
	}
	for name, t := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !t.IsZero() {
			q.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	return q
}

// AuditEntry is one thing that somebody did.
type AuditEntry struct{ audit.Entry }

// Audit lists entries of the audit log, the oldest first.
func (c *Client) Audit(ctx context.Context, f AuditFilter, cursor string, limit int) (Page[AuditEntry], error) {
	return get[Page[AuditEntry]](ctx, c, "/audit", f.query(paging(cursor, limit)))
}

// ExportAudit returns entries as lines of JSON, for audit.VerifyExport. The caller closes it.
func (c *Client) ExportAudit(ctx context.Context, f AuditFilter) (io.ReadCloser, error) {
	resp, err := c.send(ctx, call{method: http.MethodGet, path: "/audit/export", query: f.query(url.Values{})})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
