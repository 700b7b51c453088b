package certs

import "time"

// CheckEvery replaces how often handshakes look at the files.
func (f *Files) CheckEvery(d time.Duration) { f.pair.every = d }

// CheckEvery replaces how often handshakes look at the file.
func (a *ClientCAs) CheckEvery(d time.Duration) { a.pool.every = d }
