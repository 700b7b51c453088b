// Package control keeps tenants, members, repositories, principals and tokens.
//
// It knows that a repository exists, where, and for whom; what is in it is its cell's. Names and roles are here, decisions
// are not: package policy takes them from what Lineage, Principal and Repo return.
//
// Names keep the case in which they were given, and differ by more than case: acme/Web and acme/web are one repository,
// found by either. A child tenant and a repository of one tenant do not share a name, as their paths would be the same.
//
// What each Git request needs (RepoByName, Principal, Lineage) is remembered, within limits, and forgotten when it
// changes. One process owns the database.
package control

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// readers is how many look-ups run at a time. They are short, and nearly all are answered from memory.
	readers = 4
	// cacheKiB is each connection's page cache: the upper levels of the indexes of a million repositories.
	cacheKiB = 4096
	// maxPage bounds a page of a list, so that no answer is built without a limit.
	maxPage = 1000
)

// What the first start makes.
const (
	firstTenant    = "default"
	firstPrincipal = "admin"
	firstToken     = "first start"
)

// Control is the control plane's database. It satisfies auth.Tokens and is safe for concurrent use.
type Control struct {
	db  *sqlite.DB
	now func() time.Time

	cache caches

	makingMu sync.Mutex
	making   map[repoKey]bool // repositories that CreateRepo is at; guarded by makingMu
}

// Open opens or makes the database at path. The first time it makes tenant "default" and principal "admin" with an admin
// token, whose secret comes back; later secret is empty.
func Open(ctx context.Context, path string) (c *Control, firstSecret string, err error) {
	scripts, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic("bug: " + err.Error())
	}
	db, err := sqlite.Open(ctx, path, scripts, sqlite.Options{Readers: readers, CacheKiB: cacheKiB})
	if err != nil {
		return nil, "", fmt.Errorf("open control plane: %w", err)
	}
	c = &Control{db: db, now: time.Now, making: map[repoKey]bool{}}
	c.cache.init()
	if firstSecret, err = c.firstStart(ctx); err != nil {
		return nil, "", errors.Join(fmt.Errorf("set up control plane: %w", err), db.Close())
	}
	return c, firstSecret, nil
}

// Close ends all use of the database.
func (c *Control) Close() error { return c.db.Close() }

// firstStart makes what a server needs before anybody can call it. A database without principals is new: the last admin
// cannot be deleted.
func (c *Control) firstStart(ctx context.Context) (secret string, err error) {
	err = c.db.Write(ctx, func(q *sqlite.Conn) error {
		old, err := q.First("SELECT 1 FROM principal LIMIT 1", func(*sqlite.Row) {})
		if err != nil || old {
			return err
		}
		now := c.timestamp()
		if err := insertTenant(q, Tenant{ID: id.NewTenant(), Path: firstTenant, Created: now}); err != nil {
			return err
		}
		admin := Principal{ID: id.NewPrincipal(), Name: firstPrincipal, Admin: true, Created: now}
		if err := insertPrincipal(q, admin); err != nil {
			return err
		}
		_, secret, err = insertToken(q, Token{
			ID: id.NewToken(), Principal: admin.ID, Name: firstToken, Scope: policy.ScopeAdmin, Created: now,
		})
		return err
	})
	return secret, err
}

// timestamp is now as the database keeps it, so that what was just made equals what is read later.
func (c *Control) timestamp() time.Time { return c.now().UTC().Truncate(time.Microsecond) }

// page keeps a caller's wish within maxPage.
func page(most int) int { return min(max(most, 1), maxPage) }

func notFound(what string) error { return fmt.Errorf("find %s: %w", what, errkind.NotFound) }
