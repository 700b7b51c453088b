package server

import (
	"fmt"
	"hash/maphash"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/limit"
	"github.com/skep-dev/skep/internal/policy"
)

// RateLimit is one limit on how often something may be asked for.
type RateLimit struct {
	Name    string
	Default limit.Quota
	Help    string // completes "how often …"
}

// rate is an index into rateLimits.
type rate uint8

const (
	rateFailedAuth rate = iota
	rateGuest
	rateGit
	rateAPIRead
	rateAPIWrite
	rateTenant
	rateLogin
	rateSSH
	rates // how many there are
)

// rateLimits are all limits on how often. The defaults leave room for a fleet of CI machines behind one address and for
// scripts that push in a loop; they are there so that one caller's mistake is not everybody's outage. The one that is
// strict is that on wrong credentials.
//
// Git asks without a credential first, even for what is private, so a fleet makes guests' requests too.
var rateLimits = [rates]RateLimit{
	rateFailedAuth: {"failed-auth", limit.Quota{Events: 30, Per: 3 * time.Minute}, "an address may present a credential that is wrong"},
	rateGuest:      {"guest", limit.Quota{Events: 6000, Per: time.Minute}, "an address may ask without a credential"},
	rateGit:        {"git", limit.Quota{Events: 12000, Per: time.Minute}, "a principal may make a request with git; a push or fetch is two or three"},
	rateAPIRead:    {"api-read", limit.Quota{Events: 12000, Per: time.Minute}, "a principal may read over REST"},
	rateAPIWrite:   {"api-write", limit.Quota{Events: 3000, Per: time.Minute}, "a principal may use another method than GET over REST"},
	rateTenant: {"tenant", limit.Quota{Events: 60000, Per: time.Minute}, "the repositories of a top-level tenant, and of the tenants below it, may be asked for; " +
		"requests without a credential are counted apart"},
	rateLogin: {"login", limit.Quota{Events: 60, Per: time.Minute}, "an address may begin or end a login, with a browser or for a terminal"},
	rateSSH:   {"ssh", limit.Quota{Events: 3000, Per: time.Minute}, "an address may connect by SSH"},
}

// RateLimits lists the limits on how often, for those who configure them.
func RateLimits() []RateLimit { return rateLimits[:] }

// LoopbackPrefixes are the addresses of this machine itself.
func LoopbackPrefixes() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// counter is a limit.Window or a limit.Bucket.
type counter interface {
	Take(k limit.Key) limit.Verdict
	Peek(k limit.Key) limit.Verdict
}

// rateLimiter holds the limits on how often, and what they have counted.
type rateLimiter struct {
	counters [rates]counter // nil: switched off
	policies [rates]string  // for RateLimit-Policy
	exempt   []netip.Prefix
	refused  [rates]prometheus.Counter

	// proven are hashes of an address and a credential that was good. Such a credential is looked at however many wrong
	// ones come from the same address: one CI machine with an expired token does not lock out the fleet around it, and who
	// guesses gains nothing, since what was good once is no guess. A hash is overwritten by another that falls into
	// its place, which costs its owner nothing as long as nobody near it guesses.
	proven [1 << 14]atomic.Uint64
	seed   maphash.Seed
}

func newRateLimiter(quotas map[string]limit.Quota, exempt []netip.Prefix) *rateLimiter {
	l := &rateLimiter{exempt: exempt, seed: maphash.MakeSeed()}
	for i, r := range rateLimits {
		q, ok := quotas[r.Name]
		if !ok {
			q = r.Default
		}
		switch {
		case q == limit.Quota{}:
		case rate(i) == rateFailedAuth:
			l.counters[i] = limit.NewWindow(q, limit.Options{}) // nothing is forgiven early
		default:
			l.counters[i] = limit.NewBucket(q, limit.Options{}) // who was refused does not have to wait for long
		}
		l.policies[i] = fmt.Sprintf("%q;q=%d;w=%d", r.Name, q.Events, seconds(q.Per))
	}
	for name := range quotas {
		if !known(name) {
			panic("bug: there is no limit named " + name)
		}
	}
	return l
}

func known(name string) bool {
	for _, r := range rateLimits {
		if r.Name == name {
			return true
		}
	}
	return false
}

// collector counts what was refused, by limit.
func (l *rateLimiter) collector() prometheus.Collector {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "skep_http_rate_limited_total", Help: "Requests answered 429, by the limit that refused them.",
	}, []string{"limit"})
	for i, r := range rateLimits {
		l.refused[i] = refused.WithLabelValues(r.Name)
	}
	return refused
}

