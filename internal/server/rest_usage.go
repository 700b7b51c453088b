package server

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/usage"
)

const (
	// usageSpan is what is reported if nobody says otherwise.
	usageSpan = 30 * 24 * time.Hour
	// maxUsageSpan is for how long usage is kept, and a little more.
	maxUsageSpan = 401 * 24 * time.Hour
)

// UsageParams say of when and how to report.
type UsageParams struct {
	From        string       `query:"from" maxLength:"40" example:"2026-05-01" doc:"A date, or a time as in RFC 3339; it is rounded down to the hour. Default: 30 days before to"`
	To          string       `query:"to" maxLength:"40" doc:"The same, rounded up. Default: now"`
	Granularity control.Step `query:"granularity" enum:"hour,day,total" default:"total" doc:"A row for each hour, each day from midnight UTC, or none of it"`
	By          string       `query:"by" enum:"kind,repo" default:"kind" doc:"repo: of each repository"`
	Format      string       `query:"format" enum:"json,csv" doc:"csv is as good as Accept: text/csv"`
	Accept      string       `header:"Accept" hidden:"true"`
}

func (a *restAPI) registerUsage() {
	const tag = "usage"
	report := func(path, operationID, summary string) (o huma.Operation) {
		o = op(http.MethodGet, path, operationID, tag, summary)
		o.Responses = a.bodyOf(reflect.TypeFor[client.UsageReport](), "text/csv")
		return o
	}
	handle(a, report("/tenants/{tenant}/usage", "get-tenant-usage", "Report what a tenant used"), a.tenantUsage)
	handle(a, report("/repos/{repo}/usage", "get-repo-usage", "Report what a repository used"), a.repoUsage)
	o := op(http.MethodGet, "/usage/events", "list-usage-events", tag, "List what was used in closed hours, each record once")
	o.Description = "For billing. An hour is listed ten minutes after its end, and does not change any more."
	handle(a, o, a.usageEvents)
}

func (a *restAPI) tenantUsage(ctx context.Context, p policy.Principal, in *struct {
	TenantParam
	UsageParams
	Children bool `query:"children" doc:"Of the tenants below it too"`
},
) (*huma.StreamResponse, error) {
	t, err := a.tenant(ctx, p, policy.TenantAdmin, in.Tenant)
	if err != nil {
		return nil, err
	}
	return a.usage(ctx, in.UsageParams, control.UsageFilter{Tenant: t.ID, Children: in.Children})
}

func (a *restAPI) repoUsage(ctx context.Context, p policy.Principal, in *struct {
	RepoParam
	UsageParams
},
) (*huma.StreamResponse, error) {
	r, err := a.repo(ctx, p, policy.RepoAdmin, func() (control.Repo, error) { return a.findRepo(ctx, in.Repo) })
	if err != nil {
		return nil, err
	}
	return a.usage(ctx, in.UsageParams, control.UsageFilter{Tenant: r.Tenant, Repo: r.ID})
}

func (a *restAPI) usage(ctx context.Context, in UsageParams, f control.UsageFilter) (*huma.StreamResponse, error) {
	var err error
	if f.From, f.To, err = parseSpan(in.From, in.To, time.Now()); err != nil {
		return nil, err
	}
	f.Step, f.ByRepo = in.Granularity, in.By == "repo"
	sums, err := a.control.Usage(ctx, f)
	if err != nil {
		return nil, err
	}
	report := client.UsageReport{From: f.From, To: f.To, Step: string(f.Step), By: in.By, Rows: make([]client.UsageRow, len(sums))}
	for i, s := range sums {
		row := client.UsageRow{TenantID: s.Key.Tenant, Tenant: s.TenantPath, RepoID: s.Key.Repo, Repo: s.RepoName, Kind: s.Kind.String(), Amount: s.Amount}
		if start := s.Start.UTC(); !s.Start.IsZero() {
			row.Start = &start
		}
		report.Rows[i] = row
	}
	return a.stream(ctx, func(w *answer) error {
		if in.Format == "csv" || in.Format == "" && strings.HasPrefix(in.Accept, "text/csv") {
			return writeUsageCSV(w, report.Rows)
		}
		w.Header().Set("Content-Type", "application/json")
		return huma.DefaultJSONFormat.Marshal(w, report)
	}), nil
}

