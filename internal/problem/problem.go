// Package problem says what HTTP does of a failure: its status, and the document that explains it (RFC 9457).
//
//	problem.Write(w, problem.Status(err), err)
package problem

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skep-dev/skep/internal/client"
	"github.com/skep-dev/skep/internal/errkind"
)

// ContentType is that of a problem document.
const ContentType = "application/problem+json"

// Status translates a failure for HTTP.
func Status(err error) int {
	switch errkind.Of(err) {
	case errkind.Invalid:
		return http.StatusUnprocessableEntity
	case errkind.Unauthorized:
		return http.StatusUnauthorized
	case errkind.Forbidden:
		return http.StatusForbidden
	case errkind.NotFound:
		return http.StatusNotFound
	case errkind.Exists, errkind.Conflict:
		return http.StatusConflict
	case errkind.TooLarge:
		return http.StatusRequestEntityTooLarge
	case errkind.Unavailable:
		return http.StatusServiceUnavailable
	case errkind.RateLimited:
		return http.StatusTooManyRequests
	case errkind.QuotaExceeded:
		return http.StatusForbidden
	case errkind.Unsupported:
		return http.StatusNotImplemented
	case errkind.Internal:
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// Explain is what people see of a failure. What is wrong inside stays in the log, under the request's identifier.
func Explain(err error) string {
	const most = 1000 // of what may quote a request
	switch Status(err) {
	case http.StatusInternalServerError:
		return "internal error: the server's log has more, under this answer's X-Request-Id"
	case http.StatusServiceUnavailable:
		return "the server is too busy or shutting down: try again"
	}
	text := strings.TrimSuffix(err.Error(), ": "+errkind.Of(err).Error())
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// Of is a failure as RFC 9457 wants it.
func Of(status int, err error) *huma.ErrorModel {
	kind := errkind.Of(err)
	if status == http.StatusServiceUnavailable {
		kind = errkind.Unavailable
	}
	return &huma.ErrorModel{
		Type:   client.ProblemType(kind),
		Title:  http.StatusText(status),
		Status: status,
		Detail: Explain(err),
	}
}

// Write answers with a problem document.
func Write(w http.ResponseWriter, status int, err error) {
	h := w.Header()
	h["Content-Type"] = contentType
	h.Del("Content-Length")
	w.WriteHeader(status)
	_ = huma.DefaultJSONFormat.Marshal(w, Of(status, err)) // the client may be gone
}

var contentType = []string{ContentType}

// Plain finishes the problems that come from huma, before a handler was asked: they get a type like the others, and do
// not repeat what was sent, which may be long or secret.
func Plain(_ huma.Context, _ string, v any) (any, error) {
	if p, ok := v.(*huma.ErrorModel); ok && p.Type == "" {
		p.Type = client.ProblemType(client.KindOf(p.Status))
		for _, d := range p.Errors {
			d.Value = nil
		}
	}
	return v, nil
}
