package secret_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/secret"
)

// key makes a master key whose bytes are all b.
func key(tb testing.TB, b byte) secret.KeyWrapper {
	tb.Helper()
	k, err := secret.ParseKey(keyText(b))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func keyText(b byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) }

var place = []byte("tenant a, name X, version 1")

func seal(tb testing.TB, r *secret.Ring, value string) secret.Sealed {
	tb.Helper()
	s, err := r.Seal(tb.Context(), []byte(value), place)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func wantValue(tb testing.TB, r *secret.Ring, s secret.Sealed, want string) {
	tb.Helper()
	got, err := r.Open(tb.Context(), s, place)
	if err != nil || string(got) != want {
		tb.Errorf("opened %q, %v, want %q", got, err, want)
	}
}

func TestSealAndOpen(t *testing.T) {
	r := secret.NewRing(key(t, 1))
	for _, value := range []string{"", "s3cret", "\x00\xff", strings.Repeat("x", secret.MaxValueBytes)} {
		a, b := seal(t, r, value), seal(t, r, value)
		wantValue(t, r, a, value)
		if bytes.Equal(a.Box, b.Box) || bytes.Equal(a.Wrapped, b.Wrapped) {
			t.Errorf("the same value sealed twice is the same: who sees both learns that")
		}
		if value != "" && bytes.Contains(a.Box, []byte(value)) {
			t.Errorf("the value %.10q is in its box", value)
		}
	}
	_, err := r.Seal(t.Context(), make([]byte, secret.MaxValueBytes+1), place)
	if errkind.Of(err) != errkind.TooLarge {
		t.Errorf("a value that is too long: %v", err)
	}
}

// TestNothingElseOpens: a value opens unchanged, where it belongs, with its own keys; and no error has a part of it.
func TestNothingElseOpens(t *testing.T) {
	r := secret.NewRing(key(t, 1), key(t, 2))
	good, other := seal(t, r, "s3cret-one"), seal(t, r, "s3cret-two")
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	tests := map[string]secret.Sealed{
		"another's box":          {good.KeyID, good.Wrapped, other.Box},
		"another's key":          {good.KeyID, other.Wrapped, good.Box},
		"an empty box":           {good.KeyID, good.Wrapped, nil},
		"an empty key":           {good.KeyID, nil, good.Box},
		"a key that is no key":   {good.KeyID, []byte("\x0a\x05hello"), good.Box},
		"a key without end":      {good.KeyID, bytes.Repeat([]byte{0x0a}, 1<<20), good.Box},
		"the other master key":   {key(t, 2).ID(), good.Wrapped, good.Box},
		"an unknown master key":  {"feedfeedfeedfeed", good.Wrapped, good.Box},
		"no master key":          {"", good.Wrapped, good.Box},
		"a longer box":           {good.KeyID, good.Wrapped, append(bytes.Clone(good.Box), 0)},
		"a master key's long ID": {strings.Repeat("f", 1<<20), good.Wrapped, good.Box},
	}
	for at := range good.Box {
		tests[fmt.Sprint("box without the end at ", at)] = secret.Sealed{KeyID: good.KeyID, Wrapped: good.Wrapped, Box: good.Box[:at]}
		tests[fmt.Sprint("box changed at ", at)] = secret.Sealed{KeyID: good.KeyID, Wrapped: good.Wrapped, Box: flip(good.Box, at)}
	}
	for at := range good.Wrapped {
		tests[fmt.Sprint("key without the end at ", at)] = secret.Sealed{KeyID: good.KeyID, Wrapped: good.Wrapped[:at], Box: good.Box}
	}
	for name, s := range tests {
		value, err := r.Open(t.Context(), s, place)
		if err == nil || value != nil || strings.Contains(err.Error(), "s3cret") || len(err.Error()) > 400 {
			t.Errorf("%s: opened %q, %v", name, value, err)
		}
	}
	for _, elsewhere := range []string{"", "tenant b, name X, version 1", string(place) + " "} {
		if value, err := r.Open(t.Context(), good, []byte(elsewhere)); err == nil {
			t.Errorf("opened %q as %q", value, elsewhere)
		}
		if _, err := r.Rewrap(t.Context(), good, []byte(elsewhere)); err == nil {
			t.Errorf("wrapped anew as %q", elsewhere)
		}
	}
}

// TestAnotherMasterKey: the new key wraps, the old one opens, and after wrapping anew it is not needed.
func TestAnotherMasterKey(t *testing.T) {
	before := secret.NewRing(key(t, 1))
	s := seal(t, before, "s3cret")
	both := secret.NewRing(key(t, 2), key(t, 1))
	wantValue(t, both, s, "s3cret")
	anew, err := both.Rewrap(t.Context(), s, place)
	if err != nil || anew.KeyID != key(t, 2).ID() || both.Current() != anew.KeyID || !bytes.Equal(anew.Box, s.Box) {
		t.Fatalf("wrapped anew: %+v, %v", anew, err)
	}
	after := secret.NewRing(key(t, 2))
	wantValue(t, after, anew, "s3cret")
	if _, err := after.Open(t.Context(), s, place); errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), key(t, 1).ID()) {
		t.Errorf("without the old key: %v", err)
	}
	if !both.Has(s.KeyID) || after.Has(s.KeyID) {
		t.Error("a ring does not know its keys")
	}
}

