// Package webhook delivers events to addresses that users name: signed, in order, and again until somebody takes them.
//
//	hooks := webhook.New(store, source, outbound.New(outbound.Options{}), webhook.Options{})
//	sub, err := hooks.Add(ctx, webhook.Subscription{URL: "https://ci.example/hook", Events: []string{"milestone"}})
//	err = hooks.Run(ctx)
//
// Events come from a Source, which has them by a cursor, and from Publish. What callers may rely on:
//   - Each subscription has its own place in both, which is kept after each delivery: over restarts nothing is left out. What was taken
//     just before a process ended may come again, with the same webhook-id.
//   - A subscription's events come one after the other. One that is not taken (any answer but 2xx, or none) is tried again, after pauses that
//     double, and those after it wait. After Options.GiveUp the subscription is disabled, and says so; Enable goes on where it stopped. An
//     answer of 410 Gone disables it at once.
//   - Of several processes that Run on one store one delivers.
//
// Requests are signed as Standard Webhooks has it (https://www.standardwebhooks.com), and over the body alone with the secret's text as the key, in
// the headers that Conflux and the receivers of Flux (generic-hmac) and of Argo CD (as from GitHub) look at. The store has the secrets as
// they are, since a signature cannot be made of a hash: it must be as closed to others as a private key is.
package webhook

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/outbound"
)

// Limits.
const (
	// MaxSubscriptions is how many a store has: each one is a goroutine and a reader of the events.
	MaxSubscriptions = 100
	// maxPatterns is how many events, entities or environments a subscription names.
	maxPatterns = 100
	maxText     = 2 << 10 // bytes of a URL or a pattern
	// maxBody is what receivers are expected to read.
	maxBody = 8 << 20
	// minSecret is the length of a secret that somebody brings along, in bytes: 128 bits in hexadecimal digits.
	minSecret, maxSecret = 24, 200
	// MaxDeliveries is how many of the last attempts a subscription remembers.
	MaxDeliveries = 50
	maxErrorText  = 200
	maxReason     = 400 // why a subscription is disabled
)

// Store has small named values; SwapMeta keeps one only if the one before is old, else errkind.Conflict. Documents' logs have it.
type Store interface {
	Meta(ctx context.Context, key string) ([]byte, error)
	SwapMeta(ctx context.Context, key string, old, value []byte) error
	DeleteMeta(ctx context.Context, key string) error
	// Keys returns the names that begin with prefix and come after the given one, sorted, as many as one asks at a time.
	Keys(ctx context.Context, prefix, after string) ([]string, error)
}

// Source has events in an order that does not change.
type Source interface {
	// Head returns the cursor of the last event.
	Head() uint64
	// Next returns events after a cursor of the types that wants says yes to, and the cursor up to which it looked. It waits until it looked at one.
	Next(ctx context.Context, cursor uint64, wants func(event string) bool) (list []Event, next uint64, err error)
}

// Event is something that happened.
type Event struct {
	ID     string `json:"id"` // the same whenever the event is told: receivers know by it what they have had. It has no dot
	Type   string `json:"type"`
	Cursor uint64 `json:"-"` // of the Source: where to go on when this one is taken
	// Entities and Envs are what the event is about, for those who want only some; none: about all.
	Entities []string `json:"entities,omitempty"`
	Envs     []string `json:"envs,omitempty"`
	// Bodies are the JSON that is sent, by format. A subscription of a format that the event has not does not get it.
	Bodies map[Format]json.RawMessage `json:"bodies"`
}

// Format is the form of what is sent.
type Format string

// The formats.
const (
	Plain  Format = ""       // what the Source says
	GitHub Format = "github" // as GitHub tells of a push, for receivers that know only that: Argo CD
)

