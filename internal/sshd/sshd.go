// Package sshd is the SSH server: it lets git in with keys and certificates, and runs its three commands and nothing else.
//
//	keys, err := sshd.OpenHostKeys(dir)
//	s := sshd.New(gitServer, sshd.Options{HostKeys: keys})
//	err = s.Run(ctx, listener) // until ctx ends; then running commands finish
//
// What may be done with which repository, how often and by how many at once, package server says, as it does over HTTP. Here are what SSH
// adds to it: connections, which are nobody's until they have shown a key, and the sessions in them.
//
// What callers may rely on:
//   - no program is run, no shell, terminal, forwarding, agent or subsystem is there, and of the client's environment only GIT_PROTOCOL
//     is looked at;
//   - the user name is not looked at: the key says who it is. So all addresses can be alike, git@HOST as everywhere, and none tells
//     who has it. A certificate's principals are names of accounts here, whatever the user name is;
//   - a key that is removed, a certificate that expires, an authority that is no longer trusted: within recheckInterval the connections
//     that came with it end, in the middle of a transfer too.
package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/conns"
	"github.com/skep-dev/skep/internal/peer"
	"github.com/skep-dev/skep/internal/server"
)

// Limits that are not options: nobody has had a reason to change them.
const (
	// maxOffers is how many keys a client may offer: agents have some, and each costs a look-up. OpenSSH's server takes 6, which people with
	// many keys know from its refusals.
	maxOffers = 20
	// maxSessions bounds the sessions of one connection at a time, for clients that share one. Each may have 2 MiB waiting to be read.
	maxSessions = 8
	// maxRequests bounds what a client asks for in a session before its command: a variable of its environment each.
	maxRequests = 100
	// commandTime is how long a session may be open before its command comes, and closeTime how long a client may take to confirm that one is
	// closed which ran nothing.
	commandTime, closeTime = 30 * time.Second, 5 * time.Second
	// silentTime is how long a connection may take until it has said which SSH it speaks and begun to exchange keys: programs do that at once.
	silentTime = 5 * time.Second
	// emptyTime is how long a connection may be open without a session: those who share one begin another soon.
	emptyTime = 2 * time.Minute
	// recheckInterval is how often it is looked up whether a connection's key still counts.
	recheckInterval = 2 * time.Second
	// keepAliveInterval is how often a client is asked whether it is there, and keepAliveTime how long it may take to answer.
	keepAliveInterval, keepAliveTime = 30 * time.Second, 90 * time.Second
	// maxVariable bounds the value of GIT_PROTOCOL.
	maxVariable = 1 << 10
	// abortTime is how long connections that were cut off may take to notice.
	abortTime = 5 * time.Second
)

// Options are the server's settings. HostKeys is needed; else the zero Options works.
type Options struct {
	Log      *slog.Logger
	HostKeys []ssh.Signer
	Proxies  peer.Proxies // who speaks for others, by the PROXY protocol; the zero one is nobody

	MaxConns      int // open connections; 0: 4096
	MaxPerAddress int // of one address; 0: a quarter
	// MaxHandshakes bounds the connections that are nobody's yet: others wait; 0: 256. One address has a quarter of them, and when there are no
	// more, whoever has the most loses one to whoever has fewer.
	MaxHandshakes int

	LoginTimeout time.Duration // in which a connection must be somebody's; 0: 30 s
	// IdleTimeout ends a command whose client neither sends nor takes anything for so long; 0: 10 min. Git may have to think for minutes before
	// it sends a large pack; whether it is there at all is asked meanwhile.
	IdleTimeout  time.Duration
	DrainTimeout time.Duration // how long running commands may go on after Run's context has ended; 0: 30 s

	commandTime, closeTime, silentTime time.Duration // the constants, where no test shortens them
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	def(&o.MaxConns, 4096)
	def(&o.MaxPerAddress, max(1, o.MaxConns/4))
	def(&o.MaxHandshakes, 256)
	def(&o.LoginTimeout, 30*time.Second)
	def(&o.IdleTimeout, 10*time.Minute)
	def(&o.DrainTimeout, 30*time.Second)
	def(&o.commandTime, commandTime)
	def(&o.closeTime, closeTime)
	def(&o.silentTime, silentTime)
	return o
}

