package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/usage"
)

// Quota is a kind of thing of which a tenant may have so much. What the tenants below it have counts for it as well.
type Quota string

// The quotas.
const (
	QuotaStorage  Quota = "storage" // bytes of all repositories
	QuotaRepos    Quota = "repositories"
	QuotaChildren Quota = "children"        // tenants below it, at any depth
	QuotaMembers  Quota = "members"         // memberships
	QuotaFetches  Quota = "fetches"         // fetches and archives, each hour
	QuotaPushes   Quota = "pushes"          // each hour
	QuotaCalls    Quota = "calls"           // others over REST, each hour
	QuotaDayOut   Quota = "bytes-out-day"   // bytes of answers, each day from midnight UTC
	QuotaMonthOut Quota = "bytes-out-month" // each month
)

// AllQuotas lists them.
func AllQuotas() []Quota {
	return []Quota{QuotaStorage, QuotaRepos, QuotaChildren, QuotaMembers, QuotaFetches, QuotaPushes, QuotaCalls, QuotaDayOut, QuotaMonthOut}
}

// Quotas are amounts: how much there may be, or how much there is. A quota that is missing is none.
type Quotas map[Quota]int64

// TenantQuotas are those of one tenant. They are shared and never changed.
type TenantQuotas struct {
	Tenant id.Tenant
	Path   string
	Most   Quotas
}

// String lists them in order, for the audit log.
func (m Quotas) String() string {
	var parts []string
	for _, k := range AllQuotas() {
		if n, ok := m[k]; ok {
			parts = append(parts, fmt.Sprintf("%s=%d", k, n))
		}
	}
	return cmp.Or(strings.Join(parts, " "), "none")
}

// Quotas returns a tenant's own.
func (c *Control) Quotas(ctx context.Context, t id.Tenant) (out Quotas, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		out, err = quotasOf(q, t)
		return err
	})
	return out, err
}

func quotasOf(q conn, t id.Tenant) (Quotas, error) {
	out := Quotas{}
	for r, err := range q.Query("SELECT kind, most FROM quota WHERE tenant_id = ?", t) {
		if err != nil {
			return nil, err
		}
		out[Quota(r.Text(0))] = r.Int64(1)
	}
	return out, nil
}

// SetQuotas replaces a tenant's quotas. What there is more of already stays.
func (c *Control) SetQuotas(ctx context.Context, t id.Tenant, most Quotas) error {
	for k, n := range most {
		if !slices.Contains(AllQuotas(), k) || n < 0 {
			return fmt.Errorf("set quotas: %s of %d: %w", clip(string(k)), n, errkind.Invalid)
		}
	}
	err := c.change(ctx, func(q *txn) error {
		found, err := tenantByID(q, t)
		if err != nil {
			return err
		}
		if err := q.record(audit.Entry{Action: "tenant.quota", Tenant: string(t), Resource: found.resource(), Detail: most.String()}); err != nil {
			return err
		}
		if err := q.Exec("DELETE FROM quota WHERE tenant_id = ?", t); err != nil {
			return err
		}
		for _, k := range AllQuotas() {
			if n, ok := most[k]; ok {
				if err := q.Exec("INSERT INTO quota (tenant_id, kind, most) VALUES (?, ?, ?)", t, k, n); err != nil {
					return err
				}
			}
		}
		return nil
	}, c.cache.standings.clear, lineageKind)
	if err != nil {
		return fmt.Errorf("set quotas: %w", err)
	}
	return nil
}

// stock are the quotas on what is there, each with a query that counts it in a tenant and below. What is deleted and can be restored
// takes storage, and counts for nothing else.
var stock = map[Quota]string{
	QuotaStorage:  "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM storage JOIN below USING (tenant_id)",
	QuotaRepos:    "SELECT COUNT(*) FROM repo JOIN below USING (tenant_id) JOIN tenant USING (tenant_id) WHERE deleted = 0",
	QuotaChildren: "SELECT COUNT(*) - 1 FROM below JOIN tenant USING (tenant_id) WHERE deleted = 0",
	QuotaMembers:  "SELECT COUNT(*) FROM member JOIN below USING (tenant_id) JOIN tenant USING (tenant_id) WHERE deleted = 0",
}

// flow are the quotas on what is used in a time.
var flow = map[Quota]struct {
	period period
	kinds  []usage.Kind
}{
	QuotaFetches:  {perHour, []usage.Kind{usage.Fetch, usage.Archive}},
	QuotaPushes:   {perHour, []usage.Kind{usage.Push}},
	QuotaCalls:    {perHour, []usage.Kind{usage.APIRead, usage.APIWrite}},
	QuotaDayOut:   {perDay, []usage.Kind{usage.BytesOut}},
	QuotaMonthOut: {perMonth, []usage.Kind{usage.BytesOut}},
}

