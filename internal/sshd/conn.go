package sshd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
	"github.com/skep-dev/skep/internal/server"
)

// conn is a connection that is somebody's.
type conn struct {
	server *Server
	nc     net.Conn
	ssh    *ssh.ServerConn
	from   netip.Addr
	key    ssh.PublicKey // or certificate, with which it came

	mu       sync.Mutex
	sessions int       // guarded by mu
	empty    time.Time // since when there are none; guarded by mu
	ended    bool      // it is being closed; guarded by mu
}

// serve serves one connection to its end.
func (s *Server) serve(ctx context.Context, nc net.Conn) {
	defer nc.Close()
	from := addressOf(nc) // what a proxy says is read here, within a time of its own
	g := s.door.come(from)
	if g == nil {
		s.refuse(ctx, nc, refusedMany, nil)
		return
	}
	defer s.door.leave(from)
	knock, err := s.git.Knock(from)
	if err != nil {
		s.refuse(ctx, nc, refusedOften, err)
		return
	}
	sc, chans, reqs, why, err := s.handshake(ctx, nc, g, knock)
	if err != nil {
		s.refuse(ctx, nc, why, err)
		return
	}
	p, key := holder(sc.Permissions)
	knock.Proven(key, p)
	c := &conn{server: s, nc: nc, ssh: sc, from: from, key: key, empty: time.Now()}
	if !s.enter(c) {
		return
	}
	defer s.leave(c)
	s.accepted.Inc()
	s.log.DebugContext(ctx, "SSH connection let in", "remote", nc.RemoteAddr().String(), "principal", string(p.ID), "client", clip(string(sc.ClientVersion())))
	c.run(ctx, chans, reqs)
}

func (s *Server) refuse(ctx context.Context, nc net.Conn, why string, err error) {
	if ctx.Err() != nil {
		return // the server stops
	}
	s.refused.WithLabelValues(why).Inc()
	level := slog.LevelInfo
	if why == refusedBroken { // port scanners
		level = slog.LevelDebug
	}
	s.log.Log(ctx, level, "SSH connection refused", "remote", nc.RemoteAddr().String(), "reason", why, "error", err)
}

// handshake finds out who is there. It has a time for all of it, the wait for a place included.
func (s *Server) handshake(ctx context.Context, nc net.Conn, g *guest, knock *server.Knock) (
	_ *ssh.ServerConn, _ <-chan ssh.NewChannel, _ <-chan *ssh.Request, why string, err error,
) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	ctx, cancel := context.WithTimeout(ctx, s.opts.LoginTimeout)
	defer cancel()
	done, ok := s.door.greet(ctx, g, func() { end(errCrowded) })
	if !ok {
		return nil, nil, nil, refusedMany, ctx.Err()
	}
	defer done()
	// Whoever sends a byte now and then gains no time by it.
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	silent := time.AfterFunc(s.opts.silentTime, cancel)
	defer silent.Stop()
	offered := 0
	config := s.config(func() { silent.Stop() }, func(key ssh.PublicKey) (policy.Principal, error) {
		offered++
		return knock.Offered(ctx, key)
	})
	sc, chans, reqs, err := ssh.NewServerConn(nc, config)
	switch {
	case err == nil && !stop():
		err = context.DeadlineExceeded
	case err == nil:
		return sc, chans, reqs, "", nil
	}
	if errors.Is(context.Cause(ctx), errCrowded) {
		return nil, nil, nil, refusedMany, errCrowded // which is no failure of its keys
	}
	if offered == 0 {
		return nil, nil, nil, refusedBroken, err
	}
	knock.Failed()
	return nil, nil, nil, refusedKey, err
}

type (
	principalKey struct{}
	publicKey    struct{}
)

// errCrowded ends a handshake whose place another needs.
var errCrowded = errors.New("another address needed the place of this handshake")

// witness is a host key that says when it signs: then the client has said which SSH it speaks, and begun to exchange keys. What follows may
// take people long, who are asked whether the host is the one they mean.
type witness struct {
	ssh.Signer
	signs func()
}

// Sign signs as the key does.
func (w *witness) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	w.signs()
	return w.Signer.Sign(rand, data) //nolint:wrapcheck // it stands for the key
}

// Algorithms are those of the key: of an RSA key not all that there are for such.
func (w *witness) Algorithms() []string {
	if s, ok := w.Signer.(ssh.MultiAlgorithmSigner); ok {
		return s.Algorithms()
	}
	return []string{w.PublicKey().Type()}
}

// SignWithAlgorithm is Sign where the client has chosen how.
func (w *witness) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	w.signs()
	if s, ok := w.Signer.(ssh.AlgorithmSigner); ok {
		return s.SignWithAlgorithm(rand, data, algorithm) //nolint:wrapcheck // as above
	}
	return w.Signer.Sign(rand, data) //nolint:wrapcheck // as above
}

