package server_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/server"
)

// authorized is a public key's line.
func authorized(tb testing.TB, public any) string {
	tb.Helper()
	k := result(ssh.NewPublicKey(public))(tb)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

func newEd25519(tb testing.TB) string {
	tb.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	return authorized(tb, result(public, err)(tb))
}

// rsaOf is a public key of so many bits. Nobody has its private key.
func rsaOf(bits int) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(0x10001)), E: 65537}
}

func TestAuthorizedKeys(t *testing.T) {
	ec := func(c elliptic.Curve) any { return &result(ecdsa.GenerateKey(c, rand.Reader))(t).PublicKey }
	for _, line := range []string{
		newEd25519(t), newEd25519(t) + " alice@laptop\n", authorized(t, ec(elliptic.P256())), authorized(t, ec(elliptic.P384())), authorized(t, ec(elliptic.P521())),
		authorized(t, rsaOf(2048)), authorized(t, rsaOf(4096)),
	} {
		kind, again, fingerprint, _, err := server.ParseAuthorizedKey(line)
		if err != nil || !strings.HasPrefix(line, again) || !strings.HasPrefix(again, kind+" ") || !strings.HasPrefix(fingerprint, "SHA256:") {
			t.Errorf("%.60s: %q %q %v", line, kind, fingerprint, err)
		}
	}
	good := newEd25519(t)
	for name, line := range map[string]string{
		"nothing": "", "a name": "alice", "RSA of 1024 bits": authorized(t, rsaOf(1024)), "RSA of 20000 bits": authorized(t, rsaOf(20000)),
		"options": `command="sh" ` + good, "a marker": "@cert-authority " + good, "two lines": good + "\n" + newEd25519(t), "half of one": good[:50],
		"another type before it": "ssh-rsa " + strings.Fields(good)[1], "a private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
		"DSA": "ssh-dss AAAAB3NzaC1kc3MAAAAhAP", "a line without end": good + " " + strings.Repeat("x", 17<<10),
	} {
		if _, _, _, _, err := server.ParseAuthorizedKey(line); !errors.Is(err, errkind.Invalid) {
			t.Errorf("%s: %v, want errkind.Invalid", name, err)
		}
	}
}

// TestFingerprintIsSSHs: what the server calls a key is what ssh-keygen calls it.
func TestFingerprintIsSSHs(t *testing.T) {
	program, err := exec.LookPath("ssh-keygen")
	if err != nil {
		if os.Getenv("SKEP_TEST_ALL") == "1" {
			t.Fatal("there is no ssh-keygen")
		}
		t.Skip("there is no ssh-keygen (on Debian: apt-get install openssh-client)")
	}
	file := filepath.Join(t.TempDir(), "key")
	if out, err := exec.CommandContext(t.Context(), program, "-q", "-t", "ed25519", "-N", "", "-C", "alice@laptop", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	shown := result(exec.CommandContext(t.Context(), program, "-l", "-f", file+".pub").Output())(t)
	_, _, fingerprint, comment, err := server.ParseAuthorizedKey(string(result(os.ReadFile(file + ".pub"))(t)))
	if err != nil || !strings.Contains(string(shown), fingerprint) || comment != "alice@laptop" {
		t.Errorf("fingerprint %s, comment %s, %v; ssh-keygen says %s", fingerprint, comment, err, shown)
	}
}

func FuzzAuthorizedKey(f *testing.F) {
	f.Add(newEd25519(f) + " alice@laptop")
	f.Add(authorized(f, rsaOf(2048)))
	f.Add(`no-pty,command="x" ssh-ed25519 AAAA`)
	f.Fuzz(func(t *testing.T, line string) {
		kind, again, fingerprint, comment, err := server.ParseAuthorizedKey(line)
		if err != nil {
			if !errors.Is(err, errkind.Invalid) {
				t.Errorf("%q: %v, want errkind.Invalid", line, err)
			}
			return
		}
		k2, again2, f2, _, err := server.ParseAuthorizedKey(again)
		if err != nil || k2 != kind || again2 != again || f2 != fingerprint || len(comment) > 100 {
			t.Errorf("%q became %q, and that %q, %v", line, again, again2, err)
		}
	})
}

// TestSSHKeysOverREST: keys are their principal's; what somebody else has, is refused without saying whose it is.
func TestSSHKeysOverREST(t *testing.T) {
	s := startSite(t, server.Options{})
	_, alice := s.person("alice")
	_, mallory := s.person("mallory")
	key := newEd25519(t)
	ctx := t.Context()
	made := result(s.api(alice).AddSSHKey(ctx, "alice", client.AddSSHKey{Key: key + " alice@laptop", TTL: "365d"}))(t)
	if made.Title != "alice@laptop" || made.Key != key || made.ExpiresAt == nil || made.LastUsedAt != nil {
		t.Errorf("made %+v", made)
	}
	if list := result(s.api(alice).SSHKeys(ctx, "alice"))(t); len(list) != 1 || list[0].ID != made.ID {
		t.Errorf("alice's keys = %+v", list)
	}
	_, err := s.api(mallory).AddSSHKey(ctx, "mallory", client.AddSSHKey{Key: key})
	if !errors.Is(err, errkind.Exists) || strings.Contains(err.Error(), "alice") {
		t.Errorf("mallory adds alice's key: %v", err)
	}
	for what, err := range map[string]error{
		"list":   second(s.api(mallory).SSHKeys(ctx, "alice")),
		"add":    second(s.api(mallory).AddSSHKey(ctx, "alice", client.AddSSHKey{Key: newEd25519(t)})),
		"remove": s.api(mallory).RemoveSSHKey(ctx, "alice", made.ID),
	} {
		if !errors.Is(err, errkind.Forbidden) {
			t.Errorf("mallory on alice's keys, %s: %v", what, err)
		}
	}
	if err := s.api(mallory).RemoveSSHKey(ctx, "mallory", made.ID); !errors.Is(err, errkind.NotFound) {
		t.Errorf("mallory removes alice's key as hers: %v", err)
	}
	// A token that ends makes no key that does not, nor one that ends later.
	brief := result(s.api(alice).CreateToken(ctx, client.CreateToken{Scope: "admin", TTL: "1h"}))(t)
	for _, ttl := range []string{"", "365d"} {
		k := result(s.api(brief.Secret).AddSSHKey(ctx, "alice", client.AddSSHKey{Key: newEd25519(t), TTL: ttl}))(t)
		if k.ExpiresAt == nil || !k.ExpiresAt.Equal(*brief.ExpiresAt) {
			t.Errorf("with a token until %v, the key for %q ends at %v", brief.ExpiresAt, ttl, k.ExpiresAt)
		}
	}
	// A token that may not do everything makes no key that may.
	weak := result(s.api(alice).CreateToken(ctx, client.CreateToken{Scope: "write"}))(t)
	if _, err := s.api(weak.Secret).AddSSHKey(ctx, "alice", client.AddSSHKey{Key: newEd25519(t)}); !errors.Is(err, errkind.Forbidden) {
		t.Errorf("a weak token adds a key: %v", err)
	}
	if got, text := s.do(http.MethodPost, "/api/v2/principals/alice/keys", "", strings.NewReader(`{"key":"x"}`)); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("nobody adds a key: %d %s", got.StatusCode, text)
	}
	if err := s.api(s.admin).RemoveSSHKey(ctx, "alice", made.ID); err != nil {
		t.Errorf("the administrator removes a key: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
