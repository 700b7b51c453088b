package sign

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// pemType is the block of a PKCS #8 key (RFC 5958, RFC 8410).
const pemType = "PRIVATE KEY"

// maxKeyFileBytes is far more than a key in PEM has.
const maxKeyFileBytes = 64 << 10

// Generate makes a key for an actor. Its ID is the actor and the month: alice@2024-01.
func Generate(actor string, now time.Time) (Key, ed25519.PrivateKey, error) {
	now = now.UTC().Truncate(time.Second)
	k := Key{ID: actor + "@" + now.Format("2006-01"), Actor: actor, Created: now}
	if err := errors.Join(checkActor(actor), checkKeyID(k.ID)); err != nil {
		return Key{}, nil, fmt.Errorf("generate key: %w", err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, nil, fmt.Errorf("generate key: %w", err)
	}
	k.Public = public
	return k, private, nil
}

// PublicText is a public key as keys.json and `--public-key` have it: standard base64 of its 32 bytes.
func PublicText(key ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(key) }

// ParsePublic reads a public key.
func ParsePublic(text string) (ed25519.PublicKey, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("the public key is not base64: write its 32 bytes in standard base64, 44 characters: %w", errkind.Invalid)
	}
	if err := checkPublic(b); err != nil {
		return nil, err
	}
	return b, nil
}

// smallOrder are the encodings of the points whose order divides 8, without the sign: y is 0, 1, p-1, one of the two of order 8, or 0 and
// 1 with p added, which some readers take. Under such a key anybody can make signatures.
var smallOrder = map[string]bool{
	"0000000000000000000000000000000000000000000000000000000000000000": true,
	"0100000000000000000000000000000000000000000000000000000000000000": true,
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": true,
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05": true,
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a": true,
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": true,
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": true,
}

func checkPublic(key []byte) error {
	if len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("the public key has %d bytes, and those of Ed25519 have %d: %w", len(key), ed25519.PublicKeySize, errkind.Invalid)
	}
	y := append([]byte{}, key...)
	y[len(y)-1] &= 0x7f
	if smallOrder[hex.EncodeToString(y)] {
		return fmt.Errorf("the public key is one under which anybody can sign: generate another: %w", errkind.Invalid)
	}
	return nil
}

// WritePrivate stores a private key in PEM such that only the user can read it. It does not write over a file: the key in it may be the
// only copy.
func WritePrivate(file string, key ed25519.PrivateKey) error {
	err := writePrivate(file, key)
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%s is there already: write to another file, or move it away: %w", file, errkind.Exists)
	}
	if err != nil {
		return fmt.Errorf("store private key: %w", err)
	}
	return nil
}

func writePrivate(file string, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(file), ".key-*.part") // its mode is 0600
	if err != nil {
		return err
	}
	err = pem.Encode(part, &pem.Block{Type: pemType, Bytes: der})
	if err == nil {
		err = part.Sync()
	}
	if err = errors.Join(err, part.Close()); err == nil {
		err = os.Link(part.Name(), file) // as Rename would, but not onto a file
	}
	return errors.Join(err, os.Remove(part.Name()))
}

// ReadPrivate loads a private key that WritePrivate or `openssl genpkey -algorithm ed25519` made.
func ReadPrivate(file string) (ed25519.PrivateKey, error) {
	key, err := readPrivate(file)
	if err != nil {
		return nil, fmt.Errorf("load private key: %w", err)
	}
	return key, nil
}

func readPrivate(file string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxKeyFileBytes {
		return nil, fmt.Errorf("%s has %d bytes, which is too much for a key: %w", file, info.Size(), errkind.TooLarge)
	}
	if m := info.Mode().Perm(); m&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): chmod 600 it, and make another key if somebody may have: %w", file, m, errkind.Invalid)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := ParsePrivate(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

// ParsePrivate reads a private key in PEM.
func ParsePrivate(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return nil, fmt.Errorf(`it has no block "-----BEGIN %s-----" of PEM: %w`, pemType, errkind.Invalid)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", err.Error(), errkind.Invalid)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it is a key for another algorithm: make one with openssl genpkey -algorithm ed25519: %w", errkind.Invalid)
	}
	return private, nil
}
