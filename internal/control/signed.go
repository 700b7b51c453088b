package control

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/jwt"
	"github.com/skep-dev/skep/internal/policy"
)

// A signed token (JWT) becomes a principal in these steps. Nothing that it says counts before its signature is found good, and
// whatever it says, it is good within the tenant of its issuer only.
//
//  1. Its iss, and its tenant claim if it has one, say which issuers may have signed it. Several tenants may name the same iss.
//  2. The first of them, in the order of their making, with a key that it is signed by has signed it. Keys that are at a URL are fetched
//     if nobody's fit, once in refetchAfter.
//  3. Its claims are checked: audience, times.
//  4. Its sub is a principal that was mapped, which must be there and a member of the tenant, or else a principal of its own, named
//     TENANT/ISSUER:SUB. Its role is the issuer's, or the member's own if that is less.
//  5. Its claims role, scope and repo make it less still.
//
// The result is remembered under the token's hash, as other tokens' are, and forgotten with them.
const (
	// maxCandidates bounds how many issuers with the same iss are tried. Who is first keeps the place, and a tenant claim
	// names one for certain.
	maxCandidates = 16
	// keysFresh is how long fetched keys are used before they are fetched again, beside the requests that use them.
	keysFresh = 10 * time.Minute
	// keysKept is how long they are used when that does not succeed.
	keysKept = 24 * time.Hour
	// refetchAfter bounds how often one issuer's keys are fetched: anybody may send tokens with keys that nobody knows.
	refetchAfter = 30 * time.Second
	// fetchTime bounds how long a request waits for keys.
	fetchTime = 5 * time.Second
	// maxFetching bounds the issuers whose last fetch is remembered, and those that wait for one.
	maxFetching = 1000
)

// trusted is an issuer with its keys, parsed.
type trusted struct {
	Issuer
	keys jwt.Keys
}

// issuersKey is what a token says of who signed it.
type issuersKey struct{ iss, tenant string }

// Signed finds the principal that a signed token speaks for.
func (c *Control) Signed(ctx context.Context, text string) (policy.Principal, error) {
	h := auth.HashSecret(text)
	cred, ok := c.cache.principals.get(h)
	if !ok {
		before := c.cache.principals.version()
		var err error
		if cred, err = c.verify(ctx, text); err != nil {
			return policy.Principal{}, err
		}
		cred.principal.Token = id.Token("jwt_" + hex.EncodeToString(h[:8])) // for the audit log
		c.cache.principals.put(h, cred, before)
	}
	if !c.now().Before(cred.expires) {
		return policy.Principal{}, auth.Refusal("this JWT is not valid: it has expired")
	}
	c.Used(string(cred.issuer), netip.Addr{}) // its tokens come from anywhere
	return c.bind(ctx, cred)
}

// bind limits a credential to the repository that its token names. A name is looked up each time: it may mean another one by now.
func (c *Control) bind(ctx context.Context, cred credential) (policy.Principal, error) {
	p := cred.principal
	if cred.repo == "" {
		return p, nil
	}
	if r, err := id.ParseRepo(cred.repo); err == nil {
		return c.bindTo(ctx, p, r)
	}
	i := strings.LastIndexByte(cred.repo, '/')
	if i < 0 {
		return policy.Principal{}, auth.Refusal("this JWT is not valid: its repo is not TENANT/NAME")
	}
	found, err := c.RepoByName(ctx, cred.repo[:i], cred.repo[i+1:])
	switch {
	case errkind.Of(err) == errkind.NotFound:
		p.Repo = noRepo // the same as one that it may not see
	case err != nil:
		return policy.Principal{}, err
	default:
		p.Repo, p.RepoTenant = found.ID, found.Tenant
	}
	return p, nil
}

// bindTo limits a principal to a repository by its identifier, whether it is there or not.
func (c *Control) bindTo(ctx context.Context, p policy.Principal, r id.Repo) (policy.Principal, error) {
	p.Repo = r
	found, err := c.Repo(ctx, r)
	if err != nil && errkind.Of(err) != errkind.NotFound {
		return policy.Principal{}, err
	}
	p.RepoTenant = found.Tenant
	return p, nil
}

