package certs_test

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/certs"
	"github.com/skep-dev/skep/internal/certs/certstest"
	"github.com/skep-dev/skep/internal/errkind"
)

// authority makes one, or ends the test.
func authority(t *testing.T, name string) *certstest.Authority {
	t.Helper()
	a, err := certstest.NewAuthority(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestClientCertificates: whom an authority has signed is let in with its certificate, whoever has none without; all else ends the
// handshake. A new file counts for the next handshake.
func TestClientCertificates(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	ours, theirs := authority(t, "ours"), authority(t, "theirs")
	put(t, file, ours.PEM, 9*time.Minute)
	ca, err := certs.OpenClientCAs(file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ca.CheckEvery(0)
	own := issue(t, ours, certstest.Leaf{Name: "server", DNS: []string{"localhost"}, Server: true})
	config := ca.Ask(&tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12})

	good := issue(t, ours, certstest.Leaf{Name: "ci"})
	tests := []struct {
		name    string
		cert    []tls.Certificate
		want    string // whom the server sees; "": nobody
		refused bool
	}{
		{"none", nil, "", false},
		{"a good one", []tls.Certificate{good}, "ci", false},
		{"another authority's", []tls.Certificate{issue(t, theirs, certstest.Leaf{Name: "ci"})}, "", true},
		{"another authority's of the same name", []tls.Certificate{issue(t, authority(t, "ours"), certstest.Leaf{Name: "ci"})}, "", true},
		{"an expired one", []tls.Certificate{issue(t, ours, certstest.Leaf{Name: "ci", Ends: -time.Minute})}, "", true},
		{"a server's", []tls.Certificate{issue(t, ours, certstest.Leaf{Name: "ci", Server: true})}, "", true},
		{"one that signed itself", []tls.Certificate{selfSigned(t)}, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := seen(t, config, tt.cert)
			if (err != nil) != tt.refused || got != tt.want {
				t.Errorf("the server sees %q, %v, want %q", got, err, tt.want)
			}
		})
	}
	put(t, file, theirs.PEM, 8*time.Minute)
	if got, err := seen(t, config, []tls.Certificate{good}); err == nil {
		t.Errorf("an authority that is trusted no longer: the server sees %q", got)
	}
	put(t, file, []byte("nonsense"), 7*time.Minute)
	if got, err := seen(t, config, []tls.Certificate{issue(t, theirs, certstest.Leaf{Name: "new"})}); err != nil || got != "new" {
		t.Errorf("the new authority, while its file cannot be read: %q, %v", got, err)
	}
}

func issue(t *testing.T, a *certstest.Authority, leaf certstest.Leaf) tls.Certificate {
	t.Helper()
	c, err := a.Issue(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	cert, key := pair(t, 7)
	c, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// seen shakes hands and says whom the server has seen.
func seen(t *testing.T, config *tls.Config, own []tls.Certificate) (string, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s := tls.Server(a, config)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err != nil {
			a.Close() // the client waits for nothing
		}
		done <- err
	}()
	client := anyServer.Clone()
	client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // whatever the server asks for
		return &append(own, tls.Certificate{})[0], nil
	}
	client.NextProtos = []string{"h2"}
	c := tls.Client(b, client)
	err := c.Handshake()
	if err == nil {
		go func() { _, _ = c.Read(make([]byte, 1)) }() // a refusal comes after the client's part in TLS 1.3
	} else {
		b.Close()
	}
	if err := errors.Join(err, <-done); err != nil {
		return "", err
	}
	if p := s.ConnectionState().NegotiatedProtocol; p != "h2" {
		t.Errorf("protocol %q was agreed upon, want h2", p)
	}
	if chains := s.ConnectionState().VerifiedChains; len(chains) > 0 {
		return chains[0][0].Subject.CommonName, nil
	}
	return "", nil
}

func TestOpenClientCAsRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if _, err := certs.OpenClientCAs(file, slog.New(slog.DiscardHandler)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	put(t, file, []byte("nonsense"), 0)
	if _, err := certs.OpenClientCAs(file, slog.New(slog.DiscardHandler)); !errors.Is(err, errkind.Invalid) {
		t.Errorf("a file without certificates: %v, want errkind.Invalid", err)
	}
}
