package hosted

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"strings"
	"sync"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/webhook"
)

// sealed is a store of webhooks whose values are encrypted, each for its own name in its own document: they have the secrets with which is
// signed. Names are readable.
type sealed struct {
	webhook.Store

	document string
	// key gives the key of the document's tenant, when there is something to encrypt: most documents have no webhooks.
	key func(ctx context.Context) ([]byte, error)
	// begin is called before there is a subscription.
	begin func(ctx context.Context) error

	mu   sync.Mutex
	aead cipher.AEAD // guarded by mu
}

func (s *sealed) open(ctx context.Context) (cipher.AEAD, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.aead != nil {
		return s.aead, nil
	}
	key, err := s.key(ctx)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	// Random nonces of 96 bits are good for 2^32 values; a delivery writes a few.
	s.aead, err = cipher.NewGCMWithRandomNonce(block)
	return s.aead, err
}

func (s *sealed) bound(name string) []byte {
	return fmt.Appendf(nil, "skep webhook: %q %q", s.document, name)
}

// Meta returns a value.
func (s *sealed) Meta(ctx context.Context, name string) ([]byte, error) {
	_, value, err := s.read(ctx, name)
	return value, err
}

func (s *sealed) read(ctx context.Context, name string) (box, value []byte, err error) {
	if box, err = s.Store.Meta(ctx, name); err != nil {
		return nil, nil, err
	}
	aead, err := s.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	if value, err = aead.Open(nil, nil, box, s.bound(name)); err != nil {
		return nil, nil, fmt.Errorf("webhooks of document %s: %s was encrypted with another key, or changed: %w", s.document, name, errkind.Internal)
	}
	return box, value, nil
}

// SwapMeta keeps a value in place of old. Encryption is never twice the same, so what old became is looked up.
func (s *sealed) SwapMeta(ctx context.Context, name string, old, value []byte) error {
	var before []byte
	if len(old) > 0 {
		box, now, err := s.read(ctx, name)
		if errkind.Of(err) == errkind.NotFound || err == nil && !bytes.Equal(now, old) {
			return fmt.Errorf("%s has changed: %w", name, errkind.Conflict)
		}
		if err != nil {
			return err
		}
		before = box
	}
	if len(value) == 0 {
		return s.Store.SwapMeta(ctx, name, before, nil)
	}
	aead, err := s.open(ctx)
	if err == nil && len(old) == 0 && strings.HasPrefix(name, webhook.KeySubscription) {
		err = s.begin(ctx)
	}
	if err != nil {
		return err
	}
	return s.Store.SwapMeta(ctx, name, before, aead.Seal(nil, nil, value, s.bound(name)))
}