// noRepo is no repository's identifier.
const noRepo id.Repo = "none"

func (c *Control) verify(ctx context.Context, text string) (credential, error) {
	token, err := jwt.Parse(text)
	if err != nil {
		return credential{}, fmt.Errorf("read JWT: %w", err)
	}
	key := issuersKey{token.Issuer, fold(token.Tenant)}
	list, err := c.issuersOf(ctx, key)
	if err != nil {
		return credential{}, err
	}
	now := c.now()
	refused := fmt.Errorf("no issuer's key fits the JWT: %w", errkind.Unauthorized)
	// try reports whether an issuer decides. One that refuses does not: another tenant may trust the same keys for another audience.
	try := func(i trusted) (cred credential, done bool, err error) {
		claims, proven, err := token.Verify(i.keys, i.Iss, i.Audience, now)
		if !proven {
			return cred, false, nil
		}
		if i.URL != "" && now.Sub(i.Fetched) > keysFresh {
			c.fetching.want(i.Issuer)
		}
		cred, err = c.speaker(ctx, i.Issuer, claims, err)
		if r, ok := errors.AsType[auth.Refusal](err); ok {
			refused = r
			return cred, false, nil
		}
		return cred, true, err
	}
	for _, i := range list {
		if i.URL != "" && now.Sub(i.Fetched) > keysKept {
			continue
		}
		if cred, done, err := try(i); done {
			return cred, err
		}
	}
	waiting, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	for _, i := range list {
		known := token.Fits(i.keys) && now.Sub(i.Fetched) <= keysKept
		if i.URL == "" || known {
			continue
		}
		fresh, err := c.fetched(waiting, key, i)
		if err != nil {
			c.log.WarnContext(ctx, "keys of an issuer cannot be fetched", "issuer", i.FullName(), "error", err)
			continue
		}
		if fresh.Fetched.Equal(i.Fetched) {
			continue
		}
		if cred, done, err := try(fresh); done {
			return cred, err
		}
	}
	return credential{}, refused
}

// fetched returns an issuer with keys that are newer, if there may be some: many agents come at once with the first tokens of a new
// key, and all of them wait for one fetch.
func (c *Control) fetched(ctx context.Context, k issuersKey, i trusted) (trusted, error) {
	f, mine := c.fetching.begin(i.ID, c.now())
	switch {
	case f == nil:
		return i, nil
	case mine:
		defer close(f.done)
		return c.refetch(ctx, i)
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return i, ctx.Err()
	}
	list, err := c.issuersOf(ctx, k)
	for _, now := range list {
		if now.ID == i.ID {
			return now, nil
		}
	}
	return i, err
}

// issuersOf finds those who may have signed a token.
func (c *Control) issuersOf(ctx context.Context, k issuersKey) (list []trusted, err error) {
	if list, ok := c.cache.issuers.get(k); ok {
		return list, nil
	}
	before := c.cache.issuers.version()
	query, args := issuerColumns+"WHERE iss = ?", []any{k.iss}
	if k.tenant != "" {
		query, args = query+" AND path_key = ?", append(args, k.tenant)
	}
	err = c.db.Read(ctx, func(q conn) error {
		list = nil
		for r, err := range q.Query(query+" ORDER BY issuer_id LIMIT ?", append(args, maxCandidates)...) {
			if err != nil {
				return err
			}
			i := trusted{Issuer: scanIssuer(r)}
			if i.keys, err = jwt.ParseKeys([]byte(i.Keys)); err != nil {
				return fmt.Errorf("keys of issuer %s: %s", i.FullName(), err.Error()) // they were checked when they were stored
			}
			list = append(list, i)
		}
		return nil
	})
	if errors.Is(err, errNoText) {
		return nil, nil // nobody is named so
	}
	if err == nil && len(list) > 0 {
		c.cache.issuers.put(k, list, before)
	}
	return list, err
}

