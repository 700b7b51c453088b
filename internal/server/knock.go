package server

import (
	"context"
	"hash/maphash"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/policy"
)

// Knock is a connection by SSH until it is known who is there. It is owned by one goroutine.
type Knock struct {
	server *Server
	call   call
}

// Knock counts a connection from an address: errkind.RateLimited when it is one too many.
func (s *Server) Knock(from netip.Addr) (*Knock, error) {
	k := &Knock{server: s}
	k.call.peer = from
	k.call.exempt = s.rates.exempts(from)
	return k, s.rates.take(&k.call, rateSSH, k.call.addressKey())
}

// Offered finds the principal of a key or certificate that the client says it has. A key that is nobody's is no guess, and does not
// count: whoever has many of them in an agent offers one after the other. After too many failures from the address only one is looked at that
// was good before.
func (k *Knock) Offered(ctx context.Context, key ssh.PublicKey) (policy.Principal, error) {
	s := k.server
	if err := s.rates.begin(&k.call, s.rates.attemptKey(&k.call, key)); err != nil {
		return policy.Principal{}, err
	}
	return auth.FromSSH(ctx, s.control, key, k.call.peer, time.Now())
}

// Proven says that the client has shown to have the key or certificate of a principal.
func (k *Knock) Proven(key ssh.PublicKey, p policy.Principal) {
	k.server.rates.succeed(k.server.rates.attemptKey(&k.call, key))
	k.server.control.Used(string(p.Token), k.call.peer)
}

// Failed says that the client was let in with none of its keys: once for a connection, however many there were.
func (k *Knock) Failed() {
	_ = k.server.rates.guessed(&k.call) // the connection is over
}

// StillHas finds out whether a key or certificate that was good still is, and whose: errkind.Unauthorized when it is nobody's any more.
func (s *Server) StillHas(ctx context.Context, key ssh.PublicKey, from netip.Addr) (policy.Principal, error) {
	return auth.FromSSH(ctx, s.control, key, from, time.Now())
}

// attemptKey is attempt for a key or certificate.
func (l *rateLimiter) attemptKey(c *call, key ssh.PublicKey) attempt {
	if l.counters[rateFailedAuth] == nil || c.exempt {
		return attempt{}
	}
	var h maphash.Hash
	h.SetSeed(l.seed)
	maphash.WriteComparable(&h, c.address())
	_, _ = h.Write(key.Marshal()) // never fails
	a := attempt{hash: max(h.Sum64(), 1)}
	a.place = &l.proven[a.hash%uint64(len(l.proven))]
	return a
}
