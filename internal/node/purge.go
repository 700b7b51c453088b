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
// With several nodes, one that has not the cells of a repository, or the log of a document, removes the record alone: the others are garbage
// then on the node that made them, as they are when a repository is deleted.
func (n *Node) purge(ctx context.Context) {
	grace := n.opts.DeleteGrace
	if grace == 0 {
		grace = server.DefaultDeleteGrace
	}
	tick := time.NewTicker(min(grace, maxPurgeInterval))
	defer tick.Stop()
	for {
		more, err := n.control.Purge(ctx, time.Now().Add(-grace), remover{n})
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

// remover removes the bytes of what is purged.
type remover struct{ node *Node }

// RemoveCell removes a repository's cell.
func (r remover) RemoveCell(ctx context.Context, repo control.Repo) error {
	return r.node.router.Delete(ctx, repo.Tenant, repo.ID)
}

// RemoveLog removes a document's log.
func (r remover) RemoveLog(ctx context.Context, d control.Document) error {
	return r.node.documents.Delete(ctx, d.ID)
}
