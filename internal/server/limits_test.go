package server_test

import (
	"bufio"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/router"
	"github.com/skep-dev/skep/internal/server"
)

// dial opens a bare connection.
func (s *site) dial() net.Conn {
	s.t.Helper()
	var d net.Dialer
	c := result(d.DialContext(s.t.Context(), "tcp", s.host))(s.t)
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// hold starts a push whose body begins with first, and waits until the server works on it.
func (s *site) hold(repo, first string) (body *io.PipeWriter, answer <-chan pushAnswer) {
	s.t.Helper()
	pr, pw := io.Pipe()
	req := result(http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/"+repo+".git/git-receive-pack", pr))(s.t)
	req.SetBasicAuth("any", s.admin)
	req.Header.Set("Content-Type", "application/x-git-receive-pack-request")
	done := make(chan pushAnswer, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			done <- pushAnswer{err: err}
			return
		}
		text, err := io.ReadAll(resp.Body)
		done <- pushAnswer{string(text), errors.Join(err, resp.Body.Close(), statusError(resp.StatusCode))}
	}()
	if _, err := io.WriteString(pw, first); err != nil {
		s.t.Fatal(err)
	}
	for { // until the push has its place
		if _, text := s.do("GET", "/metrics", "", nil); strings.Contains(text, `skep_http_in_flight{pool="transfers"} 1`) {
			return pw, done
		}
	}
}

type pushAnswer struct {
	text string
	err  error
}

func statusError(status int) error {
	if status/100 == 2 {
		return nil
	}
	return fmt.Errorf("status %d", status)
}

// TestOverload: when all places are taken and all waiting ones too, the answer is 503 at once, with a time to come back;
// health still answers.
func TestOverload(t *testing.T) {
	s := startSite(t, server.Options{MaxTransfers: 1, MaxWaiting: -1})
	s.repo("default", "demo", client.Public)
	body, done := s.hold("default/demo", "00")
	resp, text := s.do("POST", "/default/demo.git/git-upload-pack", s.admin, strings.NewReader("0000"), "Content-Type", "application/x-git-upload-pack-request")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("overload = %d %q, Retry-After %q", resp.StatusCode, text, resp.Header.Get("Retry-After"))
	}
	_, err := s.api(s.admin).Fetch(t.Context(), "default/demo", client.FetchRequest{})
	if !errors.Is(err, errkind.Unavailable) {
		t.Errorf("overloaded API: %v, want errkind.Unavailable", err)
	}
	for _, path := range []string{"/readyz", "/default/demo.git/info/refs?service=git-upload-pack"} {
		if resp, _ := s.do("GET", path, "", nil); resp.StatusCode != http.StatusOK {
			t.Errorf("a stranger gets %d for %s while others keep the server busy", resp.StatusCode, path)
		}
	}
	_ = body.CloseWithError(errors.New("the client goes away"))
	<-done
	// The place is free again.
	for {
		resp, _ := s.do("POST", "/default/demo.git/git-upload-pack", s.admin, strings.NewReader("0000"), "Content-Type", "application/x-git-upload-pack-request")
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
}

// TestUnreadBodyIsNoRequest: what a refused request leaves unread on its connection is not taken for the next request.
func TestUnreadBodyIsNoRequest(t *testing.T) {
	s := startSite(t, server.Options{})
	c := s.dial()
	smuggled := "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	body := strings.Repeat(smuggled, 100_000)
	go fmt.Fprintf(c, "POST /api/v2/tenants HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", s.admin, len(body), body)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("oversize = %d, %v", resp.StatusCode, err)
	}
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		t.Errorf("the refused body was taken for requests: %q", clip(string(rest)))
	}
}

// TestSlowloris: whoever drips is cut off, in the headers as in the body; others are served meanwhile.
func TestSlowBody(t *testing.T) {
	s := startSite(t, server.Options{IdleTimeout: 300 * time.Millisecond})
	s.repo("default", "demo", client.Public)
	c := s.dial()
	fmt.Fprintf(c, "POST /default/demo.git/git-upload-pack HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-git-upload-pack-request\r\nContent-Length: 100000\r\n\r\n0")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for { // a byte now and then, for as long as the server takes them
			if _, err := c.Write([]byte("0")); err != nil {
				return
			}
			if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				return
			}
			if _, err := io.ReadAll(c); err == nil || !os.IsTimeout(err) {
				return
			}
		}
	}()
	if resp, _ := s.do("GET", "/default/demo.git/info/refs?service=git-upload-pack", "", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("another client = %d meanwhile", resp.StatusCode)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("a client that drips its body is never cut off")
	}
}

