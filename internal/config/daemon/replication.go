package daemon

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/skep-dev/skep/internal/bus"
	"github.com/skep-dev/skep/internal/config/busreplica"
	"github.com/skep-dev/skep/internal/config/engine"
	"github.com/skep-dev/skep/internal/config/peers"
	"github.com/skep-dev/skep/internal/config/replica"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// copies keeps the document and its other copies equal. Peers may ask whether or not this one knows them.
type copies struct {
	*replica.Replica
	doc       *engine.Document
	transport *peers.Transport
	peers     []string
	bus       bus.Options // without a URL: there is none
	busKey    string
	link      atomic.Pointer[busreplica.Link] // nil: it does not run
}

func (d *Daemon) openCopies() error {
	settings := &d.work.Settings.Replication
	key, err := peers.ReadKey(d.work.Dir, settings.KeyFile)
	if err != nil {
		return err
	}
	at := func(name string) string {
		if name == "" || filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(d.work.Dir, name)
	}
	c := &copies{
		doc: d.work.Service.Document(), transport: peers.NewTransport(key), peers: settings.Peers,
		bus: bus.Options{URL: settings.Bus, CredentialsFile: at(settings.BusCredentialsFile), CAFile: at(settings.BusCAFile), Name: "skep config daemon", Log: d.log},
	}
	if settings.Bus != "" {
		if c.busKey, err = peers.ReadKey(d.work.Dir, settings.BusKeyFile); err != nil {
			return err
		}
		if c.busKey == "" {
			return fmt.Errorf("replicate over the bus: set bus_key_file in the table [replication] to a file with the key that the copies share: "+
				"make it with openssl rand -base64 32: %w", errkind.Invalid)
		}
	}
	c.Replica = replica.New(c.doc, c.transport, func() []string { return c.peers }, replica.Options{Logger: d.log})
	d.copies = c
	return nil
}

// run exchanges operations with peers, and over the bus, until ctx ends. Without any there is nothing to do.
func (c *copies) run(ctx context.Context) error {
	defer c.transport.Close()
	if len(c.peers) == 0 && c.bus.URL == "" {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.Run(ctx) })
	if c.bus.URL != "" {
		group.Go(func() error { return c.runBus(ctx) })
	}
	return group.Wait() //nolint:wrapcheck // the parts' own
}

func (c *copies) runBus(ctx context.Context) error {
	conn, err := bus.Connect(ctx, c.bus)
	if err != nil {
		return err //nolint:wrapcheck // it says what it is
	}
	defer conn.Close()
	link, err := busreplica.New(conn, c.doc, c.Replica, c.busKey, busreplica.Options{Logger: c.bus.Log})
	if err != nil {
		return err //nolint:wrapcheck // it says what it is
	}
	c.link.Store(link)
	defer c.link.Store(nil)
	return link.Run(ctx) //nolint:wrapcheck // it says what it is
}

// status says how this copy does.
func (c *copies) status() any {
	var s struct {
		replica.Status
		Bus *busreplica.Status `json:"bus,omitempty"`
	}
	s.Status = c.Status()
	if link := c.link.Load(); link != nil {
		b := link.Status()
		s.Bus = &b
	}
	return s
}

// permitCopy lets through who may write anything, since what a peer brings was permitted where it was made.
func (d *Daemon) permitCopy(r *http.Request) error {
	return d.work.Service.Permit(callOf(r.Context()).actor, policy.ConfigAdmin, "", "", "")
}
