package server

import (
	"errors"
	"net/http"

	"github.com/skep-dev/skep/internal/trace"
)

// trace begins a request's span, if requests are traced and this one is.
func (s *Server) trace(c *call, r *http.Request) *http.Request {
	if s.opts.Tracer == nil {
		return r
	}
	ctx, span := s.opts.Tracer.Request(r.Context(), r.Header)
	c.span = span
	return r.WithContext(ctx)
}

var errServed = errors.New("the answer is 5xx or was broken off")

// endSpan says what the request turned out to be. The path is not among it: it names what may be private.
func (c *call) endSpan(panicked any) {
	if !c.span.Traced() {
		return
	}
	c.span.Rename(c.route.String())
	c.span.Text(trace.Route, c.route.String())
	c.span.Text(trace.RequestID, c.id)
	c.span.Number(trace.Status, int64(c.w.status))
	c.span.Number(trace.BytesIn, c.body.bytes)
	c.span.Number(trace.BytesOut, c.w.bytes)
	if c.used.Tenant != "" {
		c.span.Text(trace.Tenant, string(c.used.Tenant))
	}
	if c.used.Repo != "" {
		c.span.Text(trace.Repo, string(c.used.Repo))
	}
	var err error
	if panicked != nil || c.w.status >= http.StatusInternalServerError {
		err = errServed
	}
	c.span.End(err)
}
