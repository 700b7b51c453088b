package certs

import (
	"crypto/tls"
	"fmt"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/skep-dev/skep/internal/errkind"
)

// ACME says from whom to get a certificate, and for which names. The authority's terms are accepted by using it.
type ACME struct {
	Domains   []string
	Email     string // told of trouble with the certificate; may be empty
	Directory string // the authority's address; "": Let's Encrypt
	Dir       string // where account and certificates are kept
}

// Config is the settings for a listener on which the authority can reach each domain, at port 443: that is how it checks
// (TLS-ALPN-01). A certificate is asked for when the first client of a name comes, and renewed 30 days before its end.
func (a ACME) Config() (*tls.Config, error) {
	for _, d := range a.Domains {
		if d == "" || d[0] == '*' {
			return nil, fmt.Errorf("domain %q: a name without wildcard is needed: %w", d, errkind.Invalid)
		}
	}
	m := &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      autocert.DirCache(a.Dir),
		HostPolicy: autocert.HostWhitelist(a.Domains...),
		Email:      a.Email,
		Client:     &acme.Client{DirectoryURL: a.Directory, UserAgent: "skep"},
	}
	if a.Directory == "" {
		m.Client.DirectoryURL = acme.LetsEncryptURL
	}
	c := newConfig()
	c.GetCertificate = m.GetCertificate
	c.NextProtos = []string{"h2", "http/1.1", acme.ALPNProto}
	return c, nil
}
