// Package busreplica brings what the copies of a document say to each other over the bus.
//
//	r := replica.New(doc, nil, nil, replica.Options{})
//	link, err := busreplica.New(conn, doc, r, key, busreplica.Options{})
//	err = link.Run(ctx)   // beside r.Run(ctx)
//
// Nobody has to know the others. What a copy makes it tells all at once; every few seconds, and whenever the connection comes back, it greets them with
// a digest of what it has. Who hears of a difference asks, by the exchange of versions and operations that package replica has, page by
// page. So messages may be lost, come late, twice or in any order, and a copy may be away as long as it likes.
//
// Every message is sealed with a key that the copies share: whoever else is on the bus, its operator too, can neither read nor change what they
// say, nor speak as one of them. They can keep messages from arriving, see how many and how large they are and about which document, and send recorded
// ones again, which is noticed for some minutes and never changes what a document says. Whoever has the key is a copy: what it brings is not asked again
// whether somebody may do it.
package busreplica

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skep-dev/skep/internal/bus"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/replica"
	"github.com/skep-dev/skep/internal/crdt"
	"github.com/skep-dev/skep/internal/errkind"
)

// The limits of a link.
const (
	// maxTold is how many bytes of operations a notice has, and what one that asks brings along: with the rest of it less than bus.MaxMessage. Who
	// has more to tell greets, and is asked.
	maxTold = 256 << 10
	// maxCopies is how many others are known.
	maxCopies = 1000
	// forgetAfter is how long one that is not heard any more is known.
	forgetAfter = 10 * time.Minute
	// workers is with how many others a copy compares at the same time.
	workers = 4
)

// Options of a Link. The zero Options works.
type Options struct {
	// Scope is within what the document's name is unique, as a tenant's name; "": on the whole bus. It is part of the subjects and of the key.
	Scope  string
	Every  time.Duration    // between greetings; 0: 5 s
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: none
}

// Status is how a link does.
type Status struct {
	bus.Status
	Copies  map[string]time.Time `json:"copies"`  // the others, and when each was last heard
	Strange uint64               `json:"strange"` // messages that were not sealed with the key
	Clock   uint64               `json:"clock"`   // messages of senders whose clock is too far from this one's
	Again   uint64               `json:"again"`   // messages that had come before
}

// carrier is what a link needs of the bus.
type carrier interface {
	Publish(subject string, data []byte) error
	Ask(ctx context.Context, subject string, data []byte) ([]byte, error)
}

// Link is a copy's place on the bus.
type Link struct {
	conn    *bus.Conn
	carrier carrier
	doc     *engine.Document
	replica *replica.Replica
	sealer  *sealer
	opts    Options
	subject string
	self    string      // what this Link is called on the bus: unlike a copy's name it is never another's
	due     chan string // copies to compare with

	mu     sync.Mutex
	status Status              // guarded by mu, as all that follows
	copies map[string]*another // by the name of their node
	logged string              // the last trouble with what others say
}

// another is what is known of another copy.
type another struct {
	self  string
	heard time.Time
	due   bool // to be compared with
	busy  bool // being compared with
}

// New makes a Link for a document and its Replica. key is what the copies share.
func New(conn *bus.Conn, doc *engine.Document, r *replica.Replica, key string, opts Options) (*Link, error) {
	l, err := newLink(conn, doc, r, key, opts)
	if err != nil {
		return nil, err
	}
	l.conn = conn
	return l, nil
}

