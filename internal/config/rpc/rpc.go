// Package rpc is a document's API by gRPC, gRPC-Web and Connect: conflux.v1.ConfluxService.
//
//	path, handler := rpc.Handler(find)
//
// It says the same as package rest, in the messages of proto/conflux/v1/conflux.proto.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"connectrpc.com/connect"

	"github.com/skep-dev/skep/internal/config/rpc/confluxv1"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/problem"
)

// maxMessage is how large a message may be, also when it was compressed.
const maxMessage = 4 << 20

// Path is what the paths of all calls begin with.
const Path = "/" + confluxv1.ConfluxServiceName + "/"

// WatchPath is that of the call whose answer goes on until somebody ends it.
const WatchPath = confluxv1.ConfluxServiceWatchStateProcedure

// Find returns what a call is about, and who makes it.
type Find func(ctx context.Context) (*service.Caller, error)

// Handler returns the service, and the path that it is at.
func Handler(find Find) (string, http.Handler) {
	return confluxv1.NewConfluxServiceHandler(&server{find}, connect.WithReadMaxBytes(maxMessage))
}

type server struct{ find Find }

var _ confluxv1.ConfluxServiceHandler = (*server)(nil)

// SubmitOperation does one operation.
func (s *server) SubmitOperation(ctx context.Context, in *confluxv1.SubmitOperationRequest) (*confluxv1.SubmitOperationResponse, error) {
	results, err := s.submit(ctx, []*confluxv1.Operation{in.GetOperation()}, in.GetDryRun())
	if err != nil {
		return nil, Error(err)
	}
	return &confluxv1.SubmitOperationResponse{Result: results[0]}, nil
}

// SubmitBatch does several operations, all or none.
func (s *server) SubmitBatch(ctx context.Context, in *confluxv1.SubmitBatchRequest) (*confluxv1.SubmitBatchResponse, error) {
	results, err := s.submit(ctx, in.GetOperations(), in.GetDryRun())
	if err != nil {
		return nil, Error(err)
	}
	return &confluxv1.SubmitBatchResponse{Results: results}, nil
}

func (s *server) submit(ctx context.Context, list []*confluxv1.Operation, dryRun bool) ([]*confluxv1.Result, error) {
	c, err := s.find(ctx)
	if err != nil {
		return nil, err
	}
	ops := make([]wire.Operation, len(list))
	for i, op := range list {
		if op == nil {
			return nil, fmt.Errorf("operation %d: there is none: %w", i+1, errkind.Invalid)
		}
		if ops[i], err = operation(op); err != nil {
			return nil, fmt.Errorf("operation %d: %w", i+1, err)
		}
	}
	done, err := c.Service.Submit(ctx, c.Actor, ops, service.Submission{DryRun: dryRun})
	if err != nil {
		return nil, err //nolint:wrapcheck // it says all
	}
	results := make([]*confluxv1.Result, len(done))
	for i := range done {
		results[i] = result(&done[i])
	}
	return results, nil
}

// GetState reads the entities of an environment.
func (s *server) GetState(ctx context.Context, in *confluxv1.GetStateRequest) (*confluxv1.GetStateResponse, error) {
	c, err := s.find(ctx)
	if err != nil {
		return nil, Error(err)
	}
	state, err := c.Service.State(ctx, c.Actor, service.Query{Env: in.GetEnvironment(), Type: in.GetType(), After: in.GetAfter(), Limit: int(in.GetLimit())})
	if err != nil {
		return nil, Error(err)
	}
	out := &confluxv1.GetStateResponse{
		Document: state.Document, Environment: state.Environment, Version: state.Version, Cursor: state.Seq, Next: state.Next,
		Entities: make([]*confluxv1.Entity, len(state.Entities)),
	}
	for i := range state.Entities {
		out.Entities[i] = entity(&state.Entities[i])
	}
	return out, nil
}

// GetEntity reads one entity.
func (s *server) GetEntity(ctx context.Context, in *confluxv1.GetEntityRequest) (*confluxv1.GetEntityResponse, error) {
	c, err := s.find(ctx)
	if err != nil {
		return nil, Error(err)
	}
	e, err := c.Service.Entity(ctx, c.Actor, in.GetEntityId(), in.GetEnvironment())
	if err != nil {
		return nil, Error(err)
	}
	return &confluxv1.GetEntityResponse{Entity: entity(e)}, nil
}

// WatchState follows what changes.
func (s *server) WatchState(ctx context.Context, in *confluxv1.WatchStateRequest, out *connect.ServerStream[confluxv1.WatchStateResponse]) error {
	c, err := s.find(ctx)
	if err != nil {
		return Error(err)
	}
	q := service.WatchQuery{
		Initial: in.GetIncludeInitialState() && in.Cursor == nil, Entity: in.GetEntity(), Field: in.GetField(), Env: in.GetEnvironment(),
		Valid: in.GetValidOnly(), Cursor: in.GetCursor(),
	}
	if in.Cursor == nil {
		q.Cursor = c.Service.Document().Head().Seq
	}
	if err := c.Service.CheckCursor(q.Cursor); err != nil {
		return Error(err)
	}
	if q.Env != "" {
		if _, q.Env, err = c.Service.Version(q.Env); err != nil {
			return Error(err)
		}
	}
	return Error(c.Follow(ctx, q,
		func(e *wire.Event) error { return out.Send(event(e)) },
		func(cursor uint64) error { return out.Send(&confluxv1.WatchStateResponse{Cursor: cursor}) },
	))
}

// Error is a failure as gRPC says it.
func Error(err error) error {
	if err == nil {
		return nil
	}
	if same, ok := errors.AsType[*connect.Error](err); ok {
		return same
	}
	return connect.NewError(codeOf(err), errors.New(problem.Explain(err)))
}

func codeOf(err error) connect.Code {
	switch errkind.Of(err) {
	case errkind.Invalid:
		return connect.CodeInvalidArgument
	case errkind.Unauthorized:
		return connect.CodeUnauthenticated
	case errkind.Forbidden:
		return connect.CodePermissionDenied
	case errkind.NotFound:
		return connect.CodeNotFound
	case errkind.Exists:
		return connect.CodeAlreadyExists
	case errkind.Conflict:
		return connect.CodeAborted
	case errkind.TooLarge, errkind.RateLimited, errkind.QuotaExceeded:
		return connect.CodeResourceExhausted
	case errkind.Unavailable:
		return connect.CodeUnavailable
	case errkind.Unsupported:
		return connect.CodeUnimplemented
	case errkind.Internal:
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return connect.CodeUnavailable // the server stops, or the client has gone and reads no code
	}
	return connect.CodeInternal
}

// Refuse answers a request that the service is not asked about, if it is one of gRPC or its kin.
func Refuse(w http.ResponseWriter, r *http.Request, err error) bool {
	if !writer.IsSupported(r) {
		return false
	}
	_ = writer.Write(w, r, Error(err)) // the client may be gone
	return true
}

var writer = connect.NewErrorWriter()
