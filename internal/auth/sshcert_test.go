package auth_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// authority trusts one key to speak for acme/ci; the real one is tested in packages control and server.
type authority struct{ key ssh.PublicKey }

func (a authority) Vouched(_ context.Context, v auth.SSHVoucher) (policy.Principal, error) {
	if a.key == nil || v.Authority != ssh.FingerprintSHA256(a.key) {
		return policy.Principal{}, auth.Refusal("nobody trusts the authority")
	}
	for _, name := range v.Names {
		if name == "acme/ci" {
			return policy.Principal{ID: "usr_ci", Name: fmt.Sprint(name, " for ", v.Lifetime)}, nil
		}
	}
	return policy.Principal{}, auth.Refusal("nobody is called so")
}

func signer(tb testing.TB) ssh.Signer {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// rsaSigner signs with one algorithm only.
func rsaSigner(t *testing.T, bits int, algorithm string) ssh.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	one, err := ssh.NewSignerWithAlgorithms(s.(ssh.AlgorithmSigner), []string{algorithm})
	if err != nil {
		t.Fatal(err)
	}
	return one
}

func TestFromSSHCertificate(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) uint64 { return uint64(now.Add(d).Unix()) }
	ca, stranger := signer(t), signer(t)
	tests := []struct {
		name   string
		change func(c *ssh.Certificate)
		from   string
		want   string // the principal's name, or after "!" a part of why it is refused
	}{
		{"good for an hour", func(*ssh.Certificate) {}, "", "acme/ci for 1h0m0s"},
		{"one of several principals", func(c *ssh.Certificate) { c.ValidPrincipals = []string{"ubuntu", "acme/ci"} }, "", "acme/ci for 1h0m0s"},
		{"of a host", func(c *ssh.Certificate) { c.CertType = ssh.HostCert }, "", "!of a user"},
		{"of no kind", func(c *ssh.Certificate) { c.CertType = 0 }, "", "!of a user"},
		{"for nobody", func(c *ssh.Certificate) { c.ValidPrincipals = nil }, "", "!names no principal"},
		{"for very many", func(c *ssh.Certificate) { c.ValidPrincipals = make([]string, 101) }, "", "!more than 100"},
		{"for others", func(c *ssh.Certificate) { c.ValidPrincipals = []string{"other/ci"} }, "", "!nobody is called so"},

		{"that begins within the skew", func(c *ssh.Certificate) { c.ValidAfter = at(time.Minute) }, "", "acme/ci for 59m0s"},
		{"that begins later", func(c *ssh.Certificate) { c.ValidAfter = at(61 * time.Second) }, "", "!not begun"},
		{"that never begins", func(c *ssh.Certificate) { c.ValidAfter = math.MaxUint64 }, "", "!not begun"},
		{"in its last second", func(c *ssh.Certificate) { c.ValidBefore = at(time.Second) }, "", "acme/ci for 1s"},
		{"that has just ended", func(c *ssh.Certificate) { c.ValidBefore = at(0) }, "", "!expired"},
		{"that ends before it begins", func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = at(30*time.Second), at(20*time.Second) }, "", "!expired"},
		{"without an end", func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity }, "", "acme/ci for 2562047h47m16.854775807s"},
		{"that ends beyond all times", func(c *ssh.Certificate) { c.ValidBefore = math.MaxInt64 + 5 }, "", "!none that can be"},
		{"from ever to ever", func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = 0, ssh.CertTimeInfinity }, "", "acme/ci for 2562047h47m16.854775807s"},

		{"with an extension", func(c *ssh.Certificate) { c.Extensions = map[string]string{"permit-pty": ""} }, "", "acme/ci for 1h0m0s"},
		{"with a command", func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "x"} }, "", `!"force-command" is not known`},
		{"that wants a touch", func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"verify-required": ""} }, "", "!not known"},
		{"for its network", from("192.0.2.0/24,2001:db8::/32"), "192.0.2.9", "acme/ci for 1h0m0s"},
		{"for its address", from("10.0.0.1,192.0.2.9"), "::ffff:192.0.2.9", "acme/ci for 1h0m0s"},
		{"for its network of IPv6", from("192.0.2.0/24,2001:db8::/32"), "2001:db8::1", "acme/ci for 1h0m0s"},
		{"for another network", from("192.0.2.0/24"), "192.0.3.9", "!not be used from here"},
		{"for no address", from(""), "192.0.2.9", "!not be used from here"},
		{"for half an address", from("192.0.2.9,192.0.2"), "192.0.2.9", "!not be used from here"},
		{"for very many addresses", from(strings.Repeat("192.0.2.9,", 100) + "192.0.2.9"), "192.0.2.9", "!not be used from here"},
		{"for an address, from nowhere", from("192.0.2.9"), "", "!not be used from here"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &ssh.Certificate{
				Key: signer(t).PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"acme/ci"}, ValidAfter: at(0), ValidBefore: at(time.Hour),
			}
			tt.change(c)
			if err := c.SignCert(rand.Reader, ca); err != nil {
				t.Fatal(err)
			}
			wantCertificate(t, authority{ca.PublicKey()}, c, tt.from, now, tt.want)
		})
	}

	certificate := func(by ssh.Signer, key ssh.PublicKey) *ssh.Certificate {
		c := &ssh.Certificate{Key: key, CertType: ssh.UserCert, ValidPrincipals: []string{"acme/ci"}, ValidAfter: at(0), ValidBefore: at(time.Hour)}
		if err := c.SignCert(rand.Reader, by); err != nil {
			t.Fatal(err)
		}
		return c
	}
	good := signer(t).PublicKey()
	wantCertificate(t, authority{ca.PublicKey()}, certificate(stranger, good), "", now, "!nobody trusts")

	forged := certificate(stranger, good)
	forged.SignatureKey = ca.PublicKey()
	wantCertificate(t, authority{ca.PublicKey()}, forged, "", now, "!not its authority's")
	changed := certificate(ca, good)
	changed.ValidPrincipals, changed.ValidBefore = []string{"acme/ci", "acme/root"}, at(time.Hour)
	wantCertificate(t, authority{ca.PublicKey()}, changed, "", now, "!not its authority's")
	unsigned := certificate(ca, good)
	unsigned.Signature = nil
	wantCertificate(t, authority{ca.PublicKey()}, unsigned, "", now, "!")

	old := rsaSigner(t, 2048, ssh.KeyAlgoRSA)
	wantCertificate(t, authority{old.PublicKey()}, certificate(old, good), "", now, "!SHA-1")
	modern := rsaSigner(t, 2048, ssh.KeyAlgoRSASHA512)
	wantCertificate(t, authority{modern.PublicKey()}, certificate(modern, good), "", now, "acme/ci for 1h0m0s")
	wantCertificate(t, authority{ca.PublicKey()}, certificate(ca, rsaSigner(t, 1024, ssh.KeyAlgoRSASHA256).PublicKey()), "", now, "!not good enough")
}

