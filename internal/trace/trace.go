// Package trace says where a request's time goes; it is the only user of OpenTelemetry.
//
//	t, err := trace.Open(ctx, trace.Options{Endpoint: "http://127.0.0.1:4318"})
//	ctx, span := t.Request(ctx, header)        // once for each request
//	ctx, span := trace.Start(ctx, trace.CellCommit) // for a part of it, anywhere below
//	defer span.End(err)
//
// What callers may rely on:
//   - Below a request that is not traced, Start costs a look into the context and allocates nothing. Without a Tracer none is.
//   - Nothing waits for the collector. What it does not take is dropped: at most maxQueue spans are in memory.
//   - The names of spans and attributes are constants here. Callers give them identifiers and numbers as values, and no content.
package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"

	"github.com/skep-dev/skep/internal/errkind"
)

// Name is what a span is called. The set is closed.
type Name string

// The parts of a request.
const (
	CellOpen    Name = "cell.open"    // until a repository is open
	CellServe   Name = "cell.serve"   // an answer to a fetch
	CellReceive Name = "cell.receive" // a push
	CellTakeIn  Name = "cell.take_in" // its pack, until it is checked
	CellCommit  Name = "cell.commit"  // its references, until they are on disk
	BucketPut   Name = "bucket.put"   // files, until they are on disk
)

// Key is what an attribute is called.
type Key string

// The attributes. Those of HTTP are as in https://opentelemetry.io/docs/specs/semconv/http/http-spans/.
const (
	RequestID Key = "skep.request_id"
	Tenant    Key = "skep.tenant"
	Repo      Key = "skep.repo"
	Route     Key = "http.route" // the class of requests, as in the metrics
	Method    Key = "http.request.method"
	Status    Key = "http.response.status_code"
	BytesIn   Key = "http.request.body.size"
	BytesOut  Key = "http.response.body.size"
	Files     Key = "skep.files"
)

const (
	scope = "github.com/skep-dev/skep"
	// maxQueue bounds the spans that wait to be sent; each takes about a kilobyte.
	maxQueue = 4096
	// maxBatch is how many go in one request to the collector.
	maxBatch = 512
	// sendEvery is how long a span waits for others.
	sendEvery = 2 * time.Second
	// sendTimeout bounds one request to the collector, and the last one.
	sendTimeout = 5 * time.Second
)

// Options are a Tracer's settings.
type Options struct {
	Endpoint string  // of a collector that speaks OTLP over HTTP: http://127.0.0.1:4318, to which /v1/traces is added
	Sample   float64 // the share of requests that is traced, 0 to 1
	Version  string
	Log      *slog.Logger
}

// Tracer sends spans to a collector.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   api.Tracer
	context  propagation.TraceContext
}

// Open makes a tracer. It does not connect: a collector that is not there is logged about, when spans are dropped.
func Open(ctx context.Context, opts Options) (*Tracer, error) {
	u, err := url.Parse(opts.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("trace endpoint is not an http or https URL: %w", errkind.Invalid) // it may have a password in it
	}
	if opts.Sample < 0 || opts.Sample > 1 {
		return nil, fmt.Errorf("share of traced requests %v is not between 0 and 1: %w", opts.Sample, errkind.Invalid)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithTimeout(sendTimeout))
	if err != nil {
		return nil, fmt.Errorf("open trace exporter: %w", err)
	}
	if opts.Log != nil {
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { opts.Log.Warn("traces dropped", "error", err) }))
	}
	p := sdk.NewTracerProvider(
		sdk.WithBatcher(exporter, sdk.WithMaxQueueSize(maxQueue), sdk.WithMaxExportBatchSize(maxBatch),
			sdk.WithBatchTimeout(sendEvery), sdk.WithExportTimeout(sendTimeout)),
		// Not what the client's traceparent says: whoever may call could have all traced.
		sdk.WithSampler(sdk.TraceIDRatioBased(opts.Sample)),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "skep"), attribute.String("service.version", opts.Version))),
	)
	return &Tracer{provider: p, tracer: p.Tracer(scope)}, nil
}

// Close sends what is left. It may be called of no Tracer.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send traces: %w", err)
	}
	return nil
}

// Request begins the span of a request. It belongs to the caller's trace if the headers name one
// (https://www.w3.org/TR/trace-context/).
func (t *Tracer) Request(ctx context.Context, h http.Header) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	ctx = t.context.Extract(ctx, propagation.HeaderCarrier(h))
	ctx, s := t.tracer.Start(ctx, "request", api.WithSpanKind(api.SpanKindServer))
	return ctx, spanOf(s)
}

// Start begins a part of what is traced in ctx, if anything is.
func Start(ctx context.Context, n Name) (context.Context, Span) {
	parent := api.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	ctx, s := parent.TracerProvider().Tracer(scope).Start(ctx, string(n))
	return ctx, spanOf(s)
}

// Span is a part of a request. The zero Span is of one that is not traced.
type Span struct{ s api.Span }

func spanOf(s api.Span) Span {
	if !s.IsRecording() {
		return Span{}
	}
	return Span{s}
}

// Traced reports whether what is set counts for anything.
func (s Span) Traced() bool { return s.s != nil }

// Rename changes the name, for when it is known what a request is.
func (s Span) Rename(name string) {
	if s.s != nil {
		s.s.SetName(name)
	}
}

// Text sets an attribute: an identifier, never a secret and nothing of what a repository has in it.
func (s Span) Text(k Key, v string) {
	if s.s != nil {
		s.s.SetAttributes(attribute.String(string(k), v))
	}
}

// Number sets an attribute.
func (s Span) Number(k Key, v int64) {
	if s.s != nil {
		s.s.SetAttributes(attribute.Int64(string(k), v))
	}
}

// End ends a part. Of an error it says the kind: its text may have in it what a client sent.
func (s Span) End(err error) {
	if s.s == nil {
		return
	}
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled):
		s.s.SetStatus(codes.Error, "canceled")
	default:
		s.s.SetStatus(codes.Error, errkind.Of(err).Error())
	}
	s.s.End()
}
