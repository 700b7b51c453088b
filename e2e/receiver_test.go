package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/skep-dev/skep/internal/webhook"
)

type receiverKey struct{}

// receiver is a program that webhooks are sent to.
type receiver struct {
	server *httptest.Server

	mu      sync.Mutex
	answers []int      // guarded by mu: to the next requests; then 204
	got     []received // guarded by mu
	changed chan struct{}
}

// received is a request and its answer.
type received struct {
	path   string
	header http.Header
	body   []byte
	status int
}

// ServeHTTP takes a request.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // it broke off
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	status := http.StatusNoContent
	if len(r.answers) > 0 {
		status, r.answers = r.answers[0], r.answers[1:]
	}
	r.got = append(r.got, received{req.URL.Path, req.Header, body, status})
	w.Header().Set("Location", "/elsewhere")
	w.WriteHeader(status)
	close(r.changed)
	r.changed = make(chan struct{})
}

// await waits until there were so many requests.
func (r *receiver) await(n int) error {
	late := time.After(time.Minute)
	for {
		r.mu.Lock()
		had, changed := len(r.got), r.changed
		r.mu.Unlock()
		if had >= n {
			return nil
		}
		select {
		case <-changed:
		case <-late:
			return fmt.Errorf("%d requests in a minute, want %d: %w", had, n, os.ErrDeadlineExceeded)
		}
	}
}

// verify checks a request as a receiver does that knows Standard Webhooks, or the signature of the body alone.
func (m *received) verify(secret string) error {
	if err := webhook.Verify(secret, m.header, m.body, time.Now()); err != nil {
		return err
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(m.body)
	want := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	names := []string{"X-Conflux-Signature", "X-Signature"}
	if m.header.Get("X-GitHub-Event") != "" {
		names = append(names, "X-Hub-Signature-256")
	}
	for _, name := range names {
		if got := m.header.Get(name); got != want {
			return fmt.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if webhook.Verify(secret+"x", m.header, m.body, time.Now()) == nil {
		return fmt.Errorf("a signature is right by another secret")
	}
	return nil
}

// receiverCommand: receiver start | answer STATUS… | wait N | count N | verify N SECRET | save N FILE. After start, $RECEIVER is its URL. Requests
// are numbered from 1; save writes the path, the headers and the body of one.
func receiverCommand(ts *testscript.TestScript, neg bool, args []string) {
	r := ts.Value(receiverKey{}).(*receiver)
	number := func(i int) int {
		n, err := strconv.Atoi(args[i])
		ts.Check(err)
		return n
	}
	nth := func() received {
		r.mu.Lock()
		defer r.mu.Unlock()
		if n := number(1); n < 1 || n > len(r.got) {
			ts.Fatalf("there were %d requests", len(r.got))
		}
		return r.got[number(1)-1]
	}
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: receiver start | answer STATUS... | wait N | count N | verify N SECRET | save N FILE")
	case args[0] == "start":
		r.changed = make(chan struct{})
		r.server = httptest.NewServer(r)
		ts.Setenv("RECEIVER", r.server.URL)
	case args[0] == "answer":
		r.mu.Lock()
		defer r.mu.Unlock()
		for i := range args[1:] {
			r.answers = append(r.answers, number(i+1))
		}
	case args[0] == "wait" && len(args) == 2:
		ts.Check(r.await(number(1)))
	case args[0] == "count" && len(args) == 2:
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.got) != number(1) {
			ts.Fatalf("there were %d requests", len(r.got))
		}
	case args[0] == "verify" && len(args) == 3:
		m := nth()
		ts.Check(m.verify(args[2]))
	case args[0] == "save" && len(args) == 3:
		m := nth()
		f, err := os.Create(ts.MkAbs(args[2]))
		ts.Check(err)
		fmt.Fprintf(f, "%s\n", m.path)
		ts.Check(m.header.Write(f))
		_, err = f.Write(m.body)
		ts.Check(err)
		ts.Check(f.Close())
	default:
		ts.Fatalf("receiver %s: unknown", args[0])
	}
}

func (r *receiver) stop() {
	if r.server != nil {
		r.server.Close()
	}
}
