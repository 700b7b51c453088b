package server

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sync/singleflight"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/usage"
)

const (
	// budgetTime is how old what is known of a tenant's use may be, if nothing is flushed: what other nodes have counted is then
	// this much late, besides the time until they store it.
	budgetTime = 10 * time.Second
	// maxBudgets bounds how many tenants' use is remembered. Past it each request reads its own.
	maxBudgets = 50_000
)

// budget is how much a tenant that has quotas has used: as the database knows it, and what has come on this node since.
type budget struct {
	used   control.Quotas // never changed
	loaded time.Time

	fetches, pushes, calls, out atomic.Int64 // since
}

// budgets remember the use of tenants that have quotas, and are asked for others never.
type budgets struct {
	load  func(context.Context, id.Tenant) (control.Quotas, error)
	loads singleflight.Group

	mu    sync.RWMutex
	known map[id.Tenant]*budget // guarded by mu
}

// Flushed says that what was counted so far is in the database: from there it is read when it is needed next.
func (s *Server) Flushed() {
	s.budgets.mu.Lock()
	defer s.budgets.mu.Unlock()
	s.budgets.known = nil
}

func (b *budgets) of(ctx context.Context, t id.Tenant) (*budget, error) {
	b.mu.RLock()
	known := b.known[t]
	b.mu.RUnlock()
	if known != nil && time.Since(known.loaded) < budgetTime {
		return known, nil
	}
	v, err, _ := b.loads.Do(string(t), func() (any, error) {
		fresh := &budget{loaded: time.Now()}
		var err error
		if fresh.used, err = b.load(context.WithoutCancel(ctx), t); err != nil { // others wait for the same
			return nil, err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.known == nil {
			b.known = map[id.Tenant]*budget{}
		}
		if len(b.known) < maxBudgets || b.known[t] != nil {
			b.known[t] = fresh
		}
		return fresh, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*budget), nil //nolint:errcheck,forcetypeassert // it is what the function returned
}

// counterOf is the quota that an operation counts against, and what of it has come since.
func (b *budget) counterOf(op usage.Kind) (control.Quota, *atomic.Int64) {
	switch op {
	case usage.Fetch, usage.Archive:
		return control.QuotaFetches, &b.fetches
	case usage.Push:
		return control.QuotaPushes, &b.pushes
	case usage.APIRead, usage.APIWrite:
		return control.QuotaCalls, &b.calls
	case usage.None, usage.BytesIn, usage.BytesOut, usage.Compute, usage.Storage:
	}
	return "", nil
}

// mayUse counts a request about a tenant's repository against the quotas of the tenant and of those above it, and is an error
// if one of them is used up. Most tenants have none.
func (s *Server) mayUse(ctx context.Context, c *call, quotas []control.TenantQuotas) error {
	if len(quotas) == 0 {
		return nil
	}
	op := c.op
	if op == usage.None {
		op = c.next
	}
	c.owes = nil
	var counted []*atomic.Int64
	for _, q := range quotas {
		b, err := s.budgets.of(ctx, q.Tenant)
		if err != nil {
			return err
		}
		kind, counter := b.counterOf(op)
		if most, limited := q.Most[kind]; limited && kind != "" {
			n := counter.Load()
			if c.op != usage.None {
				n = counter.Add(1) - 1
				counted = append(counted, counter)
			}
			if b.used[kind]+n >= most {
				giveBack(counted)
				return s.spent(q, kind)
			}
		}
		if op == usage.Push {
			continue // what git answers to a push is short
		}
		for _, kind := range [...]control.Quota{control.QuotaDayOut, control.QuotaMonthOut} {
			most, limited := q.Most[kind]
			if !limited {
				continue
			}
			if b.used[kind]+b.out.Load() >= most {
				giveBack(counted)
				return s.spent(q, kind)
			}
			c.owes = append(c.owes, b)
			break // one is enough: the bytes are the same
		}
	}
	return nil
}

func giveBack(counted []*atomic.Int64) {
	for _, n := range counted {
		n.Add(-1)
	}
}

// mayStore is an error if the tenant, or one above it, has used up its storage.
func (s *Server) mayStore(ctx context.Context, t id.Tenant) error {
	standing, err := s.control.Standing(ctx, t)
	if err != nil {
		return err
	}
	for _, q := range standing.Quotas {
		most, limited := q.Most[control.QuotaStorage]
		if !limited {
			continue
		}
		b, err := s.budgets.of(ctx, q.Tenant)
		if err != nil {
			return err
		}
		if used := b.used[control.QuotaStorage]; used >= most {
			own, err := s.control.Tenant(ctx, t)
			if err != nil {
				return err
			}
			s.metrics.overQuota[control.QuotaStorage].Inc() // here, as git is told of it in an answer that is no refusal
			return control.SpentQuota(q.Path, own.Path, control.QuotaStorage, size(used), size(most))
		}
	}
	return nil
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// spent is the refusal of an operation for which a tenant has no quota left before some time.
func (s *Server) spent(q control.TenantQuotas, k control.Quota) error {
	s.metrics.overQuota[k].Inc()
	return quotaSpent{fmt.Sprintf("%s has used up its quota of %s", q.Path, k), s.control.Until(k)}
}

// quotaSpent is a refusal that ends by itself.
type quotaSpent struct {
	text  string
	retry time.Duration
}

func (e quotaSpent) Error() string {
	return fmt.Sprintf("%s: try again in %d s", e.text, seconds(e.retry))
}

func (e quotaSpent) Unwrap() error { return errkind.RateLimited }
