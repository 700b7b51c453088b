package daemon_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/certs/certstest"
)

const withCertificates = `[auth]
mode = "MODE"

[auth.mtls]
ca_cert = ".conflux/ca.pem"
server_cert = ".conflux/server.pem"
server_key = ".conflux/server.key"
certificate_mapping = "cn"
`

func TestCertificates(t *testing.T) {
	t.Parallel()
	ca, err := certstest.NewAuthority("ca")
	if err != nil {
		t.Fatal(err)
	}
	others, err := certstest.NewAuthority("others")
	if err != nil {
		t.Fatal(err)
	}
	issue := func(a *certstest.Authority, l certstest.Leaf) tls.Certificate {
		c, err := a.Issue(l)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	cert, key, err := certstest.Encode(issue(ca, certstest.Leaf{Name: "daemon", Server: true}))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"ca.pem": string(ca.PEM), "server.pem": string(cert), "server.key": string(key), "api-keys.toml": keyEntry(goodKey, "ci", "pipeline")}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM)
	with := func(c *client, certificates ...tls.Certificate) *client {
		config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
		if len(certificates) > 0 { // also if the server does not ask for one of its authority
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificates[0], nil }
		}
		transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return &client{c.tb, c.url, c.header, &http.Client{Transport: transport}}
	}
	zara, ci := issue(ca, certstest.Leaf{Name: "zara"}), issue(ca, certstest.Leaf{Name: "ci"})
	for _, mode := range []string{"mtls", "both"} {
		files["config.toml"] = replaceMode(mode)
		c, _ := serve(t, files)
		with(c, zara).ok("POST", "/v1/ops", set("service.api", "image", `"a:1"`))
		who := with(c, zara).as("X-Conflux-Actor", "root").ok("GET", "/v1/log?limit=1", "")["operations"].([]any)[0].(map[string]any)["actor"].(map[string]any)
		if who["id"] != "zara" || who["class"] != "pipeline" {
			t.Errorf("%s: the log says that it was %v", mode, who)
		}
		if status, _, _ := with(c).do("GET", "/v1/state", ""); status != http.StatusUnauthorized {
			t.Errorf("%s: without a certificate: %d", mode, status)
		}
		want := map[string]int{"mtls": http.StatusUnauthorized, "both": http.StatusOK}[mode]
		if status, _, _ := with(c).as("X-API-Key", goodKey).do("GET", "/v1/state", ""); status != want {
			t.Errorf("%s: with a key: %d, want %d", mode, status, want)
		}
		if status, _, _ := with(c, ci).as("X-API-Key", goodKey).do("GET", "/v1/state", ""); status != http.StatusOK {
			t.Errorf("%s: with a certificate and key of one actor: %d", mode, status)
		}
		want = map[string]int{"mtls": http.StatusOK, "both": http.StatusUnauthorized}[mode]
		if status, _, _ := with(c, zara).as("X-API-Key", goodKey).do("GET", "/v1/state", ""); status != want {
			t.Errorf("%s: with a certificate and another's key: %d, want %d", mode, status, want)
		}
		thief := with(c, issue(others, certstest.Leaf{Name: "zara"}))
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+"/v1/state", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := thief.http.Do(r); err == nil {
			resp.Body.Close()
			t.Errorf("%s: a certificate of another authority: %d", mode, resp.StatusCode)
		}
	}
}

func replaceMode(mode string) string { return strings.Replace(withCertificates, "MODE", mode, 1) }
