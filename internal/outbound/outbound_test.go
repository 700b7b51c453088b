package outbound_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/outbound"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// newClient makes a client that does not wait long.
func newClient(t *testing.T, opts outbound.Options) *outbound.Client {
	t.Helper()
	c := outbound.New(opts)
	c.SetPause(2 * time.Millisecond)
	t.Cleanup(c.Close)
	return c
}

// site is a server on this machine, which counts who comes.
type site struct {
	*httptest.Server
	asked atomic.Int64
}

func newSite(t *testing.T, h http.HandlerFunc, start func(*httptest.Server)) *site {
	t.Helper()
	s := &site{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		h(w, r)
	}))
	start(s.Server)
	t.Cleanup(s.Close)
	return s
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

func read(t *testing.T, c *outbound.Client, address string) (string, error) {
	t.Helper()
	b, err := c.Read(t.Context(), address)
	return string(b), err
}

func wantRefused(t *testing.T, err error, why string) {
	t.Helper()
	if !errors.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), why) {
		t.Errorf("error %v, want one of kind invalid with %q", err, why)
	}
}

// TestPublic is the list of what is no public address.
func TestPublic(t *testing.T) {
	tests := []struct {
		what, address string
		want          bool
	}{
		{"a public one", "8.8.8.8", true},
		{"a public one", "2606:4700:4700::1111", true},
		{"this host", "0.0.0.0", false},
		{"this network", "0.1.2.3", false},
		{"private", "10.1.2.3", false},
		{"private", "172.16.0.1", false},
		{"private, the last", "172.31.255.255", false},
		{"after the private ones", "172.32.0.0", true},
		{"private", "192.168.1.1", false},
		{"carrier-grade NAT, and a cloud's metadata", "100.100.100.200", false},
		{"loopback", "127.0.0.1", false},
		{"loopback", "127.255.255.254", false},
		{"metadata", "169.254.169.254", false},
		{"documentation", "203.0.113.9", false},
		{"benchmarks", "198.19.0.1", false},
		{"multicast", "224.0.0.1", false},
		{"reserved", "240.0.0.1", false},
		{"broadcast", "255.255.255.255", false},
		{"unspecified", "::", false},
		{"loopback", "::1", false},
		{"compatible", "::127.0.0.1", false},
		{"unique local, and a cloud's metadata", "fd00:ec2::254", false},
		{"link-local", "fe80::1", false},
		{"multicast", "ff02::1", false},
		{"NAT64 of loopback", "64:ff9b::7f00:1", false},
		{"NAT64 of a public one", "64:ff9b::808:808", false},
		{"local NAT64", "64:ff9b:1::a00:1", false},
		{"6to4 of a private one", "2002:a00:1::1", false},
		{"Teredo", "2001:0:a00:1::1", false},
		{"documentation", "2001:db8::1", false},
		{"site-local", "fec0::1", false},
	}
	for _, tt := range tests {
		if got := outbound.Public(netip.MustParseAddr(tt.address)); got != tt.want {
			t.Errorf("%s: public(%s) = %v", tt.what, tt.address, got)
		}
	}
}

// TestAttackNotations: however this machine's own address is written, nobody gets there.
func TestAttackNotations(t *testing.T) {
	s := newSite(t, hello, (*httptest.Server).Start)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	c := newClient(t, outbound.Options{})
	for _, host := range []string{
		"127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "017700000001", "0177.0.0.1", "0", "0.0.0.0", "localhost", "LOCALHOST", "localhost.",
		"[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[fe80::1%25lo]", "[::1%25lo]",
	} {
		for _, scheme := range []string{"http", "https"} {
			if got, err := read(t, c, scheme+"://"+host+":"+port+"/"); err == nil {
				t.Errorf("%s://%s = %q, %v", scheme, host, got, err)
			}
		}
	}
	if n := s.asked.Load(); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
	_, err := read(t, c, "http://127.0.0.1:"+port+"/")
	wantRefused(t, err, "--outbound-allow")
}

func TestAttackURLs(t *testing.T) {
	c := newClient(t, outbound.Options{Allow: loopback})
	for address, why := range map[string]string{
		"file:///etc/passwd":            "no host",
		"gopher://127.0.0.1/":           "neither https nor http",
		"ftp://127.0.0.1/":              "neither https nor http",
		"//127.0.0.1/":                  "neither https nor http",
		"/path":                         "no host",
		"http:///":                      "no host",
		"http://:80/":                   "no host",
		"http://a:b@127.0.0.1/":         "user name or password",
		"http://127.0.0.1@example.org/": "user name or password",
		"http://127.0.0.1/" + strings.Repeat("a", 3000): "too long",
		"http://exa mple/":             "not a URL",
		"http://127.0.0.1\r\nHost: x/": "not a URL",
	} {
		_, err := read(t, c, address)
		wantRefused(t, err, why)
	}
}