// exempts reports whether an address's requests are not counted.
func (l *rateLimiter) exempts(a netip.Addr) bool {
	for _, p := range l.exempt {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// take counts a request, and is an error if that is one too many.
func (l *rateLimiter) take(c *call, r rate, k limit.Key) error {
	if l.counters[r] == nil || c.exempt {
		return nil
	}
	v := l.counters[r].Take(k)
	if r != rateTenant { // what remains of a tenant's quota is not everybody's business
		c.rate, c.verdict, c.counted = r, v, true
	}
	return l.judge(c, r, v)
}

func (l *rateLimiter) judge(c *call, r rate, v limit.Verdict) error {
	if v.Allowed {
		return nil
	}
	l.refused[r].Inc()
	c.rate, c.verdict, c.counted = r, v, true
	return rateLimited{r, v}
}

// caller counts a request of whoever makes it.
func (l *rateLimiter) caller(c *call) error {
	if c.principal.Anonymous() {
		return l.take(c, rateGuest, c.addressKey())
	}
	r := rateGit
	switch c.route {
	case routeAPIRead, routeLogin:
		r = rateAPIRead
	case routeAPIWrite:
		r = rateAPIWrite
	default:
	}
	return l.take(c, r, callerKey(c.principal))
}

// callerKey is as whom a principal is counted. All for whom a tenant's issuers speak are one: an issuer makes up as many as it likes.
func callerKey(p policy.Principal) limit.Key {
	if p.Within != "" {
		return limit.KeyOf(p.Within)
	}
	return limit.KeyOf(p.ID)
}

// tenantKey is under whom a request about a tenant's repository is counted. Strangers who read what is public cannot use
// up what members have.
type tenantKey struct {
	top   id.Tenant
	guest bool
}

// tenant counts a request about a tenant's repository, of somebody who may make it.
func (l *rateLimiter) tenant(c *call, p policy.Principal, lineage []id.Tenant) error {
	return l.take(c, rateTenant, limit.KeyOf(tenantKey{lineage[len(lineage)-1], p.Anonymous()}))
}

// attempt is somebody's try to be let in.
type attempt struct {
	hash  uint64 // of the address and the credential; 0: none was presented
	place *atomic.Uint64
}

// attempt finds the credential of a request, which may be that of a browser's session. It must be let through before the credential is looked at.
func (l *rateLimiter) attempt(c *call, r *http.Request, session string) attempt {
	if l.counters[rateFailedAuth] == nil || c.exempt {
		return attempt{}
	}
	presented, apiKeys := r.Header["Authorization"], r.Header["X-Api-Key"]
	certificate := auth.ClientCertificate(r)
	if len(presented)+len(apiKeys)+len(session) == 0 && certificate == nil {
		return attempt{}
	}
	var h maphash.Hash
	h.SetSeed(l.seed)
	maphash.WriteComparable(&h, c.address())
	for _, list := range [...][]string{presented, apiKeys} {
		for _, v := range list {
			_, _ = h.WriteString(v) // never fails
			_ = h.WriteByte(0)
		}
	}
	if certificate != nil {
		_, _ = h.Write(certificate.Raw)
	}
	_, _ = h.WriteString(session)
	a := attempt{hash: max(h.Sum64(), 1)}
	a.place = &l.proven[a.hash%uint64(len(l.proven))]
	return a
}

// begin is an error when too many wrong credentials came from the address, unless this one is known to be good.
func (l *rateLimiter) begin(c *call, a attempt) error {
	if a.hash == 0 || a.place.Load() == a.hash {
		return nil
	}
	return l.judge(c, rateFailedAuth, l.counters[rateFailedAuth].Peek(c.addressKey()))
}

// succeed remembers that a credential was good.
func (l *rateLimiter) succeed(a attempt) {
	if a.hash != 0 && a.place.Load() != a.hash {
		a.place.Store(a.hash)
	}
}

// fail counts a wrong credential. Of many that are presented at once, only as many as may be are told that they are wrong.
func (l *rateLimiter) fail(c *call, a attempt) error {
	if a.hash == 0 {
		return nil
	}
	return l.take(c, rateFailedAuth, c.addressKey())
}

// mayGuess is an error when too many wrong secrets came from the address of a call that presents one.
func (l *rateLimiter) mayGuess(c *call) error {
	if l.counters[rateFailedAuth] == nil || c.exempt {
		return nil
	}
	return l.judge(c, rateFailedAuth, l.counters[rateFailedAuth].Peek(c.addressKey()))
}

// guessed counts a wrong one.
func (l *rateLimiter) guessed(c *call) error { return l.take(c, rateFailedAuth, c.addressKey()) }

// rateLimited is the refusal of a request that was one too many.
type rateLimited struct {
	rate    rate
	verdict limit.Verdict
}

func (e rateLimited) Error() string {
	return fmt.Sprintf("too many requests (limit %s): try again in %d s", rateLimits[e.rate].Name, seconds(e.verdict.Retry))
}

func (e rateLimited) Unwrap() error { return errkind.RateLimited }

// seconds rounds up: who comes back after so many is not too early.
func seconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }

// rateHeaders says what a caller may still do
// (https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/).
func (l *rateLimiter) headers(c *call, h http.Header) {
	if !c.counted {
		return
	}
	h["Ratelimit-Policy"] = []string{l.policies[c.rate]}
	reset := c.verdict.Reset
	if !c.verdict.Allowed {
		reset = c.verdict.Retry
		h["Retry-After"] = []string{strconv.FormatInt(seconds(reset), 10)}
	}
	h["Ratelimit"] = []string{fmt.Sprintf("%q;r=%d;t=%d", rateLimits[c.rate].Name, c.verdict.Remaining, seconds(reset))}
}

// address is whom a limit on addresses counts: an IPv4 address, or the /64 of an IPv6 address, since a customer has at
// least so many of those.
func (c *call) address() netip.Addr {
	if a := c.peer; a.Is6() {
		const customer = 64
		return netip.PrefixFrom(a.WithZone(""), customer).Masked().Addr()
	}
	return c.peer
}

func (c *call) addressKey() limit.Key { return limit.KeyOf(c.address()) }
