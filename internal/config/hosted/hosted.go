// Package hosted runs the documents of a server's tenants.
//
//	docs := hosted.New(store, hosted.Options{Control: ctl, Host: host, Allow: networks})
//	err = docs.Create(ctx, record, schema, actor)
//	d, err := docs.Use(ctx, record)
//	defer d.Release()
//	s := service.New(d.Document, service.Options{Access: access})
//
// The control plane knows which documents there are, and what is in them their logs know. A document is opened when somebody uses it, and
// closed when nobody has for a while. Who may do what is asked by those who make services of it, each for its caller.
package hosted

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/oplog"
	"github.com/skep-dev/skep/internal/config/publish"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/outbound"
	"github.com/skep-dev/skep/internal/webhook"
)

// Defaults of the options.
const (
	// defaultMaxOpen: an open document takes three file descriptors, and memory for all that is in it.
	defaultMaxOpen   = 500
	defaultIdleAfter = 2 * time.Minute
	// tenantShare is how much of the places one tenant takes at most: one in four, or minPerTenant.
	tenantShare  = 4
	minPerTenant = 8
	// ownPoll is how often a document looks for what other processes wrote, in a store that no other should have open.
	ownPoll = time.Minute
	// snapshotEvery is how many operations may be read anew when a document is opened again.
	snapshotEvery = 1000
	// closePatience bounds the writing of a snapshot that nobody waits for.
	closePatience = 30 * time.Second
)

// Control is what documents need of the control plane.
type Control interface {
	// Documents lists documents by ID, after one.
	Documents(ctx context.Context, f control.DocumentFilter, after id.Document, most int) ([]control.Document, error)
	// ActivateDocument notes that a document does something without being asked.
	ActivateDocument(ctx context.Context, d id.Document) error
	// DocumentsKey returns the key of a tenant's documents, for what must not be read in their logs.
	DocumentsKey(ctx context.Context, t id.Tenant) ([]byte, error)
}

// Host is what documents need of the server that they are on.
type Host interface {
	// MilestoneTarget opens where a document's milestones go, for who asks in ctx, or for who wanted them made by themselves. One that is not
	// there yet is made if begin says so.
	MilestoneTarget(ctx context.Context, d control.Document, begin bool) (publish.Target, error)
	// DocumentAccess says what those may do with a document of whom the name is known. base is the name of its base environment.
	DocumentAccess(ctx context.Context, d control.Document, base func() string) service.Access
}

// Options of Documents. The first two are needed, the others may be left out.
type Options struct {
	Control Control
	Host    func() Host    // called when there is one
	Allow   []netip.Prefix // networks of webhooks that may be sent to although they are not public, and without TLS
	// Shared says that other processes have the store open too.
	Shared    bool
	MaxOpen   int           // 0: 500
	IdleAfter time.Duration // when an unused document is closed; 0: 2 minutes
	Log       *slog.Logger  // nil: none
}

// Documents are those of a server. It is safe for concurrent use.
type Documents struct {
	store oplog.Store
	opts  Options
	sends *outbound.Client

	changed chan struct{} // has one when a record has changed

	mu     sync.Mutex
	slots  map[id.Document]*slot // guarded by mu
	idle   *list.List            // of *slot that nobody uses, the most recently used in front; guarded by mu
	closed bool                  // guarded by mu

	count    int               // of slots that are not closing; guarded by mu
	ofTenant map[id.Tenant]int // of these; guarded by mu

	open sync.WaitGroup // slots that are not closed
}

// slot is a place for an open document.
type slot struct {
	record control.Document
	ready  chan struct{} // closed when doc or err is set

	doc       *engine.Document
	publisher *publish.Publisher
	hooks     *webhook.Hooks
	log       oplog.Log
	end       context.CancelFunc // of the document's Run
	ended     chan struct{}      // closed when it has ended
	err       error
	shut      func() // closes all of it, when nobody uses or finds the slot

	users int           // guarded by Documents.mu
	place *list.Element // in idle; nil: it is used, or nobody finds it any more; guarded by Documents.mu
	since time.Time     // when its last user left; guarded by Documents.mu
	stale bool          // nobody finds it any more; guarded by Documents.mu
}

