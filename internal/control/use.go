package control

import (
	"context"
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Use is when and from where a credential was used last: to the minute, and not before the first use.
type Use struct {
	Used     time.Time // zero: never, as far as is known
	UsedFrom string    // an address; empty when it is not known
}

func scanUse(r row, col int) Use { return Use{Used: r.Time(col), UsedFrom: r.Text(col + 1)} }

const (
	// useInterval is how often uses are written: so a credential's is at most once in this time.
	useInterval = time.Minute
	// maxUses bounds the credentials whose last use waits to be written. What comes on top is not noted: it will be used again.
	maxUses = 10_000
	// useBatch bounds the uses that are written in one transaction: others wait for it.
	useBatch = 500
	// useFlushTime bounds how long the end of Run waits for the last ones.
	useFlushTime = 5 * time.Second
)

// uses notes the last use of credentials, in memory until Run writes it.
//
// Each request notes one, so most must not meet at a lock: noted has, in the place of a credential, a hash of it and of the minute in which
// it was noted last. A credential that finds its hash there has nothing to do.
type uses struct {
	seed  maphash.Seed
	noted [1 << 12]atomic.Uint64

	mu      sync.Mutex
	pending map[string]Use // by the credential's identifier; guarded by mu
}

func (u *uses) init() { u.seed, u.pending = maphash.MakeSeed(), map[string]Use{} }

// Used notes that somebody was let in with a credential: a token, an issuer, a certificate, an SSH key or authority, by its identifier.
func (c *Control) Used(credential string, from netip.Addr) {
	if useQuery(credential) == "" {
		return // a signed token, which is in no table: its issuer is noted
	}
	now := c.now()
	type moment struct {
		credential string
		minute     int64
	}
	h := max(maphash.Comparable(c.uses.seed, moment{credential, now.UnixNano() / int64(useInterval)}), 1)
	place := &c.uses.noted[maphash.String(c.uses.seed, credential)%uint64(len(c.uses.noted))]
	if place.Load() == h {
		return
	}
	place.Store(h)
	use := Use{Used: now.UTC().Truncate(time.Microsecond)}
	if from.IsValid() {
		use.UsedFrom = from.String()
	}
	c.uses.mu.Lock()
	defer c.uses.mu.Unlock()
	if _, ok := c.uses.pending[credential]; ok || len(c.uses.pending) < maxUses {
		c.uses.pending[credential] = use
	}
}

// add brings what was read of a credential's use up to what this node has not written yet.
func (u *uses) add(credential string, use *Use) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if p, ok := u.pending[credential]; ok && p.Used.After(use.Used) {
		*use = p
	}
}

// take returns some of what is pending.
func (u *uses) take(most int) map[string]Use {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := map[string]Use{}
	for k, use := range u.pending {
		if len(out) == most {
			break
		}
		out[k] = use
		delete(u.pending, k)
	}
	return out
}

// runUses writes what was noted until ctx ends, and then the rest.
func (c *Control) runUses(ctx context.Context) {
	tick := time.NewTicker(useInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.writeUses(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), useFlushTime)
			defer cancel()
			c.writeUses(last)
			return
		}
	}
}

// writeUses writes all that is pending. What cannot be written is lost: it is a hint for people.
func (c *Control) writeUses(ctx context.Context) {
	for batch := c.uses.take(useBatch); len(batch) > 0; batch = c.uses.take(useBatch) {
		err := c.db.Write(ctx, func(q conn) error {
			for _, credential := range slices.Sorted(maps.Keys(batch)) { // in the same order as other nodes
				use := batch[credential]
				if err := q.Exec(useQuery(credential), use.Used, use.UsedFrom, credential, use.Used); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			c.log.WarnContext(ctx, "last uses of credentials cannot be written", "error", err)
			return
		}
	}
}

// useQuery finds the table of a credential by the prefix of its identifier; empty: it is in none.
func useQuery(credential string) string {
	kind, _, _ := strings.Cut(credential, "_")
	switch kind {
	case "tok":
		return "UPDATE token SET used = ?, used_from = ? WHERE token_id = ? AND used < ?"
	case "iss":
		return "UPDATE issuer SET used = ?, used_from = ? WHERE issuer_id = ? AND used < ?"
	case "sca":
		return "UPDATE ssh_authority SET used = ?, used_from = ? WHERE authority_id = ? AND used < ?"
	case "key":
		return "UPDATE ssh_key SET used = ?, used_from = ? WHERE key_id = ? AND used < ?"
	case "dpl":
		return "UPDATE deploy_key SET used = ?, used_from = ? WHERE key_id = ? AND used < ?"
	case "crt":
		return "UPDATE certificate SET used = ?, used_from = ? WHERE certificate_id = ? AND used < ?"
	}
	return ""
}
