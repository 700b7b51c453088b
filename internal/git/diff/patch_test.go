package diff_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skep-dev/skep/internal/git"
	"github.com/skep-dev/skep/internal/git/diff"
)

// numbered makes n different lines.
func numbered(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("line %d", i+1)
	}
	return out
}

func change(lines []string, at ...int) []string {
	out := append([]string(nil), lines...)
	for _, i := range at {
		out[i] = "changed " + out[i]
	}
	return out
}

// everyChange is one tree and another, with every kind of change between them.
func everyChange() (a, b files) {
	lines := numbered(60)
	long := strings.Repeat("x", 200)
	a = files{
		"modified":           text(lines...),
		"two hunks":          text(lines...),
		"near":               text(lines...),
		"first and last":     text(lines...),
		"emptied":            text("x"),
		"filled":             {"100644", ""},
		"mode only":          text("x"),
		"mode and content":   text("x"),
		"deleted":            text("a", "b"),
		"deleted empty":      {"100644", ""},
		"deleted exec":       {"100755", "x"},
		"no newline before":  {"100644", "a\nb"},
		"no newline after":   {"100644", "a\nb\n"},
		"no newline both":    {"100644", "a\nb\nc"},
		"no newline context": {"100644", "a\nb\nc"},
		"crlf":               {"100644", "a\r\nb\r\n"},
		"binary":             {"100644", "a\x00b"},
		"becomes binary":     {"100644", "a"},
		"late NUL":           {"100644", strings.Repeat("a", 8000) + "\x00"},
		"link":               {"120000", "target"},
		"link to file":       {"120000", "target"},
		"file to link":       text("x"),
		"sub":                {"160000", strings.Repeat("1", 40)},
		"sub to file":        {"160000", strings.Repeat("1", 40)},
		"sub gone":           {"160000", strings.Repeat("1", 40)},
		"file to dir":        text("x"),
		"dir to file/x":      text("x"),
		"b\xc3\xa4d":         text("x"),
		"q\"uote":            text("x"),
		"back\\slash":        text("x"),
		"tab\t and \a\b\v":   text("x"),
		"new\nline":          text("x"),
		"\x01\x7f\xff":       text("x"),
		"moved/exactly":      text(numbered(20)...),
		"moved/similar":      text(change(numbered(30), 2)...),
		"moved/mode":         text(change(numbered(25), 3)...),
		"moved ä":            text(change(numbered(40), 3)...),
		"moved/link":         {"120000", "some/where"},
		"functions":          text("int main(void)", "{", "\tx", "\ta", "\tb", "\tc", "\td", "}", "", "$var", " _no", long, " 1", " 2", " 3", " 4", "\t5"),
		"-dash":              text("x"),
	}
	b = files{
		"modified":           text(change(lines, 30)...),
		"two hunks":          text(change(lines, 10, 17)...),
		"near":               text(change(lines, 10, 16)...),
		"first and last":     text(change(lines, 0, 59)...),
		"emptied":            {"100644", ""},
		"filled":             text("x"),
		"mode only":          {"100755", "x\n"},
		"mode and content":   {"100755", "y\n"},
		"added":              text("a", "b"),
		"added empty":        {"100644", ""},
		"added exec":         {"100755", "#!/bin/sh"},
		"added binary":       {"100644", "\x00"},
		"no newline before":  {"100644", "a\nb\n"},
		"no newline after":   {"100644", "a\nb"},
		"no newline both":    {"100644", "a\nb\nd"},
		"no newline context": {"100644", "z\nb\nc"},
		"crlf":               {"100644", "a\nb\r\n"},
		"binary":             {"100644", "a\x00c"},
		"becomes binary":     {"100644", "a\x00"},
		"late NUL":           {"100644", strings.Repeat("b", 8000) + "\x00"},
		"link":               {"120000", "other"},
		"link to file":       text("x"),
		"file to link":       {"120000", "x"},
		"sub":                {"160000", strings.Repeat("2", 40)},
		"sub to file":        text("x"),
		"sub new":            {"160000", strings.Repeat("3", 40)},
		"file to dir/x":      text("y"),
		"dir to file":        text("y"),
		"b\xc3\xa4d":         text("y"),
		"q\"uote":            text("y"),
		"back\\slash":        text("y"),
		"tab\t and \a\b\v":   text("y"),
		"new\nline":          text("y"),
		"\x01\x7f\xff":       text("y"),
		"to/exactly":         text(numbered(20)...),
		"to/similar":         text(change(numbered(30), 2, 15)...),
		"to/mode":            {"100755", text(change(numbered(25), 3, 15)...).data},
		"to ö":               text(change(numbered(40), 3, 30)...),
		"to/link":            {"120000", "some/where"},
		"functions":          text("int main(void)", "{", "\tx", "\ta", "\tb", "\tc", "\tX", "}", "", "$var", " _no", long, " 1", " 2", " 3", " 4", "\t6"),
		"-dash":              text("y"),
	}
	return a, b
}

