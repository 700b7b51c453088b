package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/skep-dev/skep/internal/config/rpc/confluxv1"
)

// dial connects gRPC's own client.
func (c *client) dial() *grpc.ClientConn {
	c.tb.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(c.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		c.tb.Fatal(err)
	}
	c.tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

func text(s string) *confluxv1.Value {
	return &confluxv1.Value{Kind: &confluxv1.Value_String_{String_: s}}
}

func setImage(entity, image string) *confluxv1.Operation {
	return &confluxv1.Operation{Type: "set_field", EntityId: entity, Field: "image", Value: text(image)}
}

// watchState follows changes with gRPC's own client.
func watchState(ctx context.Context, conn *grpc.ClientConn, in *confluxv1.WatchStateRequest) (grpc.ClientStream, error) {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, confluxv1.ConfluxServiceWatchStateProcedure)
	if err == nil {
		err = s.SendMsg(in)
	}
	if err == nil {
		err = s.CloseSend()
	}
	return s, err
}

// nextEvent returns the next that is no heartbeat.
func nextEvent(s grpc.ClientStream) (*confluxv1.WatchStateResponse, error) {
	for {
		e := &confluxv1.WatchStateResponse{}
		if err := s.RecvMsg(e); err != nil || len(e.GetChanges()) > 0 {
			return e, err
		}
	}
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, nil)
	conn := c.dial()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-conflux-actor", "operator-1", "x-conflux-actor-class", "operator")
	done := &confluxv1.SubmitOperationResponse{}
	in := &confluxv1.SubmitOperationRequest{Operation: &confluxv1.Operation{
		Type: "set_field", EntityId: "service.api", Field: "replicas", Value: &confluxv1.Value{Kind: &confluxv1.Value_Int{Int: 1<<53 + 1}}, Intent: "scale",
	}}
	if err := conn.Invoke(ctx, confluxv1.ConfluxServiceSubmitOperationProcedure, in, done); err != nil || done.GetResult().GetNow().GetInt() != 1<<53+1 {
		t.Fatalf("SubmitOperation: %v, %v", done, err)
	}
	batch := &confluxv1.SubmitBatchResponse{}
	err := conn.Invoke(ctx, confluxv1.ConfluxServiceSubmitBatchProcedure, &confluxv1.SubmitBatchRequest{Operations: []*confluxv1.Operation{
		setImage("service.api", "a:1"),
		{Type: "set_field", EntityId: "service.api", Field: "ports", Add: []*confluxv1.Value{{Kind: &confluxv1.Value_Int{Int: 80}}}},
	}}, batch)
	if err != nil || len(batch.GetResults()) != 2 {
		t.Fatalf("SubmitBatch: %v, %v", batch, err)
	}
	e := &confluxv1.GetEntityResponse{}
	if err := conn.Invoke(ctx, confluxv1.ConfluxServiceGetEntityProcedure, &confluxv1.GetEntityRequest{EntityId: "service.api"}, e); err != nil ||
		e.GetEntity().GetFields()["image"].GetString_() != "a:1" || len(e.GetEntity().GetFields()["ports"].GetList().GetValues()) != 1 {
		t.Errorf("GetEntity: %v, %v", e, err)
	}
	state := &confluxv1.GetStateResponse{}
	if err := conn.Invoke(ctx, confluxv1.ConfluxServiceGetStateProcedure, &confluxv1.GetStateRequest{Environment: "staging"}, state); err != nil || len(state.GetEntities()) != 1 || state.GetCursor() != 4 {
		t.Errorf("GetState: %v, %v", state, err)
	}
	null := &confluxv1.Operation{
		Type: "set_field", EntityId: "service.api", Field: "image",
		Value: &confluxv1.Value{Kind: &confluxv1.Value_Null{Null: structpb.NullValue_NULL_VALUE}},
	}
	if err := conn.Invoke(ctx, confluxv1.ConfluxServiceSubmitOperationProcedure, &confluxv1.SubmitOperationRequest{Operation: null}, done); err != nil || done.GetResult().GetNow() != nil {
		t.Errorf("unset: %v, %v", done, err)
	}
	for _, tt := range []struct {
		op   *confluxv1.Operation
		want codes.Code
	}{
		{&confluxv1.Operation{Type: "explode"}, codes.InvalidArgument},
		{&confluxv1.Operation{Type: "set_field", EntityId: "service.api", Field: "image", Value: &confluxv1.Value{}}, codes.InvalidArgument},
		{&confluxv1.Operation{Type: "remove_entity", EntityId: "service.none"}, codes.NotFound},
		{&confluxv1.Operation{Type: "set_field", EntityId: "service.api", Field: "image", Value: text("x"), Base: state.GetVersion(), Expect: true}, codes.Aborted},
	} {
		err := conn.Invoke(ctx, confluxv1.ConfluxServiceSubmitOperationProcedure, &confluxv1.SubmitOperationRequest{Operation: tt.op}, done)
		if status.Code(err) != tt.want {
			t.Errorf("%v: %v, want %v", tt.op, err, tt.want)
		}
	}
	if by := c.ok("GET", "/v1/log?actor=operator-1&limit=1", "")["operations"].([]any); len(by) != 1 {
		t.Errorf("the log has no operation of operator-1")
	}
}

