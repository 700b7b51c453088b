package server_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/server"
)

// TestSilentRequestsHoldNoPlace: who announces a body and does not send it keeps nobody out.
func TestSilentRequestsHoldNoPlace(t *testing.T) {
	s := startSite(t, server.Options{MaxTransfers: 1, MaxCalls: 1, MaxWaiting: -1})
	s.repo("default", "demo", client.Public)
	for _, request := range [][2]string{
		{"/api/v2/repos/default%2Fdemo/fetch", "application/json"},
		{"/api/v2/repos", "application/json"},
		{"/default/demo.git/git-upload-pack", "application/x-git-upload-pack-request"},
	} {
		c := s.dial()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n", request[0], request[1])
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.Contains(line, " 100 ") { // it waits for the body now
			t.Fatalf("%s: %q, %v, want 100 Continue", request[0], line, err)
		}
	}
	if resp, text := s.do("POST", "/default/demo.git/git-upload-pack", "", strings.NewReader("0000"), "Content-Type", "application/x-git-upload-pack-request"); resp.StatusCode != http.StatusOK {
		t.Errorf("fetch beside silent requests = %d %q", resp.StatusCode, text)
	}
	if resp, text := s.do("GET", "/api/v2/repos", "", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("list beside silent requests = %d %q", resp.StatusCode, text)
	}
}

// TestPagesOfOtherSites: a browser that knows a credential does not lend it to the pages of others. Their forms can send
// multipart/form-data, and their scripts a body without a type.
func TestPagesOfOtherSites(t *testing.T) {
	s := startSite(t, server.Options{})
	r := s.repo("default", "demo", client.Private)
	form := "--b\r\nContent-Disposition: form-data; name=\"updates\"\r\n\r\n[]\r\n--b--\r\n"
	for _, from := range [][2]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.invalid"}, {"Origin", "null"}} {
		resp, text := s.do("POST", "/api/v2/repos/"+string(r.ID)+"/push", s.admin, strings.NewReader(form), "Content-Type", "multipart/form-data; boundary=b", from[0], from[1])
		if resp.StatusCode != http.StatusForbidden || !strings.Contains(text, "another site") {
			t.Errorf("push with %v = %d %q, want 403", from, resp.StatusCode, text)
		}
	}
	resp, text := s.do("POST", "/api/v2/repos", s.admin, strings.NewReader(`{"tenant": "default", "name": "own"}`), "Sec-Fetch-Site", "same-origin", "Content-Type", "application/json")
	if resp.StatusCode != http.StatusCreated {
		t.Errorf("create from a page of our own = %d %q", resp.StatusCode, text)
	}
}

// TestHeavyCallsAreFew: calls whose cost the content decides cannot take all places of the others.
func TestHeavyCallsAreFew(t *testing.T) {
	s := startSite(t, server.Options{})
	if _, text := s.do("GET", "/metrics", "", nil); !strings.Contains(text, `skep_http_in_flight{pool="heavy"} 0`) {
		t.Errorf("diff and blame have no places of their own")
	}
}

// TestForwardedHeadersAreNotTrusted: what a proxy would say of a request, anybody can say. Who asks, from where, and what the
// server calls itself comes from the credential, the connection, the Host header and the configured address alone.
func TestForwardedHeadersAreNotTrusted(t *testing.T) {
	forged := []string{
		"X-Forwarded-Host", "evil.invalid", "X-Forwarded-Proto", "https", "X-Forwarded-Port", "444", "X-Forwarded-Prefix", "/evil",
		"X-Forwarded-For", "6.6.6.6", "X-Real-Ip", "6.6.6.6", "Forwarded", "for=6.6.6.6;host=evil.invalid;proto=https",
		"X-Forwarded-User", "admin", "X-Remote-User", "admin", "X-Original-Url", "/api/v2/principals", "X-Http-Method-Override", "DELETE",
	}
	for _, public := range []string{"", "https://git.example.com"} {
		s := startSite(t, server.Options{PublicURL: public})
		s.repo("default", "demo", client.Public)
		address := public
		if address == "" {
			address = s.url
		}
		_, plain := s.do("GET", "/api/v2/repos/default%2Fdemo", "", nil)
		resp, body := s.do("GET", "/api/v2/repos/default%2Fdemo", "", nil, forged...)
		if resp.StatusCode != http.StatusOK || body != plain || !strings.Contains(body, `"clone_url":"`+address+`/default/demo.git"`) {
			t.Errorf("repository = %d %s, without forged headers %s", resp.StatusCode, body, plain)
		}
		if _, body := s.do("GET", "/", "", nil, forged...); !strings.Contains(body, "git clone "+address+"/") || strings.Contains(body, "evil") {
			t.Errorf("the front page says %s", body)
		}
		if resp, _ := s.do("GET", "/api/v2/principals", "", nil, forged...); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("nobody with forged headers = %d", resp.StatusCode)
		}
		origin := append([]string{"Origin", "https://evil.invalid", "Content-Type", "application/json"}, forged...)
		if resp, _ := s.do("POST", "/api/v2/tenants", s.admin, strings.NewReader(`{"path":"x"}`), origin...); resp.StatusCode != http.StatusForbidden {
			t.Errorf("a page of another site with forged headers = %d", resp.StatusCode)
		}
		if log := s.log.String(); strings.Contains(log, "6.6.6.6") || !strings.Contains(log, "remote=127.0.0.1:") {
			t.Errorf("the log has not where requests come from:\n%s", log)
		}
	}
}