// TestSlowReaderIsCutOff: a client that takes nothing of its answer does not keep its place.
func TestSlowReader(t *testing.T) {
	s := startSite(t, server.Options{IdleTimeout: 300 * time.Millisecond, MaxGuests: 1})
	big := strings.Repeat("0123456789abcdef", 1<<19) // 8 MiB: more than the kernel's buffers take
	r := result(s.api(s.admin).CreateRepo(t.Context(), client.CreateRepo{
		Tenant: "default", Name: "demo", Visibility: client.Public, InitialContent: map[string]string{"big": big},
	}))(t)
	c := s.dial()
	fmt.Fprintf(c, "GET /api/v2/repos/%s/contents?path=big&raw=true HTTP/1.1\r\nHost: x\r\n\r\n", r.ID)
	if _, err := c.Read(make([]byte, 1)); err != nil { // the answer has begun, and its place is taken
		t.Fatal(err)
	}
	resp, text := s.do("GET", "/api/v2/repos/"+string(r.ID)+"/contents?path=big&raw=true", "", nil)
	if resp.StatusCode != http.StatusOK || len(text) != len(big) {
		t.Errorf("the next client = %d with %d bytes", resp.StatusCode, len(text))
	}
}

// TestBigDeltas: a large object that is stored as a delta is put together for few at a time. Others wait, and then are told
// to come back.
func TestBigDeltas(t *testing.T) {
	s := startSiteOn(t, router.Options{ApplyBytes: 1, ApplyWait: 100 * time.Millisecond}, server.Options{})
	s.repo("default", "demo", client.Public)
	src := newRepo(t, 1)
	for _, first := range []string{"a", "b"} {
		write(t, filepath.Join(src, "big"), first+strings.Repeat("0123456789abcdef", 1<<20))
		git(t, src, "add", ".")
		git(t, src, "commit", "-q", "-m", first)
	}
	git(t, src, "push", "-q", s.remote(s.admin, "default/demo"), "main:big")
	path := func(rev string) string { return "/api/v2/repos/default%2Fdemo/contents?path=big&raw=true&ref=" + rev }
	revs := []string{"big", "big~1"} // one of them is a delta of the other
	var readers []net.Conn
	for _, rev := range revs {
		c := s.dial()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path(rev))
		if _, err := c.Read(make([]byte, 1)); err != nil { // the answer has begun
			t.Fatal(err)
		}
		readers = append(readers, c)
	}
	busy := ""
	for _, rev := range revs {
		resp, _ := s.do("GET", path(rev), "", nil)
		if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "" && resp.Header.Get("Etag") == "" {
			busy = rev
		} else if resp.StatusCode != http.StatusOK {
			t.Errorf("%s = %d %v", rev, resp.StatusCode, resp.Header)
		}
	}
	if busy == "" {
		t.Fatal("both were served while others read both")
	}
	for _, c := range readers {
		_ = c.Close()
	}
	for { // until the server has noticed
		if resp, _ := s.do("GET", path(busy), "", nil); resp.StatusCode == http.StatusOK {
			return
		}
	}
}

