package server_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/skep-dev/skep/internal/config/rpc/confluxv1"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// TestDocumentsByGRPC: gRPC's own client reads, writes and watches a document of a tenant, on the port of everything else.
func TestDocumentsByGRPC(t *testing.T) {
	s := startSite(t, server.Options{})
	s.shop(nil)
	tenant := s.defaultTenant()
	writer, reader := s.member("wim", tenant.ID, policy.Writer), s.member("rita", tenant.ID, policy.Reader)
	_, stranger := s.person("sam")
	conn := result(grpc.NewClient(s.host, grpc.WithTransportCredentials(insecure.NewCredentials())))(t)
	t.Cleanup(func() { _ = conn.Close() })
	as := func(token, document string) context.Context {
		md := metadata.MD{}
		if token != "" {
			md.Set("authorization", "Bearer "+token)
		}
		if document != "" {
			md.Set("skep-document", document)
		}
		return metadata.NewOutgoingContext(t.Context(), md)
	}
	get := func(token, document string) (*confluxv1.GetEntityResponse, error) {
		out := &confluxv1.GetEntityResponse{}
		return out, conn.Invoke(as(token, document), confluxv1.ConfluxServiceGetEntityProcedure, &confluxv1.GetEntityRequest{EntityId: "service.api"}, out)
	}
	set := func(token, image string) error {
		op := &confluxv1.Operation{Type: "set_field", EntityId: "service.api", Field: "image", Value: &confluxv1.Value{Kind: &confluxv1.Value_String_{String_: image}}}
		return conn.Invoke(as(token, "default/shop"), confluxv1.ConfluxServiceSubmitOperationProcedure,
			&confluxv1.SubmitOperationRequest{Operation: op}, &confluxv1.SubmitOperationResponse{})
	}
	if e, err := get(reader, "default/shop"); err != nil || e.GetEntity().GetFields()["image"].GetString_() != "api:1" {
		t.Errorf("read: %v, %v", e, err)
	}
	for _, tt := range []struct {
		what, token, document string
		want                  codes.Code
	}{
		{"nobody", "", "default/shop", codes.Unauthenticated},
		{"a wrong token", "skep_no", "default/shop", codes.Unauthenticated},
		{"a stranger", stranger, "default/shop", codes.NotFound},
		{"a stranger, of what is not there", stranger, "default/none", codes.NotFound},
		{"what is not there", reader, "default/none", codes.NotFound},
		{"no document", reader, "", codes.InvalidArgument},
		{"half a name", reader, "shop", codes.InvalidArgument},
	} {
		if _, err := get(tt.token, tt.document); status.Code(err) != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, err, tt.want)
		}
	}
	if err := set(reader, "api:2"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a reader writes: %v", err)
	}

	stream := result(conn.NewStream(as(reader, "default/shop"), &grpc.StreamDesc{ServerStreams: true}, confluxv1.ConfluxServiceWatchStateProcedure))(t)
	if err := errors.Join(stream.SendMsg(&confluxv1.WatchStateRequest{}), stream.CloseSend()); err != nil {
		t.Fatal(err)
	}
	first := &confluxv1.WatchStateResponse{}
	if err := stream.RecvMsg(first); err != nil {
		t.Fatalf("the first heartbeat: %v", err)
	}
	if err := set(writer, "api:2"); err != nil {
		t.Fatal(err)
	}
	for {
		e := &confluxv1.WatchStateResponse{}
		if err := stream.RecvMsg(e); err != nil {
			t.Fatalf("the stream ended: %v", err)
		}
		if c := e.GetChanges(); len(c) > 0 {
			if c[0].GetValue().GetString_() != "api:2" {
				t.Errorf("told of %v", e)
			}
			break
		}
	}
	// The streams end when the server does.
	s.stop()
	for {
		if err := stream.RecvMsg(&confluxv1.WatchStateResponse{}); err != nil {
			break
		}
	}
	_, err := s.control.CreateTenant(t.Context(), "conflux.v1.ConfluxService")
	wantKind(t, "a tenant with the path of gRPC", err, errkind.Invalid)
}
