package sshd

import (
	"context"
	"net/netip"
	"slices"
	"sync"
)

// door bounds how many connections an address has, and how many are between being accepted and being let in.
type door struct {
	perAddress int
	handshakes chan struct{}
	perGuest   int // of the handshakes

	mu   sync.Mutex
	from map[netip.Addr]*guest // guarded by mu
	line []*turn               // those that have a place for a handshake or wait for one, the oldest first; guarded by mu
}

// guest is an address that has connections.
type guest struct {
	network, site netip.Addr
	conns         int // guarded by door.mu
	handshakes    chan struct{}
}

// turn is one handshake.
type turn struct {
	*guest
	placed bool   // it has its place; guarded by door.mu
	end    func() // ends it, and does not wait for that
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
	g := d.from[network(a)]
	if g == nil {
		g = &guest{network: network(a), site: site(a), handshakes: make(chan struct{}, d.perGuest)}
		d.from[g.network] = g
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
	if g := d.from[network(a)]; g != nil {
		if g.conns--; g.conns == 0 {
			delete(d.from, g.network)
		}
	}
}

// greet waits for a place for a handshake, first among those of the address, so that what waits there keeps no other address out. When all
// places are taken, another's handshake may have to end for it: then its end is called. false: ctx ended before.
func (d *door) greet(ctx context.Context, g *guest, end func()) (done func(), ok bool) {
	if !take(ctx, g.handshakes) {
		return nil, false
	}
	t := &turn{guest: g, end: end}
	d.stand(t)
	if !take(ctx, d.handshakes) {
		d.forget(t)
		<-g.handshakes
		return nil, false
	}
	d.mu.Lock()
	t.placed = true
	d.mu.Unlock()
	return func() {
		d.forget(t)
		<-d.handshakes
		<-g.handshakes
	}, true
}

// stand puts a handshake in the line. When all places are taken, it makes one free.
func (d *door) stand(t *turn) {
	d.mu.Lock()
	d.line = append(d.line, t)
	var last *turn
	if len(d.line) > cap(d.handshakes) {
		last = d.crowding(t)
		d.drop(last)
	}
	d.mu.Unlock()
	if last != nil {
		last.end()
	}
}

// crowding is the handshake that has to end for another: the oldest of the address that has the most places, in the site that has the most.
// nil: nobody has so many more than the newcomer that it would be fairer after. Waiting counts as having for the newcomer alone, so that
// many who come at once cannot each make the others end.
func (d *door) crowding(newcomer *turn) *turn {
	sites, networks := map[netip.Addr]int{}, map[netip.Addr]int{}
	ownSite, ownNetwork := 0, 0
	for _, t := range d.line {
		if t.site == newcomer.site {
			ownSite++
		}
		if t.network == newcomer.network {
			ownNetwork++
		}
		if t.placed {
			sites[t.site]++
			networks[t.network]++
		}
	}
	var found *turn
	for _, t := range d.line {
		if t.placed && (found == nil || sites[t.site] > sites[found.site] ||
			t.site == found.site && networks[t.network] > networks[found.network]) {
			found = t
		}
	}
	switch {
	case found == nil:
		return nil
	case found.site != newcomer.site && sites[found.site] > ownSite,
		found.site == newcomer.site && networks[found.network] > ownNetwork:
		return found
	}
	return nil
}

func (d *door) forget(t *turn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(t)
}

// drop takes a handshake out of the line, if it is there. The caller holds mu.
func (d *door) drop(t *turn) {
	if i := slices.Index(d.line, t); i >= 0 {
		d.line = slices.Delete(d.line, i, i+1)
	}
}

func take(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