// New returns the documents of a store, which it does not close.
func New(store oplog.Store, opts Options) *Documents {
	if opts.MaxOpen == 0 {
		opts.MaxOpen = defaultMaxOpen
	}
	if opts.IdleAfter == 0 {
		opts.IdleAfter = defaultIdleAfter
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	sends := outbound.New(outbound.Options{Allow: opts.Allow, NoRedirects: true})
	return &Documents{store: store, opts: opts, sends: sends, slots: map[id.Document]*slot{}, ofTenant: map[id.Tenant]int{}, idle: list.New(), changed: make(chan struct{}, 1)}
}

// Create makes the log of a document, with a schema. If that is not one, there is no log.
func (h *Documents) Create(ctx context.Context, d control.Document, schema string, actor config.Actor) error {
	name := string(d.ID)
	if err := h.store.Create(ctx, name); err != nil {
		return err
	}
	err := h.begin(ctx, name, schema, actor)
	if err != nil {
		// Nothing names the log, whatever becomes of this.
		return errors.Join(err, h.store.Delete(context.WithoutCancel(ctx), name))
	}
	return nil
}

func (h *Documents) begin(ctx context.Context, name, schema string, actor config.Actor) error {
	log, err := h.store.Open(ctx, name)
	if err != nil {
		return err
	}
	doc, err := engine.Open(ctx, name, log, engine.Options{})
	if err == nil {
		_, err = doc.Submit(ctx, engine.Batch{Actor: actor, Requests: []config.Request{{Kind: config.ChangeSchema, Text: schema, Intent: "init"}}})
	}
	return errors.Join(err, log.Close())
}

// Delete removes the log of a document. Who uses it is refused from then on. That there is none is no error, so that a deletion can be
// repeated after a crash.
func (h *Documents) Delete(ctx context.Context, d id.Document) error {
	h.Forget(d)
	if err := h.store.Delete(ctx, string(d)); err != nil && errkind.Of(err) != errkind.NotFound {
		return fmt.Errorf("delete the log of document %s: %w", d, err)
	}
	return nil
}

// Forget has a document opened anew by who uses it next: its record has changed.
func (h *Documents) Forget(d id.Document) {
	defer h.wake()
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.slots[d]; s != nil {
		h.drop(s)
	}
}

// drop takes a slot out of those that are found. The last user closes it. The caller holds mu.
func (h *Documents) drop(s *slot) {
	if s.stale {
		return
	}
	s.stale = true
	if h.slots[s.record.ID] == s {
		delete(h.slots, s.record.ID)
	}
	if s.place != nil {
		h.idle.Remove(s.place)
		s.place = nil
	}
	if s.users == 0 {
		h.end(s)
	}
}

// end closes a slot that nobody uses or finds. The caller holds mu.
func (h *Documents) end(s *slot) {
	h.count--
	if h.ofTenant[s.record.Tenant]--; h.ofTenant[s.record.Tenant] == 0 {
		delete(h.ofTenant, s.record.Tenant)
	}
	go s.shut()
}

// room makes room for another document of a tenant, in the place of one that nobody uses. The caller holds mu.
func (h *Documents) room(t id.Tenant) bool {
	var of func(s *slot) bool // whose place it may be
	switch {
	case h.ofTenant[t] >= max(minPerTenant, h.opts.MaxOpen/tenantShare):
		of = func(s *slot) bool { return s.record.Tenant == t }
	case h.count >= h.opts.MaxOpen:
		of = func(*slot) bool { return true }
	default:
		return true
	}
	for e := h.idle.Back(); e != nil; e = e.Prev() {
		if s := e.Value.(*slot); of(s) { //nolint:errcheck,forcetypeassert // idle has nothing else
			h.drop(s)
			return true
		}
	}
	return false
}

// Document is an open document in use.
type Document struct {
	*engine.Document

	Publisher *publish.Publisher
	Webhooks  *webhook.Hooks
	Record    control.Document
	release   func()
}

// Release lets go of the document. It is called once.
func (d *Document) Release() { d.release() }

// Use opens a document, or finds it open. The caller releases it.
func (h *Documents) Use(ctx context.Context, d control.Document) (*Document, error) {
	s, first, err := h.take(ctx, d)
	if err != nil {
		return nil, err
	}
	if first {
		go func() {
			defer close(s.ready)
			s.err = h.fill(detach(ctx), s)
			if s.err != nil {
				h.mu.Lock()
				h.drop(s)
				h.mu.Unlock()
			}
		}()
	}
	select {
	case <-s.ready:
		err = s.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		h.leave(s)
		return nil, err
	}
	return &Document{Document: s.doc, Publisher: s.publisher, Webhooks: s.hooks, Record: s.record, release: sync.OnceFunc(func() { h.leave(s) })}, nil
}

// detached is a context that neither ends with its first user's nor knows who that was.
type detached struct{ context.Context } //nolint:containedctx // it is one

func detach(ctx context.Context) context.Context { return detached{context.WithoutCancel(ctx)} }

// Value knows nothing.
func (detached) Value(any) any { return nil }

// take finds a document's slot or makes one, which its first user fills.
func (h *Documents) take(ctx context.Context, d control.Document) (s *slot, first bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, false, fmt.Errorf("use document %s: the server stops: %w", d.ID, errkind.Unavailable)
	}
	s = h.slots[d.ID]
	if s != nil && s.record.Updated.Before(d.Updated) {
		h.drop(s) // another node has changed the record
		s = nil
	}
	if s == nil {
		if !h.room(d.Tenant) {
			return nil, false, fmt.Errorf("use document %s: too many others are in use: %w", d.ID, errkind.Unavailable)
		}
		h.count++
		h.ofTenant[d.Tenant]++
		s = &slot{record: d, ready: make(chan struct{})}
		s.shut = func() { h.close(detach(ctx), s) }
		h.slots[d.ID] = s
		h.open.Add(1)
		first = true
	}
	s.users++
	if s.place != nil {
		h.idle.Remove(s.place)
		s.place = nil
	}
	return s, first, nil
}

