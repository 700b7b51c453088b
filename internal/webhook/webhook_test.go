package webhook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/outbound"
	"github.com/skep-dev/skep/internal/webhook"
)

// values is a Store in memory.
type values struct {
	mu sync.Mutex
	m  map[string][]byte // guarded by mu
}

func (v *values) Meta(_ context.Context, key string) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.m[key] == nil {
		return nil, errkind.NotFound
	}
	return v.m[key], nil
}

func (v *values) SwapMeta(_ context.Context, key string, old, value []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !bytes.Equal(v.m[key], old) {
		return errkind.Conflict
	}
	v.m[key] = value
	return nil
}

func (v *values) DeleteMeta(_ context.Context, key string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.m, key)
	return nil
}

func (v *values) Keys(_ context.Context, prefix, after string) (keys []string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for k := range v.m {
		if strings.HasPrefix(k, prefix) && k > after {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys[:min(len(keys), 10)], nil
}

// events is a Source of events that somebody adds.
type events struct {
	mu   sync.Mutex
	list []webhook.Event // guarded by mu
	more chan struct{}   // guarded by mu
}

func (s *events) add(kind, entity string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := uint64(len(s.list) + 1)
	s.list = append(s.list, webhook.Event{
		ID: fmt.Sprintf("e-%d", n), Type: kind, Cursor: n, Entities: []string{entity},
		Bodies: map[webhook.Format]json.RawMessage{webhook.Plain: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))},
	})
	close(s.more)
	s.more = make(chan struct{})
}

func (s *events) Head() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.list))
}

func (s *events) Next(ctx context.Context, cursor uint64, wants func(string) bool) ([]webhook.Event, uint64, error) {
	for {
		s.mu.Lock()
		rest, more := s.list[cursor:], s.more
		s.mu.Unlock()
		if len(rest) > 0 {
			return slices.DeleteFunc(slices.Clone(rest), func(e webhook.Event) bool { return !wants(e.Type) }), cursor + uint64(len(rest)), nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, cursor, ctx.Err()
		}
	}
}

// receiver is a server that takes what it verifies.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	secret  string // guarded by mu, as all that follows
	answers []int  // the next ones, then 204
	got     []string
	header  http.Header
	asked   int
	change  chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{change: make(chan struct{})}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		defer func() { close(r.change); r.change = make(chan struct{}) }()
		r.asked++
		if err := webhook.Verify(r.secret, req.Header, body, time.Now()); err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if len(r.answers) > 0 {
			status := r.answers[0]
			r.answers = r.answers[1:]
			w.WriteHeader(status)
			return
		}
		r.got = append(r.got, req.Header.Get("webhook-id")+string(body))
		r.header = req.Header
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(r.Close)
	return r
}

// wait waits until something holds of the receiver.
func (r *receiver) wait(t *testing.T, holds func() bool) {
	t.Helper()
	for {
		r.mu.Lock()
		done, change := holds(), r.change
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-change:
		case <-t.Context().Done():
			t.Fatal("it never held")
		}
	}
}

func (r *receiver) took(list ...string) func() bool {
	return func() bool { return slices.Equal(r.got, list) }
}

type bench struct {
	store  *values
	source *events
	client *outbound.Client
	opts   webhook.Options
}

func newBench(t *testing.T) *bench {
	t.Helper()
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	b := &bench{
		store: &values{m: map[string][]byte{}}, source: &events{more: make(chan struct{})}, client: outbound.New(outbound.Options{Allow: local}),
		opts: webhook.Options{FirstPause: time.Millisecond, MaxPause: 2 * time.Millisecond, Poll: 5 * time.Millisecond},
	}
	t.Cleanup(b.client.Close)
	return b
}

// run runs hooks until stop is called.
func (b *bench) run(t *testing.T) (h *webhook.Hooks, stop func()) {
	t.Helper()
	h = webhook.New(b.store, b.source, b.client, b.opts)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return h, stop
}

