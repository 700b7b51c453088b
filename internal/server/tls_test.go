package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/peer"
	"github.com/skep-dev/skep/internal/server"
)

// secureSite is a server with TLS.
type secureSite struct {
	*site
	ca   string // a file with its certificate
	http *http.Client
}

// startSecure starts a server with a certificate that is good for 127.0.0.1.
func startSecure(t *testing.T, opts server.Options) *secureSite {
	t.Helper()
	ts := httptest.NewTLSServer(http.NotFoundHandler()) // has such a certificate
	defer ts.Close()
	opts.TLS = &tls.Config{Certificates: ts.TLS.Certificates, MinVersion: tls.VersionTLS12}
	s := &secureSite{site: startSite(t, opts), ca: filepath.Join(t.TempDir(), "ca.pem"), http: ts.Client()}
	s.url = "https://" + s.host
	write(t, s.ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ts.Certificate().Raw})))
	tr := ts.Client().Transport.(*http.Transport).Clone()
	tr.ForceAttemptHTTP2 = true
	s.http = &http.Client{Transport: tr}
	t.Cleanup(tr.CloseIdleConnections)
	if _, err := result(client.New(s.url, client.Options{Token: s.admin, HTTP: s.http}))(t).CreateRepo(t.Context(), client.CreateRepo{
		Tenant: "default", Name: "demo", InitialContent: map[string]string{"README.md": "# demo\n"},
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// git runs git with a version of HTTP and returns what it and curl said.
func (s *secureSite) git(t *testing.T, dir, version string, args ...string) string {
	t.Helper()
	cmd := gitCommand(t, dir, append([]string{"-c", "http.version=" + version, "-c", "http.postBuffer=65536"}, args...)...)
	cmd.Env = append(cmd.Env, "GIT_SSL_CAINFO="+s.ca, "GIT_CURL_VERBOSE=1", "GIT_TRACE_CURL_NO_DATA=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out.String())
	}
	return out.String()
}

// TestGitOverTLS: real git pushes and clones, a little and a lot, over HTTP/2 as over HTTP/1.1.
func TestGitOverTLS(t *testing.T) {
	s := startSecure(t, server.Options{})
	for version, said := range map[string]string{"HTTP/1.1": "HTTP/1.1 200", "HTTP/2": "HTTP/2 200"} {
		size := 3 << 20
		if version == "HTTP/2" {
			// Within a stream's window: before version 8.2 curl may stall when it has to wait for the window to open
			// (https://github.com/curl/curl/pull/11342).
			size = 512 << 10
		}
		name := strings.NewReplacer("/", "", ".", "").Replace(version)
		remote := "https://any:" + s.admin + "@" + s.host + "/default/" + name + ".git"
		src := newRepo(t, 3)
		big := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{1}).Read(big)
		s.git(t, src, version, "push", "-q", remote, "main")
		if err := os.WriteFile(filepath.Join(src, "big"), big, 0o600); err != nil {
			t.Fatal(err)
		}
		git(t, src, "add", ".")
		git(t, src, "commit", "-q", "-m", "big")
		if out := s.git(t, src, version, "push", remote, "main"); !strings.Contains(out, said) {
			t.Errorf("%s: git did not use it:\n%s", version, out)
		}
		dst := filepath.Join(t.TempDir(), "clone")
		s.git(t, src, version, "clone", "-q", remote, dst)
		if got, want := everything(t, dst), everything(t, src); got != want {
			t.Errorf("%s: clone differs:\n%s\nwant\n%s", version, got, want)
		}
	}
}

// TestTLSBehindProxyProtocol: the header comes before the handshake.
func TestTLSBehindProxyProtocol(t *testing.T) {
	ts := httptest.NewTLSServer(http.NotFoundHandler())
	defer ts.Close()
	s := startSite(t, server.Options{
		Proxies: peer.Proxies{Trusted: local.Trusted, Protocol: true}, TLS: &tls.Config{Certificates: ts.TLS.Certificates, MinVersion: tls.VersionTLS12},
	})
	tr := ts.Client().Transport.(*http.Transport).Clone()
	tr.ForceAttemptHTTP2 = true
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			_, err = io.WriteString(c, "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n")
		}
		return c, err
	}
	defer tr.CloseIdleConnections()
	req := result(http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.host+"/api/v2/whoami", nil))(t)
	resp := result((&http.Client{Transport: tr}).Do(req))(t)
	_ = resp.Body.Close()
	if resp.ProtoMajor != 2 || !strings.Contains(s.log.String(), `remote=[2001:db8::7]:4711`) {
		t.Errorf("%s %s; the log:\n%s", resp.Proto, resp.Status, s.log)
	}
}

