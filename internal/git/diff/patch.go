package diff

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/odb"
)

// Stat counts a change's lines.
type Stat struct {
	Added, Deleted int
	Binary         bool // or too large to count lines
}

// Patch writes one change as git diff --full-index prints it: header, index line, hunks with context lines around (or
// "Binary files … differ"). Object IDs are written in full, so that the same change gives the same bytes forever. A
// change of type, from a file to a symbolic link say, is a deletion and an addition.
func Patch(w io.Writer, s *odb.Store, c Change, context int) (Stat, error) {
	return patch(w, s, c, context)
}

func patch(w io.Writer, s objects, c Change, context int) (Stat, error) {
	if c.Old.Mode != 0 && c.New.Mode != 0 && fileType(c.Old.Mode) != fileType(c.New.Mode) {
		gone, err := patch(w, s, Change{Old: c.Old}, context)
		if err != nil {
			return Stat{}, err
		}
		come, err := patch(w, s, Change{New: c.New}, context)
		return Stat{come.Added, gone.Deleted, gone.Binary || come.Binary}, err
	}
	p := patcher{w: w, c: c, context: max(context, 0)}
	if err := p.write(s); err != nil {
		return Stat{}, fmt.Errorf("compare %s: %w", quote(c.path()), err)
	}
	p.flush()
	if p.err != nil {
		return Stat{}, fmt.Errorf("write patch: %w", p.err)
	}
	return p.stat, nil
}

// fileType is what stays the same when only permissions change.
func fileType(m git.Mode) git.Mode { return m & 0o170000 }

// patchBuffer is how much of a patch is gathered before it is written.
const patchBuffer = 32 << 10

// patcher writes one change between sides of one type.
type patcher struct {
	w       io.Writer
	out     []byte // not written yet
	err     error  // the first of w
	c       Change
	context int
	stat    Stat
}

func (p *patcher) printf(format string, args ...any) { p.out = fmt.Appendf(p.out, format, args...) }

func (p *patcher) flush() {
	if p.err == nil {
		_, p.err = p.w.Write(p.out)
	}
	p.out = p.out[:0]
}

func (p *patcher) write(s objects) error {
	oldPath, newPath := p.c.Old.Path, p.c.New.Path
	if p.c.Old.Mode == 0 {
		oldPath = newPath
	}
	if p.c.New.Mode == 0 {
		newPath = oldPath
	}
	p.header(oldPath, newPath)
	if p.c.Old.OID == p.c.New.OID {
		return nil
	}
	p.indexLine()
	oldName, newName := label("a/", oldPath, p.c.Old.Mode), label("b/", newPath, p.c.New.Mode)
	old, okOld, err := readText(s, p.c.Old)
	if err != nil {
		return err
	}
	cur, okNew, err := readText(s, p.c.New)
	if err != nil {
		return err
	}
	if !okOld || !okNew || tooManyLines(old) || tooManyLines(cur) {
		p.stat.Binary = true
		p.printf("Binary files %s and %s differ\n", oldName, newName)
		return nil
	}
	a, b := newText(old), newText(cur)
	edits := diffLines(a, b)
	if len(edits) == 0 {
		return nil // an empty file came or went
	}
	p.printf("--- %s\n+++ %s\n", tabbed(oldName), tabbed(newName))
	p.hunks(a, b, edits)
	return nil
}

func tooManyLines(data []byte) bool { return bytes.Count(data, newline) >= maxTextLines }

func (p *patcher) header(oldPath, newPath string) {
	p.printf("diff --git %s %s\n", quote("a/"+oldPath), quote("b/"+newPath))
	switch {
	case p.c.Old.Mode == 0:
		p.printf("new file mode %s\n", p.c.New.Mode)
	case p.c.New.Mode == 0:
		p.printf("deleted file mode %s\n", p.c.Old.Mode)
	case p.c.Old.Mode != p.c.New.Mode:
		p.printf("old mode %s\nnew mode %s\n", p.c.Old.Mode, p.c.New.Mode)
	}
	if p.c.Renamed() {
		p.printf("similarity index %d%%\nrename from %s\nrename to %s\n", p.c.Similarity, quote(oldPath), quote(newPath))
	}
}

func (p *patcher) indexLine() {
	p.printf("index %s..%s", p.c.Old.OID, p.c.New.OID)
	if p.c.Old.Mode == p.c.New.Mode {
		p.printf(" %s", p.c.New.Mode)
	}
	p.out = append(p.out, '\n')
}

// label is a side's name in the patch.
func label(prefix, path string, m git.Mode) string {
	if m == 0 {
		return "/dev/null"
	}
	return quote(prefix + path)
}

// tabbed marks the end of a name that has blanks in it, for patch programs that read a time stamp after a blank.
func tabbed(name string) string {
	if strings.Contains(name, " ") {
		return name + "\t"
	}
	return name
}

// hunks writes edits with context around; those whose contexts meet share a header.
func (p *patcher) hunks(a, b text, edits []hunk) {
	title := titles{t: a}
	for len(edits) > 0 {
		n := 1
		for n < len(edits) && edits[n].a0-edits[n-1].a1 <= 2*p.context {
			n++
		}
		first, last := edits[0], edits[n-1]
		before := min(p.context, first.a0)
		after := min(p.context, a.len()-last.a1)
		p.printf("@@ -")
		p.extent(first.a0-before, last.a1+after)
		p.printf(" +")
		p.extent(first.b0-before, last.b1+after)
		p.printf(" @@")
		if t := title.before(first.a0 - before); len(t) > 0 {
			p.out = append(append(p.out, ' '), t...)
		}
		p.out = append(p.out, '\n')

		at := first.a0 - before
		for _, e := range edits[:n] {
			p.lines(' ', a, at, e.a0)
			p.lines('-', a, e.a0, e.a1)
			p.lines('+', b, e.b0, e.b1)
			p.stat.Deleted += e.a1 - e.a0
			p.stat.Added += e.b1 - e.b0
			at = e.a1
		}
		p.lines(' ', a, at, at+after)
		edits = edits[n:]
	}
}

// extent writes a range of lines as hunk headers count them: from 1, and of an empty range the line before it.
func (p *patcher) extent(from, to int) {
	switch to - from {
	case 0:
		p.printf("%d,0", from)
	case 1:
		p.printf("%d", from+1)
	default:
		p.printf("%d,%d", from+1, to-from)
	}
}

func (p *patcher) lines(sign byte, t text, from, to int) {
	for i := from; i < to; i++ {
		line := t.line(i)
		p.out = append(append(p.out, sign), line...)
		if line[len(line)-1] != '\n' {
			p.printf("\n\\ No newline at end of file\n")
		}
		if len(p.out) >= patchBuffer {
			p.flush()
		}
	}
}

// maxTitle is how much of a function's line git shows behind @@.
const maxTitle = 80

// titles finds what stands behind @@: the last line before the hunk that looks like a function's first. Asked from top
// to bottom, it looks at each line once.
type titles struct {
	t    text
	seen int
	last []byte
}

func (s *titles) before(line int) []byte {
	for i := line - 1; i >= s.seen; i-- {
		l := s.t.line(i)
		if c := l[0]; 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == '$' {
			s.last = bytes.TrimRight(l[:min(len(l), maxTitle)], " \t\n\v\f\r")
			break
		}
	}
	s.seen = max(s.seen, line)
	return s.last
}