// leave ends a use of a slot.
func (h *Documents) leave(s *slot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.users--; s.users > 0 {
		return
	}
	if s.stale {
		h.end(s)
		return
	}
	s.since = time.Now()
	s.place = h.idle.PushFront(s)
}

// fill opens a slot's document.
func (h *Documents) fill(ctx context.Context, s *slot) (err error) {
	name := string(s.record.ID)
	if s.log, err = h.store.Open(ctx, name); err != nil {
		return err
	}
	opts := engine.Options{Logger: h.opts.Log}
	if !h.opts.Shared {
		opts.Poll = ownPoll
	}
	if s.doc, err = engine.Open(ctx, name, s.log, opts); err != nil {
		return err
	}
	auto, err := Auto(&s.record.Milestones)
	if err != nil {
		h.opts.Log.ErrorContext(ctx, "document makes no milestones by itself", "document", s.record.ID, "error", err) // its record was judged
	}
	s.hooks = h.webhooks(ctx, s.record, s.doc)
	s.publisher = publish.New(s.doc, publish.Options{
		Open: func(ctx context.Context, begin bool) (publish.Target, error) {
			return h.opts.Host().MilestoneTarget(ctx, s.record, begin)
		},
		Format: s.record.Milestones.Format, Auto: auto, Webhooks: s.hooks, Logger: h.opts.Log,
	})
	ctx, s.end = context.WithCancel(ctx)
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		if err := s.doc.Run(ctx); err != nil && ctx.Err() == nil {
			h.opts.Log.ErrorContext(ctx, "document is not kept up to date", "document", s.record.ID, "error", err)
		}
	}()
	return nil
}

// close closes what nobody uses or finds.
func (h *Documents) close(ctx context.Context, s *slot) {
	defer h.open.Done()
	<-s.ready
	ctx, cancel := context.WithTimeout(ctx, closePatience)
	defer cancel()
	if s.end != nil {
		s.end()
		<-s.ended
		if err := s.doc.Snapshot(ctx, snapshotEvery); err != nil && errkind.Of(err) != errkind.NotFound { // it was deleted
			h.opts.Log.WarnContext(ctx, "no snapshot of a document", "document", s.record.ID, "error", err)
		}
	}
	if s.log != nil {
		if err := s.log.Close(); err != nil {
			h.opts.Log.WarnContext(ctx, "document not closed", "document", s.record.ID, "error", err)
		}
	}
}

// Run closes documents that nobody uses, and has those that are active do what they do without being asked, until ctx ends.
func (h *Documents) Run(ctx context.Context) error {
	tick := time.NewTicker(h.opts.IdleAfter)
	defer tick.Stop()
	a := &active{Documents: h, running: map[id.Document]*worker{}}
	defer a.end()
	for {
		if err := a.look(ctx); err != nil && ctx.Err() == nil {
			h.opts.Log.ErrorContext(ctx, "active documents are not found", "error", err)
		}
		select {
		case <-h.changed:
		case <-tick.C:
			h.sweep(time.Now().Add(-h.opts.IdleAfter))
		case <-ctx.Done():
			return nil
		}
	}
}

// sweep drops what has not been used since a time.
func (h *Documents) sweep(before time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		oldest := h.idle.Back()
		if oldest == nil {
			return
		}
		s := oldest.Value.(*slot) //nolint:errcheck,forcetypeassert // idle has nothing else
		if s.since.After(before) {
			return
		}
		h.drop(s)
	}
}

// Close closes all documents, and waits for those who use one. It is called once.
func (h *Documents) Close() {
	h.mu.Lock()
	h.closed = true
	for _, s := range h.slots {
		h.drop(s)
	}
	h.mu.Unlock()
	h.open.Wait()
	h.sends.Close()
}
