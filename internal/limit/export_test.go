package limit

import "time"

// SetClock replaces the monotonic clock.
func (t *table[S, R]) SetClock(now func() time.Duration) { t.now = now }

// Slack is how much longer than it must an event counts in a Window.
func (w *Window) Slack() time.Duration { return w.rule.slice }

// Each is how long a Bucket takes to leak one event.
func (b *Bucket) Each() time.Duration { return b.rule.each }