// TestPatchIsGits: every kind of change is printed as git prints it.
func TestPatchIsGits(t *testing.T) {
	r := newGitRepo(t)
	a, b := everyChange()
	r.history(commit{branch: "a", files: a}, commit{branch: "b", files: b})
	s := r.store()
	for _, sides := range [][2]string{{"a", "b"}, {"b", "a"}} {
		for _, context := range []int{3, 0, 1, 10, 1000} {
			want := r.Git("diff", "--full-index", "-M", fmt.Sprint("-U", context), sides[0], sides[1])
			changes := collect(t, s, r.OID(sides[0]+"^{tree}"), r.OID(sides[1]+"^{tree}"))
			changes, err := diff.Renames(t.Context(), s, changes, 50)
			if err != nil {
				t.Fatal(err)
			}
			got := patchOf(t, s, changes, context)
			if diff := cmp.Diff(strings.SplitAfter(want, "\n"), strings.SplitAfter(got, "\n")); diff != "" {
				t.Errorf("%s to %s with %d lines of context (-git +ours):\n%s", sides[0], sides[1], context, diff)
			}
		}
	}
}

// TestStat: what Patch counts is what git counts.
func TestStat(t *testing.T) {
	r := newGitRepo(t)
	a, b := everyChange()
	r.history(commit{branch: "a", files: a}, commit{branch: "b", files: b})
	s := r.store()
	var got strings.Builder
	for _, c := range collect(t, s, r.OID("a^{tree}"), r.OID("b^{tree}")) {
		stat, err := diff.Patch(io.Discard, s, c, 0)
		if err != nil {
			t.Fatal(err)
		}
		path := c.New.Path
		if c.New.Mode == 0 {
			path = c.Old.Path
		}
		if stat.Binary {
			fmt.Fprintf(&got, "-\t-\t%s\x00", path)
		} else {
			fmt.Fprintf(&got, "%d\t%d\t%s\x00", stat.Added, stat.Deleted, path)
		}
	}
	want := r.Git("diff", "--numstat", "-z", "--no-renames", "a", "b")
	if diff := cmp.Diff(strings.Split(want, "\x00"), strings.Split(got.String(), "\x00")); diff != "" {
		t.Errorf("numstat (-git +ours):\n%s", diff)
	}
}

// randomText makes lines of few kinds, so that there are many ways to compare two of them.
func randomText(rnd *rand.Rand, most int) string {
	kinds := 1 + rnd.IntN(12)
	var out strings.Builder
	for range rnd.IntN(most) {
		out.WriteString([]string{"a", "b", "", "{", "}", "\tx", "\t\ty", " z", "long line", "é", "a\r", "-", "+"}[rnd.IntN(kinds)])
		out.WriteByte('\n')
	}
	if rnd.IntN(4) == 0 {
		return out.String() + "end"
	}
	return out.String()
}

// mutate changes a text here and there.
func mutate(rnd *rand.Rand, text string) string {
	lines := strings.SplitAfter(text, "\n")
	for range 1 + rnd.IntN(4) {
		at := rnd.IntN(len(lines) + 1)
		switch rnd.IntN(3) {
		case 0:
			lines = append(lines[:at:at], append(strings.SplitAfter(randomText(rnd, 6), "\n"), lines[at:]...)...)
		case 1:
			lines = append(lines[:at:at], lines[min(at+rnd.IntN(5), len(lines)):]...)
		default:
			if at < len(lines) {
				lines[at] = "new\n"
			}
		}
		if len(lines) == 0 {
			lines = []string{"x\n"}
		}
	}
	return strings.Join(lines, "")
}

// TestPatchesApply: git apply turns the old tree into the new one by our patches.
func TestPatchesApply(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	r := newGitRepo(t)
	a, b := everyChange()
	for _, tree := range []files{a, b} {
		for path, f := range tree {
			if strings.Contains(f.data, "\x00") { // a patch of text cannot carry them
				delete(a, path)
				delete(b, path)
			}
		}
	}
	for i := range 150 {
		name := fmt.Sprint("random/", i)
		old := randomText(rnd, 60)
		a[name], b[name] = file{"100644", old}, file{"100644", mutate(rnd, old)}
	}
	r.history(commit{branch: "a", files: a}, commit{branch: "b", files: b})
	s := r.store()
	for _, sides := range [][2]string{{"a", "b"}, {"b", "a"}} {
		changes := collect(t, s, r.OID(sides[0]+"^{tree}"), r.OID(sides[1]+"^{tree}"))
		changes, err := diff.Renames(t.Context(), s, changes, 50)
		if err != nil {
			t.Fatal(err)
		}
		for _, context := range []int{3, 1, 0} {
			r.Git("read-tree", sides[0])
			r.GitIn(patchOf(t, s, changes, context), "apply", "--cached", "--unidiff-zero", "--whitespace=nowarn", "-")
			if got, want := strings.TrimSpace(r.Git("write-tree")), r.OID(sides[1]+"^{tree}").String(); got != want {
				t.Errorf("%s to %s with %d lines of context: the patch makes another tree", sides[0], sides[1], context)
			}
		}
	}
}