// remote is a master key elsewhere: it hears the context and the place, and may fail.
type remote struct {
	secret.KeyWrapper
	heard []string
	down  error
}

func (k *remote) EncryptWithContext(ctx context.Context, plaintext, associated []byte) ([]byte, error) {
	if k.heard = append(k.heard, string(associated)); k.down != nil {
		return nil, k.down
	}
	return k.KeyWrapper.EncryptWithContext(ctx, plaintext, associated)
}

func (k *remote) DecryptWithContext(ctx context.Context, ciphertext, associated []byte) ([]byte, error) {
	if k.heard = append(k.heard, string(associated)); k.down != nil {
		return nil, k.down
	}
	return k.KeyWrapper.DecryptWithContext(ctx, ciphertext, associated)
}

func TestMasterKeyElsewhere(t *testing.T) {
	k := &remote{KeyWrapper: key(t, 1)}
	r := secret.NewRing(k)
	s := seal(t, r, "s3cret")
	wantValue(t, r, s, "s3cret")
	if len(k.heard) != 2 || k.heard[0] != string(place) || k.heard[1] != string(place) {
		t.Errorf("the service heard %q", k.heard)
	}
	k.down = errors.New("the service does not answer")
	if _, err := r.Open(t.Context(), s, place); err == nil || !strings.Contains(err.Error(), k.down.Error()) {
		t.Errorf("open without the service: %v", err)
	}
	if _, err := r.Seal(t.Context(), []byte("s3cret"), place); err == nil || !strings.Contains(err.Error(), k.down.Error()) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("seal without the service: %v", err)
	}
}

func TestKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "master-key")
	if err := secret.MakeKeyFile(file); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	a, err := secret.ParseKey("file:" + file)
	if err != nil {
		t.Fatal(err)
	}
	if err := secret.MakeKeyFile(file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made over a file that is there: %v", err)
	}
	b, err := secret.ParseKey("file:" + file)
	if err != nil || b.ID() != a.ID() || a.ID() == key(t, 1).ID() {
		t.Errorf("read again: %v, %v", b, err)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(fmt.Sprintf("%v %+v", a, a), strings.TrimSpace(string(text))) || fmt.Sprint(a) != "master key "+a.ID() {
		t.Errorf("a key prints as %v, %v", a, err)
	}
}

func TestBadKeys(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "bad")
	if err := os.WriteFile(file, []byte(strings.Repeat("A", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "hunter2hunter2", keyText(1) + keyText(1), keyText(1)[:40], "file:" + file} {
		k, err := secret.ParseKey(text)
		if errkind.Of(err) != errkind.Invalid || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("key %.20q: %v, %v", text, k, err)
		}
	}
	if _, err := secret.ParseKey("file:" + filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is missing: %v", err)
	}
}

// FuzzOpen: whatever a database holds, opening it neither panics nor succeeds, unless it is what was sealed.
func FuzzOpen(f *testing.F) {
	r := secret.NewRing(key(f, 1))
	s, err := r.Seal(f.Context(), []byte("s3cret"), place)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Wrapped, s.Box)
	f.Add(s.Wrapped[:20], s.Box)
	f.Add([]byte("\x0a\x02ab\x12\x01c"), []byte{})
	f.Fuzz(func(t *testing.T, wrapped, box []byte) {
		value, err := r.Open(t.Context(), secret.Sealed{KeyID: s.KeyID, Wrapped: wrapped, Box: box}, place)
		if err == nil && string(value) != "s3cret" { // sealed in another process of this test, perhaps
			t.Errorf("opened %q", value)
		}
	})
}
