// Package control keeps what a server knows besides the content of repositories: tenants, principals, credentials, policies, secrets,
// use and the audit log.
//
// It knows that a repository exists, where, and for whom; what is in it is its cell's. Names and roles are here, decisions
// are not: package policy takes them from what Standing, Principal and Repo return.
//
// Whatever somebody changes goes through change, which wants an entry in the audit log and lets all nodes forget what they remember
// of it. What the server notes by itself does not: use, last uses, the rotation of sessions, answers to be repeated.
//
// Names keep the case in which they were given, and differ by more than case: acme/Web and acme/web are one repository,
// found by either. A child tenant and a repository of one tenant do not share a name, as their paths would be the same.
//
// What each Git request needs (RepoByName, Principal, Standing) is remembered, within limits, and forgotten when it
// changes. The database is a SQLite file, which one process owns, or on PostgreSQL, where several nodes may share it: then
// what one changes counts on the others within a second.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/secret"
)

// maxPage bounds a page of a list, so that no answer is built without a limit.
const maxPage = 1000

// What the first start makes.
const (
	firstTenant    = "default"
	firstPrincipal = "admin"
	firstToken     = "first start"
)

// Control is the control plane's database. It satisfies auth.Tokens and is safe for concurrent use.
type Control struct {
	db    database
	pulse database // for Run, of a database that other nodes may use; else nil
	now   func() time.Time
	log   *slog.Logger
	keys  *secret.Ring // nil: there are no secrets

	cache caches
	gate  *gate // of the cache; nil where this process owns the database

	audit auditQueue

	fetchKeys func(ctx context.Context, url string) ([]byte, error)
	fetching  fetching
	uses      uses

	makingMu sync.Mutex
	making   map[repoKey]bool // repositories that CreateRepo is at; guarded by makingMu
}

// Options are the settings of Open. The zero Options works.
type Options struct {
	// MustExist refuses a database that is not there, or that no node has been started on: errkind.NotFound.
	MustExist bool
	// KeepFirst, if not nil, is handed the first secret before the transaction that makes its token is committed, and stores it:
	// so that there is no moment in which the secret of a token that exists can get lost. It may be called in vain, when the
	// commit then fails, or when another node comes first: Open returns no secret then.
	KeepFirst func(secret string) error
	// FetchKeys gets the document at a URL that a tenant names. nil: issuers' keys must be sent.
	FetchKeys func(ctx context.Context, url string) ([]byte, error)
	// Observe is told how long each transaction took, and what became of it. nil: nobody is.
	Observe func(write bool, took time.Duration, err error)
	// Keys, if not nil, gives the master keys of secrets. If there are secrets already, inUse, it finds those and makes none. A
	// key that is missing is an error of Open: errkind.Unavailable.
	Keys func(inUse bool) (*secret.Ring, error)
	// DiscardLost deletes secrets whose master key Keys does not give, instead of failing.
	DiscardLost bool
	// Log hears when the database does not answer Run. nil: nobody does.
	Log *slog.Logger
}

// Open opens the database at where: a SQLite file's path, which it makes if need be, or a postgres:// address. The first
// time it makes tenant "default" and principal "admin" with an admin token, whose secret comes back; later secret is empty.
func Open(ctx context.Context, where string, opts Options) (c *Control, firstSecret string, err error) {
	db, pulse, err := openDatabase(ctx, where, opts.MustExist)
	if err != nil {
		return nil, "", fmt.Errorf("open control plane: %w", err)
	}
	if opts.Observe != nil {
		db = observed{db, opts.Observe}
	}
	c = &Control{db: db, pulse: pulse, now: time.Now, log: opts.Log, making: map[repoKey]bool{}}
	c.fetchKeys = opts.FetchKeys
	c.fetching.init()
	c.uses.init()
	c.audit.turn = make(chan struct{}, 1)
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if pulse != nil {
		c.gate = &gate{}
	}
	c.cache.init(c.gate)
	if opts.Keys != nil {
		if err := c.openKeys(ctx, opts.Keys, opts.DiscardLost); err != nil {
			return nil, "", errors.Join(fmt.Errorf("open control plane: %w", err), c.Close())
		}
	}
	if firstSecret, err = c.firstStart(ctx, opts.KeepFirst); err != nil {
		return nil, "", errors.Join(fmt.Errorf("set up control plane: %w", err), c.Close())
	}
	return c, firstSecret, nil
}

// Close ends all use of the database. It is called once, after Run has returned.
func (c *Control) Close() error {
	if c.pulse == nil {
		return c.db.Close()
	}
	return errors.Join(c.pulse.Close(), c.db.Close())
}

// firstStart makes what a server needs before anybody can call it. A database without principals is new: the last admin
// cannot be deleted.
func (c *Control) firstStart(ctx context.Context, keep func(string) error) (secret string, err error) {
	isNew := func(q conn) error {
		old, err := exists(q, "SELECT 1 FROM principal LIMIT 1")
		if err == nil && old {
			err = errStarted
		}
		return err
	}
	if err := c.db.Read(ctx, isNew); errors.Is(err, errStarted) {
		return "", nil
	}
	err = c.change(ctx, func(q *txn) error {
		if err := isNew(q); err != nil { // again: another node may be first
			return err
		}
		now := c.timestamp()
		if err := makeTenant(q, Tenant{ID: id.NewTenant(), Path: firstTenant, Created: now}); err != nil {
			return err
		}
		admin := Principal{ID: id.NewPrincipal(), Name: firstPrincipal, Admin: true, Class: policy.Human, Created: now}
		if err := makePrincipal(q, admin); err != nil {
			return err
		}
		_, secret, err = makeToken(q, Token{
			ID: id.NewToken(), Principal: admin.ID, Name: firstToken, Scope: policy.ScopeAdmin, Created: now,
		})
		if err != nil || keep == nil {
			return err
		}
		return keep(secret)
	}, nil)
	switch {
	case errors.Is(err, errStarted):
		return "", nil
	case err != nil:
		return "", err
	}
	return secret, nil
}

// errStarted is of a database on which a node has been started before.
var errStarted = errors.New("not the first start")

// timestamp is now as the database keeps it, so that what was just made equals what is read later.
func (c *Control) timestamp() time.Time { return c.now().UTC().Truncate(time.Microsecond) }

// page keeps a caller's wish within maxPage.
func page(most int) int { return min(max(most, 1), maxPage) }