func add(t *testing.T, h *webhook.Hooks, r *receiver, s webhook.Subscription) webhook.Subscription {
	t.Helper()
	s.URL = r.URL + "/hook"
	s, err := h.Add(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secret = s.Secret
	return s
}

// status waits until something holds of how a subscription does.
func status(t *testing.T, h *webhook.Hooks, id string, holds func(st webhook.Status) bool) webhook.Status {
	t.Helper()
	for {
		st, err := h.Status(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if holds(st) {
			return st
		}
		runtime.Gosched()
	}
}

// A subscription gets what it wants of what happens from then on, signed, in order, over restarts, and whatever the receiver answers meanwhile.
func TestDelivery(t *testing.T) {
	b, r := newBench(t), newReceiver(t)
	b.source.add("operation", "service.old")
	h, stop := b.run(t)
	s := add(t, h, r, webhook.Subscription{Events: []string{"operation"}, Entities: []string{"service.*"}})
	b.source.add("operation", "service.a")
	b.source.add("conflict", "service.a")
	b.source.add("operation", "route.a")
	b.source.add("operation", "service.b")
	r.wait(t, r.took(`e-2{"n":2}`, `e-5{"n":5}`))
	status(t, h, s.ID, func(st webhook.Status) bool { return st.Cursor == 5 }) // else the last one may come twice
	stop()
	b.source.add("operation", "service.c")
	r.mu.Lock()
	r.answers = []int{500, 404, 302}
	r.mu.Unlock()
	h, _ = b.run(t)
	r.wait(t, r.took(`e-2{"n":2}`, `e-5{"n":5}`, `e-6{"n":6}`))

	mac := hmac.New(sha256.New, []byte(s.Secret))
	mac.Write([]byte(`{"n":6}`))
	for _, name := range []string{"X-Conflux-Signature", "X-Signature"} {
		if got, want := r.header.Get(name), "sha256="+hex.EncodeToString(mac.Sum(nil)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	last := status(t, h, s.ID, func(st webhook.Status) bool { return len(st.Deliveries) == 6 })
	if d := last.Deliveries[5]; d.Event != "e-6" || d.Attempt != 4 || d.Status != 204 || last.Deliveries[2].Error == "" || last.Cursor < 6 {
		t.Errorf("status %+v", last)
	}
	if d, err := h.Redeliver(t.Context(), s.ID, last.Deliveries[0]); err != nil || d.Error != "" || !d.Again {
		t.Errorf("again: %+v, %v", d, err)
	}
	r.wait(t, r.took(`e-2{"n":2}`, `e-5{"n":5}`, `e-6{"n":6}`, `e-2{"n":2}`))
	if _, err := h.Redeliver(t.Context(), s.ID, webhook.Delivery{Event: "e-77", Cursor: 77}); !errors.Is(err, errkind.NotFound) {
		t.Errorf("an event that never was: %v", err)
	}
	if list, err := h.List(t.Context()); err != nil || len(list) != 1 || list[0].Secret != "" {
		t.Errorf("list: %+v, %v", list, err)
	}
	if err := h.Remove(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Status(t.Context(), s.ID); !errors.Is(err, errkind.NotFound) {
		t.Errorf("after its removal: %v", err)
	}
}

// Who fails for too long, or says that nothing is wanted any more, is left alone until somebody enables it; nothing is lost by that.
func TestGiveUp(t *testing.T) {
	for _, answer := range []int{http.StatusInternalServerError, http.StatusGone} {
		b, r := newBench(t), newReceiver(t)
		if answer != http.StatusGone {
			b.opts.GiveUp = time.Nanosecond
		}
		h, _ := b.run(t)
		s := add(t, h, r, webhook.Subscription{})
		r.mu.Lock()
		r.answers = []int{answer, answer}
		if answer == http.StatusGone {
			r.answers = r.answers[:1]
		}
		r.mu.Unlock()
		b.source.add("operation", "service.a")
		status(t, h, s.ID, func(st webhook.Status) bool { return st.Disabled != "" })
		b.source.add("operation", "service.b")
		if err := h.Enable(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
		r.wait(t, r.took(`e-1{"n":1}`, `e-2{"n":2}`))
	}
}

// Who may not be told any more is not, from the next event on; when they may again, nothing is lost.
func TestMakerMayNotBeTold(t *testing.T) {
	b, r := newBench(t), newReceiver(t)
	var mu sync.Mutex
	var refused error // guarded by mu
	may := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		refused = err
	}
	b.opts.May = func(s *webhook.Subscription) error {
		mu.Lock()
		defer mu.Unlock()
		if s.By != "human:zara" {
			t.Errorf("asked about %q", s.By)
		}
		return refused
	}
	h, _ := b.run(t)
	s := add(t, h, r, webhook.Subscription{By: "human:zara"})
	b.source.add("operation", "service.a")
	r.wait(t, r.took(`e-1{"n":1}`))
	may(fmt.Errorf("zara may not read all any more: %w", errkind.Forbidden))
	b.source.add("operation", "service.b")
	st := status(t, h, s.ID, func(st webhook.Status) bool { return st.Disabled != "" })
	if !strings.Contains(st.Disabled, "zara may not read all any more") || len(st.Deliveries) != 1 {
		t.Errorf("status %+v", st)
	}
	if _, err := h.Redeliver(t.Context(), s.ID, st.Deliveries[0]); !errors.Is(err, errkind.Forbidden) {
		t.Errorf("redeliver: %v", err)
	}
	may(nil)
	if err := h.Enable(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	r.wait(t, r.took(`e-1{"n":1}`, `e-2{"n":2}`))
}

// What is published comes to those who subscribed before, in the form that they asked for, from whatever process runs.
func TestPublish(t *testing.T) {
	b, r := newBench(t), newReceiver(t)
	b.run(t)
	h, _ := b.run(t) // two processes
	event := func(n int) webhook.Event {
		return webhook.Event{ID: fmt.Sprintf("m-%d", n), Type: "milestone", Bodies: map[webhook.Format]json.RawMessage{
			webhook.Plain: json.RawMessage(`{}`), webhook.GitHub: json.RawMessage(`{"ref":"refs/heads/main"}`),
		}}
	}
	if err := h.Publish(t.Context(), event(1)); err != nil {
		t.Fatal(err)
	}
	add(t, h, r, webhook.Subscription{Format: webhook.GitHub, Secret: "a secret-of-thirty-two-characters"[2:]})
	for n := 2; n < 30; n++ {
		if err := h.Publish(t.Context(), event(n)); err != nil {
			t.Fatal(err)
		}
		b.source.add("operation", "service.a") // not of that form
	}
	r.wait(t, func() bool { return len(r.got) >= 28 })
	for i, got := range r.got {
		if want := fmt.Sprintf(`m-%d{"ref":"refs/heads/main"}`, i+2); got != want {
			t.Errorf("event %d is %s, want %s", i, got, want)
		}
	}
	if r.header.Get("X-GitHub-Event") != "push" || !strings.HasPrefix(r.header.Get("X-Hub-Signature-256"), "sha256=") {
		t.Errorf("header %v", r.header)
	}
}

func TestBadSubscriptions(t *testing.T) {
	b := newBench(t)
	h := webhook.New(b.store, b.source, b.client, b.opts)
	for name, s := range map[string]webhook.Subscription{
		"no URL":                {},
		"a URL with a password": {URL: "https://a:b@ci.example/"},
		"a file":                {URL: "file:///etc/passwd"},
		"a short secret":        {URL: "https://ci.example/", Secret: "short"},
		"a secret not base64":   {URL: "https://ci.example/", Secret: "whsec_%%%%%%%%%%%%%%%%%%%%%%%%"},
		"a pattern":             {URL: "https://ci.example/", Events: []string{"["}},
		"a format":              {URL: "https://ci.example/", Format: "gitlab"},
	} {
		if _, err := h.Add(t.Context(), s); !errors.Is(err, errkind.Invalid) {
			t.Errorf("%s: %v, want it invalid", name, err)
		}
	}
	for _, id := range []string{"", "none", "../x"} {
		if _, err := h.Get(t.Context(), id); !errors.Is(err, errkind.NotFound) {
			t.Errorf("webhook %q: %v", id, err)
		}
	}
}

// An address inside the network is not asked, and the delivery says why.
func TestPrivateAddress(t *testing.T) {
	b, r := newBench(t), newReceiver(t)
	b.client = outbound.New(outbound.Options{})
	h, _ := b.run(t)
	s := add(t, h, r, webhook.Subscription{})
	b.source.add("operation", "service.a")
	st := status(t, h, s.ID, func(st webhook.Status) bool { return len(st.Deliveries) > 0 })
	if st.Deliveries[0].Error == "" || r.asked != 0 {
		t.Errorf("deliveries %+v, and the receiver was asked %d times", st.Deliveries, r.asked)
	}
}

// The example of the specification of Standard Webhooks.
func TestVerify(t *testing.T) {
	const secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", `{"test": 2432232314}`
	header := http.Header{}
	header.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	header.Set("webhook-timestamp", "1614265330")
	header.Set("webhook-signature", "v1,bm9ldHUjKzFob2VudXRob2VodWUzMjRvdWVvdW9ldQo= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	at := time.Unix(1614265330, 0)
	if err := webhook.Verify(secret, header, []byte(body), at); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another body":    webhook.Verify(secret, header, []byte(body+" "), at),
		"too late":        webhook.Verify(secret, header, []byte(body), at.Add(6*time.Minute)),
		"another secret":  webhook.Verify("a-secret-of-twenty-four-bytes", header, []byte(body), at),
		"nothing to read": webhook.Verify(secret, http.Header{}, nil, at),
	} {
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
