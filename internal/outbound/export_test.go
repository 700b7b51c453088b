package outbound

import "time"

// SetPause makes tests not wait long between attempts.
func (c *Client) SetPause(d time.Duration) { c.pause = d }

// Public opens the judgement on addresses.
var Public = public

// Hosts counts the hosts whose failures are counted.
func (c *Client) Hosts() int { return len(c.breakers.young) + len(c.breakers.old) }

// BreakerOf makes a host known.
func (c *Client) BreakerOf(host string) { c.breakers.of(host) }

// The limits.
const (
	MaxHosts     = maxHosts
	MaxRedirects = maxRedirects
	MaxFailures  = maxFailures
)
