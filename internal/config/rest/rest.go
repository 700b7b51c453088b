// Package rest is a document's HTTP API: its routes, ETags, and streams of changes.
//
//	rest.Register(api, rest.Mount{Prefix: "/v1", Find: find})
//
// It is declared on two APIs: that of skep config daemon, where there is one document, and the server's, where there are many. Whose
// document a request is about, and who asks, the Mount finds out; whether they may, package service knows. Paths and names are those of
// Conflux's API where it has them.
package rest

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/problem"
)

// maxBody is how large a request's body may be: a schema, or a batch of a few thousand operations.
const maxBody = 4 << 20

// Mount is a place where the API is.
type Mount struct {
	Prefix string // "/v1"
	// Params are those of the prefix, where it has some: "/api/v2/tenants/{tenant}/config/{document}". Find reads them.
	Params []*huma.Param
	// Operations is what the operations' IDs begin with; "": config-. Those of an API have to differ.
	Operations string
	// Find returns who makes a request, and what it is about. It is called once for each, before its body is read.
	Find func(ctx huma.Context) (*Caller, error)
	// Declare adds to an operation what all have in this place; nil: nothing.
	Declare func(o *huma.Operation)
	// Failed is told of failures, for the log.
	Failed func(ctx context.Context, err error)
}

// Register declares the API's operations.
func Register(api huma.API, m Mount) {
	a := &routes{API: api, mount: m}
	a.operations()
	a.state()
	a.environments()
	a.since()
	a.history()
	a.milestones()
	a.webhooks()
	a.watch()
}

// RegisterEntities declares the paths by which Conflux's readme has the state, without a prefix.
func RegisterEntities(api huma.API, m Mount) {
	m.Prefix = ""
	a := &routes{API: api, mount: m}
	a.entities()
}

// Name names types in an OpenAPI document. Those of configuration have a prefix: other parts of an API have a Status too.
func Name(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if strings.Contains(t.PkgPath(), "/internal/config/") {
		return "Config" + name
	}
	return name
}

type routes struct {
	huma.API
	mount Mount
}

// op is the start of an operation's declaration.
func (a *routes) op(method, path, id, summary string) huma.Operation {
	o := huma.Operation{
		OperationID: cmp.Or(a.mount.Operations, "config-") + id, Method: method, Path: a.mount.Prefix + path, Tags: []string{"Configuration"}, Summary: summary,
		Parameters:   slices.Clone(a.mount.Params),
		MaxBodyBytes: maxBody,
		// Values have the types that a schema says: what OpenAPI could say of them is nothing, and to check it would cost more than to use it.
		SkipValidateBody: true,
		Errors:           []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound},
	}
	if method != http.MethodGet {
		o.Errors = append(o.Errors, http.StatusConflict, http.StatusPreconditionFailed)
	}
	if a.mount.Declare != nil {
		a.mount.Declare(&o)
	}
	return o
}

// body is an answer with nothing else.
type body[T any] struct{ Body T }

type callKey struct{}

// handle declares one operation.
func handle[I, O any](a *routes, o huma.Operation, h func(ctx context.Context, c *Caller, in *I) (*O, error)) {
	o.Middlewares = append(o.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
		c, err := a.mount.Find(ctx)
		if err != nil {
			failed := a.failure(ctx.Context(), err)
			if h, ok := errors.AsType[huma.HeadersError](failed); ok {
				for k, vs := range h.GetHeaders() {
					for _, v := range vs {
						ctx.SetHeader(k, v)
					}
				}
			}
			refuse(ctx, failed)
			return
		}
		if c.Release != nil {
			defer c.Release()
		}
		next(huma.WithValue(ctx, callKey{}, c))
	})
	huma.Register(a.API, o, func(ctx context.Context, in *I) (*O, error) {
		c, ok := ctx.Value(callKey{}).(*Caller)
		if !ok {
			panic("bug: an operation without its call")
		}
		out, err := h(ctx, c, in)
		if err != nil {
			return nil, a.failure(ctx, err)
		}
		return out, nil
	})
}

// refuse answers a request whose handler is not asked.
func refuse(ctx huma.Context, err error) {
	status, p := http.StatusInternalServerError, any(problem.Of(http.StatusInternalServerError, err))
	if s, ok := errors.AsType[huma.StatusError](err); ok {
		status, p = s.GetStatus(), s
	}
	ctx.SetHeader("Content-Type", problem.ContentType)
	ctx.SetStatus(status)
	_ = huma.DefaultJSONFormat.Marshal(ctx.BodyWriter(), p) // the client may be gone
}

// Failure is a failure that an answer's headers say more of.
type Failure struct {
	Err     error
	Status  int // 0: that of Err
	Headers http.Header
}

func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the failure itself.
func (f *Failure) Unwrap() error { return f.Err }

func (a *routes) failure(ctx context.Context, err error) error {
	a.mount.Failed(ctx, err)
	if same, ok := errors.AsType[huma.StatusError](err); ok {
		return same
	}
	status := problem.Status(err)
	if f, ok := errors.AsType[*Failure](err); ok {
		if f.Status != 0 {
			status = f.Status
		}
		if f.Headers != nil {
			return huma.ErrorWithHeaders(problem.Of(status, err), f.Headers)
		}
	}
	return problem.Of(status, err)
}

// notJSON also keeps out what a page of another site makes a browser send without asking first.
func notJSON(contentType string) error {
	return &Failure{Status: http.StatusUnsupportedMediaType, Err: problemError{errkind.Invalid, "the body is JSON: say Content-Type: application/json" + was(contentType)}}
}

func was(contentType string) string {
	if contentType == "" {
		return ""
	}
	return ", not " + contentType[:min(len(contentType), 80)]
}

// problemError is a failure in words for people.
type problemError struct {
	kind errkind.Kind
	text string
}

func (e problemError) Error() string { return e.text }

// Unwrap returns the kind.
func (e problemError) Unwrap() error { return e.kind }
