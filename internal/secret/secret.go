// Package secret keeps short texts so that whoever has the database but not the master key learns nothing of them.
//
// It is envelope encryption with Tink (https://developers.google.com/tink): each value is sealed with an AES-256-GCM key of its
// own, and this key is wrapped with the master key. Both are bound to what the value belongs to: what was sealed for one place
// does not open in another.
//
//	ring := secret.NewRing(master)
//	sealed, err := ring.Seal(ctx, value, []byte("what it belongs to"))
//	value, err = ring.Open(ctx, sealed, []byte("what it belongs to"))
//
// To change the master key is to wrap the data keys anew (Rewrap); no value is opened for it. Errors contain no part of a value or key.
package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/skep-dev/skep/internal/errkind"
)

// MaxValueBytes bounds a value: a certificate chain with its key fits.
const MaxValueBytes = 48 << 10

// maxWrappedBytes bounds a wrapped data key: with AES-256-GCM it takes below 200 bytes, in a KMS up to some KiB.
const maxWrappedBytes = 8 << 10

// KeyWrapper is a master key: here in memory (ParseKey), or in a key management service, as Tink's clients for these have its
// methods. A ring calls it for the data key, never for a value.
type KeyWrapper interface {
	// ID tells the key from others, and is no secret: it is stored beside what the key has wrapped.
	ID() string
	tink.AEADWithContext
}

// Sealed is a value as it is stored.
type Sealed struct {
	KeyID   string // of the master key
	Wrapped []byte // the data key, as an encrypted Tink keyset
	Box     []byte // the value
}

// Ring seals with one master key, and opens with that and those before it. It is safe for concurrent use if they are.
type Ring struct {
	current KeyWrapper
	all     map[string]KeyWrapper
}

// NewRing makes a ring. old are keys that only open.
func NewRing(current KeyWrapper, old ...KeyWrapper) *Ring {
	r := &Ring{current: current, all: map[string]KeyWrapper{current.ID(): current}}
	for _, k := range old {
		r.all[k.ID()] = k
	}
	return r
}

// Current is the ID of the key that wraps.
func (r *Ring) Current() string { return r.current.ID() }

// Has reports whether the ring has a key.
func (r *Ring) Has(keyID string) bool { return r.all[keyID] != nil }

// Seal encrypts a value for what associated says. It opens with the same associated data only.
func (r *Ring) Seal(ctx context.Context, value, associated []byte) (Sealed, error) {
	if len(value) > MaxValueBytes {
		return Sealed{}, fmt.Errorf("the value has %d bytes, the limit is %d: %w", len(value), MaxValueBytes, errkind.TooLarge)
	}
	h, err := keyset.NewHandle(aead.AES256GCMNoPrefixKeyTemplate())
	if err != nil {
		return Sealed{}, fmt.Errorf("make data key: %w", err)
	}
	key, err := aead.New(h)
	if err != nil {
		return Sealed{}, fmt.Errorf("make data key: %w", err)
	}
	box, err := key.Encrypt(value, associated)
	if err != nil {
		return Sealed{}, fmt.Errorf("encrypt value: %w", err)
	}
	return r.wrap(ctx, h, box, associated)
}

func (r *Ring) wrap(ctx context.Context, h *keyset.Handle, box, associated []byte) (Sealed, error) {
	var wrapped bytes.Buffer
	if err := h.WriteWithContext(ctx, keyset.NewBinaryWriter(&wrapped), r.current, associated); err != nil {
		return Sealed{}, fmt.Errorf("wrap data key: %w", err)
	}
	if wrapped.Len() > maxWrappedBytes {
		return Sealed{}, fmt.Errorf("wrap data key: %d bytes, the limit is %d: %w", wrapped.Len(), maxWrappedBytes, errkind.TooLarge)
	}
	return Sealed{KeyID: r.current.ID(), Wrapped: wrapped.Bytes(), Box: box}, nil
}

// errWrapped and errBox are of a value that does not open. Which of its causes it is, nobody can tell.
var (
	errWrapped = errors.New("unwrap data key: it was changed, or belongs elsewhere, or the master key is another one")
	errBox     = errors.New("decrypt value: it was changed, or belongs elsewhere")
)

func (r *Ring) unwrap(ctx context.Context, s Sealed, associated []byte) (*keyset.Handle, error) {
	master := r.all[s.KeyID]
	if master == nil {
		return nil, fmt.Errorf("unwrap data key: %w", NoKey(s.KeyID))
	}
	if len(s.Wrapped) > maxWrappedBytes {
		return nil, errWrapped
	}
	h, err := keyset.ReadWithContext(ctx, keyset.NewBinaryReader(bytes.NewReader(s.Wrapped)), master, associated)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil: // a key management service may say more
		return nil, fmt.Errorf("%w: %w", errWrapped, err)
	}
	return h, nil
}

// Open decrypts what Seal has encrypted.
func (r *Ring) Open(ctx context.Context, s Sealed, associated []byte) ([]byte, error) {
	h, err := r.unwrap(ctx, s, associated)
	if err != nil {
		return nil, err
	}
	key, err := aead.New(h)
	if err != nil {
		return nil, errWrapped
	}
	value, err := key.Decrypt(s.Box, associated)
	if err != nil {
		return nil, errBox
	}
	return value, nil
}

// Rewrap wraps a value's data key with the current master key. The value stays as it is.
func (r *Ring) Rewrap(ctx context.Context, s Sealed, associated []byte) (Sealed, error) {
	h, err := r.unwrap(ctx, s, associated)
	if err != nil {
		return Sealed{}, err
	}
	return r.wrap(ctx, h, s.Box, associated)
}

// NoKey is the failure of a ring that lacks a master key: errkind.Unavailable.
func NoKey(keyID string) error {
	const most = 64
	if len(keyID) > most {
		keyID = keyID[:most] + "…"
	}
	return fmt.Errorf("it needs the master key %q, which is not given: %w", keyID, errkind.Unavailable)
}
