package sign

import (
	"encoding/base64"
	"fmt"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/errkind"
)

// ForOp is a signed request as the operation that was made of it carries it.
func (s Signed) ForOp(b *Body) *config.Signature {
	return &config.Signature{Key: b.KeyID, Body: string(s.Body), Sig: base64.StdEncoding.EncodeToString(s.Signature)}
}

// VerifyOp checks the signature that an operation in a document's log carries, as of the operation's time, and that the operation can come
// from what was signed: it has the actor, class, intent and kind, and what it writes follows from the request as far as that alone says
// (compare.go).
func VerifyOp(keys *Registry, op *config.Op, doc string) (Body, error) {
	if op.Signature == nil {
		return Body{}, fmt.Errorf("check operation %s: it is not signed: %w: %w", op.ID, BadSignature, errkind.Unauthorized)
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(op.Signature.Sig)
	if err != nil {
		return Body{}, fmt.Errorf("check operation %s: its signature is not base64: %w: %w", op.ID, Malformed, errkind.Invalid)
	}
	b, err := verify(keys, Signed{Body: []byte(op.Signature.Body), Signature: signature}, doc, op.Time.Time())
	if err != nil {
		return Body{}, fmt.Errorf("check operation %s: %w", op.ID, err)
	}
	if what := differs(op, &b); what != "" {
		return Body{}, fmt.Errorf("check operation %s: its %s is not what was signed: %w: %w", op.ID, what, OtherRequest, errkind.Forbidden)
	}
	return b, nil
}

// differs says in what an operation is not what a signed request can have become; "" if it can.
func differs(op *config.Op, b *Body) string {
	r := &b.Request
	kind := r.Kind == op.Kind || r.Kind == config.SetField && op.Kind == config.SetOverride || r.Kind == config.SetOverride && op.Kind == config.SetField
	switch {
	case op.Signature.Key != b.KeyID:
		return "key"
	case op.Actor.ID != b.Actor.ID || op.Actor.Class != b.Actor.Class:
		return "actor"
	case op.Intent != r.Intent || op.Via != r.Via:
		return "intent"
	case !kind:
		return "kind"
	}
	return wrote(op, r)
}
