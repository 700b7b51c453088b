package e2e

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// gate stands between a fetching client and a server, and holds the fetch up once, so that a test can do something in
// the middle of it. It knows protocol version 2, where the second request to git-upload-pack is the fetch.
type gate struct {
	url     string
	reached chan struct{} // closed when the fetch is held up
	open    func()        // lets it go on
	fetch   []byte        // what the client asks for; there once reached is closed
}

// newGate makes a gate in front of a server. The fetch is held up when so many bytes of its answer have passed, or with 0
// before the server hears of it.
func newGate(t *testing.T, server string, after int64) *gate {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	held, opened := make(chan struct{}), make(chan struct{})
	g := &gate{reached: held, open: sync.OnceFunc(func() { close(opened) })}
	var mu sync.Mutex
	asked := 0
	isFetch := func(r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasSuffix(r.URL.Path, "/git-upload-pack") {
			asked++
		}
		return asked == 2
	}
	pass := func() {
		close(held)
		<-opened
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isFetch(r) {
			proxy.ServeHTTP(w, r)
			return
		}
		g.fetch, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(g.fetch))
		if after == 0 {
			pass()
		} else {
			w = &gatedWriter{ResponseWriter: w, left: after, pass: pass}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		g.open()
		front.Close()
	})
	g.url = front.URL
	return g
}

// gatedWriter calls pass once, when so many bytes are written.
type gatedWriter struct {
	http.ResponseWriter
	left int64
	pass func()
}

func (w *gatedWriter) Write(p []byte) (int, error) {
	if w.left > 0 {
		if w.left -= int64(len(p)); w.left <= 0 {
			w.pass()
		}
	}
	return w.ResponseWriter.Write(p)
}

func (w *gatedWriter) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}
