package control

import (
	"sync"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// How many of each are remembered: what is hot, not all there is. A repository takes about 300 bytes, a principal with
// few roles about 500.
const (
	maxCachedRepos      = 50_000
	maxCachedPrincipals = 10_000
	maxCachedIssuers    = 1_000 // lists of those with the same iss; each issuer takes a few times its keys, mostly some KiB
	maxCachedStandings  = 10_000
	maxCachedShares     = 1_000
	maxCachedDocuments  = 1_000 // a parsed one takes a few times its text, mostly some KiB
)

// caches hold what requests look up. Only what exists is in them, so that making something needs no care.
//
// The rule for writers: first commit, then drop what the commit changed, then return. The rule for readers: take the
// version, then read the database, then put; put refuses if anything was dropped since, because what was read may be
// older than that.
type caches struct {
	repos      recent[id.Repo, Repo]
	names      recent[pathKey, id.Repo] // hints: repoByPath checks them
	principals recent[auth.Hash, credential]
	issuers    recent[issuersKey, []trusted]
	standings  recent[id.Tenant, Standing]
	shares     recent[id.Repo, []Share]              // of the repositories that have some
	documents  recent[documentKey, *policy.Document] // nothing of it ever changes
}

// pathKey is the keys (fold) of a repository's tenant path and name.
type pathKey struct{ tenant, name string }

func (c *caches) init(g *gate) {
	c.repos.init(maxCachedRepos, g)
	c.names.init(maxCachedRepos, g)
	c.principals.init(maxCachedPrincipals, g)
	c.issuers.init(maxCachedIssuers, g)
	c.standings.init(maxCachedStandings, g)
	c.shares.init(maxCachedShares, g)
	c.documents.init(maxCachedDocuments, nil)
}

// repoByPath finds a repository in memory. A name may lead to a repository that has another name by now; then it is as
// if it were not there.
func (c *caches) repoByPath(k pathKey) (Repo, bool) {
	i, ok := c.names.get(k)
	if !ok {
		return Repo{}, false
	}
	r, ok := c.repos.get(i)
	return r, ok && fold(r.Name) == k.name && fold(r.TenantPath) == k.tenant
}

// dropTenants forgets what knows tenants' paths, or that there are some.
func (c *caches) dropTenants() {
	c.standings.clear()
	c.dropIssuers() // and principals, who know their roles in it
	c.dropRepos()   // they know its path
}

// dropIssuers comes to principals last: some of them come from what is remembered of issuers.
func (c *caches) dropIssuers() {
	c.issuers.clear()
	c.principals.clear()
}

func (c *caches) dropRepo(r id.Repo) {
	c.repos.drop(r) // names only lead there
	c.shares.drop(r)
}

func (c *caches) dropRepos() {
	c.repos.clear()
	c.shares.clear()
}

// forget drops all of a kind: what another node has changed of it is not known.
func (c *caches) forget(k kind) {
	switch k {
	case lineageKind:
		c.standings.clear()
	case principalKind:
		c.dropIssuers()
	case repoKind:
		c.dropRepos()
	}
}

// recent remembers at least the half of most keys that were used last, and at most most. It keeps two halves: what is
// used moves to the young one, and when that is full, it becomes the old one and what was old is forgotten.
type recent[K comparable, V any] struct {
	gate *gate // nil: always open
	half int

	mu         sync.RWMutex
	drops      uint64 // counts drop and clear; guarded by mu
	young, old map[K]V
}

func (r *recent[K, V]) init(most int, g *gate) {
	r.gate, r.half = g, max(most/2, 1)
	r.young, r.old = map[K]V{}, nil
}

// get finds nothing while the gate is shut.
func (r *recent[K, V]) get(k K) (V, bool) {
	if !r.gate.isOpen() {
		var none V
		return none, false
	}
	r.mu.RLock()
	v, ok := r.young[k]
	if ok {
		r.mu.RUnlock()
		return v, true
	}
	v, ok = r.old[k]
	drops := r.drops
	r.mu.RUnlock()
	if ok {
		r.put(k, v, drops)
	}
	return v, ok
}

// version is to be taken before the database is read for put.
func (r *recent[K, V]) version() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.drops
}

func (r *recent[K, V]) put(k K, v V, version uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.drops != version {
		return
	}
	if len(r.young) >= r.half {
		r.young, r.old = make(map[K]V, r.half/4), r.young
	}
	r.young[k] = v
}

func (r *recent[K, V]) drop(k K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drops++
	delete(r.young, k)
	delete(r.old, k)
}

func (r *recent[K, V]) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drops++
	r.young, r.old = map[K]V{}, nil
}
