package peer_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/peer"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

var trusted = prefixes("10.0.0.0/8", "2001:db8:1::/48")

// TestXForwardedFor: the last address that no trusted proxy has is the client; what stands before it is invented.
func TestXForwardedFor(t *testing.T) {
	tests := []struct {
		name, remote string
		lines        []string
		want         string
	}{
		{"direct", "192.0.2.1", nil, "192.0.2.1"},
		{"direct, and lying", "192.0.2.1", []string{"198.51.100.7"}, "192.0.2.1"},
		{"lying that it is a proxy", "192.0.2.1", []string{"198.51.100.7, 10.0.0.1"}, "192.0.2.1"},
		{"through a proxy", "10.0.0.1", []string{"192.0.2.1"}, "192.0.2.1"},
		{"the proxy itself", "10.0.0.1", nil, "10.0.0.1"},
		{"through three", "10.0.0.1", []string{"192.0.2.1, 10.0.0.3, 10.0.0.2"}, "192.0.2.1"},
		{"invented before", "10.0.0.1", []string{"198.51.100.7, 192.0.2.1"}, "192.0.2.1"},
		{"invented before, in a line of its own", "10.0.0.1", []string{"198.51.100.7", "192.0.2.1"}, "192.0.2.1"},
		{"a proxy's address invented before", "10.0.0.1", []string{"10.9.9.9, 192.0.2.1"}, "192.0.2.1"},
		{"all trusted", "10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"spaces and tabs", "10.0.0.1", []string{" \t192.0.2.1\t , 10.0.0.2 "}, "192.0.2.1"},
		{"no spaces", "10.0.0.1", []string{"198.51.100.7,192.0.2.1,10.0.0.2"}, "192.0.2.1"},
		{"with a port", "10.0.0.1", []string{"192.0.2.1:4711"}, "192.0.2.1"},
		{"IPv6", "10.0.0.1", []string{"2001:db8:2::1"}, "2001:db8:2::1"},
		{"IPv6 in brackets", "10.0.0.1", []string{"[2001:db8:2::1]"}, "2001:db8:2::1"},
		{"IPv6 with a port", "10.0.0.1", []string{"[2001:db8:2::1]:443, [2001:db8:1::2]:9"}, "2001:db8:2::1"},
		{"IPv4 in IPv6", "::ffff:10.0.0.1", []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{"an IPv6 proxy", "2001:db8:1::1", []string{"192.0.2.1"}, "192.0.2.1"},
		{"a name", "10.0.0.1", []string{"192.0.2.1, example.org"}, "invalid IP"},
		{"unknown", "10.0.0.1", []string{"192.0.2.1, unknown, 10.0.0.2"}, "invalid IP"},
		{"nothing at the end", "10.0.0.1", []string{"192.0.2.1,"}, "invalid IP"},
		{"an empty line at the end", "10.0.0.1", []string{"192.0.2.1", ""}, "invalid IP"},
		{"nothing between", "10.0.0.1", []string{"192.0.2.1,,10.0.0.2"}, "invalid IP"},
		{"a zone", "10.0.0.1", []string{"fe80::1%eth0"}, "invalid IP"},
		{"a folded line", "10.0.0.1", []string{"192.0.2.1\r\n 198.51.100.7"}, "invalid IP"},
		{"two in one", "10.0.0.1", []string{"192.0.2.1 198.51.100.7"}, "invalid IP"},
		{"octal", "10.0.0.1", []string{"0300.0.2.1"}, "invalid IP"},
		{"IPv4 in brackets", "10.0.0.1", []string{"[192.0.2.1]"}, "invalid IP"},
		{"a bad port", "10.0.0.1", []string{"192.0.2.1:99999"}, "invalid IP"},
		{"without end", "10.0.0.1", []string{"192.0.2.1" + strings.Repeat(",10.0.0.2", 5000)}, "invalid IP"},
	}
	for _, tt := range tests {
		p := peer.Proxies{Trusted: trusted}
		h := http.Header{"X-Forwarded-For": tt.lines, "Forwarded": {"for=203.0.113.9"}, "X-Real-Ip": {"203.0.113.9"}}
		if got, _ := p.Client(netip.MustParseAddr(tt.remote), h); got.String() != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, got, tt.want)
		}
	}
}

