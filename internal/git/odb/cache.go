package odb

import (
	"sync"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

const (
	// cacheShards is how many locks a cache has, so that requests on many cores seldom wait for each other.
	cacheShards = 8
	// cacheShare says that an object of more than 1/16 of a cache is not kept: it would push out too many others.
	cacheShare = 16
	// cacheOverhead is about what an entry costs besides its data: the map's slot, the entry, allocation rounding.
	cacheOverhead = 160
)

// Cache keeps inflated objects of many stores, bounded by bytes: the least recently used goes first. It is a
// pack.BaseCache, and safe for concurrent use. An object of a pack that nobody has open any more (and with it the pack)
// goes when newer objects need the room.
type Cache struct {
	most   int64 // bytes of one object that is kept
	shards [cacheShards]cacheShard
}

type cacheKey struct {
	pack *pack.Pack
	at   pack.Pos
}

type cacheShard struct {
	limit int64

	mu      sync.Mutex
	entries map[cacheKey]*cacheEntry // guarded by mu
	ring    cacheEntry               // guarded by mu: ring.next is the most recently used
	used    int64                    // guarded by mu
}

type cacheEntry struct {
	key        cacheKey
	obj        git.Object
	next, prev *cacheEntry
}

// NewCache makes a cache of at most limit bytes.
func NewCache(limit int64) *Cache {
	c := &Cache{most: limit / cacheShare}
	for i := range c.shards {
		sh := &c.shards[i]
		sh.limit = limit / cacheShards
		sh.entries = map[cacheKey]*cacheEntry{}
		sh.ring.next, sh.ring.prev = &sh.ring, &sh.ring
	}
	return c
}

// Get returns an object that is kept. The caller does not change its data.
func (c *Cache) Get(p *pack.Pack, at pack.Pos) (git.Object, bool) {
	sh := c.shard(at)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e, ok := sh.entries[cacheKey{p, at}]
	if !ok {
		return git.Object{}, false
	}
	e.unlink()
	sh.pushFront(e)
	return e.obj, true
}

// Put keeps an object, unless it is too big. The caller gives up the right to change its data.
func (c *Cache) Put(p *pack.Pack, at pack.Pos, o git.Object) {
	e := &cacheEntry{key: cacheKey{p, at}, obj: o}
	if e.cost() > c.most {
		return
	}
	sh := c.shard(at)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if old, ok := sh.entries[e.key]; ok {
		old.unlink()
		sh.pushFront(old)
		return
	}
	sh.entries[e.key] = e
	sh.pushFront(e)
	sh.used += e.cost()
	for sh.used > sh.limit {
		last := sh.ring.prev
		last.unlink()
		delete(sh.entries, last.key)
		sh.used -= last.cost()
	}
}

// Bytes returns what the cache holds now, for metrics.
func (c *Cache) Bytes() (n int64) {
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		n += sh.used
		sh.mu.Unlock()
	}
	return n
}

// shard spreads neighbours in a pack, which are often read one after the other, over all locks.
func (c *Cache) shard(at pack.Pos) *cacheShard { return &c.shards[at%cacheShards] }

func (sh *cacheShard) pushFront(e *cacheEntry) {
	e.prev, e.next = &sh.ring, sh.ring.next
	e.next.prev, sh.ring.next = e, e
}

func (e *cacheEntry) unlink() { e.prev.next, e.next.prev = e.next, e.prev }

func (e *cacheEntry) cost() int64 { return int64(cap(e.obj.Data)) + cacheOverhead }