// Subscription is who wants what.
type Subscription struct {
	ID       string    `json:"id"`
	URL      string    `json:"url"`
	Secret   string    `json:"secret,omitempty"`   // whsec_BASE64, or any text of 24 bytes or more; "" in Add: a new one
	Events   []string  `json:"events,omitempty"`   // none: all
	Entities []string  `json:"entities,omitempty"` // patterns as path.Match has them; none: all
	Envs     []string  `json:"envs,omitempty"`     // none: all
	Format   Format    `json:"format,omitempty"`
	Created  time.Time `json:"created"`
	By       string    `json:"by,omitempty"` // who made it
}

// Options of Hooks. The zero Options works.
type Options struct {
	FirstPause time.Duration // before an event is tried again; it doubles each time; 0: 5 s
	MaxPause   time.Duration // 0: 1 h
	GiveUp     time.Duration // how long a subscription may fail in a row; 0: 5 days
	Poll       time.Duration // how often Run looks for subscriptions that other processes made, and for what they left; 0: 10 s
	// May is asked before each delivery whether the subscription's maker may still be told; why not is why it is disabled. nil: they may.
	May    func(s *Subscription) error
	Now    func() time.Time
	Logger *slog.Logger
}

// Hooks are the subscriptions of a store. It is safe for concurrent use.
type Hooks struct {
	store  Store
	source Source
	client *outbound.Client
	opts   Options
	owner  string // this process, among those that may deliver

	mu      sync.Mutex
	changed chan struct{} // guarded by mu: closed when there is something to look at
}

// New makes Hooks. Without a source there are only the events of Publish.
func New(store Store, source Source, client *outbound.Client, opts Options) *Hooks {
	for _, d := range []struct {
		at *time.Duration
		is time.Duration
	}{
		{&opts.FirstPause, 5 * time.Second}, {&opts.MaxPause, time.Hour}, {&opts.GiveUp, 5 * 24 * time.Hour}, {&opts.Poll, 10 * time.Second},
	} {
		if *d.at == 0 {
			*d.at = d.is
		}
	}
	if opts.May == nil {
		opts.May = func(*Subscription) error { return nil }
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Hooks{store: store, source: source, client: client, opts: opts, owner: rand.Text(), changed: make(chan struct{})}
}

// wake has all subscriptions look again.
func (h *Hooks) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *Hooks) changes() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// KeySubscription is how the names of values begin that are subscriptions.
const KeySubscription = "webhook/sub/"

// keyState is how those begin that say what became of one.
const keyState = "webhook/state/"

// Add makes a subscription, which gets what happens from now on. The answer has its ID and its secret.
func (h *Hooks) Add(ctx context.Context, s Subscription) (Subscription, error) {
	if s.Secret == "" {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // it never fails
		s.Secret = secretPrefix + base64.StdEncoding.EncodeToString(key)
	}
	if err := s.check(); err != nil {
		return Subscription{}, fmt.Errorf("webhook: %w: %w", err, errkind.Invalid)
	}
	ids, err := h.ids(ctx)
	if err != nil {
		return Subscription{}, err
	}
	if len(ids) >= MaxSubscriptions {
		return Subscription{}, fmt.Errorf("webhook: there are %d already, and no more are allowed: %w", MaxSubscriptions, errkind.TooLarge)
	}
	s.ID, s.Created = strings.ToLower(rand.Text()[:16]), h.opts.Now().UTC().Truncate(time.Second)
	st := state{}
	if h.source != nil {
		st.Cursor = h.source.Head()
	}
	if st.Published, err = h.lastPublished(ctx); err != nil {
		return Subscription{}, err
	}
	// The state is there first: with a subscription without one, all that ever happened would be sent.
	if err := h.put(ctx, keyState+s.ID, nil, &st); err != nil {
		return Subscription{}, fmt.Errorf("webhook: %w", err)
	}
	if err := h.put(ctx, KeySubscription+s.ID, nil, &s); err != nil {
		return Subscription{}, fmt.Errorf("webhook: %w", err)
	}
	h.wake()
	return s, nil
}

