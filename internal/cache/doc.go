// Package cache has caches bounded by bytes, with one load per key at a time.
//
// LRU keeps values in memory. Answers keeps finished answers to fetches, small ones in memory and large ones in files,
// and lets those who ask for the same answer at the same time share one run of whoever makes it.
package cache
