package publish_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/skep-dev/skep/internal/config/hooks"
	"github.com/skep-dev/skep/internal/config/publish"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/outbound"
	"github.com/skep-dev/skep/internal/webhook"
)

// Webhooks are told of each milestone, whoever made it: what they are told is in the document's log before anything is delivered.
func TestWebhooksAreToldOfMilestones(t *testing.T) {
	t.Parallel()
	a := newAuto(t, publish.Auto{After: 3})
	client := outbound.New(outbound.Options{})
	defer client.Close()
	a.opts.Webhooks = webhook.New(hooks.Store(a.doc.Meta()), nil, client, webhook.Options{})
	if _, err := a.opts.Webhooks.Add(t.Context(), webhook.Subscription{URL: "https://ci.example/"}); err != nil {
		t.Fatal(err)
	}
	a.restart()
	a.set("replicas", int64(1))
	a.set("replicas", int64(2))
	a.quietly(0)
	a.set("replicas", int64(3))
	by := &service.Caller{Service: service.New(a.doc, service.Options{}), Actor: zara}
	if _, err := a.Create(t.Context(), by, wire.NewMilestone{Message: "by hand"}); err != nil {
		t.Fatal(err)
	}
	made := a.list()
	kept, err := a.doc.Meta().ListMeta(t.Context(), "webhook/event/", "", 0)
	if err != nil || len(made) != 2 || len(kept) != 2 {
		t.Fatalf("%d milestones, %d events, %v", len(made), len(kept), err)
	}
	before := ""
	for i, m := range []wire.Milestone{made[1], made[0]} {
		var e webhook.Event
		var p hooks.Payload
		if err := json.Unmarshal(kept[i].Value, &e); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(e.Bodies[webhook.Plain], &p); err != nil {
			t.Fatal(err)
		}
		c := p.Milestone
		if e.Type != hooks.Committed || c.Commit != m.ID || c.Before != before || c.Branch != "main" || c.Operations != m.Operations || c.Message != m.Text {
			t.Errorf("event %d is %+v, want milestone %+v after %q", i, c, m, before)
		}
		if files := append(c.Added, c.Modified...); !slices.Contains(files, "production/services.yaml") || len(c.Removed) > 0 {
			t.Errorf("event %d has files %v", i, files)
		}
		before = m.ID
	}
}