func (s *Subscription) check() error {
	u, err := url.Parse(s.URL)
	if err != nil || len(s.URL) > maxText || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("url: it is https://HOST/PATH, without a user name and password")
	}
	if err := checkSecret(s.Secret); err != nil {
		return err
	}
	if s.Format != Plain && s.Format != GitHub {
		return fmt.Errorf("format %.20q: there is %q, and none", s.Format, GitHub)
	}
	for _, list := range [][]string{s.Events, s.Entities, s.Envs} {
		if len(list) > maxPatterns {
			return fmt.Errorf("it names more than %d events, entities or environments", maxPatterns)
		}
		for _, p := range list {
			if _, err := path.Match(p, ""); err != nil || p == "" || len(p) > maxText {
				return fmt.Errorf("pattern %.40q: write a name, with * for any part of it", p)
			}
		}
	}
	return nil
}

func (s *Subscription) wants(event string) bool { return anyMatches(s.Events, []string{event}) }

func (s *Subscription) matches(e *Event) bool {
	return e.Bodies[s.Format] != nil && s.wants(e.Type) && anyMatches(s.Entities, e.Entities) && anyMatches(s.Envs, e.Envs)
}

// anyMatches reports whether a name matches a pattern; no patterns are for all, and no names are of all.
func anyMatches(patterns, names []string) bool {
	if len(patterns) == 0 || len(names) == 0 {
		return true
	}
	return slices.ContainsFunc(patterns, func(p string) bool {
		return slices.ContainsFunc(names, func(n string) bool {
			ok, _ := path.Match(p, n)
			return ok
		})
	})
}

func (h *Hooks) ids(ctx context.Context) ([]string, error) {
	keys, err := h.store.Keys(ctx, KeySubscription, "")
	if err != nil {
		return nil, fmt.Errorf("list webhooks: %w", err)
	}
	for i := range keys {
		keys[i] = strings.TrimPrefix(keys[i], KeySubscription)
	}
	return keys, nil
}

// List returns the subscriptions, without their secrets.
func (h *Hooks) List(ctx context.Context) ([]Subscription, error) {
	ids, err := h.ids(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Subscription, 0, len(ids))
	for _, id := range ids {
		s, err := h.get(ctx, id)
		if errors.Is(err, errkind.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.Secret = ""
		list = append(list, s)
	}
	return list, nil
}

// Get returns a subscription, without its secret.
func (h *Hooks) Get(ctx context.Context, id string) (Subscription, error) {
	s, err := h.get(ctx, id)
	s.Secret = ""
	return s, err
}

func (h *Hooks) get(ctx context.Context, id string) (s Subscription, err error) {
	if !isID(id) {
		return s, noHook(id)
	}
	_, err = h.read(ctx, KeySubscription+id, &s)
	if errors.Is(err, errkind.NotFound) {
		err = noHook(id)
	}
	return s, err
}

func isID(id string) bool {
	return id != "" && len(id) <= 40 && strings.IndexFunc(id, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) < 0
}

func noHook(id string) error {
	return fmt.Errorf("webhook %.40q: there is none: %w", id, errkind.NotFound)
}

// Remove ends a subscription. What is being delivered to it may still arrive.
func (h *Hooks) Remove(ctx context.Context, id string) error {
	if _, err := h.get(ctx, id); err != nil {
		return err
	}
	for _, key := range []string{KeySubscription + id, keyState + id} {
		if err := h.store.DeleteMeta(ctx, key); err != nil {
			return fmt.Errorf("remove webhook %s: %w", id, err)
		}
	}
	h.wake()
	return nil
}

// read returns a value's text, too, which put wants as the old one.
func (h *Hooks) read(ctx context.Context, key string, to any) ([]byte, error) {
	text, err := h.store.Meta(ctx, key)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, to); err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return text, nil
}

func (h *Hooks) put(ctx context.Context, key string, old []byte, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	return h.store.SwapMeta(ctx, key, old, text)
}