// A watcher that is cut off again and again, and goes on by its cursor, gets everything once.
func TestGRPCReconnect(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, nil)
	c.ok("POST", "/v1/ops", set("service.api", "replicas", "2"))
	conn := c.dial()
	first, err := watchState(t.Context(), conn, &confluxv1.WatchStateRequest{IncludeInitialState: true, Entity: "service", Environment: "production"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := nextEvent(first)
	if err != nil || e.GetOperation() != nil || len(e.GetChanges()) != 1 || e.GetChanges()[0].GetValue().GetInt() != 2 {
		t.Fatalf("the initial state is %v, %v", e, err)
	}
	const all = 60
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range all {
			c.ok("POST", "/v1/ops", set("service.api", "image", fmt.Sprintf("%q", fmt.Sprint("a:", i))))
		}
	}()
	cursor, got := e.GetCursor(), 0
	for got < all {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := watchState(ctx, conn, &confluxv1.WatchStateRequest{Cursor: &cursor, Field: "image", Environment: "production"})
		if err != nil {
			t.Fatal(err)
		}
		for range min(7, all-got) {
			e, err := nextEvent(s)
			if err != nil {
				t.Fatal(err)
			}
			changes := e.GetOperation().GetWrites()
			if v := changes[len(changes)-1].GetValue().GetString_(); v != fmt.Sprint("a:", got) {
				t.Fatalf("event %d is %s", got, v)
			}
			cursor = e.GetCursor()
			got++
		}
		cancel()
	}
	<-done
	future := cursor + 1000
	s, err := watchState(t.Context(), conn, &confluxv1.WatchStateRequest{Cursor: &future})
	if err == nil {
		_, err = nextEvent(s)
	}
	if status.Code(err) != codes.Aborted {
		t.Errorf("a cursor of the future: %v", err)
	}
}

func TestGRPCKeys(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, map[string]string{"config.toml": withKeys, "api-keys.toml": keyEntry(goodKey, "ci", "pipeline")})
	conn := c.dial()
	state := &confluxv1.GetStateResponse{}
	for _, tt := range []struct {
		header string
		value  string
		want   codes.Code
	}{
		{"x-conflux-actor", "ci", codes.Unauthenticated},
		{"x-api-key", "skepc_wrong", codes.Unauthenticated},
		{"x-api-key", goodKey, codes.OK},
		{"authorization", "Bearer " + goodKey, codes.OK},
	} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), tt.header, tt.value)
		if err := conn.Invoke(ctx, confluxv1.ConfluxServiceGetStateProcedure, &confluxv1.GetStateRequest{}, state); status.Code(err) != tt.want {
			t.Errorf("%s: %s: %v, want %v", tt.header, tt.value, err, tt.want)
		}
		s, err := watchState(ctx, conn, &confluxv1.WatchStateRequest{})
		if err == nil {
			err = s.RecvMsg(&confluxv1.WatchStateResponse{})
		}
		if status.Code(err) != tt.want {
			t.Errorf("watch with %s: %s: %v, want %v", tt.header, tt.value, err, tt.want)
		}
	}
}

// The same port speaks Connect's own protocol, JSON included, and gRPC-Web.
func TestConnect(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, nil)
	r := c.ok("POST", confluxv1.ConfluxServiceSubmitOperationProcedure, `{"operation":{"type":"set_field","entityId":"service.api","field":"image","value":{"string":"a:1"}}}`)
	if r["result"].(map[string]any)["now"].(map[string]any)["string"] != "a:1" {
		t.Errorf("the answer is %v", r)
	}
	for _, o := range []connect.ClientOption{connect.WithGRPCWeb(), connect.WithProtoJSON(), connect.WithClientOptions()} {
		web := confluxv1.NewConfluxServiceClient(http.DefaultClient, c.url, o)
		e, err := web.GetEntity(t.Context(), &confluxv1.GetEntityRequest{EntityId: "service.api"})
		if err != nil || e.GetEntity().GetFields()["image"].GetString_() != "a:1" {
			t.Errorf("GetEntity: %v, %v", e, err)
		}
		_, err = web.GetEntity(t.Context(), &confluxv1.GetEntityRequest{EntityId: "service.none"})
		if ce, ok := errors.AsType[*connect.Error](err); !ok || ce.Code() != connect.CodeNotFound {
			t.Errorf("an entity that is not there: %v", err)
		}
	}
}

// A call that is sent again under its key is done once, and answered as the first time; one that failed can be tried again.
func TestGRPCSentAgain(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, nil)
	conn := c.dial()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "idempotency-key", "deploy-7")
	call := func(op *confluxv1.Operation) (*confluxv1.SubmitOperationResponse, error) {
		out := &confluxv1.SubmitOperationResponse{}
		return out, conn.Invoke(ctx, confluxv1.ConfluxServiceSubmitOperationProcedure, &confluxv1.SubmitOperationRequest{Operation: op}, out)
	}
	for range 2 {
		if _, err := call(&confluxv1.Operation{Type: "remove_entity", EntityId: "service.none"}); status.Code(err) != codes.NotFound {
			t.Errorf("a call that fails: %v", err)
		}
	}
	op := setImage("service.api", strings.Repeat("a", 2000)+":1")
	first, err := call(op)
	if err != nil {
		t.Fatal(err)
	}
	again, err := call(op)
	if err != nil || again.GetResult().GetId() != first.GetResult().GetId() {
		t.Errorf("sent again: %v, %v, want %v", again, err, first)
	}
}
