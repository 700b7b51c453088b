package workspace

import (
	"log/slog"
	"net/netip"
	"net/url"
	"time"

	"github.com/skep-dev/skep/internal/config/hooks"
	"github.com/skep-dev/skep/internal/outbound"
	"github.com/skep-dev/skep/internal/webhook"
)

// Webhooks says where the daemon may send what happens.
type Webhooks struct {
	Allow      []netip.Prefix `toml:"allow" comment:"Networks that may be sent to although they are not public, and without TLS: 10.0.0.0/8"`
	Repository string         `toml:"repository" comment:"The milestones' repository, as those who fetch from it write it; empty: the address in [git]"`
}

// lookForHooks is how often the daemon looks for what other processes have to tell, and whom.
const lookForHooks = 2 * time.Second

// Webhooks returns the document's webhooks.
func (w *Workspace) Webhooks(log *slog.Logger) *webhook.Hooks {
	doc := w.Service.Document()
	return webhook.New(hooks.Store(doc.Meta()), hooks.NewSource(doc), w.client, webhook.Options{Poll: lookForHooks, May: hooks.May(w.Service), Logger: log})
}

// client reaches what the settings permit.
func (s *Settings) client() *outbound.Client {
	return outbound.New(outbound.Options{Allow: s.Webhooks.Allow, AllowedBy: "allow in [webhooks] of config.toml", NoRedirects: true})
}

// fetchedFrom is the address by which others have the milestones' repository; "" of a folder of which nothing is said.
func (w *Workspace) fetchedFrom() string {
	if w.Settings.Webhooks.Repository != "" {
		return w.Settings.Webhooks.Repository
	}
	if !w.Remote() {
		return ""
	}
	u, err := url.Parse(w.Settings.Git.Repository)
	if err != nil || u.User == nil {
		return w.Settings.Git.Repository // user@host:path is no URL, and has no password
	}
	if _, secret := u.User.Password(); secret || u.Scheme != "ssh" {
		u.User = nil // it may be a token
	}
	return u.String()
}
