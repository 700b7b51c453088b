package control

import (
	"context"
	"fmt"
	"iter"
	"math"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
)

// auditTurn is the table that each writer of a shared database locks first: the log has one end, and writers that met there
// would only have to start again.
const auditTurn = "audit_head"

// txn is a transaction that changes something, and says what in the audit log.
type txn struct {
	conn
	at      time.Time
	origin  audit.Origin
	head    audit.Head
	entries int    // recorded so far
	kinds   []kind // of what it has turned out to change, beside those that change was told
}

// record adds an entry to the log. Of e it takes Action, Tenant, Resource, Outcome and Detail. An Outcome is Done if none is named.
func (q *txn) record(e audit.Entry) error {
	e.At = q.at
	e.By(q.origin)
	if e.Outcome == "" {
		e.Outcome = audit.Done
	}
	return q.append(&e)
}

// append links an entry that is complete.
func (q *txn) append(e *audit.Entry) (err error) {
	if q.entries == 0 {
		if q.head, err = auditHead(q); err != nil {
			return err
		}
	}
	q.entries++
	q.head = e.Link(q.head)
	return q.Exec(`INSERT INTO audit (seq, at, principal_id, name, class, token_id, action, in_tenant, resource, outcome, intent, request_id,
		address, detail, prev, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.Seq, e.At, e.Principal, e.Name, e.Class, e.Token, e.Action, e.Tenant, e.Resource, e.Outcome, e.Intent, e.Request,
		e.Address, e.Detail, e.Prev, e.Hash)
}

// finish stores the log's new head.
func (q *txn) finish() error {
	if q.entries == 0 {
		panic("bug: a change without an entry in the audit log")
	}
	return q.Exec("UPDATE audit_head SET seq = ?, hash = ?", q.head.Seq, q.head.Hash)
}

func auditHead(q conn) (h audit.Head, err error) {
	err = find(q, "audit log", "SELECT seq, hash FROM audit_head", func(r row) {
		h.Seq = r.Int64(0)
		r.Copy(1, h.Hash[:])
	})
	return h, err
}

// maxAuditPending bounds the entries that wait to be written. Each takes some hundred bytes, and a push has one for each
// reference.
const maxAuditPending = 1_000_000

// auditQueue brings entries of many requests into one transaction.
type auditQueue struct {
	turn chan struct{} // of whoever writes

	mu      sync.Mutex
	pending []*auditJob // guarded by mu
	entries int         // of pending; guarded by mu
}

// auditJob is what one request has to say.
type auditJob struct {
	entries []audit.Entry
	done    chan struct{}
	err     error // once done is closed
}

// Audit adds entries to the audit log for what is done outside of this database. When it returns nil, they are on disk. Those
// who ask at the same time share a transaction. If ctx ends first, they may be in the log or not.
func (c *Control) Audit(ctx context.Context, entries ...audit.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	o, at := audit.From(ctx), c.timestamp()
	for i := range entries {
		entries[i].At = at
		entries[i].By(o)
	}
	j := &auditJob{entries: entries, done: make(chan struct{})}
	if err := c.audit.add(j); err != nil {
		return err
	}
	select {
	case <-j.done: // another caller took them along
	case <-ctx.Done():
		return ctx.Err()
	case c.audit.turn <- struct{}{}:
		for !isClosed(j.done) {
			c.writeAudit(context.WithoutCancel(ctx)) // others depend on it
		}
		<-c.audit.turn
	}
	return j.err
}

func isClosed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func (a *auditQueue) add(j *auditJob) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.entries+len(j.entries) > maxAuditPending {
		return fmt.Errorf("%d audit entries wait to be written already: %w", a.entries, errkind.Unavailable)
	}
	a.pending, a.entries = append(a.pending, j), a.entries+len(j.entries)
	return nil
}

func (a *auditQueue) take() []*auditJob {
	a.mu.Lock()
	defer a.mu.Unlock()
	jobs := a.pending
	a.pending, a.entries = nil, 0
	return jobs
}

// writeAudit writes all that is pending.
func (c *Control) writeAudit(ctx context.Context) {
	jobs := c.audit.take()
	err := c.change(ctx, func(q *txn) error {
		for _, j := range jobs {
			for i := range j.entries {
				e := j.entries[i] // a copy: this may run again
				if err := q.append(&e); err != nil {
					return err
				}
			}
		}
		return nil
	}, nil)
	if err != nil {
		err = fmt.Errorf("write audit log: %w", err)
	}
	for _, j := range jobs {
		j.err = err
		close(j.done)
	}
}

// AuditFilter narrows AuditLog. The zero one lets everything through.
type AuditFilter struct {
	Tenant    id.Tenant // and all below it
	Principal id.Principal
	Action    string // all of it, or with a star at the end: "token.*"
	Resource  string // likewise: "repo/acme/*"
	Request   string
	Since     time.Time // from then on
	Until     time.Time // before then
}

const auditColumns = `SELECT seq, at, principal_id, name, class, token_id, action, in_tenant, resource, outcome, intent, request_id,
	address, detail, prev, hash FROM audit `

func scanAudit(r row) audit.Entry {
	e := audit.Entry{
		Seq: r.Int64(0), At: r.Time(1), Principal: r.Text(2), Name: r.Text(3), Class: r.Text(4), Token: r.Text(5),
		Action: r.Text(6), Tenant: r.Text(7), Resource: r.Text(8), Outcome: audit.Outcome(r.Text(9)), Intent: r.Text(10),
		Request: r.Text(11), Address: r.Text(12), Detail: r.Text(13),
	}
	r.Copy(14, e.Prev[:])
	r.Copy(15, e.Hash[:])
	return e
}

// query is the filter as SQL. Parameters 1 and 2 are the cursor and the number.
func (f *AuditFilter) query() (text string, args []any) {
	text = auditColumns + "WHERE seq > ?1"
	and := func(condition string, arg any) {
		args = append(args, arg)
		text += fmt.Sprintf(" AND "+condition, len(args)+2)
	}
	prefix := func(column, s string) {
		if head, ok := cutStar(s); ok {
			and("substr("+column+", 1, length(?%[1]d)) = ?%[1]d", head)
		} else {
			and(column+" = ?%d", s)
		}
	}
	if f.Tenant != "" {
		and(`in_tenant IN (WITH RECURSIVE below (tenant_id) AS (
			SELECT tenant_id FROM tenant WHERE tenant_id = ?%d
			UNION ALL SELECT tenant.tenant_id FROM tenant JOIN below ON tenant.parent_id = below.tenant_id
		) SELECT tenant_id FROM below)`, f.Tenant)
	}
	if f.Principal != "" {
		and("principal_id = ?%d", f.Principal)
	}
	if f.Action != "" {
		prefix("action", f.Action)
	}
	if f.Resource != "" {
		prefix("resource", f.Resource)
	}
	if f.Request != "" {
		and("request_id = ?%d", f.Request)
	}
	if !f.Since.IsZero() {
		and("at >= ?%d", f.Since)
	}
	if !f.Until.IsZero() {
		and("at < ?%d", f.Until)
	}
	return text + " ORDER BY seq LIMIT ?2", args
}

func cutStar(s string) (head string, ok bool) {
	n := len(s) - 1
	return s[:max(n, 0)], n >= 0 && s[n] == '*'
}

// AuditLog lists entries from the oldest on, after a cursor (an entry's number, 0 at first), and says where the log ends.
func (c *Control) AuditLog(ctx context.Context, f AuditFilter, after int64, most int) (out []audit.Entry, head audit.Head, err error) {
	query, args := f.query()
	args = append([]any{after, page(most)}, args...)
	err = c.db.Read(ctx, func(q conn) error {
		out = nil
		if head, err = auditHead(q); err != nil {
			return err
		}
		for r, err := range q.Query(query, args...) {
			if err != nil {
				return err
			}
			out = append(out, scanAudit(r))
		}
		return nil
	})
	if err != nil {
		return nil, audit.Head{}, fmt.Errorf("read audit log: %w", err)
	}
	return out, head, nil
}

// AuditExport yields the entries that a filter lets through, up to the head that it returns. The log may grow meanwhile.
func (c *Control) AuditExport(ctx context.Context, f AuditFilter) (iter.Seq2[audit.Entry, error], audit.Head, error) {
	_, head, err := c.AuditLog(ctx, AuditFilter{}, math.MaxInt64, 1)
	if err != nil {
		return nil, head, err
	}
	return func(yield func(audit.Entry, error) bool) {
		for after := int64(0); ; {
			batch, _, err := c.AuditLog(ctx, f, after, maxPage)
			if err != nil {
				yield(audit.Entry{}, err)
				return
			}
			for _, e := range batch {
				if e.Seq > head.Seq || !yield(e, nil) {
					return
				}
				after = e.Seq
			}
			if len(batch) < maxPage {
				return
			}
		}
	}, head, nil
}

// VerifyAudit reads the whole log and checks it.
func (c *Control) VerifyAudit(ctx context.Context) (audit.Head, error) {
	entries, head, err := c.AuditExport(ctx, AuditFilter{})
	if err != nil {
		return head, err
	}
	return audit.Verify(entries, head)
}

// logHead writes down where the log ends.
func (c *Control) logHead(ctx context.Context) {
	_, head, err := c.AuditLog(ctx, AuditFilter{}, math.MaxInt64, 1)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.log.Warn("audit log cannot be read", "error", err)
	default:
		c.log.Info("audit log", "entries", head.Seq, "hash", head.Hash.String())
	}
}
