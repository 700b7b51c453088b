package busreplica

import (
	"context"
	"encoding/json"

	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/replica"
)

// NewOn makes a Link on what is like a bus.
func NewOn(c carrier, doc *engine.Document, r *replica.Replica, key string, opts Options) (*Link, error) {
	return newLink(c, doc, r, key, opts)
}

// Hear and Answer are what Run does with what comes in.
func (l *Link) Hear(ctx context.Context, frame []byte)          { l.hear(ctx, frame) }
func (l *Link) Answer(ctx context.Context, frame []byte) []byte { return l.answer(ctx, frame) }

// Greet and Say are what Run says.
func (l *Link) Greet(ctx context.Context) { l.greet(ctx) }

// Say tells all of operations.
func (l *Link) Say(ops ...json.RawMessage) {
	l.say(&replica.Notice{Document: l.doc.Name(), Node: l.doc.Node(), Ops: ops})
}

// CompareDue compares with those that differ, and returns how many these are.
func (l *Link) CompareDue(ctx context.Context) (n int) {
	for ; len(l.due) > 0; n++ {
		l.compare(ctx, <-l.due)
	}
	return n
}

// NewsSubject and AskSubject are where a Link listens.
func (l *Link) NewsSubject() string { return l.subject + newsSuffix }

// AskSubject is where it is asked.
func (l *Link) AskSubject() string { return l.askSubject(l.self) }

// Seal seals any text as news, and as a question for this Link.
func (l *Link) Seal(text []byte) (asNews, asQuestion []byte) {
	asNews, _, _ = l.sealer.seal("news", json.RawMessage(text))
	asQuestion, _, _ = l.sealer.seal("ask "+l.self, json.RawMessage(text))
	return asNews, asQuestion
}

// SubjectOf is for tests.
func SubjectOf(scope, document string) string { return subjectOf(scope, document) }

// SealAnswer seals any text as an answer to a question.
func (l *Link) SealAnswer(question, text []byte) []byte {
	frame, _, _ := l.sealer.seal("answer "+nonce(question[1:sealHead]).String(), json.RawMessage(text))
	return frame
}

// Compare compares with one.
func (l *Link) Compare(ctx context.Context, node string) error {
	return l.replica.SyncOver(ctx, l, peerPrefix+node)
}
