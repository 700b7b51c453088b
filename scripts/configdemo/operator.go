package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/skep-dev/skep/internal/config/rpc/confluxv1"
)

// balancer is the operator: it watches the document by gRPC, and has the targets of upstreams follow what is deployed. While it is parted it
// goes on by what it saw last.
type balancer struct {
	*courier
	client confluxv1.ConfluxServiceClient
	events chan string // services of which the image in production has changed

	mu     sync.Mutex
	cursor uint64            // guarded by mu, as all below
	seen   []event           // what the watch has said
	own    map[string]result // the own writes among them, by tag
	opened int               // how often the watch was opened

	known   map[string]*held // entities by ID; owned by decide, as all below
	removed map[any]bool     // elements that it has decided to remove
	decided int
}

// held is an entity as the operator saw it last.
type held struct {
	version  string
	conflict bool // of its plan
	list     []any
}

// event is what the watch said of one operation.
type event struct {
	cursor   uint64
	id       string
	service  string // whose plan the operation wrote, if it did
	conflict bool   // and whether that waits for a choice now
}

// keyed adds the API key to requests.
type keyed struct {
	next http.RoundTripper
	key  string
}

// RoundTrip implements http.RoundTripper.
func (k *keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-API-Key", k.key)
	return k.next.RoundTrip(r)
}

// newGRPC makes a client of gRPC over HTTP/2 that notices when nobody answers any more.
func newGRPC(address, key string) confluxv1.ConfluxServiceClient {
	t := &http.Transport{
		Protocols: new(http.Protocols), DialContext: (&net.Dialer{Timeout: answerPatience}).DialContext,
		HTTP2: &http.HTTP2Config{SendPingTimeout: answerPatience, PingTimeout: answerPatience},
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	return confluxv1.NewConfluxServiceClient(&http.Client{Transport: &keyed{t, key}}, "http://"+address, connect.WithGRPC())
}

func newBalancer(address, key string) *balancer {
	b := &balancer{
		courier: newCourier(&ledger{actor: operator}, 1), client: newGRPC(address, key), events: make(chan string, 1000),
		own: map[string]result{}, known: map[string]*held{}, removed: map[any]bool{},
	}
	b.submit = b.submitOne
	b.find = b.findOwn
	return b
}

// message is an operation in the messages of gRPC.
func message(op *operation) *confluxv1.Operation {
	m := &confluxv1.Operation{
		Type: op.Type, EntityId: op.EntityID, Field: op.Field, Base: op.Base, Intent: op.Intent, Via: op.Via,
		Add: protoValues(op.Add), Remove: protoValues(op.Remove),
	}
	if op.Value != nil {
		m.Value = protoValues([]any{op.Value})[0]
	}
	return m
}

func protoValues(list []any) (out []*confluxv1.Value) {
	for _, v := range list {
		switch v := v.(type) {
		case string:
			out = append(out, &confluxv1.Value{Kind: &confluxv1.Value_String_{String_: v}})
		case int64:
			out = append(out, &confluxv1.Value{Kind: &confluxv1.Value_Int{Int: v}})
		default:
			panic(fmt.Sprintf("bug: the operator writes no %T", v))
		}
	}
	return out
}

func plainValues(list *confluxv1.ListValue) (out []any) {
	for _, v := range list.GetValues() {
		switch k := v.GetKind().(type) {
		case *confluxv1.Value_String_:
			out = append(out, k.String_)
		case *confluxv1.Value_Int:
			out = append(out, k.Int)
		}
	}
	return out
}

func (b *balancer) submitOne(ctx context.Context, key string, list []*write) ([]result, error) {
	ctx, call := connect.NewClientContext(ctx)
	call.RequestHeader().Set("Idempotency-Key", key)
	done, err := b.client.SubmitOperation(ctx, &confluxv1.SubmitOperationRequest{Operation: message(&list[0].op)})
	if err != nil {
		switch connect.CodeOf(err) {
		case connect.CodeInvalidArgument, connect.CodePermissionDenied, connect.CodeNotFound, connect.CodeUnauthenticated:
			return nil, &refusal{http.StatusForbidden, err.Error()}
		case connect.CodeAborted:
			return nil, &refusal{http.StatusConflict, err.Error()}
		default:
			return nil, err
		}
	}
	r := done.GetResult()
	return []result{{ID: r.GetId(), Seq: r.GetSeq(), Version: r.GetVersion()}}, nil
}

// findOwn looks for a write in what the watch has said, up to where the log is now. What changes nothing is not said there, and changes
// nothing when it is done again either.
func (b *balancer) findOwn(ctx context.Context, list []*write) (map[string]result, error) {
	s, err := b.client.GetState(ctx, &confluxv1.GetStateRequest{Limit: 1})
	if err != nil {
		return nil, err
	}
	tag := list[0].tag()
	for {
		b.mu.Lock()
		r, there := b.own[tag]
		cursor := b.cursor
		b.mu.Unlock()
		switch {
		case there:
			return map[string]result{tag: r}, nil
		case cursor >= s.GetCursor():
			return nil, nil //nolint:nilnil // the log has none of them
		}
		if !wait(ctx, retryAfter) {
			return nil, ctx.Err()
		}
	}
}

// watch follows the document until ctx ends. When the stream breaks off it goes on after the last cursor.
func (b *balancer) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		err := b.follow(ctx)
		if connect.CodeOf(err) == connect.CodeAborted {
			return fmt.Errorf("go on watching: %w", err) // the daemon does not know the cursor: something is lost
		}
		wait(ctx, retryAfter)
	}
	return nil
}

