package diff

import "bytes"

// maxSlide bounds how many places are tried for one hunk.
const maxSlide = 100

// slide moves hunks where equal lines leave a choice. When a function is added between two others, its lines may as well
// begin at the closing brace of the one before: people expect them to begin at its first line.
//
// A hunk that only deletes or only adds can move one line up when the line before it equals its last line, and down when
// its first line equals the line after it. If it can move until it touches another hunk, the two become one, for a
// replacement reads better than a deletion and an addition apart. Otherwise the place is chosen by blank lines and
// indentation.
func slide(a, b text, in []hunk) []hunk {
	out := in[:0] // never more hunks than came in
	for n, h := range in {
		for {
			lo, hi := 0, a.len()
			if len(out) > 0 {
				lo = out[len(out)-1].a1
			}
			if n+1 < len(in) {
				hi = in[n+1].a0
			}
			s := slider{a: a, b: b, h: h}
			up, down := s.room(h.a0-lo, hi-h.a1)
			switch {
			case down == hi-h.a1 && n+1 < len(in):
				// The next hunk takes this one in, and is handled in its turn.
				s.move(down)
				in[n+1].a0, in[n+1].b0 = s.h.a0, s.h.b0
			case up == h.a0-lo && len(out) > 0:
				s.move(-up)
				last := out[len(out)-1]
				h = hunk{last.a0, s.h.a1, last.b0, s.h.b1}
				out = out[:len(out)-1]
				continue // the larger hunk may move on
			default:
				s.move(s.best(up, down))
				out = append(out, s.h)
			}
			break
		}
	}
	return out
}

// slider is one hunk on the move.
type slider struct {
	a, b text
	h    hunk
}

// side returns the text of a hunk that only deletes or only adds, and its lines there; ok is false if it does both.
func (s *slider) side() (t text, from, to int, ok bool) {
	switch {
	case s.h.b0 == s.h.b1:
		return s.a, s.h.a0, s.h.a1, true
	case s.h.a0 == s.h.a1:
		return s.b, s.h.b0, s.h.b1, true
	}
	return text{}, 0, 0, false
}

// room says how far the hunk can move, when before and after it are so many equal lines.
func (s *slider) room(before, after int) (up, down int) {
	t, from, to, ok := s.side()
	if !ok {
		return 0, 0
	}
	for up < before && bytes.Equal(t.line(from-1-up), t.line(to-1-up)) {
		up++
	}
	for down < after && bytes.Equal(t.line(from+down), t.line(to+down)) {
		down++
	}
	return up, down
}

func (s *slider) move(by int) {
	s.h = hunk{s.h.a0 + by, s.h.a1 + by, s.h.b0 + by, s.h.b1 + by}
}

// best chooses how far to move, down counted positive. Of equally good places it takes the lowest.
func (s *slider) best(up, down int) int {
	t, from, to, ok := s.side()
	if !ok || up+down == 0 {
		return 0
	}
	// More than its own length up, the hunk would only show lines that it has shown already.
	top := max(-up, down-maxSlide, down-(to-from))
	best, bestScore := down, score{}
	for by := top; by <= down; by++ {
		sc := boundary(t, from+by).score()
		sc = sc.plus(boundary(t, to+by).score())
		if by == top || !bestScore.betterThan(sc) {
			best, bestScore = by, sc
		}
	}
	return best
}

// split describes the boundary before a line: how far that line is indented, and what is around it.
//
// The idea and the weights below come from Michael Haggerty's study of where people cut
// (https://github.com/mhagger/diff-slider-tools); git diff works by the same model.
type split struct {
	atEnd      bool
	indent     int // of the line; blank if it is blank or not there
	pre        int // indentation of the last line before it that is not blank; blank if there is none
	post       int // the same of the first after it
	blanksPre  int
	blanksPost int
}

const (
	blank     = -1
	maxIndent = 200 // more is as good
	maxBlanks = 20  // as many are looked at
)

func boundary(t text, at int) split {
	s := split{atEnd: at >= t.len(), indent: blank, pre: blank, post: blank}
	if !s.atEnd {
		s.indent = indentation(t.line(at))
	}
	for i := at - 1; i >= 0; i-- {
		if s.pre = indentation(t.line(i)); s.pre != blank {
			break
		}
		if s.blanksPre++; s.blanksPre == maxBlanks {
			s.pre = 0
			break
		}
	}
	for i := at + 1; i < t.len(); i++ {
		if s.post = indentation(t.line(i)); s.post != blank {
			break
		}
		if s.blanksPost++; s.blanksPost == maxBlanks {
			s.post = 0
			break
		}
	}
	return s
}

// indentation counts the columns before a line's text; blank if there is none.
func indentation(line []byte) int {
	n := 0
	for _, c := range line {
		switch c {
		case ' ':
			n++
		case '\t':
			n += 8 - n%8
		case '\n', '\v', '\f', '\r':
		default:
			return n
		}
		if n >= maxIndent {
			return maxIndent
		}
	}
	return blank
}

// score is how bad a place is: less is better.
type score struct{ indent, penalty int }

func (s score) plus(t score) score { return score{s.indent + t.indent, s.penalty + t.penalty} }

// betterThan: whichever is indented less has 60 points less.
func (s score) betterThan(t score) bool {
	const indentWeight = 60
	sign := 0
	if s.indent < t.indent {
		sign = -1
	} else if s.indent > t.indent {
		sign = 1
	}
	return indentWeight*sign+s.penalty-t.penalty < 0
}

func (s split) score() score {
	sc := score{}
	if s.pre == blank && s.blanksPre == 0 {
		sc.penalty++ // the start of the file
	}
	if s.atEnd {
		sc.penalty += 21
	}
	blanksAfter := 0
	indent := s.indent
	if s.indent == blank {
		blanksAfter = 1 + s.blanksPost
		indent = s.post
	}
	blanks := s.blanksPre + blanksAfter
	sc.penalty += -30*blanks + 6*blanksAfter
	sc.indent = indent

	some := blanks > 0
	switch {
	case indent == blank || s.pre == blank || indent == s.pre:
	case indent > s.pre: // the line begins something inside the one before
		sc.penalty += pick(some, 10, -4)
	case s.post != blank && s.post > indent: // it ends something and begins another
		sc.penalty += pick(some, 17, 24)
	default: // it ends something
		sc.penalty += pick(some, 17, 23)
	}
	return sc
}

func pick(cond bool, yes, no int) int {
	if cond {
		return yes
	}
	return no
}
