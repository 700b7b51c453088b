package server_test

import (
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/server"
)

// TestSmuggling is an attack: requests whose end a proxy and the server may see in different places, so that a part of one
// client's body becomes another's request. Each is refused, or ends where the standard says and ends its connection.
func TestSmuggling(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "demo", client.Public)
	const hidden = "GET /default/demo.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: hidden\r\n\r\n"
	head := "POST /default/demo.git/git-upload-pack HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-git-upload-pack-request\r\n"
	tests := []struct{ name, request string }{
		{"two lengths", head + "Content-Length: 4\r\nContent-Length: 99\r\n\r\n0000" + hidden},
		{"two lengths in one", head + "Content-Length: 4, 99\r\n\r\n0000" + hidden},
		{"length with a sign", head + "Content-Length: +4\r\n\r\n0000" + hidden},
		{"negative length", head + "Content-Length: -4\r\n\r\n0000" + hidden},
		{"hexadecimal length", head + "Content-Length: 0x4\r\n\r\n0000" + hidden},
		{"length with a space inside", head + "Content-Length: 4 4\r\n\r\n0000" + hidden},
		{"length without end", head + "Content-Length: 99999999999999999999\r\n\r\n0000" + hidden},
		{"space before the colon", head + "Content-Length : 4\r\n\r\n0000" + hidden},
		{"chunks of an unknown kind", head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden},
		{"chunks of two kinds", head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + hidden},
		{"chunked twice", head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden},
		{"chunked and identity", head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + hidden},
		{"chunked with a vertical tab", head + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n" + hidden},
		{"chunked with a space before the colon", head + "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + hidden},
		{"chunked in a folded line", head + "Transfer-Encoding:\r\n chunked, x\r\n\r\n0\r\n\r\n" + hidden},
		{"chunked and a length", head + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden},
		{"a length and chunked", head + "Transfer-Encoding: chunked\r\nContent-Length: 94\r\n\r\n0\r\n\r\n" + hidden},
		{"chunked under HTTP/1.0", strings.Replace(head, "1.1", "1.0", 1) + "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n" + hidden},
		{"a chunk's size with a sign", head + "Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n" + hidden},
		{"a chunk's size too large", head + "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n" + hidden},
		{"a chunk that ends elsewhere", head + "Transfer-Encoding: chunked\r\n\r\n4\r\n0000xx0\r\n\r\n" + hidden},
		{"an extension with a line feed", head + "Transfer-Encoding: chunked\r\n\r\n0;a\nb\r\n\r\n" + hidden},
		{"two hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + hidden},
		{"no host", "GET / HTTP/1.1\r\n\r\n" + hidden},
		{"a header without a name", head + ": 4\r\n\r\n" + hidden},
		{"a zero byte", head + "X-A: b\x00c\r\nContent-Length: 4\r\n\r\n0000" + hidden},
		{"a carriage return alone", head + "X-A: b\rContent-Length: 0\r\nContent-Length: 4\r\n\r\n0000" + hidden},
		{"a space in the path", "GET /healthz HTTP/1.1\r\nHost: a /x HTTP/1.1\r\n\r\n" + hidden},
		{"another protocol", "GET / HTTP/3.1\r\nHost: x\r\n\r\n" + hidden},
		{"HTTP/2 out of nowhere", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden},
	}
	for _, tt := range tests {
		got := s.raw(tt.request)
		if strings.Contains(s.log.String(), "Host: hidden") || got.count() > 1 || strings.Contains(string(got), "git-upload-pack-advertisement") {
			t.Errorf("%s: the hidden request was answered:\n%s", tt.name, got)
		}
	}
}

// A body that cannot be read is the client's fault, and the answer says so.
func TestBrokenBody(t *testing.T) {
	s := startSite(t, server.Options{})
	head := "POST /api/v2/tenants HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer " + s.admin + "\r\n\r\n"
	for _, chunks := range []string{"5\r\n{\"pat\r\nZZ\r\n", "5\r\n{\"pathh\r\n0\r\n\r\n", "-1\r\n"} {
		if got := string(s.raw(head + chunks)); !strings.HasPrefix(got, "HTTP/1.1 422 ") || !strings.Contains(got, "cannot be read") {
			t.Errorf("chunks %q:\n%s", chunks, got)
		}
	}
}
