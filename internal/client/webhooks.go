package client

import (
	"context"
	"net/http"

	"github.com/skep-dev/skep/internal/config/wire"
)

// Webhooks are the addresses that are told of what happens to a document: for who administers it.
type Webhooks struct{ d *Configuration }

// Webhooks returns those of the document.
func (d *Configuration) Webhooks() *Webhooks { return &Webhooks{d} }

// Add has an address told of what happens from now on. The secret that requests are signed with comes back this once.
func (w *Webhooks) Add(ctx context.Context, n *wire.NewWebhook) (*wire.Webhook, error) {
	return send[*wire.Webhook](ctx, w.d.c, http.MethodPost, w.d.path+"/webhooks", n)
}

// List lists the webhooks.
func (w *Webhooks) List(ctx context.Context) ([]wire.Webhook, error) {
	out, err := get[wire.WebhookList](ctx, w.d.c, w.d.path+"/webhooks", nil)
	return out.Webhooks, err
}

// Show finds a webhook, and says how it does.
func (w *Webhooks) Show(ctx context.Context, id string) (*wire.Webhook, error) {
	return get[*wire.Webhook](ctx, w.d.c, w.path(id), nil)
}

// Deliveries lists the last deliveries of a webhook, the latest first.
func (w *Webhooks) Deliveries(ctx context.Context, id string) ([]wire.Delivery, error) {
	out, err := get[wire.Deliveries](ctx, w.d.c, w.path(id)+"/deliveries", nil)
	return out.Deliveries, err
}

// Remove has an address told nothing any more.
func (w *Webhooks) Remove(ctx context.Context, id string) error {
	return w.d.c.do(ctx, call{method: http.MethodDelete, path: w.path(id)}, nil)
}

// Enable has a webhook tried again that fails or was disabled.
func (w *Webhooks) Enable(ctx context.Context, id string) error {
	return w.d.c.do(ctx, call{method: http.MethodPost, path: w.path(id) + "/enable", in: struct{}{}}, nil)
}

// Redeliver sends an event of one of the last deliveries again, or ("") that of the latest.
func (w *Webhooks) Redeliver(ctx context.Context, id, event string) (*wire.Delivery, error) {
	return send[*wire.Delivery](ctx, w.d.c, http.MethodPost, w.path(id)+"/redeliver", wire.Again{Event: event})
}

func (w *Webhooks) path(id string) string { return w.d.path + "/webhooks/" + segment(id) }
