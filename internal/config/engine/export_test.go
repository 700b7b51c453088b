package engine

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
