package control

import (
	"context"
	"errors"
	"time"

	"github.com/skep-dev/skep/internal/audit"
)

// SetClock replaces time.Now.
func (c *Control) SetClock(now func() time.Time) { c.now = now }

// DB is for looking behind the API.
func (c *Control) DB() Database { return c.db }

// Types of the database.
type (
	Database = database
	Conn     = conn
	Row      = row
)

// Remembers reports whether the caches are used.
func (c *Control) Remembers() bool { return c.gate.isOpen() }

// Forget empties the caches.
func (c *Control) Forget() {
	c.cache.init(c.gate)
}

// Limits that tests reach.
const (
	MaxPage        = maxPage
	MaxTenantDepth = maxTenantDepth
	ExpiredKept    = expiredKept
	MaxStale       = maxStale
	MaxTokenDepth  = maxTokenDepth
	MaxUses        = maxUses

	SessionIdle     = sessionIdle
	SessionRotation = sessionRotation
	SessionGrace    = sessionGrace
	MaxSessions     = maxSessions
	MaxSSHKeys      = maxSSHKeys
)

// Limits of secrets and of replies.
const (
	MaxSecrets      = maxSecrets
	RewrapBatch     = rewrapBatch
	MaxReplies      = maxReplies
	MaxRepliesOfOne = maxRepliesOfOne
	ForgetReplies   = forgetReplies
)

// PendingUses counts the last uses that wait to be written.
func (c *Control) PendingUses() int { return len(c.uses.pending) }

// WriteUses writes them.
func (c *Control) WriteUses(ctx context.Context) { c.writeUses(ctx) }

// Recent is the cache type, for its own test.
type Recent = recent[int, int]

// NewRecent makes a cache of at most most keys.
func NewRecent(most int) *Recent {
	r := &Recent{}
	r.init(most, nil)
	return r
}

// Exported methods of Recent.
func (r *recent[K, V]) Get(k K) (V, bool)        { return r.get(k) }
func (r *recent[K, V]) Put(k K, v V, ver uint64) { r.put(k, v, ver) }
func (r *recent[K, V]) Drop(k K)                 { r.drop(k) }
func (r *recent[K, V]) Clear()                   { r.clear() }
func (r *recent[K, V]) Version() uint64          { return r.version() }
func (r *recent[K, V]) Len() int                 { return len(r.young) + len(r.old) }

// Steps are the migrations of "sqlite" or "postgres".
var Steps = steps

// VerifyAuditAfter is VerifyAudit of a log that somebody has damaged. The damage is undone.
func (c *Control) VerifyAuditAfter(ctx context.Context, damage string) error {
	var verdict error
	undo := errors.New("undo")
	err := c.db.Write(ctx, func(q conn) error {
		if err := q.Exec(damage); err != nil {
			return err
		}
		h, err := auditHead(q)
		if err != nil {
			return err
		}
		_, verdict = audit.Verify(func(yield func(audit.Entry, error) bool) {
			for r, err := range q.Query(auditColumns + "ORDER BY seq") {
				if err != nil {
					yield(audit.Entry{}, err)
					return
				}
				if !yield(scanAudit(r), nil) {
					return
				}
			}
		}, h)
		return undo
	})
	if !errors.Is(err, undo) {
		return err
	}
	return verdict
}

// OpenSecret decrypts a version of a secret.
func (c *Control) OpenSecret(ctx context.Context, o SecretOwner, name string, version int64) ([]byte, error) {
	return c.openSecret(ctx, secretRow{o, name, version})
}

// ReplaceSome is one step of ReplaceKeys.
func (c *Control) ReplaceSome(ctx context.Context) (int, error) { return c.replaceSome(ctx) }
