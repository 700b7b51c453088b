package server_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/server"
)

// dripped sends the beginning of something, then a piece now and then for as long as the server listens, and reports
// whether it was cut off.
func (s *site) dripped(begin, piece string) bool {
	s.t.Helper()
	c := s.dial()
	if _, err := io.WriteString(c, begin); err != nil {
		s.t.Fatal(err)
	}
	for late := time.Now().Add(10 * time.Second); time.Now().Before(late); {
		if _, err := io.WriteString(c, piece); err != nil {
			return true
		}
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			return true
		}
		if _, err := io.Copy(io.Discard, c); err == nil { // the server has closed
			return true
		} else if t, ok := err.(interface{ Timeout() bool }); !ok || !t.Timeout() {
			return true
		}
	}
	return false
}

// TestSlowloris is an attack: connections that never finish saying what they want. Each is cut off, whatever it drips, and
// others are served meanwhile.
func TestSlowloris(t *testing.T) {
	s := startSite(t, server.Options{HeaderTimeout: 300 * time.Millisecond, IdleTimeout: 300 * time.Millisecond})
	secure := startSecure(t, server.Options{HeaderTimeout: 300 * time.Millisecond})
	for name, tt := range map[string]struct {
		site         *site
		begin, piece string
	}{
		"the request line": {s, "G", "E"},
		"headers":          {s, "GET / HTTP/1.1\r\nHost: x\r\n", "X-A: b\r\n"},
		"one header":       {s, "GET / HTTP/1.1\r\nHost: x\r\nX-A: ", "b"},
		"line feeds":       {s, "\r\n", "\r\n"},
		"chunks": {s, "POST /default/x.git/git-upload-pack HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-git-upload-pack-request\r\n" +
			"Transfer-Encoding: chunked\r\n\r\n", "1\r\n0\r\n"},
		"a body that nobody reads": {s, "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", "0"},
		"a TLS handshake":          {secure.site, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x00"},
		"nothing after TLS begins": {secure.site, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if !tt.site.dripped(tt.begin, tt.piece) {
				t.Error("never cut off")
			}
		})
	}
	if resp, _ := s.do("GET", "/healthz", "", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("healthz = %d afterwards", resp.StatusCode)
	}
}

// TestHeaderFlood is an attack: headers without end, in number and in length, over both versions of HTTP.
func TestHeaderFlood(t *testing.T) {
	s := startSite(t, server.Options{})
	var many strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&many, "X-%d: y\r\n", i)
	}
	for name, headers := range map[string]string{"many": many.String(), "huge": "X-A: " + strings.Repeat("b", 4<<20) + "\r\n", "a huge path": ""} {
		path := "/"
		if headers == "" {
			path += strings.Repeat("x", 4<<20)
		}
		c := s.dial()
		go func() { _, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n"+headers+"\r\n") }() // it is cut off
		b := make([]byte, 12)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "HTTP/1.1 431" {
			t.Errorf("%s = %q, %v, want 431", name, b, err)
		}
	}
	secure := startSecure(t, server.Options{})
	req := result(http.NewRequestWithContext(t.Context(), http.MethodGet, secure.url+"/healthz", nil))(t)
	for i := range 20_000 {
		req.Header.Set(fmt.Sprint("X-", i), "y")
	}
	if resp, err := secure.http.Do(req); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("many over %s = %d, want 431", resp.Proto, resp.StatusCode)
		}
	}
	if !strings.Contains(secure.get(t, "/healthz"), "ok") {
		t.Error("healthz fails afterwards")
	}
}

// TestBombs is an attack: small bodies that inflate to 256 MiB, once and again, at each door that inflates. Each is refused,
// and the memory that they take does not depend on what they hold.
func TestBombs(t *testing.T) {
	const bomb = 256 << 20
	s := startSite(t, server.Options{MaxPackBytes: 1 << 20})
	s.repo("default", "demo", client.Public)
	have := pkt("have 1111111111111111111111111111111111111111\n")
	fetch := zipped(t, strings.NewReader(pkt("command=fetch\n")+"0001"), bomb, have)
	push := zipped(t, strings.NewReader(""), bomb, pkt(zeroOID+" "+strings.Repeat("1", 40)+" refs/heads/x\x00report-status\n"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for name, tt := range map[string]struct {
		service string
		body    []byte
	}{
		"fetch": {"git-upload-pack", fetch}, "push": {"git-receive-pack", push},
		"zipped twice": {"git-upload-pack", zipped(t, bytes.NewReader(fetch), 0, "")},
	} {
		resp, body := s.do("POST", "/default/demo.git/"+tt.service, s.admin, bytes.NewReader(tt.body),
			"Content-Type", "application/x-"+tt.service+"-request", "Content-Encoding", "gzip", "Git-Protocol", "version=2", "Connection", "close") // the server ends it, unannounced
		if resp.StatusCode == http.StatusOK && !strings.Contains(body, "ERR ") && !strings.Contains(body, "unpack ") || resp.StatusCode >= 500 {
			t.Errorf("%s: %d bytes = %d %s", name, len(tt.body), resp.StatusCode, clip(body))
		}
	}
	runtime.ReadMemStats(&after)
	took := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d KiB were allocated", took>>10)
	if took > bomb/8 {
		t.Errorf("%d MiB were allocated", took>>20)
	}
	// Elsewhere nothing is inflated at all.
	resp, body := s.do("POST", "/api/v2/repos", s.admin, bytes.NewReader(fetch), "Content-Type", "application/json", "Content-Encoding", "gzip")
	if resp.StatusCode/100 != 4 {
		t.Errorf("a zipped call of the API = %d %s", resp.StatusCode, clip(body))
	}
}
