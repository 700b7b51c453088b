// Package certs keeps the certificate by which clients know the server: from files, or from an ACME authority.
//
//	source, err := certs.Open(certFile, keyFile, log)
//	config := source.Config() // for every listener
//
// Files are read again when they change. What cannot be used, such as half of a new pair, leaves the old certificate in
// place and is logged; the files are tried again until they can be used.
package certs

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
)

// checkEvery is how often handshakes look whether the files have changed: two calls of stat a second cost nothing, and
// whoever renews a certificate does not wait for more.
const checkEvery = time.Second

// Files is a certificate with its key, from two PEM files.
type Files struct {
	certFile, keyFile string
	log               *slog.Logger
	every             time.Duration

	mu      sync.Mutex
	current *tls.Certificate // guarded by mu, as all below
	from    version          // of current
	checked time.Time
	failure string // the last that was logged
}

// version tells whether files have changed.
type version struct {
	certTime, keyTime time.Time
	certSize, keySize int64
}

// Open reads a certificate, with those between it and its authority, and its key.
func Open(certFile, keyFile string, log *slog.Logger) (*Files, error) {
	f := &Files{certFile: certFile, keyFile: keyFile, log: log, every: checkEvery}
	v, err := f.stat()
	if err == nil {
		f.current, err = f.load()
	}
	if err != nil {
		return nil, err
	}
	f.from, f.checked = v, time.Now()
	return f, nil
}

func (f *Files) stat() (v version, err error) {
	cert, err := os.Stat(f.certFile)
	if err != nil {
		return v, fmt.Errorf("look at certificate: %w", err)
	}
	key, err := os.Stat(f.keyFile)
	if err != nil {
		return v, fmt.Errorf("look at key: %w", err)
	}
	return version{cert.ModTime(), key.ModTime(), cert.Size(), key.Size()}, nil
}

func (f *Files) load() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s with key %s: %w: %w", f.certFile, f.keyFile, err, errkind.Invalid)
	}
	return &c, nil
}

// Config is the settings for a listener. It can be shared.
func (f *Files) Config() *tls.Config {
	c := newConfig()
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.certificate(), nil }
	return c
}

// newConfig is what all listeners share. The ciphers are crypto/tls's: those of TLS 1.2 that are still sound.
func newConfig() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }

// certificate is the newest that can be used.
func (f *Files) certificate() *tls.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.checked) >= f.every {
		f.checked = time.Now()
		f.refresh()
	}
	return f.current
}

// refresh reads the files if they have changed since they were last read with success. It holds mu over reading two small
// files: the handshakes that wait for it want to know the result.
func (f *Files) refresh() {
	v, err := f.stat()
	if err == nil && v == f.from {
		return
	}
	var c *tls.Certificate
	if err == nil {
		c, err = f.load()
	}
	if err != nil {
		if text := err.Error(); text != f.failure { // not once a second
			f.failure = text
			f.log.Error("new certificate cannot be used: the old one stays", "error", err)
		}
		return
	}
	f.current, f.from, f.failure = c, v, ""
	f.log.Info("certificate loaded", "file", f.certFile, "until", c.Leaf.NotAfter)
}
