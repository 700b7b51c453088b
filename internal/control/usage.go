package control

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/usage"
)

const (
	// usageKept is how long the hours of tenants and repositories are kept, whether or not these are still there.
	usageKept = 400 * 24 * time.Hour
	// totalsKept is how long the sums for quotas are kept: longer than the longest period.
	totalsKept = 40 * 24 * time.Hour
	// metersKept is how long it is known which batches a meter has stored: a batch is tried again for as long as its process lives
	// and the database does not answer.
	metersKept = 30 * 24 * time.Hour
	// pruneStep is how many rows of each table one transaction removes.
	pruneStep = 1000

	// UsageGrace is how long after its end an hour may be listed by UsageEvents. What is stored later than half of that is
	// counted in the hour in which it is stored; the other half is for transactions that are under way, and for clocks that differ.
	UsageGrace = 10 * time.Minute
)

// day is how long quotas of a day count, from midnight UTC.
const day = 24 * time.Hour

// AddUsage adds a batch of what a meter has counted, unless it has been added before. It is part of no change that somebody
// made, and nothing that nodes remember depends on it.
func (c *Control) AddUsage(ctx context.Context, b usage.Batch) error {
	err := c.db.Write(ctx, func(q conn) error {
		now := c.timestamp()
		// A meter repeats a batch if it did not learn that it was committed.
		err := q.Exec(`INSERT INTO usage_meter (meter_id, batch, updated) VALUES (?, ?, ?)
			ON CONFLICT (meter_id) DO UPDATE SET batch = excluded.batch, updated = excluded.updated WHERE usage_meter.batch < excluded.batch`,
			b.Meter, b.Number, now)
		if err != nil || q.Changes() == 0 {
			return err
		}
		totals := map[total]int64{}
		for _, r := range b.Records {
			if err := addRecord(q, r, now, totals); err != nil {
				return err
			}
		}
		for t, n := range totals {
			if err := q.Exec(`INSERT INTO usage_total (tenant_id, period, since, kind, amount) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (tenant_id, period, since, kind) DO UPDATE SET amount = usage_total.amount + excluded.amount`,
				t.tenant, t.period, time.UnixMicro(t.since), t.kind.String(), n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("add usage: %w", err)
	}
	return nil
}

// total is a sum for a quota.
type total struct {
	tenant id.Tenant
	period period
	since  int64 // microseconds
	kind   usage.Kind
}

// period is for how long a sum counts.
type period string

const (
	perHour  period = "hour"
	perDay   period = "day"
	perMonth period = "month"
)

// start is the beginning of the period in which a time lies, UTC.
func (p period) start(t time.Time) time.Time {
	t = t.UTC()
	switch p {
	case perDay:
		return t.Truncate(day)
	case perMonth:
		return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	case perHour:
	}
	return t.Truncate(time.Hour)
}

func addRecord(q conn, r usage.Record, now time.Time, totals map[total]int64) error {
	if now.After(r.Hour.Add(time.Hour + UsageGrace/2)) {
		r.Hour = now.Truncate(time.Hour) // who lists closed hours has perhaps been past it
	}
	if r.Kind == usage.Storage {
		return setStorage(q, r, now)
	}
	if r.Kind == usage.BytesOut {
		totals[total{r.Tenant, perDay, perDay.start(r.Hour).UnixMicro(), r.Kind}] += r.Amount
		totals[total{r.Tenant, perMonth, perMonth.start(r.Hour).UnixMicro(), r.Kind}] += r.Amount
	} else {
		totals[total{r.Tenant, perHour, r.Hour.UnixMicro(), r.Kind}] += r.Amount
	}
	return q.Exec(`INSERT INTO usage (tenant_id, hour, repo_id, kind, amount) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (tenant_id, hour, repo_id, kind) DO UPDATE SET amount = usage.amount + excluded.amount`,
		r.Tenant, r.Hour, r.Repo, r.Kind.String(), r.Amount)
}

// setStorage notes what a repository takes, if that is news. Of one that was deleted meanwhile it is none.
func setStorage(q conn, r usage.Record, now time.Time) error {
	there, err := exists(q, "SELECT 1 FROM repo WHERE tenant_id = ? AND repo_id = ?", r.Tenant, r.Repo)
	if err != nil || !there {
		return err
	}
	old := int64(-1)
	_, err = q.First("SELECT bytes FROM storage WHERE tenant_id = ? AND repo_id = ?", func(found row) { old = found.Int64(0) }, r.Tenant, r.Repo)
	if err != nil || old == r.Amount {
		return err
	}
	if err := q.Exec(`INSERT INTO storage (tenant_id, repo_id, bytes, updated) VALUES (?, ?, ?, ?)
		ON CONFLICT (tenant_id, repo_id) DO UPDATE SET bytes = excluded.bytes, updated = excluded.updated`, r.Tenant, r.Repo, r.Amount, now); err != nil {
		return err
	}
	return noteStorage(q, r.Key, r.Hour, r.Amount)
}

func noteStorage(q conn, k usage.Key, hour time.Time, bytes int64) error {
	return q.Exec(`INSERT INTO usage (tenant_id, hour, repo_id, kind, amount) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (tenant_id, hour, repo_id, kind) DO UPDATE SET amount = excluded.amount`, k.Tenant, hour, k.Repo, usage.Storage.String(), bytes)
}

// endStorage notes that a repository takes nothing any more. It is called in the transaction that deletes it.
func endStorage(q conn, k usage.Key, now time.Time) error {
	return noteStorage(q, k, now.Truncate(time.Hour), 0)
}

// PruneUsage removes a bounded part of what is older than it is kept, and reports whether there may be more.
func (c *Control) PruneUsage(ctx context.Context) (more bool, err error) {
	now := c.timestamp()
	tables := []struct {
		table, key string
		columns    int
		age        string
		kept       time.Duration
	}{
		{"usage", "tenant_id, hour, repo_id, kind", 4, "hour", usageKept},
		{"usage_total", "tenant_id, period, since, kind", 4, "since", totalsKept},
		{"usage_meter", "meter_id", 1, "updated", metersKept},
	}
	for _, t := range tables {
		// A transaction each: none is long.
		err := c.db.Write(ctx, func(q conn) error {
			// By keys, as DELETE itself has no limit.
			if err := q.Exec("DELETE FROM "+t.table+" WHERE ("+t.key+") IN (SELECT "+t.key+" FROM "+t.table+
				" WHERE "+t.age+" < ? ORDER BY "+t.age+" LIMIT ?)", now.Add(-t.kept), pruneStep); err != nil {
				return err
			}
			more = more || q.Changes() == pruneStep
			return nil
		})
		if err != nil {
			return false, fmt.Errorf("prune usage: %w", err)
		}
	}
	return more, nil
}

// UsageEvents lists what was used in closed hours, by hour, tenant, repository and kind, after another one of them; at first
// after the zero Record. Each record comes once: an hour is listed when nothing is added to it any more.
func (c *Control) UsageEvents(ctx context.Context, after usage.Record, most int) (out []usage.Record, err error) {
	kind := ""
	if after.Kind != usage.None {
		kind = after.Kind.String()
	}
	closed := c.timestamp().Add(-time.Hour - UsageGrace)
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		for r, err := range q.Query(`SELECT hour, tenant_id, repo_id, kind, amount FROM usage
			WHERE (hour, tenant_id, repo_id, kind) > (?, ?, ?, ?) AND hour <= ? ORDER BY hour, tenant_id, repo_id, kind LIMIT ?`,
			after.Hour, after.Tenant, after.Repo, kind, closed, page(most)) {
			if err != nil {
				return err
			}
			kind, err := usage.ParseKind(r.Text(3))
			if err != nil {
				return err
			}
			key := usage.Key{Tenant: id.Tenant(r.Text(1)), Repo: id.Repo(r.Text(2))}
			out = append(out, usage.Record{Key: key, Hour: r.Time(0), Kind: kind, Amount: r.Int64(4)})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list usage: %w", err)
	}
	return out, nil
}

// Step is how far apart the rows of a report are in time.
type Step string

// The steps.
const (
	Hourly Step = "hour"
	Daily  Step = "day" // from midnight UTC
	Whole  Step = "total"
)

// begin is the beginning of the step in which an hour lies, in SQL. The time of Whole is 0.
func (s Step) begin() string {
	switch s {
	case Hourly:
		return "hour"
	case Daily:
		return "hour - hour % 86400000000"
	case Whole:
	}
	return "CAST(0 AS BIGINT)"
}

// UsageFilter says of whom Usage reports.
type UsageFilter struct {
	Tenant   id.Tenant
	Repo     id.Repo   // empty: all, and what belongs to none
	Children bool      // of tenants below it too
	From, To time.Time // hours that begin in [From, To)
	Step     Step
	ByRepo   bool
}

// UsageSum is a row of a report.
type UsageSum struct {
	Start      time.Time  // zero of Whole
	Key        usage.Key  // empty unless by repository
	TenantPath string     // empty unless by repository, or if it is gone
	RepoName   string     // the same
	Kind       usage.Kind // Storage: what there is now, without regard to time
	Amount     int64
}

// maxUsageRows bounds a report.
const maxUsageRows = 20_000

// withBelow begins a query on the tenants of a subtree, deleted ones too, or (with false for the second parameter) on its top alone.
const withBelow = `WITH RECURSIVE below (tenant_id) AS (
		SELECT tenant_id FROM tenant WHERE tenant_id = ?1
		UNION ALL SELECT tenant.tenant_id FROM tenant JOIN below ON tenant.parent_id = below.tenant_id WHERE CAST(?2 AS BIGINT) = 1
	) `

// Usage reports what was used, by time, tenant, repository and kind, and then what is stored now. errkind.TooLarge if there are
// too many rows.
func (c *Control) Usage(ctx context.Context, f UsageFilter) (out []UsageSum, err error) {
	who := "'' AS tenant_id, '' AS repo_id"
	if f.ByRepo {
		who = "tenant_id, repo_id"
	}
	used, args := "SELECT "+f.Step.begin()+" AS start, "+who+", kind, CAST(SUM(amount) AS BIGINT) AS amount FROM usage JOIN below USING (tenant_id) "+
		"WHERE hour >= ?3 AND hour < ?4 AND kind <> 'storage'", []any{f.Tenant, f.Children, f.From, f.To, maxUsageRows + 1}
	stored, now := "SELECT CAST(0 AS BIGINT) AS start, "+who+", 'storage' AS kind, CAST(SUM(bytes) AS BIGINT) AS amount "+
		"FROM storage JOIN below USING (tenant_id) WHERE TRUE", []any{f.Tenant, f.Children, maxUsageRows + 1}
	if f.Repo != "" {
		used, args = used+" AND repo_id = ?6", append(args, f.Repo)
		stored, now = stored+" AND repo_id = ?4", append(now, f.Repo)
	}
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		if err := scanSums(q, &out, used, "?5", args); err != nil {
			return err
		}
		if err := scanSums(q, &out, stored, "?3", now); err != nil {
			return err
		}
		if len(out) > maxUsageRows {
			return fmt.Errorf("more than %d rows: ask for less time, or for larger steps: %w", maxUsageRows, errkind.TooLarge)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("report usage: %w", err)
	}
	return out, nil
}

// scanSums runs a query on the tenants below one, and finds out what its tenants and repositories are called.
func scanSums(q conn, out *[]UsageSum, query, limit string, args []any) error {
	const names = `SELECT start, sums.tenant_id, sums.repo_id, kind, amount, COALESCE(tenant.path, ''), COALESCE(repo.name, '')
		FROM (%s GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4 LIMIT %s) AS sums
		LEFT JOIN tenant ON tenant.tenant_id = sums.tenant_id
		LEFT JOIN repo ON repo.tenant_id = sums.tenant_id AND repo.repo_id = sums.repo_id
		ORDER BY 1, 2, 3, 4`
	for r, err := range q.Query(withBelow+fmt.Sprintf(names, query, limit), args...) {
		if err != nil {
			return err
		}
		kind, err := usage.ParseKind(r.Text(3))
		if err != nil {
			return err
		}
		key := usage.Key{Tenant: id.Tenant(r.Text(1)), Repo: id.Repo(r.Text(2))}
		*out = append(*out, UsageSum{Start: r.Time(0), Key: key, TenantPath: r.Text(5), RepoName: r.Text(6), Kind: kind, Amount: r.Int64(4)})
	}
	return nil
}
