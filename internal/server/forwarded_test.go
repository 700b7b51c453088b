package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/peer"
	"github.com/skep-dev/skep/internal/server"
)

// local trusts a proxy on this machine.
var local = peer.Proxies{Trusted: server.LoopbackPrefixes()}

// guests is a limit on guests that is used up at once.
func guests(n int) map[string]limit.Quota {
	return map[string]limit.Quota{"guest": {Events: n, Per: time.Hour}}
}

// TestForwardedAddressCounts: behind a trusted proxy each client has its own limits, and the log names it, by whichever of the
// three ways the proxy says who it is.
func TestForwardedAddressCounts(t *testing.T) {
	protocol := func(version string) func(addr string) string {
		return func(addr string) string {
			if version == "2" {
				a := netip.MustParseAddr(addr).As4()
				return "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + string(a[:]) + "\x0a\x00\x00\x01\x12\x34\x01\xbb" + ask("")
			}
			return "PROXY TCP4 " + addr + " 10.0.0.1 4711 443\r\n" + ask("")
		}
	}
	header := func(format string) func(addr string) string {
		return func(addr string) string { return ask(fmt.Sprintf(format, addr)) }
	}
	for name, tt := range map[string]struct {
		proxies peer.Proxies
		request func(addr string) string
	}{
		"X-Forwarded-For":           {local, header("X-Forwarded-For: 127.0.0.1, %s\r\n")},
		"X-Forwarded-For, two":      {local, header("X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: %s\r\n")},
		"Forwarded":                 {peer.Proxies{Trusted: local.Trusted, Header: peer.Forwarded}, header("Forwarded: for=127.0.0.1, for=\"%s:80\"\r\nX-Forwarded-For: 127.0.0.1\r\n")},
		"PROXY protocol, version 1": {peer.Proxies{Trusted: local.Trusted, Protocol: true}, protocol("1")},
		"PROXY protocol, version 2": {peer.Proxies{Trusted: local.Trusted, Protocol: true}, protocol("2")},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, server.Options{Proxies: tt.proxies, Rates: guests(1)})
			for _, step := range []struct {
				addr   string
				status int
			}{{"192.0.2.1", 401}, {"192.0.2.1", 429}, {"192.0.2.2", 401}, {"192.0.2.1", 429}} {
				if got := s.raw(tt.request(step.addr)); !got.is(step.status) {
					t.Errorf("%s = %q, want %d", step.addr, got, step.status)
				}
			}
			if text := s.log.String(); !strings.Contains(text, "remote=192.0.2.1") {
				t.Errorf("the log does not name the client:\n%s", text)
			}
		})
	}
}

// ask is a request, with headers, that ends its connection.
func ask(headers string) string {
	return "GET /api/v2/whoami HTTP/1.1\r\nHost: x\r\n" + headers + "Connection: close\r\n\r\n"
}

