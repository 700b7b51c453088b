// Package bustest starts NATS servers for tests, and cuts the lines to them.
package bustest

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// patience is how long a server may take to be ready, on a machine that is busy.
const patience = time.Minute

// Server is a NATS server in this process.
type Server struct {
	tb   testing.TB
	opts *server.Options
	now  *server.Server
}

// New starts a server on a free port of 127.0.0.1. change, which may be nil, changes its options before.
func New(tb testing.TB, change func(*server.Options)) *Server {
	tb.Helper()
	opts := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true}
	if change != nil {
		change(opts)
	}
	s := &Server{tb: tb, opts: opts}
	s.Start()
	tb.Cleanup(s.Stop)
	return s
}

// Start starts the server again on the port that it had.
func (s *Server) Start() {
	s.tb.Helper()
	now, err := server.NewServer(s.opts.Clone())
	if err != nil {
		s.tb.Fatal(err)
	}
	now.Start()
	if !now.ReadyForConnections(patience) {
		s.tb.Fatal("the NATS server does not start")
	}
	s.now = now
	s.opts.Port = now.Addr().(*net.TCPAddr).Port //nolint:errcheck // it listens on TCP
}

// Stop stops the server, as if its machine was gone.
func (s *Server) Stop() {
	s.now.Shutdown()
	s.now.WaitForShutdown()
}

// URL is the server's address.
func (s *Server) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.opts.Port) }

// Cluster starts servers that hand each other messages, and waits until each knows all others.
func Cluster(tb testing.TB, n int) []*Server {
	tb.Helper()
	// Each takes a free port for the others, which are told of the first one's: it tells them of each other.
	list := []*Server{}
	for i := range n {
		list = append(list, New(tb, func(o *server.Options) {
			o.ServerName = fmt.Sprintf("s%d", i)
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT}
			if i > 0 {
				o.Routes = []*url.URL{{Scheme: "nats", Host: list[0].now.ClusterAddr().String()}}
			}
		}))
		list[i].opts.Cluster.Port = list[i].now.ClusterAddr().Port
	}
	for _, s := range list {
		for deadline := time.Now().Add(patience); s.routes() < n-1; {
			if time.Now().After(deadline) {
				tb.Fatal("the NATS servers do not find each other")
			}
			<-time.After(time.Millisecond) // they tell nobody when they do
		}
	}
	return list
}

// routes returns how many other servers the server is connected to.
func (s *Server) routes() int {
	known := map[string]bool{}
	r, err := s.now.Routez(nil)
	if err != nil {
		return 0
	}
	for _, route := range r.Routes {
		known[route.RemoteID] = true
	}
	return len(known)
}

// Line is a way to a server over TCP that a test can cut.
type Line struct {
	to       string
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	cut   bool              // guarded by mu
	conns map[net.Conn]bool // guarded by mu
}

// NewLine makes a line to an address that the test's end closes.
func NewLine(tb testing.TB, to string) *Line {
	tb.Helper()
	u, err := url.Parse(to)
	if err != nil {
		tb.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	l := &Line{to: u.Host, listener: listener, conns: map[net.Conn]bool{}}
	l.wg.Go(l.accept)
	tb.Cleanup(func() {
		_ = listener.Close()
		l.Cut()
		l.wg.Wait()
	})
	return l
}

// URL is the line's address.
func (l *Line) URL() string { return "nats://" + l.listener.Addr().String() }

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
			return
		}
		l.wg.Go(func() { l.carry(c) })
	}
}

// keep notes a connection, or closes it if the line is cut.
func (l *Line) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		_ = c.Close()
		return false
	}
	l.conns[c] = true
	return true
}

func (l *Line) carry(c net.Conn) {
	far, err := net.Dial("tcp", l.to)
	if err != nil {
		_ = c.Close()
		return
	}
	if !l.keep(c) || !l.keep(far) {
		_, _ = c.Close(), far.Close()
		return
	}
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, far}, {far, c}} {
		wg.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_, _ = way[0].Close(), way[1].Close()
		})
	}
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	delete(l.conns, far)
}
