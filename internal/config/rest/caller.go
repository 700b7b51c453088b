package rest

import (
	"context"

	"github.com/skep-dev/skep/internal/config/service"
	"github.com/skep-dev/skep/internal/config/sign"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/webhook"
)

// Caller is a document as the one who makes a request has it, with what is beside it in the place that is asked.
type Caller struct {
	*service.Caller
	Milestones Milestones
	Webhooks   *webhook.Hooks        // nil: there are none in this place
	Keys       func() *sign.Registry // whose signatures are good
	Release    func()                // called when the request is done; nil: there is nothing to release
}

// Milestones makes milestones, and finds them again. It asks for permission to make one.
type Milestones interface {
	Create(ctx context.Context, c *service.Caller, n wire.NewMilestone) (*wire.Milestone, error)
	List(ctx context.Context, limit int) ([]wire.Milestone, error)
	Show(ctx context.Context, commit string) (*wire.Milestone, error)
	// Automatic says how those do that are made by themselves; nil if none are.
	Automatic(ctx context.Context) (*wire.Automatic, error)
}
