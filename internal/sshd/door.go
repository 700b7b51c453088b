package sshd

import (
	"context"
	"net/netip"
	"sync"
)

// door bounds how many connections an address has, and how many are between being accepted and being let in.
type door struct {
	perAddress int
	handshakes chan struct{}
	perGuest   int // of the handshakes

	mu   sync.Mutex
	from map[netip.Addr]*guest // guarded by mu
}

// guest is an address that has connections.
type guest struct {
	conns      int // guarded by door.mu
	handshakes chan struct{}
}

func newDoor(perAddress, handshakes int) *door {
	return &door{
		perAddress: perAddress, handshakes: make(chan struct{}, handshakes), perGuest: max(1, handshakes/4),
		from: map[netip.Addr]*guest{},
	}
}

// come counts a connection from an address; nil: it has too many. Whoever got a guest calls leave.
func (d *door) come(a netip.Addr) *guest {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.from[a]
	if g == nil {
		g = &guest{handshakes: make(chan struct{}, d.perGuest)}
		d.from[a] = g
	}
	if g.conns >= d.perAddress {
		return nil
	}
	g.conns++
	return g
}

func (d *door) leave(a netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if g := d.from[a]; g != nil {
		if g.conns--; g.conns == 0 {
			delete(d.from, a)
		}
	}
}

// greet waits for a place for a handshake, first among those of the address, so that what waits there keeps no other address out. false:
// ctx ended before.
func (d *door) greet(ctx context.Context, g *guest) (done func(), ok bool) {
	if !take(ctx, g.handshakes) {
		return nil, false
	}
	if !take(ctx, d.handshakes) {
		<-g.handshakes
		return nil, false
	}
	return func() {
		<-d.handshakes
		<-g.handshakes
	}, true
}

func take(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