func newLink(c carrier, doc *engine.Document, r *replica.Replica, key string, opts Options) (*Link, error) {
	if opts.Every == 0 {
		opts.Every = 5 * time.Second
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if len(opts.Scope) > maxScope {
		return nil, fmt.Errorf("replicate document %s over the bus: its scope has %d characters, and %d are allowed: %w",
			doc.Name(), len(opts.Scope), maxScope, errkind.TooLarge)
	}
	s, err := newSealer(key, opts.Scope, doc.Name(), opts.Now)
	if err != nil {
		return nil, fmt.Errorf("replicate document %s over the bus: %w", doc.Name(), err)
	}
	return &Link{
		carrier: c, doc: doc, replica: r, sealer: s, opts: opts, subject: subjectOf(opts.Scope, doc.Name()), self: strings.ToLower(rand.Text()),
		due: make(chan string, maxCopies), copies: map[string]*another{},
	}, nil
}

// Status returns how the link does.
func (l *Link) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status
	s.Copies = map[string]time.Time{}
	for name, c := range l.copies {
		s.Copies[name] = c.heard
	}
	if l.conn != nil {
		s.Status = l.conn.Status()
	}
	return s
}

// Run speaks and listens until ctx ends.
func (l *Link) Run(ctx context.Context) error {
	news, err := l.conn.Subscribe(l.subject + newsSuffix)
	if err != nil {
		return err
	}
	defer news.Close()
	asked, err := l.conn.Subscribe(l.askSubject(l.self))
	if err != nil {
		return err
	}
	defer asked.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return listen(ctx, news, func(m *bus.Message) { l.hear(ctx, m.Data) }) })
	group.Go(func() error {
		return listen(ctx, asked, func(m *bus.Message) {
			if answer := l.answer(ctx, m.Data); answer != nil {
				_ = m.Answer(answer) // who asked may be gone, and asks again otherwise
			}
		})
	})
	group.Go(func() error { return l.tell(ctx) })
	group.Go(func() error { return l.greetAll(ctx) })
	for range workers {
		group.Go(func() error { return l.compareAll(ctx) })
	}
	return group.Wait() //nolint:wrapcheck // the parts' own
}

func listen(ctx context.Context, sub *bus.Subscription, take func(*bus.Message)) error {
	for {
		m, err := sub.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				err = nil
			}
			return err //nolint:wrapcheck // it says what it is
		}
		take(m)
	}
}

const newsSuffix = ".news"

func (l *Link) askSubject(self string) string { return l.subject + ".ask." + token(self) }

// news is what a copy says to all.
type news struct {
	Self   string          `json:"self"`
	Notice *replica.Notice `json:"notice"`
}

// tell says what this copy makes, as it is made.
func (l *Link) tell(ctx context.Context) error {
	var batch []json.RawMessage
	size := 0
	flush := func() {
		if len(batch) > 0 {
			l.say(&replica.Notice{Document: l.doc.Name(), Node: l.doc.Node(), Ops: batch})
		}
		batch, size = nil, 0
	}
	err := l.doc.Watch(ctx, l.doc.Head().Seq, func(e engine.Event) error {
		if e.Op.ID.Node == l.doc.Node() { // what others made they have told themselves
			text, err := e.Op.Encode()
			if err != nil {
				return err
			}
			if size+len(text) > maxTold {
				flush()
			}
			if len(text) > maxTold {
				l.greet(ctx)
			} else {
				batch, size = append(batch, text), size+len(text)
			}
		}
		if len(batch) == replica.MaxOps || e.Seq >= l.doc.Head().Seq {
			flush()
		}
		return nil
	})
	if ctx.Err() == nil {
		// The log was put back, of which whoever writes is told. The others still hear of what is new by greetings.
		l.opts.Logger.WarnContext(ctx, "could not go on telling other copies of what is new at once", "document", l.doc.Name(), "error", err)
	}
	return nil
}

// say publishes a notice. Without a connection nobody hears it, and they are greeted when there is one.
func (l *Link) say(n *replica.Notice) {
	frame, _, err := l.sealer.seal("news", news{l.self, n})
	if err == nil {
		err = l.carrier.Publish(l.subject+newsSuffix, frame)
	}
	if err != nil {
		l.opts.Logger.Debug("could not tell other copies", "document", l.doc.Name(), "error", err)
	}
}

