// Package crdt has clocks, and data types whose copies merge to the same value in any order.
//
// A copy of a type is told writes, one after the other. Two copies that were told the same writes are equal, in whatever order each
// was told, and whether it was told some of them twice. This needs two things of whoever makes the writes: that a Tag never names two of
// them, and that a write says itself what it depends on (the override that it follows, the elements or siblings that it saw), so
// that nothing depends on the state that it meets.
//
// Writes that name earlier ones may come before these. What was seen and has not come yet is kept as a tombstone until it does: the
// callers' function known says which operations have come.
//
// Reads and writes of one copy must not be concurrent.
package crdt

import "strings"

// Origin says of an operation who made it, when and why.
type Origin struct {
	Dot    Dot
	Time   HLC
	Actor  string
	Class  string
	Name   string // how people call the actor
	Intent string
}

// Compare is the total order of operations: by time, then by actor, node and number.
func (o *Origin) Compare(p *Origin) int {
	switch {
	case o == p:
		return 0
	case o.Time != p.Time:
		return cmpUint(uint64(o.Time), uint64(p.Time))
	}
	if c := strings.Compare(o.Actor, p.Actor); c != 0 {
		return c
	}
	return Tag{Dot: o.Dot}.Compare(Tag{Dot: p.Dot})
}

// Entry is one write: a value, or that there is none (nil), and where it came from.
type Entry struct {
	*Origin
	N     uint32 // which of the operation's writes
	Value any
}

// Tag returns the write's name.
func (e *Entry) Tag() Tag { return Tag{e.Dot, e.N} }

// Compare is the total order of writes.
func (e *Entry) Compare(f *Entry) int {
	if c := e.Origin.Compare(f.Origin); c != 0 {
		return c
	}
	return cmpUint(uint64(e.N), uint64(f.N))
}

// later returns the later of two writes; either may be nil.
func later(a, b *Entry) *Entry {
	if a == nil || b != nil && a.Compare(b) < 0 {
		return b
	}
	return a
}

// LWW is a register in which the last write wins. Its zero value has none.
type LWW struct{ Best *Entry }

// Put tells the register of a write.
func (r *LWW) Put(e *Entry) { r.Best = later(r.Best, e) }
