package trace_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/trace"
)

func TestBadSettingsAreRefused(t *testing.T) {
	for _, o := range []trace.Options{
		{Endpoint: "127.0.0.1:4318"},
		{Endpoint: "ftp://x"},
		{Endpoint: "http://"},
		{Endpoint: "http://127.0.0.1:1", Sample: 1.5},
		{Endpoint: "http://127.0.0.1:1", Sample: -1},
	} {
		if _, err := trace.Open(t.Context(), o); !errors.Is(err, errkind.Invalid) {
			t.Errorf("Open(%+v): %v, want %v", o, err, errkind.Invalid)
		}
	}
}

// TestOffIsFree: without a tracer, and in a request that is not among the sampled ones, a part of a request allocates nothing.
func TestOffIsFree(t *testing.T) {
	sampler, err := trace.Open(t.Context(), trace.Options{Endpoint: "http://127.0.0.1:1", Sample: 0})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sampler.Close(t.Context()) }()
	unsampled, span := sampler.Request(t.Context(), http.Header{})
	if span.Traced() {
		t.Error("a request is traced of none that shall be")
	}
	var none *trace.Tracer
	off, _ := none.Request(t.Context(), http.Header{})
	for name, ctx := range map[string]context.Context{"off": off, "not sampled": unsampled} {
		if n := testing.AllocsPerRun(100, func() { part(ctx) }); n != 0 {
			t.Errorf("%s: a part allocates %v times", name, n)
		}
	}
}

func part(ctx context.Context) {
	_, span := trace.Start(ctx, trace.CellCommit)
	span.Number(trace.BytesIn, 1)
	span.Text(trace.Repo, "repo_1")
	span.End(nil)
}

func BenchmarkOff(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		part(b.Context())
	}
}
