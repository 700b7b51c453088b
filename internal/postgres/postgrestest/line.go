package postgrestest

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Line is a way to the server over TCP on loopback that a test can cut.
type Line struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	cut   bool              // guarded by mu
	conns map[net.Conn]bool // guarded by mu
}

// NewLine makes a line that the test's end closes. It needs a New before it.
func NewLine(tb testing.TB) *Line {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	l := &Line{listener: listener, conns: map[net.Conn]bool{}}
	l.wg.Go(l.accept)
	tb.Cleanup(func() {
		_ = listener.Close()
		l.Cut()
		l.wg.Wait()
	})
	return l
}

// Address leads over the line to the database of an address that New gave.
func (l *Line) Address(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic("bug: " + err.Error())
	}
	u.Host, u.User = l.listener.Addr().String(), url.User(superuser)
	u.RawQuery = "sslmode=disable"
	return u.String()
}

// Cut ends all connections and takes no more.
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for c := range l.conns {
		_ = c.Close()
	}
}

// Mend takes connections again.
func (l *Line) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

func (l *Line) accept() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		l.wg.Go(func() { l.carry(c) })
	}
}

func (l *Line) carry(client net.Conn) {
	server, err := net.Dial("unix", Socket())
	if err != nil || !l.keep(client) {
		_ = client.Close()
		if err == nil {
			_ = server.Close()
		}
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { join(server, client) })
	wg.Go(func() { join(client, server) })
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, client)
}

// join copies until one end closes, and then closes both.
func join(to, from net.Conn) {
	_, _ = io.Copy(to, from) // whatever ended it, the connection has ended
	_, _ = to.Close(), from.Close()
}

func (l *Line) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.cut {
		l.conns[c] = true
	}
	return !l.cut
}
