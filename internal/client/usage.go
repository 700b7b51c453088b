package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/skep-dev/skep/internal/id"
)

// UsageReport is what a tenant or a repository used.
type UsageReport struct {
	From time.Time  `json:"from" doc:"The beginning of the first hour"`
	To   time.Time  `json:"to" doc:"The end of the last one. What was used in the last seconds is perhaps not yet in it"`
	Step string     `json:"step" enum:"hour,day,total"`
	By   string     `json:"by" enum:"kind,repo"`
	Rows []UsageRow `json:"rows" doc:"By time; at the end what is stored now"`
}

// UsageRow is how much of a kind was used.
type UsageRow struct {
	Start    *time.Time `json:"start,omitempty" doc:"Of the hour or day; missing with step=total, and of what is stored now"`
	TenantID id.Tenant  `json:"tenant_id,omitempty" doc:"With by=repo"`
	Tenant   string     `json:"tenant,omitempty" doc:"Its path; missing if it is gone"`
	RepoID   id.Repo    `json:"repo_id,omitempty" doc:"With by=repo; missing for what belongs to no repository"`
	Repo     string     `json:"repo,omitempty" doc:"Its name; missing if it is gone"`
	Kind     string     `json:"kind" enum:"fetch,push,archive,api.read,api.write,bytes.in,bytes.out,compute,storage" doc:"Operations, bytes, microseconds (compute), and bytes stored now (storage)"`
	Amount   int64      `json:"amount"`
}

// UsageEvent is how much of a kind was used in an hour that is closed. It never changes.
type UsageEvent struct {
	ID       string    `json:"id" doc:"The same whenever the event is read" example:"2026-05-04T12/ten_01jd4x5vwr9ab3k6m0q7z2c8ye/-/fetch"`
	Hour     time.Time `json:"hour" doc:"Its beginning"`
	TenantID id.Tenant `json:"tenant_id"`
	RepoID   id.Repo   `json:"repo_id,omitempty" doc:"Missing for what belongs to no repository"`
	Kind     string    `json:"kind" enum:"fetch,push,archive,api.read,api.write,bytes.in,bytes.out,compute,storage"`
	Amount   int64     `json:"amount" doc:"Of storage: the bytes at the hour's end, which hold until the repository's next event of this kind"`
}

// UsageEvents is a page of events.
type UsageEvents struct {
	Items []UsageEvent `json:"items"`
	// Cursor is always there: the list goes on for ever.
	Cursor string `json:"cursor" doc:"Pass as ?cursor= to go on after the last item, now or when more hours are closed"`
}

// UsageQuery says what to report. The zero UsageQuery is the last 30 days by kind, in all.
type UsageQuery struct {
	From, To time.Time
	Step     string // hour, day or total; "": total
	By       string // kind or repo; "": kind
	Children bool   // of tenants below a tenant too
}

func (q UsageQuery) values() url.Values {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	if !q.From.IsZero() {
		v.Set("from", q.From.Format(time.RFC3339))
	}
	if !q.To.IsZero() {
		v.Set("to", q.To.Format(time.RFC3339))
	}
	set("granularity", q.Step)
	set("by", q.By)
	if q.Children {
		v.Set("children", "true")
	}
	return v
}

// TenantUsage reports what a tenant used.
func (c *Client) TenantUsage(ctx context.Context, tenant string, q UsageQuery) (UsageReport, error) {
	return get[UsageReport](ctx, c, "/tenants/"+segment(tenant)+"/usage", q.values())
}

// RepoUsage reports what a repository used.
func (c *Client) RepoUsage(ctx context.Context, repo string, q UsageQuery) (UsageReport, error) {
	return get[UsageReport](ctx, c, "/repos/"+segment(repo)+"/usage", q.values())
}

// TenantUsageCSV copies the same as CSV.
func (c *Client) TenantUsageCSV(ctx context.Context, w io.Writer, tenant string, q UsageQuery) error {
	resp, err := c.send(ctx, call{method: http.MethodGet, path: "/tenants/" + segment(tenant) + "/usage", query: q.values(), accept: "text/csv"})
	if err != nil {
		return err
	}
	defer closeBody(resp)
	if _, err := io.Copy(w, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// UsageEvents lists what was used in closed hours, after a cursor ("" at first).
func (c *Client) UsageEvents(ctx context.Context, cursor string, limit int) (UsageEvents, error) {
	v := url.Values{}
	if cursor != "" {
		v.Set("cursor", cursor)
	}
	if limit > 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	return get[UsageEvents](ctx, c, "/usage/events", v)
}