// TestOversize: each way of sending too much is refused with a status that says so.
func TestOversize(t *testing.T) {
	s := startSite(t, server.Options{MaxPackBytes: 64 << 10})
	s.repo("default", "demo", client.Public)
	tests := []struct {
		name, method, path string
		body               io.Reader
		header             []string
		status             int
	}{
		{"JSON", "POST", "/api/v2/tenants", strings.NewReader(`{"path":"` + strings.Repeat("x", 2<<20) + `"}`), nil, 413},
		{"files in JSON", "POST", "/api/v2/repos/default%2Fdemo/commits", strings.NewReader(`{"branch":"` + strings.Repeat("x", 20<<20) + `"}`), nil, 413},
		{"declared push", "POST", "/default/demo.git/git-receive-pack", strings.NewReader(strings.Repeat("0", 100<<10)), []string{"Content-Type", "application/x-git-receive-pack-request"}, 413},
		{"pack over REST", "POST", "/api/v2/repos/default%2Fdemo/push?ref=refs/heads/x&new=1111111111111111111111111111111111111111", io.MultiReader(strings.NewReader(packHeader), strings.NewReader(strings.Repeat("0", 100<<10))), []string{"Content-Type", "application/x-git-packfile"}, 0},
		{"headers", "GET", "/healthz", nil, []string{"X-Large", strings.Repeat("x", 100<<10)}, 431},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := s.do(tt.method, tt.path, s.admin, tt.body, append([]string{"Content-Type", "application/json"}, tt.header...)...)
			if tt.status == 0 && (resp.StatusCode == http.StatusRequestEntityTooLarge || resp.StatusCode == http.StatusUnprocessableEntity) {
				return // the pack's own defects may be found first
			}
			if resp.StatusCode != tt.status {
				t.Errorf("%d %s, want %d", resp.StatusCode, clip(body), tt.status)
			}
		})
	}
	src := newRepo(t, 1)
	noise := make([]byte, 200<<10)
	for i := range noise {
		noise[i] = byte(i * i >> 3 * 31)
	}
	write(t, filepath.Join(src, "noise"), string(noise))
	git(t, src, "add", ".")
	git(t, src, "commit", "-q", "-m", "big")
	out, err := tryGit(t, src, "-c", "core.compression=0", "-c", "pack.compression=0", "push", s.remote(s.admin, "default/demo"), "main:topic")
	if err == nil || !strings.Contains(out, "64") && !strings.Contains(out, "413") && !strings.Contains(out, "large") {
		t.Errorf("an oversize push: %v\n%s\nwant to be told that it is too large", err, out)
	}
	if out := git(t, src, "ls-remote", s.remote(s.admin, "default/demo")); strings.Contains(out, "topic") {
		t.Errorf("the oversize push has left a reference:\n%s", out)
	}
}

const packHeader = "PACK\x00\x00\x00\x02\x00\x00\x00\x01"

func clip(s string) string { return s[:min(len(s), 200)] }