func (b *balancer) follow(ctx context.Context) error {
	b.mu.Lock()
	cursor := b.cursor
	b.mu.Unlock()
	stream, err := b.client.WatchState(ctx, &confluxv1.WatchStateRequest{Cursor: &cursor})
	if err != nil {
		return err
	}
	defer stream.Close()
	for first := true; stream.Receive(); first = false {
		b.hear(stream.Msg(), first)
	}
	return stream.Err()
}

// hear notes an event, the first of a stream or a later one, and tells decide of images that have changed.
func (b *balancer) hear(m *confluxv1.WatchStateResponse, first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if first {
		b.opened++
	}
	b.cursor = m.GetCursor()
	if m.GetOperation() == nil {
		return // a heartbeat
	}
	e := event{cursor: m.GetCursor(), id: m.GetOperation().GetId()}
	for _, c := range m.GetChanges() {
		if c.GetEnvironment() != environs[0] {
			continue
		}
		switch c.GetField() {
		case "plan":
			e.service, e.conflict = c.GetEntityId(), c.GetConflict()
		case "image":
			select {
			case b.events <- c.GetEntityId():
			default: // decide is behind, and will look at all of them anyway
			}
		}
	}
	b.seen = append(b.seen, e)
	if op := m.GetOperation(); op.GetActor().GetId() == operator {
		b.own[op.GetVia()] = result{ID: op.GetId(), Seq: op.GetSeq()}
	}
}

// The operator keeps so many targets and ports.
const (
	maxTargets = 4
	maxPorts   = 3
)

// plans are those that the operator decides for. The person has others.
var plans = []string{"large", "xlarge"}

// decide reacts to images, looks after everything now and then, and decides on plans: of contests, whose services the demonstration names,
// and by itself.
func (b *balancer) decide(ctx context.Context, every time.Duration, contests <-chan string) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case service := <-b.events:
			b.moveTargets(ctx, strings.TrimPrefix(service, "service."), "follows "+service)
		case service := <-contests:
			b.plan(ctx, service, "the load of the last hour")
		case <-tick.C:
			name := names[n%len(names)]
			b.closePorts(ctx, name)
			b.moveTargets(ctx, name, "scale-out")
			if n%5 == 0 {
				b.plan(ctx, "service."+name, "the load of the day")
			}
		}
	}
}

// look returns an entity as it is, or, while that cannot be asked, as it was.
func (b *balancer) look(ctx context.Context, id, field string) *held {
	h := b.known[id]
	if h != nil && b.waiting() > 0 {
		return h // decisions are under way that nobody has seen
	}
	ctx, cancel := context.WithTimeout(ctx, answerPatience/5)
	defer cancel()
	answer, err := b.client.GetEntity(ctx, &confluxv1.GetEntityRequest{EntityId: id})
	if err == nil {
		e := answer.GetEntity()
		h = &held{version: e.GetVersion(), conflict: slices.Contains(e.GetConflicts(), "plan"), list: plainValues(e.GetFields()[field].GetList())}
		b.known[id] = h
	}
	return h
}

// moveTargets adds a target to an upstream, and takes away the first one if there are too many.
func (b *balancer) moveTargets(ctx context.Context, name, why string) {
	h := b.look(ctx, "upstream."+name, "targets")
	if h == nil {
		return
	}
	b.decided++
	op := operation{
		Type: "set_field", EntityID: "upstream." + name, Field: "targets", Base: h.version, Intent: why,
		Add: []any{fmt.Sprintf("10.%d.%d.%d", slices.Index(names, name), b.decided/250, b.decided%250+1)},
	}
	op.Remove = b.surplus(h.list, maxTargets)
	b.send(op)
}

// closePorts takes away ports of a service beyond some.
func (b *balancer) closePorts(ctx context.Context, name string) {
	h := b.look(ctx, "service."+name, "ports")
	if h == nil {
		return
	}
	if surplus := b.surplus(h.list, maxPorts); surplus != nil {
		b.send(operation{Type: "set_field", EntityID: "service." + name, Field: "ports", Remove: surplus, Base: h.version, Intent: "closed"})
	}
}

// surplus are elements to be removed, so that about so many stay. They were seen: what has come meanwhile stays.
func (b *balancer) surplus(seen []any, most int) (list []any) {
	left := slices.DeleteFunc(slices.Clone(seen), func(v any) bool { return b.removed[v] })
	for len(left) > most {
		list, left = append(list, left[0]), left[1:]
	}
	for _, v := range list {
		b.removed[v] = true
	}
	return list
}

// plan decides on a service's plan, unless somebody has to choose already.
func (b *balancer) plan(ctx context.Context, service, why string) {
	h := b.look(ctx, service, "ports")
	if h == nil || h.conflict {
		return
	}
	b.decided++
	b.send(operation{Type: "set_field", EntityID: service, Field: "plan", Value: plans[b.decided%len(plans)], Base: h.version, Intent: why})
}

// watched is how far the watch has come.
func (b *balancer) watched() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cursor
}