// writeUsageCSV writes rows as RFC 4180 has them. Names have nothing in them that a spreadsheet takes for a formula.
func writeUsageCSV(w *answer, rows []client.UsageRow) error {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
	out := csv.NewWriter(w)
	out.UseCRLF = true
	_ = out.Write([]string{"start", "tenant_id", "tenant", "repo_id", "repo", "kind", "amount"}) // Flush keeps the error
	for _, r := range rows {
		start := ""
		if r.Start != nil {
			start = r.Start.Format(time.RFC3339)
		}
		_ = out.Write([]string{start, string(r.TenantID), r.Tenant, string(r.RepoID), r.Repo, r.Kind, strconv.FormatInt(r.Amount, 10)})
	}
	out.Flush()
	return out.Error()
}

// parseSpan reads from when to when to report, in whole hours.
func parseSpan(from, to string, now time.Time) (start, end time.Time, err error) {
	if end, err = parseWhen(to, now); err != nil {
		return start, end, err
	}
	if start, err = parseWhen(from, end.Add(-usageSpan)); err != nil {
		return start, end, err
	}
	start, end = start.UTC().Truncate(time.Hour), end.UTC().Add(time.Hour-1).Truncate(time.Hour)
	switch {
	case start.After(end):
		err = fmt.Errorf("from %s is after to %s: %w", start.Format(time.RFC3339), end.Format(time.RFC3339), errkind.Invalid)
	case end.Sub(start) > maxUsageSpan:
		err = fmt.Errorf("from %s to %s are more than %d days: %w", start.Format(time.DateOnly), end.Format(time.DateOnly), maxUsageSpan/(24*time.Hour), errkind.Invalid)
	}
	return start, end, err
}

// parseWhen leaves out the last year that can be written: what is rounded up must not be in the one after it.
func parseWhen(s string, otherwise time.Time) (time.Time, error) {
	if s == "" {
		return otherwise, nil
	}
	for _, form := range [...]string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(form, s); err == nil && t.Year() >= 1970 && t.Year() < 9999 {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("time %q is neither like 2026-05-01 nor like 2026-05-01T10:00:00Z: %w", s, errkind.Invalid)
}

func (a *restAPI) usageEvents(ctx context.Context, p policy.Principal, in *struct {
	Cursor string `query:"cursor" maxLength:"400" doc:"The cursor of the page before. Default: from the beginning of what is kept"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"200" doc:"How many at most"`
},
) (*out[client.UsageEvents], error) {
	if err := a.allowServer(p, policy.SystemAdmin); err != nil {
		return nil, err
	}
	after, err := parseEventCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	records, err := a.control.UsageEvents(ctx, after, in.Limit)
	if err != nil {
		return nil, err
	}
	page := client.UsageEvents{Items: make([]client.UsageEvent, len(records)), Cursor: in.Cursor}
	for i, r := range records {
		name := eventName(r)
		page.Items[i] = client.UsageEvent{ID: name, Hour: r.Hour.UTC(), TenantID: r.Key.Tenant, RepoID: r.Key.Repo, Kind: r.Kind.String(), Amount: r.Amount}
		page.Cursor = makeCursor(name)
	}
	return &out[client.UsageEvents]{page}, nil
}

const (
	eventHour = "2006-01-02T15"
	noRepo    = "-" // in an event's name
)

// eventName is all that tells a record from the others.
func eventName(r usage.Record) string {
	repo := string(r.Repo)
	if repo == "" {
		repo = noRepo
	}
	return strings.Join([]string{r.Hour.UTC().Format(eventHour), string(r.Tenant), repo, r.Kind.String()}, "/")
}

// parseEventCursor finds the record after which a page begins.
func parseEventCursor(cursor string) (r usage.Record, err error) {
	name, err := parseCursor(cursor)
	if err != nil || name == "" {
		return r, err
	}
	const parts = 4
	part := strings.Split(name, "/")
	if len(part) != parts {
		return r, errCursor
	}
	hour, err := time.Parse(eventHour, part[0])
	if err != nil {
		return r, errCursor
	}
	if r.Kind, err = usage.ParseKind(part[3]); err != nil {
		return r, errCursor
	}
	r.Hour, r.Tenant = hour, id.Tenant(part[1])
	if part[2] != noRepo {
		r.Repo = id.Repo(part[2])
	}
	return r, nil
}
