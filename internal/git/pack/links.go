package pack

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// maxOutsideLinks bounds the objects that a pack may name beyond its own, each of which is looked up in the store. A push
// that changes one file names what its trees hold, at most some hundred thousand.
const maxOutsideLinks = 2 << 20

const (
	// linkShards keeps workers out of each other's way; the filters leave few calls per worker.
	linkShards   = 64
	linkShardMin = 16 // slots of a fresh shard: a push of one commit names a handful
	// linkFilter is how many recent links a worker remembers. Versions of a tree name nearly the same things, so most
	// links end here, in the processor's cache.
	linkFilter = 4096
	// linkParts has a set's slots, of which a third may be free, on the heap for as many objects as other arrays.
	linkParts = linkShards / 2
)

// linkSet is the set of objects that the objects of a pack name, each once, with what kind it must be. Safe for
// concurrent use. Its keys come from outside, so they are hashed with a secret seed: else a client could choose
// keys that all collide.
type linkSet struct {
	mem    *arena
	seed   maphash.Seed
	own    atomic.Int64 // how many objects the pack has, as far as known
	size   atomic.Int64
	shards [linkShards]linkShard
}

type linkShard struct {
	mu    sync.Mutex
	slots []linkSlot // guarded by mu; a power of two of them
	used  int        // guarded by mu
}

// linkSlot is free when its kind is zero.
type linkSlot struct {
	oid  git.OID
	meta uint32 // kind, linkMet, and from linkFrom on the number of an object that names it
}

const (
	linkKind = 7 // of meta: the kind
	linkMet  = 8 // in meta: the pack has it
	linkFrom = 4 // as a shift
	// maxLinkFrom is the largest number that meta has room for.
	maxLinkFrom = 1<<(32-linkFrom) - 1
)

func (s *linkSlot) kind() git.Kind { return git.Kind(s.meta & linkKind) }

func (s *linkSlot) missing() bool { return s.meta != 0 && s.meta&linkMet == 0 }

func newLinkSet(mem *arena) *linkSet { return &linkSet{mem: mem, seed: maphash.MakeSeed()} }

// allow makes room for links to the pack's own objects.
func (s *linkSet) allow(objects int) { s.own.Store(int64(objects)) }

// add notes that object from names o as a kind.
func (s *linkSet) add(o git.OID, kind git.Kind, from uint32) error {
	h := maphash.Bytes(s.seed, o[:])
	sh := &s.shards[h>>58]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.used >= len(sh.slots)/4*3 {
		if err := s.grow(sh); err != nil {
			return err
		}
	}
	slot := sh.find(h, o)
	switch slot.kind() {
	case kind:
		return nil
	case 0:
		*slot = linkSlot{oid: o, meta: uint32(kind) | from<<linkFrom}
		sh.used++
		if s.size.Add(1) > s.own.Load()+maxOutsideLinks {
			return fmt.Errorf("pack names more than %d objects that it does not have: %w", maxOutsideLinks, errkind.TooLarge)
		}
		return nil
	default:
		return fmt.Errorf("object %s is named both as a %s and as a %s: %w", o, slot.kind(), kind, errkind.Invalid)
	}
}

// find returns the slot of o, or the free slot where it belongs. There is always a free one.
func (sh *linkShard) find(h uint64, o git.OID) *linkSlot {
	mask := uint64(len(sh.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		if slot := &sh.slots[i]; slot.meta == 0 || slot.oid == o {
			return slot
		}
	}
}

// grow doubles a shard. The caller holds its mu; of the other workers, few need this one shard meanwhile.
func (s *linkSet) grow(sh *linkShard) error {
	old := sh.slots
	slots, err := newPart[linkSlot](s.mem, max(linkShardMin, 2*len(old)), linkParts)
	if err != nil {
		return err
	}
	sh.slots = slots
	for i := range old {
		if old[i].meta != 0 {
			*sh.find(maphash.Bytes(s.seed, old[i].oid[:]), old[i].oid) = old[i]
		}
	}
	release(s.mem, old)
	return nil
}

// release gives the set's memory back.
func (s *linkSet) release() {
	for i := range s.shards {
		release(s.mem, s.shards[i].slots)
		s.shards[i] = linkShard{}
	}
}

// meet says that the pack has o, and returns whether another object names it.
func (s *linkSet) meet(o git.OID, kind git.Kind) (named bool, err error) {
	h := maphash.Bytes(s.seed, o[:])
	sh := &s.shards[h>>58]
	if sh.used == 0 {
		return false, nil
	}
	slot := sh.find(h, o)
	if slot.meta == 0 {
		return false, nil
	}
	if slot.kind() != kind {
		return true, fmt.Errorf("object %s is a %s, but is named as a %s: %w", o, kind, slot.kind(), errkind.Invalid)
	}
	slot.meta |= linkMet
	return true, nil
}

// missing counts what was named and never met.
func (s *linkSet) missing() (n int) {
	for i := range s.shards {
		for j := range s.shards[i].slots {
			if s.shards[i].slots[j].missing() {
				n++
			}
		}
	}
	return n
}

// appendMissing appends what was named and never met, in no order. There is room for it.
func (s *linkSet) appendMissing(out []Link, oids []git.OID) []Link {
	for i := range s.shards {
		for j := range s.shards[i].slots {
			if slot := &s.shards[i].slots[j]; slot.missing() {
				out = append(out, Link{OID: slot.oid, Kind: slot.kind(), From: oids[slot.meta>>linkFrom]})
			}
		}
	}
	return out
}

func compareLinks(a, b Link) int {
	return cmp.Or(bytes.Compare(a.OID[:], b.OID[:]), cmp.Compare(a.Kind, b.Kind))
}

// linkCollector finds the links of one worker's objects and adds what it has not just seen to the set.
type linkCollector struct {
	set   *linkSet
	count int        // links so far, up to linkFilter
	seen  []seenLink // a direct-mapped memory of recent links; nil while there are few
}

type seenLink struct {
	oid  git.OID
	kind git.Kind
}

func (c *linkCollector) add(o git.OID, kind git.Kind, from uint32) error {
	if c.seen == nil {
		if c.count++; c.count < linkFilter {
			return c.set.add(o, kind, from)
		}
		c.seen = make([]seenLink, linkFilter)
	}
	slot := &c.seen[binary.LittleEndian.Uint16(o[:])%linkFilter]
	if slot.kind == kind && slot.oid == o {
		return nil
	}
	slot.oid, slot.kind = o, kind
	return c.set.add(o, kind, from)
}

// tree adds the links of a tree. A gitlink names nothing: its commit is another repository's.
func (c *linkCollector) tree(data []byte, from uint32) error {
	for len(data) > 0 {
		e, n, err := git.NextEntry(data)
		if err != nil {
			return err
		}
		data = data[n:]
		if e.Mode == git.ModeGitlink {
			continue
		}
		if err := c.add(e.OID, e.Mode.Kind(), from); err != nil {
			return err
		}
	}
	return nil
}
