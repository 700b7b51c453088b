package revwalk

import (
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"

	"github.com/skep-dev/skep/internal/git"
)

// idTable finds a commit's number by its ID: an open hash table, at most half full. Graphs that grow from one another share
// it: the newest adds to it while earlier ones read, and skip the numbers that they do not know.
type idTable struct {
	slots []uint64 // read and written atomically: 32 bits of the ID, then the number + 1; 0 is free
	shift int
	// seed is secret, so that nobody can make commits that all fall into one place.
	seed uint64
}

const minSlots = 64 // a power of two

func newIDTable() *idTable { return makeIDTable(minSlots) }

func makeIDTable(slots int) *idTable {
	t := &idTable{slots: make([]uint64, slots), shift: 64, seed: rand.Uint64() | 1}
	for ; slots > 1; slots /= 2 {
		t.shift--
	}
	return t
}

func (t *idTable) start(o git.OID) int {
	return int(binary.BigEndian.Uint64(o[:]) * t.seed >> t.shift)
}

func tagOf(o git.OID) uint64 { return uint64(binary.BigEndian.Uint32(o[8:])) << 32 }

// find returns the number of a commit of g.
func (t *idTable) find(g *Graph, o git.OID) (uint32, bool) {
	tag, n := tagOf(o), uint64(g.Len())
	for i := t.start(o); ; i++ {
		slot := atomic.LoadUint64(&t.slots[i&(len(t.slots)-1)])
		if slot == 0 {
			return 0, false
		}
		c := slot&(1<<32-1) - 1
		if slot&^(1<<32-1) == tag && c < n && g.oid(uint32(c)) == o {
			return uint32(c), true
		}
	}
}

// number gives a new commit the next number. It returns false when the commit has a number already. Only the graph that
// may grow does it.
func (g *Graph) number(o git.OID) bool {
	if _, ok := g.find(o); ok {
		return false
	}
	g.reserveIDs(g.Len() + 1)
	g.ids.put(o, g.Len())
	return true
}

// reserveIDs makes room for n commits in all. Earlier graphs go on with the table they have.
func (g *Graph) reserveIDs(n int) {
	slots := len(g.ids.slots)
	if 2*n <= slots {
		return
	}
	for slots < 2*n {
		slots *= 2
	}
	g.ids = makeIDTable(slots)
	for c := range g.Len() {
		g.ids.put(g.oid(uint32(c)), c)
	}
}

func (t *idTable) put(o git.OID, c int) {
	i := t.start(o)
	for t.slots[i&(len(t.slots)-1)] != 0 {
		i++
	}
	atomic.StoreUint64(&t.slots[i&(len(t.slots)-1)], tagOf(o)|uint64(c+1))
}

// copyOf copies the table as g sees it. Leaving out later numbers breaks no chain: on its way to its slot, each entry has
// passed only entries with lower numbers.
func (t *idTable) copyOf(g *Graph) *idTable {
	u := &idTable{slots: make([]uint64, len(t.slots)), shift: t.shift, seed: t.seed}
	for i := range t.slots {
		if slot := atomic.LoadUint64(&t.slots[i]); slot&(1<<32-1) <= uint64(g.Len()) {
			u.slots[i] = slot
		}
	}
	return u
}