func TestForwarded(t *testing.T) {
	tests := []struct {
		name, remote string
		lines        []string
		want         string
		https        bool
	}{
		{"direct, and lying", "192.0.2.1", []string{"for=198.51.100.7;proto=https"}, "192.0.2.1", false},
		{"through a proxy", "10.0.0.1", []string{"for=192.0.2.1;proto=https;by=10.0.0.1"}, "192.0.2.1", true},
		{"in any case", "10.0.0.1", []string{"By=10.0.0.1;FOR=192.0.2.1;Proto=HTTPS"}, "192.0.2.1", true},
		{"quoted", "10.0.0.1", []string{`for="192.0.2.1:4711"`}, "192.0.2.1", false},
		{"a port that is not quoted", "10.0.0.1", []string{`for=192.0.2.1:4711`}, "192.0.2.1", false},
		{"IPv6", "10.0.0.1", []string{`for="[2001:db8:2::1]:4711"`}, "2001:db8:2::1", false},
		{"escaped", "10.0.0.1", []string{`for="192.0.2\.1"`}, "192.0.2.1", false},
		{"through two", "10.0.0.1", []string{"for=198.51.100.7, for=192.0.2.1;proto=https ,for=10.0.0.2;proto=http"}, "192.0.2.1", false},
		{"in two lines", "10.0.0.1", []string{"for=198.51.100.7", "for=192.0.2.1"}, "192.0.2.1", false},
		{"a comma in quotes", "10.0.0.1", []string{`for=192.0.2.1;ext="a, for=198.51.100.7"`}, "192.0.2.1", false},
		{"a quote that the client left open", "10.0.0.1", []string{`for="198.51.100.7`, `for=192.0.2.1`}, "invalid IP", false},
		{"unknown", "10.0.0.1", []string{"for=unknown"}, "invalid IP", false},
		{"hidden", "10.0.0.1", []string{"for=192.0.2.1, for=_secret"}, "invalid IP", false},
		{"nobody", "10.0.0.1", []string{"for=192.0.2.1, proto=https"}, "invalid IP", true},
		{"twice", "10.0.0.1", []string{"for=192.0.2.1;for=198.51.100.7"}, "invalid IP", false},
		{"no pair", "10.0.0.1", []string{"192.0.2.1"}, "invalid IP", false},
		{"spaces around =", "10.0.0.1", []string{"for = 192.0.2.1"}, "invalid IP", false},
		{"none", "10.0.0.1", nil, "10.0.0.1", false},
	}
	for _, tt := range tests {
		p := peer.Proxies{Trusted: trusted, Header: peer.Forwarded}
		h := http.Header{"Forwarded": tt.lines, "X-Forwarded-For": {"203.0.113.9"}, "X-Forwarded-Proto": {"https"}}
		if got, https := p.Client(netip.MustParseAddr(tt.remote), h); got.String() != tt.want || https != tt.https {
			t.Errorf("%s: %v, https %v, want %s, %v", tt.name, got, https, tt.want, tt.https)
		}
	}
}

func TestXForwardedProto(t *testing.T) {
	p := peer.Proxies{Trusted: trusted}
	for _, tt := range []struct {
		remote string
		lines  []string
		want   bool
	}{
		{"10.0.0.1", []string{"https"}, true},
		{"10.0.0.1", []string{"http"}, false},
		{"10.0.0.1", []string{"https, http"}, false},
		{"10.0.0.1", []string{"https", "http"}, false},
		{"192.0.2.1", []string{"https"}, false},
	} {
		if _, got := p.Client(netip.MustParseAddr(tt.remote), http.Header{"X-Forwarded-Proto": tt.lines}); got != tt.want {
			t.Errorf("from %s, %q: https %v, want %v", tt.remote, tt.lines, got, tt.want)
		}
	}
}

func TestNoHeader(t *testing.T) {
	p := peer.Proxies{Trusted: trusted, Header: peer.None}
	h := http.Header{"X-Forwarded-For": {"203.0.113.9"}, "Forwarded": {"for=203.0.113.9"}, "X-Forwarded-Proto": {"https"}}
	if got, https := p.Client(netip.MustParseAddr("10.0.0.1"), h); got.String() != "10.0.0.1" || https {
		t.Errorf("%v, https %v, want the proxy's", got, https)
	}
}

