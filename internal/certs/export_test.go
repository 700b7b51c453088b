package certs

import "time"

// CheckEvery replaces how often handshakes look at the files.
func (f *Files) CheckEvery(d time.Duration) { f.every = d }
