package daemon

import (
	"context"
	"net/http"

	"github.com/skep-dev/skep/internal/config/peers"
	"github.com/skep-dev/skep/internal/config/replica"
	"github.com/skep-dev/skep/internal/policy"
)

// copies keeps the document and its other copies equal. Peers may ask whether or not this one knows them.
type copies struct {
	*replica.Replica
	transport *peers.Transport
	peers     []string
}

func (d *Daemon) openCopies() error {
	settings := &d.work.Settings.Replication
	key, err := peers.ReadKey(d.work.Dir, settings.KeyFile)
	if err != nil {
		return err
	}
	c := &copies{transport: peers.NewTransport(key), peers: settings.Peers}
	c.Replica = replica.New(d.work.Service.Document(), c.transport, func() []string { return c.peers }, replica.Options{Logger: d.log})
	d.copies = c
	return nil
}

// run exchanges operations with peers until ctx ends. Without any there is nothing to do.
func (c *copies) run(ctx context.Context) error {
	defer c.transport.Close()
	if len(c.peers) == 0 {
		return nil
	}
	return c.Run(ctx) //nolint:wrapcheck // it is nil
}

// permitCopy lets through who may write anything, since what a peer brings was permitted where it was made.
func (d *Daemon) permitCopy(r *http.Request) error {
	return d.work.Service.Permit(callOf(r.Context()).actor, policy.ConfigAdmin, "", "", "")
}
