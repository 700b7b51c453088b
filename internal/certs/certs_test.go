package certs_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/certs"
	"github.com/skep-dev/skep/internal/errkind"
)

// pair makes a certificate with a serial number, and its key, as PEM.
func pair(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kder})
}

// put replaces a file as careful programs do, and makes sure that it looks changed.
func put(t *testing.T, path string, b []byte, age time.Duration) {
	t.Helper()
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-age)
	if err := errors.Join(os.Chtimes(path+".new", at, at), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// serial shakes hands with a server of config and says which certificate it showed.
func serial(t *testing.T, config, client *tls.Config) (int64, tls.ConnectionState, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s := tls.Server(a, config)
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	c := tls.Client(b, client)
	if err := c.Handshake(); err != nil {
		return 0, tls.ConnectionState{}, err
	}
	if err := <-done; err != nil {
		return 0, tls.ConnectionState{}, err
	}
	st := c.ConnectionState()
	return st.PeerCertificates[0].SerialNumber.Int64(), st, nil
}

var anyServer = &tls.Config{ServerName: "localhost", InsecureSkipVerify: true} //nolint:gosec // which certificate is shown is what is tested

// TestReload: a new pair is taken up without a restart; what cannot be used leaves the old one, is logged once, and is tried
// again.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert1, key1 := pair(t, 1)
	cert2, key2 := pair(t, 2)
	put(t, certFile, cert1, 9*time.Minute)
	put(t, keyFile, key1, 9*time.Minute)
	var logged bytes.Buffer
	f, err := certs.Open(certFile, keyFile, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	f.CheckEvery(0)
	config := f.Config()
	want := func(what string, n int64, errs int) {
		t.Helper()
		for range 3 {
			if got, _, err := serial(t, config, anyServer); err != nil || got != n {
				t.Errorf("%s: certificate %d, %v, want %d", what, got, err, n)
			}
		}
		if got := strings.Count(logged.String(), "level=ERROR"); got != errs {
			t.Errorf("%s: %d errors logged, want %d:\n%s", what, got, errs, &logged)
		}
	}
	want("at the start", 1, 0)
	put(t, certFile, cert2, 8*time.Minute)
	want("with half of a new pair", 1, 1)
	put(t, keyFile, key2, 8*time.Minute)
	want("with the other half", 2, 1)
	put(t, certFile, []byte("nonsense"), 7*time.Minute)
	want("with nonsense", 2, 2)
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	want("without a key", 2, 3)
	put(t, keyFile, key1, 6*time.Minute)
	put(t, certFile, cert1, 6*time.Minute)
	want("with the first pair again", 1, 3)
	if strings.Contains(logged.String(), "PRIVATE") {
		t.Error("the log has a key")
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := certs.Open(certFile, keyFile, slog.New(slog.DiscardHandler)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing files: %v", err)
	}
	cert, _ := pair(t, 1)
	_, key := pair(t, 2)
	put(t, certFile, cert, 0)
	put(t, keyFile, key, 0)
	if _, err := certs.Open(certFile, keyFile, slog.New(slog.DiscardHandler)); !errors.Is(err, errkind.Invalid) {
		t.Errorf("a key of another certificate: %v, want errkind.Invalid", err)
	}
}

// TestVersions: nothing below TLS 1.2.
func TestVersions(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, key := pair(t, 1)
	put(t, certFile, cert, 0)
	put(t, keyFile, key, 0)
	f, err := certs.Open(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		client := anyServer.Clone()
		client.MinVersion, client.MaxVersion = version, version
		_, st, err := serial(t, f.Config(), client)
		if (err == nil) != ok || err == nil && st.Version != version {
			t.Errorf("%s: %s, %v, want ok %v", tls.VersionName(version), tls.VersionName(st.Version), err, ok)
		}
	}
}

// TestACMEAsksForNoOtherNames: who comes with a name that was not configured makes the server ask nobody.
func TestACMEAsksForNoOtherNames(t *testing.T) {
	a := certs.ACME{Domains: []string{"git.example.org"}, Dir: t.TempDir(), Directory: "http://127.0.0.1:1/asked"}
	config, err := a.Config()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"evil.example.org", "", "127.0.0.1", "git.example.org.evil.org"} {
		_, err := config.GetCertificate(&tls.ClientHelloInfo{ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13}})
		if err == nil || strings.Contains(err.Error(), "asked") {
			t.Errorf("name %q: %v, want a refusal without a question", name, err)
		}
	}
	for _, name := range []string{"", "*.example.org"} {
		if _, err := (certs.ACME{Domains: []string{name}}).Config(); !errors.Is(err, errkind.Invalid) {
			t.Errorf("domain %q: %v, want errkind.Invalid", name, err)
		}
	}
}
