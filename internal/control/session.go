package control

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// Session is somebody logged in with a browser.
type Session struct {
	ID        id.Session
	Principal id.Principal
	Address   string // from which it was begun
	Agent     string // the browser's own words
	Created   time.Time
	Used      time.Time // to within sessionTouch
	Expires   time.Time // if it is used until then
}

// How long sessions live. A working day passes without a new login, and a forgotten browser is out after a day; after a week
// everybody logs in again, so that who has left at the provider is out here too.
const (
	sessionIdle = 24 * time.Hour
	SessionLife = 7 * 24 * time.Hour
	// sessionRotation is after what time a session gets another secret: what was stolen is of no use for longer, or else is noticed,
	// since the thief or the owner is thrown out.
	sessionRotation = time.Hour
	// sessionGrace is how long the secret before is good for requests that were under way.
	sessionGrace = time.Minute
	// sessionTouch is how exact the time of last use is: each use of a session being a write would be many.
	sessionTouch = 5 * time.Minute
	// maxSessions is how many a principal may have. The one that was used longest ago makes room for a new one.
	maxSessions = 50
	// maxAgent bounds what is kept of a browser's words.
	maxAgent = 200
)

// CreateSession begins a session and returns its secret. Of s it takes Principal, Address and Agent.
func (c *Control) CreateSession(ctx context.Context, s Session) (Session, string, error) {
	s.ID, s.Created = id.NewSession(), c.timestamp()
	s.Used, s.Expires = s.Created, s.Created.Add(SessionLife)
	s.Agent = noteText(s.Agent, maxAgent)
	var secret string
	evicted := false
	err := c.change(ctx, func(q *txn) error {
		who, err := principalByID(q, s.Principal)
		if err != nil {
			return err
		}
		q.as(who)
		if err := recordSession(q, "session.begin", who, s); err != nil {
			return err
		}
		if err := q.Exec("DELETE FROM session WHERE principal_id = ? AND (expires <= ? OR used <= ?)", s.Principal, s.Created, s.Created.Add(-sessionIdle)); err != nil {
			return err
		}
		if err := q.Exec(`DELETE FROM session WHERE session_id IN
			(SELECT session_id FROM session WHERE principal_id = ? ORDER BY used DESC, session_id DESC LIMIT ? OFFSET ?)`,
			s.Principal, maxSessions, maxSessions-1); err != nil {
			return err
		}
		// Only what was pushed out could still be let in from memory: a login must not cost everybody theirs.
		if evicted = q.Changes() > 0; evicted {
			q.kinds = append(q.kinds, principalKind)
		}
		var hash auth.Hash
		secret, hash = auth.NewSessionSecret()
		return q.Exec(`INSERT INTO session (session_id, hash, principal_id, address, agent, created, rotated, used, expires)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, s.ID, hash, s.Principal, s.Address, s.Agent, s.Created, s.Created, s.Used, s.Expires)
	}, func() {
		if evicted {
			c.cache.principals.clear()
		}
	})
	if err != nil {
		return Session{}, "", fmt.Errorf("begin session: %w", err)
	}
	return s, secret, nil
}

const sessionColumns = "SELECT session_id, principal_id, address, agent, created, used, expires FROM session "

func scanSession(r row) Session {
	return Session{
		ID: id.Session(r.Text(0)), Principal: id.Principal(r.Text(1)), Address: r.Text(2), Agent: r.Text(3),
		Created: r.Time(4), Used: r.Time(5), Expires: r.Time(6),
	}
}

// SessionByID finds a session, also one that is over.
func (c *Control) SessionByID(ctx context.Context, s id.Session) (out Session, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		return find(q, "session "+clip(string(s)), sessionColumns+"WHERE session_id = ?", func(r row) { out = scanSession(r) }, s)
	})
	return out, err
}

// Sessions lists a principal's sessions that are not over, by ID, after a cursor (an ID, "" at first).
func (c *Control) Sessions(ctx context.Context, p id.Principal, after id.Session, most int) (out []Session, err error) {
	now := c.timestamp()
	err = c.db.Read(ctx, func(q conn) error {
		for r, err := range q.Query(sessionColumns+"WHERE principal_id = ? AND session_id > ? AND expires > ? AND used > ? ORDER BY session_id LIMIT ?",
			p, after, now, now.Add(-sessionIdle), page(most)) {
			if err != nil {
				return err
			}
			out = append(out, scanSession(r))
		}
		return nil
	})
	return out, err
}

func recordSession(q *txn, action string, who Principal, s Session) error {
	return q.record(audit.Entry{Action: action, Resource: "session/" + string(s.ID), Detail: fmt.Sprintf("of %s, from %s, %q", who.Name, s.Address, s.Agent)})
}

// RevokeSession ends a session. Once it returns, its secrets are refused.
func (c *Control) RevokeSession(ctx context.Context, s id.Session) error {
	err := c.change(ctx, func(q *txn) error {
		var found Session
		if err := find(q, "session "+clip(string(s)), sessionColumns+"WHERE session_id = ?", func(r row) { found = scanSession(r) }, s); err != nil {
			return err
		}
		who, err := principalByID(q, found.Principal)
		if err != nil {
			return err
		}
		if err := recordSession(q, "session.end", who, found); err != nil {
			return err
		}
		return q.Exec("DELETE FROM session WHERE session_id = ?", s)
	}, c.cache.principals.clear, principalKind)
	if err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// sessionTimes are what a credential that is a session's has besides.
type sessionTimes struct {
	used, rotated time.Time
	old           bool // the secret is the one before
}

// over reports whether a session's secret is not good any more.
func (s sessionTimes) over(now time.Time) bool {
	return now.Sub(s.used) >= sessionIdle || s.old && now.Sub(s.rotated) >= sessionGrace
}

// due reports whether the secret must change.
func (s sessionTimes) due(now time.Time) bool { return !s.old && now.Sub(s.rotated) >= sessionRotation }

// SessionPrincipal finds the principal behind a session's secret, with its memberships. next, if not empty, is the secret that
// the browser must use from now on.
func (c *Control) SessionPrincipal(ctx context.Context, h auth.Hash) (p policy.Principal, next string, err error) {
	now := c.timestamp()
	cred, ok := c.cache.principals.get(h)
	// What is over or due by what is remembered, another node may have used or rotated since.
	if !ok || cred.session.over(now) || cred.session.due(now) {
		before := c.cache.principals.version()
		if err := c.db.Read(ctx, func(q conn) (err error) {
			cred, err = loadSession(q, h)
			return err
		}); err != nil {
			return policy.Principal{}, "", err
		}
		c.cache.principals.put(h, cred, before)
	}
	switch s := cred.session; {
	case cred.principal.Session == "":
		return policy.Principal{}, "", errNoSession
	case !now.Before(cred.expires) || s.over(now):
		return policy.Principal{}, "", fmt.Errorf("session is over: %w", errkind.Unauthorized)
	case s.due(now):
		next, err = c.rotateSession(ctx, h, now)
	case now.Sub(s.used) >= sessionTouch:
		err = c.touchSession(ctx, h, cred.principal.Session, now)
	}
	return cred.principal, next, err
}

var errNoSession = fmt.Errorf("session is not known: %w", errkind.Unauthorized)

func loadSession(q conn, h auth.Hash) (cred credential, err error) {
	const query = `SELECT principal_id, admin, expires, session_id, principal.name, class, home_id, used, rotated FROM session JOIN principal USING (principal_id) WHERE `
	p := &cred.principal
	scan := func(r row) {
		p.ID, p.Admin, p.Scope = id.Principal(r.Text(0)), r.Bool(1), policy.ScopeAdmin
		cred.expires, p.Session = r.Time(2), id.Session(r.Text(3))
		p.Name, p.Class, p.Home = r.Text(4), policy.Class(r.Text(5)), id.Tenant(r.Text(6))
		cred.session.used, cred.session.rotated = r.Time(7), r.Time(8)
	}
	ok, err := q.First(query+"hash = ?", scan, h)
	if err == nil && !ok {
		cred.session.old = true
		ok, err = q.First(query+"old_hash = ?", scan, h)
	}
	if err != nil {
		return credential{}, err
	}
	if !ok {
		return credential{}, errNoSession
	}
	return cred, loadBelonging(q, p)
}

// rotateSession gives a session another secret. Of several requests with the same one, the first does it, and the others go on with
// the one that they have. Nodes that remember the session find out by themselves that it is due.
func (c *Control) rotateSession(ctx context.Context, h auth.Hash, now time.Time) (next string, err error) {
	defer c.cache.principals.drop(h)
	err = c.db.Write(ctx, func(q conn) error {
		secret, hash := auth.NewSessionSecret()
		if err := q.Exec("UPDATE session SET hash = ?, old_hash = ?, rotated = ?, used = ? WHERE hash = ?", hash, h, now, now, h); err != nil {
			return err
		}
		if next = ""; q.Changes() > 0 {
			next = secret
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("rotate session: %w", err)
	}
	return next, nil
}

// touchSession notes that a session is used. No other node needs to hear of it.
func (c *Control) touchSession(ctx context.Context, h auth.Hash, s id.Session, now time.Time) error {
	defer c.cache.principals.drop(h)
	err := c.db.Write(ctx, func(q conn) error {
		return q.Exec("UPDATE session SET used = ? WHERE session_id = ? AND used < ?", now, s, now)
	})
	if err != nil {
		return fmt.Errorf("note use of session: %w", err)
	}
	return nil
}