func from(addresses string) func(*ssh.Certificate) {
	return func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": addresses} }
}

func wantCertificate(t *testing.T, known authority, c *ssh.Certificate, from string, now time.Time, want string) {
	t.Helper()
	addr, _ := netip.ParseAddr(from)
	p, err := auth.FromSSHCertificate(t.Context(), known, c, addr, now)
	why, refused := strings.CutPrefix(want, "!")
	switch {
	case !refused && (err != nil || p.Name != want):
		t.Errorf("FromSSHCertificate = %q, %v, want %q", p.Name, err, want)
	case refused && (!errors.Is(err, errkind.Unauthorized) || !strings.Contains(err.Error(), why)):
		t.Errorf("FromSSHCertificate = %+v, %v, want a refusal with %q", p, err, why)
	}
}

// FuzzSSHCertificate: whatever certificate comes, it is refused as one, and none that is let in is signed by somebody else.
func FuzzSSHCertificate(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ca := signer(f)
	for _, addresses := range []string{"", "192.0.2.0/24", "192.0.2.9,::1/64"} {
		c := &ssh.Certificate{Key: signer(f).PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"acme/ci"}, ValidBefore: ssh.CertTimeInfinity}
		c.CriticalOptions = map[string]string{"source-address": addresses}
		if err := c.SignCert(rand.Reader, ca); err != nil {
			f.Fatal(err)
		}
		f.Add(c.Marshal())
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		key, err := ssh.ParsePublicKey(wire)
		if err != nil {
			return
		}
		c, ok := key.(*ssh.Certificate)
		if !ok {
			return
		}
		if p, err := auth.FromSSHCertificate(t.Context(), authority{}, c, netip.MustParseAddr("192.0.2.9"), now); !errors.Is(err, errkind.Unauthorized) {
			t.Errorf("%x is %+v, %v", wire, p, err)
		}
	})
}
