package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/skep-dev/skep/internal/errkind"
)

// maxWaiting and maxWaitingBytes are what waits for one who is slow. What comes above that is dropped, and Status counts it.
const (
	maxWaiting      = 1024
	maxWaitingBytes = 16 << 20
)

// Subscription is a place where messages come in.
type Subscription struct {
	conn *Conn
	sub  *nats.Subscription
}

// Message is one that came in.
type Message struct {
	Data []byte
	conn *Conn
	msg  *nats.Msg
}

// Subscribe listens to a subject. The servers know of it when it returns, if there is a connection, and otherwise as soon as there is one.
func (c *Conn) Subscribe(subject string) (*Subscription, error) {
	sub, err := c.nc.SubscribeSync(subject)
	if err != nil {
		return nil, wrap("subscribe", err)
	}
	if err := sub.SetPendingLimits(maxWaiting, maxWaitingBytes); err != nil {
		return nil, wrap("subscribe", errors.Join(err, sub.Unsubscribe()))
	}
	if c.nc.IsConnected() {
		_ = c.nc.FlushTimeout(dialPatience) // if it fails, the next connection tells the servers
	}
	s := &Subscription{c, sub}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs[s] = true
	return s, nil
}

// Next waits for the next message.
func (s *Subscription) Next(ctx context.Context) (*Message, error) {
	for {
		m, err := s.sub.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, nats.ErrSlowConsumer): // said once; the messages that were not dropped are still there
			continue
		case err != nil:
			return nil, wrap("listen", err)
		}
		return &Message{Data: m.Data, conn: s.conn, msg: m}, nil
	}
}

func (s *Subscription) dropped() uint64 {
	n, err := s.sub.Dropped()
	if err != nil || n < 0 {
		return 0 // it is closed
	}
	return uint64(n)
}

// Close ends the subscription.
func (s *Subscription) Close() {
	n := s.dropped()
	_ = s.sub.Unsubscribe() // without a connection there is nothing to tell
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.conn.subs[s] {
		delete(s.conn.subs, s)
		s.conn.dropped += n
	}
}

// MaxAnswer is how large an answer may be. It comes in parts of the size of messages.
const MaxAnswer = 8 << 20

// partHeader says which part of an answer a message is.
const partHeader = "Skep-Part"

// Answer answers a message that somebody asked. Nobody may be waiting any more.
func (m *Message) Answer(data []byte) error {
	if m.msg.Reply == "" {
		return fmt.Errorf("answer: the message wants none: %w", errkind.Invalid)
	}
	if len(data) > MaxAnswer {
		return fmt.Errorf("answer: it has %d bytes, and %d are allowed: %w", len(data), MaxAnswer, errkind.TooLarge)
	}
	size := m.conn.limit()
	count := max((len(data)+size-1)/size, 1)
	for i := range count {
		part := nats.NewMsg(m.msg.Reply)
		part.Header.Set(partHeader, fmt.Sprintf("%d/%d", i+1, count))
		part.Data = data[i*size : min((i+1)*size, len(data))]
		if err := m.conn.nc.PublishMsg(part); err != nil {
			return wrap("answer", err)
		}
	}
	return nil
}

// answer is one whose parts are coming in.
type answer struct {
	data        []byte
	came, count int
}

// add takes the next part, as its header says it is. It reports whether it was the last one. Parts come in order, over one connection.
func (a *answer) add(header string, data []byte) (done bool, err error) {
	var i, count int
	if n, err := fmt.Sscanf(header, "%d/%d", &i, &count); n != 2 || err != nil || fmt.Sprintf("%d/%d", i, count) != header {
		return false, fmt.Errorf("a part says that it is %.40q: %w", header, errkind.Invalid)
	}
	if i != a.came+1 || i > count || a.came > 0 && count != a.count {
		return false, fmt.Errorf("part %s comes after %d of %d: some are lost: %w", header, a.came, a.count, errkind.Unavailable)
	}
	if len(a.data)+len(data) > MaxAnswer {
		return false, fmt.Errorf("the answer has more than %d bytes: %w", MaxAnswer, errkind.TooLarge)
	}
	a.came, a.count, a.data = i, count, append(a.data, data...)
	return i == count, nil
}

// Ask sends a message to whoever listens to a subject, and returns the answer. If nobody listens it says so at once; ctx says how long an answer may take.
func (c *Conn) Ask(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if limit := c.limit(); len(data) > limit {
		return nil, fmt.Errorf("ask: the message has %d bytes, and %d are allowed: %w", len(data), limit, errkind.TooLarge)
	}
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultPatience)
		defer cancel()
	}
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, wrap("ask", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := sub.SetPendingLimits(maxWaiting, 2*MaxAnswer); err != nil {
		return nil, wrap("ask", err)
	}
	if err := c.nc.PublishRequest(subject, inbox, data); err != nil {
		return nil, wrap("ask", err)
	}
	var a answer
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, wrap("ask", err)
		}
		done, err := a.add(m.Header.Get(partHeader), m.Data)
		if err != nil {
			return nil, fmt.Errorf("ask: %w", err)
		}
		if done {
			return a.data, nil
		}
	}
}

// defaultPatience is how long an answer may take if nobody says.
const defaultPatience = 10 * time.Second