// def sets an option that was left zero.
func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Server serves git over SSH.
type Server struct {
	git      *server.Server
	opts     Options
	log      *slog.Logger
	door     *door
	refused  *prometheus.CounterVec
	accepted prometheus.Counter

	mu    sync.Mutex
	conns map[*conn]struct{} // those who are let in; guarded by mu
	ended bool               // none is let in any more; guarded by mu
}

// New makes a server in front of another, which it does not close.
func New(git *server.Server, opts Options) *Server {
	opts = opts.withDefaults()
	s := &Server{git: git, opts: opts, log: opts.Log, conns: map[*conn]struct{}{}}
	s.door = newDoor(opts.MaxPerAddress, opts.MaxHandshakes)
	s.accepted = prometheus.NewCounter(prometheus.CounterOpts{Name: "skep_ssh_logins_total", Help: "SSH connections that were let in."})
	s.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "skep_ssh_refused_total", Help: "SSH connections that were not: no key that is known, too many at once or too often, or no SSH.",
	}, []string{"reason"})
	for _, r := range []string{refusedKey, refusedMany, refusedOften, refusedBroken} {
		s.refused.WithLabelValues(r)
	}
	return s
}

// Why a connection is not let in.
const (
	refusedKey    = "key"
	refusedMany   = "too_many"
	refusedOften  = "too_often"
	refusedBroken = "broken"
)

// Collectors are what it counts.
func (s *Server) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.accepted, s.refused, prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "skep_ssh_connections", Help: "SSH connections that are let in."},
		func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(len(s.conns))
		})}
}

// Run serves ln until ctx ends. Then it stops accepting, lets running commands finish for up to DrainTimeout, cuts off those that have
// not, and returns when the last connection is closed.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	base, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()
	limited := conns.Limit(s.opts.Proxies.Listen(ln), s.opts.MaxConns)
	var wg sync.WaitGroup
	served := make(chan error, 1)
	go func() {
		served <- s.accept(limited, func(nc net.Conn) { wg.Go(func() { s.serve(base, nc) }) })
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve SSH at %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	err := limited.Close()
	if e := <-served; !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	s.drain()
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	patience := time.NewTimer(s.opts.DrainTimeout)
	defer patience.Stop()
	select {
	case <-done:
		return err
	case <-patience.C:
	}
	s.log.WarnContext(base, "SSH connections cut off at shutdown", "after", s.opts.DrainTimeout)
	cutOff()
	abort := time.NewTimer(abortTime)
	defer abort.Stop()
	select {
	case <-done:
		return err
	case <-abort.C:
		return errors.Join(err, errors.New("SSH connections are still open after they were cut off"))
	}
}

// accept hands connections on until the listener is closed. A failure that passes, as when there are no more files, is waited for.
func (s *Server) accept(ln net.Listener, handle func(net.Conn)) error {
	const pause = 50 * time.Millisecond
	for {
		nc, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			s.log.Warn("SSH connection cannot be accepted", "error", err)
			time.Sleep(pause)
		default:
			handle(nc)
		}
	}
}

// drain closes the connections without sessions, and lets no other in.
func (s *Server) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for c := range s.conns {
		c.closeIfEmpty()
	}
}

// enter makes a connection one of those that are let in; false: it came too late.
func (s *Server) enter(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

func (s *Server) draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// network is whom the limits count as one address: an IPv4 address, or the /64 of an IPv6 address, of which a customer has at least one.
func network(a netip.Addr) netip.Addr { return masked(a, 64) }

// site is whom handshakes count as one besides: an IPv4 address, or the /48 of an IPv6 address, which is what larger customers get (RFC 6177).
func site(a netip.Addr) netip.Addr { return masked(a, 48) }

func masked(a netip.Addr, bits int) netip.Addr {
	if !a.Is6() {
		return a
	}
	return netip.PrefixFrom(a.WithZone(""), bits).Masked().Addr()
}

// addressOf is from where a connection comes; the zero Addr is not known.
func addressOf(nc net.Conn) netip.Addr {
	a, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return a.AddrPort().Addr().Unmap()
}
