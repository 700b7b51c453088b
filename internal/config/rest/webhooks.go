package rest

import (
	"context"
	"fmt"
	"net/http"

	"github.com/skep-dev/skep/internal/config/hooks"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

// OneWebhook names a subscription.
type OneWebhook struct {
	ID string `path:"id" maxLength:"40"`
}

// Redelivering names a subscription whose events are sent again.
type Redelivering struct {
	JustBody
	OneWebhook
}

type added struct {
	Status       int
	CacheControl string `header:"Cache-Control"`
	Body         *wire.Webhook
}

func (a *routes) webhooks() {
	handleBody(a, a.op(http.MethodPost, "/webhooks", "webhook", "Have an address told of what happens"), a.addWebhook)
	handle(a, a.op(http.MethodGet, "/webhooks", "webhooks", "List the addresses that are told of what happens"), a.listWebhooks)
	handle(a, a.op(http.MethodGet, "/webhooks/{id}", "webhook-show", "See how a webhook does"), a.showWebhook)
	handle(a, a.op(http.MethodDelete, "/webhooks/{id}", "webhook-remove", "Tell an address nothing any more"), a.removeWebhook)
	handle(a, a.op(http.MethodGet, "/webhooks/{id}/deliveries", "webhook-deliveries", "List a webhook's last deliveries, the latest first"), a.listDeliveries)
	handleBody(a, a.op(http.MethodPost, "/webhooks/{id}/redeliver", "webhook-redeliver", "Send an event again"), a.redeliver)
	handle(a, a.op(http.MethodPost, "/webhooks/{id}/enable", "webhook-enable", "Try a webhook again that fails or was disabled"), a.enableWebhook)
}

func manager(c *Caller) (m hooks.Manager, err error) {
	if c.Webhooks == nil {
		return m, fmt.Errorf("there are no webhooks in this place: %w", errkind.NotFound)
	}
	return hooks.Manager{Hooks: c.Webhooks, By: c.Caller}, nil
}

func (a *routes) addWebhook(ctx context.Context, c *Caller, _ *JustBody, n *wire.NewWebhook) (*added, error) {
	m, err := manager(c)
	if err != nil {
		return nil, err
	}
	w, err := m.Add(ctx, n)
	if err != nil {
		return nil, err
	}
	return &added{http.StatusCreated, "no-store", w}, nil
}

func (a *routes) listWebhooks(ctx context.Context, c *Caller, _ *struct{}) (*body[wire.WebhookList], error) {
	m, err := manager(c)
	if err != nil {
		return nil, err
	}
	list, err := m.List(ctx)
	if err != nil {
		return nil, err
	}
	return &body[wire.WebhookList]{wire.WebhookList{Webhooks: list}}, nil
}

func (a *routes) showWebhook(ctx context.Context, c *Caller, in *OneWebhook) (*body[*wire.Webhook], error) {
	m, err := manager(c)
	if err != nil {
		return nil, err
	}
	w, err := m.Show(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &body[*wire.Webhook]{w}, nil
}

func (a *routes) removeWebhook(ctx context.Context, c *Caller, in *OneWebhook) (*struct{}, error) {
	m, err := manager(c)
	if err != nil {
		return nil, err
	}
	return nil, m.Remove(ctx, in.ID)
}

func (a *routes) listDeliveries(ctx context.Context, c *Caller, in *OneWebhook) (*body[wire.Deliveries], error) {
	m, err := manager(c)
	if err != nil {
		return nil, err
	}
	list, err := m.Deliveries(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &body[wire.Deliveries]{wire.Deliveries{Deliveries: list}}, nil
}

func (a *routes) redeliver(ctx context.Context, c *Caller, in *Redelivering, again *wire.Again) (*body[*wire.Delivery], error) {
	m, err := manager(c)
	if err != nil {
		return nil, err
	}
	d, err := m.Redeliver(ctx, in.ID, again.Event)
	if err != nil {
		return nil, err
	}
	return &body[*wire.Delivery]{d}, nil
}

func (a *routes) enableWebhook(ctx context.Context, c *Caller, in *OneWebhook) (*body[*wire.Webhook], error) {
	m, err := manager(c)
	if err != nil {
		return nil, err
	}
	if err := m.Enable(ctx, in.ID); err != nil {
		return nil, err
	}
	return a.showWebhook(ctx, c, in)
}