// TestAttackRedirect: an allowed server leads to where nobody may go.
func TestAttackRedirect(t *testing.T) {
	inside := newSite(t, hello, (*httptest.Server).Start)
	_, port, _ := net.SplitHostPort(inside.Listener.Addr().String())
	front := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
	}, (*httptest.Server).Start)
	c := newClient(t, outbound.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	for to, why := range map[string]string{
		"http://127.0.0.2:" + port:        "not public", // only .1 is allowed
		"http://[::1]:" + port:            "not public",
		"https://169.254.169.254/latest/": "not public",
		"https://10.0.0.1/":               "not public",
		"file:///etc/passwd":              "no host",
		"http://u:p@127.0.0.1:" + port:    "user name",
	} {
		_, err := read(t, c, front.URL+"/?to="+url.QueryEscape(to))
		wantRefused(t, err, why)
	}
	if n := inside.asked.Load(); n != 0 {
		t.Errorf("the server inside was asked %d times", n)
	}
}

func TestRedirectsEnd(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }, (*httptest.Server).Start)
	_, err := read(t, newClient(t, outbound.Options{Allow: loopback}), s.URL)
	wantRefused(t, err, "redirects more than")
	if n := s.asked.Load(); n != outbound.MaxRedirects+1 {
		t.Errorf("the server was asked %d times", n)
	}
}

// What is sent is not sent elsewhere, and nothing is asked instead.
func TestRedirectIsAnAnswer(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/again", http.StatusTemporaryRedirect)
	}, (*httptest.Server).Start)
	c := newClient(t, outbound.Options{Allow: loopback, NoRedirects: true})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n := s.asked.Load(); resp.StatusCode != http.StatusTemporaryRedirect || n != 1 {
		t.Errorf("status %s after %d requests", resp.Status, n)
	}
}

// TestAttackRebinding: a name that resolves to a private address, at once or only the second time, leads nowhere.
func TestAttackRebinding(t *testing.T) {
	s := newSite(t, hello, (*httptest.Server).Start)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	for _, address := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00:ec2::254"} {
		c := newClient(t, outbound.Options{Resolver: resolver(t, netip.MustParseAddr(address))})
		for _, scheme := range []string{"https", "http"} {
			_, err := read(t, c, scheme+"://innocent.example.org:"+port+"/")
			wantRefused(t, err, "not public")
			if err != nil && strings.Contains(err.Error(), address) {
				t.Errorf("the error tells what the name means: %v", err)
			}
		}
	}
	if n := s.asked.Load(); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
}

// resolver asks a name server that has one address for every name.
func resolver(t *testing.T, address netip.Addr) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil {
				continue
			}
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			head := dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 0}
			switch {
			case m.Questions[0].Type == dnsmessage.TypeA && address.Is4():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: address.As4()}})
			case m.Questions[0].Type == dnsmessage.TypeAAAA && !address.Is4():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: address.As16()}})
			}
			if b, err := m.Pack(); err == nil {
				_, _ = pc.WriteTo(b, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

// TestAllowed: what the operator allows is reached, over TLS and without.
func TestAllowed(t *testing.T) {
	plain := newSite(t, hello, (*httptest.Server).Start)
	secure := newSite(t, hello, (*httptest.Server).StartTLS)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	c := newClient(t, outbound.Options{Allow: loopback, RootCAs: roots})
	for _, address := range []string{plain.URL, secure.URL, strings.Replace(secure.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1)} {
		if got, err := read(t, c, address); err != nil || got != "hello" {
			t.Errorf("%s = %q, %v", address, got, err)
		}
	}
	_, err := read(t, newClient(t, outbound.Options{Allow: loopback}), secure.URL)
	if !errors.Is(err, errkind.Unavailable) || !strings.Contains(err.Error(), "certificate is not trusted") {
		t.Errorf("an unknown authority: %v", err)
	}
}

// TestNoProxy: a proxy of the environment would be a way around.
func TestNoProxy(t *testing.T) {
	proxy := newSite(t, hello, (*httptest.Server).Start)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	t.Setenv("HTTP_PROXY", proxy.URL)
	c := newClient(t, outbound.Options{Allow: loopback, Resolver: resolver(t, netip.MustParseAddr("10.0.0.1"))})
	_, err := read(t, c, "http://inside.example.org/")
	wantRefused(t, err, "not public")
	if n := proxy.asked.Load(); n != 0 {
		t.Errorf("the proxy was asked %d times", n)
	}
}

func TestBodyIsBounded(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		for range 100 {
			_, _ = io.WriteString(w, strings.Repeat("x", 10))
		}
	}, (*httptest.Server).Start)
	if got, err := read(t, newClient(t, outbound.Options{Allow: loopback, MaxBodyBytes: 999}), s.URL); !errors.Is(err, errkind.TooLarge) {
		t.Errorf("1000 bytes of 999 = %d, %v", len(got), err)
	}
	if got, err := read(t, newClient(t, outbound.Options{Allow: loopback, MaxBodyBytes: 1000}), s.URL); err != nil || len(got) != 1000 {
		t.Errorf("1000 bytes of 1000 = %d, %v", len(got), err)
	}
}

