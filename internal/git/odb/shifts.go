package odb

import (
	"slices"
	"sort"

	"github.com/skep-dev/skep/internal/git/pack"
)

// maxShifts bounds the table that finds where a delta's base was written: 16 bytes each, so 2 MiB a stream. When it is
// full, its older half is forgotten, and a delta whose base was there names it by its ID instead: 20 bytes more, as legal.
const maxShifts = 128 << 10

// shifts say how far the entries of a stored pack have moved in the pack being written. Neighbours mostly move by the same
// distance, so a piece has its first entry and that distance.
type shifts struct {
	limit int // of len(list)
	list  []shift
}

type shift struct {
	from pack.Pos
	by   int64
}

func (t *shifts) reset() { t.list = t.list[:0] }

// last returns the piece that was noted last. There must be one.
func (t *shifts) last() shift { return t.list[len(t.list)-1] }

// note says that the entries from a position on move by a distance. Positions come in ascending order.
func (t *shifts) note(from pack.Pos, by int64) {
	if n := len(t.list); n > 0 && t.list[n-1].by == by {
		return
	}
	if len(t.list) == t.limit {
		t.list = slices.Delete(t.list, 0, (t.limit+1)/2)
	}
	t.list = append(t.list, shift{from: from, by: by})
}

// at returns by how much the entry at a position, which was written, has moved. It may be forgotten.
func (t *shifts) at(pos pack.Pos) (by int64, known bool) {
	n := len(t.list)
	if n > 0 && t.list[n-1].from <= pos { // nearly always
		return t.list[n-1].by, true
	}
	i := sort.Search(n, func(i int) bool { return t.list[i].from > pos })
	if i == 0 {
		return 0, false
	}
	return t.list[i-1].by, true
}
