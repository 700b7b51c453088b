package sign_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/errkind"
)

func TestRegistryOnDisk(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	if r, err := sign.LoadRegistry(file); err != nil || len(r.List()) != 0 {
		t.Fatalf("without a file: %v, %v", r, err)
	}
	seed, err := sign.ParsePublic("M4kJ839WYm//Jarj9Xticyn6P7z1NQb+UAy5X6Y3dv8=")
	if err != nil {
		t.Fatal(err)
	}
	want := []sign.Key{
		{ID: "alice@2024", Actor: "alice", Public: seed, Created: noon, Expires: noon.AddDate(1, 0, 0)},
		{ID: "bob@2024-01", Actor: "bob", Public: public, Created: noon, Revoked: true, RevokedAt: noon.Add(time.Hour)},
	}
	for _, k := range want {
		k.Revoked, k.RevokedAt = false, time.Time{}
		if err := sign.UpdateRegistry(file, func(r *sign.Registry) error { return r.Register(k) }); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []time.Duration{time.Hour, 2 * time.Hour} { // the second revocation is later and changes nothing
		if err := sign.UpdateRegistry(file, func(r *sign.Registry) error { return r.Revoke("bob@2024-01", noon.Add(at)) }); err != nil {
			t.Fatal(err)
		}
	}
	r, err := sign.LoadRegistry(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, r.List()); diff != "" {
		t.Errorf("List: %s", diff)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(text); !strings.HasPrefix(s, `{
  "keys": {
    "alice@2024": {
      "actor_id": "alice",
      "public_key": "M4kJ839WYm//Jarj9Xticyn6P7z1NQb+UAy5X6Y3dv8=",
      "created_at": "2024-01-23T12:00:00Z",
      "expires_at": "2025-01-23T12:00:00Z",
      "revoked": false
    },`) {
		t.Errorf("the file: %s", s)
	}

	// What fails changes nothing, and leaves no lock.
	err = sign.UpdateRegistry(file, func(r *sign.Registry) error { return r.Register(want[0]) })
	if errkind.Of(err) != errkind.Exists {
		t.Errorf("the same key again: %v", err)
	}
	if err := sign.UpdateRegistry(file, func(r *sign.Registry) error { return r.Revoke("carol", noon) }); errkind.Of(err) != errkind.NotFound {
		t.Errorf("a key that is not there: %v", err)
	}
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, text) {
		t.Errorf("the file has changed: %s, %v", now, err)
	}
	// While one process changes it, another does not.
	err = sign.UpdateRegistry(file, func(*sign.Registry) error {
		inner := sign.UpdateRegistry(file, func(*sign.Registry) error { return nil })
		if errkind.Of(inner) != errkind.Unavailable || !strings.Contains(inner.Error(), "keys.json.lock") {
			t.Errorf("a second change: %v", inner)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRegistryRefuses(t *testing.T) {
	t.Parallel()
	good := fmt.Sprintf(`{"keys": {
 "a": {"actor_id":"alice","public_key":%q,"created_at":"2024-01-01T00:00:00Z","revoked":false}
}}`, sign.PublicText(public))
	if _, err := sign.ParseRegistry([]byte(good)); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, from, to, want string }{
		{"no JSON", `{"keys"`, `{keys`, "line 1, column 2: invalid character"},
		{"key twice", `"keys": {`, `"keys": { "a": null,`, "Duplicate key"},
		{"unknown member", `"revoked"`, `"revokd"`, `unknown field "revokd"`},
		{"number for a text", `"alice"`, `1`, "line 2, column 19: "},
		{"key ID", `"a":`, `"a b":`, "letters, digits"},
		{"actor", "alice", "", "names no actor"},
		{"public key", `"public_key":"`, `"public_key":"!`, "standard base64"},
		{"short public key", sign.PublicText(public), "AAAA", "has 3 bytes, and those of Ed25519 have 32"},
		{"created", `"2024-01-01T00:00:00Z"`, `"yesterday"`, "yesterday"},
		{"never created", `"created_at":"2024-01-01T00:00:00Z",`, ``, "no created_at"},
		{"expires", `"revoked"`, `"expires_at":"2023-01-01T00:00:00Z","revoked"`, "before it is created"},
		{"revoked and not", `"revoked":false`, `"revoked":false,"revoked_at":"2024-01-01T00:00:00Z"`, "set both or none"},
	}
	for _, tt := range tests {
		_, err := sign.ParseRegistry([]byte(strings.Replace(good, tt.from, tt.to, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.want) || errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := sign.ParseRegistry(make([]byte, sign.MaxRegistryBytes+1)); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("a large file: %v", err)
	}
}

// Under a key of small order the signature (identity, 0) is good for one message in eight at least: whoever gets such a key
// registered has signed what they like, and can say that it was somebody else.
func TestKeysOfSmallOrder(t *testing.T) {
	t.Parallel()
	forged := make([]byte, ed25519.SignatureSize)
	forged[0] = 1
	for _, text := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa", // the other sign
	} {
		key, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		good := 0
		for i := range 200 {
			if ed25519.Verify(key, fmt.Appendf(nil, "message %d", i), forged) {
				good++
			}
		}
		if good == 0 {
			t.Errorf("%s is not of small order: no forged signature is good", text)
		}
		if _, err := sign.ParsePublic(base64.StdEncoding.EncodeToString(key)); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s is taken: %v", text, err)
		}
	}
}

func TestPrivateKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k, key, err := sign.Generate("alice", noon)
	if err != nil || k.ID != "alice@2024-01" || k.Actor != "alice" || !k.Created.Equal(noon) || !key.Public().(ed25519.PublicKey).Equal(k.Public) {
		t.Fatalf("Generate = %+v, %v", k, err)
	}
	if _, _, err := sign.Generate("al ice", noon); errkind.Of(err) != errkind.Invalid {
		t.Errorf("an actor whose key cannot be named: %v", err)
	}
	file := filepath.Join(dir, "keys", "alice.pem")
	if err := sign.WritePrivate(file, key); err != nil {
		t.Fatal(err)
	}
	if got, err := sign.ReadPrivate(file); err != nil || !got.Equal(key) {
		t.Errorf("read back: %v", err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := sign.WritePrivate(file, key); errkind.Of(err) != errkind.Exists {
		t.Errorf("over a key: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "keys", ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := sign.ReadPrivate(file); errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
	if _, err := sign.ReadPrivate(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzParsePrivate(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if key, err := sign.ParsePrivate(text); err == nil && len(key) != ed25519.PrivateKeySize || err != nil && errkind.Of(err) != errkind.Invalid {
			t.Fatalf("%d bytes, %v", len(key), err)
		}
	})
}

func FuzzParseRegistry(f *testing.F) {
	f.Add([]byte(`{"keys":{"alice@2024":{"actor_id":"alice","public_key":"M4kJ839WYm//Jarj9Xticyn6P7z1NQb+UAy5X6Y3dv8=","created_at":"2024-01-01T00:00:00Z","expires_at":"2025-01-01T00:00:00Z","revoked":true,"revoked_at":"2024-06-01T00:00:00Z"}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := sign.ParseRegistry(text)
		if err != nil {
			return
		}
		out, err := r.Text()
		if err != nil {
			t.Fatal(err)
		}
		again, err := sign.ParseRegistry(out)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if diff := cmp.Diff(r.List(), again.List()); diff != "" {
			t.Fatal(diff)
		}
	})
}
