// Package certs keeps the certificate by which clients know the server, from files or from an ACME authority, and the
// authorities by which it knows theirs.
//
//	source, err := certs.Open(certFile, keyFile, log)
//	config := source.Config() // for every listener
//	clients, err := certs.OpenClientCAs(caFile, log)
//	config = clients.Ask(config)
//
// Files are read again when they change. What cannot be used, such as half of a new pair, leaves the old content in
// place and is logged; the files are tried again until they can be used.
package certs

import (
	"crypto/tls"
	"fmt"
	"log/slog"

	"github.com/skep-dev/skep/internal/errkind"
)

// Files is a certificate with its key, from two PEM files.
type Files struct{ pair watched[*tls.Certificate] }

// Open reads a certificate, with those between it and its authority, and its key.
func Open(certFile, keyFile string, log *slog.Logger) (*Files, error) {
	f := &Files{pair: watched[*tls.Certificate]{names: []string{certFile, keyFile}, log: log, load: func() (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("load certificate %s with key %s: %w: %w", certFile, keyFile, err, errkind.Invalid)
		}
		return &c, nil
	}}}
	return f, f.pair.open()
}

// Config is the settings for a listener. It can be shared.
func (f *Files) Config() *tls.Config {
	c := newConfig()
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.pair.get(), nil }
	return c
}

// newConfig is what all listeners share. The ciphers are crypto/tls's: those of TLS 1.2 that are still sound.
func newConfig() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }
