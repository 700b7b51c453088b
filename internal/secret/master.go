package secret

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/skep-dev/skep/internal/errkind"
)

// masterKeyBytes is AES-256's.
const masterKeyBytes = 32

// maxKeyFileBytes bounds what is read of a file that should have a key in it.
const maxKeyFileBytes = 1 << 10

// filePrefix says that what follows is a file's path.
const filePrefix = "file:"

// masterKey is a master key in memory.
type masterKey struct {
	id   string
	aead tink.AEAD
}

// ID is a part of the key's hash. The key is random, so it can be told from the hash no better than by trying all.
func (m *masterKey) ID() string { return m.id }

// String is the key's ID, so that no key is printed by mistake.
func (m *masterKey) String() string { return "master key " + m.id }

// EncryptWithContext implements tink.AEADWithContext.
func (m *masterKey) EncryptWithContext(_ context.Context, plaintext, associated []byte) ([]byte, error) {
	return m.aead.Encrypt(plaintext, associated) //nolint:wrapcheck // callers say what was to be wrapped
}

// DecryptWithContext implements tink.AEADWithContext.
func (m *masterKey) DecryptWithContext(_ context.Context, ciphertext, associated []byte) ([]byte, error) {
	return m.aead.Decrypt(ciphertext, associated) //nolint:wrapcheck // callers say what was to be unwrapped
}

// ParseKey makes a master key of its text: 32 bytes in base64, or file:PATH, where a file has that text.
func ParseKey(text string) (KeyWrapper, error) {
	path, isFile := strings.CutPrefix(text, filePrefix)
	if !isFile {
		return parse(text)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFileBytes))
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	k, err := parse(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// IsFile reports whether a master key's text names a file, and so is no secret itself.
func IsFile(text string) bool { return strings.HasPrefix(text, filePrefix) }

func parse(text string) (KeyWrapper, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != masterKeyBytes { // the error would quote a part of it
		return nil, fmt.Errorf("a master key is %d random bytes in base64 (openssl rand -base64 %[1]d), or file:PATH: %w", masterKeyBytes, errkind.Invalid)
	}
	a, err := subtle.NewAESGCM(b)
	if err != nil {
		return nil, fmt.Errorf("use master key: %w", err)
	}
	sum := sha256.Sum256(append([]byte("skep master key\x00"), b...))
	return &masterKey{id: hex.EncodeToString(sum[:8]), aead: a}, nil
}

// MakeKeyFile writes a new master key to a file that only its owner reads, durably: what it wraps must not outlive it. A file
// that is there stays: fs.ErrExist.
func MakeKeyFile(path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make master key: %w", err)
	}
	b := make([]byte, masterKeyBytes)
	_, _ = rand.Read(b) // it cannot fail
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(b) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("make master key: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

// syncDir makes a new name in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
