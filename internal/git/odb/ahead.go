package odb

import (
	"context"
	"runtime"
	"sync"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/pack"
)

// way is how an entry goes out; see WritePack.
type way uint8

const (
	run way = iota
	ref
	whole
	stream
)

// item is a step of the plan: the entries [from, to) of one pack. All ways but run have one entry.
type item struct {
	way      way
	from, to pack.Pos
	base     git.OID // of ref

	// Of whole: what it costs to have it in memory, and the entry once a worker has made it.
	cost int64
	pack *pack.Pack
	done chan struct{} // closed by the worker
	raw  *[]byte
	err  error
}

// ahead is the queue of what is planned and not yet written, and the workers that inflate and deflate meanwhile. It is
// owned by the sender; a worker touches nothing but the item it works on.
type ahead struct {
	store   *Store
	ctx     context.Context //nolint:containedctx // lives as long as one WritePack, whose ctx it is
	queue   []*item
	cost    int64
	jobs    chan *item // nil until the first whole object: most packs need no worker
	workers sync.WaitGroup
}

func (a *ahead) start(ctx context.Context, s *Store) { a.ctx, a.store = ctx, s }

// stop waits for the workers. The context given to start must have ended, or nothing may be ahead.
func (a *ahead) stop() {
	if a.jobs != nil {
		close(a.jobs)
	}
	a.workers.Wait()
}

func (a *ahead) empty() bool { return len(a.queue) == 0 }

// push appends an item. After push, the caller pops until nothing is ready, so that the limits hold.
func (a *ahead) push(next item) {
	it := &next
	a.queue = append(a.queue, it)
	if it.way != whole {
		return
	}
	if a.jobs == nil {
		a.jobs = make(chan *item, maxAhead+1) // never blocks: the queue is no longer
		for range runtime.GOMAXPROCS(0) {
			a.workers.Go(a.work)
		}
	}
	it.done = make(chan struct{})
	a.cost += it.cost
	a.jobs <- it
}

// pop returns the first item when it is ready. It waits for it when it must: to drain the queue, or when the limits are
// reached. Otherwise it returns nil.
func (a *ahead) pop(drain bool) *item {
	if len(a.queue) == 0 {
		return nil
	}
	it := a.queue[0]
	if it.way == whole {
		if drain || len(a.queue) >= maxAhead || a.cost >= maxAheadBytes {
			select {
			case <-it.done:
			case <-a.ctx.Done(): // the caller sees that, and leaves the item alone
			}
		} else {
			select {
			case <-it.done:
			default:
				return nil
			}
		}
		a.cost -= it.cost
	}
	a.queue[0] = nil
	a.queue = a.queue[1:]
	return it
}

func (a *ahead) work() {
	for it := range a.jobs {
		if a.ctx.Err() != nil {
			return
		}
		it.raw, it.err = a.encode(it)
		close(it.done)
	}
}

// encode makes the entry of a whole object.
func (a *ahead) encode(it *item) (*[]byte, error) {
	obj, err := a.read(it)
	if err != nil {
		return nil, err
	}
	raw := rawPool.Get().(*[]byte) //nolint:errcheck // the pool has nothing else
	*raw, err = pack.AppendEntry((*raw)[:0], obj)
	return raw, err
}

// read is Store.ReadAt, but what is sent whole is not kept: the cache is for delta bases, and for those who come back.
func (a *ahead) read(it *item) (git.Object, error) {
	if a.store.cache != nil {
		if obj, ok := a.store.cache.Get(it.pack, it.from); ok {
			return obj, nil
		}
	}
	return it.pack.Read(it.from, a.store.bases())
}

// rawPool keeps the buffers of deflated entries. Each grows to at most about maxWholeBytes.
var rawPool = sync.Pool{New: func() any { return new([]byte) }}
