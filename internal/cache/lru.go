package cache

import (
	"container/list"
	"context"
	"errors"
	"sync"
)

// LRU keeps values, bounded by the bytes that their callers say they take; what was used least recently goes first. It
// is safe for concurrent use.
type LRU[K comparable, V any] struct {
	mu      sync.Mutex
	limit   int64
	used    int64
	entries map[K]*list.Element // of *entry[K, V]
	recent  *list.List          // the most recently used in front
	loads   map[K]*load[V]
}

type entry[K comparable, V any] struct {
	key  K
	v    V
	size int64
}

type load[V any] struct {
	done chan struct{} // closed when v and err are there
	v    V
	err  error
}

// NewLRU makes a cache of at most limit bytes.
func NewLRU[K comparable, V any](limit int64) *LRU[K, V] {
	return &LRU[K, V]{limit: limit, entries: map[K]*list.Element{}, recent: list.New(), loads: map[K]*load[V]{}}
}

// Get returns the value of key, if it is there.
func (c *LRU[K, V]) Get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.get(key)
}

func (c *LRU[K, V]) get(key K) (v V, ok bool) {
	el, ok := c.entries[key]
	if !ok {
		return v, false
	}
	c.recent.MoveToFront(el)
	return entryOf[K, V](el).v, true
}

// Put keeps a value that takes size bytes, and returns what had to go for it: v itself if it does not fit at all.
func (c *LRU[K, V]) Put(key K, v V, size int64) (gone []V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.put(key, v, size)
}

func (c *LRU[K, V]) put(key K, v V, size int64) (gone []V) {
	if el, ok := c.entries[key]; ok {
		gone = append(gone, c.remove(el))
	}
	if size > c.limit {
		return append(gone, v)
	}
	c.entries[key] = c.recent.PushFront(&entry[K, V]{key, v, size})
	c.used += size
	return append(gone, c.shrink()...)
}

// SetLimit changes the bound, and returns what had to go for it.
func (c *LRU[K, V]) SetLimit(limit int64) (gone []V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = limit
	return c.shrink()
}

// Delete forgets key, and returns what it had.
func (c *LRU[K, V]) Delete(key K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[key]
	if !ok {
		return v, false
	}
	return c.remove(el), true
}

func (c *LRU[K, V]) shrink() (gone []V) {
	for c.used > c.limit {
		gone = append(gone, c.remove(c.recent.Back()))
	}
	return gone
}

func (c *LRU[K, V]) remove(el *list.Element) V {
	e := entryOf[K, V](el)
	c.recent.Remove(el)
	delete(c.entries, e.key)
	c.used -= e.size
	return e.v
}

func entryOf[K comparable, V any](el *list.Element) *entry[K, V] {
	e, ok := el.Value.(*entry[K, V])
	if !ok {
		panic("bug: a foreign element in the list")
	}
	return e
}

// Load returns the value of key, and makes it with the given function if it is not there. Of callers that come at the
// same time one runs it and the others wait for its result. An error is for those who waited, and is not kept; but a
// caller whose context ended does not take the others with it: one of them runs it again.
func (c *LRU[K, V]) Load(ctx context.Context, key K, produce func(context.Context) (v V, size int64, err error)) (V, error) {
	for {
		c.mu.Lock()
		if v, ok := c.get(key); ok {
			c.mu.Unlock()
			return v, nil
		}
		l, running := c.loads[key]
		if !running {
			l = &load[V]{done: newSignal(), err: errors.New("bug: the load panicked")}
			c.loads[key] = l
			c.mu.Unlock()
			return c.run(ctx, key, l, produce)
		}
		c.mu.Unlock()
		select {
		case <-l.done:
		case <-ctx.Done():
			return l.v, ctx.Err()
		}
		if errors.Is(l.err, context.Canceled) || errors.Is(l.err, context.DeadlineExceeded) {
			continue
		}
		return l.v, l.err
	}
}

func newSignal() chan struct{} { return make(chan struct{}) }

func (c *LRU[K, V]) run(ctx context.Context, key K, l *load[V], produce func(context.Context) (V, int64, error)) (V, error) {
	var size int64
	var done bool
	defer func() { // also when produce panics
		c.mu.Lock()
		delete(c.loads, key)
		if done && l.err == nil {
			c.put(key, l.v, size)
		}
		c.mu.Unlock()
		close(l.done)
	}()
	v, size, err := produce(ctx)
	l.v, l.err, done = v, err, true
	return v, err
}