// TestForgedAddress is an attack: a client at its limit says that it is somebody else, or the machine itself, which is exempt.
func TestForgedAddress(t *testing.T) {
	forgeries := []string{
		"X-Forwarded-For: 127.0.0.1\r\n",
		"X-Forwarded-For: 198.51.100.%d\r\n",
		"X-Real-IP: 198.51.100.%d\r\nTrue-Client-IP: 198.51.100.%d\r\nCF-Connecting-IP: 127.0.0.1\r\n",
		"Forwarded: for=127.0.0.1\r\n",
		"X_Forwarded_For: 127.0.0.1\r\n",
		"X-Forwarded-For:\t127.0.0.1\r\nX-Forwarded-For: \r\n",
		"X-Forwarded-For: 127.0.0.1\r\nConnection: X-Forwarded-For\r\n",
		"X-Forwarded-For:\r\n 127.0.0.1\r\n",
		"X-Forwarded-For : 127.0.0.1\r\n",
		"X-Ignored: a\r\n\tX-Forwarded-For: 127.0.0.1\r\n",
		"X-Ignored: a\rX-Forwarded-For: 127.0.0.1\r\n",
		"X-Ignored: a\nX-Forwarded-For: 127.0.0.1\r\n",
	}
	t.Run("without a proxy", func(t *testing.T) {
		s := startSite(t, server.Options{Rates: guests(1), RateExempt: []netip.Prefix{}})
		s.raw(ask(""))
		for i, f := range forgeries {
			f = strings.ReplaceAll(f, "%d", fmt.Sprint(i))
			if got := s.raw(ask(f)); !got.is(429) && !got.is(400) {
				t.Errorf("%q let the client off: %q", f, got)
			}
		}
	})
	t.Run("through a proxy that adds the address", func(t *testing.T) {
		s := startSite(t, server.Options{Rates: guests(1), Proxies: local})
		s.raw(ask("X-Forwarded-For: 192.0.2.1\r\n"))
		for i, f := range forgeries {
			f = strings.ReplaceAll(f, "%d", fmt.Sprint(i))
			if got := s.raw(ask(f + "X-Forwarded-For: 192.0.2.1\r\n")); !got.is(429) && !got.is(400) {
				t.Errorf("%q let the client off: %q", f, got)
			}
		}
	})
	t.Run("through a proxy that reads Forwarded", func(t *testing.T) {
		// What the client left open swallows what the proxy adds. Then it is nobody, and all such are one.
		s := startSite(t, server.Options{Rates: guests(1), Proxies: peer.Proxies{Trusted: local.Trusted, Header: peer.Forwarded}})
		s.raw(ask("Forwarded: for=\"x, for=192.0.2.1\r\n"))
		if got := s.raw(ask("Forwarded: for=\"y, for=192.0.2.1\r\n")); !got.is(429) {
			t.Errorf("an open quote let the client off: %q", got)
		}
	})
	t.Run("the PROXY protocol from somebody else", func(t *testing.T) {
		proxies := peer.Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Protocol: true}
		s := startSite(t, server.Options{Rates: guests(1), RateExempt: []netip.Prefix{}, Proxies: proxies})
		if got := s.raw("PROXY TCP4 127.0.0.1 10.0.0.1 4711 443\r\n" + ask("")); !got.is(400) {
			t.Errorf("a header of somebody who is no proxy = %q, want 400", got)
		}
	})
	t.Run("a trusted proxy without the PROXY protocol", func(t *testing.T) {
		s := startSite(t, server.Options{Proxies: peer.Proxies{Trusted: local.Trusted, Protocol: true}})
		if got := s.raw(ask("X-Forwarded-For: 192.0.2.1\r\n")); !got.is(400) {
			t.Errorf("answered %q, want 400", got)
		}
	})
}

// TestUntrustedProxyIsReported: who forgets to name its proxy is told, once.
func TestUntrustedProxyIsReported(t *testing.T) {
	s := startSite(t, server.Options{})
	for range 3 {
		s.do("GET", "/healthz", "", nil, "X-Forwarded-For", "192.0.2.1")
	}
	if n := strings.Count(s.log.String(), "a proxy that is not trusted"); n != 1 {
		t.Errorf("reported %d times, want once", n)
	}
}

// TestForwardedProto: addresses in answers are those that users reach.
func TestForwardedProto(t *testing.T) {
	for name, tt := range map[string]struct {
		proxies peer.Proxies
		want    string
	}{"trusted": {local, "https://git.example.org/"}, "not trusted": {peer.Proxies{}, "http://git.example.org/"}} {
		s := startSite(t, server.Options{Proxies: tt.proxies})
		req := result(http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/", nil))(t)
		req.Host = "git.example.org"
		req.Header.Set("X-Forwarded-Proto", "https")
		resp := result(http.DefaultClient.Do(req))(t)
		text := result(io.ReadAll(resp.Body))(t)
		_ = resp.Body.Close()
		if !strings.Contains(string(text), tt.want) {
			t.Errorf("%s: %s lacks %s", name, text, tt.want)
		}
	}
}

// answers is all that came back on a connection.
type answers string

// is reports whether the first answer has a status.
func (a answers) is(status int) bool {
	return strings.HasPrefix(string(a), fmt.Sprintf("HTTP/1.1 %d ", status))
}

// count is how many answers there are.
func (a answers) count() int { return strings.Count(string(a), "HTTP/1.1 ") }

// raw sends bytes as they are and returns what comes until the server closes, or has said nothing for a while.
func (s *site) raw(request string) answers {
	s.t.Helper()
	c := s.dial()
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		s.t.Fatal(err)
	}
	_ = c.(interface{ CloseWrite() error }).CloseWrite()
	b, _ := io.ReadAll(c) // a reset ends it as well
	return answers(b)
}