// speaker finds out for whom an issuer has made a token, and what it may do at most. refused is what is wrong with its claims.
func (c *Control) speaker(ctx context.Context, i Issuer, claims jwt.Claims, refused error) (credential, error) {
	no := func(why string, args ...any) (credential, error) {
		return credential{}, auth.Refusal("this JWT is not valid: " + fmt.Sprintf(why, args...))
	}
	if refused != nil {
		return no("%s", strings.TrimSuffix(refused.Error(), ": "+errkind.Unauthorized.Error()))
	}
	p, mapped, err := c.subject(ctx, i, claims.Subject)
	if err != nil {
		return credential{}, err
	}
	role := i.Role
	switch {
	case !mapped && i.Listed:
		return no("its issuer speaks for mapped subjects only, and its sub is none")
	case !mapped && !subjectName(claims.Subject):
		return no("its sub is over %d bytes, or has something other than letters, digits and %s", maxSubject, subjectMarks)
	case !mapped:
		p = policy.Principal{ID: id.Principal(string(i.ID) + ":" + claims.Subject), Name: i.FullName() + ":" + claims.Subject, Class: policy.Pipeline}
	case !p.Roles[i.Tenant].Known():
		return no("%s is not a member of the tenant", p.Name)
	case role.Above(p.Roles[i.Tenant]):
		role = p.Roles[i.Tenant]
	}
	if want := policy.Role(claims.Role); want != "" {
		if !want.Known() || want.Above(role) {
			return no("its role is none that it may have: it may be %s at most", role)
		}
		role = want
	}
	p.Within, p.Roles = i.Tenant, map[id.Tenant]policy.Role{i.Tenant: role}
	p.Scope = policy.ScopeWrite
	if role == policy.Owner {
		p.Scope = policy.ScopeAdmin
	}
	if want := policy.Scope(claims.Scope); want != "" {
		if !want.Known() || want.Wider(p.Scope) {
			return no("its scope is none that it may have: it may be %s at most", p.Scope)
		}
		p.Scope = want
	}
	return credential{principal: p, expires: claims.Expires, repo: claims.Repo, issuer: i.ID}, nil
}

// SignedActor is the principal that a JWT of an issuer speaks for, by the name TENANT/ISSUER:SUB, with claims that limit nothing: for
// questions about somebody else, as Actor answers them. A JWT that would be refused is nobody's.
func (c *Control) SignedActor(ctx context.Context, name string) (policy.Principal, error) {
	full, sub, ok := strings.Cut(name, ":")
	i := strings.LastIndexByte(full, '/')
	if !ok || i < 0 {
		return policy.Principal{}, notFound("principal " + clip(name))
	}
	t, err := c.TenantByPath(ctx, full[:i])
	if err != nil {
		return policy.Principal{}, err
	}
	issuer, _, err := c.Issuer(ctx, t.ID, full[i+1:])
	if err != nil {
		return policy.Principal{}, err
	}
	cred, err := c.speaker(ctx, issuer, jwt.Claims{Subject: sub}, nil)
	if r, ok := errors.AsType[auth.Refusal](err); ok {
		return policy.Principal{}, fmt.Errorf("%s: %w", string(r), errkind.NotFound)
	}
	return cred.principal, err
}

const (
	maxSubject = 150
	// subjectMarks keep a name from looking like two, in logs, commits and policies.
	subjectMarks = "._-@+:/|=~"
)

// subjectName reports whether a sub can be part of a name.
func subjectName(s string) bool {
	if s == "" || len(s) > maxSubject {
		return false
	}
	for i := range len(s) {
		if !isNameByte(s[i]) && !strings.ContainsRune(subjectMarks, rune(s[i])) {
			return false
		}
	}
	return true
}

