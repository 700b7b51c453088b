package engine

import "github.com/skep-dev/skep/internal/crdt"

// Waiting returns how many batches wait.
func Waiting(d *Document) int {
	d.queue.mu.Lock()
	defer d.queue.mu.Unlock()
	return len(d.queue.waiting)
}

// Recent returns how many events are kept, and the bytes of their texts.
func Recent(d *Document) (n, bytes int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.recent.list), d.recent.bytes
}

// The limits of what is kept for those who watch.
const (
	MaxRecent      = maxRecent
	MaxRecentBytes = maxRecentBytes
	MaxHanded      = maxHanded
)

// Places is where operations are.
type Places = places

// Add says that an operation is in a record.
func (p places) Add(d crdt.Dot, seq uint64) { p.add(d, seq) }

// Of returns the record of an operation.
func (p places) Of(d crdt.Dot) uint64 { return p.of(d) }

// Missing returns the records of what is not in a version.
func (p places) Missing(theirs *crdt.Dots, limit int) []uint64 { return p.missing(theirs, limit) }
