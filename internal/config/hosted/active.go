package hosted

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/hooks"
	"github.com/skep-dev/skep/internal/config/publish"
	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/webhook"
)

// activeShare is how much of the places of open documents those take at most that are active: one in two.
const activeShare = 2

// activeTenants is the part of these that one tenant has at most: one in five.
const activeTenants = 5

// activePage is how many records are read at once.
const activePage = 200

// Auto reads when a document makes milestones by itself.
func Auto(m *control.Milestones) (publish.Auto, error) {
	if m.Every == "" && m.After == 0 && m.Quiet == "" && len(m.Environments) == 0 && m.Message == "" {
		return publish.Auto{}, nil
	}
	a := publish.Auto{After: uint64(max(0, m.After)), Environments: m.Environments, Message: m.Message}
	for _, d := range []struct {
		name, text string
		to         *time.Duration
	}{{"every", m.Every, &a.Every}, {"quiet", m.Quiet, &a.Quiet}} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err != nil {
			return publish.Auto{}, fmt.Errorf("milestones: %s: %.40q is no duration: write one such as 30s or 1h: %w", d.name, d.text, errkind.Invalid)
		}
		*d.to = v
	}
	if err := a.Check(); err != nil {
		return publish.Auto{}, fmt.Errorf("milestones: %w", err)
	}
	return a, nil
}

// webhooks are those of a document.
func (h *Documents) webhooks(ctx context.Context, d control.Document, doc *engine.Document) *webhook.Hooks {
	base := func() (name string) {
		_ = doc.View(func(s *config.State) error { name = s.Schema().Base(); return nil })
		return name
	}
	store := &sealed{
		Store: hooks.Store(doc.Meta()), document: string(d.ID),
		key: func(ctx context.Context) ([]byte, error) { return h.opts.Control.DocumentsKey(ctx, d.Tenant) },
		begin: func(ctx context.Context) error {
			if err := h.opts.Control.ActivateDocument(ctx, d.ID); err != nil {
				return err
			}
			h.wake()
			return nil
		},
	}
	may := func(sub *webhook.Subscription) error {
		s := service.New(doc, service.Options{Access: h.opts.Host().DocumentAccess(ctx, d, base)})
		return hooks.May(s)(sub)
	}
	return webhook.New(store, hooks.NewSource(doc), h.sends, webhook.Options{May: may, Logger: h.opts.Log})
}

// wake has Run look at the records.
func (h *Documents) wake() {
	select {
	case h.changed <- struct{}{}:
	default: // it will look anyway
	}
}

// active are the documents that do something without being asked. It is owned by Run.
type active struct {
	*Documents

	running map[id.Document]*worker
	group   sync.WaitGroup
	crowded bool // it was told that there are too many
}

// worker has one document do so.
type worker struct {
	updated time.Time // of the record
	cancel  context.CancelFunc
	ended   chan struct{}
}

// look begins and ends workers, as the records say.
func (a *active) look(ctx context.Context) error {
	wanted, crowded, ofTenant := map[id.Document]bool{}, false, map[id.Tenant]int{}
	most := a.opts.MaxOpen / activeShare
	perTenant := max(1, most/activeTenants)
	for after := id.Document(""); ; {
		page, err := a.opts.Control.Documents(ctx, control.DocumentFilter{Active: true}, after, activePage)
		if err != nil {
			return err
		}
		for _, d := range page {
			after = d.ID
			if len(wanted) == most || ofTenant[d.Tenant] == perTenant {
				crowded = true
				continue
			}
			ofTenant[d.Tenant]++
			wanted[d.ID] = true
			a.begin(ctx, d)
		}
		if len(page) < activePage || len(wanted) == most {
			break
		}
	}
	if crowded && !a.crowded {
		a.opts.Log.ErrorContext(ctx, "too many documents make milestones by themselves or have webhooks: those of the others wait",
			"at_most", most, "of_one_tenant", perTenant)
	}
	a.crowded = crowded
	for d, w := range a.running {
		if !wanted[d] {
			w.cancel()
			delete(a.running, d)
		}
	}
	return nil
}

// begin has a document work, unless it does. With a record that has changed it begins anew.
func (a *active) begin(ctx context.Context, d control.Document) {
	if w := a.running[d.ID]; w != nil {
		select {
		case <-w.ended:
		default:
			if w.updated.Equal(d.Updated) {
				return
			}
			w.cancel()
			<-w.ended
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &worker{updated: d.Updated, cancel: cancel, ended: make(chan struct{})}
	a.running[d.ID] = w
	a.group.Go(func() {
		defer close(w.ended)
		defer cancel()
		if err := a.work(ctx, d); err != nil && ctx.Err() == nil && !errors.Is(err, errkind.NotFound) { // its log is on another node
			a.opts.Log.ErrorContext(ctx, "document does not do what it should by itself", "document", d.ID, "error", err)
		}
	})
}

func (a *active) work(ctx context.Context, d control.Document) error {
	open, err := a.Use(ctx, d)
	if err != nil {
		return err
	}
	defer open.Release()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return open.Publisher.Run(ctx) })
	group.Go(func() error { return open.Webhooks.Run(ctx) })
	return group.Wait()
}

// end ends all workers, and waits for them.
func (a *active) end() {
	for _, w := range a.running {
		w.cancel()
	}
	a.group.Wait()
}