// TestShutdownFinishesAPush: a push that is under way when the server is told to stop is finished and acknowledged, and
// is there after the restart; new connections are refused meanwhile.
func TestShutdownFinishesAPush(t *testing.T) {
	s := startSite(t, server.Options{DrainTimeout: 20 * time.Second})
	s.repo("default", "demo", client.Private)
	main := result(s.api(s.admin).Ref(t.Context(), "default/demo", "refs/heads/main"))(t)
	push := pkt(zeroOID+" "+main.SHA.String()+" refs/heads/topic\x00report-status") + "0000" + emptyPack()
	body, done := s.hold("default/demo", push[:10])
	s.stop()
	for { // until the listener is closed
		c, err := net.DialTimeout("tcp", s.host, time.Second)
		if err != nil {
			break
		}
		_ = c.Close()
	}
	select {
	case err := <-s.ended:
		t.Fatalf("the server ended with a push under way: %v", err)
	default:
	}
	if _, err := io.WriteString(body, push[10:]); err != nil {
		t.Fatal(err)
	}
	_ = body.Close()
	if a := <-done; a.err != nil || !strings.Contains(a.text, "ok refs/heads/topic") {
		t.Errorf("the push that was under way: %q, %v", a.text, a.err)
	}
	if err := <-s.ended; err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

const zeroOID = "0000000000000000000000000000000000000000"

// emptyPack is a pack without objects, as git sends one when the server has everything.
func emptyPack() string {
	head := "PACK\x00\x00\x00\x02\x00\x00\x00\x00"
	sum := sha1.Sum([]byte(head))
	return head + string(sum[:])
}

// TestShutdownCutsOff: a request that does not end in time is cut off, and the server ends.
func TestShutdownCutsOff(t *testing.T) {
	s := startSite(t, server.Options{DrainTimeout: 50 * time.Millisecond})
	s.repo("default", "demo", client.Private)
	body, done := s.hold("default/demo", "00")
	s.stop()
	if err := <-s.ended; err != nil {
		t.Errorf("the server ended with %v", err)
	}
	_ = body.Close() // net/http's client waits for it
	if a := <-done; a.err == nil {
		t.Error("a push without an end was acknowledged")
	}
}

// TestClientGoesAway: a push that ends in the middle leaves nothing behind.
func TestClientGoesAway(t *testing.T) {
	s := startSite(t, server.Options{})
	r := s.repo("default", "demo", client.Private)
	before := result(s.api(s.admin).Stats(t.Context(), string(r.ID)))(t)
	line := pkt(zeroOID + " 1111111111111111111111111111111111111111 refs/heads/x\x00report-status side-band-64k")
	body, done := s.hold("default/demo", line+"0000"+packHeader)
	_ = body.CloseWithError(errors.New("the client goes away"))
	if a := <-done; a.err == nil {
		t.Errorf("a push that broke off was answered %q", a.text)
	}
	for { // until the server has noticed
		if _, text := s.do("GET", "/metrics", "", nil); strings.Contains(text, `skep_http_in_flight{pool="transfers"} 0`) {
			break
		}
	}
	if after := result(s.api(s.admin).Stats(t.Context(), string(r.ID)))(t); after != before {
		t.Errorf("a broken-off push left %+v, before %+v", after, before)
	}
	if refs := result(s.api(s.admin).Refs(t.Context(), string(r.ID), "", "", 0))(t); len(refs.Items) != 1 {
		t.Errorf("a broken-off push left references %v", refs.Items)
	}
}

// TestExpectContinue: a client that asks before it sends is told to go on.
func TestExpectContinue(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "demo", client.Public)
	c := s.dial()
	fmt.Fprintf(c, "POST /default/demo.git/git-upload-pack HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: application/x-git-upload-pack-request\r\nContent-Length: 4\r\n\r\n")
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("answer to Expect = %q, %v", line, err)
	}
	if _, err := c.Write([]byte("0000")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("answer = %v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

// TestRequestID: a good one is taken over, another is replaced; the log has it, and no secret.
func TestRequestID(t *testing.T) {
	s := startSite(t, server.Options{})
	for in, kept := range map[string]bool{"abc-123.X_y": true, "": false, strings.Repeat("x", 65): false, "a b": false, "ü": false} {
		resp, _ := s.do("GET", "/api/v2/whoami?secret=hidden", s.admin, nil, "X-Request-Id", in)
		out := resp.Header.Get("X-Request-Id")
		if out == "" || (out == in) != kept {
			t.Errorf("X-Request-Id %q came back as %q", in, out)
		}
		if !strings.Contains(s.log.String(), "request_id="+out) {
			t.Errorf("the log does not have %q", out)
		}
	}
	for _, secret := range []string{"hidden", s.admin} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// TestMetrics: what operators watch is there, and no name of anybody's.
func TestMetrics(t *testing.T) {
	s := startSite(t, server.Options{})
	s.repo("default", "tellnobody", client.Public)
	s.do("GET", "/default/tellnobody.git/info/refs?service=git-upload-pack", "", nil)
	s.do("GET", "/default/tellnobody.git/info/refs", "", nil)
	resp, body := s.do("GET", "/metrics", "", nil)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("metrics = %d", resp.StatusCode)
	}
	for _, want := range []string{
		`skep_http_requests_total{route="git_info_refs",status="2xx"} 1`,
		`skep_http_requests_total{route="git_info_refs",status="4xx"} 1`,
		`skep_http_requests_total{route="api_write",status="2xx"} 1`,
		`skep_http_in_flight{pool="transfers"} 0`,
		"skep_cells_open 1", "skep_http_request_duration_seconds_bucket", "go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(body, "tellnobody") {
		t.Error("metrics name a repository")
	}
}

// TestPanics: a handler that panics becomes an answer that says nothing of why, or a broken-off one; the log has it all,
// and the server goes on.
func TestPanics(t *testing.T) {
	s := startSite(t, server.Options{})
	s.server.BreakAPI()
	resp, body := s.do("GET", "/api/v2/before", s.admin, nil)
	if resp.StatusCode != http.StatusInternalServerError || strings.Contains(body, "secret") {
		t.Errorf("a panic = %d %s", resp.StatusCode, body)
	}
	req := result(http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api/v2/after", nil))(t)
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		if cerr := resp.Body.Close(); err == nil {
			t.Errorf("an answer that broke off looks whole (%v)", cerr)
		}
	}
	if !strings.Contains(s.log.String(), "secret state") || !strings.Contains(s.log.String(), "handler panicked") {
		t.Error("the log lacks the panic")
	}
	if resp, _ := s.do("GET", "/healthz", "", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("healthz = %d afterwards", resp.StatusCode)
	}
}
