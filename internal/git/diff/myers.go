package diff

import "math"

// This file finds a shortest edit script between two sequences of numbers, in linear space: E. Myers, "An O(ND)
// Difference Algorithm and Its Variations", Algorithmica 1 (1986), section 4b. A step right in the grid deletes a symbol
// of x, a step down inserts one of y, and a diagonal step keeps a symbol that both have. From both corners the search
// goes as far as it can with 1, 2, 3 … steps that are not diagonal; where the two searches meet, a shortest path goes
// through, and both parts are solved in the same way.

// minCost is how many steps the search from each corner may take before it settles for a good path instead of a
// shortest one. Quadratic time is the price of the shortest, and of two texts with so little in common no script reads
// well.
const minCost = 256

// maxWork bounds the steps of one problem, which come to about half a second. When they are spent, the search settles
// after hastyCost steps everywhere: two megabytes of shuffled lines cost no more than that, and are shown as well as
// they can be.
const (
	maxWork   = 100 << 20
	hastyCost = 4
)

// edit is one problem and its answer.
type edit struct {
	x, y           []int32
	xLine, yLine   []int32 // the lines that the symbols stand for
	deleted, added []bool  // the answer: marks by line

	// forward and backward hold for each diagonal (x - y) how far the two searches have come, as x. Diagonal k is at
	// index k + offset.
	forward, backward []int32
	offset            int
	maxCost           int
	work              int // steps done
}

// What a diagonal holds that a search has not reached.
const (
	notForward  = -1
	notBackward = math.MaxInt32
)

func shortestEdit(e *edit) {
	diagonals := len(e.x) + len(e.y) + 3
	e.forward, e.backward = make([]int32, diagonals), make([]int32, diagonals)
	e.offset = len(e.y) + 1
	e.maxCost = max(minCost, int(math.Sqrt(float64(diagonals))))
	e.solve(box{0, len(e.x), 0, len(e.y)})
}

// box is a part of the grid.
type box struct{ x0, x1, y0, y1 int }

func (b box) size() int { return b.x1 - b.x0 + b.y1 - b.y0 }

// solve marks the edits of a box. It recurses into the smaller part only: its depth is at most the logarithm of the size.
func (e *edit) solve(b box) {
	for {
		for b.x0 < b.x1 && b.y0 < b.y1 && e.x[b.x0] == e.y[b.y0] {
			b.x0, b.y0 = b.x0+1, b.y0+1
		}
		for b.x0 < b.x1 && b.y0 < b.y1 && e.x[b.x1-1] == e.y[b.y1-1] {
			b.x1, b.y1 = b.x1-1, b.y1-1
		}
		if b.x0 == b.x1 || b.y0 == b.y1 {
			for _, line := range e.xLine[b.x0:b.x1] {
				e.deleted[line] = true
			}
			for _, line := range e.yLine[b.y0:b.y1] {
				e.added[line] = true
			}
			return
		}
		x, y := e.split(b)
		small, large := box{b.x0, x, b.y0, y}, box{x, b.x1, y, b.y1}
		if small.size() > large.size() {
			small, large = large, small
		}
		e.solve(small)
		b = large
	}
}

// split finds a point in the middle of a shortest path through the box, or of a good one. Neither part is empty, and the
// corner symbols differ, so the point is not a corner.
func (e *edit) split(b box) (x, y int) {
	f, r := e.forward, e.backward
	f0, r0 := b.x0-b.y0+e.offset, b.x1-b.y1+e.offset // the corners' diagonals
	low, high := b.x0-b.y1+e.offset, b.x1-b.y0+e.offset
	odd := (f0-r0)&1 != 0
	f[f0], r[r0] = int32(b.x0), int32(b.x1) //nolint:gosec // lines are counted in 32 bits
	fLow, fHigh, rLow, rHigh := f0, f0, r0, r0
	for cost := 1; ; cost++ {
		fLow, fHigh = widen(f, fLow, fHigh, low, high, notForward)
		for k := fHigh; k >= fLow; k -= 2 {
			x, y := e.stepForward(b, k)
			if odd && rLow <= k && k <= rHigh && x >= int(r[k]) {
				return x, y
			}
		}
		rLow, rHigh = widen(r, rLow, rHigh, low, high, notBackward)
		for k := rHigh; k >= rLow; k -= 2 {
			x, y := e.stepBackward(b, k)
			if !odd && fLow <= k && k <= fHigh && x <= int(f[k]) {
				return x, y
			}
		}
		e.work += fHigh - fLow + rHigh - rLow
		if e.work > maxWork {
			e.maxCost = hastyCost
		}
		if cost >= e.maxCost {
			return e.settle(b, fLow, fHigh, rLow, rHigh)
		}
	}
}

// widen lets a search use one diagonal more on each side, or, at the box's edge, one less.
func widen(reached []int32, from, to, low, high int, none int32) (int, int) {
	if from > low {
		from--
		reached[from-1] = none
		reached[from] = none
	} else {
		from++
	}
	if to < high {
		to++
		reached[to+1] = none
		reached[to] = none
	} else {
		to--
	}
	return from, to
}

// stepForward extends the search to diagonal k: one step from a neighbour, then along equal symbols. It returns -1 if
// the step would leave the box.
func (e *edit) stepForward(b box, k int) (x, y int) {
	x = notForward
	d := k - e.offset
	if left := int(e.forward[k-1]); left != notForward && left < b.x1 {
		x = left + 1
	}
	if up := int(e.forward[k+1]); up != notForward && up-(d+1) < b.y1 && up > x {
		x = up
	}
	if x == notForward {
		e.forward[k] = notForward
		return -1, -1
	}
	y = x - d
	for x < b.x1 && y < b.y1 && e.x[x] == e.y[y] {
		x, y = x+1, y+1
	}
	e.forward[k] = int32(x) //nolint:gosec // as in split
	return x, y
}

// stepBackward is stepForward from the other corner. It returns notBackward if the step would leave the box.
func (e *edit) stepBackward(b box, k int) (x, y int) {
	x = notBackward
	d := k - e.offset
	if right := int(e.backward[k+1]); right != notBackward && right > b.x0 {
		x = right - 1
	}
	if down := int(e.backward[k-1]); down != notBackward && down-(d-1) > b.y0 && down < x {
		x = down
	}
	if x == notBackward {
		e.backward[k] = notBackward
		return notBackward, notBackward
	}
	y = x - d
	for x > b.x0 && y > b.y0 && e.x[x-1] == e.y[y-1] {
		x, y = x-1, y-1
	}
	e.backward[k] = int32(x) //nolint:gosec // as in split
	return x, y
}

// settle takes the point farthest from its corner that either search has reached.
func (e *edit) settle(b box, fLow, fHigh, rLow, rHigh int) (x, y int) {
	best := -1
	for k := fHigh; k >= fLow; k -= 2 {
		if fx := int(e.forward[k]); fx != notForward {
			fy := fx - (k - e.offset)
			if far := fx - b.x0 + fy - b.y0; far > best {
				best, x, y = far, fx, fy
			}
		}
	}
	for k := rHigh; k >= rLow; k -= 2 {
		if rx := int(e.backward[k]); rx != notBackward {
			ry := rx - (k - e.offset)
			if far := b.x1 - rx + b.y1 - ry; far > best {
				best, x, y = far, rx, ry
			}
		}
	}
	return x, y
}