func TestParseHeader(t *testing.T) {
	for in, want := range map[string]peer.Header{"": peer.XForwardedFor, "x-forwarded-for": peer.XForwardedFor, "FORWARDED": peer.Forwarded, "none": peer.None} {
		if got, err := peer.ParseHeader(in); err != nil || got != want {
			t.Errorf("ParseHeader(%q) = %v, %v", in, got, err)
		}
	}
	if _, err := peer.ParseHeader("X-Real-IP"); !errors.Is(err, errkind.Invalid) {
		t.Errorf("X-Real-IP: %v, want errkind.Invalid", err)
	}
}

// binaryHeader makes a header of version 2.
func binaryHeader(verCmd, family byte, body string) string {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), verCmd, family)
	return string(binary.BigEndian.AppendUint16(b, uint16(len(body)))) + body
}

const (
	v4 = "\xc0\x00\x02\x01\x0a\x00\x00\x09\x12\x67\x01\xbb"
	v6 = "\x20\x01\x0d\xb8\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x20\x01\x0d\xb8\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x12\x67\x01\xbb"
)

func TestProxyHeader(t *testing.T) {
	const none, bad = "invalid AddrPort", "bad"
	tests := []struct{ name, in, want string }{
		{"text, IPv4", "PROXY TCP4 192.0.2.1 10.0.0.9 4711 443\r\n", "192.0.2.1:4711"},
		{"text, IPv6", "PROXY TCP6 2001:db8:2::1 2001:db8:2::2 4711 443\r\n", "[2001:db8:2::1]:4711"},
		{"text, the longest", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", none},
		{"text, unknown", "PROXY UNKNOWN\r\n", none},
		{"text, too long", "PROXY TCP4 " + strings.Repeat("1", 100) + "\r\n", bad},
		{"text, wrong family", "PROXY TCP6 192.0.2.1 10.0.0.9 4711 443\r\n", bad},
		{"text, two spaces", "PROXY TCP4  192.0.2.1 10.0.0.9 4711 443\r\n", bad},
		{"text, no destination", "PROXY TCP4 192.0.2.1 4711\r\n", bad},
		{"text, port with a sign", "PROXY TCP4 192.0.2.1 10.0.0.9 +471 443\r\n", bad},
		{"text, port too large", "PROXY TCP4 192.0.2.1 10.0.0.9 65536 443\r\n", bad},
		{"text, only a line feed", "PROXY TCP4 192.0.2.1 10.0.0.9 4711 443\n" + strings.Repeat("x", 100), bad},
		{"text, zone", "PROXY TCP6 fe80::1%a fe80::2 4711 443\r\n", bad},
		{"binary, IPv4", binaryHeader(0x21, 0x11, v4), "192.0.2.1:4711"},
		{"binary, IPv6", binaryHeader(0x21, 0x21, v6), "[2001:db8:2::1]:4711"},
		{"binary, with additions", binaryHeader(0x21, 0x11, v4+"\x04\x00\x03abc"), "192.0.2.1:4711"},
		{"binary, local", binaryHeader(0x20, 0x11, v4), none},
		{"binary, local and empty", binaryHeader(0x20, 0, ""), none},
		{"binary, a socket's path", binaryHeader(0x21, 0x31, strings.Repeat("x", 216)), none},
		{"binary, version 1", binaryHeader(0x11, 0x11, v4), bad},
		{"binary, unknown command", binaryHeader(0x22, 0x11, v4), bad},
		{"binary, too short", binaryHeader(0x21, 0x21, v4), bad},
		{"binary, too long", binaryHeader(0x21, 0x11, v4+strings.Repeat("x", 3000)), bad},
		{"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", bad},
		{"nothing", "", bad},
		{"half", "PROXY TCP4 192", bad},
	}
	for _, tt := range tests {
		const after = "GET / HTTP/1.1\r\n"
		r := strings.NewReader(tt.in + after)
		if tt.want == bad && tt.name != "HTTP" {
			r = strings.NewReader(tt.in)
		}
		got, err := peer.ReadProxyHeader(r)
		if (err != nil) != (tt.want == bad) || err == nil && got.String() != tt.want {
			t.Errorf("%s: %v, %v, want %s", tt.name, got, err, tt.want)
		}
		if rest, _ := io.ReadAll(r); err == nil && string(rest) != after {
			t.Errorf("%s: %q is left, want %q", tt.name, rest, after)
		}
	}
}

// TestListen: a trusted proxy's connections are its clients', the others stay what they are.
func TestListen(t *testing.T) {
	for name, tt := range map[string]struct {
		trusted    []netip.Prefix
		send, addr string // "": the connection's own
		read       string // "": an error
	}{
		"trusted":                  {prefixes("127.0.0.0/8"), "PROXY TCP4 192.0.2.1 10.0.0.9 4711 443\r\nhello", "192.0.2.1:4711", "hello"},
		"trusted, for itself":      {prefixes("127.0.0.0/8"), "PROXY UNKNOWN\r\nhello", "", "hello"},
		"trusted, without":         {prefixes("127.0.0.0/8"), "hello, who is there?", "", ""},
		"not trusted":              {prefixes("10.0.0.0/8"), "PROXY TCP4 192.0.2.1 10.0.0.9 4711 443\r\n", "", "PROXY TCP4 192.0.2.1 10.0.0.9 4711 443\r\n"},
		"not trusted, and without": {prefixes("10.0.0.0/8"), "hello", "", "hello"},
	} {
		t.Run(name, func(t *testing.T) {
			plain, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ln := peer.Proxies{Trusted: tt.trusted, Protocol: true}.Listen(plain)
			defer ln.Close()
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, tt.send); err != nil {
				t.Fatal(err)
			}
			s, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			_ = c.(*net.TCPConn).CloseWrite()
			want := tt.addr
			if want == "" {
				want = c.LocalAddr().String()
			}
			if got := s.RemoteAddr().String(); got != want {
				t.Errorf("the client is %s, want %s", got, want)
			}
			b, err := io.ReadAll(s)
			if string(b) != tt.read || (err != nil) != (tt.read == "") {
				t.Errorf("read %q, %v, want %q", b, err, tt.read)
			}
			_ = c.Close()
		})
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 10.0.0.9 4711 443\r\nrest"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(binaryHeader(0x21, 0x11, v4)))
	f.Add([]byte(binaryHeader(0x21, 0x21, v6) + "rest"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		a, err := peer.ReadProxyHeader(r)
		if err != nil && a.IsValid() {
			t.Errorf("an address %v and an error %v", a, err)
		}
		if used := len(b) - r.Len(); used > 16+2048 {
			t.Errorf("%d bytes read", used)
		}
		if a.Addr().Is4In6() || a.Addr().Zone() != "" {
			t.Errorf("address %v is not in its plain form", a)
		}
	})
}

// FuzzClient: whatever the headers say, an untrusted connection is itself, and what a trusted one ends with counts.
func FuzzClient(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "[::1]:80, 10.0.0.1", "for=192.0.2.1;proto=https", `for="[::1]";by=_x, for=unknown`, ",", `for="`} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		h := http.Header{"X-Forwarded-For": {one, two}, "Forwarded": {one, two}, "X-Forwarded-Proto": {one, two}}
		for _, header := range []peer.Header{peer.XForwardedFor, peer.Forwarded} {
			p := peer.Proxies{Trusted: trusted, Header: header}
			if a, https := p.Client(netip.MustParseAddr("192.0.2.7"), h); a.String() != "192.0.2.7" || https {
				t.Errorf("%s %q %q moved an untrusted client to %v, https %v", header, one, two, a, https)
			}
			if a, _ := p.Client(netip.MustParseAddr("10.0.0.1"), h); a.Is4In6() || a.Zone() != "" {
				t.Errorf("%s %q %q made %v", header, one, two, a)
			}
		}
		h["X-Forwarded-For"] = append(h["X-Forwarded-For"], "192.0.2.9")
		if a, _ := (peer.Proxies{Trusted: trusted}).Client(netip.MustParseAddr("10.0.0.1"), h); a.String() != "192.0.2.9" {
			t.Errorf("%q %q before a proxy's line made %v", one, two, a)
		}
	})
}