// config is how one connection is spoken to. It calls begun when the client has begun to exchange keys.
func (s *Server) config(begun func(), find func(ssh.PublicKey) (policy.Principal, error)) *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		Config:                  ssh.Config{KeyExchanges: keyExchanges, Ciphers: ciphers, MACs: macs},
		PublicKeyAuthAlgorithms: userKeys,
		MaxAuthTries:            maxOffers,
		ServerVersion:           "SSH-2.0-Skep",
		// It is called for each key that the client asks about, and says nothing of the one that it then signs with: that is the
		// one whose Permissions the connection gets.
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			p, err := find(key)
			if err != nil {
				return nil, explained(err)
			}
			return &ssh.Permissions{ExtraData: map[any]any{principalKey{}: p, publicKey{}: key}}, nil
		},
	}
	for _, k := range s.opts.HostKeys {
		c.AddHostKey(&witness{k, begun})
	}
	return c
}

func holder(p *ssh.Permissions) (policy.Principal, ssh.PublicKey) {
	who, ok := p.ExtraData[principalKey{}].(policy.Principal)
	key, known := p.ExtraData[publicKey{}].(ssh.PublicKey)
	if !ok || !known {
		panic("bug: a connection that was let in without a key")
	}
	return who, key
}

// explained lets the client show why a credential is refused, where its holder may know that: of a key that is nobody's there is nothing
// to say.
func explained(err error) error {
	if why, ok := errors.AsType[auth.Refusal](err); ok {
		return &ssh.BannerError{Err: err, Message: "skep: " + string(why) + "\n"}
	}
	if errkind.Of(err) == errkind.RateLimited {
		return &ssh.BannerError{Err: err, Message: "skep: " + explain(err) + "\n"}
	}
	return err
}

// run serves a connection's sessions until it is closed.
func (c *conn) run(ctx context.Context, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.nc.Close() })
	defer stop()
	// Everything that is asked of the connection as a whole is refused: forwarding first of all.
	wg.Go(func() { ssh.DiscardRequests(reqs) })
	wg.Go(func() { c.keepAlive(ctx) })
	wg.Go(func() { c.watch(ctx) })
	for ch := range chans {
		if ch.ChannelType() != "session" {
			_ = ch.Reject(ssh.Prohibited, "only git is served here: nothing is forwarded") // the connection may be gone
			continue
		}
		if !c.begin() {
			_ = ch.Reject(ssh.ResourceShortage, "this connection has too many sessions") // as above
			continue
		}
		wg.Go(func() {
			defer c.end()
			c.session(ctx, ch)
		})
	}
}

// begin counts a session; false: there may be no other.
func (c *conn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.sessions >= maxSessions {
		return false
	}
	c.sessions++
	return true
}

func (c *conn) end() {
	c.mu.Lock()
	c.sessions--
	c.empty = time.Now()
	c.mu.Unlock()
	if c.server.draining() {
		c.closeIfEmpty()
	}
}

// closeIfEmpty closes a connection that has no sessions.
func (c *conn) closeIfEmpty() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sessions == 0 {
		c.ended = true
		_ = c.nc.Close() // it is of no use any more
	}
}

// keepAlive asks the client whether it is there, so that one which has gone without a word holds nothing for long.
func (c *conn) keepAlive(ctx context.Context) {
	tick := time.NewTicker(keepAliveInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		late := time.AfterFunc(keepAliveTime, func() { _ = c.nc.Close() })
		_, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil)
		late.Stop()
		if err != nil {
			return // it is closed
		}
	}
}

// watch closes the connection when its key does not count any more, or when nobody has used it for long.
func (c *conn) watch(ctx context.Context) {
	tick := time.NewTicker(recheckInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.mu.Lock()
		unused := c.sessions == 0 && time.Since(c.empty) > emptyTime
		c.mu.Unlock()
		if unused {
			c.closeIfEmpty()
			continue // a session may just have begun
		}
		if err := c.counts(ctx); err != nil && ctx.Err() == nil {
			c.server.log.InfoContext(ctx, "SSH connection cut off: its key does not count any more", "remote", c.nc.RemoteAddr().String(), "error", err)
			_ = c.nc.Close() // what it transfers ends with it
			return
		}
	}
}

// counts finds out whether the connection's key still counts. That it cannot be found out is no reason to cut off what was begun: what is
// begun then is refused.
func (c *conn) counts(ctx context.Context) error {
	_, err := c.server.git.StillHas(ctx, c.key, c.from)
	if errors.Is(err, errkind.Unauthorized) || errors.Is(err, errkind.Invalid) {
		return err
	}
	return nil
}