// greetAll greets from time to time, and when the connection comes back.
func (l *Link) greetAll(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := l.conn.Changed()
		if l.conn.Status().Connected {
			l.greet(ctx)
		}
		l.forget()
		timer.Reset(l.opts.Every/2 + mathrand.N(l.opts.Every)) //nolint:gosec // it spreads load and is no secret
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-timer.C:
		}
	}
}

// greet says what this copy has.
func (l *Link) greet(ctx context.Context) {
	n, err := l.replica.Greeting(ctx)
	if err != nil {
		if ctx.Err() == nil {
			l.opts.Logger.WarnContext(ctx, "could not greet other copies", "document", l.doc.Name(), "error", err)
		}
		return
	}
	l.say(n)
}

// hear takes in what another copy says to all.
func (l *Link) hear(ctx context.Context, frame []byte) {
	var m news
	if _, err := l.sealer.open("news", frame, &m); err != nil {
		l.refuse(ctx, err)
		return
	}
	if m.Self == l.self || m.Notice == nil {
		return
	}
	l.note(m.Self, m.Notice.Node)
	differ, err := l.replica.Hear(ctx, m.Notice)
	switch {
	case err != nil:
		l.warn(ctx, m.Notice.Node, err)
	case differ:
		l.compareSoon(m.Notice.Node)
	}
}

// warn logs that something is not taken, once as long as nothing else is the matter: there may be thousands in a second.
func (l *Link) warn(ctx context.Context, node string, err error) {
	text := node + ": " + errkind.Of(err).Error()
	l.mu.Lock()
	first := l.logged != text
	l.logged = text
	l.mu.Unlock()
	if first && ctx.Err() == nil {
		l.opts.Logger.WarnContext(ctx, "could not take what another copy says", "document", l.doc.Name(), "copy", node, "error", err)
	}
}

// refuse counts a message that is not taken.
func (l *Link) refuse(ctx context.Context, err error) {
	l.mu.Lock()
	switch {
	case errors.Is(err, errClock):
		l.status.Clock++
	case errors.Is(err, errAgain):
		l.status.Again++
	default:
		l.status.Strange++
	}
	l.mu.Unlock()
	if errors.Is(err, errClock) {
		l.warn(ctx, "", err)
	}
}

// maxSelf is more than a Link is called.
const maxSelf = 64

// note remembers another copy.
func (l *Link) note(self, node string) {
	if crdt.CheckNode(node) != nil || len(self) > maxSelf {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.copies[node]
	if c == nil {
		if len(l.copies) >= maxCopies || node == l.doc.Node() {
			return
		}
		c = new(another)
		l.copies[node] = c
	}
	c.self, c.heard = self, l.opts.Now()
}

// forget drops those that have not been heard for long.
func (l *Link) forget() {
	l.mu.Lock()
	var gone []string
	for node, c := range l.copies {
		if l.opts.Now().Sub(c.heard) > forgetAfter && !c.due && !c.busy {
			delete(l.copies, node)
			gone = append(gone, node)
		}
	}
	l.mu.Unlock()
	for _, node := range gone {
		l.replica.Forget(peerPrefix + node)
	}
}

// compareSoon notes that this copy and another one differ.
func (l *Link) compareSoon(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.copies[node]
	if c == nil || c.due {
		return
	}
	c.due = true
	if !c.busy {
		l.due <- node // there is room for all that are known
	}
}

// compareAll compares with those that differ, one at a time.
func (l *Link) compareAll(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case node := <-l.due:
			l.compare(ctx, node)
		}
	}
}

// compare compares with another copy. What is heard meanwhile may be news, and is looked at after it.
func (l *Link) compare(ctx context.Context, node string) {
	l.mu.Lock()
	c := l.copies[node] // it is known as long as it is due or busy
	c.due, c.busy = false, true
	l.mu.Unlock()
	l.replica.TryOver(ctx, l, peerPrefix+node)
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.busy = false; c.due {
		l.due <- node
	}
}
