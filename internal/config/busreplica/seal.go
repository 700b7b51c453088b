package busreplica

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/skep-dev/skep/internal/errkind"
)

// MinKey is how many characters a key has at least: it is not a password, but a random text, as openssl rand -base64 32 makes one.
const MinKey = 32

const (
	// maxSkew is how far the clock of a message's sender may be from this one's. Within it the messages that came are remembered, so that
	// what somebody records on the bus and sends again later is not worked on again.
	maxSkew = 5 * time.Minute
	// maxRemembered is how many of them are remembered, twice. Who has heard more than that in ten minutes may do some work again; taking
	// operations again changes nothing.
	maxRemembered = 32_768
)

// sealed is how a message lies on the bus:
//
//	version     1 byte, 1
//	nonce       24 bytes, random
//	ciphertext  XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) of: time, 8 bytes, big endian, Unix milliseconds; JSON
//
// The key is derived from the cluster's (HKDF-SHA256, RFC 5869) for one document, and the associated data has what the message is for: so a message
// can be opened as what it was sent as, and nowhere else. What answers has the nonce of what was asked in it.
const (
	sealVersion = 1
	sealHead    = 1 + chacha20poly1305.NonceSizeX
	sealTime    = 8
)

var (
	errSeal  = fmt.Errorf("the message was not sealed with this copy's key for this document: %w", errkind.Forbidden)
	errAgain = fmt.Errorf("the message has come before: %w", errkind.Exists)
	errClock = errors.New("the sender's clock and this one differ")
)

type nonce [chacha20poly1305.NonceSizeX]byte

// String is for purposes.
func (n nonce) String() string { return hex.EncodeToString(n[:]) }

// sealer seals and opens the messages about one document.
type sealer struct {
	aead cipher.AEAD
	now  func() time.Time

	mu             sync.Mutex
	latest, before map[nonce]struct{} // guarded by mu; before is what latest was when it was full
}

func newSealer(key, scope, document string, now func() time.Time) (*sealer, error) {
	if len(key) < MinKey {
		return nil, fmt.Errorf("the key has %d characters, and at least %d are wanted: make one with openssl rand -base64 32: %w", len(key), MinKey, errkind.Invalid)
	}
	// The lengths keep a scope and a document apart.
	info := fmt.Sprintf("skep config bus v1\n%d %s\n%d %s\n", len(scope), scope, len(document), document)
	derived, err := hkdf.Key(sha256.New, []byte(key), nil, info, chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the key: %w", err)
	}
	aead, err := chacha20poly1305.NewX(derived)
	if err != nil {
		return nil, fmt.Errorf("derive the key: %w", err)
	}
	return &sealer{aead: aead, now: now, latest: map[nonce]struct{}{}}, nil
}

// seal makes a message of a value, and returns its nonce.
func (s *sealer) seal(purpose string, value any) ([]byte, nonce, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, nonce{}, fmt.Errorf("encode the message: %w", err)
	}
	var n nonce
	_, _ = rand.Read(n[:])                                                                                   // it never fails
	plain := binary.BigEndian.AppendUint64(make([]byte, 0, sealTime+len(text)), uint64(s.now().UnixMilli())) //nolint:gosec // after 1970
	plain = append(plain, text...)
	frame := make([]byte, 0, sealHead+len(plain)+s.aead.Overhead())
	frame = append(append(frame, sealVersion), n[:]...)
	return s.aead.Seal(frame, n[:], plain, []byte(purpose)), n, nil
}

// open opens a message that nobody waits for: it must be new, and of now.
func (s *sealer) open(purpose string, frame []byte, into any) (nonce, error) {
	text, n, at, err := s.unseal(purpose, frame)
	if err != nil {
		return n, err
	}
	if ahead := at.Sub(s.now()); ahead.Abs() > maxSkew {
		return n, fmt.Errorf("%w by %v: %w", errClock, ahead.Round(time.Second), errkind.Forbidden)
	}
	if !s.remember(n) {
		return n, errAgain
	}
	return n, decode(text, into)
}

// openAnswer opens a message whose purpose has something in it that was made for it alone.
func (s *sealer) openAnswer(purpose string, frame []byte, into any) error {
	text, _, _, err := s.unseal(purpose, frame)
	if err != nil {
		return err
	}
	return decode(text, into)
}

func decode(text []byte, into any) error {
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read the message: %w: %w", err, errkind.Invalid)
	}
	return nil
}

func (s *sealer) unseal(purpose string, frame []byte) (text []byte, n nonce, at time.Time, err error) {
	if len(frame) < sealHead || frame[0] != sealVersion {
		return nil, n, at, errSeal
	}
	copy(n[:], frame[1:])
	plain, err := s.aead.Open(nil, n[:], frame[sealHead:], []byte(purpose))
	if err != nil || len(plain) < sealTime {
		return nil, n, at, errSeal
	}
	return plain[sealTime:], n, time.UnixMilli(int64(binary.BigEndian.Uint64(plain))), nil //nolint:gosec // who has the key wrote it
}

// remember notes a message, and reports whether it is new. Only what was sealed with the key comes here, so nobody else can fill the memory.
func (s *sealer) remember(n nonce) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, now := s.latest[n]
	_, before := s.before[n]
	if now || before {
		return false
	}
	if len(s.latest) >= maxRemembered {
		s.before, s.latest = s.latest, map[nonce]struct{}{}
	}
	s.latest[n] = struct{}{}
	return true
}
