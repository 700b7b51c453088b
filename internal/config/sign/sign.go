// Package sign signs operations and checks their signatures.
//
// What is signed is a Body: what a client knows of its operation. Its bytes are canonical JSON (RFC 8785), so that a log which keeps them as
// JSON, or a client in another language, comes to the same ones; the signature is Ed25519 (RFC 8032) over Domain and these bytes.
//
//	signed, err := sign.Sign(key, sign.Body{Doc: "infra", ID: "…", Actor: alice, KeyID: "alice@2024-01", Request: request, ClientTime: now})
//	…
//	body, err := sign.Verify(registry, signed, "infra", at)
//
// A body names the document, the actor and the key, so that nobody can use it for others. It has exactly one text: Parse refuses every
// text that Encode would not write. That an operation is not sent twice is for the log to see, by the body's ID.
package sign

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// Domain is signed before the body: a signature made for something else is none of an operation, and the other way round.
const Domain = "conflux-op-v1\n"

// Scheme names how operations are signed.
const Scheme = "ed25519v1"

// Rule is a rule that a signed operation breaks. Errors of Verify wrap one, and an errkind.
type Rule string

// The rules.
const (
	Malformed     Rule = "malformed"        // the body or the envelope cannot be read
	UnknownKey    Rule = "unknown key"      // the registry does not have it
	BadSignature  Rule = "bad signature"    // it is not that key's over this body
	OtherActor    Rule = "another's key"    // the key is not the actor's
	OtherDocument Rule = "another document" // the body is for one
	NotYetValid   Rule = "key not valid yet"
	KeyExpired    Rule = "key expired"
	KeyRevoked    Rule = "key revoked"
	BodyExpired   Rule = "operation expired" // the body says until when it may be used
	OtherRequest  Rule = "another request"   // the operation in the log is not what was signed
)

func (r Rule) Error() string { return string(r) }

// Signed is an operation with its signature.
type Signed struct {
	Body      []byte // as Encode writes it
	Signature []byte // ed25519.SignatureSize bytes
}

// Sign signs a body.
func Sign(key ed25519.PrivateKey, b Body) (Signed, error) {
	if len(key) != ed25519.PrivateKeySize {
		return Signed{}, fmt.Errorf("sign operation: the key has %d bytes, not %d: %w", len(key), ed25519.PrivateKeySize, errkind.Invalid)
	}
	text, err := Encode(b)
	if err != nil {
		return Signed{}, fmt.Errorf("sign operation: %w", err)
	}
	return Signed{Body: text, Signature: ed25519.Sign(key, message(text))}, nil
}

func message(body []byte) []byte { return append([]byte(Domain), body...) }

// Verify checks a signed operation of a document and returns what it says. at is when the operation is taken, or was taken when it is
// an old one: keys end and are revoked in time, and a signature made before that stays good. It must not be a time that the signer
// chose: whoever has a stolen key would choose one before the revocation.
func Verify(keys *Registry, s Signed, doc string, at time.Time) (Body, error) {
	b, err := verify(keys, s, doc, at)
	if err != nil {
		return Body{}, fmt.Errorf("check signature: %w", err)
	}
	return b, nil
}

func verify(keys *Registry, s Signed, doc string, at time.Time) (Body, error) {
	b, err := Parse(s.Body)
	if err != nil {
		return Body{}, err
	}
	key, ok := keys.Key(b.KeyID)
	switch {
	case !ok:
		return Body{}, fmt.Errorf("key %s is not registered: %w: %w", clip(b.KeyID), UnknownKey, errkind.Unauthorized)
	case !ed25519.Verify(key.Public, message(s.Body), s.Signature): // false for every length but the right one
		return Body{}, fmt.Errorf("the signature is not that of key %s over this operation: %w: %w", key.ID, BadSignature, errkind.Unauthorized)
	case key.Actor != b.Actor.ID:
		return Body{}, fmt.Errorf("key %s is %s's, and the operation says that %s made it: %w: %w", key.ID, key.Actor, clip(b.Actor.ID), OtherActor, errkind.Forbidden)
	case b.Doc != doc:
		return Body{}, fmt.Errorf("the operation is for document %s, not %s: %w: %w", clip(b.Doc), clip(doc), OtherDocument, errkind.Forbidden)
	}
	if err := key.validAt(at); err != nil {
		return Body{}, err
	}
	if !b.Expires.IsZero() && !at.Before(b.Expires) {
		return Body{}, fmt.Errorf("the operation could be used until %s: sign it again: %w: %w", timeText(b.Expires), BodyExpired, errkind.Unauthorized)
	}
	return b, nil
}

// envelope is how a signed operation travels: the body as JSON, in whatever form a log or a proxy left it.
type envelope struct {
	Scheme    string          `json:"scheme"`
	Body      json.RawMessage `json:"body"`
	Signature string          `json:"signature"`
}

// MarshalJSON writes {"scheme":"ed25519v1","body":{…},"signature":"…"}, the signature in base64.
func (s Signed) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(envelope{Scheme: Scheme, Body: s.Body, Signature: base64.StdEncoding.EncodeToString(s.Signature)})
	if err != nil {
		return nil, fmt.Errorf("write signed operation: %w", err)
	}
	return b, nil
}

// UnmarshalJSON reads what MarshalJSON writes, and brings the body into its canonical form.
func (s *Signed) UnmarshalJSON(text []byte) error {
	if err := s.unmarshal(text); err != nil {
		return fmt.Errorf("read signed operation: %w: %w: %w", err, Malformed, errkind.Invalid)
	}
	return nil
}

func (s *Signed) unmarshal(text []byte) error {
	if len(text) > MaxBodyBytes+1024 {
		return fmt.Errorf("it has %d bytes, and %d are allowed", len(text), MaxBodyBytes+1024)
	}
	var e envelope
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return err
	}
	if e.Scheme != Scheme {
		return fmt.Errorf("its scheme is %q: write %q", clip(e.Scheme), Scheme)
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(e.Signature)
	if err != nil || len(signature) != ed25519.SignatureSize {
		return fmt.Errorf("its signature is not %d bytes in base64", ed25519.SignatureSize)
	}
	body, err := Canonical(e.Body)
	if err != nil {
		return err
	}
	*s = Signed{Body: body, Signature: signature}
	return nil
}
