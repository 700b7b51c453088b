//go:build unix

package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// pause waits as precisely as the system can: the timers of an idle Go program are late by up to a millisecond, which would be measured as
// the daemon's.
func pause(d time.Duration) {
	left := unix.NsecToTimeval(d.Nanoseconds())
	_, _ = unix.Select(0, nil, nil, nil, &left) // a signal ends it early, and the caller looks at the clock
}
