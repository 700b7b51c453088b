package server_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/server"
)

// nowhere is an answer that nobody reads.
type nowhere struct{ h http.Header }

func (n nowhere) Header() http.Header         { return n.h }
func (n nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n nowhere) WriteHeader(int)             {}

// mutexWait is how many seconds all goroutines of the process have waited for locks.
func mutexWait() float64 {
	s := []metrics.Sample{{Name: "/sync/mutex/wait/total:seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64()
}

// BenchmarkHotPath is what the server itself adds to the two requests that every git command begins with: all but
// net/http and the network.
func BenchmarkHotPath(b *testing.B) {
	// The limits count, and let everything through.
	s := startSite(b, server.Options{
		Log:   slog.New(slog.NewJSONHandler(struct{ io.Writer }{io.Discard}, nil)),
		Rates: map[string]limit.Quota{"git": {Events: 1 << 29, Per: time.Second}, "tenant": {Events: 1 << 29, Per: time.Second}},
	})
	s.repo("default", "demo", client.Private)
	lsRefs := pkt("command=ls-refs\n") + "0001" + pkt("peel\n") + pkt("symrefs\n") + "0000"
	serve := func(b *testing.B, r *http.Request, body string) {
		b.Helper()
		r.Header.Set("Git-Protocol", "version=2")
		r.SetBasicAuth("any", s.admin)
		b.ReportAllocs()
		for b.Loop() {
			if body != "" {
				r.Body = io.NopCloser(strings.NewReader(body))
			}
			s.server.ServeHTTP(nowhere{http.Header{}}, r)
		}
	}
	b.Run("info-refs", func(b *testing.B) {
		serve(b, httptest.NewRequest(http.MethodGet, "/default/demo.git/info/refs?service=git-upload-pack", nil), "")
	})
	b.Run("info-refs of one principal on all cores", func(b *testing.B) {
		waited := mutexWait()
		b.RunParallel(func(pb *testing.PB) {
			r := httptest.NewRequest(http.MethodGet, "/default/demo.git/info/refs?service=git-upload-pack", nil)
			r.SetBasicAuth("any", s.admin)
			for pb.Next() {
				s.server.ServeHTTP(nowhere{http.Header{}}, r)
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		b.ReportMetric((mutexWait()-waited)/b.Elapsed().Seconds()*100, "lockwait-%")
	})
	b.Run("ls-refs", func(b *testing.B) {
		r := httptest.NewRequest(http.MethodPost, "/default/demo.git/git-upload-pack", nil)
		r.Header.Set("Content-Type", "application/x-git-upload-pack-request")
		serve(b, r, lsRefs)
	})
}
