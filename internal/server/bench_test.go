package server_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// nowhere is an answer that nobody reads.
type nowhere struct {
	h      http.Header
	status int // as set; 0 is 200
}

func (n *nowhere) Header() http.Header         { return n.h }
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n *nowhere) WriteHeader(status int)      { n.status = status }

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
			s.server.ServeHTTP(&nowhere{h: http.Header{}}, r)
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
				s.server.ServeHTTP(&nowhere{h: http.Header{}}, r)
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

// BenchmarkAuthorisation is what finding out whether somebody may fetch takes of a small fetch, of one commit with one file: all but
// net/http and the network. The same three requests go through the server with policy's decisions and without, in turn, so that
// whatever else the machine does hits both. What finding out who asks takes is timed by itself. One caller is a member two tenants up,
// the other has its right from the last role of a policy of 20 there.
func BenchmarkAuthorisation(b *testing.B) {
	many := map[string]limit.Quota{"git": {Events: 1 << 29, Per: time.Second}, "tenant": {Events: 1 << 29, Per: time.Second}}
	s := startSite(b, server.Options{Log: slog.New(slog.DiscardHandler), Rates: many})
	api := s.api(s.admin)
	top := result(api.CreateTenant(b.Context(), "acme"))(b)
	result(api.CreateTenant(b.Context(), "acme/web"))(b)
	result(api.CreateTenant(b.Context(), "acme/web/site"))(b)
	demo := s.repo("acme/web/site", "demo", client.Private)
	tip := result(api.Ref(b.Context(), string(demo.ID), "heads/main"))(b).SHA.String()
	member, agent := s.member("rita", top.ID, policy.Reader), s.member("agent-7", top.ID, policy.Guest)
	rules := "[policy]\nversion = 1\n"
	for i := range 20 {
		rules += fmt.Sprintf("[role.r%d]\npermissions = [{ actions = [\"read\"], resource = \"repo/acme/*/x%d\" }]\n", i, i)
	}
	rules += "[role.last]\npermissions = [{ actions = [\"read\"], resource = \"repo/acme/web/*\" }]\n"
	for i := range 20 {
		rules += fmt.Sprintf("[[assignment]]\nactor_pattern = \"agent-*\"\nroles = [\"r%d\"]\n", i)
	}
	rules += "[[assignment]]\nactor_pattern = \"agent-*\"\nroles = [\"last\"]\n"
	result(api.SetPolicy(b.Context(), "acme", client.SetPolicy{Document: rules}))(b)

	b.Run("member", func(b *testing.B) { compareFetch(b, s, tip, member) })
	b.Run("last of 20 roles", func(b *testing.B) { compareFetch(b, s, tip, agent) })
}

func compareFetch(b *testing.B, s *site, tip, token string) {
	b.Helper()
	defer s.server.Judge(true)
	request := func(method, path, body string) *http.Request {
		r := httptest.NewRequest(method, "/acme/web/site/demo.git"+path, nil)
		r.Header.Set("Git-Protocol", "version=2")
		r.Header.Set("Content-Type", "application/x-git-upload-pack-request")
		r.SetBasicAuth("any", token)
		if body != "" {
			r.Body = io.NopCloser(strings.NewReader(body))
		}
		return r
	}
	fetch := func(judged bool) time.Duration {
		s.server.Judge(judged)
		requests := []*http.Request{
			request(http.MethodGet, "/info/refs?service=git-upload-pack", ""),
			request(http.MethodPost, "/git-upload-pack", pkt("command=ls-refs\n")+"0001"+pkt("peel\n")+pkt("symrefs\n")+"0000"),
			request(http.MethodPost, "/git-upload-pack", pkt("command=fetch\n")+"0001"+pkt("ofs-delta\n")+pkt("want "+tip+"\n")+pkt("done\n")+"0000"),
		}
		begin := time.Now()
		for _, r := range requests {
			to := &nowhere{h: http.Header{}}
			s.server.ServeHTTP(to, r)
			if to.status > http.StatusOK {
				b.Fatalf("%s: %d", r.URL, to.status)
			}
		}
		return time.Since(begin)
	}
	ask := request(http.MethodGet, "/info/refs?service=git-upload-pack", "")
	var with, policyCosts, knowing []time.Duration
	for first := true; b.Loop(); first = !first {
		took := map[bool]time.Duration{first: fetch(first)}
		took[!first] = fetch(!first)
		with, policyCosts = append(with, took[true]), append(policyCosts, took[true]-took[false])
		begin := time.Now()
		for range 3 {
			result(s.server.Authenticate(ask))(b)
		}
		knowing = append(knowing, time.Since(begin))
	}
	// The median, because in one of a hundred fetches the garbage collector or another process has the core.
	median := func(list []time.Duration) float64 {
		slices.Sort(list)
		return float64(list[len(list)/2].Nanoseconds())
	}
	b.ReportMetric(median(with), "ns/fetch")
	b.ReportMetric(100*median(knowing)/median(with), "authentication-%")
	b.ReportMetric(100*median(policyCosts)/median(with), "authorisation-%")
}
