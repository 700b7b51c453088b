package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/certs"
	"github.com/skep-dev/skep/internal/certs/certstest"
	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// certSite is a server that asks for client certificates.
type certSite struct {
	*site
	ca *certstest.Authority
}

func newCertSite(t *testing.T, opts server.Options) *certSite {
	t.Helper()
	ca := result(certstest.NewAuthority("ca"))(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	write(t, file, string(ca.PEM))
	clients := result(certs.OpenClientCAs(file, slog.New(slog.DiscardHandler)))(t)
	own := result(ca.Issue(certstest.Leaf{Name: "server", Server: true}))(t)
	opts.TLS = clients.Ask(&tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12})
	s := &certSite{site: startSite(t, opts), ca: ca}
	s.url = "https://" + s.host
	return s
}

// as is a client with a certificate and perhaps a token.
func (s *certSite) as(t *testing.T, leaf certstest.Leaf, token string) *client.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.ca.PEM)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{result(s.ca.Issue(leaf))(t)}, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return result(client.New(s.url, client.Options{Token: token, HTTP: &http.Client{Transport: tr}}))(t)
}

// TestCertificatesOverREST: only administrators say whose certificates are; a token made with one ends with it.
func TestCertificatesOverREST(t *testing.T) {
	s := newCertSite(t, server.Options{})
	ctx := t.Context()
	_, bobs := s.person("bob")
	admin, bob := s.as(t, certstest.Leaf{Name: "bob"}, s.admin), s.as(t, certstest.Leaf{Name: "x"}, bobs)
	ask := client.CreateCertificate{Principal: "bob", Kind: "cn", Value: "bob", Scope: policy.ScopeWrite}
	_, err := bob.CreateCertificate(ctx, ask)
	wantKind(t, "who is no administrator", err, errkind.Forbidden)
	_, err = bob.Certificates(ctx, "", 10)
	wantKind(t, "who is no administrator", err, errkind.Forbidden)
	_, err = admin.CreateCertificate(ctx, client.CreateCertificate{Principal: "nobody", Kind: "cn", Value: "bob"})
	wantKind(t, "for nobody", err, errkind.NotFound)
	made := result(admin.CreateCertificate(ctx, ask))(t)

	soon := s.as(t, certstest.Leaf{Name: "bob", Ends: 10 * time.Minute}, "")
	me := result(soon.Whoami(ctx))(t)
	if me.Name != "bob" || me.Scope != policy.ScopeWrite {
		t.Errorf("whoami = %+v", me)
	}
	tok := result(soon.CreateToken(ctx, client.CreateToken{Scope: policy.ScopeRead, TTL: "1h"}))(t)
	if tok.Certificate != made.ID || tok.ExpiresAt == nil || time.Until(*tok.ExpiresAt) > 10*time.Minute {
		t.Errorf("token = %+v, want one that ends with the certificate", tok.Token)
	}
	_, err = soon.CreateToken(ctx, client.CreateToken{Scope: policy.ScopeAdmin})
	wantKind(t, "a wider token", err, errkind.Forbidden)
	_, err = soon.RotateToken(ctx)
	wantKind(t, "rotation of a certificate", err, errkind.Invalid)
	_, err = s.as(t, certstest.Leaf{Name: "bob"}, s.admin).Whoami(ctx)
	wantKind(t, "a certificate and another's token", err, errkind.Invalid)

	admin = s.as(t, certstest.Leaf{Name: "x"}, s.admin)
	list := result(admin.Certificates(ctx, "", 10))(t)
	if len(list.Items) != 1 || list.Items[0].LastUsedFrom != "127.0.0.1" {
		t.Errorf("certificates = %+v", list.Items)
	}
	if err := admin.RemoveCertificate(ctx, made.ID); err != nil {
		t.Fatal(err)
	}
	_, err = soon.Whoami(ctx) // on the connection that is open
	wantKind(t, "a certificate that was removed", err, errkind.Unauthorized)
	wantKind(t, "remove again", admin.RemoveCertificate(ctx, made.ID), errkind.NotFound)
}

// TestAttackGuessingCertificates: certificates that are nobody's are counted like wrong passwords.
func TestAttackGuessingCertificates(t *testing.T) {
	s := newCertSite(t, server.Options{RateExempt: []netip.Prefix{}, Rates: map[string]limit.Quota{"failed-auth": {Events: 2, Per: time.Hour}}})
	admin := s.as(t, certstest.Leaf{Name: "x"}, s.admin)
	result(admin.CreateCertificate(t.Context(), client.CreateCertificate{Principal: "admin", Kind: "cn", Value: "good"}))(t)
	good := s.as(t, certstest.Leaf{Name: "good"}, "")
	result(good.Whoami(t.Context()))(t)
	for n, want := range []errkind.Kind{errkind.Unauthorized, errkind.Unauthorized, errkind.RateLimited, errkind.RateLimited} {
		_, err := s.as(t, certstest.Leaf{Name: fmt.Sprint("guess", n)}, "").Whoami(t.Context())
		wantKind(t, fmt.Sprint("guess ", n), err, want)
	}
	result(good.Whoami(t.Context()))(t)
}
