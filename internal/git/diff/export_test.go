package diff

import (
	"context"
	"io"
	"iter"

	"github.com/skep-dev/skep/internal/git"
)

// Objects is what the package needs of a store.
type Objects = objects

// PatchOf is Patch on any Objects.
func PatchOf(w io.Writer, s Objects, c Change, context int) (Stat, error) {
	return patch(w, s, c, context)
}

// TreesOf is Trees on any Objects.
func TreesOf(ctx context.Context, s Objects, a, b git.OID) iter.Seq2[Change, error] {
	return trees(ctx, s, a, b)
}

// RenamesOf is Renames on any Objects.
func RenamesOf(ctx context.Context, s Objects, changes []Change, percent int) ([]Change, error) {
	return renames(ctx, s, changes, percent)
}

// Quote is quote.
func Quote(path string) string { return quote(path) }

// Edits returns the edit script between two texts: a0, a1, b0, b1 of each hunk.
func Edits(a, b []byte) (out [][4]int) {
	for _, h := range diffLines(newText(a), newText(b)) {
		out = append(out, [4]int{h.a0, h.a1, h.b0, h.b1})
	}
	return out
}

// SplitLines cuts a text as diffs do.
func SplitLines(data []byte) (out [][]byte) {
	t := newText(data)
	for i := range t.len() {
		out = append(out, t.line(i))
	}
	return out
}
