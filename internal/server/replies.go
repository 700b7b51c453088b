package server

import (
	"container/list"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/id"
)

// replies remembers which requests under an idempotency key were done, and how they were answered.
type replies interface {
	// begin claims a key for a request that is then ended with finish or forget. If the key is taken it returns what is
	// known of it instead.
	begin(k replyKey) (known *reply)
	finish(k replyKey, r reply)
	forget(k replyKey)
}

// replyKey is the hash of all that must be the same for a request to be the same. Requests of different tokens are not: what
// one may see, another of the same principal may not.
type replyKey struct {
	principal id.Principal
	hash      [sha256.Size]byte
}

// reply is a request that is being done or was done.
type reply struct {
	done   bool
	sent   [sha256.Size]byte // the request's body
	status int               // 0: the answer is not kept
	header http.Header
	body   []byte
	why    string // not
}

// The bounds of what is remembered.
const (
	replyTime       = 24 * time.Hour
	maxReplies      = 10_000
	maxRepliesOfOne = 1000     // principal: no one makes the server forget what the others did
	maxReplyBytes   = 16 << 20 // of all answers
	maxReplyBody    = 64 << 10 // of one; those of the operations that are called with POST take below 4 KiB
)

// memoryReplies keeps them in memory: a restart forgets them.
type memoryReplies struct {
	now func() time.Time // with a monotonic reading

	mu    sync.Mutex
	known map[replyKey]*memoryReply   // guarded by mu, as all below
	order *list.List                  // of finished ones: the oldest first
	own   map[id.Principal]*list.List // the same, by principal
	bytes int
}

type memoryReply struct {
	reply
	key      replyKey
	finished time.Time
	at, own  *list.Element // nil while it is being done
}

func newMemoryReplies(now func() time.Time) *memoryReplies {
	return &memoryReplies{now: now, known: map[replyKey]*memoryReply{}, order: list.New(), own: map[id.Principal]*list.List{}}
}

func (m *memoryReplies) begin(k replyKey) *reply {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	if r := m.known[k]; r != nil {
		copied := r.reply // header and body are not changed any more
		return &copied
	}
	m.known[k] = &memoryReply{key: k} // as many as there are requests
	return nil
}

func (m *memoryReplies) finish(k replyKey, r reply) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.known[k]
	if e == nil || e.done {
		panic("bug: a reply was finished that was not begun")
	}
	r.done = true
	e.reply, e.finished = r, m.now()
	own := m.own[k.principal]
	if own == nil {
		own = list.New()
		m.own[k.principal] = own
	}
	e.at, e.own = m.order.PushBack(e), own.PushBack(e)
	m.bytes += len(r.body)
	if own.Len() > maxRepliesOfOne {
		m.drop(own.Front())
	}
	for m.order.Len() > maxReplies || m.bytes > maxReplyBytes {
		m.drop(m.order.Front())
	}
}

func (m *memoryReplies) forget(k replyKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, k)
}

func (m *memoryReplies) expire() {
	for e := m.order.Front(); e != nil; e = m.order.Front() {
		if m.now().Sub(e.Value.(*memoryReply).finished) < replyTime { //nolint:errcheck,forcetypeassert // finish put it there
			return
		}
		m.drop(e)
	}
}

func (m *memoryReplies) drop(at *list.Element) {
	e := at.Value.(*memoryReply) //nolint:errcheck,forcetypeassert // finish put it there
	delete(m.known, e.key)
	m.order.Remove(e.at)
	own := m.own[e.key.principal]
	if own.Remove(e.own); own.Len() == 0 {
		delete(m.own, e.key.principal)
	}
	m.bytes -= len(e.body)
}