func TestLargeFilesCountAsBinary(t *testing.T) {
	m := newMemory()
	tests := []struct {
		name   string
		data   []byte
		binary bool
	}{
		{"many bytes", bytes.Repeat([]byte("0123456789abcde\n"), 8<<20/16+1), true},
		{"many lines", bytes.Repeat([]byte("\n"), 1<<19), true},
		{"just enough", bytes.Repeat([]byte("x\n"), 1<<19-1), false},
	}
	small := m.put(git.Blob, []byte("x\n"))
	for _, tt := range tests {
		large := m.put(git.Blob, tt.data)
		c := diff.Change{Old: diff.Side{Mode: git.ModeFile, OID: small, Path: "f"}, New: diff.Side{Mode: git.ModeFile, OID: large, Path: "f"}}
		stat, err := diff.PatchOf(io.Discard, m, c, 3)
		if err != nil || stat.Binary != tt.binary {
			t.Errorf("%s: %+v, %v; want binary %v", tt.name, stat, err, tt.binary)
		}
	}
}

func TestPatchOfMissingBlob(t *testing.T) {
	m := newMemory()
	tree := m.tree()
	for _, o := range []git.OID{git.Hash(git.Blob, []byte("?")), tree} {
		c := diff.Change{New: diff.Side{Mode: git.ModeFile, OID: o, Path: "f"}}
		if _, err := diff.PatchOf(io.Discard, m, c, 3); err == nil {
			t.Errorf("a patch of %s was written", o)
		}
	}
}

// FuzzPatch: a patch, applied by the letter, makes the new text out of the old one.
func FuzzPatch(f *testing.F) {
	f.Add([]byte("a\nb\nc\n"), []byte("a\nc\n"), uint8(3))
	f.Add([]byte("a\nb"), []byte("a\nb\n"), uint8(0))
	f.Add([]byte(""), []byte("x"), uint8(1))
	f.Add([]byte("}\n\nf {\n}\n"), []byte("}\n\ng {\n}\n\nf {\n}\n"), uint8(1))
	f.Fuzz(func(t *testing.T, a, b []byte, context uint8) {
		m := newMemory()
		c := diff.Change{
			Old: diff.Side{Mode: git.ModeFile, OID: m.put(git.Blob, a), Path: "f"},
			New: diff.Side{Mode: git.ModeFile, OID: m.put(git.Blob, b), Path: "f"},
		}
		var out bytes.Buffer
		stat, err := diff.PatchOf(&out, m, c, int(context))
		if err != nil {
			t.Fatal(err)
		}
		if stat.Binary || bytes.Equal(a, b) {
			return
		}
		_, hunks, _ := bytes.Cut(out.Bytes(), []byte("\n+++ b/f\n"))
		got, added, deleted := apply(t, a, hunks)
		if !bytes.Equal(got, b) || added != stat.Added || deleted != stat.Deleted {
			t.Errorf("from %q to %q: the patch makes %q (+%d -%d, said %+v):\n%s", a, b, got, added, deleted, stat, out.Bytes())
		}
	})
}

// apply is the simplest program that applies a patch, and forgives nothing.
func apply(t *testing.T, old, patch []byte) (out []byte, added, deleted int) {
	t.Helper()
	lines := diff.SplitLines(old)
	at, outLine := 0, 0
	patchLines := bytes.SplitAfter(patch, []byte("\n"))
	for i := 0; i < len(patchLines) && len(patchLines[i]) > 0; {
		f := strings.Fields(string(patchLines[i]))
		if len(f) < 4 || f[0] != "@@" || f[3] != "@@" {
			t.Fatalf("no hunk header: %q", patchLines[i])
		}
		i++
		from, oldN := extent(t, f[1], "-")
		to, newN := extent(t, f[2], "+")
		for ; at < from; at++ {
			out = append(out, lines[at]...)
			outLine++
		}
		if outLine != to {
			t.Fatalf("hunk %v is at line %d", f, outLine)
		}
		for oldN > 0 || newN > 0 {
			sign, line := patchLines[i][0], patchLines[i][1:]
			if i++; i < len(patchLines) && string(patchLines[i]) == "\\ No newline at end of file\n" {
				line = line[:len(line)-1]
				i++
			}
			if sign != '+' {
				if !bytes.Equal(line, lines[at]) {
					t.Fatalf("%q where there is %q", line, lines[at])
				}
				at++
				oldN--
			}
			if sign != '-' {
				out = append(out, line...)
				outLine++
				newN--
			}
			added += map[byte]int{'+': 1}[sign]
			deleted += map[byte]int{'-': 1}[sign]
		}
	}
	for ; at < len(lines); at++ {
		out = append(out, lines[at]...)
	}
	return out, added, deleted
}

// extent reads "-3,4": the line from which on, from 0, and how many.
func extent(t *testing.T, s, sign string) (from, n int) {
	t.Helper()
	first, count, ok := strings.Cut(strings.TrimPrefix(s, sign), ",")
	n = 1
	if ok {
		n, _ = strconv.Atoi(count)
	}
	from, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	if n > 0 {
		from--
	}
	return from, n
}