func TestReadWantsADocument(t *testing.T) {
	s := newSite(t, http.NotFound, (*httptest.Server).Start)
	if _, err := read(t, newClient(t, outbound.Options{Allow: loopback}), s.URL); !errors.Is(err, errkind.Unavailable) || !strings.Contains(err.Error(), "404") {
		t.Errorf("a page that is missing: %v", err)
	}
}

func TestTimeIsBounded(t *testing.T) {
	s := newSite(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, (*httptest.Server).Start)
	_, err := read(t, newClient(t, outbound.Options{Allow: loopback, Timeout: 20 * time.Millisecond}), s.URL)
	if !errors.Is(err, errkind.Unavailable) || !strings.Contains(err.Error(), "in time") {
		t.Errorf("a silent server: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if _, err := newClient(t, outbound.Options{Allow: loopback}).Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who went away: %v", err)
	}
}

// TestRepetition: what can be repeated is, at most twice; nothing else is.
func TestRepetition(t *testing.T) {
	tests := []struct {
		method   string
		failures int64 // before an answer
		status   int   // of a failure
		asked    int64
		want     int
	}{
		{http.MethodGet, 0, 503, 1, 200},
		{http.MethodGet, 2, 503, 3, 200},
		{http.MethodPut, 1, 502, 2, 200},
		{http.MethodGet, 9, 504, 3, 504},
		{http.MethodGet, 9, 500, 1, 500},
		{http.MethodGet, 9, 429, 1, 429},
		{http.MethodPost, 9, 503, 1, 503},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.method, tt.failures, tt.status), func(t *testing.T) {
			var bodies atomic.Int64
			var s *site
			s = newSite(t, func(w http.ResponseWriter, r *http.Request) {
				if b, _ := io.ReadAll(r.Body); string(b) == "body" {
					bodies.Add(1)
				}
				if s.asked.Load() <= tt.failures {
					w.WriteHeader(tt.status)
				}
			}, (*httptest.Server).Start)
			req, err := http.NewRequestWithContext(t.Context(), tt.method, s.URL, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := newClient(t, outbound.Options{Allow: loopback}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.want || s.asked.Load() != tt.asked || bodies.Load() != tt.asked {
				t.Errorf("status %d after %d requests with %d bodies, want %d after %d", resp.StatusCode, s.asked.Load(), bodies.Load(), tt.want, tt.asked)
			}
		})
	}
}

// TestBreaker: a host that fails again and again is left alone; others are not.
func TestBreaker(t *testing.T) {
	bad := newSite(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, (*httptest.Server).Start)
	good := newSite(t, hello, (*httptest.Server).Start)
	c := newClient(t, outbound.Options{Allow: loopback})
	var err error
	for range outbound.MaxFailures {
		_, err = read(t, c, bad.URL)
	}
	if !errors.Is(err, errkind.Unavailable) || !strings.Contains(err.Error(), "left alone") {
		t.Errorf("after many failures: %v", err)
	}
	if n := bad.asked.Load(); n != outbound.MaxFailures {
		t.Errorf("the host was asked %d times, want %d", n, outbound.MaxFailures)
	}
	if got, err := read(t, c, good.URL); err != nil || got != "hello" {
		t.Errorf("another host = %q, %v", got, err)
	}
}

// TestRefusalsAreNoFailures: who writes a private address must not make a host look ill.
func TestRefusalsAreNoFailures(t *testing.T) {
	c := newClient(t, outbound.Options{})
	for range 3 * outbound.MaxFailures {
		_, err := read(t, c, "https://10.0.0.1/")
		wantRefused(t, err, "not public")
	}
}

func TestHostsAreBounded(t *testing.T) {
	c := newClient(t, outbound.Options{})
	for i := range 5 * outbound.MaxHosts {
		c.BreakerOf(fmt.Sprint(i))
	}
	if n := c.Hosts(); n > outbound.MaxHosts {
		t.Errorf("%d hosts are counted, want at most %d", n, outbound.MaxHosts)
	}
}
