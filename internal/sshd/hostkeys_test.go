package sshd_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/sshd"
)

// TestHostKeys: they are made once, nobody else can read them, and what is wrong with a file stops the start.
func TestHostKeys(t *testing.T) {
	dir := t.TempDir()
	open := func() []ssh.Signer {
		t.Helper()
		keys, err := sshd.OpenHostKeys(dir)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	first, again := open(), open()
	if len(first) != 2 || first[0].PublicKey().Type() != ssh.KeyAlgoED25519 || first[1].PublicKey().Type() != ssh.KeyAlgoRSA {
		t.Fatalf("made %d keys", len(first))
	}
	for i, file := range []string{"ssh_host_ed25519_key", "ssh_host_rsa_key"} {
		if !bytes.Equal(first[i].PublicKey().Marshal(), again[i].PublicKey().Marshal()) {
			t.Errorf("%s: the second start has another key", file)
		}
		path := filepath.Join(dir, file)
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, st.Mode(), err)
		}
		line, err := os.ReadFile(path + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		if key, _, _, _, err := ssh.ParseAuthorizedKey(line); err != nil || !bytes.Equal(key.Marshal(), first[i].PublicKey().Marshal()) {
			t.Errorf("%s.pub: %v", file, err)
		}
	}

	path := filepath.Join(dir, "ssh_host_rsa_key")
	for what, spoil := range map[string]func() error{
		"readable by others": func() error { return os.Chmod(path, 0o640) },
		"cut short":          func() error { return errors.Join(os.Chmod(path, 0o600), os.Truncate(path, 100)) },
		"empty":              func() error { return os.Truncate(path, 0) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if _, err := sshd.OpenHostKeys(dir); !errors.Is(err, errkind.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if keys := open(); bytes.Equal(keys[1].PublicKey().Marshal(), first[1].PublicKey().Marshal()) {
		t.Error("a key that was taken away came back")
	}
}
