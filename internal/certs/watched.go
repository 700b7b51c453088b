package certs

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// checkEvery is how often handshakes look whether files have changed: a few calls of stat a second cost nothing, and whoever
// renews a certificate does not wait for more.
const checkEvery = time.Second

// watched is what some files hold, read again when they change.
type watched[T any] struct {
	names []string
	load  func() (T, error)
	log   *slog.Logger
	every time.Duration

	mu      sync.Mutex
	current T         // guarded by mu, as all below
	from    []version // of current
	checked time.Time
	failure string // the last that was logged
}

// version tells whether a file has changed.
type version struct {
	at   time.Time
	size int64
}

// open reads the files for the first time.
func (w *watched[T]) open() error {
	w.every = checkEvery
	v, err := w.stat()
	if err == nil {
		w.current, err = w.load()
	}
	w.from, w.checked = v, time.Now()
	return err
}

func (w *watched[T]) stat() ([]version, error) {
	out := make([]version, len(w.names))
	for i, name := range w.names {
		f, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("look at certificates: %w", err)
		}
		out[i] = version{f.ModTime(), f.Size()}
	}
	return out, nil
}

// get returns the newest content that can be used.
func (w *watched[T]) get() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.checked) >= w.every {
		w.checked = time.Now()
		w.refresh()
	}
	return w.current
}

// refresh reads the files if they have changed since they were last read with success. It holds mu over reading small
// files: the handshakes that wait for it want to know the result.
func (w *watched[T]) refresh() {
	v, err := w.stat()
	if err == nil && slices.Equal(v, w.from) {
		return
	}
	var fresh T
	if err == nil {
		fresh, err = w.load()
	}
	if err != nil {
		if text := err.Error(); text != w.failure { // not once a second
			w.failure = text
			w.log.Error("new certificate cannot be used: the old one stays", "error", err)
		}
		return
	}
	w.current, w.from, w.failure = fresh, v, ""
	w.log.Info("certificate loaded", "file", w.names[0])
}