// TestShutdownFinishesAPushOverHTTP2: as over HTTP/1.1.
func TestShutdownFinishesAPushOverHTTP2(t *testing.T) {
	s := startSecure(t, server.Options{DrainTimeout: 20 * time.Second})
	c := result(client.New(s.url, client.Options{Token: s.admin, HTTP: s.http}))(t)
	main := result(c.Ref(t.Context(), "default/demo", "refs/heads/main"))(t)
	push := pkt(zeroOID+" "+main.SHA.String()+" refs/heads/topic\x00report-status") + "0000" + emptyPack()
	pr, pw := io.Pipe()
	req := result(http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/default/demo.git/git-receive-pack", pr))(t)
	req.SetBasicAuth("any", s.admin)
	req.Header.Set("Content-Type", "application/x-git-receive-pack-request")
	done := make(chan pushAnswer, 1)
	go func() {
		resp, err := s.http.Do(req)
		if err != nil {
			done <- pushAnswer{err: err}
			return
		}
		text, err := io.ReadAll(resp.Body)
		if resp.ProtoMajor != 2 {
			err = errors.Join(err, errors.New(resp.Proto))
		}
		done <- pushAnswer{string(text), errors.Join(err, resp.Body.Close(), statusError(resp.StatusCode))}
	}()
	if _, err := io.WriteString(pw, push[:10]); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(s.get(t, "/metrics"), "skep_http_in_flight{pool=\"transfers\"} 1\n") {
		continue // until the push has its place
	}
	s.stop()
	for { // until the listener is closed
		c, err := net.DialTimeout("tcp", s.host, time.Second)
		if err != nil {
			break
		}
		_ = c.Close()
	}
	if _, err := io.WriteString(pw, push[10:]); err != nil {
		t.Fatal(err)
	}
	_ = pw.Close()
	if a := <-done; a.err != nil || !strings.Contains(a.text, "ok refs/heads/topic") {
		t.Errorf("the push that was under way: %q, %v", a.text, a.err)
	}
	if err := <-s.ended; err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

func (s *secureSite) get(t *testing.T, path string) string {
	t.Helper()
	req := result(http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil))(t)
	resp := result(s.http.Do(req))(t)
	defer resp.Body.Close()
	return string(result(io.ReadAll(resp.Body))(t))
}

// TestSlowBodyOverHTTP2 is an attack: a stream that drips its body is cut off, too, and its connection goes on.
func TestSlowBodyOverHTTP2(t *testing.T) {
	s := startSecure(t, server.Options{IdleTimeout: time.Second})
	pr, pw := io.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req := result(http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/default/demo.git/git-receive-pack", pr))(t)
	req.SetBasicAuth("any", s.admin)
	req.Header.Set("Content-Type", "application/x-git-receive-pack-request")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if resp, err := s.http.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}()
	go func() {
		for ctx.Err() == nil { // a byte now and then, for as long as they are taken
			if _, err := pw.Write([]byte("0")); err != nil {
				return
			}
			select {
			case <-ended:
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	<-ended
	_ = pr.Close()
	if ctx.Err() != nil {
		t.Error("a client that drips its body is never cut off")
	}
	if !strings.Contains(s.get(t, "/healthz"), "ok") {
		t.Error("healthz fails afterwards")
	}
}

// TestCloneURLIsSecure: addresses in answers are those of the listener.
func TestCloneURLIsSecure(t *testing.T) {
	s := startSecure(t, server.Options{})
	if text := s.get(t, "/"); !strings.Contains(text, "git clone https://"+s.host) {
		t.Errorf("the front page says %s", text)
	}
}
