package busreplica

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/skep-dev/skep/internal/config/replica"
	"github.com/skep-dev/skep/internal/errkind"
)

// peerPrefix is what a copy on the bus is called by a Replica, before its node's name.
const peerPrefix = "bus:"

// question is a message for one copy.
type question struct {
	Self    string           `json:"self"` // who asks
	Message *replica.Message `json:"message"`
	// More says that there are operations which do not fit: who is asked is to ask for them, since an answer may be larger.
	More bool `json:"more,omitempty"`
}

// reply is what comes back.
type reply struct {
	Message *replica.Message `json:"message,omitempty"`
	Error   string           `json:"error,omitempty"`
}

// maxErrorText is what a copy believes of another one's error.
const maxErrorText = 500

// Exchange asks another copy. It makes Link a replica.Transport.
func (l *Link) Exchange(ctx context.Context, peer string, m *replica.Message) (*replica.Message, error) {
	l.mu.Lock()
	c, self := l.copies[peer[len(peerPrefix):]], ""
	if c != nil {
		self = c.self
	}
	l.mu.Unlock()
	if self == "" {
		return nil, fmt.Errorf("it is not heard any more: %w", errkind.NotFound)
	}
	frame, n, err := l.sealer.seal("ask "+self, trim(l.self, m))
	if err != nil {
		return nil, err
	}
	frame, err = l.carrier.Ask(ctx, l.askSubject(self), frame)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what it is
	}
	var r reply
	switch err := l.sealer.openAnswer("answer "+n.String(), frame, &r); {
	case err != nil:
		return nil, fmt.Errorf("open the answer: %w", err)
	case r.Error != "":
		return nil, fmt.Errorf("it says: %.*s: %w", maxErrorText, r.Error, errkind.Unavailable)
	case r.Message == nil:
		return nil, fmt.Errorf("the answer is empty: %w", errkind.Invalid)
	}
	return r.Message, nil
}

// trim leaves out the operations for which a question has no room.
func trim(self string, m *replica.Message) question {
	size := 0
	for i, text := range m.Ops {
		if size += len(text); size > maxTold {
			short := *m
			short.Ops = m.Ops[:i]
			return question{self, &short, true}
		}
	}
	return question{Self: self, Message: m}
}

// answer answers what another copy asks; nil: it is none.
func (l *Link) answer(ctx context.Context, frame []byte) []byte {
	var q question
	n, err := l.sealer.open("ask "+l.self, frame, &q)
	if err != nil {
		l.refuse(ctx, err)
		return nil
	}
	if q.Message == nil {
		return nil
	}
	l.note(q.Self, q.Message.Node)
	var r reply
	if r.Message, err = l.replica.Handle(ctx, q.Message); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		r = reply{Error: err.Error()}
	}
	if q.More {
		l.compareSoon(q.Message.Node)
	}
	text, _, err := l.sealer.seal("answer "+n.String(), r)
	if err != nil {
		l.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "could not answer another copy", slog.String("document", l.doc.Name()), slog.Any("error", err))
		return nil
	}
	return text
}