// subject finds the principal that a sub was mapped to, with what it is in the issuer's tenant and nowhere else: an issuer must
// not speak for what somebody is in a sponsor's.
func (c *Control) subject(ctx context.Context, i Issuer, subject string) (p policy.Principal, ok bool, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		p = policy.Principal{}
		gone := false
		ok, err = q.First(`SELECT principal_id, principal.name, class, home_id FROM issuer_subject LEFT JOIN principal USING (principal_id)
			WHERE tenant_id = ? AND issuer_id = ? AND subject = ?`, func(r row) {
			gone = r.IsNull(1)
			p.ID, p.Name, p.Class = id.Principal(r.Text(0)), r.Text(1), policy.Class(r.Text(2))
			p.Home = id.Tenant(r.Text(3))
		}, i.Tenant, i.ID, subject)
		if err != nil || !ok {
			return err
		}
		if gone {
			return auth.Refusal("this JWT is not valid: its sub means a principal who has been deleted: map it to another, or unmap it")
		}
		if err := loadBelonging(q, &p); err != nil {
			return err
		}
		p.Groups = map[id.Tenant][]string{i.Tenant: p.Groups[i.Tenant]}
		return nil
	})
	if errors.Is(err, errNoText) {
		return policy.Principal{}, false, nil
	}
	return p, ok, err
}

// fetch gets a set of keys from where a tenant says that it is.
func (c *Control) fetch(ctx context.Context, url string) (string, error) {
	if c.fetchKeys == nil {
		return "", fmt.Errorf("keys cannot be fetched here: send them: %w", errkind.Unsupported)
	}
	text, err := c.fetchKeys(ctx, url)
	if err != nil {
		return "", fmt.Errorf("fetch keys: %w", err)
	}
	return string(text), nil
}

// refetch fetches an issuer's keys and stores them. What other nodes remember they forget only if the keys are others.
func (c *Control) refetch(ctx context.Context, i trusted) (trusted, error) {
	text, err := c.fetch(ctx, i.URL)
	if err != nil {
		return i, err
	}
	old := i.keys
	if i.keys, err = jwt.ParseKeys([]byte(text)); err != nil {
		return i, err
	}
	i.Fetched = c.timestamp()
	if !i.keys.Equal(old) {
		return i, c.storeKeys(ctx, i.Issuer, text)
	}
	defer c.cache.issuers.clear() // they know when it was fetched
	return i, c.db.Write(ctx, func(q conn) error {
		return q.Exec("UPDATE issuer SET fetched = ? WHERE tenant_id = ? AND issuer_id = ?", i.Fetched, i.Tenant, i.ID)
	})
}

// fetching remembers when issuers' keys were fetched last, and whose are to be fetched by Run.
type fetching struct {
	wanted chan Issuer

	mu   sync.Mutex
	last map[id.Issuer]*fetch // guarded by mu
}

// fetch is the last time that an issuer's keys were fetched.
type fetch struct {
	at   time.Time
	done chan struct{} // closed when it is over
}

func (f *fetching) init() {
	f.wanted, f.last = make(chan Issuer, 16), map[id.Issuer]*fetch{}
}

// begin returns an issuer's last fetch, if that began a moment ago, or a new one, which is then the caller's to do. nil: too many
// issuers have had one a moment ago.
func (f *fetching) begin(i id.Issuer, now time.Time) (last *fetch, mine bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last = f.last[i]; last != nil && now.Sub(last.at) < refetchAfter {
		return last, false
	}
	if len(f.last) >= maxFetching {
		for k, one := range f.last {
			if now.Sub(one.at) >= refetchAfter {
				delete(f.last, k)
			}
		}
	}
	if len(f.last) >= maxFetching {
		return nil, false
	}
	last = &fetch{at: now, done: make(chan struct{})}
	f.last[i] = last
	return last, true
}

// want lets Run fetch keys, unless it has enough to do.
func (f *fetching) want(i Issuer) {
	select {
	case f.wanted <- i:
	default:
	}
}

// runFetches fetches the keys that requests wanted, until ctx ends.
func (c *Control) runFetches(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case i := <-c.fetching.wanted:
			f, mine := c.fetching.begin(i.ID, c.now())
			if !mine {
				continue
			}
			keys, err := jwt.ParseKeys([]byte(i.Keys))
			if err == nil {
				_, err = c.refetch(ctx, trusted{i, keys})
			}
			close(f.done)
			if err != nil && ctx.Err() == nil {
				c.log.WarnContext(ctx, "keys of an issuer cannot be fetched: the old ones count for a day", "issuer", i.FullName(), "error", err)
			}
		}
	}
}
