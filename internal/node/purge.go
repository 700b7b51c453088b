package node

import (
	"context"
	"time"

	"github.com/skep-dev/skep/internal/control"
	"github.com/skep-dev/skep/internal/server"
)

// maxPurgeInterval is how often at least the node looks for deleted tenants whose time is over.
const maxPurgeInterval = time.Hour

// purge removes for good what was deleted longer than the grace period ago, until ctx ends. The first look is at the start.
//
// With several nodes, one that has not the cells of a repository removes its record alone: the cells are garbage then on the node
// that made them, as they are when a repository is deleted.
func (n *Node) purge(ctx context.Context) {
	grace := n.opts.DeleteGrace
	if grace == 0 {
		grace = server.DefaultDeleteGrace
	}
	tick := time.NewTicker(min(grace, maxPurgeInterval))
	defer tick.Stop()
	for {
		more, err := n.control.Purge(ctx, time.Now().Add(-grace), func(r control.Repo) error {
			return n.router.Delete(ctx, r.Tenant, r.ID)
		})
		if err != nil && ctx.Err() == nil {
			n.opts.Log.ErrorContext(ctx, "deleted tenants are not purged", "error", err)
		}
		if more && err == nil {
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