// QuotaUse returns how much of each quota a tenant and those below it have used, as far as it has been stored.
func (c *Control) QuotaUse(ctx context.Context, t id.Tenant) (out Quotas, err error) {
	now := c.timestamp()
	err = c.db.Read(ctx, func(q conn) error {
		out = Quotas{}
		for _, k := range AllQuotas() {
			if _, ok := stock[k]; ok {
				if out[k], err = inStock(q, t, k); err != nil {
					return err
				}
			}
		}
		sums := map[total]int64{}
		for r, err := range q.Query(withBelow+`SELECT period, since, kind, CAST(SUM(amount) AS BIGINT) FROM usage_total JOIN below USING (tenant_id)
			WHERE period = 'hour' AND since = ?3 OR period = 'day' AND since = ?4 OR period = 'month' AND since = ?5 GROUP BY 1, 2, 3`,
			t, true, perHour.start(now), perDay.start(now), perMonth.start(now)) {
			if err != nil {
				return err
			}
			kind, err := usage.ParseKind(r.Text(2))
			if err != nil {
				return err
			}
			sums[total{period: period(r.Text(0)), kind: kind}] = r.Int64(3)
		}
		for k, f := range flow {
			out[k] = 0
			for _, kind := range f.kinds {
				out[k] += sums[total{period: f.period, kind: kind}]
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read use of quotas: %w", err)
	}
	return out, nil
}

func inStock(q conn, t id.Tenant, k Quota) (n int64, err error) {
	_, err = q.First(withBelow+stock[k], func(r row) { n = r.Int64(0) }, t, true)
	return n, err
}

// Until is how long a quota of a time counts, from now on; 0 for what is there until it is removed.
func (c *Control) Until(k Quota) time.Duration {
	now := c.timestamp()
	f, ok := flow[k]
	if !ok {
		return 0
	}
	start := f.period.start(now)
	switch f.period {
	case perDay:
		return start.Add(day).Sub(now)
	case perMonth:
		return start.AddDate(0, 1, 0).Sub(now)
	case perHour:
	}
	return start.Add(time.Hour).Sub(now)
}

// mustHaveRoom refuses one more thing in a tenant for which it, or a tenant above it, has no quota left.
func mustHaveRoom(q conn, t Tenant, k Quota) error { return mustAllow(q, t, 1, k) }

// mustFit refuses a tenant that has come to its place with all that is below it, if there is more of it than it, or a tenant above
// it, has quotas for.
func mustFit(q conn, t Tenant) error {
	return mustAllow(q, t, 0, QuotaStorage, QuotaRepos, QuotaChildren, QuotaMembers)
}

// mustAllow refuses so many more things of some kinds in a tenant.
func mustAllow(q conn, t Tenant, more int64, kinds ...Quota) error {
	for at := t; ; {
		for _, k := range kinds {
			most, there := int64(0), false
			if _, err := q.First("SELECT most FROM quota WHERE tenant_id = ? AND kind = ?", func(r row) { most, there = r.Int64(0), true }, at.ID, k); err != nil {
				return err
			}
			if !there {
				continue
			}
			n, err := inStock(q, at.ID, k)
			if err != nil {
				return err
			}
			if n+more > most {
				return SpentQuota(at.Path, t.Path, k, fmt.Sprint(n), fmt.Sprint(most))
			}
		}
		if at.Parent == "" {
			return nil
		}
		var err error
		if at, err = tenantByID(q, at.Parent); err != nil {
			return err
		}
	}
}

// SpentQuota is the refusal of what somebody wants in tenant, when owner, which is it or above it, has used up what it may. How much
// a tenant has is not the business of those below it.
func SpentQuota(owner, tenant string, k Quota, used, most string) error {
	if owner != tenant {
		return QuotaError{k, fmt.Sprintf("%s, which %s belongs to, has used up its quota of %s", owner, tenant, k)}
	}
	return QuotaError{k, fmt.Sprintf("%s has used %s of %s of its quota of %s: remove some, or ask who sets it for more", owner, used, most, k)}
}

// QuotaError is the refusal of what a quota has no room for.
type QuotaError struct {
	Quota Quota
	text  string
}

func (e QuotaError) Error() string { return e.text }

// Unwrap is errkind.QuotaExceeded.
func (e QuotaError) Unwrap() error { return errkind.QuotaExceeded }

// mustTakeMember is mustHaveRoom for a principal who is perhaps a member already.
func mustTakeMember(q conn, t id.Tenant, p id.Principal) error {
	member, err := exists(q, "SELECT 1 FROM member WHERE tenant_id = ? AND principal_id = ?", t, p)
	if err != nil || member {
		return err
	}
	found, err := tenantByID(q, t)
	if err != nil {
		return err
	}
	return mustHaveRoom(q, found, QuotaMembers)
}
