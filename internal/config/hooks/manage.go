package hooks

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/webhook"
)

// Manager is the webhooks of a document for those who look after them: its administrators, of those who may read every field. A subscription
// is told what happens anywhere, and its address may be a secret too.
type Manager struct {
	Hooks *webhook.Hooks
	By    *service.Caller
	Owner bool // of the document's files: their subscriptions go on, whatever roles say of somebody of that name
}

func (m Manager) permit() error { return permit(m.By.Service, m.By.Actor) }

func permit(s *service.Service, a config.Actor) error {
	if err := s.Permit(a, policy.ConfigAdmin, "", "", ""); err != nil {
		return err
	}
	if !s.ReadsAll(a) {
		return fmt.Errorf("webhooks tell the values of all fields, and %s may not read all: %w", a.ID, errkind.Forbidden)
	}
	return nil
}

// May returns a webhook.Options.May: whoever made a subscription has to be one who may. Without a name it was the owner of the document's files.
func May(s *service.Service) func(sub *webhook.Subscription) error {
	return func(sub *webhook.Subscription) error {
		if sub.By == "" {
			return nil
		}
		class, id, _ := strings.Cut(sub.By, ":")
		return permit(s, config.Actor{ID: id, Class: config.Class(class)})
	}
}

// Add makes a subscription. The answer has its secret, which nobody is told again.
func (m Manager) Add(ctx context.Context, n *wire.NewWebhook) (*wire.Webhook, error) {
	if err := m.permit(); err != nil {
		return nil, err
	}
	for _, e := range n.Events {
		if !slices.ContainsFunc(types[:], func(one string) bool { ok, err := path.Match(e, one); return ok || err != nil }) {
			return nil, fmt.Errorf("webhook: event %.40q: there are %s: %w", e, strings.Join(types[:], ", "), errkind.Invalid)
		}
	}
	by := ""
	if !m.Owner {
		by = string(m.By.Actor.Class) + ":" + m.By.Actor.ID
	}
	s, err := m.Hooks.Add(ctx, webhook.Subscription{
		URL: n.URL, Secret: n.Secret, Events: n.Events, Entities: n.Entities, Envs: n.Environments, Format: webhook.Format(n.Format), By: by,
	})
	if err != nil {
		return nil, err
	}
	out, err := m.wire(ctx, s)
	if err != nil {
		return nil, err
	}
	out.Secret = s.Secret
	return out, nil
}

// List returns the subscriptions.
func (m Manager) List(ctx context.Context) ([]wire.Webhook, error) {
	if err := m.permit(); err != nil {
		return nil, err
	}
	all, err := m.Hooks.List(ctx)
	if err != nil {
		return nil, err
	}
	list := []wire.Webhook{}
	for _, s := range all {
		one, err := m.wire(ctx, s)
		if errkind.Of(err) == errkind.NotFound {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, *one)
	}
	return list, nil
}

// Show returns a subscription.
func (m Manager) Show(ctx context.Context, id string) (*wire.Webhook, error) {
	if err := m.permit(); err != nil {
		return nil, err
	}
	s, err := m.Hooks.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return m.wire(ctx, s)
}

// Deliveries returns the last attempts of a subscription, the latest first.
func (m Manager) Deliveries(ctx context.Context, id string) ([]wire.Delivery, error) {
	if err := m.permit(); err != nil {
		return nil, err
	}
	st, err := m.Hooks.Status(ctx, id)
	if err != nil {
		return nil, err
	}
	list := make([]wire.Delivery, 0, len(st.Deliveries))
	for _, d := range slices.Backward(st.Deliveries) {
		list = append(list, wireDelivery(d))
	}
	return list, nil
}

// Remove ends a subscription.
func (m Manager) Remove(ctx context.Context, id string) error {
	if err := m.permit(); err != nil {
		return err
	}
	return m.Hooks.Remove(ctx, id)
}

// Enable has a subscription that fails tried again at once.
func (m Manager) Enable(ctx context.Context, id string) error {
	if err := m.permit(); err != nil {
		return err
	}
	return m.Hooks.Enable(ctx, id)
}

// Redeliver sends an event of one of the last deliveries again; "" is the latest.
func (m Manager) Redeliver(ctx context.Context, id, event string) (*wire.Delivery, error) {
	if err := m.permit(); err != nil {
		return nil, err
	}
	st, err := m.Hooks.Status(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, d := range slices.Backward(st.Deliveries) {
		if event == "" || d.Event == event {
			again, err := m.Hooks.Redeliver(ctx, id, d)
			if err != nil {
				return nil, err
			}
			out := wireDelivery(again)
			return &out, nil
		}
	}
	return nil, fmt.Errorf("webhook %s: none of its last %d deliveries is of event %.100q: %w", id, webhook.MaxDeliveries, event, errkind.NotFound)
}

// wire is a subscription with how it does, without its secret.
func (m Manager) wire(ctx context.Context, s webhook.Subscription) (*wire.Webhook, error) {
	st, err := m.Hooks.Status(ctx, s.ID)
	if err != nil {
		return nil, err
	}
	out := &wire.Webhook{
		ID: s.ID, URL: s.URL, Events: orEmpty(s.Events), Entities: orEmpty(s.Entities), Environments: orEmpty(s.Envs), Format: string(s.Format),
		CreatedAt: stamp(s.Created), CreatedBy: s.By, Cursor: st.Cursor, Missed: st.Missed, Attempts: st.Attempts, NextAttempt: stamp(st.Next), Disabled: st.Disabled,
	}
	if st.Failing != nil {
		out.FailingSince = stamp(*st.Failing)
	}
	return out, nil
}

func wireDelivery(d webhook.Delivery) wire.Delivery {
	return wire.Delivery{
		Event: d.Event, Type: d.Type, At: stamp(d.At), Attempt: d.Attempt, Status: d.Status, Error: d.Error, TookMS: d.TookMS, Delivered: d.Error == "",
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
