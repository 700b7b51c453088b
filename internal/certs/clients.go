package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/crypto/acme"

	"github.com/skep-dev/skep/internal/errkind"
)

// ClientCAs are the authorities whose client certificates are taken, from a PEM file.
type ClientCAs struct{ pool watched[*x509.CertPool] }

// OpenClientCAs reads a file with the authorities' certificates.
func OpenClientCAs(file string, log *slog.Logger) (*ClientCAs, error) {
	a := &ClientCAs{pool: watched[*x509.CertPool]{names: []string{file}, log: log, load: func() (*x509.CertPool, error) {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("load authorities of clients: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("load authorities of clients: %s has no certificate in PEM: %w", file, errkind.Invalid)
		}
		return pool, nil
	}}}
	return a, a.pool.open()
}

// Ask returns the settings for a listener that asks clients for certificates. Who has none is served; a certificate that no
// authority has signed, or that has expired, ends the handshake.
func (a *ClientCAs) Ask(config *tls.Config) *tls.Config {
	asking := config.Clone()
	asking.ClientAuth = tls.VerifyClientCertIfGiven
	// A session that is resumed keeps its certificate, also when its authority is trusted no longer.
	asking.SessionTicketsDisabled = true
	if len(asking.NextProtos) == 0 {
		asking.NextProtos = []string{"h2", "http/1.1"} // net/http adds them to the other settings only
	}
	config = config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, acme.ALPNProto) {
			return nil, nil // an authority that checks our name: it is no client
		}
		c := asking.Clone()
		c.ClientCAs = a.pool.get()
		return c, nil
	}
	return config
}
