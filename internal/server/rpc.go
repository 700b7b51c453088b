package server

import (
	"context"
	"net/http"
	"strings"

	"github.com/skep-dev/skep/internal/config/rpc"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/errkind"
)

// DocumentHeader names in a gRPC call's metadata the document that it is about, as TENANT/NAME: the calls themselves name none.
const DocumentHeader = "Skep-Document"

var errNoDocumentNamed = denial{errkind.Invalid, "which document: say skep-document: TENANT/NAME in the metadata"}

// documentKey is the key of the document that a gRPC call is about, as its caller has it.
type documentKey struct{}

// newRPC makes the handler of gRPC.
func newRPC() http.Handler {
	_, h := rpc.Handler(func(ctx context.Context) (*service.Caller, error) {
		c, ok := ctx.Value(documentKey{}).(*service.Caller)
		if !ok {
			panic("bug: a call without a document")
		}
		return c, nil
	})
	return h
}

// serveRPC authenticates a gRPC call, finds its document, and hands it on.
func (s *Server) serveRPC(c *call, r *http.Request) {
	c.route = routeAPIRead
	limit := s.calls
	switch {
	case r.URL.Path == rpc.WatchPath:
		limit = s.watchers
	case strings.HasPrefix(r.URL.Path, rpc.Path+"Submit"):
		c.route = routeAPIWrite
	}
	if s.admit(c, r) {
		return
	}
	c.op = operationOf(c.route, "")
	c.body.ahead()
	err := s.enter(c, r, limit, func(ctx context.Context) error {
		if c.body.broken {
			return errBroken
		}
		ctx, cancel := s.bound(context.WithValue(ctx, callKey{}, c), limit)
		defer cancel()
		tenant, name, ok := cutLast(r.Header.Get(DocumentHeader))
		if !ok {
			return errNoDocumentNamed
		}
		d, res, err := s.document(ctx, c.principal, "", tenant, name)
		if err != nil {
			return err
		}
		doc, err := s.openDocument(ctx, r, d, res)
		if err != nil {
			return err
		}
		defer doc.Release()
		s.rpc.ServeHTTP(&c.w, r.WithContext(context.WithValue(ctx, documentKey{}, doc.Caller)))
		return nil
	})
	if err == nil {
		return
	}
	s.logFailure(r.Context(), c, err)
	if c.w.status != 0 {
		return // the answer has begun
	}
	s.refusalHeaders(c, err)
	if !rpc.Refuse(&c.w, r, err) {
		s.refuse(c, r, err)
	}
}
