package main

import (
	"context"
	"errors"
	"net"
	"sync"
)

// link is the network between one writer and the daemon: a TCP proxy that can be cut.
type link struct {
	target   func() string
	listener net.Listener

	mu     sync.Mutex
	open   chan struct{} // closed while bytes pass; guarded by mu, as all below
	refuse bool          // who connects is reset
	conns  map[*net.TCPConn]struct{}

	pumps sync.WaitGroup
}

// cut is a way in which a network fails.
type cut int

const (
	hang  cut = iota // nothing passes, and nobody is told; what was sent arrives when it is over
	lost             // the same, but what was sent is gone: connections are reset when it is over
	reset            // connections are reset at once, and no new one can be made
	cuts             // how many ways there are
)

func (c cut) String() string { return [...]string{"hang", "hang, then reset", "reset"}[c] }

func newLink(ctx context.Context, target func() string) (*link, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{target: target, listener: ln, open: make(chan struct{}), conns: map[*net.TCPConn]struct{}{}}
	close(l.open)
	return l, nil
}

func (l *link) address() string { return l.listener.Addr().String() }

// run passes connections on until ctx ends.
func (l *link) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = l.listener.Close() })
	defer stop()
	for {
		c, err := l.listener.Accept()
		if err != nil {
			l.heal(reset)
			l.abort()
			l.pumps.Wait()
			if ctx.Err() == nil {
				return err
			}
			return nil // it was closed because ctx ended
		}
		client, ok := c.(*net.TCPConn)
		if !ok {
			return errors.New("bug: a TCP listener without TCP connections")
		}
		l.pumps.Go(func() { l.serve(ctx, client) })
	}
}

func (l *link) serve(ctx context.Context, client *net.TCPConn) {
	if !l.add(client) {
		return
	}
	defer l.remove(client)
	<-l.passing()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", l.target())
	if err != nil {
		kill(client)
		return
	}
	server, ok := c.(*net.TCPConn)
	if !ok || !l.add(server) {
		kill(client)
		return
	}
	defer l.remove(server)
	var both sync.WaitGroup
	both.Go(func() { l.pump(server, client) })
	both.Go(func() { l.pump(client, server) })
	both.Wait()
}

// pump passes bytes on in one direction.
func (l *link) pump(to, from *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		<-l.passing()
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				kill(from)
				return
			}
		}
		if err != nil {
			_ = to.CloseWrite()
			return
		}
	}
}

// passing returns a channel that is closed once bytes pass.
func (l *link) passing() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

func (l *link) add(c *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse {
		kill(c)
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *link) remove(c *net.TCPConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	_ = c.Close()
}

// kill resets a connection.
func kill(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

func (l *link) abort() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		kill(c)
	}
}

// cut parts the writer from the daemon.
func (l *link) cut(how cut) {
	l.mu.Lock()
	l.open, l.refuse = make(chan struct{}), how == reset
	l.mu.Unlock()
	if how == reset {
		l.abort()
	}
}

// heal ends a cut.
func (l *link) heal(how cut) {
	if how == lost {
		l.abort()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = false
	select {
	case <-l.open:
	default:
		close(l.open)
	}
}
