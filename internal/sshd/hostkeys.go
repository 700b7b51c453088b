package sshd

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/errkind"
)

// hostRSABits is as strong as AES-128 is thought to be (NIST SP 800-57 part 1).
const hostRSABits = 3072

// hostKeys are the kinds of key by which clients know the server, in files that are named as OpenSSH's server names them. RSA is for
// clients that know nothing newer.
var hostKeys = []struct {
	file     string
	generate func() (crypto.PrivateKey, error)
}{
	{"ssh_host_ed25519_key", func() (crypto.PrivateKey, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}},
	{"ssh_host_rsa_key", func() (crypto.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, hostRSABits) }},
}

// OpenHostKeys reads the host keys in a directory, and makes those that are missing.
func OpenHostKeys(dir string) (keys []ssh.Signer, err error) {
	for _, k := range hostKeys {
		path := filepath.Join(dir, k.file)
		text, err := readSecret(path)
		if errors.Is(err, fs.ErrNotExist) {
			text, err = makeHostKey(path, k.generate)
		}
		if err != nil {
			return nil, fmt.Errorf("host key: %w", err)
		}
		key, err := parseHostKey(text)
		if err != nil {
			return nil, fmt.Errorf("host key %s: %w", path, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// readSecret reads a file that nobody else may read: whoever has it can be the server for every client.
func readSecret(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if others := st.Mode().Perm() & 0o077; others != 0 {
		return nil, fmt.Errorf("%s can be read by others than its owner (mode %04o): chmod 600 it, and think of who may have done so: %w", path, st.Mode().Perm(), errkind.Invalid)
	}
	return os.ReadFile(path)
}

// makeHostKey makes a key and writes it to a file and its public half to another beside it. A crash leaves none or a whole one.
func makeHostKey(path string, generate func() (crypto.PrivateKey, error)) ([]byte, error) {
	key, err := generate()
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "skep")
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	if err := writeWhole(path+".pub", ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o644); err != nil {
		return nil, err
	}
	return text, writeWhole(path, text, 0o600)
}

// writeWhole writes a file that is there with all of its content or not at all.
func writeWhole(path string, text []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func parseHostKey(text []byte) (ssh.Signer, error) {
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("it is no private key without a passphrase: %w", errkind.Invalid)
	}
	if key.PublicKey().Type() != ssh.KeyAlgoRSA {
		return key, nil
	}
	signs, ok := key.(ssh.AlgorithmSigner)
	if !ok {
		panic("bug: an RSA key that signs in one way only")
	}
	return ssh.NewSignerWithAlgorithms(signs, rsaHostKey)
}
