package diff

import (
	"bytes"
	"hash/maphash"
)

// text is a blob cut into lines. A line has its LF; only the last may lack one.
type text struct {
	data []byte
	ends []int32 // where each line ends
}

func newText(data []byte) text {
	t := text{data: data, ends: make([]int32, 0, bytes.Count(data, newline)+1)}
	for at := 0; at < len(data); {
		n := bytes.IndexByte(data[at:], '\n')
		if n < 0 {
			at = len(data)
		} else {
			at += n + 1
		}
		t.ends = append(t.ends, int32(at)) //nolint:gosec // maxTextBytes is less
	}
	return t
}

var newline = []byte{'\n'}

func (t text) len() int { return len(t.ends) }

func (t text) line(i int) []byte {
	if i == 0 {
		return t.data[:t.ends[0]]
	}
	return t.data[t.ends[i-1]:t.ends[i]]
}

// isBinary judges content as git does.
func isBinary(data []byte) bool {
	return bytes.IndexByte(data[:min(len(data), binaryPrefix)], 0) >= 0
}

// hunk says that lines a0 to a1 of the old text became lines b0 to b1 of the new one (the ends excluded, from 0). One
// of the two may be empty, not both.
type hunk struct{ a0, a1, b0, b1 int }

// diffLines finds a short edit script: hunks in order, with at least one equal line between two of them.
//
// The steps: cut off what is equal at both ends; number the lines, so that equal lines have equal numbers; set aside
// lines that only one side has, for they can match nothing; find the shortest edit of the rest (see
// myers.go); turn that into hunks; and slide each hunk, where equal lines leave a choice, to where people expect it.
func diffLines(a, b text) []hunk {
	n, m := a.len(), b.len()
	head := 0
	for head < n && head < m && bytes.Equal(a.line(head), b.line(head)) {
		head++
	}
	tail := 0
	for tail < n-head && tail < m-head && bytes.Equal(a.line(n-1-tail), b.line(m-1-tail)) {
		tail++
	}
	if head == n-tail && head == m-tail {
		return nil
	}
	deleted, added := make([]bool, n), make([]bool, m)
	x, y := number(a, b, head, n-tail, m-tail)
	shortestEdit(keepShared(x, y, head, deleted, added))
	return slide(a, b, hunks(deleted, added))
}

// number gives each line between head and the tails a number, equal ones for equal lines, and counts on which sides it
// is: see symbol.
func number(a, b text, head, aEnd, bEnd int) (x, y []symbol) {
	lines := aEnd - head + bEnd - head
	size := 16
	for size < 2*lines {
		size *= 2
	}
	// table is an open hash table of classes. Its seed is fresh, so that nobody can prepare colliding lines.
	seed := maphash.MakeSeed()
	table := make([]int32, size) // a class's number plus 1; 0: free
	var classes []class
	find := func(line []byte) int32 {
		h := maphash.Bytes(seed, line)
		for i := int(h) & (size - 1); ; i = (i + 1) & (size - 1) { //nolint:gosec // any bits do
			switch c := table[i]; {
			case c == 0:
				classes = append(classes, class{line: line})
				table[i] = int32(len(classes)) //nolint:gosec // at most 2 * maxTextLines
				return int32(len(classes)) - 1 //nolint:gosec // as above
			case bytes.Equal(classes[c-1].line, line):
				return c - 1
			}
		}
	}
	ids := make([]int32, 0, lines)
	for i := head; i < aEnd; i++ {
		c := find(a.line(i))
		classes[c].inA = true
		ids = append(ids, c)
	}
	for i := head; i < bEnd; i++ {
		c := find(b.line(i))
		classes[c].inB = true
		ids = append(ids, c)
	}
	all := make([]symbol, lines)
	for i, c := range ids {
		all[i] = symbol{id: c, shared: classes[c].inA && classes[c].inB}
	}
	return all[:aEnd-head], all[aEnd-head:]
}

// class is a set of equal lines.
type class struct {
	line     []byte
	inA, inB bool
}

// symbol stands for a line.
type symbol struct {
	id     int32
	shared bool // both sides have such a line
}

// keepShared marks the lines that only one side has, and returns an edit problem of the others.
func keepShared(x, y []symbol, head int, deleted, added []bool) *edit {
	e := &edit{deleted: deleted, added: added}
	e.x, e.xLine = keepSide(x, head, deleted)
	e.y, e.yLine = keepSide(y, head, added)
	return e
}

func keepSide(symbols []symbol, head int, changed []bool) (ids, lines []int32) {
	for i, s := range symbols {
		if s.shared {
			ids = append(ids, s.id)
			lines = append(lines, int32(head+i)) //nolint:gosec // at most maxTextLines
		} else {
			changed[head+i] = true
		}
	}
	return ids, lines
}

// hunks reads the marks. Lines without a mark are equal in pairs, in order.
func hunks(deleted, added []bool) (out []hunk) {
	i, j := 0, 0
	for i < len(deleted) || j < len(added) {
		if i < len(deleted) && j < len(added) && !deleted[i] && !added[j] {
			i, j = i+1, j+1
			continue
		}
		h := hunk{a0: i, b0: j}
		for i < len(deleted) && deleted[i] {
			i++
		}
		for j < len(added) && added[j] {
			j++
		}
		h.a1, h.b1 = i, j
		if h.a0 == h.a1 && h.b0 == h.b1 {
			panic("bug: an edit script that leaves lines without a partner")
		}
		out = append(out, h)
	}
	return out
}
